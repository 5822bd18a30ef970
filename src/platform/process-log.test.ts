import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { boundLog } from './process-log.ts';

test("a part's log that is full becomes .1, and every descriptor writes on at the beginning", () => {
  const directory = mkdtempSync(`${tmpdir()}/process-log-`);
  const [own, supervisors] = [openSync(`${directory}/p.log`, 'a'), openSync(`${directory}/p.log`, 'a')];
  try {
    writeSync(own, 'a'.repeat(90));
    boundLog(own, 100);
    assert.deepEqual(readdirSync(directory), ['p.log']);
    writeSync(supervisors, 'b'.repeat(20));
    boundLog(own, 100);
    writeSync(supervisors, 'c');
    writeSync(own, 'd');
    assert.deepEqual(
      ['p.log', 'p.log.1'].map((name) => readFileSync(`${directory}/${name}`, 'utf8')),
      ['cd', `${'a'.repeat(90)}${'b'.repeat(20)}`],
    );
  } finally {
    closeSync(own);
    closeSync(supervisors);
    rmSync(directory, { recursive: true });
  }
});
