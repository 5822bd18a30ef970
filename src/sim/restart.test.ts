import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds, type apps, type Manifest } from './testing.ts';

const deployment: Manifest<apps.Deployment> = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'web', namespace: 'default' },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'web' } },
    template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'app:1' }] } },
  },
};

test('after the API server was away everybody finds the way back and goes on', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  await cluster.client.create(kinds.Deployment, deployment);
  await cluster.advance('5s');
  await cluster.restartApiServer('20s');
  await cluster.client.patch(
    kinds.Deployment,
    { name: 'web', namespace: 'default' },
    { merge: { spec: { replicas: 4 } } },
  );
  await cluster.advance('1m');
  assert.equal((await cluster.client.get(kinds.Deployment, 'web', 'default')).status?.availableReplicas, 4);
});

test('controllers that are killed in the middle of their work are replaced by ones that finish it', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  for (let round = 0; round < 5; round++) {
    await cluster.client.create(kinds.Deployment, {
      ...deployment,
      metadata: { name: `web-${round}`, namespace: 'default' },
    });
    await cluster.restartControllers('2s');
  }
  await cluster.advance('1m');
  const { items } = await cluster.client.list(kinds.Deployment, { namespace: 'default' });
  assert.deepEqual(
    items.map(({ status }) => status?.availableReplicas),
    [2, 2, 2, 2, 2],
  );
});

test('a request of the Deployment controller that arrives again, late, undoes no later one', async () => {
  await using cluster = await createCluster({
    nodes: 3,
    scripts: [{ selector: 'app=web', script: { readyAfter: '300ms' } }],
  });
  const spec = { ...deployment.spec, replicas: 8, strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } } };
  await cluster.client.create(kinds.Deployment, { ...deployment, spec });
  await cluster.advance('10s');
  const sizes = new Map<string, number[]>();
  const stop = new AbortController();
  const watching = (async () => {
    for await (const { object } of cluster.client.watch(kinds.ReplicaSet, {
      namespace: 'default',
      signal: stop.signal,
    })) {
      const { replicas = 1 } = object.spec;
      const held = sizes.get(object.metadata.name) ?? [];
      if (held.at(-1) !== replicas) sizes.set(object.metadata.name, [...held, replicas]);
    }
  })();
  cluster.networks.controllers.faults.duplication = 1;
  await cluster.client.patch(
    kinds.Deployment,
    { name: 'web', namespace: 'default' },
    { merge: { spec: { template: { spec: { containers: [{ name: 'c', image: 'app:2' }] } } } } },
  );
  await cluster.advance('1m');
  stop.abort();
  await watching;
  const [old, current] = [
    [...sizes.values()].find((all) => all.at(-1) === 0),
    [...sizes.values()].find((all) => all.at(-1) === 8),
  ];
  assert.deepEqual(old, [8, 7, 6, 5, 4, 3, 2, 1, 0]);
  assert.deepEqual(current, [1, 2, 3, 4, 5, 6, 7, 8]);
});
