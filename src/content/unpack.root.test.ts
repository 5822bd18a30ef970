import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { copyTree } from '#engine/copy-tree.ts';
import { getXattr } from '#os/special-files.ts';
import { packTar } from './pack.ts';
import { copyFiles } from './copy.ts';
import { bytesOf, makeTestDirectory, openTestContent } from './testing.ts';
import { unpackTar } from './unpack.ts';

const directory = (path: string, mode = 0o755): Buffer => encodeTarHeader({ path, type: 'directory', mode });
const file = (path: string, text = path): Buffer => encodeTarFile({ path }, text);
const symlink = (path: string, linkTarget: string): Buffer => encodeTarHeader({ path, type: 'symlink', linkTarget });
const link = (path: string, linkTarget: string): Buffer => encodeTarHeader({ path, type: 'link', linkTarget });

test('nothing outside the directory is touched, whatever the archive says', async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  writeFileSync(join(top, 'victim'), 'safe');
  const cases: [string, Buffer[], RegExp | undefined][] = [
    ['a name that climbs out', [file('../victim', 'bad')], /escapes the root/],
    ['a name that climbs out later', [file('a/../../victim', 'bad')], /escapes the root/],
    ['a relative symlink out, then the file', [symlink('l', '../victim'), file('l', 'inside')], undefined],
    ['a relative symlink out, then a file below it', [symlink('s', '..'), file('s/victim', 'bad')], undefined],
    ['a relative symlink out, and a link through it', [symlink('s', '..'), link('l', 's/victim')], /invalid hardlink/],
    ['a hard link out', [link('l', '../victim')], /escapes the root|invalid hardlink/],
    ['a hard link to an absolute path', [link('l', '/victim')], /invalid hardlink/],
    ['a hard link through a symlink out', [symlink('s', '/'), link('l', 's/etc/passwd')], /invalid hardlink/],
    ['a whiteout of the parent', [file('.wh...', '')], /invalid whiteout/],
    ['a whiteout of nothing', [file('.wh.', '')], /invalid whiteout/],
    ['an absolute symlink, then a file below it', [symlink('s', top), file('s/victim', 'bad')], undefined],
    ['an absolute name', [file('/victim', 'inside')], undefined],
    ['a symlink replaced by writing to it', [symlink('s', `${top}/victim`), file('s', 'inside')], undefined],
  ];
  for (const [name, parts, error] of cases) {
    const into = join(top, name.replaceAll(/\W/g, '-'));
    mkdirSync(into);
    const unpacked = unpackTar(bytesOf(...parts, tarEnd), into, { layer: true });
    if (error === undefined) await unpacked;
    else await assert.rejects(unpacked, error, name);
    assert.equal(readFileSync(join(top, 'victim'), 'utf8'), 'safe', name);
  }
});

test("whiteouts become the overlay's marks, and packing turns them back", async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  await unpackTar(
    bytesOf(directory('d'), file('d/.wh.gone', ''), directory('o'), file('o/.wh..wh..opq', ''), file('o/new'), tarEnd),
    top,
    { layer: true },
  );
  const gone = lstatSync(join(top, 'd/gone'));
  assert.ok(gone.isCharacterDevice() && gone.rdev === 0);
  assert.equal(Buffer.from(getXattr(join(top, 'o'), 'trusted.overlay.opaque')!).toString(), 'y');
  const again = makeTestDirectory(t, 'unpack');
  await unpackTar(bytesOf(...packTar(top, { layer: true, skipRoot: true })), again, { layer: true });
  assert.ok(lstatSync(join(again, 'd/gone')).isCharacterDevice());
  assert.equal(Buffer.from(getXattr(join(again, 'o'), 'trusted.overlay.opaque')!).toString(), 'y');
  assert.deepEqual(readdirSync(join(again, 'o')), ['new']);
});

test("an archive cannot forge the overlay's marks by attributes", async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  await unpackTar(
    bytesOf(
      encodeTarHeader({
        path: 'd',
        type: 'directory',
        mode: 0o755,
        xattrs: { 'trusted.overlay.redirect': Buffer.from('/etc') },
      }),
      tarEnd,
    ),
    top,
    { layer: true },
  );
  assert.equal(getXattr(join(top, 'd'), 'trusted.overlay.redirect'), undefined);
});

test('owners, modes, times, hard links and devices are kept', async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  await unpackTar(
    bytesOf(
      encodeTarHeader({ path: 'd', type: 'directory', mode: 0o1750, uid: 12, gid: 34, mtimeMs: 1_000_000_000_000 }),
      encodeTarFile({ path: 'd/f', mode: 0o4711, uid: 1, gid: 2, mtimeMs: 1_500_000_000_000 }, 'x'),
      link('d/h', 'd/f'),
      symlink('s', 'd/f'),
      encodeTarHeader({ path: 'n', type: 'character', mode: 0o666, deviceMajor: 1, deviceMinor: 3 }),
      tarEnd,
    ),
    top,
    { layer: true },
  );
  const d = statSync(join(top, 'd'));
  assert.deepEqual([d.mode & 0o7777, d.uid, d.gid, d.mtimeMs], [0o1750, 12, 34, 1_000_000_000_000]);
  const f = statSync(join(top, 'd/f'));
  assert.deepEqual([f.mode & 0o7777, f.uid, f.gid, f.mtimeMs, f.nlink], [0o4711, 1, 2, 1_500_000_000_000, 2]);
  assert.equal(readlinkSync(join(top, 's')), 'd/f');
  assert.equal(statSync(join(top, 'n')).rdev, statSync('/dev/null').rdev);
  assert.ok(!existsSync(join(top, 'missing')));
});

