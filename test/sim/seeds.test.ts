/** Seeds under faults; more with `npm run simulate -- --seeds N --minutes M`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { describeFailure, simulate } from '#sim/simulate.ts';

const minutes = 2;

for (let seed = 1; seed <= 12; seed++) {
  test(`every invariant holds under faults with seed ${seed}`, async () => {
    const result = await simulate({ seed, minutes });
    assert.equal(result.violations.length, 0, describeFailure(result, minutes));
  });
}

test('a seed gives one history', async () => {
  assert.equal((await simulate({ seed: 3, minutes: 1 })).hash, (await simulate({ seed: 3, minutes: 1 })).hash);
});
