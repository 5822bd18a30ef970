import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import { parseYaml } from '#base/yaml.ts';
import { decodeMessage, unwrapMessage } from '#schema/protobuf-decode.ts';
import { typeOf } from '#schema/types.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

describe('create and get', () => {
  it(
    'fills what the server fills and answers what is stored',
    withApi(async (t) => {
      const made = await t.call('POST', pods, podBody('a'));
      assert.equal(made.status, 201);
      const { metadata, spec, status } = made.body;
      assert.match(metadata.uid, /^[0-9a-f-]{36}$/);
      assert.deepEqual(
        [metadata.namespace, metadata.generation, metadata.creationTimestamp, status.phase, status.qosClass],
        ['default', 1, '2030-01-01T00:00:00Z', 'Pending', 'BestEffort'],
      );
      assert.deepEqual(
        [
          spec.restartPolicy,
          spec.serviceAccountName,
          spec.priority,
          spec.containers[0].imagePullPolicy,
          spec.tolerations.length,
          spec.volumes.length,
        ],
        ['Always', 'default', 0, 'IfNotPresent', 2, 1],
      );
      assert.deepEqual((await t.call('GET', `${pods}/a`)).body, made.body);
    }),
  );

  it(
    'makes names from generateName',
    withApi(async (t) => {
      const { metadata } = await t.make(pods, { ...podBody('x'), metadata: { generateName: 'web-' } });
      assert.match(metadata.name, /^web-[bcdfghjklmnpqrstvwxz2456789]{5}$/);
    }),
  );

  it(
    'says AlreadyExists, NotFound and Conflict as clients expect',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      const again = await t.call('POST', pods, podBody('a'));
      assert.deepEqual(
        [again.status, again.body.reason, again.body.message],
        [409, 'AlreadyExists', 'pods "a" already exists'],
      );
      const none = await t.call('GET', `${pods}/b`);
      assert.deepEqual(
        [none.status, none.body.reason, none.body.message, none.body.details],
        [404, 'NotFound', 'pods "b" not found', { name: 'b', kind: 'pods' }],
      );
      const stale = { ...(await t.call('GET', `${pods}/a`)).body };
      await t.call(
        'PATCH',
        `${pods}/a`,
        { metadata: { labels: { x: 'y' } } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      const conflict = await t.call('PUT', `${pods}/a`, stale);
      assert.deepEqual(
        [conflict.status, conflict.body.message],
        [
          409,
          'Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again',
        ],
      );
    }),
  );

  it(
    'names every invalid field',
    withApi(async (t) => {
      const answer = await t.call('POST', pods, {
        metadata: { name: 'Bad_Name' },
        spec: { containers: [{ name: 'a' }, { name: 'a', image: 'x', imagePullPolicy: 'Often' }] },
      });
      assert.equal(answer.status, 422);
      assert.match(answer.body.message, /^Pod "Bad_Name" is invalid: \[/);
      assert.deepEqual(
        answer.body.details.causes.map((c: { reason: string; field: string }) => [c.reason, c.field]),
        [
          ['FieldValueInvalid', 'metadata.name'],
          ['FieldValueRequired', 'spec.containers[0].image'],
          ['FieldValueNotSupported', 'spec.containers[1].imagePullPolicy'],
          ['FieldValueDuplicate', 'spec.containers[1].name'],
        ],
      );
    }),
  );

  it(
    'refuses, warns of or ignores unknown and doubled fields',
    withApi(async (t) => {
      const body =
        '{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","bogus":1}],"restartPolicy":"Never","restartPolicy":"Always"}}';
      const strict = await t.call('POST', `${pods}?fieldValidation=Strict`, body);
      assert.deepEqual(
        [strict.status, strict.body.message],
        [
          400,
          'Pod in version "v1" cannot be handled as a Pod: strict decoding error: duplicate field "spec.restartPolicy", unknown field "spec.containers[0].bogus"',
        ],
      );
      const warned = await t.call('POST', pods, body);
      assert.equal(
        warned.headers.warning,
        '299 - "duplicate field \\"spec.restartPolicy\\"", 299 - "unknown field \\"spec.containers[0].bogus\\""',
      );
      assert.equal(warned.body.spec.containers[0].bogus, undefined);
      assert.equal(
        (await t.call('POST', `${pods}?fieldValidation=Ignore`, body.replace('"a"', '"b"'))).headers.warning,
        undefined,
      );
    }),
  );

  it(
    'answers malformed bodies with a clear error',
    withApi(async (t) => {
      assert.equal((await t.call('POST', pods, '{"metadata":')).status, 400);
      assert.equal((await t.call('POST', pods, '[]')).status, 400);
      assert.equal(
        (await t.call('POST', pods, podBody('a'), { headers: { 'content-type': 'text/html' } })).status,
        415,
      );
      assert.equal((await t.call('GET', pods, undefined, { headers: { accept: 'text/html' } })).status, 406);
      assert.match(
        (await t.call('POST', pods, { metadata: { name: 'a' }, spec: { containers: [{ name: 'c', image: 1 }] } })).body
          .message,
        /cannot unmarshal number into Go struct field Container.spec.containers\[0\].image of type string/,
      );
      assert.equal((await t.call('POST', pods, 'x'.repeat(3 * 1024 * 1024 + 1))).status, 413);
      assert.equal((await t.call('POST', pods, '['.repeat(10_000))).status, 400);
      assert.equal((await t.call('GET', '/api/v1/nothings')).status, 404);
      assert.equal((await t.call('POST', `${pods}/a`, podBody('a'))).status, 405);
    }),
  );

  it(
    'reads YAML bodies with octal modes and YAML 1.1 words',
    withApi(async (t) => {
      const yaml =
        'apiVersion: v1\nkind: Pod\nmetadata: {name: why}\nspec:\n  hostNetwork: no\n  enableServiceLinks: off\n  containers: [{name: c, image: i}]\n  volumes: [{name: v, configMap: {name: m, defaultMode: 0400}}]\n';
      const made = await t.call('POST', pods, yaml, { headers: { 'content-type': 'application/yaml' } });
      // `false` of a field that is no pointer is as good as absent.
      assert.deepEqual(
        [
          made.status,
          made.body.spec.volumes[0].configMap.defaultMode,
          made.body.spec.enableServiceLinks,
          made.body.spec.hostNetwork,
        ],
        [201, 256, false, undefined],
      );
    }),
  );

  it(
    'keeps no empty lists and maps, so that leaving them out changes nothing',
    withApi(async (t) => {
      const path = '/apis/apps/v1/namespaces/default/deployments';
      const deployment = (empty: boolean): TestJson => ({
        apiVersion: 'apps/v1',
        kind: 'Deployment',
        metadata: { name: 'web', ...(empty ? { annotations: {}, finalizers: [] } : {}) },
        spec: {
          replicas: 0,
          selector: { matchLabels: { a: 'b' } },
          template: {
            metadata: { labels: { a: 'b' } },
            spec: {
              containers: [
                { name: 'c', image: 'i', ...(empty ? { env: [], args: [], workingDir: '', stdin: false } : {}) },
              ],
              ...(empty ? { volumes: [], nodeSelector: {}, hostNetwork: false } : {}),
            },
          },
        },
      });
      const made = await t.make(path, deployment(true));
      const spec = made.spec.template.spec;
      assert.deepEqual(
        [
          spec.volumes,
          spec.nodeSelector,
          spec.hostNetwork,
          spec.containers[0].env,
          spec.containers[0].args,
          spec.containers[0].workingDir,
          spec.containers[0].stdin,
          made.metadata.annotations,
        ],
        Array.from({ length: 8 }, () => undefined),
      );
      assert.equal(made.spec.replicas, 0);
      const again = await t.call('PUT', `${path}/web`, deployment(false));
      assert.deepEqual(
        [again.body.metadata.generation, again.body.metadata.resourceVersion],
        [1, made.metadata.resourceVersion],
      );
      const status = await t.call(
        'PATCH',
        `${path}/web/status`,
        { status: { replicas: 0, unavailableReplicas: 0, observedGeneration: 1 } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.deepEqual(status.body.status, { observedGeneration: 1 });
      // A tag without `omitempty` writes its zero.
      const priority = await t.make('/apis/scheduling.k8s.io/v1/priorityclasses', {
        metadata: { name: 'p' },
        value: 0,
      });
      assert.equal(priority.value, 0);
      const role = await t.make('/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles', {
        metadata: { name: 'r' },
        rules: [],
      });
      assert.deepEqual(role.rules, []);
      // In maps and in custom objects every value is somebody's own.
      const map = await t.make('/api/v1/namespaces/default/configmaps', {
        metadata: { name: 'm', labels: { a: '' } },
        data: { empty: '' },
      });
      assert.deepEqual([map.metadata.labels, map.data], [{ a: '' }, { empty: '' }]);
    }),
  );

  it(
    'changes nothing in a dry run',
    withApi(async (t) => {
      const dry = await t.call('POST', `${pods}?dryRun=All`, podBody('a'));
      assert.deepEqual(
        [dry.status, dry.body.metadata.name, (await t.call('GET', `${pods}/a`)).status],
        [201, 'a', 404],
      );
    }),
  );

  it(
    'keeps status for the status subresource',
    withApi(async (t) => {
      const pod = await t.make(pods, podBody('a'));
      const viaMain = await t.call('PUT', `${pods}/a`, { ...pod, status: { phase: 'Running' } });
      assert.equal(viaMain.body.status.phase, 'Pending');
      const viaStatus = await t.call('PUT', `${pods}/a/status`, {
        ...pod,
        metadata: { ...pod.metadata, resourceVersion: '' },
        spec: { containers: [] },
        status: { phase: 'Running' },
      });
      assert.deepEqual(
        [viaStatus.status, viaStatus.body.status.phase, viaStatus.body.spec.containers.length],
        [200, 'Running', 1],
      );
    }),
  );

  it(
    'writes nothing for an update that changes nothing',
    withApi(async (t) => {
      const pod = await t.make(pods, podBody('a'));
      const same = await t.call('PUT', `${pods}/a`, pod);
      assert.equal(same.body.metadata.resourceVersion, pod.metadata.resourceVersion);
    }),
  );

  it(
    'keeps Secrets unreadable in the store',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces/default/secrets', {
        metadata: { name: 's' },
        stringData: { password: 'hunter2hunter2' },
      });
      const stored = (await t.api.server.store.get('/registry/secrets/default/s'))!;
      assert.equal(stored.value[0], 1);
      assert.ok(
        !Buffer.from(stored.value).includes('hunter2') &&
          !Buffer.from(stored.value).includes(Buffer.from('hunter2hunter2').toString('base64')),
      );
      assert.equal(
        (await t.call('GET', '/api/v1/namespaces/default/secrets/s')).body.data.password,
        Buffer.from('hunter2hunter2').toString('base64'),
      );
    }),
  );
});

