import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createIgnoreRules, parseIgnoreFile } from './patterns.ts';

test('patterns match paths and everything below them', () => {
  const cases: [string, string, boolean][] = [
    ['**', 'a/b', true],
    ['*.txt', 'a.txt', true],
    ['*.txt', 'd/a.txt', false],
    ['**/*.txt', 'd/e/a.txt', true],
    ['dir', 'dir/file', true],
    ['dir/**', 'dir', false],
    ['dir/**', 'dir/a/b', true],
    ['/dir/', 'dir/x', true],
    ['./a', 'a', true],
    ['a?c', 'abc', true],
    ['a[b-d]e', 'ace', true],
    ['a[^b-d]e', 'ace', false],
    ['a\\*b', 'a*b', true],
    ['a\\*b', 'axb', false],
    ['**/node_modules', 'x/node_modules/y', true],
    ['.git', '.gitignore', false],
  ];
  for (const [pattern, path, expected] of cases)
    assert.equal(createIgnoreRules([pattern]).ignores(path), expected, `${pattern} ${path}`);
});

test('the last matching pattern decides', () => {
  const rules = parseIgnoreFile('# comment\n*\n!src\n  src/secret  \n\n');
  assert.deepEqual(
    ['readme', 'src', 'src/a', 'src/secret', 'src/secret/x'].map((path) => rules.ignores(path)),
    [true, false, false, true, true],
  );
});

test('malformed patterns are refused', () => {
  for (const pattern of ['[', '[a-]', 'a[]a]', '!', '\\'])
    assert.throws(() => createIgnoreRules([pattern]), /syntax error in pattern|illegal exclusion pattern/, pattern);
});
