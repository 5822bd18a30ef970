/** Caches that go to the client and come from it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestScope } from '#content/testing.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import type { Handler } from './grpc.ts';
import { bytesIn, numberIn, textIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { dockerfile, makeBench } from './testing.ts';
import type { Bench } from './testing.ts';

const method = (name: string): string => `/containerd.services.content.v1.Content/${name}`;
const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A client's directory of blobs. */
function serveBlobs(blobs: Map<string, Buffer>): Record<string, Handler> {
  const blobOf = (request: Message): Buffer => {
    const found = blobs.get(textIn(request, 'digest'));
    if (found === undefined) throw new GrpcError(code.notFound, 'not found');
    return found;
  };
  return {
    [method('Info')]: async ({ messages, send }) => {
      for await (const request of messages) {
        await send({ info: { digest: textIn(request, 'digest'), size: blobOf(request).length } });
        break;
      }
      return undefined;
    },
    [method('Read')]: async ({ messages, send }) => {
      for await (const request of messages) {
        const bytes = blobOf(request);
        for (let at = 0; at < bytes.length; at += 1000) await send({ offset: at, data: bytes.subarray(at, at + 1000) });
        break;
      }
      return undefined;
    },
    [method('Write')]: async ({ messages, send }) => {
      const parts: Buffer[] = [];
      for await (const message of messages) {
        assert.equal(numberIn(message, 'offset') > 0, Buffer.concat(parts).length > 0);
        parts.push(bytesIn(message, 'data'));
        if (message['action'] === 2) {
          const bytes = Buffer.concat(parts);
          if (blobs.has(digestOf(bytes))) throw new GrpcError(code.alreadyExists, 'it is there');
          assert.equal(textIn(message, 'expected'), digestOf(bytes));
          blobs.set(digestOf(bytes), bytes);
        }
        await send({ action: message['action'] });
        if (message['action'] === 2) break;
      }
      return undefined;
    },
  };
}

const text = [
  'FROM base AS a',
  'RUN ["write","/one","1"]',
  'RUN ["say","nothing is written"]',
  'FROM base',
  'COPY --from=a /one /two',
  'COPY d /d',
  'RUN ["append","/two","2"]',
].join('\n');

interface Site extends Bench {
  blobs: Map<string, Buffer>;
  exportTo(attributes?: Record<string, string>): Promise<string>;
  importFrom(digest: string): Promise<{ shown: string[] }>;
}

async function makeSite(t: TestScope, blobs = new Map<string, Buffer>(), lines = text): Promise<Site> {
  const bench = await makeBench(t, { files: dockerfile(`${lines}\n`), serves: serveBlobs(blobs) });
  return {
    ...bench,
    blobs,
    async exportTo(attributes = {}) {
      const entry = { Type: 'local', Attrs: { dest: 'x', mode: 'max', ...attributes } };
      const { answer } = await bench.build({}, { Cache: { Exports: [entry] } });
      const { 'cache.manifest': manifest = '' } = answer['ExporterResponse'] as Record<string, string>;
      return String((JSON.parse(manifest) as { digest: string }).digest);
    },
    importFrom: (digest) => bench.build({}, { Cache: { Imports: [{ Type: 'local', Attrs: { src: 'x', digest } }] } }),
  };
}

for (const attributes of [{}, { compression: 'zstd' }, { compression: 'uncompressed' }, { 'image-manifest': 'false' }])
  test(`another builder carries nothing out that a cache knows ${JSON.stringify(attributes)}`, async (t) => {
    const first = await makeSite(t);
    const digest = await first.exportTo(attributes);
    assert.equal(first.runs.length, 3);
    const second = await makeSite(t, first.blobs);
    await second.importFrom(digest);
    assert.equal(second.runs.length, 0);
    // What was imported is the engine's own from now on.
    await second.build({});
    assert.equal(second.runs.length, 0);
  });

const verbsOf = ({ runs }: Bench): (string | undefined)[] => runs.map(({ command }) => command[0]);

