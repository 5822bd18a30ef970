import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isShort, nextDiskPressure } from './disk-pressure.ts';
import { diskPressureTransitionMs } from './limits.ts';

const disk = (bavail: number, ffree = 100): Parameters<typeof isShort>[0] => ({
  blocks: 1000,
  bavail,
  files: 100,
  ffree,
});

test('a disk is short of blocks or of inodes; a file system without a number of inodes is not', () => {
  assert.deepEqual([disk(50), disk(49), disk(500, 4), { ...disk(500), files: 0, ffree: 0 }].map(isShort), [
    false,
    true,
    true,
    false,
  ]);
});

test('pressure is told at once, and its end when no sign of it was seen for a while', () => {
  let state = nextDiskPressure({ isUnder: false, lastSignMs: undefined }, disk(500), 0);
  assert.equal(state.isUnder, false);
  state = nextDiskPressure(state, disk(10), 1_000);
  assert.equal(state.isUnder, true);
  state = nextDiskPressure(state, disk(500), 2_000);
  assert.equal(state.isUnder, true);
  state = nextDiskPressure(state, disk(10), 3_000);
  state = nextDiskPressure(state, disk(500), 3_000 + diskPressureTransitionMs - 1);
  assert.equal(state.isUnder, true);
  assert.equal(nextDiskPressure(state, disk(500), 3_000 + diskPressureTransitionMs).isUnder, false);
});
