/** Pods that want to be together, and Pods that do not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Affinity, Pod, PodAffinityTerm } from '#api/core.v1.ts';
import { sampleOf } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { antiAffinity, cacheOf, makeNode, makePod, outcome, podAffinity, type PodParts } from './testing.ts';

const host = 'kubernetes.io/hostname';
const zones = [
  makeNode('a1', { labels: { zone: 'a' } }),
  makeNode('a2', { labels: { zone: 'a' } }),
  makeNode('b1', { labels: { zone: 'b' } }),
  makeNode('none'),
];
const on = (node: string, labels: Record<string, string> = { app: 'a' }, more: PodParts = {}): Pod =>
  makePod(`on-${node}`, { node, labels, ...more });
const term = (labels: Record<string, string>, more: Partial<PodAffinityTerm> = {}): PodAffinityTerm => ({
  topologyKey: 'zone',
  labelSelector: { matchLabels: labels },
  ...more,
});
const together = (...terms: PodAffinityTerm[]): Affinity => ({
  podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: terms },
});
const apart = (...terms: PodAffinityTerm[]): Affinity => ({
  podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: terms },
});
const prefers = (
  kind: 'podAffinity' | 'podAntiAffinity',
  weight: number,
  podAffinityTerm: PodAffinityTerm,
): Affinity => ({
  [kind]: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight, podAffinityTerm }] },
});
/** All nodes on which it may be, by trying each alone. */
function allowed(pods: Pod[], pod: Pod, beside: Parameters<typeof cacheOf>[2] = {}): string[] {
  return zones
    .map(({ metadata }) => metadata.name)
    .filter((name) => {
      const pinned = { ...pod, spec: { ...pod.spec, nodeSelector: { [host]: name } } };
      return outcome(cacheOf(zones, pods, beside), pinned) === name;
    });
}

test('a domain is a value of the key: all its nodes count, and nodes without the key are none', () => {
  assert.deepEqual(allowed([on('a1')], makePod('p', { affinity: podAffinity('zone') })), ['a1', 'a2']);
  assert.deepEqual(allowed([on('a1')], makePod('p', { affinity: antiAffinity('zone') })), ['b1', 'none']);
  assert.deepEqual(allowed([on('a1')], makePod('p', { affinity: antiAffinity(host) })), ['a2', 'b1', 'none']);
  assert.deepEqual(allowed([on('none')], makePod('p', { affinity: podAffinity('zone') })), []);
});

test('all terms must hold; a Pod counts for several terms only where it matches each', () => {
  const both = makePod('p', { affinity: together(term({ app: 'a' }), term({ tier: 'x' }, { topologyKey: host })) });
  assert.deepEqual(allowed([on('a1', { app: 'a' }), on('a2', { tier: 'x' })], both), []);
  assert.deepEqual(allowed([on('a1', { app: 'a', tier: 'x' })], both), ['a1']);
  const neither = makePod('p', { affinity: apart(term({ app: 'a' }), term({ app: 'b' })) });
  assert.deepEqual(allowed([on('a1', { app: 'a' }), on('b1', { app: 'b' })], neither), ['none']);
});

test('the first of its kind may go anywhere where the key is; the second goes to the first', () => {
  const pod = makePod('p', { labels: { app: 'a' }, affinity: podAffinity('zone') });
  assert.deepEqual(allowed([], pod), ['a1', 'a2', 'b1']);
  assert.deepEqual(allowed([on('b1')], pod), ['b1']);
  assert.deepEqual(allowed([], makePod('p', { labels: { app: 'b' }, affinity: podAffinity('zone') })), []);
});

test('the aversion of those that run holds for whoever comes', () => {
  const averse = on('a1', {}, { affinity: antiAffinity('zone') });
  assert.deepEqual(allowed([averse], makePod('p', { labels: { app: 'a' } })), ['b1', 'none']);
  assert.deepEqual(allowed([averse], makePod('p', { labels: { app: 'b' } })), ['a1', 'a2', 'b1', 'none']);
});

