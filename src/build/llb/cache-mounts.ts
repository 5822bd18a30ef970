/**
 * Directories that commands keep between builds (`RUN --mount=type=cache`). One directory a cache; a command that will
 * not share it waits for it (`locked`), or takes a directory of its own (`private`).
 *
 *   cache-mounts/NAME-N/   NAME is a digest of the cache's id, N counts the directories of a private cache
 *
 * Records are in table `cache-mounts`; they are listed and pruned with the build cache.
 */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { onceAborted } from '#base/streams.ts';
import type { Content } from '#content/content.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { Clock } from '#os/clock.ts';
import { digestOf } from '../cache-keys.ts';
import type { ExecMount } from './vertex.ts';

export interface CacheMountRecord {
  id: string;
  createdAtMs: number;
  usedAtMs: number;
  uses: number;
  /** When it was last given back. */
  sizeBytes: number;
}

export interface CacheMountItem {
  name: string;
  record: CacheMountRecord;
  isInUse: boolean;
}

export interface CacheBeginning {
  /** What names the files that it begins with; undefined: none. */
  files: unknown;
  /** What is in it is given up, where what it begins with is said and nobody else uses it. */
  beginsAnew: boolean;
}

interface OpenCache {
  directory: string;
  close: () => Promise<void>;
}

/** What a new cache begins with. */
type Fill = () => Promise<{ root: string; release: () => Promise<void> } | undefined>;

const table = 'cache-mounts';

export class CacheMounts {
  readonly #content: Content;
  readonly #clock: Clock;
  readonly #root: string;
  /** Directories in use: by one command alone, or by several. */
  readonly #users = new Map<string, { count: number; isAlone: boolean }>();
  readonly #filling = new Map<string, Promise<void>>();
  #waiters: (() => void)[] = [];

  constructor(content: Content, clock: Clock) {
    this.#content = content;
    this.#clock = clock;
    this.#root = join(content.root, table);
    mkdirSync(this.#root, { recursive: true, mode: 0o711 });
  }

  #path(name: string): string {
    return join(this.#root, name);
  }

  #tryTake(base: string, mount: ExecMount): string | undefined {
    const isAlone = mount.sharing !== 'shared';
    for (let n = 0; ; n++) {
      const name = `${base}-${n}`;
      const used = this.#users.get(name);
      if (used === undefined) {
        this.#users.set(name, { count: 1, isAlone });
        return name;
      }
      if (mount.sharing === 'private') continue;
      if (isAlone || used.isAlone) return undefined;
      used.count++;
      return name;
    }
  }

  async #take(base: string, mount: ExecMount, signal: AbortSignal): Promise<string> {
    for (;;) {
      const name = this.#tryTake(base, mount);
      if (name !== undefined) return name;
      await new Promise<void>((resolve) => {
        const forget = onceAborted(signal, resolve);
        this.#waiters.push(() => {
          forget();
          resolve();
        });
      });
      signal.throwIfAborted();
    }
  }

  #giveBack(name: string): void {
    const used = this.#users.get(name);
    if (used === undefined) return;
    used.count--;
    if (used.count === 0) this.#users.delete(name);
    for (const wake of this.#waiters.splice(0)) wake();
  }

  /** The cache's directory, until it is closed. Waits where another command has it for itself. */
  async open(mount: ExecMount, beginning: CacheBeginning, signal: AbortSignal, fill: Fill): Promise<OpenCache> {
    const { files, beginsAnew } = beginning;
    const { mode, owner } = mount;
    // Caches of one id that begin otherwise are others.
    const isPlain = files === undefined && mode === 0 && owner.uid === 0 && owner.gid === 0;
    const base = digestOf('cache-mount', mount.id, ...(isPlain ? [] : [files, mode, owner])).slice(0, 32);
    const name = await this.#take(base, mount, signal);
    try {
      let filling = this.#filling.get(name);
      const isGivenUp = beginsAnew && !isPlain && this.#users.get(name)?.count === 1;
      if (filling === undefined && (isGivenUp || this.#get(name) === undefined)) {
        filling = this.#make(name, mount, fill).finally(() => this.#filling.delete(name));
        this.#filling.set(name, filling);
      }
      await filling;
      await this.#use(name, mount);
    } catch (error) {
      this.#giveBack(name);
      throw error;
    }
    return {
      directory: this.#path(name),
      close: () => this.#close(name),
    };
  }

  #get(name: string): CacheMountRecord | undefined {
    return this.#content.records.get<CacheMountRecord>(table, name);
  }

  /** Made aside and moved into place, so that a half made one is never taken for a cache. */
  async #make(name: string, mount: ExecMount, fill: Fill): Promise<void> {
    const path = this.#path(name);
    const half = `${path}.half`;
    await rm(path, { recursive: true, force: true });
    await rm(half, { recursive: true, force: true });
    mkdirSync(half, { mode: 0o700 });
    const source = await fill();
    const { mode, owner } = source === undefined ? mount : beginningOf(mount, source.root);
    try {
      if (source !== undefined)
        await this.#content.layers.copyInto(half, [
          { kind: 'copy', sourceRoot: source.root, sources: ['.'], target: '/', isDirectory: true },
        ]);
    } finally {
      await source?.release();
    }
    chmodSync(half, mode === 0 ? 0o755 : mode);
    chownSync(half, owner.uid, owner.gid);
    await rename(half, path);
  }

  async #use(name: string, mount: ExecMount): Promise<void> {
    const now = this.#clock.now();
    const known = this.#get(name);
    const value: CacheMountRecord = {
      id: mount.id,
      createdAtMs: known?.createdAtMs ?? now,
      usedAtMs: now,
      uses: (known?.uses ?? 0) + 1,
      sizeBytes: known?.sizeBytes ?? 0,
    };
    await this.#content.records.commit([{ table, key: name, value }]);
  }

  async #close(name: string): Promise<void> {
    try {
      const record = this.#get(name);
      const sizeBytes = await treeBytes(this.#path(name));
      if (record !== undefined)
        await this.#content.records.commit([{ table, key: name, value: { ...record, sizeBytes } }]);
    } finally {
      this.#giveBack(name);
    }
  }

  list(): CacheMountItem[] {
    return [...this.#content.records.entries<CacheMountRecord>(table)].map(([name, record]) => ({
      name,
      record,
      isInUse: this.#users.has(name),
    }));
  }

  /** Takes away those that nobody uses. */
  async remove(names: readonly string[]): Promise<void> {
    const free = names.filter((name) => !this.#users.has(name));
    // Whoever wants one of them meanwhile waits, or it would be taken away from under a command.
    for (const name of free) this.#users.set(name, { count: 1, isAlone: true });
    try {
      await this.#content.records.commit(free.map((key) => ({ table, key, value: undefined })));
      for (const name of free) await rm(this.#path(name), { recursive: true, force: true });
    } finally {
      for (const name of free) this.#giveBack(name);
    }
  }

  /** What an earlier process left half made. */
  async recover(): Promise<void> {
    for (const name of readdirSync(this.#root))
      if (this.#get(name) === undefined) await rm(this.#path(name), { recursive: true, force: true });
  }
}

/** The directory that a cache begins with says whose it is, where the mount does not: so front ends ask for it. */
function beginningOf({ mode, owner }: ExecMount, root: string): Pick<ExecMount, 'mode' | 'owner'> {
  const { mode: own, uid, gid } = lstatSync(root);
  return {
    mode: mode === 0 ? own & 0o7777 : mode,
    owner: owner.uid === 0 && owner.gid === 0 ? { uid, gid } : owner,
  };
}
