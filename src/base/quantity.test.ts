import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addQuantities,
  canonicalQuantity,
  compareQuantities,
  formatQuantity,
  isQuantity,
  milliOf,
  parseQuantity,
  wholeOf,
} from './quantity.ts';

test('quantities print in canonical form', () => {
  const cases: [string | number, string][] = [
    ['0', '0'],
    ['1000m', '1'],
    ['1500m', '1500m'],
    ['0.5', '500m'],
    ['1024Mi', '1Gi'],
    ['1.5Gi', '1536Mi'],
    ['1000', '1k'],
    ['1e3', '1e3'],
    ['12e6', '12e6'],
    ['1E', '1E'],
    ['100Ki', '100Ki'],
    ['1023Ki', '1023Ki'],
    ['0.5Ki', '512'],
    ['0.1Mi', '104858'],
    ['-1500m', '-1500m'],
    ['+2', '2'],
    ['.5', '500m'],
    ['5.', '5'],
    ['1n', '1n'],
    ['0.1n', '1n'],
    ['99999999999999999999', '99999999999999999999'],
    ['100E', '100E'],
    // Only binary amounts have a bound.
    ['9Ei', '9223372036854775807'],
    [2, '2'],
    [0.25, '250m'],
    ['123456789', '123456789'],
    ['1E3', '1e3'],
    ['1025', '1025'],
    ['0Gi', '0'],
  ];
  for (const [input, expected] of cases) assert.equal(canonicalQuantity(input), expected, String(input));
});

test('what is not a quantity is refused', () => {
  for (const input of ['', 'x', '1.2.3', '1Kii', '1 Gi', '--1', '.', '1e', 'Gi', '0x10', '1mm'])
    assert.equal(isQuantity(input), false, input);
});

test('quantities compare by value across suffixes', () => {
  assert.equal(compareQuantities('1Gi', '1024Mi'), 0);
  assert.equal(compareQuantities('1G', '1Gi'), -1);
  assert.equal(compareQuantities('2', '1999m'), 1);
});

test('sums keep the family of the first that is not zero', () => {
  assert.equal(formatQuantity(addQuantities(parseQuantity('1Gi'), parseQuantity('512Mi'))), '1536Mi');
  assert.equal(formatQuantity(addQuantities(parseQuantity('0'), parseQuantity('512Mi'))), '512Mi');
  assert.equal(formatQuantity(addQuantities(parseQuantity('100m'), parseQuantity('900m'))), '1');
});

test('numbers for arithmetic are rounded up', () => {
  assert.equal(milliOf('100m'), 100);
  assert.equal(milliOf('1'), 1000);
  assert.equal(milliOf('0.0001'), 1);
  assert.equal(milliOf('2k'), 2_000_000);
  assert.equal(wholeOf('1Gi'), 1_073_741_824);
  assert.equal(wholeOf('1500m'), 2);
  assert.equal(wholeOf('0.5Gi'), 536_870_912);
  assert.equal(wholeOf(undefined), 0);
});
