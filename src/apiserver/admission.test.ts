import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import type { TestApi } from './fixture.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

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
      assert.equal(pod.metadata.generation, 1);
    }),
  );
});
