/** What strangers send to the registry, to image archives, layers, builds and patterns. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { AddressInfo } from 'node:net';
import { crc32, gzipSync, zstdCompressSync } from 'node:zlib';
import { createBuilder } from '#build/builder.ts';
import { createMounts } from '#os/mount.linux.ts';
import type { BuildSnapshots } from '#content/snapshots.ts';
import { realRandom, realClock } from '#os/clock.real.ts';
import { SimClock, SimRandom, settle } from '#os/clock.sim.ts';
import { openBlobs } from '#content/blobs.ts';
import {
  archiveBytesMax,
  archiveEntriesMax,
  archiveManifestsMax,
  indexManifestsMax,
  impliedDirectoriesMax,
  layerPathDepthMax,
  remoteTagsMax,
  uploadsMax,
  uploadsPerUserMax,
  xzMemoryMibMax,
} from '#content/limits.ts';
import { decompress } from '#content/compression.ts';
import { createImageRecords } from '#content/image-records.ts';
import { HttpTransport, RemoteRepository } from '#content/remote.ts';
import { bytesOf, makeTestDirectory, openTestContent } from '#content/testing.ts';
import { unpackTar } from '#content/unpack.ts';
import { receiveContext } from '#build/context.ts';
import { expandWord } from '#build/dockerfile/words.ts';
import { parseDockerfile } from '#build/dockerfile/parser.ts';
import { StepBudget } from '#build/glob.ts';
import {
  buildConfigBytesMax,
  copySourcesMax,
  ignorePatternsMax,
  instructionsMax,
  patternStepsMax,
  patternTokensMax,
  wordDepthMax,
  wordExpandedBytesMax,
} from '#build/limits.ts';
import { compilePattern, createIgnoreRules, parseIgnoreFile } from '#build/patterns.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, encodeTarHeader, tarEnd } from '#base/tar-write.ts';
import { tarMetadataBytesMax } from '#base/limits.ts';
import { messageOf } from '#base/thrown.ts';
import { createImages } from '#engine/images.ts';
import { silentLogger } from '#observe/log.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { inspectManifest } from '#registry/inspect-manifest.ts';
import { connectionsPerSourceMax, manifestEntriesMax, passwordWaitersMax } from '#registry/limits.ts';
import { createRegistryServer } from '#registry/server.ts';
import type { Registry } from '#registry/registry.ts';
import { PasswordChecks } from '#registry/password-checks.ts';
import type { HostileRow } from './row.ts';

const text = async (run: () => unknown): Promise<string> => {
  try {
    return String(await run());
  } catch (error) {
    return messageOf(error);
  }
};

/** A directory that goes when the row has run. */
async function withDirectory<T>(run: (directory: string) => Promise<T>): Promise<T> {
  const after: (() => Promise<void> | void)[] = [];
  try {
    return await run(
      makeTestDirectory(
        {
          after: (undo) => {
            after.push(undo);
          },
        },
        'hostile',
      ),
    );
  } finally {
    for (const undo of after) await undo();
  }
}

/** A content store that goes when the row has run. */
async function withContent<T>(run: (content: Awaited<ReturnType<typeof openTestContent>>) => Promise<T>): Promise<T> {
  const after: (() => Promise<void> | void)[] = [];
  try {
    return await run(
      await openTestContent({
        after: (undo) => {
          after.push(undo);
        },
      }),
    );
  } finally {
    for (const undo of after.reverse()) await undo();
  }
}

/** Loads an archive's parts into a store. */
const load = (parts: Iterable<Uint8Array>): Promise<string> =>
  text(() =>
    withContent(async (content) => {
      const images = createImages({
        content,
        records: createImageRecords(content),
        clock: realClock,
        log: silentLogger,
        transport: {} as HttpTransport,
        emit: () => {},
      });
      await images.load(bytesOf(...parts), () => {});
    }),
  );

async function countEntries(source: AsyncIterable<Uint8Array>): Promise<string> {
  let count = 0;
  for await (const _entry of readTar(source)) count++;
  return `${count} entries`;
}

/**
 * An xz stream whose only block says that it needs a dictionary of this size class (.xz format, 3.1 and 5.3.1: 31 is
 * 192 MiB, 35 is 768 MiB).
 */
