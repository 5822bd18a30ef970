/** What a server gives of the programs that it keeps. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { nodeGroup } from '#base/node-identity.ts';
import { textOf } from '#base/unknown.ts';
import { programPieceBytes } from '../limits.ts';
import { pathsOf } from '../paths.ts';
import { keepProgram } from './program.ts';
import { programsEndpoint } from './serve-programs.ts';

test('nodes are given the list of a program and pieces of what is in it, and nothing else', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'tiphys-serve-'));
  t.after(() => rmSync(home, { recursive: true }));
  const paths = pathsOf({ TIPHYS_HOME: home });
  const root = join(home, 'package');
  for (const directory of [paths.data, join(root, 'dist')]) mkdirSync(directory, { recursive: true });
  writeFileSync(join(root, 'package.json'), '{"version":"1.2.3"}');
  const main = 'x'.repeat(programPieceBytes + 3);
  writeFileSync(join(root, 'dist/main.js'), main);
  writeFileSync(join(paths.data, 'keys.json'), 'secret');
  const program = await keepProgram(paths, root);
  const { id } = program;
  const { group, serve } = programsEndpoint(paths);
  assert.equal(group, nodeGroup);
  assert.deepEqual(await serve({ id }), program);
  const path = 'dist/main.js';
  const piece = async (offset: number): Promise<string> =>
    Buffer.from(textOf(await serve({ id, path, offset }), 'data') ?? '', 'base64').toString();
  assert.equal((await piece(0)) + (await piece(programPieceBytes)), main);
  assert.equal(await piece(main.length), '');
  for (const wrong of ['../../keys.json', '../keys.json', '/etc/passwd', 'dist', ''])
    await assert.rejects(async () => serve({ id, path: wrong, offset: 0 }), /has no such piece/);
  for (const offset of [-1, 0.5, Number.NaN, 'x', 2 ** 60])
    await assert.rejects(async () => serve({ id, path, offset }), /has no such piece/);
  for (const other of ['0123456789abcdef', '..', `../programs/${id}`, '', 7, null])
    await assert.rejects(async () => serve({ id: other }), /does not keep/);
});
