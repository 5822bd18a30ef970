/**
 * What every maker of root filesystems must do (`snapshots.ts`). What a container wrote is its own and outlives
 * unmounting; what its image holds is never written to; each call may be made again, also by the process after one that
 * was killed. An implementation's test calls `runSnapshotsSuite`. Needs root: roots are mounted.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, openSync, closeSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { createMounts } from '#os/mount.linux.ts';
import type { Mounts } from '#os/mount.ts';
import type { Content } from './content.ts';
import { createImageRecords, type ImageLayer, type ImageRecords } from './image-records.ts';
import type { BuildSnapshots } from './snapshots.ts';
import { bytesOf, makeMountDirectory, makeTestDisk, openTestContent, type TestScope } from './testing.ts';

export interface SnapshotsBench {
  /** What a process makes of a content store when it starts. */
  open(options: { content: Content; images: ImageRecords; mounts: Mounts }): BuildSnapshots;
}

interface Place {
  content: Content;
  images: ImageRecords;
  mounts: Mounts;
  snapshots: BuildSnapshots;
  /** Of two layers: `base` is in the lower, `both` in each. */
  imageId: string;
  layers: ImageLayer[];
}

const imageId = `sha256:${'ab'.repeat(32)}`;
const badIds = ['', '.', '..', '../x', 'a/b', '-x', 'x'.repeat(129)];

async function addLayer(content: Content, ...parts: Buffer[]): Promise<ImageLayer> {
  const bytes = Buffer.concat([...parts, tarEnd]);
  const { digest, sizeBytes } = await content.blobs.write(bytesOf(bytes));
  return { digest, diffId: `sha256:${createHash('sha256').update(bytes).digest('hex')}`, sizeBytes, mediaType: '' };
}

async function addImage(images: ImageRecords, id: string, layers: ImageLayer[]): Promise<void> {
  await images.put({
    id,
    manifestDigest: layers[0]!.digest,
    manifestMediaType: '',
    layers,
    file: { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] } },
    createdAtMs: 0,
  });
}

const imageFiles = (): Buffer[][] => [
  [encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'd/base' }, 'base')],
  [encodeTarHeader({ path: 'd', type: 'directory', mode: 0o755 }), encodeTarFile({ path: 'd/both' }, 'upper')],
];

export function runSnapshotsSuite(name: string, bench: SnapshotsBench): void {
  const prepare = async (scope: TestScope, root: string, mounts: Mounts): Promise<Place> => {
    const content = await openTestContent(scope, root);
    const images = createImageRecords(content);
    const layers = [];
    for (const parts of imageFiles()) layers.push(await addLayer(content, ...parts));
    await addImage(images, imageId, layers);
    return { content, images, mounts, layers, imageId, snapshots: bench.open({ content, images, mounts }) };
  };
  /** What the next process finds. */
  const prepareAgain = async (scope: TestScope, { content, mounts }: Place) => {
    await content.close();
    const next = await openTestContent(scope, content.root);
    return { content: next, snapshots: bench.open({ content: next, images: createImageRecords(next), mounts }) };
  };
  const at = (title: string, run: (place: Place) => Promise<void>): void => {
    test(title, async (t) => {
      const mounts = createMounts();
      await run(await prepare(t, makeMountDirectory(t, 'snapshots', mounts), mounts));
    });
  };
  describe(name, () => {
    describeRoots(at);
    describeLayers(at, bench);
    describeTaking(at);
    describeFailures(at, bench);
    test('a full disk is told as such; with room again the same call makes the root', async (t) => {
      const disk = await makeTestDisk(t, 4 << 20);
      const place = await prepare(t, join(disk, 'content'), createMounts());
      const { snapshots, layers } = place;
      const { root } = await snapshots.mountContainerRoot('first', imageId);
      assert.throws(() => writeFileSync(join(root, 'fill'), Buffer.alloc(8 << 20)), { code: 'ENOSPC' });
      await assert.rejects(snapshots.mountContainerRoot('second', imageId), { code: 'ENOSPC' });
      await snapshots.removeContainerRoot('first');
      const second = await snapshots.mountContainerRoot('second', imageId);
      writeFileSync(join(second.root, 'd/own'), 'x');
      assert.equal(readFileSync(join(second.root, 'd/base'), 'utf8'), 'base');
      await place.images.commit([{ table: 'images', key: imageId, value: undefined }]);
      await snapshots.unmountContainerRoot('second');
      const later = await prepareAgain(t, place);
      await later.content.collect({ evenYoung: true });
      assert.ok(
        layers.every(({ diffId }) => later.content.layers.has(diffId)),
        'the next process knows its layers',
      );
      await later.snapshots.removeContainerRoot('second');
    });
  });
}

type At = (title: string, run: (place: Place) => Promise<void>) => void;

