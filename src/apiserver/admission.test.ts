import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const sized = (name: string, cpu?: string): TestJson =>
  podBody(name, {
    spec: {
      containers: [{ name: 'c', image: 'i', ...(cpu === undefined ? {} : { resources: { requests: { cpu } } }) }],
    },
  });
const services = '/api/v1/namespaces/default/services';
const service = (name: string, spec: TestJson = {}): TestJson => ({
  metadata: { name },
  spec: { ports: [{ port: 80 }], ...spec },
});

describe('quota', () => {
  const quota = (hard: TestJson): TestJson => ({ metadata: { name: 'q' }, spec: { hard } });

  it(
    'holds under concurrent creates',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces/default/resourcequotas', quota({ pods: '5' }));
      const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => t.call('POST', pods, podBody(`p${i}`))));
      assert.deepEqual(
        [answers.filter((a) => a.status === 201).length, answers.filter((a) => a.status === 403).length],
        [5, 7],
      );
      assert.equal(
        answers.find((a) => a.status === 403)!.body.message.replace(/p\d+/, 'p'),
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=5, limited: pods=5',
      );
      assert.equal((await t.call('GET', '/api/v1/namespaces/default/resourcequotas/q')).body.status.used.pods, '5');
    }),
  );

  it(
    'wants requests stated where it bounds them',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces/default/resourcequotas', quota({ 'requests.cpu': '1' }));
      assert.match(
        (await t.call('POST', pods, sized('a'))).body.message,
        /failed quota: q: must specify requests.cpu for: c/,
      );
      assert.equal((await t.call('POST', pods, sized('a', '600m'))).status, 201);
      assert.match(
        (await t.call('POST', pods, sized('b', '600m'))).body.message,
        /exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, limited: requests.cpu=1/,
      );
    }),
  );
});

describe('limit ranges and pod security', () => {
  it(
    'fills and bounds container resources',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces/default/limitranges', {
        metadata: { name: 'l' },
        spec: {
          limits: [
            {
              type: 'Container',
              max: { cpu: '1' },
              min: { cpu: '100m' },
              default: { cpu: '500m' },
              defaultRequest: { cpu: '200m' },
            },
          ],
        },
      });
      assert.deepEqual((await t.make(pods, sized('a'))).spec.containers[0].resources, {
        limits: { cpu: '500m' },
        requests: { cpu: '200m' },
      });
      assert.match(
        (await t.call('POST', pods, sized('b', '50m'))).body.message,
        /minimum cpu usage per Container is 100m, but request is 50m/,
      );
    }),
  );

  it(
    "enforces the namespace's level",
    withApi(async (t) => {
      await t.make('/api/v1/namespaces', {
        metadata: { name: 'r', labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
      });
      await t.make('/api/v1/namespaces/r/serviceaccounts', { metadata: { name: 'default' } });
      const refused = await t.call('POST', '/api/v1/namespaces/r/pods', podBody('a'));
      assert.equal(refused.status, 403);
      assert.match(
        refused.body.message,
        /violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false \(container "c" must set securityContext.allowPrivilegeEscalation=false\), unrestricted capabilities/,
      );
      const safe = {
        allowPrivilegeEscalation: false,
        runAsNonRoot: true,
        capabilities: { drop: ['ALL'] },
        seccompProfile: { type: 'RuntimeDefault' },
      };
      assert.equal(
        (
          await t.call(
            'POST',
            '/api/v1/namespaces/r/pods',
            podBody('a', { spec: { containers: [{ name: 'c', image: 'i', securityContext: safe }] } }),
          )
        ).status,
        201,
      );
    }),
  );
});

