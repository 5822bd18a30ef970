/**
 * The content of one data directory: blobs, unpacked layers, records, and the collection of what nobody owns.
 *
 *   records.log   names, images, registry tables, leases, layer and cache records (`records.ts`)
 *   blobs/        by digest (`blobs.ts`)      uploads/   half-made ones and scratch files
 *   l/            unpacked layers (`layers.ts`)
 *   containers/   writable layers and mount points (`snapshots.ts`)
 *
 * One process owns a data directory. Images, registry, build cache and containers each say what they need (`addRoots`);
 * the collector removes the rest. A blob published in the last minutes is kept: whoever wrote it may not have recorded
 * it yet. After a crash nothing is young, so what a dead pull or build left behind goes at start (`collector.ts`).
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { whenSettled } from '#base/promises.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Processes } from '#os/processes.ts';
import { decompress } from './compression.ts';
import { openBlobs } from './blobs.ts';
import type { Blobs } from './blobs.ts';
import { openLayers } from './layers.ts';
import type { Layers } from './layers.ts';
import { openRecords } from './records.ts';
import type { Records } from './records.ts';

export interface Roots {
  blobs: Iterable<string>;
  layers: Iterable<string>;
}

/** What an operation in progress needs; ends with it. */
export interface Hold extends Disposable {
  addBlob(digest: string): void;
  addLayer(diffId: string): void;
}

export interface Content {
  readonly root: string;
  readonly blobs: Blobs;
  readonly layers: Layers;
  readonly records: Records;
  addRoots(provider: () => Roots): void;
  hold(): Hold;
  /** Expanded bytes of a stream, whatever its compression; at most `bytesMax` (ApiError RequestEntityTooLarge). */
  decompress(source: AsyncIterable<Uint8Array>, bytesMax: number): Promise<AsyncIterable<Uint8Array>>;
  /** Removes what nothing names. Returns the bytes freed. `evenYoung`: at start, when no operation runs. */
  collect(options?: { evenYoung?: boolean }): Promise<number>;
  close(): Promise<void>;
}

export interface ContentOptions {
  root: string;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Starts the programs that undo bzip2 and xz. */ processes: Processes;
}

interface ContentParts {
  root: string;
  blobs: Blobs;
  layers: Layers;
  records: Records;
  log: Logger;
  processes: Processes;
}

class DirectoryContent implements Content {
  readonly root: string;
  readonly blobs: Blobs;
  readonly layers: Layers;
  readonly records: Records;
  readonly #log: Logger;
  readonly #processes: Processes;
  readonly #providers: (() => Roots)[] = [];
  readonly #holds = new Set<{ blobs: Set<string>; layers: Set<string> }>();
  #collecting: Promise<number> | undefined;

  constructor(parts: ContentParts) {
    this.root = parts.root;
    this.blobs = parts.blobs;
    this.layers = parts.layers;
    this.records = parts.records;
    this.#log = parts.log;
    this.#processes = parts.processes;
  }

  addRoots(provider: () => Roots): void {
    this.#providers.push(provider);
  }
  decompress(source: AsyncIterable<Uint8Array>, bytesMax: number): Promise<AsyncIterable<Uint8Array>> {
    return decompress(source, { bytesMax, processes: this.#processes });
  }

  hold(): Hold {
    const held = { blobs: new Set<string>(), layers: new Set<string>() };
    this.#holds.add(held);
    return {
      addBlob: (digest) => {
        held.blobs.add(digest);
      },
      addLayer: (diffId) => {
        held.layers.add(diffId);
      },
      [Symbol.dispose]: () => {
        this.#holds.delete(held);
      },
    };
  }

  async collect(options: { evenYoung?: boolean } = {}): Promise<number> {
    // One at a time; a caller that comes during one waits for a fresh one, because the running one may have passed its
    // garbage.
    while (this.#collecting !== undefined) await whenSettled(this.#collecting);
    this.#collecting = this.#sweep(options.evenYoung === true).finally(() => {
      this.#collecting = undefined;
    });
    return this.#collecting;
  }

  /** What is needed at this moment. Marking and the decision to remove happen in one turn of the event loop. */
  #marked(): { blobs: Set<string>; layers: Set<string> } {
    const blobs = new Set<string>();
    const layers = new Set<string>();
    for (const held of this.#holds) {
      for (const digest of held.blobs) blobs.add(digest);
      for (const diffId of held.layers) layers.add(diffId);
    }
    for (const provider of this.#providers) {
      const roots = provider();
      for (const digest of roots.blobs) blobs.add(digest);
      for (const diffId of roots.layers) layers.add(diffId);
    }
    return { blobs, layers };
  }

  async #sweep(evenYoung: boolean): Promise<number> {
    const marked = this.#marked();
    let freed = 0;
    const stale = [...this.blobs.list()].filter(
      ([digest]) => !marked.blobs.has(digest) && (evenYoung || !this.blobs.isYoung(digest)),
    );
    // `remove` takes the digest out of sight at once, so that nobody finds a blob that is about to go.
    const removals = stale.map(([digest, size]) => {
      freed += size;
      return this.blobs.remove(digest);
    });
    // A blob that was not made yet is its layer.
    const isMarked = (diffId: string, { layers, blobs } = marked): boolean => layers.has(diffId) || blobs.has(diffId);
    const layers = [...this.layers.list()].filter(
      ([diffId]) => !isMarked(diffId) && (evenYoung || !this.layers.isYoung(diffId)),
    );
    await Promise.all(removals);
    for (const [diffId, record] of layers) {
      if (isMarked(diffId, this.#marked())) continue;
      freed += record.sizeBytes;
      await this.layers.remove(diffId);
    }
    await this.blobs.removeStaleUploads();
    if (freed > 0) this.#log.info('collected content', { blobs: stale.length, layers: layers.length, bytes: freed });
    return freed;
  }

  async close(): Promise<void> {
    await whenSettled(this.#collecting);
    await this.layers.close();
    await this.records.close();
  }
}

export async function openContent(options: ContentOptions): Promise<Content> {
  mkdirSync(options.root, { recursive: true, mode: 0o700 });
  const records = await openRecords(join(options.root, 'records.log'));
  const blobs = openBlobs(options.root, options.clock, options.random);
  const { root, clock, processes } = options;
  const log = options.log.child('content');
  const layers = await openLayers({ root, blobs, records, log, clock });
  blobs.deriveFrom(layers);
  return new DirectoryContent({ root, blobs, layers, records, log, processes });
}
