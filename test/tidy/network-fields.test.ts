/**
 * Nothing of `docker network create` is accepted in silence: each field of the body is read where networks are made, or
 * is on the list with its reason.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { networkShape } from '#docker/shapes.ts';
import { parseSource, walk } from './parse.ts';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

const exceptions: Record<string, string> = {
  CheckDuplicate: 'names are unique whatever it says, as in every version of the API since 1.44',
};

/** Names of all fields at and below a shape. */
function names(shape: unknown): string[] {
  if (typeof shape !== 'object' || shape === null) return [];
  const own = 'fields' in shape ? Object.keys(shape.fields as object) : [];
  return [
    ...own,
    ...Object.values(shape).flatMap((inner) =>
      typeof inner === 'object' && inner !== null
        ? ('fields' in shape && inner === shape.fields ? Object.values(inner) : [inner]).flatMap(names)
        : [],
    ),
  ];
}

test('every field of a network is read, or is on the list with its reason', () => {
  const words = new Set(
    [...walk(parseSource(readFileSync(join(root, 'src/docker/networks.ts'), 'utf8')))].flatMap((node) =>
      node.type === 'Identifier' ? [String(node['name'])] : [],
    ),
  );
  const all = names(networkShape);
  assert.ok(all.includes('Subnet') && all.includes('EnableIPv4'));
  assert.deepEqual(
    [...new Set(all)].filter((name) => !words.has(name) && !(name in exceptions)),
    [],
  );
  assert.deepEqual(
    Object.keys(exceptions).filter((name) => words.has(name) || !all.includes(name)),
    [],
  );
});
