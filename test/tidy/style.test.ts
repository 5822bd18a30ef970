/** Style as an ordinary test: sizes of files and functions, no default exports, a comment that opens each module. Every message says what to do. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSource, walk, type SyntaxNode } from './parse.ts';

const root = resolve(fileURLToPath(import.meta.url), '../../..');
const fileLinesMax = 550;
const functionLinesMax = 90;

const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts')).map((path) => ({ path: `src/${path}`, text: readFileSync(join(root, 'src', path), 'utf8') }));
const code = sources.filter(({ path }) => !/\.(test|suite)\.ts$/.test(path));

const functionTypes = ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'];
function* functionsIn(node: unknown): Generator<SyntaxNode> {
  for (const found of walk(node)) if (functionTypes.includes(found.type)) yield found;
}

test('no file is too long to read', () => {
  const long = sources.map(({ path, text }) => ({ path, lines: text.split('\n').length })).filter(({ lines }) => lines > fileLinesMax);
  assert.deepEqual(long, [], `split them by what a user can name; at most ${fileLinesMax} lines`);
});

test('no function is too long to see whole, but for those that put a process together', () => {
  const long: string[] = [];
  for (const { path, text } of code) {
    if (path.startsWith('src/platform/') || path.startsWith('src/schema/groups/')) continue;
    for (const found of functionsIn(parseSource(text))) {
      // A factory's closure holds functions of its own, which count by themselves.
      const inner = [...functionsIn(found['body'])].reduce((sum, item) => sum + text.slice(item.start, item.end).split('\n').length - 1, 0);
      const lines = text.slice(found.start, found.end).split('\n').length - inner;
      if (lines > functionLinesMax) long.push(`${path}:${text.slice(0, found.start).split('\n').length}: ${lines} lines`);
    }
  }
  assert.deepEqual(long, [], `push ifs up and loops down; at most ${functionLinesMax} lines`);
});

test('every module says first what it is for, and exports by name', () => {
  const wrong: string[] = [];
  for (const { path, text } of code) {
    if (!/^(#!.*\n)?\/\*\*|^\/\//.test(text)) wrong.push(`${path}: begin with a comment: purpose, invariants, source`);
    if (/^export default/m.test(text)) wrong.push(`${path}: export by name`);
  }
  assert.deepEqual(wrong, []);
});
