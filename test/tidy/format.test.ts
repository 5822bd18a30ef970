/** The formatter has nothing to do: one width, one statement a line. `npm run format` mends it. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { lacks, root } from './sources.ts';

test('the code is formatted', { skip: lacks('@oxfmt') }, () => {
  const folders = ['src', 'test', 'bench', 'examples', 'conformance'];
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/.bin/oxfmt'), '--check', ...folders],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0, `npm run format\n${stdout}${stderr}`);
});
