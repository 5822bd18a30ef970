import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestApi } from './fixture.ts';
import { bootstrap } from './bootstrap.ts';
import { createTestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

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

  it('are there again after a start, with what they grant, unless an administrator keeps them as they are', async () => {
    await using t = await createTestApi();
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    const [local, discovery] = [
      '/apis/apiregistration.k8s.io/v1/apiservices/v1.apps',
      `${rbac}/clusterroles/system:discovery`,
    ];
    const [view, kept] = [`${rbac}/clusterroles/view`, `${rbac}/clusterroles/system:basic-user`];
    const [bound, other] = ['system:discovery', 'system:basic-user'].map(
      (name) => `${rbac}/clusterrolebindings/${name}`,
    );
    const read = async (path: string) => (await t.call('GET', path)).body;
    const change = async (path: string, patch: object) => {
      const headers = { 'content-type': 'application/merge-patch+json' };
      assert.equal((await t.call('PATCH', path, patch, { headers })).status, 200, path);
    };
    const extra = { apiGroups: [''], resources: ['pods'], verbs: ['get'] };
    const before = await Promise.all([local, discovery, view, bound!].map(read));
    await t.call('DELETE', local);
    await change(discovery, { rules: [extra] });
    await change(view, { aggregationRule: { clusterRoleSelectors: [{ matchLabels: { a: 'b' } }] } });
    await change(bound!, { subjects: null });
    await change(kept, {
      rules: null,
      metadata: { annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'false' } },
    });
    const { uid } = (await read(other!)).metadata;
    await t.call('DELETE', other!);
    await t.call('POST', `${rbac}/clusterrolebindings`, {
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: 'system:basic-user' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'system:authenticated' }],
    });
    const revision = async () => (await t.call('GET', `${rbac}/clusterroles`)).body.metadata.resourceVersion;
    await bootstrap(t.api.server);
    const after = await Promise.all([local, discovery, view, bound!].map(read));
    assert.equal(after[0].spec.group, 'apps');
    assert.deepEqual(after[1].rules, [extra, ...before[1].rules]);
    assert.deepEqual(after[2].aggregationRule.clusterRoleSelectors, [
      { matchLabels: { a: 'b' } },
      ...before[2].aggregationRule.clusterRoleSelectors,
    ]);
    assert.deepEqual(after[3].subjects, before[3].subjects);
    assert.deepEqual((await read(kept)).rules, []);
    const anew = await read(other!);
    assert.deepEqual([anew.roleRef.name, anew.metadata.uid === uid], ['system:basic-user', false]);
    const then = await revision();
    await bootstrap(t.api.server);
    assert.equal(await revision(), then, 'nothing is written where nothing is missing');
  });
});
