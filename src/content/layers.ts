/**
 * Layers unpacked once, by diff id (the digest of the uncompressed archive), each on its own: an overlayfs lower
 * directory `l/N`, whose short name keeps hundreds of them within one mount call.
 *
 * Invariants: a record in table `layers` means that the directory is whole. A directory without a record is half made
 * and is removed at start. What was unpacked but perhaps not yet on disk carries the boot id; a record of another boot
 * is dropped at start, and the layer is unpacked again from its blob, so unpacking never waits for the disk and a power
 * loss never leaves a truncated file in use.
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
import type { CopyAction, StagedCopy } from './copy.ts';
import { LayerPool } from './layer-pool.ts';
import type { Clock } from '#os/clock.ts';
import { contentYouthMs, unpackConcurrencyMax } from './limits.ts';
import type { Records } from './records.ts';

export interface LayerRecord {
  n: number;
  sizeBytes: number;
  /** Directories that the layer does not name (`implied-directories.ts`). */ implied?: string[];
  /** Boot during which it was written, while it is not known to be on disk. */ boot?: string;
}

export interface PackedLayer {
  diffId: string;
  digest: string;
  blobBytes: number;
  expandedBytes: number;
  /** Nothing changed: no layer is needed. */ isEmpty: boolean;
}

export interface Layers {
  has(diffId: string): boolean;
  sizeBytes(diffId: string): number;
  /** Directory name relative to the content root: `l/3k`. Throws when it is not unpacked. */
  directory(diffId: string): string;
  /** Directories of an unpacked layer that it does not name itself, relative. */
  implied(diffId: string): ReadonlySet<string>;
  /** Unpacks the blob unless that was done; the archive must have this diff id. */
  ensure(diffId: string, blobDigest: string, signal?: AbortSignal): Promise<void>;
  /**
   * Packs an overlayfs upper directory as a gzip blob, and takes the directory over as the unpacked layer. `staged` is
   * of the copy into it.
   */
  commitUpper(upper: string, staged?: StagedCopy[]): Promise<PackedLayer>;
  /** Packs an overlayfs upper directory as a gzip blob and leaves the directory alone. */
  packUpper(upper: string, exclude?: string[]): Promise<PackedLayer>;
  /** Packs a tree into a blob and leaves the tree alone. */
  packTree(directory: string, options?: { mtimeMs?: number; exclude?: string[] }): Promise<PackedLayer>;
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
    try {
      const result = await this.#pool.run(
        { kind: 'unpack', blobPath: this.#blobs.path(blobDigest), directory, layer: true },
        signal,
      );
      if (result.diffId !== diffId)
        throw new DigestError(`layer ${blobDigest} has diff id ${result.diffId}, its image says ${diffId}`);
      await this.#publish(diffId, n, result.expandedBytes, result.implied);
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

  async #publish(diffId: string, n: number, sizeBytes: number, implied: string[] = []): Promise<void> {
    this.#young.set(diffId, this.#clock.monotonic());
    await this.#records.commit([
      {
        table: 'layers',
        key: diffId,
        value: { n, sizeBytes, boot: this.#boot, ...(implied.length === 0 ? {} : { implied }) } satisfies LayerRecord,
      },
    ]);
    this.#sync();
  }

  /** In the background: once the filesystem was synced, the layers written before need no boot id any more. */
  #sync(): void {
    if (this.#syncing !== undefined) {
      this.#syncAgain = true;
      return;
    }
    const pending = [...this.#records.entries<LayerRecord>('layers')].filter(([, record]) => record.boot !== undefined);
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
    options: { mtimeMs?: number; exclude?: string[]; removesSkipped?: boolean; staged?: StagedCopy[] } = {},
  ): Promise<PackedLayer> {
    const target = this.#blobs.scratchPath();
    try {
      const packed = await this.#pool.run({ kind: 'pack', directory, target, layer, skipRoot: true, ...options });
      if (packed.entriesEmpty) await rm(target, { force: true });
      else await this.#blobs.adopt(target, packed.digest, packed.blobBytes);
      return {
        diffId: packed.diffId,
        digest: packed.digest,
        blobBytes: packed.blobBytes,
        expandedBytes: packed.expandedBytes,
        isEmpty: packed.entriesEmpty,
      };
    } catch (error) {
      await rm(target, { force: true });
      throw error;
    }
  }

  async commitUpper(upper: string, staged: StagedCopy[] = []): Promise<PackedLayer> {
    const packed = await this.#pack(upper, true, { removesSkipped: true, staged });
    if (packed.isEmpty) return packed;
    if (this.has(packed.diffId)) {
      this.#young.set(packed.diffId, this.#clock.monotonic());
      return packed;
    }
    const n = this.#next++;
    await rename(upper, join(this.#root, 'l', n.toString(36)));
    await this.#publish(packed.diffId, n, packed.expandedBytes);
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
    await this.#syncing;
    await this.#pool.close();
  }
}

export async function openLayers(options: LayersOptions): Promise<Layers> {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const layers = new OverlayLayers(options, boot);
  await layers.recover();
  return layers;
}
