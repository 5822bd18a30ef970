/** The linter finds nothing (`npm run lint`; the rules and their reasons: docs/style.md). */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { lacks, root } from './sources.ts';

test('the linter finds nothing', { skip: lacks('@oxlint') }, () => {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'node_modules/.bin/oxlint'), '--format', 'unix'],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  assert.equal(status, 0, `${stdout}${stderr}`);
});
