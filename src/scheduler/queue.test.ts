/** Which Pod comes next, and when one that did not fit is tried again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimClock } from '#os/clock.sim.ts';
import { podBackoffMs, podBackoffMsMax, unschedulableMsMax } from './limits.ts';
import { podInfoOf, type PodInfo } from './pod-info.ts';
import { SchedulingQueue, type ClusterEvent, type QueuedPod } from './queue.ts';
import { makePod } from './testing.ts';

interface Bench {
  clock: SimClock;
  queue: SchedulingQueue;
  /** How often somebody was told that there is work. */
  wakes(): number;
  put(name: string, priority?: number): PodInfo;
  /** Names of all that can be taken now, in order. */
  drain(): string[];
}

function open(): Bench {
  const clock = new SimClock(0);
  let woken = 0;
  const queue = new SchedulingQueue(clock, () => {
    woken++;
  });
  return {
    clock,
    queue,
    wakes: () => woken,
    put(name, priority = 0) {
      const info = podInfoOf(makePod(name, { priority }));
      queue.put(info, false);
      return info;
    },
    drain() {
      const names: string[] = [];
      for (let next = queue.pop(); next !== undefined; next = queue.pop()) names.push(next.info.pod.metadata.name);
      return names;
    },
  };
}

/** Takes the next one, which no node fits for these reasons. */
function fail({ queue }: Bench, ...plugins: string[]): QueuedPod {
  const entry = queue.pop()!;
  queue.putUnschedulable(entry, new Set(plugins));
  return entry;
}

test('the highest priority comes first, and of equals the oldest', () => {
  const bench = open();
  for (const [name, priority] of [
    ['a', 0],
    ['b', 5],
    ['c', -1],
    ['d', 5],
    ['e', 0],
    ['f', 9],
  ] as const)
    bench.put(name, priority);
  assert.deepEqual(bench.drain(), ['f', 'b', 'd', 'a', 'e', 'c']);
  assert.equal(bench.queue.pop(), undefined);
});

test('one that was removed is not taken; its name may come again', () => {
  const bench = open();
  bench.put('a');
  bench.put('b');
  bench.queue.remove('default/a');
  assert.deepEqual(bench.queue.lengths, { active: 1, backoff: 0, unschedulable: 0 });
  const again = bench.put('a');
  assert.deepEqual([bench.queue.has('default/a'), bench.drain()], [true, ['b', 'a']]);
  bench.queue.put(again, false);
  bench.queue.put(podInfoOf(makePod('a')), false);
  assert.deepEqual(bench.drain(), ['a'], 'the next one of the name takes the place of the one before');
});

test('a newer version of one that waits keeps its turn and is what is taken', () => {
  const bench = open();
  const first = bench.put('a');
  bench.put('b');
  bench.queue.put({ ...first, labels: { new: 'yes' } }, false);
  const taken = bench.queue.pop()!;
  assert.deepEqual([taken.info.key, taken.info.labels, taken.attempts], ['default/a', { new: 'yes' }, 1]);
});

test('one that fits nowhere waits until an event may help, and no longer than its back-off then', async () => {
  const bench = open();
  bench.put('a');
  fail(bench, 'NodeResourcesFit');
  assert.deepEqual(bench.queue.lengths, { active: 0, backoff: 0, unschedulable: 1 });
  bench.queue.onEvent('PodRemoved');
  assert.deepEqual(bench.queue.lengths, { active: 0, backoff: 1, unschedulable: 0 }, 'its back-off is not over');
  await bench.clock.advance(podBackoffMs - 1);
  assert.deepEqual(bench.drain(), []);
  const before = bench.wakes();
  await bench.clock.advance(1);
  assert.deepEqual([bench.wakes() - before, bench.drain()], [1, ['a']]);
});

test('an event that comes after the back-off has the Pod tried at once', async () => {
  const bench = open();
  bench.put('a');
  fail(bench, 'NodeResourcesFit');
  await bench.clock.advance(podBackoffMs);
  assert.deepEqual(bench.drain(), [], 'time alone does not help');
  bench.queue.onEvent('PodRemoved');
  assert.deepEqual(bench.drain(), ['a']);
});

test('back-off doubles with each attempt up to its bound, and each Pod has its own', async () => {
  const bench = open();
  bench.put('a');
  let entry = fail(bench, 'NodePorts');
  for (let wanted = podBackoffMs; ; wanted = Math.min(wanted * 2, podBackoffMsMax)) {
    bench.queue.onEvent('NodeChanged');
    await bench.clock.advance(wanted - 1);
    assert.deepEqual(bench.queue.lengths, { active: 0, backoff: 1, unschedulable: 0 }, `${wanted} ms`);
    await bench.clock.advance(1);
    assert.equal(bench.queue.lengths.active, 1, `${wanted} ms`);
    if (entry.attempts > 6) break;
    entry = fail(bench, 'NodePorts');
  }
  assert.equal(bench.queue.pop(), entry);
  bench.put('b');
  bench.queue.putUnschedulable(entry, new Set(['NodePorts']));
  fail(bench, 'NodePorts');
  bench.queue.onEvent('NodeChanged');
  await bench.clock.advance(podBackoffMs);
  assert.deepEqual(bench.drain(), ['b']);
  await bench.clock.advance(podBackoffMsMax - podBackoffMs);
  assert.deepEqual(bench.drain(), ['a']);
});

