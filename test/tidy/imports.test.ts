/** The structure of `src` against `src/deps.ts`: imports, cycles, and what only `os` may touch. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSource, walk } from './parse.ts';
import { deps } from '#deps.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const src = join(root, 'src');

interface Source {
  path: string;
  folder: string;
  text: string;
  isTest: boolean;
}

function sources(): Source[] {
  return readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts') && path.includes('/'))
    .map((path) => ({
      path,
      folder: path.split('/')[0]!,
      text: readFileSync(join(src, path), 'utf8'),
      isTest: /\.(test|suite)\.ts$/.test(path) || path.includes('/testing/'),
    }));
}

/**
 * Import specifiers with their line numbers: those that run from the parsed code, those of types alone from the text.
 */
function importsOf(source: Source): { specifier: string; line: number }[] {
  const lineAt = (offset: number): number => source.text.slice(0, offset).split('\n').length;
  const found: { specifier: string; line: number }[] = [];
  for (const node of walk(parseSource(source.text))) {
    const from = node['source'] as { value?: unknown } | null | undefined;
    if (
      ['ImportDeclaration', 'ImportExpression', 'ExportNamedDeclaration', 'ExportAllDeclaration'].includes(node.type) &&
      typeof from?.value === 'string'
    )
      found.push({ specifier: from.value, line: lineAt(node.start) });
  }
  for (const match of source.text.matchAll(/^import type [^'"]*? from '([^']+)'/gm))
    found.push({ specifier: match[1]!, line: lineAt(match.index) });
  return found;
}

test('every import is allowed by src/deps.ts', () => {
  const wrong: string[] = [];
  for (const source of sources()) {
    const rule = deps[source.folder];
    if (rule === undefined) {
      wrong.push(`src/${source.path}: folder '${source.folder}' has no line in src/deps.ts`);
      continue;
    }
    if (source.isTest) continue;
    for (const { specifier, line } of importsOf(source)) {
      const at = `src/${source.path}:${line}: imports ${specifier}`;
      const edit = `edit the line '${source.folder}:' of src/deps.ts, or move the code`;
      if (specifier.startsWith('#')) {
        const folder = specifier.slice(1).split('/')[0]!;
        if (folder !== source.folder && !rule.folders.includes(folder) && !rule.folders.includes('*'))
          wrong.push(`${at}; ${edit}`);
      } else if (specifier.startsWith('.')) {
        const target = relative(src, join(src, dirname(source.path), specifier));
        if (target.split('/')[0] !== source.folder) wrong.push(`${at}; write '#${target}'`);
      } else if (specifier.startsWith('node:')) {
        if (!rule.builtins.includes(specifier) && !rule.builtins.includes('*')) wrong.push(`${at}; ${edit}`);
      } else {
        const name = specifier.startsWith('@') ? specifier.split('/').slice(0, 2).join('/') : specifier.split('/')[0]!;
        if (!rule.packages.includes(name)) wrong.push(`${at}; ${edit}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test('the table of folders has no cycle', () => {
  const state = new Map<string, 'open' | 'done'>();
  const visit = (folder: string, path: string[]): void => {
    if (state.get(folder) === 'done') return;
    assert.notEqual(state.get(folder), 'open', `cycle: ${[...path, folder].join(' -> ')}`);
    state.set(folder, 'open');
    for (const next of deps[folder]?.folders ?? []) if (next !== '*') visit(next, [...path, folder]);
    state.set(folder, 'done');
  };
  for (const folder of Object.keys(deps)) visit(folder, []);
});

/** What only `os` may call, with what to use instead. */
const banned: [RegExp, string][] = [
  [/\bDate\.now\(/, 'clock.now()'],
  [/\bnew Date\(\)/, 'new Date(clock.now())'],
  [/(?<![.\w])setTimeout\(/, 'clock.setTimer or clock.sleep'],
  [/(?<![.\w])setInterval\(/, 'clock.setTimer'],
  [/\bMath\.random\(/, 'random.float()'],
  [/\brandomUUID\(/, 'random.uuid()'],
  [/\brandomBytes\(/, 'random.bytes()'],
  [/from 'node:child_process'/, '#os/process.ts'],
];

test('only os reads the clock, draws chance and spawns processes', () => {
  const wrong: string[] = [];
  for (const source of sources()) {
    if (source.folder === 'os' || source.isTest) continue;
    source.text.split('\n').forEach((line, index) => {
      if (/^\s*(\/\/|\*|\/\*)/.test(line)) return;
      for (const [pattern, instead] of banned)
        if (pattern.test(line)) wrong.push(`src/${source.path}:${index + 1}: ${pattern.source}; use ${instead}`);
    });
  }
  assert.deepEqual(wrong, []);
});
