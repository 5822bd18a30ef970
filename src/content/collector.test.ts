import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { SimClock, settle } from '#os/clock.sim.ts';
import { keepCollected } from './collector.ts';
import { collectEveryMs } from './limits.ts';

test('content is collected at once and every minute, also after a collection that failed, until the end', async () => {
  const clock = new SimClock(0);
  let collections = 0;
  const content = {
    collect: async () => {
      if (++collections === 1) throw new Error('disk');
      return 0;
    },
  };
  const kept = keepCollected(content, { clock, log: silentLogger });
  await settle();
  assert.equal(collections, 1);
  await clock.advance(2 * collectEveryMs);
  assert.equal(collections, 3);
  await kept[Symbol.asyncDispose]();
  await clock.advance(2 * collectEveryMs);
  assert.equal(collections, 3);
});