function xzWithDictionary(sizeClass: number): Buffer {
  const stream = execFileSync('xz', ['-c', '--check=crc32'], { input: 'x' });
  // Behind the stream's header of 12 bytes: size, flags, filter LZMA2 (0x21), size of its properties, the properties.
  const length = (stream[12]! + 1) * 4;
  const at = stream.indexOf(Buffer.from([0x21, 0x01]), 14);
  stream[at + 2] = sizeClass;
  stream.writeUInt32LE(crc32(stream.subarray(12, 12 + length - 4)), 12 + length - 4);
  return stream;
}

const longPath = Array.from({ length: layerPathDepthMax + 1 }, () => 'd').join('/');

export const rows: HostileRow[] = [
  {
    name: 'Wrong passwords wait in line at the registry',
    input: '2,000 sign-ins from 400 addresses at once',
    bound: 'src/registry/limits.ts#passwordWaitersMax',
    answer: /^256 wait, 1 at once, 1743 refused$/,
    async run() {
      const checks = new PasswordChecks(new SimClock(0));
      let refused = 0;
      let running = 0;
      let most = 0;
      const check = async (): Promise<boolean> => {
        most = Math.max(most, ++running);
        await new Promise(() => {});
        return false;
      };
      for (let count = 0; count < 2000; count++)
        checks.run(`10.0.0.${count % 400}`, check).catch(() => {
          refused++;
        });
      await settle();
      return `${Math.min(checks.waiting, passwordWaitersMax + 1)} wait, ${most} at once, ${refused} refused`;
    },
  },
  {
    name: 'Uploads that one user begins and leaves',
    input: '300 uploads begun',
    bound: 'src/content/limits.ts#uploadsPerUserMax',
    answer: /^100 files: too many uploads in progress$/,
    run: () =>
      withDirectory(async (directory) => {
        const blobs = openBlobs(directory, new SimClock(0), new SimRandom(1));
        let last = '';
        for (let count = 0; count < 3 * uploadsPerUserMax; count++)
          last = await text(async () => (await blobs.startUpload({ user: 'eve', repository: 'eve/x' })).id.slice(0, 0));
        return `${readdirSync(`${directory}/uploads`).length} files: ${last}`;
      }),
  },
  {
    name: 'Uploads that many users begin and leave',
    input: '1,200 uploads of 30 users',
    bound: 'src/content/limits.ts#uploadsMax',
    answer: /^1000 files: too many uploads in progress$/,
    run: () =>
      withDirectory(async (directory) => {
        const blobs = openBlobs(directory, new SimClock(0), new SimRandom(1));
        let last = '';
        for (let count = 0; count < uploadsMax + 200; count++)
          last = await text(async () =>
            (await blobs.startUpload({ user: `eve${count % 30}`, repository: 'x' })).id.slice(0, 0),
          );
        return `${readdirSync(`${directory}/uploads`).length} files: ${last}`;
      }),
  },
  {
    name: 'A manifest of an index names its manifests',
    input: `${manifestEntriesMax + 1} descriptors`,
    bound: 'src/registry/limits.ts#manifestEntriesMax',
    answer: /more than 10000 entries/,
    run: () =>
      text(
        () =>
          inspectManifest(
            Buffer.from(
              JSON.stringify({
                schemaVersion: 2,
                manifests: Array.from({ length: manifestEntriesMax + 1 }, () => ({
                  digest: `sha256:${'0'.repeat(64)}`,
                  size: 1,
                })),
              }),
            ),
            'application/vnd.oci.image.index.v1+json',
          ).manifests.length,
      ),
  },
  {
    name: 'A pattern of many wildcards',
    input: '60 stars against 4,000 letters',
    bound: 'src/build/limits.ts#patternStepsMax',
    answer: /^false after [0-9]{1,6} steps$/,
    run() {
      const budget = new StepBudget();
      const matches = compilePattern(`${'a*'.repeat(60)}b*c`, { doubleStar: true, budget }).test(
        `${'a'.repeat(4000)}d`,
      );
      return `${matches} after ${patternStepsMax - budget.left} steps`;
    },
  },
  {
    name: 'Patterns of .dockerignore over a context',
    input: '2,000 patterns that begin and end with a star, a path of 256 parts of 60 letters',
    bound: 'src/build/limits.ts#patternStepsMax',
    answer: /take too long to match/,
    run: () =>
      text(() =>
        createIgnoreRules(Array.from({ length: 2000 }, (_, index) => `**/a*${index}*`)).ignores(
          Array.from({ length: 256 }, () => 'a'.repeat(60)).join('/'),
        ),
      ),
  },
  {
    name: 'Lines of .dockerignore',
    input: `${ignorePatternsMax + 1} patterns`,
    bound: 'src/build/limits.ts#ignorePatternsMax',
    answer: /too many patterns/,
    run: () => text(() => parseIgnoreFile('a\n'.repeat(ignorePatternsMax + 1)).isEmpty),
  },
  {
    name: 'One pattern',
    input: `${patternTokensMax + 1} letters`,
    bound: 'src/build/limits.ts#patternTokensMax',
    answer: /pattern is too long/,
    run: () => text(() => compilePattern('?'.repeat(patternTokensMax + 1), { doubleStar: true }).isLiteral),
  },
  {
    name: 'Substitutions within substitutions',
    input: '200,000 of them, each in the one before',
    bound: 'src/build/limits.ts#wordDepthMax',
    answer: /nested too deeply/,
    run: () => text(() => expandWord('${a:-'.repeat(2000 * wordDepthMax), () => undefined)),
  },
  {
    name: 'A substitution that makes a word longer',
    input: '100,000 letters, each replaced by 100,000',
    bound: 'src/build/limits.ts#wordExpandedBytesMax',
    answer: /expanded word is too long/,
    run: () =>
      text(
        () => expandWord(`\${a//a/${'b'.repeat(100_000)}}`, () => 'a'.repeat(100_000)).length > wordExpandedBytesMax,
      ),
  },
  {
    name: 'A pattern in a substitution',
    input: '200 stars against a megabyte of letters',
    bound: 'src/build/limits.ts#patternStepsMax',
    answer: /take too long to match/,
    run: () => text(() => expandWord(`\${a//${'a*'.repeat(200)}b/x}`, () => 'a'.repeat(1 << 20)).length),
  },
  {
    name: 'Instructions of a Dockerfile',
    input: `${instructionsMax + 1} instructions`,
    bound: 'src/build/limits.ts#instructionsMax',
    answer: /too many instructions/,
    run: () => text(() => parseDockerfile(`FROM a\n${'USER x\n'.repeat(instructionsMax)}`).stages.length),
  },
  {
    name: 'Sources of one COPY',
    input: `${copySourcesMax + 2} words`,
    bound: 'src/build/limits.ts#copySourcesMax',
    answer: /more than 1000 sources/,
    run: () => text(() => parseDockerfile(`FROM a\nCOPY ${'* '.repeat(copySourcesMax + 1)} /\n`).stages.length),
  },
  {
    name: "Configurations of a build's steps",
    input: '40 steps over three megabytes of environment',
    bound: 'src/build/limits.ts#buildConfigBytesMax',
    answer: /^the configurations of this build's steps together are larger than 67108864 bytes after 1[0-9] steps$/,
    run: () =>
      withContent(async (content) => {
        const records = createImageRecords(content);
        const images = createImages({
          content,
          records,
          clock: realClock,
          log: silentLogger,
          transport: {} as HttpTransport,
          emit: () => {},
        });
        const runner = { run: async () => ({ exitCode: 0 }), remove: async () => {}, removeStale: async () => {} };
        const builder = createBuilder({
          content,
          images,
          records,
          snapshots: {} as BuildSnapshots,
          runner,
          mounts: createMounts(),
          processes: linuxProcesses,
          clock: realClock,
          random: realRandom,
        });
        const dockerfile = `FROM scratch\nENV A=${'a'.repeat((3 << 20) >> 1)} B=${'b'.repeat((3 << 20) >> 1)}\n${Array.from({ length: 40 }, (_, index) => `LABEL l${index}=1\n`).join('')}`;
        const message = await text(() =>
          builder.build({
            dockerfile,
            context: undefined,
            tags: [],
            buildArgs: {},
            labels: {},
            noCache: false,
            pull: false,
            run: { network: 'default', extraHosts: [] },
            signal: new AbortController().signal,
            onEvent: () => {},
          }),
        );
        return `${message} after ${records.list().length} steps`.replace(String(buildConfigBytesMax), '67108864');
      }),
  },
  {
    name: 'Paths of a build context',
    input: `a file ${layerPathDepthMax + 1} directories deep`,
    bound: 'src/content/limits.ts#layerPathDepthMax',
    answer: /it is too deep/,
    run: () =>
      text(() =>
        withContent(async (content) => {
          await using context = await receiveContext(
            content,
            bytesOf(encodeTarFile({ path: `${longPath}/f` }, ''), tarEnd),
            { dockerfile: 'Dockerfile' },
          );
          return context.entry('d')?.type;
        }),
      ),
  },
  {
    name: 'Paths of a layer',
    input: `a file ${layerPathDepthMax + 1} directories deep`,
    bound: 'src/content/limits.ts#layerPathDepthMax',
    answer: /it is too deep/,
    run: () =>
      withDirectory((directory) =>
        text(() =>
          unpackTar(bytesOf(encodeTarFile({ path: `${longPath}/f` }, ''), tarEnd), directory, { layer: true }),
        ),
      ),
  },
  {
    name: "An archive's extended headers",
    input: 'a header that announces two megabytes of records',
    bound: 'src/base/limits.ts#tarMetadataBytesMax',
    answer: /header field too long/,
    run: () =>
      text(() => {
        const block = Buffer.from(encodeTarHeader({ path: 'x', sizeBytes: tarMetadataBytesMax * 2 }));
        block[156] = 'x'.charCodeAt(0);
        block.fill(0x20, 148, 156);
        block.write(
          `${block
            .reduce((sum, byte) => sum + byte, 0)
            .toString(8)
            .padStart(6, '0')}\0 `,
          148,
          'latin1',
        );
        return countEntries(bytesOf(block, Buffer.alloc(1024)));
      }),
  },
  {
    name: 'A compressed stream that expands',
    input: "ten megabytes of zeros behind an archive's end, in gzip, zstd, xz and bzip2, where one may come out",
    bound: 'src/content/limits.ts#archiveBytesMax',
    answer: /^(?:the archive expands to more than 1048576 bytes ?){4}$/,
    async run() {
      const bomb = Buffer.concat([encodeTarFile({ path: 'f' }, ''), tarEnd, Buffer.alloc(10 << 20)]);
      const forms = [
        gzipSync(bomb),
        zstdCompressSync(bomb),
        ...['xz', 'bzip2'].map((program) => execFileSync(program, ['-c'], { input: bomb })),
      ];
      const answers = await Promise.all(
        forms.map((form) =>
          text(async () =>
            countEntries(
              await decompress(bytesOf(form), {
                bytesMax: Math.min(1 << 20, archiveBytesMax),
                processes: linuxProcesses,
              }),
            ),
          ),
        ),
      );
      return answers.join(' ');
    },
  },
  {
    name: 'The dictionary that an xz stream asks for',
    input: 'a stream made with a dictionary of 768 MiB',
    bound: 'src/content/limits.ts#xzMemoryMibMax',
    answer: /Memory usage limit reached/i,
    // The size of the dictionary stands in the block's header, which has a checksum of its own.
    run: () =>
      text(async () =>
        countEntries(
          await decompress(bytesOf(xzWithDictionary(35), Buffer.alloc(xzMemoryMibMax)), {
            bytesMax: 1 << 20,
            processes: linuxProcesses,
          }),
        ),
      ),
  },
  {
    name: 'Files of an image archive',
    input: `${archiveEntriesMax + 1} directories`,
    bound: 'src/content/limits.ts#archiveEntriesMax',
    answer: /more than 100000 entries/,
    run: () =>
      load(
        (function* () {
          const entry = encodeTarHeader({ path: 'd', type: 'directory' });
          for (let count = 0; count <= archiveEntriesMax; count++) yield entry;
        })(),
      ),
  },
  {
    name: 'Indexes of an image archive',
    input: 'an index that names an index of 2,000 manifests 2,000 times',
    bound: 'src/content/limits.ts#archiveManifestsMax',
    answer: new RegExp(`name more than ${archiveManifestsMax} manifests`),
    run() {
      const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
      const leaf = Buffer.from('{"manifests":[]}');
      const list = (hex: string): Buffer =>
        Buffer.from(
          JSON.stringify({ manifests: Array.from({ length: 2000 }, () => ({ digest: `sha256:${hex}`, size: 1 })) }),
        );
      const middle = list(digest(leaf));
      return load([
        encodeTarFile({ path: `blobs/sha256/${digest(leaf)}` }, leaf),
        encodeTarFile({ path: `blobs/sha256/${digest(middle)}` }, middle),
        encodeTarFile({ path: 'index.json' }, list(digest(middle))),
        tarEnd,
      ]);
    },
  },
  {
    name: 'Manifests of an index',
    input: 'an archive whose index names 10,001 manifests',
    bound: 'src/content/limits.ts#indexManifestsMax',
    answer: new RegExp(`at most ${indexManifestsMax} are read`),
    run() {
      const digest = `sha256:${'0'.repeat(64)}`;
      const manifests = Array.from({ length: indexManifestsMax + 1 }, () => ({ digest }));
      return load([encodeTarFile({ path: 'index.json' }, JSON.stringify({ manifests })), tarEnd]);
    },
  },
  {
    name: 'Tags that a registry lists',
    input: 'a registry whose list never ends',
    bound: 'src/content/limits.ts#remoteTagsMax',
    answer: /more than 10000 tags/,
    async run() {
      let page = 0;
      const server = createServer((_request, response) => {
        page++;
        response.setHeader('link', `</v2/x/tags/list?last=${page}>; rel="next"`);
        response.end(JSON.stringify({ tags: Array.from({ length: 1000 }, (_, index) => `t${page}-${index}`) }));
      });
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve);
      });
      const transport = new HttpTransport({});
      try {
        return await text(
          async () =>
            (
              await new RemoteRepository(
                transport,
                { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
                'x',
                'pull',
              ).tags()
            ).length > remoteTagsMax,
        );
      } finally {
        transport.close();
        server.closeAllConnections();
        server.close();
      }
    },
  },
  {
    name: 'Directories that a layer does not name',
    input: `${impliedDirectoriesMax + 1} files, each in a directory of its own`,
    bound: 'src/content/limits.ts#impliedDirectoriesMax',
    answer: /leaves out more than 20000 directories/,
    run: () =>
      withDirectory((directory) =>
        text(() =>
          unpackTar(
            (async function* () {
              for (let count = 0; count <= impliedDirectoriesMax; count++)
                yield encodeTarFile({ path: `${count % 100}/${count}/f` }, '');
            })(),
            directory,
            { layer: true },
          ),
        ),
      ),
  },
  {
    name: 'Connections to the registry from one address',
    input: `${connectionsPerSourceMax + 50} of them, which say nothing`,
    bound: 'src/registry/limits.ts#connectionsPerSourceMax',
    answer: /^256 open, 50 closed$/,
    async run() {
      const server = createRegistryServer({ handle: () => {} } as unknown as Registry);
      await new Promise<void>((resolve) => {
        server.listen(0, '127.0.0.1', resolve);
      });
      const sockets = Array.from({ length: connectionsPerSourceMax + 50 }, () =>
        connect((server.address() as AddressInfo).port, '127.0.0.1'),
      );
      let closed = 0;
      try {
        await new Promise<void>((resolve) => {
          for (const socket of sockets)
            socket
              .on('error', () => {})
              .on('close', () => {
                if (++closed === 50) resolve();
              });
        });
        return `${await new Promise<number>((resolve, reject) => {
          server.getConnections((error, count) => {
            if (error === null) resolve(count);
            else reject(error);
          });
        })} open, ${closed} closed`;
      } finally {
        for (const socket of sockets) socket.destroy();
        server.closeAllConnections();
        server.close();
      }
    },
  },
];