describe('claims and volumes', () => {
  it(
    'are made with the finalizer that keeps them while they are used',
    withApi(async (t) => {
      const claims = '/api/v1/namespaces/default/persistentvolumeclaims';
      const claim = {
        metadata: { name: 'c', finalizers: ['a.io/b'] },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
      };
      assert.deepEqual((await t.make(claims, claim)).metadata.finalizers, ['a.io/b', 'kubernetes.io/pvc-protection']);
      const volume = {
        metadata: { name: 'v' },
        spec: { accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, hostPath: { path: '/a' } },
      };
      assert.deepEqual((await t.make('/api/v1/persistentvolumes', volume)).metadata.finalizers, [
        'kubernetes.io/pv-protection',
      ]);
      assert.equal((await t.call('DELETE', `${claims}/c`)).status, 200);
      assert.ok((await t.call('GET', `${claims}/c`)).body.metadata.deletionTimestamp);
    }),
  );
});

describe('Services', () => {
  it(
    'get an address and ports of their own, given back when they go',
    withApi(async (t) => {
      const made = await t.make(services, service('a', { type: 'NodePort' }));
      assert.match(made.spec.clusterIP, /^10\.96\.\d+\.\d+$/);
      const { clusterIP } = made.spec;
      const { nodePort } = made.spec.ports[0];
      assert.ok(nodePort >= 30_000 && nodePort <= 32_767);
      const taken = await t.call('POST', services, service('b', { clusterIP }));
      assert.match(taken.body.message, /failed to allocate IP .*: provided IP is already allocated/);
      assert.match(
        (await t.call('POST', services, service('b', { type: 'NodePort', ports: [{ port: 80, nodePort }] }))).body
          .message,
        /provided port is already allocated/,
      );
      await t.call('DELETE', `${services}/a`);
      assert.equal(
        (await t.call('POST', services, service('b', { clusterIP, type: 'NodePort', ports: [{ port: 80, nodePort }] })))
          .status,
        201,
      );
    }),
  );

  it(
    'keep their address over updates and release ports they stop using',
    withApi(async (t) => {
      const made = await t.make(services, service('a', { type: 'NodePort' }));
      const { nodePort } = made.spec.ports[0];
      const plain = await t.call('PUT', `${services}/a`, {
        ...made,
        spec: { ...made.spec, type: 'ClusterIP', externalTrafficPolicy: undefined, ports: [{ port: 80 }] },
      });
      assert.deepEqual(
        [plain.status, plain.body.spec.clusterIP, plain.body.spec.ports[0].nodePort],
        [200, made.spec.clusterIP, undefined],
      );
      assert.equal(
        (await t.call('POST', services, service('b', { type: 'NodePort', ports: [{ port: 80, nodePort }] }))).status,
        201,
      );
    }),
  );

  it(
    'never share an address among concurrent writers',
    withApi(async (t) => {
      const made = await Promise.all(
        Array.from({ length: 40 }, (_, i) => t.make(services, service(`s${i}`, { type: 'NodePort' }))),
      );
      assert.equal(new Set(made.map((s) => s.spec.clusterIP)).size, 40);
      assert.equal(new Set(made.map((s) => s.spec.ports[0].nodePort)).size, 40);
    }),
  );
});

