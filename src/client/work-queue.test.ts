import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { settle, SimClock } from '#os/clock.sim.ts';
import { WorkQueue } from './work-queue.ts';

test('a key runs once for a burst, and once more when added while it runs', async () => {
  const clock = new SimClock(0);
  const runs: string[] = [];
  const queue = new WorkQueue({
    name: 't',
    clock,
    log: silentLogger,
    reconcile: async (key) => {
      runs.push(key);
      await clock.sleep(10);
    },
  });
  queue.add('a');
  queue.add('a');
  queue.add('b');
  await settle();
  queue.add('a');
  queue.add('a');
  assert.deepEqual(runs, ['a']);
  await clock.advance(100);
  assert.deepEqual(runs, ['a', 'b', 'a']);
  assert.equal(queue.isIdle, true);
});

test('failures come back with doubling delays until they pass', async () => {
  const clock = new SimClock(0);
  const at: number[] = [];
  const queue = new WorkQueue({
    name: 't',
    clock,
    log: silentLogger,
    reconcile: async () => {
      at.push(clock.now());
      if (at.length < 4) throw new Error('no');
    },
  });
  queue.add('a');
  await clock.advance(1000);
  assert.deepEqual(at, [0, 5, 15, 35]);
});

test('of several delays the shortest counts, and stop ends them', async () => {
  const clock = new SimClock(0);
  const at: number[] = [];
  const queue = new WorkQueue({
    name: 't',
    clock,
    log: silentLogger,
    reconcile: async () => {
      at.push(clock.now());
      return at.length === 1 ? { requeueAfterMs: 50 } : undefined;
    },
  });
  queue.addAfter('a', 100);
  queue.addAfter('a', 30);
  queue.addAfter('a', 70);
  await clock.advance(1000);
  assert.deepEqual(at, [30, 80]);
  queue.addAfter('a', 10);
  await queue.stop();
  await clock.advance(100);
  assert.deepEqual(at, [30, 80]);
});

test('no more keys run at once than the concurrency allows', async () => {
  const clock = new SimClock(0);
  let active = 0;
  let most = 0;
  const queue = new WorkQueue({
    name: 't',
    clock,
    log: silentLogger,
    concurrency: 3,
    reconcile: async () => {
      active++;
      most = Math.max(most, active);
      await clock.sleep(1);
      active--;
    },
  });
  for (let i = 0; i < 20; i++) queue.add(String(i));
  await clock.advance(100);
  assert.equal(most, 3);
  assert.equal(queue.stats.processed, 20);
});
