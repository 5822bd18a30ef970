/**
 * A worker that does one slow piece of layer work at a time: unpack a blob into a directory, pack an upper directory into a blob, sync a
 * filesystem. In a worker because file calls are synchronous and hashing and compression would hold up the API's thread.
 */
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { parentPort } from 'node:worker_threads';
import { createGzip } from 'node:zlib';
import { rmSync } from '#os/named-files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { syncFilesystem } from '#os/special-files.ts';
import { decompress } from './compression.ts';
import { copyFiles } from './copy.ts';
import type { CopyAction } from './copy.ts';
import { layerExpandedBytesMax } from './limits.ts';
import { packTar } from './pack.ts';
import { unpackTar } from './unpack.ts';

export type LayerJob =
  | { kind: 'unpack'; blobPath: string; directory: string; layer: boolean; owner?: { uid: number; gid: number } }
  | { kind: 'pack'; directory: string; target: string; layer: boolean; skipRoot?: boolean; mtimeMs?: number; exclude?: string[]; /** What has no place in an archive goes: the directory becomes what was packed. */ removesSkipped?: boolean }
  | { kind: 'copy'; root: string; actions: CopyAction[] }
  | { kind: 'sync'; directory: string };

export interface LayerJobResult { diffId: string; digest: string; blobBytes: number; expandedBytes: number; entriesEmpty: boolean }

async function unpack(job: LayerJob & { kind: 'unpack' }): Promise<LayerJobResult> {
  const hash = createHash('sha256');
  const expanded = await decompress(createReadStream(job.blobPath, { highWaterMark: 1 << 20 }), { bytesMax: layerExpandedBytesMax, processes: linuxProcesses });
  async function* hashed(): AsyncGenerator<Uint8Array> { for await (const chunk of expanded) { hash.update(chunk); yield chunk; } }
  mkdirSync(job.directory, { recursive: true });
  const expandedBytes = await unpackTar(hashed(), job.directory, { layer: job.layer, ...(job.owner === undefined ? {} : { owner: job.owner }) });
  return { diffId: `sha256:${hash.digest('hex')}`, digest: '', blobBytes: 0, expandedBytes, entriesEmpty: false };
}

/** Small writes gathered, because each costs a turn of the compressor. */
function* gathered(source: Iterable<Uint8Array>, bytes: number): Generator<Uint8Array> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for (const part of source) {
    parts.push(part);
    length += part.length;
    if (length >= bytes) { yield Buffer.concat(parts); parts = []; length = 0; }
  }
  if (length > 0) yield Buffer.concat(parts);
}

async function pack(job: LayerJob & { kind: 'pack' }): Promise<LayerJobResult> {
  const plain = createHash('sha256');
  const packed = createHash('sha256');
  let expandedBytes = 0;
  let blobBytes = 0;
  const excluded = new Set(job.exclude ?? []);
  const source = packTar(job.directory, {
    layer: job.layer, filter: (path) => !excluded.has(path), ...(job.removesSkipped === true ? { onSkipped: (path: string) => rmSync(path) } : {}),
    ...(job.skipRoot === undefined ? {} : { skipRoot: job.skipRoot }), ...(job.mtimeMs === undefined ? {} : { mtimeMs: job.mtimeMs }),
  });
  function* hashed(): Generator<Uint8Array> {
    for (const chunk of gathered(source, 256 << 10)) { plain.update(chunk); expandedBytes += chunk.length; yield chunk; }
  }
  const file = await open(job.target, 'wx', 0o600);
  try {
    // Level 1: three times as fast as the default for a tenth more bytes, and the usual reader is on this machine.
    await pipeline(Readable.from(hashed(), { objectMode: false, highWaterMark: 1 << 20 }), createGzip({ level: 1, chunkSize: 256 << 10, memLevel: 9 }), async (compressed: AsyncIterable<Buffer>) => {
      for await (const chunk of compressed) {
        packed.update(chunk);
        blobBytes += chunk.length;
        for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
      }
    });
    await file.datasync();
  } finally { await file.close(); }
  return { diffId: `sha256:${plain.digest('hex')}`, digest: `sha256:${packed.digest('hex')}`, blobBytes, expandedBytes, entriesEmpty: expandedBytes <= 1024 };
}

async function run(job: LayerJob): Promise<LayerJobResult> {
  if (job.kind === 'unpack') return unpack(job);
  if (job.kind === 'pack') return pack(job);
  if (job.kind === 'copy') copyFiles(job.root, job.actions);
  else syncFilesystem(job.directory);
  return { diffId: '', digest: '', blobBytes: 0, expandedBytes: 0, entriesEmpty: true };
}

// One job at a time: the pool hands out the next when this one was answered.
parentPort?.on('message', (job: LayerJob) => {
  run(job).then(
    (result) => parentPort?.postMessage({ result }),
    (error: unknown) => {
      const { message, code, name } = error as NodeJS.ErrnoException;
      parentPort?.postMessage({ error: { message, code, name } });
    },
  );
});
