/** Layers as exporters give them away: of a time that does not change, and compressed as was asked for. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { bytesOf } from '#content/testing.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { Manifest } from '#content/manifest.ts';
import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { dockerfile, makeBench } from './testing.ts';
import type { Bench } from './testing.ts';

const text = 'FROM base\nRUN ["write","/f","1"]\nCOPY d /d\nWORKDIR /w\nCOPY <<E /h\nx\nE\n';

async function build(bench: Bench, attributes: Record<string, string>): Promise<ImageRecord> {
  const { builder, records } = bench;
  await bench.build(
    { 'build-arg:SOURCE_DATE_EPOCH': '86400' },
    { Exporters: [{ Type: 'image', Attrs: { name: 'x', ...attributes } }] },
  );
  const made = records.find('x')!;
  await builder.cache.prune({ all: true });
  return made;
}

test('two builds of one source at different times are the same image, bit for bit', async (t) => {
  const bench = await makeBench(t, { files: dockerfile(text) });
  const first = await build(bench, { 'rewrite-timestamp': 'true' });
  // Times of files have whole seconds in an archive.
  await realClock.sleep(1100);
  const second = await build(bench, { 'rewrite-timestamp': 'true' });
  assert.equal(bench.runs.length, 2, 'nothing came from the cache');
  assert.deepEqual([second.id, second.manifestDigest], [first.id, first.manifestDigest]);
  assert.equal(first.file.created, '1970-01-02T00:00:00.000Z');
  assert.ok(first.file.history?.every(({ created = '' }) => created <= '1970-01-02T00:00:00.000Z'));
  await bench.read(first.layers, () => {});
});

test('what came with the base image, and files that are older, keep their times', async (t) => {
  const bench = await makeBench(t, { files: dockerfile(text) });
  const base = bench.records.find('base')!;
  const { layers } = await build(bench, { 'rewrite-timestamp': 'true' });
  assert.deepEqual(layers[0], base.layers[0]);
});

for (const [compression, undo] of [
  ['gzip', gunzipSync],
  ['zstd', zstdDecompressSync],
  ['uncompressed', (bytes: Buffer) => bytes],
] as const)
  test(`layers of an exporter are ${compression} where it says so`, async (t) => {
    const bench = await makeBench(t, { files: dockerfile(text) });
    const { layers } = await build(bench, { compression, 'force-compression': 'true', 'oci-mediatypes': 'true' });
    for (const { digest, diffId } of layers) {
      const blob = Buffer.concat((await bench.content.blobs.read(digest).toArray()) as Buffer[]);
      const { digest: found } = await bench.content.blobs.write(bytesOf(undo(blob)));
      assert.equal(found, diffId);
      assert.equal(digest === diffId, compression === 'uncompressed');
    }
  });

test('an exporter gives eStargz away as other layers, with what readers of it look for', async (t) => {
  const bench = await makeBench(t, { files: dockerfile(text) });
  const how = { compression: 'estargz', 'force-compression': 'true', 'rewrite-timestamp': 'true' };
  const { layers, manifestDigest, file } = await build(bench, how);
  const read = async (digest: string): Promise<Buffer> =>
    Buffer.concat((await bench.content.blobs.read(digest).toArray()) as Buffer[]);
  const manifest = JSON.parse((await read(manifestDigest)).toString()) as Manifest;
  assert.equal(manifest.mediaType, 'application/vnd.oci.image.manifest.v1+json');
  for (const [at, { digest, mediaType, annotations = {} }] of manifest.layers.entries()) {
    assert.equal(mediaType, 'application/vnd.oci.image.layer.v1.tar+gzip');
    const plain = gunzipSync(await read(digest));
    assert.equal(annotations['io.containers.estargz.uncompressed-size'], String(plain.length));
    assert.match(annotations['containerd.io/snapshot/stargz/toc.digest'] ?? '', /^sha256:[0-9a-f]{64}$/);
    assert.equal((await bench.content.blobs.write(bytesOf(plain))).digest, file.rootfs.diff_ids[at]);
  }
  for (const { diffId, digest } of layers) await bench.content.layers.ensure(diffId, digest);
  await bench.read(layers, (root) => assert.ok(existsSync(join(root, 'd/large'))));
  // Made of what is eStargz already, at any other time, it is the same.
  const again = await build(bench, how);
  assert.deepEqual(
    again.layers.map(({ digest }) => digest),
    layers.map(({ digest }) => digest),
  );
  const refused = { Cache: { Exports: [{ Type: 'local', Attrs: how }] } };
  await assert.rejects(bench.build({}, refused), /a cache has no eStargz layers/);
});