test('names that are not UTF-8 are unpacked, packed and removed byte for byte', async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  const name = 'n\udce4';
  const archive = [
    directory(`${name}d`),
    file(`${name}d/${name}`, 'x'),
    symlink(`${name}s`, name),
    link(`${name}l`, `${name}d/${name}`),
    encodeTarHeader({ path: `${name}p`, type: 'fifo', mode: 0o600, xattrs: { 'trusted.a': Buffer.from('1') } }),
    file('n\udce5', 'other'),
  ];
  await unpackTar(bytesOf(...archive, tarEnd), top, { layer: true });
  const bytes = readdirSync(top, { encoding: 'buffer' })
    .map((each) => each.toString('latin1'))
    .sort();
  assert.deepEqual(bytes, ['n\xe4d', 'n\xe4l', 'n\xe4p', 'n\xe4s', 'n\xe5']);
  assert.equal(Buffer.from(getXattr(join(top, `${name}p`), 'trusted.a')!).toString(), '1');
  const names: string[] = [];
  for await (const entry of readTar(bytesOf(...packTar(top, { layer: true, skipRoot: true }))))
    names.push(`${entry.header.path}>${entry.header.linkTarget}`);
  assert.deepEqual(names, [
    `${name}d/>`,
    `${name}d/${name}>`,
    `${name}l>${name}d/${name}`,
    `${name}p>`,
    `${name}s>${name}`,
    'n\udce5>',
  ]);
  await unpackTar(bytesOf(file('.wh.n\udce5', ''), directory('n\udce4d')), top, { layer: false });
  const copy = makeTestDirectory(t, 'copy');
  copyFiles(copy, [
    { kind: 'copy', sourceRoot: top, sources: [`${name}d`, 'n\udce5'], target: '/to', isDirectory: true },
  ]);
  assert.deepEqual(
    readdirSync(join(copy, 'to'), { encoding: 'buffer' })
      .map((each) => each.toString('latin1'))
      .sort(),
    ['n\xe4', 'n\xe5'],
  );
  const tree = makeTestDirectory(t, 'tree');
  await copyTree(top, tree);
  assert.deepEqual(readdirSync(tree, { encoding: 'buffer' }).length, readdirSync(top).length);
});

test('a time before 1970 is kept, and two unpackings are equal', async (t) => {
  const times: number[] = [];
  for (const _round of [1, 2]) {
    const top = makeTestDirectory(t, 'unpack');
    await unpackTar(
      bytesOf(
        encodeTarHeader({ path: 'd', type: 'directory', mtimeMs: -5000 }),
        encodeTarFile({ path: 'f', mtimeMs: -86_400_000 }, 'x'),
        encodeTarHeader({ path: 's', type: 'symlink', linkTarget: 'f', mtimeMs: -1000 }),
        tarEnd,
      ),
      top,
      { layer: true },
    );
    times.push(...['d', 'f', 's'].map((each) => lstatSync(join(top, each)).mtimeMs));
    for await (const { header } of readTar(bytesOf(...packTar(top, { layer: true, skipRoot: true }))))
      times.push(header.mtimeMs);
  }
  assert.deepEqual(times, Array.from({ length: 4 }, () => [-5000, -86_400_000, -1000]).flat());
});

test('a socket is in no layer, neither in the packed one nor in the directory that stands for it', async (t) => {
  const content = await openTestContent(t);
  const upper = join(content.root, 'containers-upper');
  mkdirSync(join(upper, 'run'), { recursive: true });
  const server = createServer().listen(join(upper, 'run/socket'));
  await once(server, 'listening');
  t.after(() => {
    server.close();
  });
  writeFileSync(join(upper, 'run/file'), 'x');
  const packed = await content.layers.commitUpper(upper);
  assert.deepEqual(readdirSync(join(content.root, content.layers.directory(packed.diffId), 'run')), ['file']);
});

test('where kinds are to be kept, a directory is not replaced by a file, nor a file by a directory', async (t) => {
  const top = makeTestDirectory(t, 'unpack');
  await unpackTar(bytesOf(directory('d'), file('f'), tarEnd), top, { layer: false });
  await assert.rejects(
    unpackTar(bytesOf(file('d', 'x'), tarEnd), top, { layer: false, keepsKinds: true }),
    /cannot overwrite directory "\/d" with non-directory "d"/,
  );
  await assert.rejects(
    unpackTar(bytesOf(directory('f'), tarEnd), top, { layer: false, keepsKinds: true }),
    /cannot overwrite non-directory "\/f" with directory "f\/"/,
  );
  await unpackTar(bytesOf(file('f', 'new'), directory('d'), tarEnd), top, { layer: false, keepsKinds: true });
  assert.equal(readFileSync(join(top, 'f'), 'utf8'), 'new');
});
