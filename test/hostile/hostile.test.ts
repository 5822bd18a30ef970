/** Runs every row of `*.rows.ts`: what is small stays small, whoever sends it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { HostileRow } from './row.ts';

const here = resolve(fileURLToPath(import.meta.url), '..');
const root = resolve(here, '../..');

for (const file of readdirSync(here)
  .filter((name) => name.endsWith('.rows.ts'))
  .sort()) {
  const { rows } = (await import(join(here, file))) as { rows: HostileRow[] };
  for (const row of rows) {
    test(`${row.name}: ${row.input}`, { timeout: 60_000 }, async () => {
      const [path = '', name = ''] = row.bound.split('#');
      assert.match(
        readFileSync(join(root, path), 'utf8'),
        new RegExp(`export const ${name}\\b`),
        `${row.bound} is not exported there`,
      );
      assert.match(await row.run(), row.answer);
    });
  }
}
