import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeDirectory, privateMode } from './paths.ts';

test('a directory has the mode it is to have, whatever the umask and whoever made it before', () => {
  const home = mkdtempSync('/tmp/tiphys-paths-');
  const umask = process.umask(0o077);
  try {
    makeDirectory(join(home, 'new'), 0o711);
    process.umask(0);
    mkdirSync(join(home, 'open'));
    makeDirectory(join(home, 'open'), privateMode);
    assert.deepEqual(
      ['new', 'open'].map((name) => statSync(join(home, name)).mode & 0o777),
      [0o711, 0o700],
    );
  } finally {
    process.umask(umask);
    rmSync(home, { recursive: true });
  }
});
