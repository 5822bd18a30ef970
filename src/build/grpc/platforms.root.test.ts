/** Builds for several platforms: what each is built with, and what the exporters make of them. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { readTar } from '#base/tar-read.ts';
import { mediaTypes } from '#content/image-records.ts';
import type { Descriptor, Index, Manifest } from '#content/manifest.ts';
import { bytesOf } from '#content/testing.ts';
import { realClock } from '#os/clock.real.ts';
import type { Message } from '#grpc/fields.ts';

import { dockerfile, makeBench, send } from './testing.ts';
import type { Bench, Options } from './testing.ts';

const host = formatPlatform(hostPlatform());
const foreign = hostPlatform().architecture === 'arm64' ? 'linux/amd64' : 'linux/arm64';
const both = `${host},${foreign}`;

/** A cross build: the compiler runs here, and is told what it compiles for. */
const cross = dockerfile(
  [
    'FROM --platform=$BUILDPLATFORM base AS build',
    'RUN ["append","/log","x"]',
    'ARG BUILDPLATFORM TARGETPLATFORM',
    'COPY <<-E /out',
    '\t$BUILDPLATFORM>$TARGETPLATFORM',
    '\tE',
    'FROM scratch',
    'ARG TARGETARCH',
    'COPY --from=build /out /out',
    'ENV FOR=$TARGETARCH',
    '',
  ].join('\n'),
);

async function readJson<T>({ content }: Bench, digest: string): Promise<T> {
  return JSON.parse((await content.blobs.readBytes(digest, 1 << 20)).toString()) as T;
}

const descriptorOf = (answer: Message): Descriptor => {
  const { 'containerimage.descriptor': text } = answer['ExporterResponse'] as Record<string, string>;
  return JSON.parse(Buffer.from(text!, 'base64').toString()) as Descriptor;
};

test('a build for several platforms is an index, of which each image is made for its own', async (t) => {
  const bench = await makeBench(t, { files: cross });
  const exporters = [{ Type: 'moby', Attrs: { name: 'x' } }];
  const { answer, shown } = await bench.build({ platform: both }, { Exporters: exporters });
  assert.ok(shown.includes(`[${foreign} stage-1 1/1] COPY --from=build /out /out`), shown.join('\n'));
  const told = answer['ExporterResponse'] as Record<string, string>;
  assert.equal(told['containerimage.config.digest'], undefined);
  const { image, index } = bench.records.findTarget('x')!;
  assert.deepEqual(
    [told['containerimage.digest'], descriptorOf(answer).mediaType],
    [index!.digest, mediaTypes.ociIndex],
  );
  assert.deepEqual([image.file.os, image.file.architecture], ['linux', hostPlatform().architecture]);
  const bytes = await readJson<Index>(bench, index!.digest);
  assert.deepEqual(
    bytes.manifests.map(({ mediaType, platform }) => [mediaType, formatPlatform(platform!)]),
    [host, foreign].map((platform) => [mediaTypes.ociManifest, platform]),
  );
  for (const text of [host, foreign]) {
    const [os = '', architecture = ''] = text.split('/');
    const record = bench.records.find('x', { platform: { os, architecture } })!;
    assert.deepEqual(
      [record.file.architecture, record.file.config?.Env?.at(-1)],
      [architecture, `FOR=${architecture}`],
    );
    await bench.read(record.layers, (root) => {
      assert.equal(readFileSync(join(root, 'out'), 'utf8'), `${host}>${text}\n`);
    });
  }
  // What both stand on is done once.
  assert.equal(bench.runs.filter(({ command }) => command[0] === 'append').length, 1);
  assert.equal(
    bench.records.listShown().filter(({ id }) => bench.records.namesOf(id).includes('docker.io/library/x:latest'))
      .length,
    1,
  );
  // Also a document in the Dockerfile is what it was, at another time.
  await realClock.sleep(20);
  const again = await bench.build({ platform: both }, { Exporters: [{ Type: 'moby', Attrs: { name: 'x' } }] });
  assert.deepEqual(descriptorOf(again.answer), descriptorOf(answer));
});

