/**
 * Too little room: a quota bounds what one team may have, and an important workload pushes a less important one aside.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from 'tiphys/testing';

const deployment = (name: string, namespace: string, replicas: number, priority: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, namespace: ${namespace} }
spec:
  replicas: ${replicas}
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} } }
    spec:
      priorityClassName: ${priority}
      containers: [{ name: main, image: "${name}:1", resources: { requests: { cpu: "1" } } }]
`;

const setUp = `
{ apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: { name: batch }, value: 10 }
---
{ apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: { name: customers }, value: 1000 }
---
{ apiVersion: v1, kind: Namespace, metadata: { name: research } }
---
{ apiVersion: v1, kind: ResourceQuota, metadata: { name: team, namespace: research }, spec: { hard: { requests.cpu: "6" } } }
`;

test('a quota holds, and what serves customers pushes batch work aside', async () => {
  await using cluster = await createCluster({ nodes: [{ cpu: '4' }, { cpu: '4' }] }); // room for eight Pods
  const ready = async (namespace: string, name: string): Promise<number> =>
    (await cluster.client.get(kinds.Deployment, name, namespace)).status?.readyReplicas ?? 0;
  await cluster.apply(setUp);
  await cluster.apply(deployment('training', 'research', 10, 'batch'));
  await cluster.advance('1m');
  assert.equal(await ready('research', 'training'), 6); // ten are wanted, the quota allows six
  const [set] = (await cluster.client.list(kinds.ReplicaSet, { namespace: 'research' })).items;
  assert.match(
    set?.status?.conditions?.find(({ type }) => type === 'ReplicaFailure')?.message ?? '',
    /exceeded quota: team/,
  );

  await cluster.apply(deployment('shop', 'default', 5, 'customers'));
  await cluster.advance('5m');
  assert.equal(await ready('default', 'shop'), 5);
  assert.equal(await ready('research', 'training'), 3); // eight places: five for customers

  await cluster.client.patch(
    kinds.Deployment,
    { name: 'shop', namespace: 'default' },
    { merge: { spec: { replicas: 1 } } },
  );
  await cluster.advance('5m');
  assert.equal(await ready('research', 'training'), 6);
});
