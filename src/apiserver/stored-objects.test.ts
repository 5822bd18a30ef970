import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { TestApi } from './fixture.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

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
    'tells unknown and doubled fields in the order of the text, and of a doubled key in YAML the line',
    withApi(async (t) => {
      const problems = async (type: string, body: string, verb = 'POST', path = pods): Promise<string> => {
        const query = '?fieldValidation=Strict&fieldManager=m';
        const answer = await t.call(verb, `${path}${query}`, body, { headers: { 'content-type': type } });
        assert.equal(answer.status, 400, answer.text);
        return answer.body.message.replace(
          /^Pod in version "v1" cannot be handled as a Pod: strict decoding error: /,
          '',
        );
      };
      assert.equal(
        await problems(
          'application/json',
          '{"spec":{"x":{"y":1,"y":1},"x":2,"containers":[],"containers":[{"name":"c","name":"d","z":1}],"nodeName":"a","nodeName":"b"}}',
        ),
        'unknown field "spec.x", duplicate field "spec.containers", duplicate field "spec.containers[0].name", unknown field "spec.containers[0].z", duplicate field "spec.nodeName"',
      );
      const yaml = 'kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec:\n  x: 1\n  nodeName: a\n  nodeName: b\n';
      assert.equal(
        await problems('application/yaml', yaml),
        'yaml: unmarshal errors:\n  line 7: key "nodeName" already set in map, unknown field "spec.x"',
      );
      assert.equal(
        await problems('application/apply-patch+yaml', yaml.replace('  x: 1\n', ''), 'PATCH', `${pods}/a`),
        'error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 6: key "nodeName" already set in map',
      );
      const applied =
        '{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"},"spec":{"nodeName":"a",\n"nodeName":"b"}}';
      assert.match(
        await problems('application/apply-patch+yaml', applied, 'PATCH', `${pods}/a`),
        /line 2: key "nodeName" already set in map$/,
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
          'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.containers[0].bogus", duplicate field "spec.restartPolicy"',
        ],
      );
      const warned = await t.call('POST', pods, body);
      assert.equal(
        warned.headers.warning,
        '299 - "unknown field \\"spec.containers[0].bogus\\"", 299 - "duplicate field \\"spec.restartPolicy\\""',
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
