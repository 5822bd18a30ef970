/** Images that are saved and loaded: archives of docker, layouts of OCI, and what is wrong with some. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { hostPlatform } from '#base/platform.ts';
import type { Platform } from '#base/platform.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import { mediaTypes } from '#content/image-records.ts';
import { bytesOf } from '#content/testing.ts';
import { makeStore, root, textOf } from './testing.ts';
import type { Index } from '#content/manifest.ts';

test('what was saved is loaded with the same id and names', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('seven'), { name: 'a/b:1' });
  await source.images.tag('a/b:1', 'c:2');
  const store = await makeStore(t);
  const lines: string[] = [];
  await store.images.load(await source.images.save(['a/b:1', 'c:2']), (event) => {
    if (typeof event['stream'] === 'string') lines.push(event['stream']);
  });
  assert.deepEqual(lines, ['Loaded image: a/b:1\n', 'Loaded image: c:2\n']);
  assert.deepEqual([store.images.find('c:2')!.id, store.images.find('a/b:1')!.names], [record.id, ['a/b:1', 'c:2']]);
  assert.equal(store.records.get(record.id)!.manifestDigest, source.records.get(record.id)!.manifestDigest);
  // Readers of OCI layouts know OCI's types alone.
  for await (const entry of readTar(await source.images.save(['c:2']))) {
    if (entry.header.path !== 'index.json') continue;
    const parts: Uint8Array[] = [];
    for await (const part of entry.content) parts.push(Uint8Array.from(part));
    assert.deepEqual(
      (JSON.parse(Buffer.concat(parts).toString()) as Index).manifests.map((each) => each.mediaType),
      [mediaTypes.ociManifest],
    );
  }
  await assert.rejects(
    store.images.load(bytesOf(encodeTarFile({ path: 'x' }, 'y'), tarEnd), () => {}),
    /does not contain a manifest.json/,
  );
  await assert.rejects(
    store.images.load(
      bytesOf(encodeTarFile({ path: 'manifest.json' }, '[{"Config":"../../x","Layers":[]}]'), tarEnd),
      () => {},
    ),
    /outside of it|missing/,
  );
});

/** An OCI layout of images that differ in their platform. `edit` may spoil a file. */
async function ociLayout(
  images: { platform: Platform; named?: Platform | undefined; name?: string }[],
  edit: (path: string, bytes: Buffer) => Buffer = (_path, bytes) => bytes,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  const seen = new Set<string>();
  const put = (bytes: Buffer): { digest: string; size: number } => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    if (!seen.has(hex)) parts.push(encodeTarFile({ path: `blobs/sha256/${hex}` }, edit(`blobs/sha256/${hex}`, bytes)));
    seen.add(hex);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const layer = Buffer.concat([encodeTarFile({ path: 'f' }, 'x'), tarEnd]);
  const manifests = images.map(({ platform, named, name }) => {
    const config = put(
      Buffer.from(
        JSON.stringify({
          ...platform,
          rootfs: { type: 'layers', diff_ids: [`sha256:${createHash('sha256').update(layer).digest('hex')}`] },
          config: {},
        }),
      ),
    );
    const manifest = put(
      Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: mediaTypes.ociManifest,
          config: { mediaType: mediaTypes.ociConfig, ...config },
          layers: [{ mediaType: mediaTypes.ociLayer, ...put(layer) }],
        }),
      ),
    );
    return {
      mediaType: mediaTypes.ociManifest,
      ...manifest,
      ...(named === undefined ? {} : { platform: named }),
      ...(name === undefined ? {} : { annotations: { 'io.containerd.image.name': name } }),
    };
  });
  return Buffer.concat([
    encodeTarFile({ path: 'oci-layout' }, '{"imageLayoutVersion":"1.0.0"}'),
    ...parts,
    encodeTarFile({ path: 'index.json' }, JSON.stringify({ schemaVersion: 2, manifests })),
    tarEnd,
  ]);
}

test('a compressed archive is loaded as well, and one that ends without its end mark', async (t) => {
  const source = await makeStore(t);
  const record = await source.images.import(root('packed'), { name: 'packed:1' });
  const parts: Uint8Array[] = [];
  for await (const part of await source.images.save(['packed:1'])) parts.push(part);
  const archive = Buffer.concat(parts);
  const forms = {
    plain: archive,
    short: archive.subarray(0, -1024),
    gzip: gzipSync(archive),
    zstd: zstdCompressSync(archive),
    xz: execFileSync('xz', ['-c'], { input: archive }),
    bzip2: execFileSync('bzip2', ['-c'], { input: archive }),
  };
  for (const [form, bytes] of Object.entries(forms)) {
    const store = await makeStore(t);
    await store.images.load(bytesOf(bytes), () => {});
    assert.equal(store.images.find('packed:1')?.id, record.id, form);
  }
});

test('a load that loads nothing, or whose content is not what its name says, is an error', async (t) => {
  const arm = { os: 'linux', architecture: 'arm64' };
  const load = async (bytes: Buffer, platform?: Platform): Promise<string> => {
    const store = await makeStore(t);
    return textOf(() => store.images.load(bytesOf(bytes), () => {}, platform === undefined ? [] : [platform]));
  };
  assert.match(
    await load(await ociLayout([{ platform: arm, named: arm }])),
    /no image for linux\/amd64 in the archive, which has linux\/arm64/,
  );
  assert.equal(await load(await ociLayout([{ platform: arm, named: arm, name: 'x:1' }]), arm), 'nothing was wrong');
  assert.match(
    await load(
      await ociLayout([{ platform: hostPlatform() }], (path, bytes) =>
        bytes.includes('schemaVersion') ? Buffer.concat([bytes, Buffer.from(' ')]) : bytes,
      ),
    ),
    /unexpected commit digest/,
  );
  assert.match(
    await load(
      await ociLayout([{ platform: hostPlatform() }], (path, bytes) =>
        bytes.includes('ustar') ? Buffer.concat([bytes, Buffer.alloc(512)]) : bytes,
      ),
    ),
    /unexpected commit digest/,
  );
  assert.match(await load(await ociLayout([])), /holds no image/);
  assert.match(await load(Buffer.concat([encodeTarFile({ path: 'manifest.json' }, '[]'), tarEnd])), /holds no image/);
  for (const manifest of [
    '{}',
    'null',
    '[null]',
    '[{"Config":"x"}]',
    '[{"Config":"x","Layers":[5]}]',
    '[{"Config":"x","Layers":[],"RepoTags":[{}]}]',
    '[{"Config":"x","Layers":[]}]',
  ])
    assert.match(
      await load(Buffer.concat([encodeTarFile({ path: 'manifest.json' }, manifest), tarEnd])),
      /invalid archive/,
      manifest,
    );
  assert.match(
    await load(
      Buffer.concat([
        encodeTarFile({ path: 'index.json' }, `{"manifests":[{"digest":"sha256:${'0'.repeat(64)}"}]}`),
        tarEnd,
      ]),
    ),
    /not found/,
  );
  const both = await makeStore(t);
  await both.images.load(
    bytesOf(
      await ociLayout([
        { platform: arm, named: arm, name: 'two:1' },
        { platform: hostPlatform(), named: hostPlatform(), name: 'two:1' },
      ]),
    ),
    () => {},
  );
  assert.equal(both.records.find('two:1')!.file.architecture, hostPlatform().architecture);
});
