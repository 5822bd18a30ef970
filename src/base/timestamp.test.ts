import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatNanoseconds, parseRfc3339 } from './timestamp.ts';

test('a time is read to the nanosecond, whatever its zone', () => {
  assert.equal(parseRfc3339('1970-01-01T00:00:01.000000001Z'), 1_000_000_001n);
  assert.equal(parseRfc3339('1970-01-01T02:00:00.5+02:00'), 500_000_000n);
  assert.equal(parseRfc3339('1969-12-31T23:59:59.9Z'), -100_000_000n);
  assert.equal(parseRfc3339('1970-01-01t00:00:00z'), 0n);
  for (const text of [
    '',
    '2026-01-01',
    '2026-02-30T00:00:00Z',
    '2026-01-01T24:00:00Z',
    '2026-01-01T00:00:00',
    'x2026-01-01T00:00:00Z',
  ])
    assert.equal(parseRfc3339(text), undefined, text);
});

test('texts of times compare as the times do', () => {
  const times = [
    -(10n ** 30n),
    -1_500_000_001n,
    -1n,
    0n,
    1n,
    999_999_999n,
    1_000_000_000n,
    1_795_848_791_933_000_001n,
    10n ** 30n,
  ];
  const shown = times.map(formatNanoseconds);
  assert.deepEqual([...shown].sort(), shown);
  for (const time of times.slice(1, -1)) assert.equal(parseRfc3339(formatNanoseconds(time)), time);
});
