import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { SealedProgram } from './sealed-program.linux.ts';

test('a sealed program runs, nobody can write to it, and one that was replaced is made anew', (t) => {
  const directory = mkdtempSync('/tmp/tiphys-sealed-');
  t.after(() => rmSync(directory, { recursive: true }));
  const path = `${directory}/program`;
  copyFileSync('/bin/echo', path);
  const program = new SealedProgram(path);
  const first = program.path();
  assert.equal(execFileSync(first, ['said']).toString(), 'said\n');
  assert.throws(() => writeFileSync(first, 'other'), { code: 'EPERM' });
  assert.equal(program.path(), first);
  copyFileSync('/bin/cat', `${directory}/next`);
  renameSync(`${directory}/next`, path);
  const second = program.path();
  assert.notEqual(second, first);
  assert.equal(execFileSync(second, { input: 'read' }).toString(), 'read');
  assert.equal(execFileSync(first, ['still']).toString(), 'still\n');
});