test('a client may ask for an index of one platform, and for the image of another', async (t) => {
  const bench = await makeBench(t, { files: cross });
  const one = await bench.build(
    { platform: foreign, 'multi-platform': 'true' },
    { Exporters: [{ Type: 'moby', Attrs: { name: 'one' } }] },
  );
  assert.equal(descriptorOf(one.answer).mediaType, mediaTypes.ociIndex);
  assert.equal(bench.records.findTarget('one')!.index!.manifests.length, 1);
  const plain = await bench.build({ platform: foreign }, { Exporters: [{ Type: 'moby', Attrs: { name: 'plain' } }] });
  assert.equal(formatPlatform(descriptorOf(plain.answer).platform!), foreign);
  assert.equal(bench.records.findTarget('plain')!.index, undefined);
});

test('annotations are of manifests, of the index and of what names them', async (t) => {
  const bench = await makeBench(t, { files: cross });
  const attributes = {
    name: 'x',
    'annotation.a': '1',
    [`annotation-manifest[${foreign}].a`]: '2',
    'annotation-manifest-descriptor.d': '3',
    'annotation-index.i': '4',
    'annotation-index-descriptor.j': '5',
  };
  const { answer } = await bench.build({ platform: both }, { Exporters: [{ Type: 'moby', Attrs: attributes }] });
  const descriptor = descriptorOf(answer);
  const index = await readJson<Index>(bench, descriptor.digest);
  assert.deepEqual([descriptor.annotations, index.annotations], [{ j: '5' }, { i: '4' }]);
  assert.deepEqual(
    index.manifests.map((each) => each.annotations),
    [{ d: '3' }, { d: '3' }],
  );
  const manifests = await Promise.all(index.manifests.map(({ digest }) => readJson<Manifest>(bench, digest)));
  assert.deepEqual(
    manifests.map((each) => each.annotations),
    [{ a: '1' }, { a: '2' }],
  );
  const exporters = [{ Type: 'moby', Attrs: { 'annotation-manifest[linux/s390x].a': '1' } }];
  await assert.rejects(bench.build({ platform: both }, { Exporters: exporters }), /no platform linux\/s390x found/);
  await assert.rejects(
    bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { 'annotation-index.i': '1' } }] }),
    /index annotations not supported for single platform export/,
  );
  // One image has those of its manifest, and needs no index.
  const single = await bench.build({}, { Exporters: [{ Type: 'moby', Attrs: { name: 'y', 'annotation.a': '1' } }] });
  const manifest = await readJson<Manifest>(bench, descriptorOf(single.answer).digest);
  assert.deepEqual([manifest.mediaType, manifest.annotations], [mediaTypes.ociManifest, { a: '1' }]);
  assert.equal(bench.records.findTarget('y')!.index, undefined);
});

/** Archives that the client was sent. */
function receive(archives: Buffer[]): Pick<Options, 'serves'> {
  return {
    serves: {
      [send]: async ({ messages }) => {
        const parts: Buffer[] = [];
        for await (const message of messages) parts.push(message['data'] as Buffer);
        archives.push(Buffer.concat(parts));
        return undefined;
      },
    },
  };
}

async function filesOf(archive: Buffer): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  for await (const { header, content } of readTar(bytesOf(archive))) {
    const parts: Uint8Array[] = [];
    for await (const part of content) parts.push(Uint8Array.from(part));
    files.set(header.path, Buffer.concat(parts).toString());
  }
  return files;
}

test('an OCI archive has the index, and files of several platforms lie apart', async (t) => {
  const archives: Buffer[] = [];
  const bench = await makeBench(t, { files: cross, ...receive(archives) });
  await bench.build({ platform: both }, { Exporters: [{ Type: 'oci', Attrs: { name: 'x:1' } }, { Type: 'tar' }] });
  const [layout, tree] = await Promise.all(archives.map(filesOf));
  const { manifests } = JSON.parse(layout!.get('index.json')!) as Index;
  assert.deepEqual(
    manifests.map((each) => [each.mediaType, each.annotations!['io.containerd.image.name']]),
    [[mediaTypes.ociIndex, 'docker.io/library/x:1']],
  );
  const index = JSON.parse(layout!.get(`blobs/${manifests[0]!.digest.replace(':', '/')}`)!) as Index;
  for (const { digest } of index.manifests) {
    const { config, layers } = JSON.parse(layout!.get(`blobs/${digest.replace(':', '/')}`)!) as Manifest;
    for (const { mediaType } of layers) assert.equal(mediaType, `${mediaTypes.ociLayer}+gzip`);
    for (const each of [config, ...layers])
      assert.ok(layout!.has(`blobs/${each.digest.replace(':', '/')}`), each.digest);
  }
  // Nothing of it is in the store.
  assert.equal(bench.records.find('x:1'), undefined);
  const names = [host, foreign].map((each) => each.replaceAll('/', '_'));
  assert.deepEqual(
    [...tree!.entries()].filter(([, text]) => text !== ''),
    names.map((name, at) => [`${name}/out`, `${host}>${[host, foreign][at]!}\n`]),
  );
});