describe('evictions and bindings', () => {
  it(
    'an eviction is refused while a budget allows no disruption',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { spec: { nodeName: 'n' } }));
      await t.call(
        'PATCH',
        `${pods}/a/status`,
        { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      await t.make('/apis/policy/v1/namespaces/default/poddisruptionbudgets', {
        metadata: { name: 'b' },
        spec: { minAvailable: 1, selector: { matchLabels: { app: 'a' } } },
      });
      await t.call(
        'PATCH',
        '/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status',
        {
          status: {
            observedGeneration: 1,
            disruptionsAllowed: 0,
            currentHealthy: 1,
            desiredHealthy: 1,
            expectedPods: 1,
          },
        },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      const refused = await t.call('POST', `${pods}/a/eviction`, { metadata: { name: 'a' } });
      assert.deepEqual(
        [refused.status, refused.body.message],
        [429, "Cannot evict pod as it would violate the pod's disruption budget."],
      );
      await t.call(
        'PATCH',
        '/apis/policy/v1/namespaces/default/poddisruptionbudgets/b/status',
        { status: { disruptionsAllowed: 1 } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.equal((await t.call('POST', `${pods}/a/eviction`, { metadata: { name: 'a' } })).status, 201);
      assert.notEqual((await t.call('GET', `${pods}/a`)).body.metadata.deletionTimestamp, undefined);
    }),
  );

  it(
    'an evicted Pod says that it is disrupted, unless it has ended',
    withApi(async (t) => {
      const evict = (name: string, extra: TestJson = {}) =>
        t.call('POST', `${pods}/${name}/eviction`, {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name },
          ...extra,
        });
      const phase = (name: string, value: string) =>
        t.call(
          'PATCH',
          `${pods}/${name}/status`,
          { status: { phase: value } },
          { headers: { 'content-type': 'application/merge-patch+json' } },
        );
      for (const name of ['a', 'done'])
        await t.make(pods, podBody(name, { metadata: { finalizers: ['x.io/hold'] }, spec: { nodeName: 'n1' } }));
      await phase('a', 'Running');
      await phase('done', 'Succeeded');
      assert.equal((await evict('a', { deleteOptions: { dryRun: ['All'] } })).status, 201);
      assert.equal((await t.call('GET', `${pods}/a`)).body.status.conditions, undefined);
      assert.equal((await evict('a', { deleteOptions: { preconditions: { uid: 'another' } } })).status, 409);
      assert.equal((await evict('a')).status, 201);
      const { metadata, status } = (await t.call('GET', `${pods}/a`)).body;
      assert.deepEqual(
        [
          metadata.deletionTimestamp !== undefined,
          status.conditions.map((c: TestJson) => [c.type, c.status, c.reason, c.message]),
        ],
        [true, [['DisruptionTarget', 'True', 'EvictionByEvictionAPI', 'Eviction API: evicting']]],
      );
      assert.equal((await evict('done')).status, 201);
      assert.equal((await t.call('GET', `${pods}/done`)).body.status.conditions, undefined);
    }),
  );

  it(
    'a Pod is bound once',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      const bind = (node: string) =>
        t.call('POST', `${pods}/a/binding`, {
          apiVersion: 'v1',
          kind: 'Binding',
          metadata: { name: 'a' },
          target: { kind: 'Node', name: node },
        });
      assert.equal((await bind('n1')).status, 201);
      assert.match((await bind('n2')).body.message, /pod a is already assigned to node "n1"/);
      const pod = (await t.call('GET', `${pods}/a`)).body;
      assert.deepEqual([pod.spec.nodeName, pod.status.conditions[0].type], ['n1', 'PodScheduled']);
    }),
  );
});

