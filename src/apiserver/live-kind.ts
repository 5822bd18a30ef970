/**
 * A live view of one kind: its objects as the store has them now, for whatever decides over requests (access, quotas,
 * webhooks, definitions). Nothing lists the store for each request.
 *
 * A view lists its directory when somebody first asks, and from then on takes up what the store's watch has delivered.
 * `current()` does so in the caller's turn of the event loop: the view then holds every write that was acknowledged
 * before the call, so whoever creates a Role, a Namespace or a quota may count on it in the next request. A view that
 * nobody asks costs nothing but a bounded queue.
 *
 * When the watch fails, as it does where history was forgotten before it was taken up, the view is behind and lists
 * again. One listing is under way at a time and nobody takes up events meanwhile: the watch goes on from the listing's
 * revision, so no listing replaces anything newer. When the store does not answer, readers are told to come back, and
 * the store is asked again after a time that doubles. It is never given up.
 */
import { ApiError } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import type { Store, StoredValue, StoreWatch } from '#store/store.ts';
import { relistDelayMs, relistDelayMsMax } from './limits.ts';
import type { Objects } from './stored-objects.ts';

export interface LiveSource {
  store: Store;
  objects: Objects;
  clock: Clock;
  log: Logger;
}

/** Told of each change as it is taken up; `object` is undefined where there is none any more. */
export type LiveListener<K> = (namespace: string, name: string, object: K | undefined) => void;

/** An object of a view, parsed when somebody looks inside. */
export class LiveEntry<K extends KubeObject = KubeObject> {
  readonly stored: StoredValue;
  readonly #objects: Objects;
  #object: K | undefined;

  constructor(stored: StoredValue, objects: Objects) {
    this.stored = stored;
    this.#objects = objects;
  }

  /** Frozen. */
  get object(): K {
    // Its directory holds no other kind.
    return (this.#object ??= this.#objects.view(this.stored) as K);
  }
}

interface Bucket<K extends KubeObject, T> {
  entries: Map<string, LiveEntry<K>>;
  derived: { value: T } | undefined;
}

/** `K`: the kind of the directory's objects; `T`: what is derived from those of a namespace. */
export class LiveKind<K extends KubeObject = KubeObject, T = readonly LiveEntry<K>[]> {
  readonly #source: LiveSource;
  readonly #prefix: string;
  readonly #derive: (entries: readonly LiveEntry<K>[]) => T;
  readonly #listeners: LiveListener<K>[] = [];
  readonly #empty: T;
  /** By namespace; objects of the cluster's scope are in that of no name. */
  #buckets = new Map<string, Bucket<K, T>>();
  #watch: StoreWatch | undefined;
  #listing: Promise<this> | undefined;
  #revision = 0;
  /** What readers are told until the store is asked again. */
  #refusal: { error: ApiError; delayMs: number; untilMs: number } | undefined;
  #closed = false;

  /**
   * `prefix` is a directory of the store. `derive` makes what readers look things up in of the objects of one
   * namespace, when they ask for it after a change.
   */
  constructor(source: LiveSource, prefix: string, derive: (entries: readonly LiveEntry<K>[]) => T) {
    this.#source = source;
    this.#prefix = prefix;
    this.#derive = derive;
    this.#empty = derive([]);
  }

  /** Before the view is first read. */
  subscribe(listener: LiveListener<K>): this {
    this.#listeners.push(listener);
    return this;
  }

  /** The store's revision that the view has reached. */
  get revision(): number {
    return this.#revision;
  }

  /**
   * The view at the store's current revision; a promise only where it has to be listed. Rejects with
   * ServiceUnavailable while the store does not answer.
   */
  current(): this | Promise<this> {
    return this.#takeUp() ? this : this.#list();
  }

  get(namespace: string, name: string): K | undefined {
    return this.#buckets.get(namespace)?.entries.get(name)?.object;
  }

