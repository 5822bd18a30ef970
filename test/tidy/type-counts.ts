/**
 * What the compiler is not asked, or told to believe, counted by the linter: accesses on `any`, `as` (but `as const`),
 * `!`, `Record<string, unknown>`, `Function`, `any`, comments that silence it. Tests are not counted.
 *
 * `npm run ceilings` writes what `type-ceilings.json` allows, when it has become less.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** How often each rule is broken in each folder of `src`. */
export type TypeCounts = Record<string, Record<string, number>>;

interface Diagnostic {
  code: string;
  filename: string;
}

const root = resolve(fileURLToPath(import.meta.url), '../../..');
const ceilingsFile = join(root, 'test/tidy/type-ceilings.json');
const byName = ([a]: [string, unknown], [b]: [string, unknown]): number => (a < b ? -1 : 1);

export function countTypes(): TypeCounts {
  const { stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/.bin/oxlint'), '--config', 'test/tidy/types.oxlintrc.json', '--format', 'json', 'src'],
    { cwd: root, encoding: 'utf8', maxBuffer: 256 * 1024 * 1024 },
  );
  if (stdout === '') throw new Error(stderr);
  const { diagnostics }: { diagnostics: Diagnostic[] } = JSON.parse(stdout);
  const counts: TypeCounts = {};
  for (const { code, filename } of diagnostics) {
    if (/\.(test|suite)\.ts$/.test(filename)) continue;
    const rule = code.replace(/^.*\((.*)\)$/, '$1');
    const [, folder = ''] = filename.split('/');
    const ofRule = (counts[rule] ??= {});
    ofRule[folder] = (ofRule[folder] ?? 0) + 1;
  }
  return Object.fromEntries(
    Object.entries(counts)
      .sort(byName)
      .map(([rule, folders]) => [rule, Object.fromEntries(Object.entries(folders).sort(byName))]),
  );
}

export function readCeilings(): TypeCounts {
  return JSON.parse(readFileSync(ceilingsFile, 'utf8'));
}

/** Where one is above the other, each with both numbers. */
export function excess(counts: TypeCounts, limits: TypeCounts): string[] {
  return Object.entries(counts).flatMap(([rule, folders]) =>
    Object.entries(folders).flatMap(([folder, count]) => {
      const limit = limits[rule]?.[folder] ?? 0;
      return count > limit ? [`${rule} in src/${folder}: ${count}, not ${limit}`] : [];
    }),
  );
}

if (import.meta.main) {
  const counts = countTypes();
  const more = excess(counts, readCeilings());
  if (more.length > 0) throw new Error(`more than before:\n${more.join('\n')}`);
  writeFileSync(ceilingsFile, `${JSON.stringify(counts, undefined, 2)}\n`);
}
