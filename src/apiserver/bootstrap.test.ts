import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestApi } from './fixture.ts';
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
});