test('each event wakes those whose filters it may have changed, and no others', async () => {
  const wakers: Record<string, ClusterEvent[]> = {
    NodeUnschedulable: ['NodeChanged'],
    NodeName: ['NodeChanged'],
    TaintToleration: ['NodeChanged'],
    NodeAffinity: ['NodeChanged'],
    NodePorts: ['NodeChanged', 'PodRemoved'],
    NodeResourcesFit: ['NodeChanged', 'PodRemoved', 'PodResized'],
    PodTopologySpread: ['NodeChanged', 'NodeRemoved', 'PodRemoved', 'PodAdded', 'PodChanged'],
    InterPodAffinity: ['NodeChanged', 'PodRemoved', 'PodAdded', 'PodChanged', 'NamespaceChanged'],
    VolumeBinding: ['NodeChanged', 'VolumeChanged'],
    VolumeZone: ['NodeChanged', 'VolumeChanged'],
  };
  const events: ClusterEvent[] = [
    'NodeChanged',
    'NodeRemoved',
    'PodAdded',
    'PodChanged',
    'PodResized',
    'PodRemoved',
    'VolumeChanged',
    'NamespaceChanged',
  ];
  for (const [plugin, expected] of Object.entries(wakers))
    for (const event of events) {
      const bench = open();
      bench.put('a');
      fail(bench, plugin);
      await bench.clock.advance(podBackoffMs);
      bench.queue.onEvent(event);
      assert.deepEqual(bench.drain(), expected.includes(event) ? ['a'] : [], `${plugin} at ${event}`);
    }
});

test('one that several filters rejected is woken by what helps any of them; by all where it is not known', async () => {
  const bench = open();
  bench.put('a');
  bench.put('b');
  fail(bench, 'VolumeBinding', 'NodePorts');
  fail(bench);
  await bench.clock.advance(podBackoffMs);
  bench.queue.onEvent('NamespaceChanged');
  assert.deepEqual(bench.drain(), ['b']);
  bench.queue.onEvent('VolumeChanged');
  assert.deepEqual(bench.drain(), ['a']);
});

test('what no event brings back is tried again after a long time', async () => {
  const bench = open();
  bench.put('a');
  fail(bench, 'NodeName');
  await bench.clock.advance(1000);
  bench.put('b');
  fail(bench, 'NodeName');
  await bench.clock.advance(unschedulableMsMax - 1001);
  assert.deepEqual(bench.drain(), []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.drain(), ['a']);
  await bench.clock.advance(1000);
  assert.deepEqual(bench.drain(), ['b']);
  assert.equal(bench.clock.pending, 0, 'nothing waits any more');
});

test('a failed write is tried again after a back-off, whatever happens meanwhile', async () => {
  const bench = open();
  bench.put('a');
  bench.queue.putBackoff(bench.queue.pop()!);
  bench.queue.onEvent('NodeChanged');
  await bench.clock.advance(podBackoffMs - 1);
  assert.deepEqual(bench.drain(), []);
  await bench.clock.advance(1);
  assert.deepEqual(bench.drain(), ['a']);
});

test('a Pod that asks for something else is tried at once; one that backs off is not', async () => {
  const bench = open();
  const info = bench.put('a');
  fail(bench, 'NodeResourcesFit');
  bench.queue.put(info, false);
  assert.deepEqual(bench.drain(), [], 'nothing of it has changed');
  bench.queue.put(info, true);
  const entry = bench.queue.pop()!;
  assert.equal(entry.attempts, 2);
  bench.queue.putBackoff(entry);
  bench.queue.put(info, true);
  assert.deepEqual(bench.drain(), []);
  await bench.clock.advance(2 * podBackoffMs);
  assert.deepEqual(bench.drain(), ['a']);
});

test('what came anew under a name is not replaced by the outcome of the one before', () => {
  const bench = open();
  bench.put('a');
  const before = bench.queue.pop()!;
  const next = bench.put('a');
  bench.queue.putUnschedulable(before, new Set(['NodeName']));
  bench.queue.putBackoff(before);
  assert.deepEqual(bench.queue.lengths, { active: 1, backoff: 0, unschedulable: 0 });
  assert.equal(bench.queue.pop()!.info, next);
});

test('a queue that is stopped wakes nobody', async () => {
  const bench = open();
  bench.put('a');
  fail(bench, 'NodeName');
  bench.queue.stop();
  const before = bench.wakes();
  await bench.clock.advance(2 * unschedulableMsMax);
  assert.equal(bench.wakes(), before);
});
