/** Slips of the hand that no compiler sees: branches that are the same, errors that vanish without a word. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { parseSource, walk } from './parse.ts';
import type { Comment, SyntaxNode } from './parse.ts';
import { assertOnlyKnown, sourcesOf } from './sources.ts';

const sources = sourcesOf('src', 'test', 'bench', 'examples').map((source) => {
  const comments: Comment[] = [];
  return { ...source, nodes: [...walk(parseSource(source.text, comments))], comments };
});

const lineOf = (text: string, offset: number): number => text.slice(0, offset).split('\n').length;
const emptyBlock = (node: SyntaxNode): boolean =>
  node.type === 'BlockStatement' && (node['body'] as unknown[]).length === 0;

test('branches of a choice differ, and do something', () => {
  const found: string[] = [];
  for (const { path, text, nodes } of sources) {
    const wordOf = (node: unknown): string => {
      const { start, end } = node as SyntaxNode;
      return text.slice(start, end).replace(/\s+/g, ' ');
    };
    for (const node of nodes) {
      if (!['IfStatement', 'ConditionalExpression'].includes(node.type)) continue;
      const { consequent, alternate } = node as unknown as { consequent: SyntaxNode; alternate: SyntaxNode | null };
      const isSame = alternate !== null && wordOf(consequent) === wordOf(alternate);
      const isEmpty = node.type === 'IfStatement' && emptyBlock(consequent);
      if (isSame || isEmpty) found.push(`${path}:${lineOf(text, node.start)}`);
    }
  }
  assert.deepEqual(found, [], 'one branch is enough');
});

/** Files that pass over errors without a word. The list only shrinks. */
const silent = new Set<string>([
  'src/kubelet/referenced-objects.ts',
  'src/kubelet/pod-worker.ts',
  'src/kubelet/stats.ts',
  'src/kubelet/volumes.ts',
]);

/** `() => {}` and `() => undefined`. */
function doesNothing(node: SyntaxNode): boolean {
  if (!['ArrowFunctionExpression', 'FunctionExpression'].includes(node.type)) return false;
  const body = node['body'] as SyntaxNode;
  return emptyBlock(body) || (body.type === 'Identifier' && body['name'] === 'undefined');
}

test('an error that is passed over is passed over with a word why', () => {
  const found: string[] = [];
  for (const { path, text, nodes, comments } of sources) {
    const lines = text.split('\n');
    const commented = new Set(
      comments.flatMap(({ start, end }) => {
        const first = lineOf(text, start);
        return Array.from({ length: lineOf(text, end) - first + 1 }, (_unused, index) => first + index);
      }),
    );
    /** A comment beside it, inside it, or right above its statement. */
    const hasWord = (node: SyntaxNode): boolean => {
      const last = lineOf(text, node.end);
      let first = lineOf(text, node.start);
      // A chain of calls begins further up: its lines begin with a dot.
      while (first > 1 && /^\s*[.)}\]]/.test(lines[first - 1]!)) first--;
      for (let line = first - 1; line <= last; line++) if (commented.has(line)) return true;
      return false;
    };
    for (const node of nodes) {
      const call = node as unknown as {
        callee?: { property?: { name?: string } };
        arguments?: SyntaxNode[];
        param: unknown;
        body: SyntaxNode;
      };
      const isSwallowed =
        (node.type === 'CatchClause' && emptyBlock(call.body)) ||
        (node.type === 'CallExpression' &&
          call.callee?.property?.name === 'catch' &&
          call.arguments!.length === 1 &&
          doesNothing(call.arguments![0]!));
      const place = node.type === 'CatchClause' ? call.body : call.arguments?.[0];
      if (isSwallowed && !hasWord(place!)) found.push(`${path}:${lineOf(text, place!.start)}`);
    }
  }
  const files = found.map((place) => place.split(':')[0]!);
  assertOnlyKnown(
    [...found.filter((_place, index) => !silent.has(files[index]!)), ...files.filter((file) => silent.has(file))],
    silent,
    'say in a comment why nobody need hear of it, or use base/promises.ts',
  );
});

test('a test that draws chance takes a seed', () => {
  const found = sources
    .filter(({ isTest }) => isTest)
    .filter(
      ({ text }) =>
        // Which of the free ports are tried first is chance that decides nothing.
        /\bMath\.random\(\)(?! \* 5_000)/.test(text) || (text.includes('fc.assert(') && !text.includes('testSeed()')),
    )
    .map(({ path }) => path);
  assert.deepEqual(found, [], 'testSeed() of os/test-seed.ts prints one and takes one');
});