describe('list', () => {
  it(
    'pages over one consistent state',
    withApi(async (t) => {
      for (const name of ['a', 'b', 'c', 'd', 'e']) await t.make(pods, podBody(name));
      const first = await t.call('GET', `${pods}?limit=2`);
      assert.deepEqual([first.body.items.length, first.body.metadata.remainingItemCount], [2, 3]);
      await t.call('DELETE', `${pods}/c`);
      await t.make(pods, podBody('f'));
      const rest = await t.call('GET', `${pods}?limit=10&continue=${first.body.metadata.continue}`);
      assert.deepEqual(
        rest.body.items.map((p: { metadata: { name: string } }) => p.metadata.name),
        ['c', 'd', 'e'],
      );
      assert.equal(rest.body.metadata.resourceVersion, first.body.metadata.resourceVersion);
    }),
  );

  it(
    'tells that a continue token is too old',
    withApi(async (t) => {
      for (const name of ['a', 'b', 'c']) await t.make(pods, podBody(name));
      const first = await t.call('GET', `${pods}?limit=1`);
      await t.make(pods, podBody('d'));
      await t.api.server.store.compact(t.api.server.store.currentRevision());
      const rest = await t.call('GET', `${pods}?limit=1&continue=${first.body.metadata.continue}`);
      assert.deepEqual([rest.status, rest.body.reason], [410, 'Expired']);
    }),
  );

  it(
    'goes out in pieces when it is large, in every form',
    withApi(async (t) => {
      const path = '/api/v1/namespaces/default/configmaps';
      const tableType = 'application/json;as=Table;v=v1;g=meta.k8s.io';
      for (let i = 0; i < 12; i++)
        await t.make(path, { metadata: { name: `c${i}` }, data: { text: String(i % 10).repeat(500_000) } });
      const read = async (accept: string, query = ''): Promise<Buffer> => {
        const answer = await t.raw('GET', `${path}${query}`, { headers: { accept } });
        assert.ok(!(answer.body instanceof Uint8Array), accept);
        const pieces: Uint8Array[] = [];
        for await (const piece of answer.body!) pieces.push(piece);
        assert.ok(pieces.length > 5 && pieces.every((piece) => piece.length < 1_100_000), accept);
        return Buffer.concat(pieces);
      };
      const items = JSON.parse((await read('application/json')).toString()).items as TestJson[];
      assert.equal(items.length, 12);
      for (const item of items) assert.deepEqual(item, (await t.call('GET', `${path}/${item.metadata.name}`)).body);
      const yaml = parseYaml((await read('application/yaml')).toString()) as TestJson;
      assert.deepEqual([yaml.kind, yaml.items], ['ConfigMapList', items]);
      const table = JSON.parse((await read(tableType, '?includeObject=Object')).toString());
      assert.deepEqual(
        [table.kind, table.columnDefinitions.length, table.rows.map((row: TestJson) => row.object)],
        ['Table', 3, items],
      );
      assert.ok(
        (await t.raw('GET', path, { headers: { accept: tableType } })).body instanceof Uint8Array,
        'a table of names is small',
      );
      const { kind, message } = unwrapMessage(await read('application/vnd.kubernetes.protobuf'));
      const decoded = decodeMessage(typeOf('core.v1/ConfigMapList'), message);
      assert.deepEqual(
        [kind, itemsOf(decoded.items).map((i) => fieldOf(i, 'data'))],
        ['ConfigMapList', items.map((i) => i.data)],
      );
    }),
  );

  it(
    'selects by labels and fields',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { metadata: { labels: { app: 'x', tier: 'web' } } }));
      await t.make(pods, podBody('b', { spec: { nodeName: 'n1' } }));
      const names = async (query: string): Promise<string[]> =>
        (await t.call('GET', `${pods}?${query}`)).body.items.map(
          (p: { metadata: { name: string } }) => p.metadata.name,
        );
      assert.deepEqual(await names('labelSelector=app%3Dx'), ['a']);
      assert.deepEqual(await names('labelSelector=tier+notin+(web)'), ['b']);
      assert.deepEqual(await names('fieldSelector=spec.nodeName%3Dn1'), ['b']);
      assert.deepEqual(await names('fieldSelector=spec.nodeName%3D'), ['a']);
      assert.deepEqual(await names('fieldSelector=metadata.name%3Da,metadata.namespace%3Ddefault'), ['a']);
      const bad = await t.call('GET', `${pods}?fieldSelector=spec.color%3Dred`);
      assert.deepEqual([bad.status, /field label not supported: spec.color/.test(bad.body.message)], [400, true]);
    }),
  );

  it(
    'answers tables and partial metadata',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      t.clock.advance(61_000);
      const table = (
        await t.call('GET', pods, undefined, {
          headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io,application/json' },
        })
      ).body;
      assert.deepEqual(
        [table.kind, table.columnDefinitions[0].name, table.rows[0].cells.slice(0, 5)],
        ['Table', 'Name', ['a', '0/1', 'Pending', '0', '61s']],
      );
      assert.equal(table.rows[0].object.kind, 'PartialObjectMetadata');
      const partial = (
        await t.call('GET', pods, undefined, {
          headers: { accept: 'application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io' },
        })
      ).body;
      assert.deepEqual([partial.kind, partial.items[0].spec], ['PartialObjectMetadataList', undefined]);
    }),
  );
});