  /** What is derived from the objects of a namespace, or of the cluster's scope. */
  in(namespace = ''): T {
    const bucket = this.#buckets.get(namespace);
    if (bucket === undefined) return this.#empty;
    return (bucket.derived ??= { value: this.#derive(sorted(bucket.entries)) }).value;
  }

  /** Takes up what was delivered while nobody asked: a queue keeps old values from being forgotten. */
  drain(): void {
    this.#takeUp();
  }

  /** Takes up changes as they happen, also where nobody asks, until `close`. */
  async follow(): Promise<void> {
    const { clock, log } = this.#source;
    while (!this.#closed) {
      try {
        await this.current();
        const watch = this.#watch;
        // A store that closes a watch has ended; one that a reader found behind is not the view's any more.
        if (watch !== undefined && !(await watch.delivered()) && watch === this.#watch) return;
      } catch (error) {
        log.warn('a live view is behind', { prefix: this.#prefix, error });
        const delayMs = Math.max(0, (this.#refusal?.untilMs ?? 0) - clock.monotonic());
        const { promise, resolve } = Promise.withResolvers<void>();
        clock.setTimer(delayMs, resolve, { background: true });
        await promise;
      }
    }
  }

  close(): void {
    this.#closed = true;
    this.#watch?.close();
  }

  /** Answers whether the view is up to date. */
  #takeUp(): boolean {
    const watch = this.#watch;
    if (watch === undefined) return false;
    const revision = this.#source.store.currentRevision();
    if (revision === this.#revision) return true;
    try {
      this.#takeFrom(watch);
    } catch (error) {
      this.#source.log.debug('a live view lists again', { prefix: this.#prefix, error });
      this.#watch = undefined;
      watch.close();
      return false;
    }
    this.#revision = revision;
    return true;
  }

  #takeFrom(watch: StoreWatch): void {
    for (const event of watch.take() ?? []) this.#set(event.key, event.value);
  }

  #list(): Promise<this> {
    this.#listing ??= this.#listOnce().finally(() => {
      this.#listing = undefined;
    });
    return this.#listing;
  }

  async #listOnce(): Promise<this> {
    const { store, clock } = this.#source;
    if (this.#refusal !== undefined && clock.monotonic() < this.#refusal.untilMs) throw this.#refusal.error;
    try {
      const { values, revision } = await store.list(this.#prefix);
      const watch = store.watch(this.#prefix, revision);
      if (this.#closed) watch.close();
      this.#replace(values);
      this.#takeFrom(watch);
      this.#watch = watch;
      this.#revision = revision;
      this.#refusal = undefined;
      return this;
    } catch (cause) {
      const delayMs = Math.min(relistDelayMsMax, 2 * (this.#refusal?.delayMs ?? relistDelayMs / 2));
      const error = new ApiError('ServiceUnavailable', `the store cannot be read: ${messageOf(cause)}`, {
        retryAfterSeconds: 1,
      });
      this.#refusal = { error, delayMs, untilMs: clock.monotonic() + delayMs };
      throw error;
    }
  }

  #replace(values: readonly StoredValue[]): void {
    const before = this.#buckets;
    const listed = new Set(values.map((stored) => stored.key));
    for (const [namespace, bucket] of before)
      for (const entry of [...bucket.entries.values()])
        if (!listed.has(entry.stored.key)) this.#remove(namespace, entry.stored.key);
    for (const stored of values) {
      const [namespace, name] = this.#split(stored.key);
      const known = before.get(namespace)?.entries.get(name);
      if (known?.stored.modRevision !== stored.modRevision) this.#set(stored.key, stored);
    }
  }

  #split(key: string): [namespace: string, name: string] {
    const rest = key.slice(this.#prefix.length);
    const slash = rest.indexOf('/');
    return slash < 0 ? ['', rest] : [rest.slice(0, slash), rest.slice(slash + 1)];
  }

  #set(key: string, stored: StoredValue | undefined): void {
    const [namespace, name] = this.#split(key);
    if (stored === undefined) {
      this.#remove(namespace, key);
      return;
    }
    let bucket = this.#buckets.get(namespace);
    if (bucket === undefined) this.#buckets.set(namespace, (bucket = { entries: new Map(), derived: undefined }));
    const entry = new LiveEntry<K>(stored, this.#source.objects);
    bucket.entries.set(name, entry);
    bucket.derived = undefined;
    for (const changed of this.#listeners) changed(namespace, name, entry.object);
  }

  #remove(namespace: string, key: string): void {
    const [, name] = this.#split(key);
    const bucket = this.#buckets.get(namespace);
    if (bucket?.entries.delete(name) !== true) return;
    bucket.derived = undefined;
    if (bucket.entries.size === 0) this.#buckets.delete(namespace);
    for (const changed of this.#listeners) changed(namespace, name, undefined);
  }
}

function sorted<K extends KubeObject>(entries: ReadonlyMap<string, LiveEntry<K>>): LiveEntry<K>[] {
  return [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
}
