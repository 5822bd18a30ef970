/** Files of a client's directory are linked into layers; what is in their way decides only where they end. */
import assert from 'node:assert/strict';
import { lstatSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { goDirectory, makeBench } from './grpc/testing.ts';
import type { File } from './grpc/testing.ts';

/** Directories that lead to the files are added. */
function treeOf(files: Record<string, string>): Record<string, File> {
  const tree: Record<string, File> = {};
  for (const [path, text] of Object.entries(files)) {
    for (let at = path.indexOf('/'); at > 0; at = path.indexOf('/', at + 1))
      tree[path.slice(0, at)] = { mode: goDirectory };
    tree[path] = { text };
  }
  return tree;
}

async function build(t: Parameters<typeof makeBench>[0], lines: string, files: Record<string, string>) {
  const text = `FROM base\n${lines}\n`;
  const bench = await makeBench(t, { files: { dockerfile: { Dockerfile: { text } }, context: treeOf(files) } });
  await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  return (look: (at: (path: string) => string) => void) =>
    bench.read(bench.records.find('x')!.layers, (root) => look((path) => join(root, path)));
}

test('a new directory and a new file are linked, not copied', async (t) => {
  const look = await build(t, 'COPY d /app/\nCOPY one /etc/one', { 'd/e/f': 'deep', one: 'x' });
  await look((at) => {
    for (const [path, text] of [
      ['app/e/f', 'deep'],
      ['etc/one', 'x'],
    ] as const) {
      assert.equal(readFileSync(at(path), 'utf8'), text);
      assert.ok(lstatSync(at(path)).nlink > 1, path);
    }
    assert.equal(lstatSync(at('app/e')).mtimeMs, 1e12, 'a directory has the time of its source');
    assert.equal(readFileSync(at('etc/passwd'), 'utf8').split(':')[0], 'web');
  });
});

test('a directory that comes where the image has a symlink goes where that leads', async (t) => {
  const look = await build(t, 'COPY root /', { 'root/a/f': 'a', 'root/bin/tool': 'tool', 'root/z/f': 'z' });
  await look((at) => {
    assert.equal(readlinkSync(at('bin')), 'usr/bin');
    assert.deepEqual(
      ['a/f', 'usr/bin/tool', 'z/f'].map((path) => readFileSync(at(path), 'utf8')),
      ['a', 'tool', 'z'],
    );
  });
});

test('of several sources the later one wins, and directories of one name become one', async (t) => {
  const files = { 'one/sub/a': '1', 'one/sub/b': '1', 'one/f': '1', 'two/sub/b': '2', 'two/f': '2', 'two/last': '2' };
  const look = await build(t, 'COPY one two /merged/\nCOPY one/f two/f /single/', files);
  await look((at) =>
    assert.deepEqual(
      ['merged/sub/a', 'merged/sub/b', 'merged/f', 'merged/last', 'single/f'].map((path) =>
        readFileSync(at(path), 'utf8'),
      ),
      ['1', '2', '2', '2', '2'],
    ),
  );
});

test('a file takes the place of the file that the image has, a directory that of a file', async (t) => {
  const look = await build(t, 'COPY root /etc/', { 'root/group': 'mine', 'root/passwd/f': 'f' });
  await look((at) => {
    assert.equal(readFileSync(at('etc/group'), 'utf8'), 'mine');
    assert.equal(readFileSync(at('etc/passwd/f'), 'utf8'), 'f');
  });
});

test('names of one file in an archive stay names of one file, wherever symlinks of the image lead', async (t) => {
  const archive = Buffer.concat([
    encodeTarFile({ path: 'bin/new/a' }, 'x'),
    encodeTarHeader({ path: 'bin/new/b', type: 'link', linkTarget: 'bin/new/a' }),
    encodeTarHeader({ path: 'etc/c', type: 'link', linkTarget: 'bin/new/a' }),
    encodeTarFile({ path: 'a/first' }, 'y'),
    encodeTarHeader({ path: 'bin/second', type: 'link', linkTarget: 'a/first' }),
    tarEnd,
  ]);
  for (const flags of ['', '--chmod=640 ']) {
    const look = await build(t, `ADD ${flags}tar /\nADD ${flags}tar /again/`, { tar: archive.toString('latin1') });
    await look((at) => {
      const inodes = (...paths: string[]): number => new Set(paths.map((path) => lstatSync(at(path)).ino)).size;
      assert.equal(readlinkSync(at('bin')), 'usr/bin');
      assert.equal(readFileSync(at('usr/bin/new/b'), 'utf8'), 'x');
      assert.equal(inodes('usr/bin/new/a', 'usr/bin/new/b', 'etc/c'), 1, flags);
      assert.equal(inodes('a/first', 'usr/bin/second'), 1, flags);
      assert.equal(inodes('again/a/first', 'again/bin/second'), 1, flags);
      assert.equal(inodes('a/first', 'again/a/first'), 2, flags);
    });
  }
});
