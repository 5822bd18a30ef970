/**
 * Directories of clients, kept between builds: a client that builds again sends what has changed. One build at a time
 * works with a kept directory; another one of the same place gets a directory of its own, which is not kept.
 *
 *   contexts/NAME/files   as the client's directory was at the last build
 *   contexts/NAME/index   what is there: path to `KeptFile`, as JSON; gone while files are brought up to date, so that
 *                         what a dead process left half made is never taken for the client's
 *
 * Records are in table `contexts`; they are listed and pruned with the build cache.
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isObject } from '#base/unknown.ts';
import type { Content } from '#content/content.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { digestOf } from './cache-keys.ts';
import { keptDirectoriesMax } from './limits.ts';

/** What the client said of a file, and what it holds. */
export interface KeptFile {
  type: 'file' | 'directory' | 'symlink' | 'link' | 'fifo' | 'character' | 'block';
  mode: number;
  sizeBytes: number;
  /** Nanoseconds, as far as a number holds them. */
  mtimeNs: number;
  linkTarget: string;
  /** Of a device. */
  device?: { major: number; minor: number };
  digest: string;
}

interface KeptRecord {
  about: string;
  createdAtMs: number;
  usedAtMs: number;
  uses: number;
  sizeBytes: number;
}

export interface KeptItem {
  name: string;
  record: KeptRecord;
  isInUse: boolean;
}

export interface OpenDirectory {
  path: string;
  /** What is there from before. */
  files: ReadonlyMap<string, KeptFile>;
  /** All is as the client has it: keep it so. */
  keep(files: ReadonlyMap<string, KeptFile>): Promise<void>;
  close(): Promise<void>;
}

const table = 'contexts';

export class KeptDirectories {
  readonly #content: Content;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #root: string;
  readonly #inUse = new Set<string>();

  constructor(content: Content, clock: Clock, random: Random) {
    this.#content = content;
    this.#clock = clock;
    this.#random = random;
    this.#root = join(content.root, table);
    mkdirSync(this.#root, { recursive: true, mode: 0o700 });
  }

  /**
   * `place`: what tells this directory from others of this client and of other clients; undefined: it is not worth
   * keeping.
   */
  async open(place: readonly string[] | undefined, about: string): Promise<OpenDirectory> {
    const kept = digestOf('context', place).slice(0, 32);
    const isShared = place === undefined || this.#inUse.has(kept);
    const name = isShared ? `own-${Buffer.from(this.#random.bytes(16)).toString('hex')}` : kept;
    this.#inUse.add(name);
    const path = join(this.#root, name, 'files');
    const index = join(this.#root, name, 'index');
    const files = parseIndex(readIfExists(index));
    await rm(index, { force: true });
    if (files === undefined) await rm(path, { recursive: true, force: true });
    mkdirSync(path, { recursive: true, mode: 0o755 });
    let isKept = false;
    return {
      path,
      files: files ?? new Map(),
      keep: async (now) => {
        if (isShared) return;
        writeFileAtomic(index, JSON.stringify([...now]));
        await this.#use(name, about, now);
        isKept = true;
      },
      close: async () => {
        if (!isKept) await rm(join(this.#root, name), { recursive: true, force: true });
        this.#inUse.delete(name);
        await this.#bound();
      },
    };
  }

  #get(name: string): KeptRecord | undefined {
    return this.#content.records.get<KeptRecord>(table, name);
  }

  async #use(name: string, about: string, files: ReadonlyMap<string, KeptFile>): Promise<void> {
    const now = this.#clock.now();
    const known = this.#get(name);
    let sizeBytes = 0;
    for (const file of files.values()) if (file.type === 'file') sizeBytes += file.sizeBytes;
    const value: KeptRecord = {
      about,
      createdAtMs: known?.createdAtMs ?? now,
      usedAtMs: now,
      uses: (known?.uses ?? 0) + 1,
      sizeBytes,
    };
    await this.#content.records.commit([{ table, key: name, value }]);
  }

  /** The oldest go when there are too many. */
  async #bound(): Promise<void> {
    const items = this.list();
    if (items.length <= keptDirectoriesMax) return;
    const oldest = items
      .sort((a, b) => a.record.usedAtMs - b.record.usedAtMs)
      .slice(0, items.length - keptDirectoriesMax);
    await this.remove(oldest.map((item) => item.name));
  }

  list(): KeptItem[] {
    return [...this.#content.records.entries<KeptRecord>(table)].map(([name, record]) => ({
      name,
      record,
      isInUse: this.#inUse.has(name),
    }));
  }

  /** Takes away those that no build uses. */
  async remove(names: readonly string[]): Promise<void> {
    const free = names.filter((name) => !this.#inUse.has(name));
    // A build that comes meanwhile takes a directory of its own.
    for (const name of free) this.#inUse.add(name);
    try {
      await this.#content.records.commit(free.map((key) => ({ table, key, value: undefined })));
      for (const name of free) await rm(join(this.#root, name), { recursive: true, force: true });
    } finally {
      for (const name of free) this.#inUse.delete(name);
    }
  }

  /** What an earlier process left without a record. */
  async recover(): Promise<void> {
    for (const name of readdirSync(this.#root))
      if (this.#get(name) === undefined) await rm(join(this.#root, name), { recursive: true, force: true });
  }
}

function isKeptFile(value: unknown): value is KeptFile {
  return isObject(value) && typeof value['type'] === 'string' && typeof value['digest'] === 'string';
}

/** undefined: there is none, or it cannot be read. */
function parseIndex(text: string | undefined): Map<string, KeptFile> | undefined {
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!Array.isArray(value)) return undefined;
  const files = new Map<string, KeptFile>();
  for (const pair of value) {
    const [path, file]: unknown[] = Array.isArray(pair) ? pair : [];
    if (typeof path !== 'string' || !isKeptFile(file)) return undefined;
    files.set(path, file);
  }
  return files;
}
