/** Who installs the package has the types of `tiphys/testing`: `tsconfig.package.json` writes them when it is packed. */
import { test } from 'node:test';
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = resolve(fileURLToPath(import.meta.url), '../../..');
const runCompiler = (directory: string, args: string[]): { status: number | null; stdout: string } =>
  spawnSync(join(root, 'node_modules/.bin/tsc'), args, { cwd: directory, encoding: 'utf8' });

test('an installed package gives its users types, which a misspelt field does not pass', () => {
  const directory = mkdtempSync(join(tmpdir(), 'tiphys-types-'));
  try {
    const installed = join(directory, 'node_modules/tiphys');
    mkdirSync(installed, { recursive: true });
    const emitted = runCompiler(root, ['-p', 'tsconfig.package.json', '--outDir', join(installed, 'dist')]);
    assert.equal(emitted.status, 0, emitted.stdout);
    for (const file of ['package.json', 'testing.js']) cpSync(join(root, file), join(installed, file));
    writeFileSync(join(installed, 'dist/package.json'), '{"type":"module","imports":{"#*.ts":"./*.js"}}');
    symlinkSync(join(root, 'node_modules/@types'), join(directory, 'node_modules/@types'));
    const example = readFileSync(join(root, 'examples/testing/typed-manifests.test.ts'), 'utf8');
    writeFileSync(join(directory, 'right.ts'), example);
    writeFileSync(join(directory, 'wrong.ts'), example.replace('readinessProbe:', 'readinessProb:'));
    const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'esnext', '--types', 'node'];
    const right = runCompiler(directory, [...options, 'right.ts']);
    assert.equal(right.status, 0, right.stdout);
    assert.match(runCompiler(directory, [...options, 'wrong.ts']).stdout, /'readinessProb' does not exist in type/);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
