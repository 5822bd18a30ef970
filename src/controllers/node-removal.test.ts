/** How a node is taken out of the cluster: step by step, and in a whole cluster in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isRevoked, machineAnnotations, removedNodes } from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { createCluster } from '#sim/cluster.ts';
import { drainMsMax, removalSettleMs } from './limits.ts';
import { planRemoval } from './node-removal.ts';

const madeMs = Date.parse('2026-01-01T00:00:00Z');
const askedMs = madeMs + 60_000;

function nodeWith({ ready = 'True', unschedulable = true, asked = timestamp(askedMs) } = {}): Node {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: 'b',
      uid: 'u',
      resourceVersion: '1',
      creationTimestamp: timestamp(madeMs),
      annotations: { [machineAnnotations.removal]: asked },
    },
    spec: { unschedulable },
    status: { conditions: [{ type: 'Ready', status: ready }] },
  };
}

const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p', namespace: 'default', uid: 'u', resourceVersion: '1', creationTimestamp: timestamp(madeMs) },
  spec: { containers: [] },
};

test('a node that is asked to go is closed, emptied, refused and forgotten, in this order', () => {
  const step = (node: Node, pods: Pod[], removed: string | undefined, nowMs: number): string =>
    planRemoval(node, pods, removed, nowMs).step;
  assert.equal(step(nodeWith({ asked: 'soon' }), [], undefined, askedMs), 'none');
  assert.equal(step(nodeWith({ unschedulable: false }), [pod], undefined, askedMs), 'close');
  assert.equal(step(nodeWith(), [pod], undefined, askedMs), 'evict');
  assert.equal(step(nodeWith(), [], undefined, askedMs), 'refuse');
  assert.equal(step(nodeWith(), [pod], undefined, askedMs + drainMsMax), 'refuse', 'what does not go holds nothing up');
  assert.equal(step(nodeWith({ ready: 'Unknown' }), [pod], undefined, askedMs), 'refuse', 'nor does a dead node');
  const removed = timestamp(askedMs);
  assert.equal(step(nodeWith(), [], removed, askedMs), 'wait');
  assert.equal(step(nodeWith(), [], removed, askedMs + removalSettleMs), 'forget');
  assert.equal(step(nodeWith(), [], timestamp(madeMs - 1000), askedMs), 'refuse', 'that was another of this name');
});

test('certificates of before are refused, those of a machine that joins later under the name are not', () => {
  const removed = { b: timestamp(askedMs), broken: 'x' };
  const name = 'system:node:b';
  assert.equal(isRevoked({ name, issuedAtMs: askedMs }, removed), true);
  assert.equal(isRevoked({ name, issuedAtMs: askedMs + removalSettleMs }, removed), false);
  assert.equal(isRevoked({ name: 'tiphys:node-network:b', issuedAtMs: madeMs }, removed), true);
  assert.equal(isRevoked({ name: 'system:node:c', issuedAtMs: madeMs }, removed), false);
  assert.equal(isRevoked({ name: 'system:node:broken', issuedAtMs: askedMs }, removed), true);
  assert.equal(isRevoked({ name: 'b', issuedAtMs: madeMs }, removed), false, 'no node');
});

test('Pods move within their budgets, and the node is gone with its lease', async () => {
  await using cluster = await createCluster({ nodes: 3 });
  await cluster.ready();
  const labels = { app: 'web' };
  await cluster.apply(
    JSON.stringify({
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web', namespace: 'default' },
      spec: {
        replicas: 6,
        selector: { matchLabels: labels },
        template: { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'x' }] } },
      },
    }),
  );
  const running = async (): Promise<string[]> =>
    (await cluster.client.list(kinds.Pod)).items
      .filter(({ status }) => status?.phase === 'Running')
      .map(({ spec }) => spec.nodeName ?? '');
  await cluster.runUntil(async () => (await running()).length === 6);
  const [gone = ''] = await running();
  const annotations = { [machineAnnotations.removal]: timestamp(cluster.now) };
  await cluster.client.patch(kinds.Node, { name: gone }, { merge: { metadata: { annotations } } });
  await cluster.runUntil(
    async () => (await cluster.client.list(kinds.Node)).items.every(({ metadata }) => metadata.name !== gone),
    { timeout: '5m' },
  );
  await cluster.runUntil(async () => (await running()).length === 6, { timeout: '5m' });
  assert.equal((await running()).includes(gone), false);
  const { data } = await cluster.client.get(kinds.ConfigMap, removedNodes.name, removedNodes.namespace);
  assert.deepEqual(Object.keys(data ?? {}), [gone]);
});
