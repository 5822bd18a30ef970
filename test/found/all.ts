/** Reads every `*.cases.ts` of this folder. */
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { FoundCase } from './case.ts';

const here = resolve(fileURLToPath(import.meta.url), '..');
export const root = resolve(here, '../..');

export async function allCases(): Promise<FoundCase[]> {
  const files = readdirSync(here)
    .filter((name) => name.endsWith('.cases.ts'))
    .sort();
  const lists = await Promise.all(
    files.map(async (file) => ((await import(join(here, file))) as { cases: FoundCase[] }).cases),
  );
  return lists.flat();
}