function describeRoots(at: At): void {
  at('a root shows the image; what is written is its own, and outlives unmounting', async ({ snapshots, mounts }) => {
    const one = (await snapshots.mountContainerRoot('one', imageId)).root;
    const two = (await snapshots.mountContainerRoot('two', imageId)).root;
    assert.deepEqual(readdirSync(join(one, 'd')).sort(), ['base', 'both']);
    writeFileSync(join(one, 'd/base'), 'changed');
    writeFileSync(join(one, 'd/own'), 'own');
    assert.equal(readFileSync(join(two, 'd/base'), 'utf8'), 'base');
    assert.deepEqual(readdirSync(join(snapshots.upperDir('one'), 'd')).sort(), ['base', 'own']);
    assert.deepEqual(readdirSync(snapshots.upperDir('two')), []);
    for (const _again of [1, 2]) await snapshots.unmountContainerRoot('one');
    assert.deepEqual([readdirSync(one), await mounts.listBelow(one)], [[], []]);
    assert.equal((await snapshots.mountContainerRoot('one', imageId)).root, one);
    assert.equal(readFileSync(join(one, 'd/base'), 'utf8'), 'changed');
  });

  at('mounted again it is one mount, and nothing is lost', async ({ snapshots, mounts }) => {
    const { root } = await snapshots.mountContainerRoot('one', imageId);
    writeFileSync(join(root, 'own'), 'own');
    assert.equal((await snapshots.mountContainerRoot('one', imageId)).root, root);
    assert.equal(readFileSync(join(root, 'own'), 'utf8'), 'own');
    assert.equal((await mounts.listBelow(root)).length, 1);
  });

  at('removed, it is gone with all that was written; removed again it is nothing', async (place) => {
    const { snapshots, content, mounts } = place;
    const { root } = await snapshots.mountContainerRoot('one', imageId);
    writeFileSync(join(root, 'own'), 'own');
    for (const _again of [1, 2]) await snapshots.removeContainerRoot('one');
    assert.deepEqual([existsSync(snapshots.upperDir('one')), existsSync(root)], [false, false]);
    await snapshots.unmountContainerRoot('one');
    assert.deepEqual(await mounts.listBelow(content.root), []);
    const again = await snapshots.mountContainerRoot('one', imageId);
    assert.deepEqual(readdirSync(again.root), ['d'], 'the name is free, and nothing of the old one is left');
  });

  at('removed while somebody is in it, it goes, and the image stays whole', async ({ snapshots }) => {
    const { root } = await snapshots.mountContainerRoot('one', imageId);
    const held = openSync(join(root, 'd/base'), 'r');
    try {
      await snapshots.removeContainerRoot('one');
      assert.equal(readFileSync(held, 'utf8'), 'base');
      assert.equal(existsSync(root), false);
    } finally {
      closeSync(held);
    }
    const other = await snapshots.mountContainerRoot('two', imageId);
    assert.equal(readFileSync(join(other.root, 'd/base'), 'utf8'), 'base');
  });

  at('an id never leads out of the directory; an image that is not here is told', async ({ snapshots, content }) => {
    mkdirSync(join(content.root, 'victim'));
    for (const id of badIds) {
      await assert.rejects(snapshots.mountContainerRoot(id, imageId), /invalid container id/, id);
      await assert.rejects(snapshots.unmountContainerRoot(id), /invalid container id/, id);
      await assert.rejects(snapshots.removeContainerRoot(id), /invalid container id/, id);
      assert.throws(() => snapshots.upperDir(id), /invalid container id/, id);
    }
    await assert.rejects(snapshots.mountContainerRoot('one', `sha256:${'00'.repeat(32)}`), /No such image/);
    assert.ok(existsSync(join(content.root, 'victim')));
    assert.equal(existsSync(join(content.root, 'containers', 'one')), false);
  });

  at('the parts of a root are told, topmost layer first', async ({ snapshots, content, layers }) => {
    const { root } = await snapshots.mountContainerRoot('one', imageId);
    const told = snapshots.directories('one', imageId);
    assert.deepEqual(
      told.LowerDir.split(':'),
      layers.map(({ diffId }) => join(content.root, content.layers.directory(diffId))).reverse(),
    );
    assert.deepEqual([told.MergedDir, told.UpperDir], [root, snapshots.upperDir('one')]);
    assert.ok(existsSync(told.WorkDir));
  });
}

