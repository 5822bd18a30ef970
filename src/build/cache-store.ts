/**
 * The build cache, in table `build-cache`: keys (`cache-keys.ts`) to the layers that the work made. A record keeps its
 * layers from collection; `prune` removes records, oldest first beyond a bound.
 */
import type { Content } from '#content/content.ts';
import type { ImageLayer, ImageRecords } from '#content/image-records.ts';
import type { Change } from '#content/records.ts';
import type { Clock } from '#os/clock.ts';
import { cacheRecordsMax } from './limits.ts';
import type { KeptDirectories } from './kept-directories.ts';
import type { CacheMounts } from './llb/cache-mounts.ts';

export interface CacheRecord {
  /** One for each output; null: the work changed nothing. */
  layers: (ImageLayer | null)[];
  atMs: number;
  about: string;
  /** Under which the same is known too. */
  contentKey?: string;
}

export interface CacheItem {
  id: string;
  /** As BuildKit names kinds of records. */
  type: 'regular' | 'exec.cachemount' | 'source.local';
  about: string;
  createdAtMs: number;
  usedAtMs: number;
  /** Since this process began, of what it made. */
  uses: number;
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
  /** undefined: not known, or its layers are gone. */
  get(key: string): CacheRecord | undefined;
  put(key: string, record: CacheRecord): Promise<void>;
  /** `matches`: only items for which it holds. `keepBytes`: the newest that together are no larger stay. */
  prune(options: PruneOptions): Promise<{ removed: CacheItem[]; freedBytes: number }>;
  list(): CacheItem[];
}

const table = 'build-cache';

class RecordsCache implements BuildCache {
  readonly #content: Content;
  readonly #images: ImageRecords;
  readonly #clock: Clock;
  readonly #cacheMounts: CacheMounts;
  readonly #directories: KeptDirectories;
  readonly #uses = new Map<string, { count: number; atMs: number }>();

  constructor({ content, images, clock, cacheMounts, directories }: CacheParts) {
    this.#directories = directories;
    this.#content = content;
    this.#images = images;
    this.#clock = clock;
    this.#cacheMounts = cacheMounts;
  }

  #records(): [string, CacheRecord][] {
    // An older program kept records of another form, which say nothing here.
    return [...this.#content.records.entries<CacheRecord>(table)].filter(([, record]) => Array.isArray(record.layers));
  }