describe('delete', () => {
  it(
    'waits for a running Pod as long as its grace period says',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { spec: { nodeName: 'n1' } }));
      const marked = await t.call('DELETE', `${pods}/a`);
      assert.deepEqual(
        [marked.body.metadata.deletionGracePeriodSeconds, marked.body.metadata.deletionTimestamp],
        [30, '2030-01-01T00:00:30Z'],
      );
      const shorter = await t.call('DELETE', `${pods}/a`, { gracePeriodSeconds: 5 });
      assert.deepEqual(
        [shorter.body.metadata.deletionGracePeriodSeconds, shorter.body.metadata.deletionTimestamp],
        [5, '2030-01-01T00:00:05Z'],
      );
      await t.call('DELETE', `${pods}/a?gracePeriodSeconds=0`);
      assert.equal((await t.call('GET', `${pods}/a`)).status, 404);
    }),
  );

  it(
    'keeps an object until its last finalizer is gone',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { metadata: { finalizers: ['example.com/hold'] } }));
      assert.equal((await t.call('DELETE', `${pods}/a`)).status, 200);
      assert.notEqual((await t.call('GET', `${pods}/a`)).body.metadata.deletionTimestamp, undefined);
      const added = await t.call(
        'PATCH',
        `${pods}/a`,
        { metadata: { finalizers: ['example.com/hold', 'example.com/more'] } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.equal(added.status, 422);
      await t.call(
        'PATCH',
        `${pods}/a`,
        { metadata: { finalizers: null } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.equal((await t.call('GET', `${pods}/a`)).status, 404);
    }),
  );

  it(
    'takes preconditions and propagation',
    withApi(async (t) => {
      const pod = await t.make(pods, podBody('a'));
      const wrong = await t.call('DELETE', `${pods}/a`, { preconditions: { uid: 'x' } });
      assert.deepEqual(
        [wrong.status, wrong.body.message],
        [
          409,
          `Operation cannot be fulfilled on pods "a": Precondition failed: UID in precondition: x, UID in object meta: ${pod.metadata.uid}`,
        ],
      );
      const foreground = await t.call('DELETE', `${pods}/a`, { propagationPolicy: 'Foreground' });
      assert.deepEqual(foreground.body.metadata.finalizers, ['foregroundDeletion']);
    }),
  );

  it(
    'deletes what a selector matches',
    withApi(async (t) => {
      for (const name of ['a', 'b']) await t.make(pods, podBody(name));
      await t.call('DELETE', `${pods}?labelSelector=app%3Da`);
      assert.deepEqual(
        (await t.call('GET', pods)).body.items.map((p: { metadata: { name: string } }) => p.metadata.name),
        ['b'],
      );
    }),
  );

  it(
    'ends a Namespace when its finalizer is taken, and lets nothing new in meanwhile',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces', { metadata: { name: 'x' } });
      assert.equal((await t.call('DELETE', '/api/v1/namespaces/x')).body.status.phase, 'Terminating');
      const refused = await t.call('POST', '/api/v1/namespaces/x/configmaps', { metadata: { name: 'c' } });
      assert.deepEqual([refused.status, refused.body.details.causes[0].reason], [403, 'NamespaceTerminating']);
      const namespace = (await t.call('GET', '/api/v1/namespaces/x')).body;
      await t.call('PUT', '/api/v1/namespaces/x/finalize', { ...namespace, spec: { finalizers: [] } });
      assert.equal((await t.call('GET', '/api/v1/namespaces/x')).status, 404);
      assert.equal((await t.call('DELETE', '/api/v1/namespaces/default')).status, 403);
    }),
  );
});

