/**
 * Every step of docs/walks stands in the code, in the file that the walk names, and no tag in the code is without its
 * step.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

function walks(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const file of readdirSync(join(root, 'docs/walks')).filter((name) => name.endsWith('.md'))) {
    const steps = [...readFileSync(join(root, 'docs/walks', file), 'utf8').matchAll(/^(\d+)\. `([^`]+)`/gm)].map(
      (match) => match[2]!,
    );
    found.set(file.replace('.md', ''), steps);
  }
  return found;
}

test('each step of a walk is tagged in the file it names', () => {
  for (const [name, steps] of walks()) {
    assert.ok(steps.length > 2, `${name} has steps`);
    steps.forEach((file, index) =>
      assert.ok(
        readFileSync(join(root, file), 'utf8').includes(`// walk ${name} ${index + 1}/${steps.length}:`),
        `${file} has no comment "walk ${name} ${index + 1}/${steps.length}"`,
      ),
    );
  }
});

test('each tag in the code belongs to a walk', () => {
  const known = walks();
  for (const path of readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  )) {
    for (const match of readFileSync(join(root, 'src', path), 'utf8').matchAll(/\/\/ walk ([\w-]+) (\d+)\/(\d+):/g)) {
      assert.equal(known.get(match[1]!)?.length, Number(match[3]), `src/${path}: ${match[0]}`);
      assert.equal(known.get(match[1]!)![Number(match[2]) - 1], `src/${path}`, match[0]);
    }
  }
});
