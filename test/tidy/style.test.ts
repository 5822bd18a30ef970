/**
 * Style as an ordinary test: sizes of files and functions, no default exports, a comment that opens each module. Every
 * message says what to do.
 */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parseSource, walk, type SyntaxNode } from './parse.ts';
import { assertOnlyKnown, sourcesOf } from './sources.ts';

const fileLinesMax = 500;
const functionLinesMax = 70;
const lineColumnsMax = 120;
const parametersMax = 4;

const sources = sourcesOf('src');
const code = sources.filter(({ isTest }) => !isTest);

const functionTypes = ['FunctionDeclaration', 'FunctionExpression', 'ArrowFunctionExpression'];
function* functionsIn(node: unknown): Generator<SyntaxNode> {
  for (const found of walk(node)) if (functionTypes.includes(found.type)) yield found;
}

/** The words before a function's parameters: enough to find it, whatever moves around it. */
function nameOf(found: SyntaxNode, text: string): string {
  const before = text.slice(text.lastIndexOf('\n', found.start) + 1, found.start);
  return `${before}${text.slice(found.start, found.end)}`.trim().split(/[(\n]/, 1)[0]!;
}

/** Longer than the rule allows today. The list only shrinks: an entry that has become clean fails until it is deleted. */
const longFiles = new Set<string>();

test('no file is too long to read', () => {
  const long = sources
    .filter(({ text }) => !text.startsWith('/** Generated') && text.split('\n').length > fileLinesMax)
    .map(({ path }) => path);
  assertOnlyKnown(long, longFiles, `split it by what a user can name; at most ${fileLinesMax} lines`);
});

test('no function is too long to see whole', () => {
  const long: string[] = [];
  for (const { path, text } of code) {
    for (const found of functionsIn(parseSource(text))) {
      // A factory's closure holds functions of its own, which count by themselves.
      const inner = [...functionsIn(found['body'])].reduce(
        (sum, item) => sum + text.slice(item.start, item.end).split('\n').length - 1,
        0,
      );
      const lines = text.slice(found.start, found.end).split('\n').length - inner;
      if (lines > functionLinesMax) long.push(`${path} ${nameOf(found, text)}`);
    }
  }
  assertOnlyKnown(long, new Set(), `push ifs up and loops down; at most ${functionLinesMax} lines`);
});

test('no function takes more than four parameters', () => {
  const many = code.flatMap(({ path, text }) =>
    [...functionsIn(parseSource(text))]
      .filter((found) => (found['params'] as unknown[]).length > parametersMax)
      .map((found) => `${path} ${nameOf(found, text)}`),
  );
  assertOnlyKnown(many, new Set(), 'more become one object whose interface names them');
});

test('no line is too wide, but for one string that cannot be broken', () => {
  const wide: string[] = [];
  for (const { path, text } of sources) {
    text.split('\n').forEach((line, index) => {
      if (line.length > lineColumnsMax && !/['"`/]/.test(line)) wide.push(`${path}:${index + 1}`);
      if (/^\s*(\/\/|\/?\*)/.test(line) && line.length > lineColumnsMax) wide.push(`${path}:${index + 1}`);
    });
  }
  assert.deepEqual(wide, [], `at most ${lineColumnsMax} columns; npm run format breaks code, comments are yours`);
});

test('every module says first what it is for, and exports by name', () => {
  const wrong: string[] = [];
  for (const { path, text } of code) {
    if (!/^(#!.*\n)?\/\*\*|^\/\//.test(text)) wrong.push(`${path}: begin with a comment: purpose, invariants, source`);
    if (/^export default/m.test(text)) wrong.push(`${path}: export by name`);
  }
  assert.deepEqual(wrong, []);
});
