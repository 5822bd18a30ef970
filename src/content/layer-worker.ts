/**
 * A worker that does one slow piece of layer work at a time: unpack a blob into a directory, pack an upper directory
 * into a blob, sync a filesystem. In a worker because file calls are synchronous and hashing and compression would hold
 * up the API's thread.
 */
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { parentPort } from 'node:worker_threads';
import { rmSync } from '#os/named-files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { syncFilesystem } from '#os/special-files.ts';
import { compress, decompress } from './compression.ts';
import type { LayerCompression } from './compression.ts';
import { copyFiles, placeStaged } from './copy.ts';
import type { CopyAction, StagedCopy } from './copy.ts';
import { findTable, packEstargz } from './estargz.ts';
import type { EstargzTotals } from './estargz.ts';
import { layerExpandedBytesMax } from './limits.ts';
import { packTar } from './pack.ts';
import { RootedDirectory, pathParts } from './safe-path.ts';
import { unpackTar } from './unpack.ts';

export type LayerJob =
  | { kind: 'unpack'; blobPath: string; directory: string; layer: boolean; owner?: { uid: number; gid: number } }
  | {
      kind: 'pack';
      directory: string;
      /** Where the archive is written; undefined: only its digest is wanted. */
      target?: string;
      compression?: LayerCompression;
      layer: boolean;
      skipRoot?: boolean;
      mtimeMs?: number;
      mtimeMsMax?: number;
      exclude?: string[];
      /** What has no place in an archive goes: the directory becomes what was packed. */ removesSkipped?: boolean;
      /** Takes its place first. */
      staged?: StagedCopy[];
    }
  | { kind: 'compress'; source: string; target: string; compression: LayerCompression }
  | { kind: 'digest'; root: string; paths: string[]; exclude: string[] }
  | { kind: 'copy'; root: string; actions: CopyAction[]; stage?: string }
  | { kind: 'sync'; directory: string };

export interface LayerJobResult {
  diffId: string;
  digest: string;
  blobBytes: number;
  expandedBytes: number;
  entriesEmpty: boolean;
  implied?: string[];
  staged?: StagedCopy[];
  /** Of a blob that is eStargz. */
  estargz?: EstargzTotals;
}

async function unpack(job: LayerJob & { kind: 'unpack' }): Promise<LayerJobResult> {
  const hash = createHash('sha256');
  const expanded = await decompress(createReadStream(job.blobPath, { highWaterMark: 1 << 20 }), {
    bytesMax: layerExpandedBytesMax,
    processes: linuxProcesses,
  });
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for await (const chunk of expanded) {
      hash.update(chunk);
      yield chunk;
    }
  }
  const source = job.layer ? hashed() : expanded;
  mkdirSync(job.directory, { recursive: true });
  const { expandedBytes, implied } = await unpackTar(source, job.directory, {
    layer: job.layer,
    ...(job.owner === undefined ? {} : { owner: job.owner }),
  });
  // Only a layer has a name to be checked.
  return {
    diffId: job.layer ? `sha256:${hash.digest('hex')}` : '',
    digest: '',
    blobBytes: 0,
    expandedBytes,
    entriesEmpty: false,
    implied,
  };
}

interface Written {
  diffId: string;
  digest: string;
  blobBytes: number;
  expandedBytes: number;
  estargz?: EstargzTotals;
}

