import { test } from 'node:test';
import assert from 'node:assert/strict';
import { cleanPath } from './clean-path.ts';
import { formatDuration } from './duration.ts';

test('paths are cleaned as Go cleans them', () => {
  const cases = {
    '': '.',
    '/': '/',
    '//a//b/': '/a/b',
    '/a/./b/../c': '/a/c',
    '/../a': '/a',
    '../a/..': '..',
    'a/..': '.',
    '/tmp/': '/tmp',
  };
  for (const [path, clean] of Object.entries(cases)) assert.equal(cleanPath(path), clean, path);
});

test('durations are printed as Go prints them', () => {
  const cases = { 0: '0s', 50: '50ms', 1500: '1.5s', 60_000: '1m0s', 3_630_000: '1h0m30s' };
  for (const [ms, text] of Object.entries(cases)) assert.equal(formatDuration(Number(ms)), text);
});
