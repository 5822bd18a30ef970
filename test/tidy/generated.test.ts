/** What is generated and committed is what its generator writes. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { apiFiles, apiFilesPresent } from '#schema/generate-api.ts';

test('the interfaces of the API are what src/schema/data says', () => {
  const [made, present] = [apiFiles(), apiFilesPresent()];
  const stale = [...new Set([...made.keys(), ...present.keys()])].filter(
    (name) => made.get(name) !== present.get(name),
  );
  assert.deepEqual(stale, [], 'npm run generate');
});