for (const attributes of [{ mode: 'min' }, { mode: 'min', 'image-manifest': 'false' }])
  test(`with mode=min the layers of the result travel, and what it was made of is told of ${JSON.stringify(attributes)}`, async (t) => {
    const first = await makeSite(t);
    const digest = await first.exportTo(attributes);
    const whole = await makeSite(t);
    await whole.exportTo({ ...attributes, mode: 'max' });
    assert.ok(first.blobs.size < whole.blobs.size);
    const second = await makeSite(t, first.blobs);
    await second.importFrom(digest);
    assert.deepEqual(verbsOf(second), []);
    // What came from elsewhere goes on: nothing was carried out here.
    const again = await second.exportTo({ mode: 'min' });
    const third = await makeSite(t, first.blobs);
    await third.importFrom(again);
    assert.deepEqual(verbsOf(third), []);
  });

test('a stage that a cache only tells of is carried out where its files are needed', async (t) => {
  const first = await makeSite(t);
  const digest = await first.exportTo({ mode: 'min' });
  const second = await makeSite(t, first.blobs, `${text}\nCOPY --from=a /one /three\nRUN ["append","/three","3"]`);
  await second.importFrom(digest);
  assert.deepEqual(verbsOf(second), ['write', 'say', 'append']);
  const third = await makeSite(t, first.blobs, text.split('\n').slice(0, 3).join('\n'));
  await third.importFrom(digest);
  assert.deepEqual(verbsOf(third), ['write', 'say']);
});

test('a layer that is not what the cache says is not used, and a cache that is not there is passed over', async (t) => {
  const first = await makeSite(t);
  const digest = await first.exportTo();
  for (const [name, bytes] of first.blobs)
    if (bytes[0] === 0x1f) first.blobs.set(name, Buffer.concat([bytes.subarray(0, -1), Buffer.from('x')]));
  const second = await makeSite(t, first.blobs);
  await second.importFrom(digest);
  // What made no layer needs none.
  assert.deepEqual(
    second.runs.map(({ command }) => command[0]).filter((verb) => verb !== 'say'),
    ['write', 'append'],
  );
  const third = await makeSite(t, first.blobs);
  const { shown } = await third.importFrom(digestOf(Buffer.from('nothing')));
  assert.equal(third.runs.length, 3);
  assert.ok(shown.some((line) => line.startsWith('importing cache manifest from x: ')));
});

test('what there is not is refused by name', async (t) => {
  const site = await makeSite(t);
  const solve = (Cache: Message): Promise<Message> => site.solve({ Ref: 'x', Session: 's1', Cache });
  for (const Type of ['gha', 's3', 'azblob']) {
    await assert.rejects(solve({ Exports: [{ Type }] }), /unknown cache exporter: "/);
    await assert.rejects(solve({ Imports: [{ Type }] }), /unknown cache importer: /);
  }
  const local = (attributes: Message): Message => ({ Exports: [{ Type: 'local', Attrs: attributes }] });
  await assert.rejects(solve(local({ mode: 'all' })), /unsupported cache export mode all/);
  await assert.rejects(solve(local({ compression: 'lzma' })), /unsupported compression type lzma/);
  await assert.rejects(
    site.exportTo({ 'oci-mediatypes': 'false', 'image-manifest': 'true' }),
    /OCI mediatypes are required/,
  );
});

test('a copy out of layers is known by the files that it copies', async (t) => {
  let build = 0;
  const bench = await makeBench(
    t,
    {
      files: dockerfile('FROM base AS a\nARG N\nRUN ["say","$N"]\nFROM base\nCOPY --from=a /made /\nRUN ["say","x"]\n'),
    },
    ({ command }, files) => {
      if (command[1] !== 'x') writeFileSync(join(files, 'made'), build === 2 ? 'different' : 'same');
    },
  );
  const ran: number[] = [];
  for (const N of ['1', '2', '3']) {
    const before = bench.runs.length;
    await bench.build({ 'build-arg:N': N });
    ran.push(bench.runs.length - before);
    build++;
  }
  assert.deepEqual(ran, [2, 1, 2]);
});
