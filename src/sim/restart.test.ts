import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from './testing.ts';

const deployment = { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name: 'web', namespace: 'default' }, spec: { replicas: 2, selector: { matchLabels: { app: 'web' } }, template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'app:1' }] } } } };

test('after the API server was away everybody finds the way back and goes on', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  await cluster.client.create(kinds.Deployment, deployment);
  await cluster.advance('5s');
  await cluster.restartApiServer('20s');
  await cluster.client.patch(kinds.Deployment, 'web', 'default', 'merge', { spec: { replicas: 4 } });
  await cluster.advance('1m');
  assert.equal((await cluster.client.get(kinds.Deployment, 'web', 'default'))['status'].availableReplicas, 4);
});

test('controllers that are killed in the middle of their work are replaced by ones that finish it', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  for (let round = 0; round < 5; round++) {
    await cluster.client.create(kinds.Deployment, { ...deployment, metadata: { name: `web-${round}`, namespace: 'default' } });
    await cluster.restartControllers('2s');
  }
  await cluster.advance('1m');
  const { items } = await cluster.client.list(kinds.Deployment, { namespace: 'default' });
  assert.deepEqual(items.map(({ status }) => status.availableReplicas), [2, 2, 2, 2, 2]);
});
