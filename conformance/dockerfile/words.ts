/**
 * Runs the cases of BuildKit's Dockerfile parser and of its words, pinned and unchanged, against ours: what a word
 * becomes, where it is split, which files are Dockerfiles, and which instructions are in them.
 *
 * Run: node conformance/dockerfile/words.ts DIRECTORY (of the module moby/buildkit; `conformance/dockerfile/run` gets it)
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseDockerfile } from '#build/dockerfile/parser.ts';
import { expandWord, expandWords } from '#build/dockerfile/words.ts';
import { messageOf } from '#base/thrown.ts';

interface Tally {
  pass: number;
  failures: string[];
}

function attempt<T>(work: () => T): { value: T } | { error: string } {
  try {
    return { value: work() };
  } catch (error) {
    return { error: messageOf(error) };
  }
}

function check(tally: Tally, name: string, found: unknown, expected: unknown): void {
  const [own, theirs] = [JSON.stringify(found), JSON.stringify(expected)];
  if (own === theirs) tally.pass++;
  else tally.failures.push(`${name}: ${own} in place of ${theirs}`);
}

/** `A|word|result`: A and U hold for Linux. */
function wordCases(text: string): Tally {
  const tally: Tally = { pass: 0, failures: [] };
  const variables: Record<string, string> = { PWD: '/home', SHELL: 'bash', KOREAN: '한국어', NULL: '' };
  for (const [at, line] of text.split('\n').entries()) {
    if (line.startsWith('#') || line.trim() === '') continue;
    const [platform = '', word = '', expected] = line.split('|').map((part) => part.trim());
    if (platform === 'W') continue;
    const result = attempt(() => expandWord(word, (name) => variables[name]));
    const isError = expected === 'error';
    check(
      tally,
      `envVarTest:${at + 1} ${word}`,
      'error' in result ? 'error' : result.value,
      isError ? 'error' : expected,
    );
  }
  return tally;
}

/** `words | result,result`, after lines `ENV NAME=VALUE`. */
function splitCases(text: string): Tally {
  const tally: Tally = { pass: 0, failures: [] };
  const variables = new Map<string, string>();
  for (const [at, line] of text.split('\n').entries()) {
    if (line.startsWith('#') || line === '') continue;
    if (line.startsWith('ENV ')) {
      const [, name = '', value = ''] = /^ENV +([^=]*)=(.*)$/.exec(line) ?? [];
      variables.set(name, value);
      continue;
    }
    const [words = '', expected = ''] = line.split('|');
    const result = attempt(() => expandWords(words.trim(), (name) => variables.get(name)));
    const wanted = expected.trimStart().split(',');
    check(tally, `wordsTest:${at + 1} ${words.trim()}`, 'error' in result ? ['error'] : result.value, wanted);
  }
  return tally;
}

function keywordsOf(text: string): string[] {
  const { globalArgs, stages } = parseDockerfile(text);
  const all = [...globalArgs, ...stages.flatMap(({ from, instructions }) => [from, ...instructions])];
  return all.map(({ keyword }) => keyword.toLowerCase());
}

/** BuildKit's parser takes these, what it hands them to does not; ours is both. */
const refusedLater: Readonly<Record<string, RegExp>> = {
  flags: /unknown flag: user/,
  health: /HEALTHCHECK requires at least one argument/,
  json: /no build stage in current context/,
};

function isRefusedLater(name: string, error: string): boolean {
  return (
    (refusedLater[name] ?? (name.startsWith('jeztah-invalid-json') ? refusedLater['json'] : undefined))?.test(error) ===
    true
  );
}

/** Each directory has a Dockerfile, and the tree that it is: a list for each instruction, whose first item names it. */
function fileCases(directory: string): Tally {
  const tally: Tally = { pass: 0, failures: [] };
  for (const name of readdirSync(join(directory, 'testfiles'))) {
    const text = readFileSync(join(directory, 'testfiles', name, 'Dockerfile'), 'utf8');
    const tree = readFileSync(join(directory, 'testfiles', name, 'result'), 'utf8');
    const expected = [...tree.matchAll(/^\((\w+)/gm)].map(([, keyword = '']) => keyword);
    const result = attempt(() => keywordsOf(text));
    if ('error' in result && isRefusedLater(name, result.error)) tally.pass++;
    else check(tally, `testfiles/${name}`, 'error' in result ? result.error : result.value, expected);
  }
  for (const name of readdirSync(join(directory, 'testfiles-negative'))) {
    const text = readFileSync(join(directory, 'testfiles-negative', name, 'Dockerfile'), 'utf8');
    check(tally, `testfiles-negative/${name}`, 'error' in attempt(() => keywordsOf(text)), true);
  }
  return tally;
}

const [buildkit] = process.argv.slice(2);
if (buildkit === undefined) throw new Error('usage: words.ts DIRECTORY');
const frontend = join(buildkit, 'frontend/dockerfile');
const tallies = [
  wordCases(readFileSync(join(frontend, 'shell/envVarTest'), 'utf8')),
  splitCases(readFileSync(join(frontend, 'shell/wordsTest'), 'utf8')),
  fileCases(join(frontend, 'parser')),
];
for (const failure of tallies.flatMap(({ failures }) => failures)) process.stdout.write(`FAIL ${failure}\n`);
const pass = tallies.reduce((sum, tally) => sum + tally.pass, 0);
const fail = tallies.reduce((sum, { failures }) => sum + failures.length, 0);
process.stdout.write(`${pass} pass, ${fail} fail\n`);
process.exitCode = fail === 0 ? 0 : 1;
