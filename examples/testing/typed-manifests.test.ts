/**
 * Manifests as typed values: a misspelt field does not compile, and what the cluster answers has its types, too. Parts
 * that several manifests share are functions.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type apps, type core, createCluster, kinds, type Manifest, type policy } from 'tiphys/testing';

const labels = { app: 'shop' };

const container = (image: string): core.Container => ({
  name: 'main',
  image,
  resources: { requests: { cpu: '500m', memory: '256Mi' } },
  readinessProbe: { httpGet: { path: '/healthz', port: 8080 }, periodSeconds: 5 },
});

const shop = (replicas: number, image: string): Manifest<apps.Deployment> => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'shop' },
  spec: {
    replicas,
    selector: { matchLabels: labels },
    template: { metadata: { labels }, spec: { containers: [container(image)] } },
  },
});

const budget: Manifest<policy.PodDisruptionBudget> = {
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name: 'shop' },
  spec: { minAvailable: 2, selector: { matchLabels: labels } },
};

test('manifests and answers have types', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  await cluster.apply([shop(3, 'shop:1'), budget]);
  await cluster.advance('30s');

  const deployment = await cluster.client.get(kinds.Deployment, 'shop', 'default');
  assert.equal(deployment.status?.availableReplicas, 3);
  assert.equal((await cluster.client.get(kinds.PodDisruptionBudget, 'shop', 'default')).status?.disruptionsAllowed, 1);

  await cluster.client.update(kinds.Deployment, { ...deployment, spec: shop(5, 'shop:2').spec });
  await cluster.advance('2m');
  const { items } = await cluster.client.list(kinds.Pod, { namespace: 'default' });
  assert.deepEqual(
    items.map(({ spec }) => spec.containers[0]?.image),
    Array.from({ length: 5 }, () => 'shop:2'),
  );
});