function describeLayers(at: At, bench: SnapshotsBench): void {
  at('many roots of an image that is not unpacked yet are made at once', async ({ snapshots, content, layers }) => {
    assert.ok(layers.every(({ diffId }) => !content.layers.has(diffId)));
    const ids = Array.from({ length: 8 }, (_, i) => `c${i}`);
    const roots = await Promise.all(ids.map((id) => snapshots.mountContainerRoot(id, imageId)));
    for (const { root } of roots) assert.equal(readFileSync(join(root, 'd/both'), 'utf8'), 'upper');
    assert.deepEqual(readdirSync(join(content.root, 'l')).length, layers.length, 'each layer is unpacked once');
    await Promise.all(ids.map((id) => snapshots.removeContainerRoot(id)));
  });

  at('layers stay as long as a root has them, also for the next process and without the image', async (place) => {
    const { snapshots, content, images, mounts, layers } = place;
    await snapshots.mountContainerRoot('one', imageId);
    await images.commit([{ table: 'images', key: imageId, value: undefined }]);
    const next = bench.open({ content, images: createImageRecords(content), mounts });
    await content.collect({ evenYoung: true });
    assert.ok(layers.every(({ diffId }) => content.layers.has(diffId)));
    await next.unmountContainerRoot('one');
    const { root } = await next.mountContainerRoot('one', imageId);
    assert.equal(readFileSync(join(root, 'd/base'), 'utf8'), 'base');
    await Promise.all([snapshots, next].map((each) => each.removeContainerRoot('one')));
    await content.collect({ evenYoung: true });
    assert.ok(layers.every(({ diffId }) => !content.layers.has(diffId)));
  });

  at('a blob that is not the layer its image names makes no root', async ({ snapshots, content, images, mounts }) => {
    const layer = await addLayer(content, encodeTarFile({ path: 'x' }, 'x'));
    const wrong = `sha256:${'cd'.repeat(32)}`;
    await addImage(images, wrong, [{ ...layer, diffId: `sha256:${'ef'.repeat(32)}` }]);
    await assert.rejects(snapshots.mountContainerRoot('one', wrong), /diff id/);
    assert.deepEqual(
      [
        readdirSync(join(content.root, 'l')),
        await mounts.listBelow(content.root),
        existsSync(snapshots.upperDir('one')),
      ],
      [[], [], false],
    );
  });

  at('a root of no layers is empty, and can be written to', async ({ snapshots }) => {
    const { root } = await snapshots.mountLayers('scratch', []);
    assert.deepEqual(readdirSync(root), []);
    writeFileSync(join(root, 'x'), 'x');
    assert.deepEqual(readdirSync(snapshots.upperDir('scratch')), ['x']);
  });
}

function describeTaking(at: At): void {
  at('what a build step wrote is taken away, and the next one starts without it', async ({ snapshots, layers }) => {
    const { root } = await snapshots.mountLayers('step', layers);
    writeFileSync(join(root, 'd/new'), 'new');
    const taken = await snapshots.detachUpper('step');
    assert.deepEqual(readdirSync(join(taken, 'd')), ['new']);
    const again = await snapshots.mountLayers('step', layers);
    assert.deepEqual(readdirSync(join(again.root, 'd')).sort(), ['base', 'both']);
    writeFileSync(join(again.root, 'second'), '');
    assert.deepEqual(readdirSync(await snapshots.detachUpper('step')), ['second']);
    await snapshots.removeContainerRoot('step');
    assert.equal(existsSync(taken), false);
  });
}

function describeFailures(at: At, bench: SnapshotsBench): void {
  at('killed at any of its steps, the next process makes the root or removes it', async (place) => {
    const { content, images, mounts } = place;
    // One that never comes back from its nth call of the kernel is dead to the one after it.
    for (let stepsMax = 0, isDone = false; !isDone; stepsMax++) {
      let steps = 0;
      const dying = new Proxy(mounts, {
        get: (target, name: keyof Mounts) =>
          ++steps > stepsMax ? () => Promise.reject(new Error('killed')) : target[name].bind(target),
      });
      const first = bench.open({ content, images, mounts: dying });
      const live = async (): Promise<void> => {
        const { root } = await first.mountContainerRoot('one', imageId);
        writeFileSync(join(root, 'own'), 'own');
        await first.unmountContainerRoot('one');
        await first.removeContainerRoot('one');
      };
      isDone = await live().then(
        () => true,
        (error: unknown) => {
          assert.match(String(error), /killed/);
          return false;
        },
      );
      const next = bench.open({ content, images, mounts });
      const { root } = await next.mountContainerRoot('one', imageId);
      assert.equal(readFileSync(join(root, 'd/base'), 'utf8'), 'base', `after ${stepsMax} steps`);
      await next.removeContainerRoot('one');
      await bench.open({ content, images, mounts }).removeContainerRoot('one');
      assert.deepEqual([await mounts.listBelow(content.root), existsSync(root)], [[], false], `${stepsMax} steps`);
    }
  });

  at('half made by one that was killed between two files, it is made whole', async ({ content, images, mounts }) => {
    for (const names of [[], ['upper'], ['upper', 'work', 'root']])
      for (const record of [undefined, '', '{"imageId":']) {
        for (const name of names) mkdirSync(join(content.root, 'containers/one', name), { recursive: true });
        mkdirSync(join(content.root, 'containers/one'), { recursive: true });
        if (record !== undefined) writeFileSync(join(content.root, 'containers/one/image'), record);
        const snapshots = bench.open({ content, images, mounts });
        const { root } = await snapshots.mountContainerRoot('one', imageId);
        writeFileSync(join(root, 'own'), 'own');
        assert.deepEqual(readdirSync(root).sort(), ['d', 'own']);
        await snapshots.removeContainerRoot('one');
      }
  });
}
