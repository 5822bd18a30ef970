/**
 * Layers unpacked once, by diff id (the digest of the uncompressed archive), each on its own: an overlayfs lower
 * directory `l/N`, whose short name keeps hundreds of them within one mount call.
 *
 * Invariants: a record in table `layers` means that the directory is whole. A directory without a record is half made
 * and is removed at start. What was unpacked but perhaps not yet on disk carries the boot id; a record of another boot
 * is dropped at start, and the layer is unpacked again from its blob, so unpacking never waits for the disk and a power
 * loss never leaves a truncated file in use.
 *
 * A layer that was made here has no blob at first: its archive can be made from the directory at any time, byte for
 * byte (`isPackable`), so a build neither compresses nor writes what nobody pushes. As there is nothing to unpack it
 * from again, whoever acknowledges such a layer waits for the disk first (`settle`).
 */
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { Gate } from '#base/gate.ts';
import { SingleFlight } from '#base/single-flight.ts';
import type { Logger } from '#observe/log.ts';
import { DigestError } from './blobs.ts';
import type { Blobs } from './blobs.ts';
import type { LayerCompression } from './compression.ts';
import type { EstargzTotals } from './estargz.ts';
import type { CopyAction, StagedCopy } from './copy.ts';
import { LayerPool } from './layer-pool.ts';
import type { LayerJob, LayerJobResult } from './layer-worker.ts';
import type { Clock } from '#os/clock.ts';
import { contentYouthMs, unpackConcurrencyMax } from './limits.ts';
import type { Records } from './records.ts';

export interface LayerRecord {
  n: number;
  sizeBytes: number;
  /** Directories that the layer does not name (`implied-directories.ts`). */ implied?: string[];
  /** Boot during which it was written, while it is not known to be on disk. */ boot?: string;
  /** Packing the directory gives the archive that the diff id is of. */ isPackable?: true;
}

export interface PackedLayer {
  diffId: string;
  digest: string;
  blobBytes: number;
  expandedBytes: number;
  /** Nothing changed: no layer is needed. */ isEmpty: boolean;
  /** Of a blob that is eStargz. */
  estargz?: EstargzTotals;
}

export interface Layers {
  has(diffId: string): boolean;
  sizeBytes(diffId: string): number;
  /** Directory name relative to the content root: `l/3k`. Throws when it is not unpacked. */
  directory(diffId: string): string;
  /** Directories of an unpacked layer that it does not name itself, relative. */
  implied(diffId: string): ReadonlySet<string>;
  /**
   * Takes over a layer that another engine has unpacked and whose archive cannot be had: `fill` makes the directory,
   * and returns the bytes of its files. It runs, but nothing can push or save it.
   */
  adopt(diffId: string, fill: (directory: string) => Promise<number>): Promise<void>;
  /** Unpacks the blob unless that was done; the archive must have this diff id. */
  ensure(diffId: string, blobDigest: string, signal?: AbortSignal): Promise<void>;
  /**
   * Takes an overlayfs upper directory over as an unpacked layer. Its blob, which is not compressed, is made when
   * somebody reads it. `staged` is of the copy into it.
   */
  commitUpper(upper: string, staged?: StagedCopy[]): Promise<PackedLayer>;
  /** Packs an overlayfs upper directory as a gzip blob and leaves the directory alone. */
  packUpper(upper: string, exclude?: string[]): Promise<PackedLayer>;
  /** Packs a tree into a blob and leaves the tree alone. */
  packTree(directory: string, options?: { mtimeMs?: number; exclude?: string[] }): Promise<PackedLayer>;
  /** Returns when all layers that are here now are on disk. */
  settle(): Promise<void>;
  /** Bytes of the archive of a layer that is its own blob, made or not; undefined for all others. */
  packableBytes(diffId: string): number | undefined;
  /** Makes that blob. */
  makeBlob(diffId: string): Promise<void>;
  /** An unpacked layer without modification times after this one: another layer, as a blob that is not compressed. */
  packClamped(diffId: string, mtimeMsMax: number): Promise<PackedLayer>;
  /** The same layer in another compression; as eStargz the same files as another layer. */
  compress(blobDigest: string, compression: LayerCompression): Promise<PackedLayer>;
  list(): IterableIterator<[string, LayerRecord]>;
  remove(diffId: string): Promise<void>;
  /** Unpacks any archive blob or file into a directory, in a worker. */
  unpackFile(path: string, directory: string, owner?: { uid: number; gid: number }): Promise<void>;
  /** True when it was published so lately that its maker may not have named it yet. */
  isYoung(diffId: string): boolean;
  /** Runs copies into a mounted root, in a worker. `stage`: an empty directory for what is to be placed afterwards. */
  copyInto(
    root: string,
    actions: CopyAction[],
    options?: { signal?: AbortSignal; stage?: string },
  ): Promise<StagedCopy[]>;
  /** Content of files below a mounted root, in a worker; times do not count. */
  digestFiles(root: string, paths: string[], exclude: string[], signal?: AbortSignal): Promise<string>;
  close(): Promise<void>;
}

