/** What a program is, as machines keep it and give it to each other. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { pathsOf, type Paths } from '../paths.ts';
import {
  checkFile,
  findProgram,
  keepOnly,
  keepProgram,
  keptPrograms,
  readProgram,
  rootOf,
  storeProgram,
} from './program.ts';

class Place implements Disposable {
  readonly home = mkdtempSync(join(tmpdir(), 'tiphys-program-'));
  readonly paths: Paths = pathsOf({ TIPHYS_HOME: this.home });

  constructor() {
    mkdirSync(this.paths.data);
  }

  /** A package with a library in it, one beside it, and what is no part of what runs. */
  package(name: string, main: string): string {
    const root = join(this.home, name, 'node_modules/tiphys');
    const write = (path: string, text: string): void => {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    };
    write('package.json', JSON.stringify({ version: '1.2.3', dependencies: { near: '1', far: '1', 'not-here': '1' } }));
    write('tiphys', '#!/bin/sh\necho started\n');
    chmodSync(join(root, 'tiphys'), 0o755);
    write('dist/main.js', main);
    write('dist/main.test.js', 'not kept');
    write('docs/words.md', 'not kept');
    write('node_modules/near/package.json', JSON.stringify({ dependencies: { deep: '1' } }));
    write('node_modules/near/node_modules/deep/package.json', '{}');
    write('../far/package.json', JSON.stringify({ devDependencies: { never: '1' } }));
    write('../far/index.js', 'far');
    write('../never/package.json', '{}');
    return root;
  }

  [Symbol.dispose](): void {
    rmSync(this.home, { recursive: true });
  }
}

test('a program is what it needs to run, by its digest, and starts where it is kept', async () => {
  using place = new Place();
  const { paths } = place;
  const one = await keepProgram(paths, place.package('one', 'one'));
  assert.deepEqual(one.files.map(({ path }) => path).sort(), [
    'dist/main.js',
    'node_modules/far/index.js',
    'node_modules/far/package.json',
    'node_modules/near/node_modules/deep/package.json',
    'node_modules/near/package.json',
    'package.json',
    'tiphys',
  ]);
  assert.equal(one.version, '1.2.3');
  assert.equal(execFileSync(join(rootOf(paths, one.id), 'tiphys'), { encoding: 'utf8' }), 'started\n');
  assert.equal((await keepProgram(paths, place.package('same', 'one'))).id, one.id);
  assert.equal((await keepProgram(paths, rootOf(paths, one.id))).id, one.id);
  const two = await keepProgram(paths, place.package('two', 'two'));
  assert.notEqual(two.id, one.id);
  const inode = (id: string, path: string): number => statSync(join(rootOf(paths, id), path)).ino;
  assert.equal(inode(one.id, 'tiphys'), inode(two.id, 'tiphys'), 'what they have in common is there once');
  assert.deepEqual(new Set(keptPrograms(paths).map(({ id }) => id)), new Set([one.id, two.id]));
  keepOnly(paths, [two.id, undefined]);
  assert.deepEqual(
    keptPrograms(paths).map(({ id }) => id),
    [two.id],
  );
  assert.ok(!existsSync(rootOf(paths, one.id)));
});

test('one that came in part is not there, and is made whole by the next try', async () => {
  using place = new Place();
  using other = new Place();
  const program = await keepProgram(place.paths, place.package('one', 'one'));
  const bring =
    (fails: boolean) =>
    (file: (typeof program.files)[number], target: string): Promise<void> => {
      copyFileSync(join(rootOf(place.paths, program.id), file.path), target);
      if (fails && file.path === 'tiphys') writeFileSync(target, 'something else');
      checkFile(file, target);
      return Promise.resolve();
    };
  await assert.rejects(storeProgram(other.paths, program, bring(true)), /tiphys did not come as it is/);
  assert.equal(findProgram(other.paths, program.id), undefined);
  assert.deepEqual(keptPrograms(other.paths), []);
  await storeProgram(other.paths, program, bring(false));
  assert.deepEqual(findProgram(other.paths, program.id), program);
});

test('a list that another machine gives is that of the id, and names nothing outside', async () => {
  using place = new Place();
  const program = await keepProgram(place.paths, place.package('one', 'one'));
  const { id, files } = program;
  assert.deepEqual(readProgram(id, JSON.parse(JSON.stringify(program))), program);
  const [first, ...rest] = files;
  for (const wrong of [
    undefined,
    {},
    { ...program, files: rest },
    { ...program, files: [{ ...first, path: '../../etc/passwd' }, ...rest] },
    { ...program, files: [{ ...first, path: '/etc/passwd' }, ...rest] },
    { ...program, files: [{ ...first, bytes: -1 }, ...rest] },
    { ...program, files: [{ ...first, sha256: 'x' }, ...rest] },
  ])
    assert.throws(() => readProgram(id, wrong), /is damaged/);
  assert.throws(() => readProgram('../x', program), /is damaged/);
});