/** Digests of the archive, and of what it becomes at `target`; there as it is without a compression. */
async function writeArchive(
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  target: string | undefined,
  compression: LayerCompression,
): Promise<Written> {
  const plain = createHash('sha256');
  let expandedBytes = 0;
  const onPlain = (piece: Uint8Array): void => {
    plain.update(piece);
    expandedBytes += piece.length;
  };
  if (target === undefined) {
    if (Symbol.iterator in source) for (const piece of source) onPlain(piece);
    else for await (const piece of source) onPlain(piece);
    const diffId = `sha256:${plain.digest('hex')}`;
    return { diffId, digest: diffId, blobBytes: expandedBytes, expandedBytes };
  }
  const packed = createHash('sha256');
  let blobBytes = 0;
  let estargz: EstargzTotals | undefined;
  const file = await open(target, 'wx', 0o600);
  try {
    const { kind, level } = compression;
    const packing =
      kind === 'estargz'
        ? packEstargz(source, { level, tablePath: `${target}.table`, onPlain, onEnd: (totals) => (estargz = totals) })
        : compress(source, { kind, ...(level === undefined ? {} : { level }) }, onPlain);
    for await (const chunk of packing) {
      packed.update(chunk);
      blobBytes += chunk.length;
      for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
    }
    await file.datasync();
  } finally {
    await file.close();
  }
  return {
    diffId: `sha256:${plain.digest('hex')}`,
    digest: `sha256:${packed.digest('hex')}`,
    blobBytes,
    expandedBytes,
    ...(estargz === undefined ? {} : { estargz }),
  };
}

async function pack(job: LayerJob & { kind: 'pack' }): Promise<LayerJobResult> {
  placeStaged(job.directory, job.staged ?? []);
  const excluded = new Set(job.exclude ?? []);
  const source = packTar(job.directory, {
    layer: job.layer,
    filter: (path) => !excluded.has(path),
    ...(job.removesSkipped === true ? { onSkipped: (path: string) => rmSync(path) } : {}),
    ...(job.skipRoot === undefined ? {} : { skipRoot: job.skipRoot }),
    ...(job.mtimeMs === undefined ? {} : { mtimeMs: job.mtimeMs }),
    ...(job.mtimeMsMax === undefined ? {} : { mtimeMsMax: job.mtimeMsMax }),
  });
  const written = await writeArchive(source, job.target, job.compression ?? { kind: 'gzip' });
  return { ...written, entriesEmpty: written.expandedBytes <= 1024 };
}

/** Another compression of a blob. */
async function recompress({ source, target, compression }: LayerJob & { kind: 'compress' }): Promise<LayerJobResult> {
  // One that is eStargz already is made anew of its archive.
  const table = compression.kind === 'estargz' ? await findTable(source) : undefined;
  const end = table === undefined ? {} : { end: table - 1 };
  const expanded = await decompress(createReadStream(source, { highWaterMark: 1 << 20, ...end }), {
    bytesMax: layerExpandedBytesMax,
    processes: linuxProcesses,
  });
  return { ...(await writeArchive(expanded, target, compression)), entriesEmpty: false };
}

/** What a copy of these paths takes with it: names, kinds, owners, modes, contents; not times. */
function digestFiles({ root, paths, exclude }: LayerJob & { kind: 'digest' }): string {
  const hash = createHash('sha256');
  const rooted = new RootedDirectory(root);
  const excluded = new Set(exclude);
  for (const path of paths) {
    hash.update(`${JSON.stringify(path)}\n`);
    const real = rooted.resolve(pathParts(path));
    const prefix = pathParts(path).join('/');
    const filter = (child: string): boolean => !excluded.has(prefix === '' ? child : `${prefix}/${child}`);
    if (real !== undefined) for (const chunk of packTar(real, { layer: false, mtimeMs: 0, filter })) hash.update(chunk);
  }
  return hash.digest('hex');
}

async function run(job: LayerJob): Promise<LayerJobResult> {
  if (job.kind === 'unpack') return unpack(job);
  if (job.kind === 'pack') return pack(job);
  if (job.kind === 'compress') return recompress(job);
  const nothing = { diffId: '', digest: '', blobBytes: 0, expandedBytes: 0, entriesEmpty: true };
  if (job.kind === 'digest') return { ...nothing, digest: digestFiles(job) };
  if (job.kind === 'copy') return { ...nothing, staged: copyFiles(job.root, job.actions, job.stage) };
  syncFilesystem(job.directory);
  return nothing;
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