describe('what lives long', () => {
  it(
    'has memory of its own, and shares no slab with what lives short',
    withApi(async (t) => {
      for (let i = 0; i < 20; i++) {
        await t.make('/api/v1/namespaces/default/secrets', { metadata: { name: `s${i}` }, data: { a: 'eA==' } });
        await t.make('/api/v1/namespaces/default/configmaps', { metadata: { name: `c${i}` }, data: { a: 'x' } });
        await t.make('/api/v1/namespaces/default/services', {
          metadata: { name: `v${i}` },
          spec: { ports: [{ port: 80 }] },
        });
      }
      const { values } = await t.api.server.store.list('/registry/');
      assert.ok(values.length > 60);
      for (const { key, value } of values) assert.equal(value.buffer.byteLength, value.length, key);
    }),
  );
});

describe('a delete', () => {
  it(
    'gives up when others are always faster',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      const { store } = t.api.server;
      let tries = 0;
      store.txn = async () => {
        tries++;
        return { succeeded: false, revision: 0, current: [] };
      };
      const answer = await t.call('DELETE', `${pods}/a`);
      assert.deepEqual([answer.status, answer.body.reason, tries < 200], [409, 'Conflict', true]);
    }),
  );
});

describe('health', () => {
  it(
    'fails while no write succeeds, and says no more than that',
    withApi(async (t) => {
      const ask = (path: string) => t.call('GET', path, undefined, { user: null });
      assert.deepEqual(
        [(await ask('/readyz')).text, (await ask('/livez?verbose')).text],
        ['ok', '[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n'],
      );
      t.api.server.store.health = async () => 'database or disk is full';
      for (const endpoint of ['readyz', 'livez', 'healthz']) {
        const answer = await ask(`/${endpoint}`);
        assert.deepEqual(
          [answer.status, answer.text],
          [500, `[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n${endpoint} check failed\n`],
        );
      }
      assert.equal((await ask('/readyz?exclude=etcd')).text, 'ok');
      assert.deepEqual(
        [
          (await t.call('GET', '/readyz/etcd')).status,
          (await t.call('GET', '/readyz/ping')).text,
          (await t.call('GET', '/readyz/none')).status,
        ],
        [500, 'ok', 404],
      );
    }),
  );
});