  get(key: string): CacheRecord | undefined {
    const record = this.#content.records.get<CacheRecord>(table, key);
    if (record === undefined) return undefined;
    const isWhole = record.layers.every((layer) => layer === null || this.#content.blobs.has(layer.digest));
    if (!isWhole) return undefined;
    this.#uses.set(key, { count: (this.#uses.get(key)?.count ?? 0) + 1, atMs: this.#clock.now() });
    return record;
  }

  async put(key: string, record: CacheRecord): Promise<void> {
    const changes: Change[] = [{ table, key, value: record }];
    if (this.#content.records.count(table) > cacheRecordsMax) {
      const oldest = this.#records()
        .map(([old, { atMs }]) => ({ old, atMs: this.#uses.get(old)?.atMs ?? atMs }))
        .sort((a, b) => a.atMs - b.atMs)
        .slice(0, cacheRecordsMax / 10);
      changes.push(...oldest.map(({ old }) => ({ table, key: old, value: undefined })));
    }
    await this.#commit(changes);
  }

  async #commit(changes: Change[]): Promise<void> {
    await this.#content.records.commit(changes);
    for (const { key, value } of changes) if (value === undefined) this.#uses.delete(key);
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
    const steps = this.#records().flatMap(([id, { layers, atMs, about }]): CacheItem[] => {
      const made = layers.filter((layer) => layer !== null);
      if (made.length === 0) return [];
      const used = this.#uses.get(id);
      return [
        {
          id,
          type: 'regular',
          about,
          createdAtMs: atMs,
          usedAtMs: used?.atMs ?? atMs,
          uses: used?.count ?? 0,
          sizeBytes: made.reduce((sum, layer) => sum + this.#content.layers.sizeBytes(layer.diffId), 0),
          isInUse: made.every((layer) => held.has(layer.diffId)),
        },
      ];
    });
    const mounts = this.#cacheMounts.list().map(({ name, record, isInUse }): CacheItem => ({
      id: name,
      type: 'exec.cachemount',
      about: `cached mount ${record.id}`,
      createdAtMs: record.createdAtMs,
      usedAtMs: record.usedAtMs,
      uses: record.uses,
      sizeBytes: record.sizeBytes,
      isInUse,
    }));
    const directories = this.#directories.list().map(({ name, record, isInUse }): CacheItem => ({
      id: name,
      type: 'source.local',
      ...record,
      isInUse,
    }));
    return [...steps, ...mounts, ...directories];
  }

  /** The newest that together are no larger. What is in use stays in any case and counts for nothing here. */
  #kept(items: readonly CacheItem[], keepBytes: number): Set<string> {
    const kept = new Set<string>();
    let left = keepBytes;
    for (const item of items.filter((each) => !each.isInUse).sort((a, b) => b.usedAtMs - a.usedAtMs)) {
      left -= item.sizeBytes;
      if (left < 0) break;
      kept.add(item.id);
    }
    return kept;
  }

  async prune(options: PruneOptions): Promise<{ removed: CacheItem[]; freedBytes: number }> {
    const { all, untilMs, keepBytes, matches } = options;
    const items = this.list();
    const kept = this.#kept(items, keepBytes ?? 0);
    const chosen = items.filter(
      (item) =>
        !kept.has(item.id) &&
        (untilMs === undefined || item.usedAtMs <= untilMs) &&
        (matches === undefined || matches(item)) &&
        (item.type === 'regular' ? all || !item.isInUse : !item.isInUse),
    );
    const isPartial = matches !== undefined || keepBytes !== undefined || untilMs !== undefined;
    const ids = new Set(chosen.map((item) => item.id));
    // Of steps that changed nothing there is only the knowledge.
    const empty = ([, { layers }]: [string, CacheRecord]): boolean => layers.every((layer) => layer === null);
    const keys = this.#records()
      .filter((each) => ids.has(each[0]) || (!isPartial && empty(each)))
      .map(([key]) => key);
    await this.#commit(keys.map((key) => ({ table, key, value: undefined })));
    const idsOf = (type: CacheItem['type']): string[] =>
      chosen.filter((item) => item.type === type).map((item) => item.id);
    await this.#cacheMounts.remove(idsOf('exec.cachemount'));
    await this.#directories.remove(idsOf('source.local'));
    await this.removeOrphans();
    const ofMounts = chosen.reduce((sum, item) => sum + (item.type === 'regular' ? 0 : item.sizeBytes), 0);
    const removed = chosen.filter((item) => !item.isInUse);
    return { removed, freedBytes: ofMounts + (await this.#content.collect()) };
  }

  /** Images of steps that no other image, and no lease, needs any more. */
  async removeOrphans(): Promise<void> {
    const needed = new Set<string>();
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

  /** Removes records that an older program kept in another form. */
  async recover(): Promise<void> {
    const known = new Set(this.#records().map(([key]) => key));
    const old = [...this.#content.records.entries(table)].filter(([key]) => !known.has(key));
    await this.#commit(old.map(([key]) => ({ table, key, value: undefined })));
  }

  roots(): { blobs: Iterable<string>; layers: Iterable<string> } {
    const layers = this.#records().flatMap(([, record]) => record.layers.filter((layer) => layer !== null));
    return { blobs: layers.map((layer) => layer.digest), layers: layers.map((layer) => layer.diffId) };
  }
}

export interface CacheParts {
  content: Content;
  images: ImageRecords;
  clock: Clock;
  cacheMounts: CacheMounts;
  directories: KeptDirectories;
}

export function createBuildCache(parts: CacheParts): BuildCache & { recover(): Promise<void> } {
  const cache = new RecordsCache(parts);
  parts.content.addRoots(() => cache.roots());
  return cache;
}
