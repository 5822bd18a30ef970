import { test } from 'node:test';
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { testSeed } from '#os/test-seed.ts';
import { heapPop, heapPush } from './heap.ts';

fc.configureGlobal({ seed: testSeed() });

const less = (a: number, b: number): boolean => a < b;

test('what goes in comes out in order, also when it goes in and out by turns', () => {
  fc.assert(
    fc.property(fc.array(fc.option(fc.integer())), (steps) => {
      const heap: number[] = [];
      const expected: number[] = [];
      for (const step of steps) {
        if (step === null) assert.equal(heapPop(heap, less), expected.sort((a, b) => a - b).shift());
        else {
          heapPush(heap, step, less);
          expected.push(step);
        }
      }
      expected.sort((a, b) => a - b);
      assert.deepEqual(
        expected.map(() => heapPop(heap, less)),
        expected,
      );
      assert.equal(heapPop(heap, less), undefined);
    }),
  );
});