describe("the server's own objects", () => {
  it('are put back while it runs', async () => {
    await using t = await createTestApi({ advertise: { address: '10.0.0.1', port: 6443 } });
    const paths = [
      '/api/v1/namespaces/default/services/kubernetes',
      '/api/v1/namespaces/default/endpoints/kubernetes',
      '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes',
    ];
    for (const path of paths) {
      const before = (await t.call('GET', path)).body.metadata.uid;
      assert.equal((await t.call('DELETE', path)).status, 200);
      for (let turn = 0; turn < 200; turn++)
        await new Promise<void>((resolve) => {
          setImmediate(resolve);
        });
      const after = await t.call('GET', path);
      assert.deepEqual([after.status, after.body.metadata.uid !== before], [200, true], path);
    }
    assert.equal((await t.call('GET', paths[0]!)).body.spec.clusterIP, '10.96.0.1');
    const lease = '/api/v1/namespaces/kube-node-lease';
    await t.call('DELETE', lease);
    await t.call('PUT', `${lease}/finalize`, {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: { name: 'kube-node-lease' },
      spec: { finalizers: [] },
    });
    for (let turn = 0; turn < 200; turn++)
      await new Promise<void>((resolve) => {
        setImmediate(resolve);
      });
    assert.equal((await t.call('GET', lease)).body.status.phase, 'Active');
  });
});
