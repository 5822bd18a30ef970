/**
 * The build cache, in table `build-cache`. Two kinds of key, both digests over content:
 *
 *   step  parent image + instruction + content of its sources → image. A build that repeats gives the same image ids.
 *   op    input layers + operation → layer. Stages that differ only in labels or names share the work.
 *
 * A record keeps its image and layer from collection; `prune` removes records, oldest first beyond a bound.
 */
import type { Content } from '#content/content.ts';
import type { ImageLayer, ImageRecords } from '#content/image-records.ts';
import type { Change } from '#content/records.ts';
import type { Clock } from '#os/clock.ts';
import { cacheRecordsMax } from './limits.ts';

export interface CacheRecord {
  imageId?: string;
  /** null: the operation changed nothing. */ layer?: ImageLayer | null;
  atMs: number;
  about: string;
}

export interface CacheItem {
  id: string;
  record: CacheRecord;
  sizeBytes: number;
  isInUse: boolean;
}
export interface PruneOptions {
  all: boolean;
  untilMs?: number;
  keepBytes?: number;
  matches?: (item: CacheItem) => boolean;
}

export interface BuildCache {
  step(key: string): string | undefined;
  op(key: string): ImageLayer | null | undefined;
  putStep(key: string, imageId: string, about: string): Change;
  putOp(key: string, layer: ImageLayer | null, about: string): Promise<void>;
  /** `matches`: only layers of steps for which it holds. `keepBytes`: the newest that together are no larger stay. */
  prune(options: PruneOptions): Promise<{ ids: string[]; freedBytes: number }>;
  list(): CacheItem[];
}

class RecordsCache implements BuildCache {
  readonly #content: Content;
  readonly #images: ImageRecords;
  readonly #clock: Clock;
  constructor(content: Content, images: ImageRecords, clock: Clock) {
    this.#content = content;
    this.#images = images;
    this.#clock = clock;
  }

  #get(key: string): CacheRecord | undefined {
    return this.#content.records.get<CacheRecord>('build-cache', key);
  }
  step(key: string): string | undefined {
    const id = this.#get(`step/${key}`)?.imageId;
    return id !== undefined && this.#images.get(id) !== undefined ? id : undefined;
  }
  op(key: string): ImageLayer | null | undefined {
    const layer = this.#get(`op/${key}`)?.layer;
    if (layer === undefined || layer === null) return layer;
    return this.#content.blobs.has(layer.digest) ? layer : undefined;
  }
  putStep(key: string, imageId: string, about: string): Change {
    return {
      table: 'build-cache',
      key: `step/${key}`,
      value: { imageId, atMs: this.#clock.now(), about } satisfies CacheRecord,
    };
  }
  async putOp(key: string, layer: ImageLayer | null, about: string): Promise<void> {
    const changes: Change[] = [
      {
        table: 'build-cache',
        key: `op/${key}`,
        value: { layer, atMs: this.#clock.now(), about } satisfies CacheRecord,
      },
    ];
    if (this.#content.records.count('build-cache') > cacheRecordsMax) {
      const oldest = [...this.#content.records.entries<CacheRecord>('build-cache')]
        .sort(([, a], [, b]) => a.atMs - b.atMs)
        .slice(0, cacheRecordsMax / 10);
      changes.push(...oldest.map(([old]) => ({ table: 'build-cache', key: old, value: undefined })));
    }
    await this.#content.records.commit(changes);
  }

  /** Layers that an image with a name, or a lease, holds anyway. */
  #heldLayers(): Set<string> {
    const held = new Set<string>();
    for (const record of this.#images.list())
      if (record.isIntermediate !== true) for (const layer of record.layers) held.add(layer.diffId);
    return held;
  }

  list(): CacheItem[] {
    const held = this.#heldLayers();
    return [...this.#content.records.entries<CacheRecord>('build-cache')]
      .filter(([, record]) => record.layer !== undefined && record.layer !== null)
      .map(([id, record]) => ({
        id: id.slice(3),
        record,
        sizeBytes: this.#content.layers.sizeBytes(record.layer!.diffId),
        isInUse: held.has(record.layer!.diffId),
      }));
  }

  /** Keys of layers that the options spare. */
  #spared(options: PruneOptions): Set<string> {
    const items = this.list();
    const spared = new Set<string>();
    if (options.matches !== undefined)
      for (const item of items) if (!options.matches(item)) spared.add(`op/${item.id}`);
    let left = options.keepBytes ?? 0;
    // What is in use stays in any case and counts for nothing here.
    for (const item of items.filter((each) => !each.isInUse).sort((a, b) => b.record.atMs - a.record.atMs)) {
      left -= item.sizeBytes;
      if (left < 0) break;
      spared.add(`op/${item.id}`);
    }
    return spared;
  }

  async prune(options: PruneOptions): Promise<{ ids: string[]; freedBytes: number }> {
    const held = this.#heldLayers();
    const spared = this.#spared(options);
    const isPartial = options.matches !== undefined || options.keepBytes !== undefined;
    const changes: Change[] = [];
    const ids: string[] = [];
    for (const [key, record] of this.#content.records.entries<CacheRecord>('build-cache')) {
      if (options.untilMs !== undefined && record.atMs > options.untilMs) continue;
      if (spared.has(key) || (isPartial && !record.layer)) continue;
      const isHeld = record.layer !== undefined && record.layer !== null && held.has(record.layer.diffId);
      const isOfImage = record.imageId !== undefined && this.#images.get(record.imageId)?.isIntermediate !== true;
      if (!options.all && (isHeld || isOfImage)) continue;
      changes.push({ table: 'build-cache', key, value: undefined });
      if (record.layer && !isHeld) ids.push(key.slice(3));
    }
    await this.#content.records.commit(changes);
    await this.removeOrphans();
    return { ids, freedBytes: await this.#content.collect() };
  }

  /** Build steps that no cache record, image, or lease needs any more. */
  async removeOrphans(): Promise<void> {
    const needed = new Set<string>();
    for (const [, record] of this.#content.records.entries<CacheRecord>('build-cache'))
      if (record.imageId !== undefined) needed.add(record.imageId);
    const byId = new Map(this.#images.list().map((record) => [record.id, record]));
    for (const record of byId.values())
      if (record.isIntermediate !== true || this.#images.leasesOf(record.id).length > 0)
        for (let at = record.parent; at !== undefined; at = byId.get(at)?.parent) needed.add(at);
    const changes = [...byId.values()]
      .filter(
        (record) =>
          record.isIntermediate === true &&
          !needed.has(record.id) &&
          this.#images.leasesOf(record.id).length === 0 &&
          this.#images.namesOf(record.id).length === 0,
      )
      .map((record): Change => ({ table: 'images', key: record.id, value: undefined }));
    await this.#content.records.commit(changes);
  }

  roots(): { blobs: Iterable<string>; layers: Iterable<string> } {
    const blobs: string[] = [];
    const layers: string[] = [];
    for (const [, record] of this.#content.records.entries<CacheRecord>('build-cache'))
      if (record.layer) {
        blobs.push(record.layer.digest);
        layers.push(record.layer.diffId);
      }
    return { blobs, layers };
  }
}

export function createBuildCache(content: Content, images: ImageRecords, clock: Clock): BuildCache {
  const cache = new RecordsCache(content, images, clock);
  content.addRoots(() => cache.roots());
  return cache;
}
