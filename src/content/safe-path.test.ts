/** Paths of strangers: what they cannot be is said in their own words, never with the directory behind them. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { tmpdir } from 'node:os';
import { ApiError, toApiError } from '#base/errors.ts';
import { lstatSync } from '#os/named-files.ts';
import { RootedDirectory, pathParts } from './safe-path.ts';

function inRoot(check: (root: RootedDirectory) => void): void {
  const directory = mkdtempSync(join(tmpdir(), 'safe-path-'));
  try {
    writeFileSync(join(directory, 'file'), '');
    check(new RootedDirectory(directory));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const refusal = (message: string) => (error: unknown) =>
  error instanceof ApiError && error.code === 400 && error.message === message;

test('a name that the file system cannot have is refused as the client wrote it', () => {
  const long = 'ä'.repeat(128);
  inRoot((root) => {
    for (const path of [`a/${long}`, `${long}/a`, `b/../${long}`])
      assert.throws(
        () => root.directory(pathParts(path), () => {}),
        refusal(`lstat /${path}: file name too long`),
        path,
      );
    assert.throws(() => root.locate([long]), refusal(`lstat /${long}: file name too long`));
    assert.equal(root.resolve(['ä'.repeat(127)]), undefined);
  });
});

test('a file where a directory should be is refused with a status', () => {
  inRoot((root) => assert.throws(() => root.directory(['file', 'x']), refusal('lstat /file/x: not a directory')));
});

test('an error of the system is told in the order and words of the field', () => {
  const path = `/${'a'.repeat(256)}`;
  let caught: unknown;
  try {
    lstatSync(path);
  } catch (error) {
    caught = error;
  }
  assert.equal(toApiError(caught).message, `lstat ${path}: file name too long`);
  assert.equal(toApiError(new Error('plain words, open to all')).message, 'plain words, open to all');
});