interface LayersOptions {
  /** Directory of the content. */
  root: string;
  blobs: Blobs;
  records: Records;
  log: Logger;
  clock: Clock;
}

class OverlayLayers implements Layers {
  readonly #root: string;
  readonly #blobs: Blobs;
  readonly #records: Records;
  readonly #log: Logger;
  readonly #boot: string;
  readonly #clock: Clock;
  readonly #young = new Map<string, number>();
  readonly #pool: LayerPool;
  readonly #slots = new Gate(unpackConcurrencyMax);
  readonly #unpacking = new SingleFlight<void>();
  readonly #packing = new SingleFlight<void>();
  #next = 1;
  #syncing: Promise<void> | undefined;
  #syncAgain = false;

  constructor(options: LayersOptions, boot: string) {
    this.#root = options.root;
    this.#blobs = options.blobs;
    this.#records = options.records;
    this.#log = options.log;
    this.#boot = boot;
    this.#clock = options.clock;
    this.#pool = new LayerPool(options.clock);
  }

  /** Removes what is half made and forgets what a power loss may have damaged. */
  async recover(): Promise<void> {
    mkdirSync(join(this.#root, 'l'), { recursive: true, mode: 0o700 });
    const present = new Set(readdirSync(join(this.#root, 'l')));
    const drop: string[] = [];
    for (const [diffId, record] of this.#records.entries<LayerRecord>('layers')) {
      const name = record.n.toString(36);
      this.#next = Math.max(this.#next, record.n + 1);
      if (!present.has(name) || (record.boot !== undefined && record.boot !== this.#boot)) {
        drop.push(diffId);
        continue;
      }
      present.delete(name);
    }
    await this.#records.commit(drop.map((key) => ({ table: 'layers', key, value: undefined })));
    for (const name of present) {
      this.#next = Math.max(this.#next, Number.parseInt(name.split('.')[0]!, 36) + 1 || 1);
      await rm(join(this.#root, 'l', name), { recursive: true, force: true });
    }
    this.#sync();
  }

  has(diffId: string): boolean {
    return this.#records.get('layers', diffId) !== undefined;
  }
  sizeBytes(diffId: string): number {
    return this.#records.get<LayerRecord>('layers', diffId)?.sizeBytes ?? 0;
  }
  directory(diffId: string): string {
    const record = this.#records.get<LayerRecord>('layers', diffId);
    if (record === undefined) throw new ApiError('NotFound', `layer ${diffId} is not unpacked`);
    return `l/${record.n.toString(36)}`;
  }

  implied(diffId: string): ReadonlySet<string> {
    return new Set(this.#records.get<LayerRecord>('layers', diffId)?.implied ?? []);
  }

  ensure(diffId: string, blobDigest: string, signal?: AbortSignal): Promise<void> {
    if (this.has(diffId)) return Promise.resolve();
    return this.#unpacking.run(diffId, (over) => this.#slots.run(() => this.#unpack(diffId, blobDigest, over)), signal);
  }

  async #unpack(diffId: string, blobDigest: string, signal: AbortSignal): Promise<void> {
    const n = this.#next++;
    const directory = join(this.#root, 'l', n.toString(36));
    if (!this.#blobs.has(blobDigest))
      throw new ApiError('NotFound', `layer ${diffId} is gone, and there is nothing to unpack it from`);
    try {
      const result = await this.#pool.run(
        { kind: 'unpack', blobPath: this.#blobs.path(blobDigest), directory, layer: true },
        signal,
      );
      if (result.diffId !== diffId)
        throw new DigestError(`layer ${blobDigest} has diff id ${result.diffId}, its image says ${diffId}`);
      const { expandedBytes: sizeBytes, implied = [] } = result;
      await this.#publish(diffId, { n, sizeBytes, ...(implied.length === 0 ? {} : { implied }) });
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  async adopt(diffId: string, fill: (directory: string) => Promise<number>): Promise<void> {
    if (this.has(diffId)) return;
    const n = this.#next++;
    const directory = join(this.#root, 'l', n.toString(36));
    try {
      mkdirSync(directory);
      await this.#publish(diffId, { n, sizeBytes: await fill(directory) });
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  isYoung(diffId: string): boolean {
    const at = this.#young.get(diffId);
    if (at === undefined) return false;
    if (this.#clock.monotonic() - at < contentYouthMs) return true;
    this.#young.delete(diffId);
    return false;
  }

  async #publish(diffId: string, record: LayerRecord): Promise<void> {
    this.#young.set(diffId, this.#clock.monotonic());
    await this.#records.commit([{ table: 'layers', key: diffId, value: { ...record, boot: this.#boot } }]);
    this.#sync();
  }

  /** In the background: once the filesystem was synced, the layers written before need no boot id any more. */
  #sync(): void {
    if (this.#syncing !== undefined) {
      this.#syncAgain = true;
      return;
    }
    const pending = this.#unsettled();
    if (pending.length === 0) return;
    this.#syncing = this.#pool
      .run({ kind: 'sync', directory: this.#root })
      .then(() =>
        this.#records.commit(
          pending.flatMap(([key, record]) => {
            const now = this.#records.get<LayerRecord>('layers', key);
            if (now?.n !== record.n) return [];
            const { boot: _boot, ...durable } = record;
            return [{ table: 'layers', key, value: durable }];
          }),
        ),
      )
      .catch((error: unknown) => this.#log.warn('layers could not be synced', { error }))
      .finally(() => {
        this.#syncing = undefined;
        if (this.#syncAgain) {
          this.#syncAgain = false;
          this.#sync();
        }
      });
  }

  async #pack(
    directory: string,
    layer: boolean,
    options: { mtimeMs?: number; mtimeMsMax?: number; exclude?: string[]; compression?: LayerCompression } = {},
  ): Promise<PackedLayer> {
    return this.#toBlob((target) => ({ kind: 'pack', directory, target, layer, skipRoot: true, ...options }));
  }

  async #toBlob(jobTo: (target: string) => LayerJob): Promise<PackedLayer> {
    const target = this.#blobs.scratchPath();
    try {
      const packed = packedLayerOf(await this.#pool.run(jobTo(target)));
      if (packed.isEmpty) await rm(target, { force: true });
      else await this.#blobs.adopt(target, packed.digest, packed.blobBytes);
      return packed;
    } catch (error) {
      await rm(target, { force: true });
      throw error;
    }
  }

  packableBytes(diffId: string): number | undefined {
    const record = this.#records.get<LayerRecord>('layers', diffId);
    return record?.isPackable === true ? record.sizeBytes : undefined;
  }

  makeBlob(diffId: string): Promise<void> {
    return this.#packing.run(diffId, async () => {
      const made = await this.#pack(join(this.#root, this.directory(diffId)), true, { compression: { kind: 'none' } });
      if (made.diffId !== diffId)
        throw new DigestError(`the files of layer ${diffId} have changed: their archive is ${made.diffId} now`);
    });
  }

  packClamped(diffId: string, mtimeMsMax: number): Promise<PackedLayer> {
    return this.#pack(join(this.#root, this.directory(diffId)), true, { mtimeMsMax, compression: { kind: 'none' } });
  }

  async compress(blobDigest: string, compression: LayerCompression): Promise<PackedLayer> {
    const isUnwritten = this.packableBytes(blobDigest) !== undefined && !this.#blobs.isStored(blobDigest);
    // What it becomes does not tell whether the files are still what they were.
    if (isUnwritten && compression.kind === 'estargz') await this.makeBlob(blobDigest);
    if (!isUnwritten || compression.kind === 'estargz')
      return this.#toBlob((target) => ({
        kind: 'compress',
        source: this.#blobs.path(blobDigest),
        target,
        compression,
      }));
    const made = await this.#pack(join(this.#root, this.directory(blobDigest)), true, { compression });
    if (made.diffId !== blobDigest)
      throw new DigestError(`the files of layer ${blobDigest} have changed: their archive is ${made.diffId} now`);
    return made;
  }

  async settle(): Promise<void> {
    const pending = this.#unsettled();
    if (pending.length === 0) return;
    this.#sync();
    await this.#syncing;
    // What came while that sync was running goes with the next.
    await this.#syncing;
    const still = new Map(this.#unsettled());
    if (pending.some(([diffId, { n }]) => still.get(diffId)?.n === n))
      throw new Error('layers could not be written to the disk');
  }

  #unsettled(): [string, LayerRecord][] {
    return [...this.#records.entries<LayerRecord>('layers')].filter(([, { boot }]) => boot !== undefined);
  }

  async commitUpper(upper: string, staged: StagedCopy[] = []): Promise<PackedLayer> {
    const packed = packedLayerOf(
      await this.#pool.run({
        kind: 'pack',
        directory: upper,
        layer: true,
        skipRoot: true,
        removesSkipped: true,
        staged,
      }),
    );
    const { diffId, isEmpty } = packed;
    if (isEmpty) return packed;
    if (this.has(diffId)) {
      this.#young.set(diffId, this.#clock.monotonic());
      // The same layer came from elsewhere: its directory was not packed here.
      if (!this.#blobs.has(diffId)) await this.#pack(upper, true, { compression: { kind: 'none' } });
      return packed;
    }
    const n = this.#next++;
    await rename(upper, join(this.#root, 'l', n.toString(36)));
    await this.#publish(diffId, { n, sizeBytes: packed.expandedBytes, isPackable: true });
    return packed;
  }

  packUpper(upper: string, exclude: string[] = []): Promise<PackedLayer> {
    return this.#pack(upper, true, { exclude });
  }
  packTree(directory: string, options?: { mtimeMs?: number; exclude?: string[] }): Promise<PackedLayer> {
    return this.#pack(directory, false, options);
  }
  list(): IterableIterator<[string, LayerRecord]> {
    return this.#records.entries<LayerRecord>('layers');
  }

  async remove(diffId: string): Promise<void> {
    const record = this.#records.get<LayerRecord>('layers', diffId);
    if (record === undefined) return;
    await this.#records.commit([{ table: 'layers', key: diffId, value: undefined }]);
    await rm(join(this.#root, 'l', record.n.toString(36)), { recursive: true, force: true });
  }

  async unpackFile(path: string, directory: string, owner?: { uid: number; gid: number }): Promise<void> {
    await this.#pool.run({
      kind: 'unpack',
      blobPath: path,
      directory,
      layer: false,
      ...(owner === undefined ? {} : { owner }),
    });
  }

  async digestFiles(root: string, paths: string[], exclude: string[], signal?: AbortSignal): Promise<string> {
    return (await this.#pool.run({ kind: 'digest', root, paths, exclude }, signal)).digest;
  }

  async copyInto(
    root: string,
    actions: CopyAction[],
    { signal, stage }: { signal?: AbortSignal; stage?: string } = {},
  ): Promise<StagedCopy[]> {
    const job = { kind: 'copy', root, actions, ...(stage === undefined ? {} : { stage }) } as const;
    return (await this.#pool.run(job, signal)).staged ?? [];
  }

  async close(): Promise<void> {
    await this.#unpacking.settle();
    await this.#packing.settle();
    await this.#syncing;
    await this.#pool.close();
  }
}

function packedLayerOf({
  diffId,
  digest,
  blobBytes,
  expandedBytes,
  entriesEmpty,
  ...more
}: LayerJobResult): PackedLayer {
  const estargz = more.estargz === undefined ? {} : { estargz: more.estargz };
  return { diffId, digest, blobBytes, expandedBytes, isEmpty: entriesEmpty, ...estargz };
}

export async function openLayers(options: LayersOptions): Promise<Layers> {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const layers = new OverlayLayers(options, boot);
  await layers.recover();
  return layers;
}
