/** What the compiler cannot check only shrinks: `type-ceilings.json` holds each folder's count. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { lacks } from './sources.ts';
import { countTypes, excess, readCeilings } from './type-counts.ts';

test(
  'what the compiler cannot check does not grow, and its ceilings follow it down',
  { skip: lacks('@oxlint') },
  () => {
    const [counts, ceilings] = [countTypes(), readCeilings()];
    assert.deepEqual(excess(counts, ceilings), [], 'give it a type; narrow what is unknown (base/unknown.ts)');
    assert.deepEqual(excess(ceilings, counts), [], 'fewer than allowed, which is good: npm run ceilings');
  },
);
