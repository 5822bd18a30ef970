/** Layers that name files without their directories, mounted as containers see them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, readFileSync, readdirSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { createMounts } from '#os/mount.linux.ts';
import { createImageRecords } from './image-records.ts';
import type { ImageLayer } from './image-records.ts';
import { createSnapshots } from './snapshots.ts';
import { bytesOf, openTestContent } from './testing.ts';
import type { TestScope } from './testing.ts';

const directory = (path: string, mode: number, more: object = {}): Buffer =>
  encodeTarHeader({ path, type: 'directory', mode, ...more });
const file = (path: string, text = path): Buffer => encodeTarFile({ path }, text);
const symlink = (path: string, linkTarget: string): Buffer => encodeTarHeader({ path, type: 'symlink', linkTarget });

async function withRoot(t: TestScope, layers: Buffer[][], look: (root: string) => void): Promise<void> {
  const content = await openTestContent(t);
  const snapshots = createSnapshots({ content, images: createImageRecords(content), mounts: createMounts() });
  const made: ImageLayer[] = [];
  for (const parts of layers) {
    const bytes = Buffer.concat([...parts, tarEnd]);
    const { digest, sizeBytes } = await content.blobs.write(bytesOf(bytes));
    const diffId = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    await content.layers.ensure(diffId, digest);
    made.push({ digest, diffId, sizeBytes, mediaType: '' });
  }
  const { root } = await snapshots.mountLayers('test', made);
  try {
    look(root);
  } finally {
    await snapshots.removeContainerRoot('test');
  }
}

const modeOf = (path: string): string => {
  const { mode, uid, mtimeMs } = lstatSync(path);
  return `${(mode & 0o7777).toString(8)} ${uid} ${mtimeMs}`;
};

test('a directory that a layer does not name stays as it was below', async (t) => {
  await withRoot(
    t,
    [
      [
        directory('tmp', 0o1777, { uid: 5, mtimeMs: 1_000_000 }),
        file('tmp/old'),
        directory('a', 0o700),
        directory('a/b', 0o750, { uid: 7 }),
      ],
      [file('tmp/x'), file('a/b/c/d')],
      [file('a/new')],
    ],
    (root) => {
      assert.deepEqual(
        [modeOf(join(root, 'tmp')), modeOf(join(root, 'a')), modeOf(join(root, 'a/b'))],
        ['1777 5 1000000', '700 0 0', '750 7 0'],
      );
      assert.deepEqual(
        [
          readdirSync(join(root, 'tmp')).sort(),
          readdirSync(join(root, 'a')).sort(),
          readFileSync(join(root, 'a/b/c/d'), 'utf8'),
        ],
        [['old', 'x'], ['b', 'new'], 'a/b/c/d'],
      );
      // And can be written to.
      writeFileSync(join(root, 'tmp/y'), '');
      assert.equal(modeOf(join(root, 'tmp')).split(' ')[0], '1777');
    },
  );
});

test('a layer above that names the directory decides, and one that was removed below is new', async (t) => {
  await withRoot(
    t,
    [
      [directory('tmp', 0o1777), directory('d', 0o700), file('d/old'), directory('o', 0o711)],
      [file('tmp/x'), file('.wh.d', ''), file('o/x')],
      [directory('tmp', 0o711), file('d/new'), file('o/.wh..wh..opq', '')],
    ],
    (root) => {
      assert.deepEqual(
        ['tmp', 'd', 'o'].map((path) => modeOf(join(root, path)).split(' ')[0]),
        ['711', '755', '711'],
      );
      assert.deepEqual([readdirSync(join(root, 'd')), readdirSync(join(root, 'o'))], [['new'], []]);
    },
  );
});

test('a symlink to a directory stays one, and the file lands where it leads', async (t) => {
  await withRoot(
    t,
    [
      [
        directory('usr', 0o755),
        directory('usr/lib', 0o750, { uid: 3 }),
        file('usr/lib/old'),
        file('usr/lib/both', 'below'),
        symlink('lib', 'usr/lib'),
      ],
      [file('lib/x'), file('lib/both', 'above'), file('lib/sub/y')],
      [file('lib/z')],
    ],
    (root) => {
      assert.equal(readlinkSync(join(root, 'lib')), 'usr/lib');
      assert.deepEqual(readdirSync(join(root, 'usr/lib')).sort(), ['both', 'old', 'sub', 'x', 'z']);
      assert.deepEqual(
        [
          modeOf(join(root, 'usr/lib')).slice(0, 5),
          readFileSync(join(root, 'lib/both'), 'utf8'),
          readFileSync(join(root, 'usr/lib/sub/y'), 'utf8'),
        ],
        ['750 3', 'above', 'lib/sub/y'],
      );
    },
  );
});

test('a link that leads out of the image leads nowhere on the host', async (t) => {
  await withRoot(
    t,
    [
      [symlink('out', '/../../../../tmp'), symlink('loop', 'loop')],
      [file('out/escaped-from-layer', 'x'), file('loop/x')],
    ],
    (root) => {
      assert.ok(!existsSync('/tmp/escaped-from-layer') && statSync(join(root, 'out')).isDirectory());
    },
  );
});