test('a directory for each platform goes to a client that takes directories', async (t) => {
  const sent: string[] = [];
  const bench = await makeBench(t, {
    files: cross,
    takesDirectories: true,
    serves: {
      [send]: async ({ messages, send: answer }) => {
        const files: number[] = [];
        let texts = '';
        for await (const message of messages) {
          const stat = message['stat'] as Message | null;
          if (message['type'] === 0 && stat !== null) {
            if (String(stat['path']).endsWith('/out')) files.push(sent.length);
            sent.push(String(stat['path']));
          } else if (message['type'] === 0) for (const id of files) await answer({ type: 1, ID: id });
          else if (message['type'] === 2) {
            texts += String(message['data']);
            if ((message['data'] as Buffer).length > 0) continue;
            files.pop();
            if (files.length === 0) await answer({ type: 3 });
          }
        }
        sent.push(texts);
        return undefined;
      },
    },
  });
  await bench.build({ platform: both }, { Exporters: [{ Type: 'local' }] });
  const names = [host, foreign].map((each) => each.replaceAll('/', '_')).sort();
  assert.deepEqual(
    sent.slice(0, -1),
    names.flatMap((name) => [name, `${name}/out`]),
  );
  for (const platform of [host, foreign]) assert.ok(sent.at(-1)!.includes(`${host}>${platform}`));
  await assert.rejects(
    bench.build({ platform: both }, { Exporters: [{ Type: 'local', Attrs: { 'platform-split': 'false' } }] }),
    /cannot overwrite out from linux\/\w+ with linux\/\w+ when split option is disabled/,
  );
});

test('files of several platforms go into one directory where the client wants that, and none is overwritten', async (t) => {
  const sent: string[][] = [];
  const files = dockerfile('FROM scratch\nARG TARGETARCH\nCOPY empty /d/for-$TARGETARCH\n');
  const bench = await makeBench(t, {
    files,
    takesDirectories: true,
    serves: {
      [send]: async ({ messages, send: answer }) => {
        const paths: string[] = [];
        for await (const message of messages) {
          const stat = message['stat'] as Message | null;
          if (message['type'] !== 0) continue;
          if (stat !== null) paths.push(String(stat['path']));
          else await answer({ type: 3 });
        }
        sent.push(paths);
        return undefined;
      },
    },
  });
  const build = (): Promise<unknown> =>
    bench.build(
      { platform: both },
      {
        Exporters: [{ Type: 'local', Attrs: { 'platform-split': 'false' } }],
        FrontendAttrs: { 'attest:provenance': 'mode=min' },
      },
    );
  await build();
  assert.deepEqual(
    sent,
    [host, foreign].map((each) => [
      'd',
      `d/for-${each.slice('linux/'.length)}`,
      `provenance.${each.replaceAll('/', '_')}.json`,
    ]),
  );
  files['dockerfile'] = { Dockerfile: { text: 'FROM scratch\nCOPY empty /same\n' } };
  await assert.rejects(build(), new RegExp(`cannot overwrite same from ${host} with ${foreign} when split option`));
});

test('what names platforms and does not fit is refused, and nothing is left', async (t) => {
  const bench = await makeBench(t, { files: cross });
  const before = bench.records.list().length;
  await assert.rejects(bench.build({ platform: 'linux/' }), /invalid component/);
  await assert.rejects(bench.build({ platform: `${host},nonsense` }), /unknown operating system or architecture/);
  assert.equal(bench.records.list().length, before);
  assert.deepEqual(readdirSync(join(bench.content.root, 'uploads')), []);
});
