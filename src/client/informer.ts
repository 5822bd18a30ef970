/**
 * Informers: a local, indexed copy of a kind, kept by one list and one watch that resumes where it broke off.
 *
 * Invariants. Objects are the client's own: shared and frozen. Handlers are called in the order of the changes, on the
 * turn in which the copy changes, and must not wait: they put keys on queues. `absorb` puts the result of the caller's
 * own write into the copy at once, so that a reconciler reads its writes and needs no expectations; the watch's later
 * event for the same resourceVersion is then dropped. That leans on resourceVersions being comparable numbers, which
 * Kubernetes promises since 1.35, and which Tiphys' own server always did.
 *
 * A watch that ends is resumed from the last version seen (bookmarks keep it fresh); 410 Gone lists again; other
 * failures wait, doubling, with jitter. It does not poll or re-sync by time: reconcilers are level-triggered and set
 * their own timers.
 */
import type { Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { ApiError, isReason, toApiError } from '#base/errors.ts';
import type { KindRef, KubeObject, WatchEvent } from '#base/objects.ts';
import { apiVersionOf } from '#base/objects.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Client, UpdateOptions } from './client.ts';
import { IndexedObjects, type IndexFunction } from './indexed-objects.ts';
import { informerBackoffMs, informerBackoffMsMax } from './limits.ts';

export interface InformerHandler<T extends KubeObject = KubeObject> {
  added?(object: T): void;
  updated?(object: T, previous: T): void;
  /** With its last state, and what the copy held of it. */
  deleted?(object: T, held: T): void;
}

export interface InformerOptions {
  namespace?: string;
  labelSelector?: string;
  fieldSelector?: string;
}

export interface InformerDependencies {
  client: Client;
  clock: Clock;
  random: Random;
  log: Logger;
  /**
   * Ask for bookmarks, so that a quiet watch can be resumed after history was forgotten; true when absent. A simulation
   * saves them.
   */
  bookmarks?: boolean;
  /** How long the server shall keep each watch; its own choice when absent. */
  watchSeconds?: number;
}

/** The key of an object in its informer and on work queues: `namespace/name`, or `name` for cluster kinds. */
export function keyOf(object: KubeObject): string {
  const { namespace, name = '' } = object.metadata;
  return namespace === undefined || namespace === '' ? name : `${namespace}/${name}`;
}

export const indexes = Object.freeze({
  namespace: (object: KubeObject) => object.metadata.namespace,
  /** UID of the controlling owner. */
  controller: (object: KubeObject) => object.metadata.ownerReferences?.find((owner) => owner.controller === true)?.uid,
  /** UIDs of all owners. */
  owners: (object: KubeObject) => object.metadata.ownerReferences?.map((owner) => owner.uid),
  /** `namespace/` of Pods that no controller owns: candidates for adoption. */
  orphans: (object: KubeObject) =>
    object.metadata.ownerReferences?.some((owner) => owner.controller === true) === true
      ? undefined
      : (object.metadata.namespace ?? ''),
  node: (pod: Pod) => pod.spec?.nodeName,
  /** The value of one label. */
  label: (key: string) => (object: KubeObject) => object.metadata.labels?.[key],
});

const versionOf = (object: { metadata: { resourceVersion?: string } }): number =>
  Number(object.metadata.resourceVersion ?? 0);

export class Informer<T extends KubeObject = KubeObject> {
  readonly kind: KindRef<T>;
  readonly options: InformerOptions;
  readonly #deps: InformerDependencies;
  readonly #objects = new IndexedObjects<T>();
  readonly #handlers = new Set<InformerHandler<T>>();
  readonly #stop = new AbortController();
  /** UIDs whose deletion was absorbed while older events of them may still come. */
  readonly #tombstones = new Set<string>();
  #version = 0;
  #synced = false;
  #running: Promise<void> | undefined;
  readonly #firstSync = Promise.withResolvers<void>();

  constructor(kind: KindRef<T>, deps: InformerDependencies, options: InformerOptions = {}) {
    this.kind = kind;
    this.options = options;
    this.#deps = deps;
  }

  get hasSynced(): boolean {
    return this.#synced;
  }
  /** Resolves after the first list. */
  get synced(): Promise<void> {
    return this.#firstSync.promise;
  }
  get size(): number {
    return this.#objects.size;
  }
  /** The newest resourceVersion that this copy is known to hold. */
  get version(): number {
    return this.#version;
  }

  get(key: string): T | undefined {
    return this.#objects.get(key);
  }
  keys(): IterableIterator<string> {
    return this.#objects.keys();
  }
  values(): IterableIterator<T> {
    return this.#objects.values();
  }
  list(): T[] {
    return [...this.#objects.values()];
  }

  /** Objects with this value in the index, in the order they came. */
  by(index: string, value: string): Iterable<T> {
    return this.#objects.by(index, value);
  }
  countBy(index: string, value: string): number {
    return this.#objects.countBy(index, value);
  }

  /** Adds an index; the same name is added once. */
  addIndex(name: string, of: IndexFunction<T>): this {
    this.#objects.addIndex(name, of);
    return this;
  }

  /** Objects that are already there are announced as added, at once. */
  addHandler(handler: InformerHandler<T>): { remove(): void } {
    this.#handlers.add(handler);
    if (handler.added !== undefined) for (const object of [...this.#objects.values()]) handler.added(object);
    return {
      remove: () => {
        this.#handlers.delete(handler);
      },
    };
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    this.#firstSync.resolve();
    await this.#running;
  }

  /**
   * The result of the caller's own write. Ignored where the watch is already past it, or selectors may hide the object.
   */
  absorb(object: T): void {
    if (!this.#synced || this.options.labelSelector !== undefined || this.options.fieldSelector !== undefined) return;
    if (versionOf(object) <= this.#version || this.#tombstones.has(object.metadata.uid ?? '')) return;
    if (this.options.namespace !== undefined && object.metadata.namespace !== this.options.namespace) return;
    this.#apply(keyOf(object), object);
  }

  /** The object has been removed by the caller's own delete. */
  absorbDeletion(object: T): void {
    if (!this.#synced) return;
    const key = keyOf(object);
    const held = this.#objects.get(key);
    if (held === undefined || held.metadata.uid !== object.metadata.uid) return;
    this.#tombstones.add(object.metadata.uid ?? '');
    this.#remove(key, object);
  }

  async #run(): Promise<void> {
    const { clock, random, log } = this.#deps;
    let backoffMs = informerBackoffMs;
    let resume = false;
    while (!this.#stop.signal.aborted) {
      try {
        if (!resume) await this.#list();
        resume = true;
        const before = this.#version;
        await this.#watch();
        if (this.#version > before) backoffMs = informerBackoffMs;
        // An ordinary end of a watch; a server that ends each at once must not be hammered.
        else await this.#pause(clock, backoffMs);
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        if (isReason(error, 'Gone', 'Expired')) resume = false;
        // A kind that is not (or no longer) served: its objects are gone once it says so after having worked.
        if (!isReason(error, 'Gone', 'Expired', 'NotFound', 'ServiceUnavailable'))
          log.warn(`watch of ${this.kind.resource} failed`, { error: toApiError(error).message });
        if (isReason(error, 'Gone', 'Expired')) {
          continue;
        }
        await this.#pause(clock, backoffMs * (0.5 + random.float()));
        backoffMs = Math.min(backoffMs * 2, informerBackoffMsMax);
      }
    }
  }

  async #pause(clock: Clock, delayMs: number): Promise<void> {
    try {
      await clock.sleep(delayMs, this.#stop.signal);
    } catch {
      // Stopped.
    }
  }

  async #list(): Promise<void> {
    const list = await this.#deps.client.list(this.kind, {
      ...this.options,
      resourceVersion: '0',
      signal: this.#stop.signal,
    });
    if (this.#stop.signal.aborted) return;
    const listVersion = versionOf(list);
    const apiVersion = apiVersionOf(this.kind);
    const seen = new Set<string>();
    for (const item of list.items) {
      // Lists leave kind and apiVersion out of their items.
      const object = item.kind === undefined ? ({ ...item, apiVersion, kind: this.kind.kind } as T) : item;
      const key = keyOf(object);
      seen.add(key);
      const held = this.#objects.get(key);
      if (held === undefined || versionOf(held) < versionOf(object) || held.metadata.uid !== object.metadata.uid)
        this.#apply(key, object);
    }
    for (const held of this.list()) {
      const key = keyOf(held);
      if (!seen.has(key) && versionOf(held) <= listVersion) this.#remove(key, held);
    }
    this.#tombstones.clear();
    this.#version = Math.max(this.#version, listVersion);
    this.#synced = true;
    this.#firstSync.resolve();
  }

  async #watch(): Promise<void> {
    const batches = this.#deps.client.watchBatches(this.kind, {
      ...this.options,
      resourceVersion: String(this.#version),
      allowBookmarks: this.#deps.bookmarks !== false,
      ...(this.#deps.watchSeconds === undefined ? {} : { timeoutSeconds: this.#deps.watchSeconds }),
      signal: this.#stop.signal,
    });
    for await (const batch of batches) {
      for (const event of batch) {
        if (this.#stop.signal.aborted) return;
        this.#take(event);
      }
    }
  }

  #take(event: WatchEvent<T>): void {
    if (event.type === 'ERROR') {
      // It carries a Status.
      const code = fieldOf(event.object, 'code');
      const message = textOf(event.object, 'message') ?? 'watch failed';
      throw new ApiError(code === 410 ? 'Expired' : 'InternalError', message);
    }
    const { object } = event;
    const version = versionOf(object);
    if (event.type !== 'BOOKMARK') {
      const key = keyOf(object);
      const held = this.#objects.get(key);
      const isNewer = held === undefined || versionOf(held) < version;
      if (event.type === 'DELETED') {
        this.#tombstones.delete(object.metadata.uid ?? '');
        if (isNewer || held.metadata.uid === object.metadata.uid) this.#remove(key, object);
      } else if (isNewer && !this.#tombstones.has(object.metadata.uid ?? '')) this.#apply(key, object);
    }
    if (version > this.#version) this.#version = version;
  }

  #apply(key: string, object: T): void {
    const held = this.#objects.get(key);
    // Deleted and made again while nobody looked: handlers must see both.
    if (held !== undefined && held.metadata.uid !== object.metadata.uid) this.#remove(key, held);
    const previous = this.#objects.set(key, object);
    for (const handler of this.#handlers) {
      if (previous === undefined) handler.added?.(object);
      else handler.updated?.(object, previous);
    }
  }

  #remove(key: string, last: T): void {
    const held = this.#objects.delete(key);
    if (held === undefined) return;
    for (const handler of this.#handlers) handler.deleted?.(last, held);
  }
}

/** Informers shared by all who run in one process: one list and one watch per kind. */
export class InformerFactory implements AsyncDisposable {
  readonly #deps: InformerDependencies;
  readonly #informers = new Map<string, Informer>();
  #started = false;

  constructor(deps: InformerDependencies) {
    this.#deps = deps;
  }

  /** The shared informer of a kind; made, and started when the factory runs, on first use. */
  informer<T extends KubeObject>(kind: KindRef<T>, options: InformerOptions = {}): Informer<T> {
    const id = `${kind.group}/${kind.version}/${kind.resource}?${options.namespace ?? ''}&${options.labelSelector ?? ''}&${options.fieldSelector ?? ''}`;
    let informer = this.#informers.get(id);
    if (informer === undefined) {
      informer = new Informer(kind, this.#deps, options);
      this.#informers.set(id, informer);
      if (this.#started) informer.start();
    }
    return informer as unknown as Informer<T>;
  }

  /** One of the caller's own, started, for objects that are followed for a while: the caller stops it. */
  follow<T extends KubeObject>(kind: KindRef<T>, options: InformerOptions): Informer<T> {
    const informer = new Informer(kind, this.#deps, options);
    informer.start();
    return informer;
  }

  start(): void {
    this.#started = true;
    for (const informer of this.#informers.values()) informer.start();
  }

  /** Resolves when every informer made so far has listed once. */
  async synced(): Promise<void> {
    await Promise.all([...this.#informers.values()].map((informer) => informer.synced));
  }

  get hasSynced(): boolean {
    return [...this.#informers.values()].every((informer) => informer.hasSynced);
  }

  /** Puts the result of a write into the unfiltered copy of its kind, if there is one. */
  absorb(kind: KindRef, object: KubeObject): void {
    this.#informers.get(`${kind.group}/${kind.version}/${kind.resource}?&&`)?.absorb(object);
  }

  absorbDeletion(kind: KindRef, object: KubeObject): void {
    this.#informers.get(`${kind.group}/${kind.version}/${kind.resource}?&&`)?.absorbDeletion(object);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#informers.values()].map((informer) => informer.stop()));
  }
}

/**
 * A client whose writes show in the factory's copies before they return: reconcilers read their own writes.
 * Status answers (bindings, evictions) and dry runs carry no object and are left out.
 */
export function readYourWrites(client: Client, factory: InformerFactory): Client {
  const absorbed = <T extends KubeObject>(
    kind: KindRef,
    object: T,
    options?: { subresource?: string; dryRun?: boolean },
  ): T => {
    if (object.kind === kind.kind && options?.dryRun !== true) factory.absorb(kind, object);
    return object;
  };
  return {
    ...client,
    create: async (kind, object, options) => absorbed(kind, await client.create(kind, object, options), options),
    update: async <T extends KubeObject>(
      kind: KindRef<T>,
      object: KubeObject & Manifest<NoInfer<T>>,
      options?: UpdateOptions,
    ) => absorbed(kind, await client.update<T>(kind, object, options), options),
    patch: async (kind, object, patch, options) =>
      absorbed(kind, await client.patch(kind, object, patch, options), options),
    delete: async (kind, name, namespace, options) => {
      const object = await client.delete(kind, name, namespace, options);
      // A graceful deletion, or one that waits for finalizers, answers with the marked object; a removal with its last
      // state or a Status.
      if (object.kind !== kind.kind || options?.dryRun === true) return object;
      const waits =
        object.metadata.deletionTimestamp !== undefined &&
        ((object.metadata.finalizers?.length ?? 0) > 0 || (object.metadata.deletionGracePeriodSeconds ?? 0) > 0);
      if (waits) factory.absorb(kind, object);
      else factory.absorbDeletion(kind, object);
      return object;
    },
  };
}
