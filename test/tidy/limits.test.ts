/** A bound that nothing enforces is none: every limit of a `limits.ts` is used by code. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { sourcesOf } from './sources.ts';

test('every limit is enforced somewhere, or is part of another', () => {
  const sources = sourcesOf('src').filter(({ isTest }) => !isTest);
  const idle: string[] = [];
  for (const { path, text } of sources.filter((source) => source.path.endsWith('limits.ts'))) {
    for (const [, name = ''] of text.matchAll(/^export const (\w+)/gm)) {
      const word = new RegExp(`\\b${name}\\b`, 'g');
      const usedHere = (text.match(word) ?? []).length > 1;
      if (!usedHere && !sources.some((source) => source.path !== path && new RegExp(`\\b${name}\\b`).test(source.text)))
        idle.push(`${path}: ${name}`);
    }
  }
  assert.deepEqual(idle, [], 'enforce them or delete them');
});
