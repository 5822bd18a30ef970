/** The formatter has nothing to do: one width, one statement a line. `npm run format` mends it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');

test('the code is formatted', () => {
  const folders = ['src', 'test', 'bench', 'examples', 'conformance'];
  const { status, stdout, stderr } = spawnSync(join(root, 'node_modules/.bin/oxfmt'), ['--check', ...folders], {
    cwd: root,
    encoding: 'utf8',
  });
  assert.equal(status, 0, `npm run format\n${stdout}${stderr}`);
});