test('one that is being deleted counts until it is gone', () => {
  const ending = on('a1');
  ending.metadata.deletionTimestamp = '2026-01-01T00:00:00Z';
  assert.deepEqual(allowed([ending], makePod('p', { affinity: antiAffinity(host) })), ['a2', 'b1', 'none']);
  assert.deepEqual(allowed([ending], makePod('p', { affinity: podAffinity(host) })), ['a1']);
});

test('namespaces are those of the term: its own by default, those that are named, those that a selector finds', () => {
  const namespace = (name: string, labels: Record<string, string>) =>
    sampleOf(kinds.Namespace, { metadata: { name, labels } });
  const namespaces = [namespace('x', { team: 'one' }), namespace('y', { team: 'two' })];
  const pods = [on('a1', { app: 'a' }, { namespace: 'x' }), on('b1', { app: 'a' }, { namespace: 'y' })];
  const cases: [Partial<PodAffinityTerm>, string[]][] = [
    [{}, []],
    [{ namespaces: ['x'] }, ['a1', 'a2']],
    [{ namespaceSelector: { matchLabels: { team: 'two' } } }, ['b1']],
    [{ namespaceSelector: {} }, ['a1', 'a2', 'b1']],
    [{ namespaces: ['x'], namespaceSelector: { matchLabels: { team: 'two' } } }, ['a1', 'a2', 'b1']],
  ];
  for (const [more, expected] of cases) {
    const pod = makePod('p', { affinity: together(term({ app: 'a' }, more)) });
    assert.deepEqual(allowed(pods, pod, { namespaces }), expected, JSON.stringify(more));
  }
});

test("keys of the Pod's own labels narrow or turn the selector", () => {
  const pods = [on('a1', { app: 'a', version: '1' }), on('b1', { app: 'a', version: '2' })];
  const pod = (more: Partial<PodAffinityTerm>): Pod =>
    makePod('p', { labels: { app: 'a', version: '1' }, affinity: apart(term({ app: 'a' }, more)) });
  assert.deepEqual(allowed(pods, pod({})), ['none']);
  assert.deepEqual(allowed(pods, pod({ matchLabelKeys: ['version'] })), ['b1', 'none']);
  assert.deepEqual(allowed(pods, pod({ mismatchLabelKeys: ['version'] })), ['a1', 'a2', 'none']);
  assert.deepEqual(allowed(pods, pod({ matchLabelKeys: ['absent'] })), ['none']);
});

test('what is preferred decides among nodes that are alike, and weights add up', () => {
  const nodes = [makeNode('a', { labels: { zone: 'a' } }), makeNode('b', { labels: { zone: 'b' } })];
  const running = [
    makePod('x', { node: 'a', labels: { app: 'x' } }),
    makePod('y', { node: 'b', labels: { app: 'y' } }),
  ];
  const chosen = (affinity: Affinity, pods: Pod[] = running): string =>
    outcome(cacheOf(nodes, pods), makePod('p', { labels: { app: 'p' }, affinity }));
  assert.equal(chosen(prefers('podAffinity', 10, term({ app: 'x' }))), 'a');
  assert.equal(chosen(prefers('podAffinity', 10, term({ app: 'y' }))), 'b');
  assert.equal(chosen(prefers('podAntiAffinity', 10, term({ app: 'x' }))), 'b');
  const mixed = {
    podAffinity: {
      preferredDuringSchedulingIgnoredDuringExecution: [
        { weight: 10, podAffinityTerm: term({ app: 'x' }) },
        { weight: 20, podAffinityTerm: term({ app: 'y' }) },
      ],
    },
  };
  assert.equal(chosen(mixed), 'b');
  // What those that run prefer of the one that comes counts, too.
  const wishing = [
    makePod('x', { node: 'a', affinity: prefers('podAntiAffinity', 50, term({ app: 'p' })) }),
    makePod('y', { node: 'b' }),
  ];
  assert.equal(chosen({}, wishing), 'b');
});
