/** Pods that are to be spread over domains. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Node, Pod, TopologySpreadConstraint } from '#api/core.v1.ts';
import { cacheOf, makeNode, makePod, outcome, type PodParts } from './testing.ts';

const host = 'kubernetes.io/hostname';
const app = { app: 'a' };
const constraint = (more: Partial<TopologySpreadConstraint> = {}): TopologySpreadConstraint => ({
  topologyKey: 'zone',
  maxSkew: 1,
  whenUnsatisfiable: 'DoNotSchedule',
  labelSelector: { matchLabels: app },
  ...more,
});
const spreadPod = (constraints: TopologySpreadConstraint[], more: PodParts = {}): Pod =>
  makePod('p', { labels: app, topologySpreadConstraints: constraints, ...more });
const zoned = (name: string, zone: string, more: Parameters<typeof makeNode>[1] = {}): Node =>
  makeNode(name, { ...more, labels: { zone } });
let count = 0;
const on = (node: string, labels: Record<string, string> = app, more: PodParts = {}): Pod =>
  makePod(`q${count++}`, { node, labels, ...more });
const times = (amount: number, make: () => Pod): Pod[] => Array.from({ length: amount }, make);

/** All nodes on which it may be, by trying each alone among all. */
function allowed(nodes: Node[], pods: Pod[], pod: Pod): string[] {
  const cache = cacheOf(nodes, pods);
  return nodes
    .map(({ metadata }) => metadata.name)
    .filter((name) => {
      const only = {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In' as const, values: [name] }] }],
          },
        },
      };
      // The domains are to be counted as for the Pod itself, so its own affinity must not narrow them.
      const constraints = (pod.spec.topologySpreadConstraints ?? []).map((each) => ({
        ...each,
        nodeAffinityPolicy: 'Ignore',
      }));
      const pinned = { ...pod, spec: { ...pod.spec, topologySpreadConstraints: constraints, affinity: only } };
      return outcome(cache, pinned) === name;
    });
}

const threeZones = [zoned('a1', 'a'), zoned('a2', 'a'), zoned('b1', 'b'), zoned('c1', 'c')];

test('a domain may have so many more than the emptiest as the skew says', () => {
  const pods = [...times(2, () => on('a1')), on('b1')];
  assert.deepEqual(allowed(threeZones, pods, spreadPod([constraint()])), ['c1']);
  assert.deepEqual(allowed(threeZones, pods, spreadPod([constraint({ maxSkew: 2 })])), ['b1', 'c1']);
  assert.deepEqual(allowed(threeZones, pods, spreadPod([constraint({ maxSkew: 3 })])), ['a1', 'a2', 'b1', 'c1']);
});

test('only Pods of the namespace that the selector finds count, and none that is about to go', () => {
  const ending = on('b1');
  ending.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  const pods = [on('a1'), ending, on('c1', { app: 'b' }), on('c1', app, { namespace: 'other' })];
  assert.deepEqual(allowed(threeZones, pods, spreadPod([constraint()])), ['b1', 'c1']);
});

test('a Pod that its own selector does not find takes no room in its domain', () => {
  const pods = [on('a1'), on('b1'), on('c1')];
  const other = makePod('p', { labels: { app: 'b' }, topologySpreadConstraints: [constraint()] });
  assert.deepEqual(allowed(threeZones, [...pods, on('a1')], other), ['a1', 'a2', 'b1', 'c1']);
  assert.deepEqual(allowed(threeZones, [...pods, on('a1')], spreadPod([constraint()])), ['b1', 'c1']);
});

test('all constraints must hold at once, and nodes that lack one of the keys are no domains', () => {
  const nodes = [...threeZones, makeNode('none')];
  const both = [constraint({ maxSkew: 2 }), constraint({ topologyKey: host })];
  assert.deepEqual(allowed(nodes, [on('a1'), on('c1')], spreadPod(both)), ['a2', 'b1']);
  assert.deepEqual(
    allowed(
      nodes,
      times(5, () => on('none')),
      spreadPod([constraint()]),
    ),
    ['a1', 'a2', 'b1', 'c1'],
    'Pods on a node without the key count nowhere',
  );
});

test('fewer domains than wanted: the missing ones count as empty', () => {
  const nodes = [zoned('a1', 'a'), zoned('b1', 'b')];
  const pods = [on('a1'), on('b1')];
  assert.deepEqual(allowed(nodes, pods, spreadPod([constraint()])), ['a1', 'b1']);
  assert.deepEqual(allowed(nodes, pods, spreadPod([constraint({ minDomains: 2 })])), ['a1', 'b1']);
  assert.deepEqual(allowed(nodes, pods, spreadPod([constraint({ minDomains: 3 })])), []);
  assert.deepEqual(allowed(nodes, [], spreadPod([constraint({ minDomains: 3 })])), ['a1', 'b1']);
});

test('domains are those that the Pod could go to by its affinity, and by its tolerations where that is asked for', () => {
  const nodes = [
    zoned('a1', 'a'),
    zoned('b1', 'b'),
    zoned('c1', 'c', { taints: [{ key: 'k', effect: 'NoSchedule' }] }),
  ];
  const pods = [on('a1'), on('b1')];
  const choose = (more: Partial<TopologySpreadConstraint>, spec: PodParts = {}): string =>
    outcome(cacheOf(nodes, pods), spreadPod([constraint(more)], spec));
  const stuck = /didn't match pod topology spread constraints/;
  assert.match(choose({}), stuck, 'the tainted zone is empty, and counts');
  assert.doesNotMatch(choose({ nodeTaintsPolicy: 'Honor' }), stuck);
  assert.equal(choose({ nodeTaintsPolicy: 'Honor' }, { tolerations: [{ key: 'k', operator: 'Exists' }] }), 'c1');
  assert.equal(choose({}, { nodeSelector: { zone: 'a' } }), 'a1', 'the other zones are none of its domains');
  assert.match(choose({ nodeAffinityPolicy: 'Ignore' }, { nodeSelector: { zone: 'a' } }), stuck);
});

test('keys of its own labels tell its generation from others', () => {
  const pods = [on('a1', { ...app, hash: '1' }), on('b1', { ...app, hash: '1' }), on('a1', { ...app, hash: '2' })];
  const pod = makePod('p', {
    labels: { ...app, hash: '2' },
    topologySpreadConstraints: [constraint({ matchLabelKeys: ['hash'] })],
  });
  assert.deepEqual(allowed([zoned('a1', 'a'), zoned('b1', 'b')], pods, pod), ['b1']);
});

test('a soft constraint only prefers', () => {
  const soft = constraint({ whenUnsatisfiable: 'ScheduleAnyway' });
  const nodes = [zoned('a1', 'a'), zoned('b1', 'b')];
  // As much is free on both: what counts elsewhere are Pods that the selector does not find.
  const pods = [...times(3, () => on('a1')), ...times(3, () => on('b1', { app: 'b' }))];
  assert.equal(outcome(cacheOf(nodes, pods), spreadPod([soft])), 'b1');
  assert.equal(outcome(cacheOf(nodes, pods), spreadPod([soft], { nodeSelector: { zone: 'a' } })), 'a1');
});
