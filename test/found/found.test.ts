/** Every case names a test that exists, once. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { allCases, root } from './all.ts';

test('each case is a test that exists, or says what it waits for', async () => {
  const wrong: string[] = [];
  const seen = new Set<string>();
  for (const item of await allCases()) {
    if (seen.has(item.id)) wrong.push(`${item.id}: named twice`);
    seen.add(item.id);
    if ('waits' in item) continue;
    const path = join(root, item.file);
    if (!existsSync(path)) wrong.push(`${item.id}: no file ${item.file}`);
    else if (!readFileSync(path, 'utf8').includes(item.title))
      wrong.push(`${item.id}: ${item.file} has no test '${item.title}'`);
  }
  assert.deepEqual(wrong, []);
});
