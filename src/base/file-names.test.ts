import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { testSeed } from '#os/test-seed.ts';
import { decodeFileName, decodeQueryName, encodeFileName } from './file-names.ts';

fc.configureGlobal({ seed: testSeed() });

test('any bytes come back as they were, and no two names fall together', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.uint8Array({ maxLength: 40 }), (a, b) => {
      assert.deepEqual([...encodeFileName(decodeFileName(a))], [...a]);
      assert.equal(decodeFileName(a) === decodeFileName(b), Buffer.compare(a, b) === 0);
    }),
    { numRuns: 2000 },
  );
});

test('names in UTF-8 are read as ever, and the bytes around them are kept', () => {
  const cases: [number[] | string, string][] = [
    ['ü😀�', 'ü😀�'],
    [[0x61, 0xe4], 'a\udce4'],
    [[0xe4, 0x2f, 0xc3, 0xbc], '\udce4/ü'],
    [[0xed, 0xa0, 0x80], '\udced\udca0\udc80'],
    [[0xc0, 0xaf], '\udcc0\udcaf'],
    [[0xf0, 0x9f, 0x98], '\udcf0\udc9f\udc98'],
  ];
  for (const [bytes, name] of cases)
    assert.equal(decodeFileName(typeof bytes === 'string' ? Buffer.from(bytes) : Uint8Array.from(bytes)), name);
});

test('a query names files by their bytes', () => {
  assert.deepEqual(['a%E4', '%C3%BC+x', 'plain', '%zz', '%'].map(decodeQueryName), [
    'a\udce4',
    'ü x',
    'plain',
    undefined,
    undefined,
  ]);
});
