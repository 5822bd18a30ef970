import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { leftOutTests, readTestLines, slowestTests } from './test-summary.ts';

const reporter = new URL('../../test/summary.ts', import.meta.url).pathname;

test('the reporter notes each test that holds no others, and why one did not run', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tiphys-summary-'));
  try {
    writeFileSync(
      join(directory, 'some.test.ts'),
      `import { describe, test } from 'node:test';
describe('all', () => {
  test('one', async (t) => { await t.test('inner', () => {}); });
  test('two', { skip: 'needs root' }, () => {});
});
test('three', () => { throw new Error('wrong'); });`,
    );
    const run = spawnSync(process.execPath, ['--test', `--test-reporter=${reporter}`], {
      cwd: directory,
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] },
    });
    assert.equal(run.status, 1);
    const lines = readTestLines(run.stdout);
    assert.deepEqual(
      lines.map(({ file, name, skipped }) => [file, name, skipped]),
      [
        ['some.test.ts', 'inner', undefined],
        ['some.test.ts', 'two', 'needs root'],
        ['some.test.ts', 'three', undefined],
      ],
    );
    assert.ok(lines.every(({ ms }) => ms >= 0));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});

test('the ten slowest are named, slowest first', () => {
  const lines = Array.from({ length: 12 }, (_unused, at) => ({ file: 'a.test.ts', name: `n${at}`, ms: at * 1000 }));
  const shown = slowestTests(lines);
  assert.equal(shown.length, 11);
  assert.equal(shown[1], '   11.0 s  a.test.ts: n11');
  assert.deepEqual(slowestTests(lines.slice(0, 3)), []);
});

test('what was left out is counted and named', () => {
  const text = readFileSync(new URL(import.meta.url), 'utf8');
  assert.deepEqual(leftOutTests([{ file: 'a', name: 'b', ms: 1 }], []), []);
  const shown = leftOutTests([{ file: 'a', name: 'b', ms: 1, skipped: 'no nft' }], [{ path: 'c', why: 'root', text }]);
  assert.match(shown[1]!, /^ {2}c \(\d tests; needs root\)$/);
  assert.equal(shown[2], '  a: b (no nft)');
  assert.match(shown[3]!, /^\d+ tests were left out$/);
});
