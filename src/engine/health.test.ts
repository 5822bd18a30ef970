import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nextHealth, parseHealthCheck } from './health.ts';

const check = parseHealthCheck({ Test: ['CMD-SHELL', 'true'], Retries: 2, StartPeriod: 5_000_000_000 })!;

test('a shell check runs by the shell, and NONE is no check', () => {
  assert.deepEqual(check.command, ['/bin/sh', '-c', 'true']);
  assert.equal(check.intervalMs, 30_000);
  assert.equal(parseHealthCheck({ Test: ['NONE'] }), undefined);
});

test('failures within the start period count for nothing', () => {
  assert.deepEqual(nextHealth({ status: 'starting', failingStreak: 0, log: [] }, check, 1, 1000), {
    status: 'starting',
    failingStreak: 0,
  });
});

test('enough failures in a row make it unhealthy, one success healthy', () => {
  assert.deepEqual(nextHealth({ status: 'healthy', failingStreak: 0, log: [] }, check, 1, 9000), {
    status: 'healthy',
    failingStreak: 1,
  });
  assert.deepEqual(nextHealth({ status: 'healthy', failingStreak: 1, log: [] }, check, 1, 9000), {
    status: 'unhealthy',
    failingStreak: 2,
  });
  assert.deepEqual(nextHealth({ status: 'unhealthy', failingStreak: 5, log: [] }, check, 0, 9000), {
    status: 'healthy',
    failingStreak: 0,
  });
});
