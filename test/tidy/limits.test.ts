/** A bound that nothing enforces is none: every limit of a `limits.ts` is used by code. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

test('every limit is enforced somewhere, or is part of another', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && !/\.(test|suite)\.ts$/.test(path))
    .map((path) => ({ path, text: readFileSync(join(root, 'src', path), 'utf8') }));
  const idle: string[] = [];
  for (const { path, text } of sources.filter((source) => source.path.endsWith('limits.ts'))) {
    for (const [, name = ''] of text.matchAll(/^export const (\w+)/gm)) {
      const word = new RegExp(`\\b${name}\\b`, 'g');
      const usedHere = (text.match(word) ?? []).length > 1;
      if (!usedHere && !sources.some((source) => source.path !== path && new RegExp(`\\b${name}\\b`).test(source.text)))
        idle.push(`src/${path}: ${name}`);
    }
  }
  assert.deepEqual(idle, [], 'enforce them or delete them');
});
