/** Layers that were made here: their blobs are made when somebody reads them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import type { Content } from './content.ts';
import { toImageLayer } from './image-writer.ts';
import { mediaTypes } from './image-records.ts';
import type { ImageLayer } from './image-records.ts';
import { compressLayer } from './layer-compression.ts';
import type { LayerRecord } from './layers.ts';
import { openTestContent } from './testing.ts';

async function makeLayer(content: Content, text = 'x'): Promise<ImageLayer> {
  const upper = join(content.root, 'upper');
  mkdirSync(join(upper, 'd'), { recursive: true });
  writeFileSync(join(upper, 'd/f'), text.repeat(100_000));
  return toImageLayer(await content.layers.commitUpper(upper));
}

async function read(content: Content, digest: string, range?: { start: number; end: number }): Promise<Buffer> {
  return Buffer.concat((await content.blobs.read(digest, range).toArray()) as Buffer[]);
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

test('a layer that was made here is its own blob, which is written when it is read', async (t) => {
  const content = await openTestContent(t);
  const layer = await makeLayer(content);
  assert.deepEqual([layer.digest, layer.mediaType], [layer.diffId, mediaTypes.dockerPlainLayer]);
  assert.deepEqual([content.blobs.has(layer.digest), content.blobs.isStored(layer.digest)], [true, false]);
  assert.equal((await read(content, layer.digest, { start: 0, end: 1 })).toString(), 'd/');
  assert.ok(content.blobs.isStored(layer.digest));
  const bytes = await read(content, layer.digest);
  assert.deepEqual([digestOf(bytes), bytes.length], [layer.digest, layer.sizeBytes]);
});

test('a layer whose files were changed gives no blob', async (t) => {
  const content = await openTestContent(t);
  const layer = await makeLayer(content);
  writeFileSync(join(content.root, content.layers.directory(layer.diffId), 'd/f'), 'y');
  await assert.rejects(read(content, layer.digest), /have changed/);
  await assert.rejects(content.layers.compress(layer.digest, { kind: 'gzip' }), /have changed/);
  assert.equal(content.blobs.isStored(layer.digest), false);
});

test('who names the blob keeps the layer that it is made of', async (t) => {
  const content = await openTestContent(t);
  const layer = await makeLayer(content);
  let blobs = [layer.digest];
  content.addRoots(() => ({ blobs, layers: [] }));
  await content.collect({ evenYoung: true });
  assert.ok(content.blobs.has(layer.digest));
  blobs = [];
  await content.collect({ evenYoung: true });
  assert.equal(content.blobs.has(layer.digest), false);
});

test('a layer that may not have been on disk when the power went is gone, one that has settled is not', async (t) => {
  const content = await openTestContent(t);
  const layer = await makeLayer(content);
  await content.layers.settle();
  const record = content.records.get<LayerRecord>('layers', layer.diffId)!;
  assert.equal(record.boot, undefined);
  const lost = { ...record, boot: 'another' };
  await content.records.commit([{ table: 'layers', key: layer.diffId, value: lost }]);
  await content.close();
  const next = await openTestContent(t, content.root);
  assert.equal(next.blobs.has(layer.digest), false);
  await assert.rejects(next.layers.ensure(layer.diffId, layer.digest), /nothing to unpack it from/);
});

test('a layer is compressed once, whatever is asked for, also at another level', async (t) => {
  const content = await openTestContent(t);
  const layer = await makeLayer(content);
  const plain = await read(content, layer.digest);
  const gzip = await compressLayer(content, layer, { kind: 'gzip' });
  assert.equal(gzip.mediaType, mediaTypes.dockerLayer);
  assert.deepEqual(gunzipSync(await read(content, gzip.digest)), plain);
  // The archive itself is not looked at again.
  writeFileSync(join(content.root, content.layers.directory(layer.diffId), 'd/f'), 'y');
  assert.deepEqual(await compressLayer(content, layer, { kind: 'gzip' }), gzip);
  const best = await compressLayer(content, gzip, { kind: 'gzip', level: 9 });
  assert.notEqual(best.digest, gzip.digest);
  const zstd = await compressLayer(content, best, { kind: 'zstd', level: 3 });
  assert.deepEqual(
    [gunzipSync(await read(content, best.digest)), zstdDecompressSync(await read(content, zstd.digest))],
    [plain, plain],
  );
  assert.equal((await compressLayer(content, zstd, { kind: 'none' })).digest, layer.digest);
});
