/** The structure of `src` against `src/deps.ts`: imports, cycles, and what only `os` may touch. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { deps } from '#deps.ts';
import { fileOf, importsOf, root, sourcesOf } from './sources.ts';
import type { Source } from './sources.ts';

/** What a module needs leave for: a folder, a package or a built-in; undefined for its own folder. */
function permissionOf(
  source: Source,
  specifier: string,
): { kind: 'folders' | 'packages' | 'builtins'; name: string } | undefined {
  const file = fileOf(source, specifier);
  if (file !== undefined) {
    const folder = file.split('/')[1]!;
    return folder === source.folder ? undefined : { kind: 'folders', name: folder };
  }
  if (specifier.startsWith('node:')) return { kind: 'builtins', name: specifier };
  return {
    kind: 'packages',
    name: specifier
      .split('/')
      .slice(0, specifier.startsWith('@') ? 2 : 1)
      .join('/'),
  };
}

/** Modules of folders: `src/deps.ts` itself is in none. */
const sources = sourcesOf('src').filter(({ path }) => path.split('/').length > 2);

test('every import is allowed by src/deps.ts', () => {
  const wrong: string[] = [];
  for (const source of sources) {
    const rule = deps[source.folder];
    if (rule === undefined) {
      wrong.push(`${source.path}: folder '${source.folder}' has no line in src/deps.ts`);
      continue;
    }
    if (source.isTest) continue;
    for (const { specifier, line } of importsOf(source)) {
      const needed = permissionOf(source, specifier);
      if (needed === undefined) continue;
      const at = `${source.path}:${line}: imports ${specifier}`;
      if (needed.kind === 'folders' && specifier.startsWith('.')) wrong.push(`${at}; write '#…'`);
      if (!rule[needed.kind].includes(needed.name) && !rule[needed.kind].includes('*'))
        wrong.push(`${at}; edit the line '${source.folder}:' of src/deps.ts, or move the code`);
    }
  }
  assert.deepEqual(wrong, []);
});

test('every permission in src/deps.ts is needed', () => {
  const used = new Set<string>();
  for (const source of sources)
    if (!source.isTest)
      for (const { specifier } of importsOf(source)) {
        const needed = permissionOf(source, specifier);
        if (needed !== undefined) used.add(`${source.folder}: ${needed.kind} ${needed.name}`);
      }
  // Any folder may come to use the types of the API.
  const idle = Object.entries(deps).flatMap(([folder, rule]) =>
    (['folders', 'packages', 'builtins'] as const).flatMap((kind) =>
      rule[kind]
        .map((name) => `${folder}: ${kind} ${name}`)
        .filter((item) => !/ (\*|api)$/.test(item) && !used.has(item)),
    ),
  );
  assert.deepEqual(idle, [], 'delete it from src/deps.ts');
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
  [/\bhrtime\b/, 'clock.monotonic()'],
  [/\bperformance\.(now|timeOrigin|mark)\b/, 'clock.monotonic()'],
  [/\buptime\(/, 'clock.monotonic()'],
  [/(?<![.\w])setTimeout\(/, 'clock.setTimer or clock.sleep'],
  [/(?<![.\w])setInterval\(/, 'clock.setTimer'],
  [/(?<![.\w])setImmediate\(/, 'clock.sleep(0)'],
  [/from 'node:timers/, 'clock.setTimer or clock.sleep'],
  [/\bMath\.random\(/, 'random.float()'],
  [/\brandomUUID\(/, 'random.uuid()'],
  [/\brandomBytes\(/, 'random.bytes()'],
  [/\bgetRandomValues\(/, 'random.bytes()'],
  [/from 'node:child_process'/, '#os/process.ts'],
];

test('only os reads the clock, draws chance and spawns processes', () => {
  const wrong: string[] = [];
  for (const source of sources) {
    if (source.folder === 'os' || source.isTest) continue;
    source.text.split('\n').forEach((line, index) => {
      if (/^\s*(\/\/|\*|\/\*)/.test(line)) return;
      for (const [pattern, instead] of banned)
        if (pattern.test(line)) wrong.push(`${source.path}:${index + 1}: ${pattern.source}; use ${instead}`);
    });
  }
  assert.deepEqual(wrong, []);
});

test('only base/ip.ts knows what an address is', () => {
  const wrong = sources
    .filter(({ path, isTest }) => !isTest && path !== 'src/base/ip.ts')
    .filter(({ text }) => /\b(isIPv?[46]?|BlockList|SocketAddress)\b.* from 'node:net'|from 'ip-address'/.test(text))
    .map(({ path }) => `${path}: use #base/ip.ts`);
  assert.deepEqual(wrong, []);
});

test('ARCHITECTURE names the folders that touch files themselves', () => {
  const text = readFileSync(join(root, 'ARCHITECTURE.md'), 'utf8');
  const section = /## Who touches files\n(.*?)\n## /s.exec(text)?.[1] ?? '';
  const named = [...section.matchAll(/^\| (`[^|]+) \|/gm)].flatMap((match) =>
    [...match[1]!.matchAll(/`(\w+)`/g)].map((folder) => folder[1]!),
  );
  const touching = sources
    .filter((source) => !source.isTest && source.folder !== 'os')
    .filter((source) => importsOf(source).some(({ specifier }) => specifier.startsWith('node:fs')))
    .map(({ folder }) => folder);
  assert.deepEqual([...new Set(touching)].toSorted(), named.toSorted());
});