describe('custom resources', () => {
  const definition: TestJson = {
    metadata: { name: 'crontabs.stable.example.com' },
    spec: {
      group: 'stable.example.com',
      scope: 'Namespaced',
      names: { plural: 'crontabs', kind: 'CronTab', shortNames: ['ct'] },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          subresources: { status: {} },
          additionalPrinterColumns: [{ name: 'Image', type: 'string', jsonPath: '.spec.image' }],
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: {
                spec: {
                  type: 'object',
                  required: ['image'],
                  properties: {
                    image: { type: 'string', maxLength: 5 },
                    replicas: { type: 'integer', minimum: 1, default: 3 },
                    free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true },
                  },
                },
                status: { type: 'object', properties: { ok: { type: 'boolean' } } },
              },
            },
          },
        },
      ],
    },
  };
  const path = '/apis/stable.example.com/v1/namespaces/default/crontabs';
  const established = async (t: TestApi): Promise<void> => {
    await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', definition);
    for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') === undefined; i++)
      await new Promise((resolve) => setImmediate(resolve));
  };

  it(
    'are served with their schema: defaults, pruning, validation, columns, status',
    withApi(async (t) => {
      await established(t);
      const made = await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a' },
        spec: { image: 'x', bogus: 1, free: { any: 'thing' } },
        status: { ok: true },
      });
      assert.deepEqual([made.spec, made.status], [{ image: 'x', replicas: 3, free: { any: 'thing' } }, undefined]);
      const bad = await t.call('POST', path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'b' },
        spec: { image: 'toolong', replicas: 0 },
      });
      assert.deepEqual(
        bad.body.details.causes.map((c: TestJson) => c.field),
        ['spec.image', 'spec.replicas'],
      );
      const table = (
        await t.call('GET', path, undefined, { headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' } })
      ).body;
      assert.deepEqual(table.rows[0].cells, ['a', 'x']);
      assert.ok(
        (await t.call('GET', '/apis/stable.example.com/v1')).body.resources.some(
          (r: TestJson) => r.name === 'crontabs/status',
        ),
      );
    }),
  );

  it(
    'are refused where their schema is not structural',
    withApi(async (t) => {
      const schema = (properties: TestJson): TestJson => ({
        ...definition,
        spec: {
          ...definition.spec,
          versions: [{ ...definition.spec.versions[0], schema: { openAPIV3Schema: { type: 'object', properties } } }],
        },
      });
      const cases: [TestJson, string, RegExp][] = [
        [
          { a: {} },
          'spec.validation.openAPIV3Schema.properties[a].type',
          /must not be empty for specified object fields/,
        ],
        [
          { a: { type: 'object', properties: { b: {} } } },
          'spec.validation.openAPIV3Schema.properties[a].properties[b].type',
          /must not be empty/,
        ],
        [
          { a: { type: 'array', items: {} } },
          'spec.validation.openAPIV3Schema.properties[a].items.type',
          /specified array items/,
        ],
        [{ a: { type: 'array' } }, 'spec.validation.openAPIV3Schema.properties[a].items', /must be specified/],
        [
          { a: { type: 'string', default: 5 } },
          'spec.validation.openAPIV3Schema.properties[a].default',
          /must be of type string/,
        ],
        [{ a: { type: 'text' } }, 'spec.validation.openAPIV3Schema.properties[a].type', /supported values/],
        [
          { a: { type: 'string', pattern: '(' } },
          'spec.validation.openAPIV3Schema.properties[a].pattern',
          /valid regular expression/,
        ],
        [
          { a: { type: 'object', anyOf: [{ properties: { b: { minLength: 1 } } }] } },
          'spec.validation.openAPIV3Schema.properties[a].properties[b]',
          /because it is defined in/,
        ],
        [
          { a: { type: 'string', anyOf: [{ type: 'string' }] } },
          'spec.validation.openAPIV3Schema.properties[a].anyOf[0].type',
          /to be structural/,
        ],
        [
          { a: { type: 'object', additionalProperties: { type: 'string' }, properties: { b: { type: 'string' } } } },
          'spec.validation.openAPIV3Schema.properties[a].additionalProperties',
          /mutual exclusive/,
        ],
        [
          { a: { type: 'array', items: { type: 'object' }, 'x-kubernetes-list-type': 'map' } },
          'spec.validation.openAPIV3Schema.properties[a].x-kubernetes-list-map-keys',
          /must not be empty/,
        ],
      ];
      for (const [properties, field, words] of cases) {
        const answer = await t.call(
          'POST',
          '/apis/apiextensions.k8s.io/v1/customresourcedefinitions',
          schema(properties),
        );
        assert.deepEqual([answer.status, answer.body.details.causes[0].field], [422, field], answer.text);
        assert.match(answer.body.details.causes[0].message, words);
      }
      const right = {
        a: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }], default: 5 },
        b: { 'x-kubernetes-preserve-unknown-fields': true },
        c: { type: 'string', nullable: true, default: null },
      };
      assert.equal(
        (await t.call('POST', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions', schema(right))).status,
        201,
      );
    }),
  );

  it(
    'go with their definition',
    withApi(async (t) => {
      await established(t);
      await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a' },
        spec: { image: 'x' },
      });
      await t.call('DELETE', '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com');
      for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') !== undefined; i++)
        await new Promise((resolve) => setImmediate(resolve));
      assert.equal((await t.call('GET', path)).status, 404);
      assert.equal((await t.api.server.store.list('/registry/stable.example.com/')).values.length, 0);
    }),
  );

  it(
    'are not made any more while their definition goes, which says so',
    withApi(async (t) => {
      await established(t);
      await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a', finalizers: ['x.io/hold'] },
        spec: { image: 'x' },
      });
      const definitionPath = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com';
      await t.call('DELETE', definitionPath);
      const another = {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'b' },
        spec: { image: 'x' },
      };
      const refused = await t.call('POST', path, another);
      assert.deepEqual([refused.status, /terminating/.test(refused.body.message)], [405, true]);
      const applied = await t.call('PATCH', `${path}/b?fieldManager=m`, another, {
        headers: { 'content-type': 'application/apply-patch+yaml' },
      });
      assert.equal(applied.status, 405);
      for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
      const { status } = (await t.call('GET', definitionPath)).body;
      assert.deepEqual(
        status.conditions.filter((c: TestJson) => c.type === 'Terminating').map((c: TestJson) => [c.status, c.reason]),
        [['True', 'InstanceDeletionInProgress']],
      );
      assert.equal(
        (
          await t.call(
            'PATCH',
            `${path}/a`,
            { metadata: { finalizers: null } },
            { headers: { 'content-type': 'application/merge-patch+json' } },
          )
        ).status,
        200,
      );
    }),
  );

  it(
    'keep their metadata when their status is written',
    withApi(async (t) => {
      await established(t);
      const made = await t.make(path, {
        apiVersion: 'stable.example.com/v1',
        kind: 'CronTab',
        metadata: { name: 'a', labels: { a: 'b' } },
        spec: { image: 'x' },
      });
      const put = await t.call('PUT', `${path}/a/status`, {
        ...made,
        metadata: { ...made.metadata, labels: { c: 'd' }, annotations: { e: 'f' } },
        status: { ok: true },
      });
      assert.deepEqual(
        [put.status, put.body.metadata.labels, put.body.metadata.annotations, put.body.status],
        [200, { a: 'b' }, undefined, { ok: true }],
      );
      const patched = await t.call(
        'PATCH',
        `${path}/a/status`,
        { metadata: { labels: { g: 'h' } }, status: { ok: false } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.deepEqual([patched.body.metadata.labels, patched.body.status], [{ a: 'b' }, { ok: false }]);
    }),
  );

  it(
    'hold objects that say what they are, and warn of versions that are deprecated',
    withApi(async (t) => {
      const inner = {
        type: 'object',
        'x-kubernetes-embedded-resource': true,
        'x-kubernetes-preserve-unknown-fields': true,
      };
      const version = {
        ...definition.spec.versions[0],
        deprecated: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { inner } } },
      };
      await t.make('/apis/apiextensions.k8s.io/v1/customresourcedefinitions', {
        ...definition,
        spec: { ...definition.spec, versions: [version] },
      });
      for (let i = 0; i < 100 && t.api.server.kinds.find('stable.example.com', 'v1', 'crontabs') === undefined; i++)
        await new Promise((resolve) => setImmediate(resolve));
      const make = (value: TestJson) =>
        t.call('POST', path, {
          apiVersion: 'stable.example.com/v1',
          kind: 'CronTab',
          metadata: { generateName: 'a-' },
          inner: value,
        });
      const bare = await make({ spec: 1 });
      assert.deepEqual(
        [bare.status, bare.body.details.causes.map((c: TestJson) => [c.reason, c.field])],
        [
          422,
          [
            ['FieldValueRequired', 'inner.apiVersion'],
            ['FieldValueRequired', 'inner.kind'],
          ],
        ],
      );
      assert.equal(
        (await make({ apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'not a label' } } })).status,
        422,
      );
      const good = await make({ apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'b' } }, spec: 1 });
      assert.deepEqual(
        [good.status, good.headers.warning],
        [201, '299 - "stable.example.com/v1 CronTab is deprecated"'],
      );
      assert.equal(
        (await t.call('GET', '/api/v1/namespaces/default/endpoints')).headers.warning,
        '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"',
      );
      assert.match(
        (await t.call('GET', '/api/v1/componentstatuses')).headers.warning!,
        /v1 ComponentStatus is deprecated in v1\.19\+/,
      );
      assert.equal((await t.call('GET', pods)).headers.warning, undefined);
    }),
  );
});

describe('webhooks', () => {
  const hook = (name: string, extra: TestJson = {}): TestJson => ({
    name,
    sideEffects: 'None',
    admissionReviewVersions: ['v1'],
    clientConfig: { url: 'https://hook.example.com' },
    rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['pods'] }],
    ...extra,
  });
  const configure = (t: TestApi, kind: string, webhooks: TestJson[]) =>
    t.make(`/apis/admissionregistration.k8s.io/v1/${kind}`, { metadata: { name: 'w' }, webhooks });

  it(
    'change and refuse what their rules match',
    withApi(async (t) => {
      await configure(t, 'mutatingwebhookconfigurations', [hook('m.example.com')]);
      await configure(t, 'validatingwebhookconfigurations', [
        hook('v.example.com', { objectSelector: { matchLabels: { checked: 'yes' } } }),
      ]);
      t.api.server.callWebhook = async (_config, review: TestJson) => {
        const { uid, object } = review.request;
        if (object.metadata.labels?.hooked === undefined)
          return {
            response: {
              uid,
              allowed: true,
              patchType: 'JSONPatch',
              patch: Buffer.from(
                JSON.stringify([{ op: 'add', path: '/metadata/labels/hooked', value: 'yes' }]),
              ).toString('base64'),
            },
          };
        return { response: { uid, allowed: false, status: { message: 'not today' }, warnings: ['beware'] } };
      };
      assert.equal((await t.make(pods, podBody('a'))).metadata.labels!.hooked, 'yes');
      const refused = await t.call('POST', pods, podBody('b', { metadata: { labels: { checked: 'yes' } } }));
      assert.deepEqual(
        [refused.status, refused.body.message],
        [400, 'admission webhook "v.example.com" denied the request: not today'],
      );
    }),
  );

  it(
    'that deny with the code of a success still deny, and their details go on where they are such',
    withApi(async (t) => {
      await configure(t, 'validatingwebhookconfigurations', [hook('v.example.com')]);
      const status = { code: 200, reason: 'NotHere', details: { causes: [{ field: 'spec' }, 7], kind: 3, name: 'a' } };
      t.api.server.callWebhook = async (_config, review: TestJson) => ({
        response: { uid: review.request.uid, allowed: false, status },
      });
      const { code, reason, message, details } = (await t.call('POST', pods, podBody('a'))).body;
      assert.deepEqual(
        [code, reason, message, details],
        [
          400,
          'NotHere',
          'admission webhook "v.example.com" denied the request: NotHere',
          { name: 'a', causes: [{ field: 'spec' }, {}] },
        ],
      );
    }),
  );

  it(
    'that cannot be reached are fatal or ignored as their policy says',
    withApi(async (t) => {
      t.api.server.callWebhook = async () => {
        throw new Error('connection refused');
      };
      await configure(t, 'validatingwebhookconfigurations', [hook('v.example.com', { failurePolicy: 'Ignore' })]);
      assert.equal((await t.call('POST', pods, podBody('a'))).status, 201);
      await t.call(
        'PATCH',
        '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w',
        [{ op: 'replace', path: '/webhooks/0/failurePolicy', value: 'Fail' }],
        { headers: { 'content-type': 'application/json-patch+json' } },
      );
      const failed = await t.call('POST', pods, podBody('b'));
      assert.deepEqual(
        [failed.status, failed.body.message],
        [
          500,
          'Internal error occurred: failed calling webhook "v.example.com": failed to call webhook: connection refused',
        ],
      );
    }),
  );
});
