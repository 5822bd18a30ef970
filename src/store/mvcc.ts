/**
 * Multi-version state in memory, shared by the backends that keep everything in memory (memory, SQLite).
 *
 * Each key has a chain of versions, newest first; a delete is a version without a value. The log holds one entry per
 * revision, so that the entry of revision r is `log[r - logStart]`. A transaction is *prepared* (compares evaluated
 * against what earlier prepared ones will have done, revision assigned) and later *committed* (visible, delivered to
 * watchers) in the same order; a backend with a disk syncs in between. `abandon` drops everything prepared and not
 * committed. Compaction cuts chains and log.
 * Invariant: readers and watchers never see a revision that is not committed.
 */
import { ApiError } from '#base/errors.ts';
import { KeyTree } from './key-tree.ts';
import { transactionBytesMax, transactionOperationsMax } from './limits.ts';
import { MvccWatch } from './mvcc-watch.ts';
import { CompactedError, FutureRevisionError, bytesOf } from './store.ts';
import type {
  Compare,
  LateBytes,
  ListOptions,
  ListResult,
  Operation,
  StoredValue,
  StoreEvent,
  TxnResult,
  WatchRoute,
} from './store.ts';

/** A version of a key. */
export interface Version {
  key: string;
  modRevision: number;
  stored: StoredValue | undefined;
  older: Version | undefined;
}

/** Watchers of one prefix that are told apart by a value of the event. */
interface Router {
  valuesOf(event: StoreEvent): readonly string[];
  byValue: Map<string, Set<MvccWatch>>;
}

export interface Prepared {
  revision: number;
  events: StoreEvent[];
}

export type PrepareResult =
  | { succeeded: true; prepared: Prepared }
  | {
      succeeded: false;
      result: TxnResult;
      /** The failed compare saw what is not committed yet: answer after that revision is. */ after: number;
    };

export class Mvcc {
  #tree: KeyTree<Version>;
  #log: StoreEvent[][] = [];
  #logStart: number;
  #committed: number;
  #prepared: number;
  #pending = new Map<string, Version>();
  #compacted: number;
  #historyBytes = 0;
  #watchers = new Map<string, Set<MvccWatch>>();
  #routed = new Map<string, Map<string, Router>>();

  constructor(revision = 0, tree = new KeyTree<Version>()) {
    this.#tree = tree;
    this.#committed = this.#prepared = this.#compacted = revision;
    this.#logStart = revision + 1;
  }

  get revision(): number {
    return this.#committed;
  }
  get compactedRevision(): number {
    return this.#compacted;
  }
  get keyCount(): number {
    return this.#tree.size;
  }
  /** Bytes of values that were replaced or deleted and are still in the log. */
  get historyBytes(): number {
    return this.#historyBytes;
  }

  revisionKeeping(bytes: number): number {
    let sum = 0;
    for (let at = this.#committed; at > this.#compacted; at--) {
      for (const event of this.#log[at - this.#logStart]!) sum += lengthOf(event.previous);
      if (sum > bytes) return at;
    }
    return this.#compacted;
  }

  /** Independent state that starts from what is committed here. */
  fork(): Mvcc {
    return new Mvcc(this.#committed, this.#tree.clone());
  }

  #check(revision: number | undefined): number {
    if (revision === undefined) return this.#committed;
    if (revision < this.#compacted) throw new CompactedError(this.#compacted);
    if (revision > this.#committed) throw new FutureRevisionError(this.#committed);
    return revision;
  }

  get(key: string, revision?: number): StoredValue | undefined {
    const at = this.#check(revision);
    return versionAt(this.#tree.get(key), at)?.stored;
  }

  list(prefix: string, options: ListOptions = {}): ListResult {
    const at = this.#check(options.revision);
    const limit = options.limit ?? Infinity;
    const values: StoredValue[] = [];
    let remaining = 0;
    this.#tree.scan(prefix, options.after, (version) => {
      const stored = version.modRevision <= at ? version.stored : versionAt(version, at)?.stored;
      if (stored === undefined) return;
      if (values.length < limit) values.push(stored);
      else remaining++;
    });
    return { values, revision: at, more: remaining > 0, remaining };
  }

  #latest(key: string): StoredValue | undefined {
    return (this.#pending.get(key) ?? this.#tree.get(key))?.stored;
  }

  prepare(compares: Compare[], operations: Operation[]): PrepareResult {
    checkBounds(operations);
    const holds = compares.every((c) => {
      const now = this.#latest(c.key);
      return 'modRevision' in c
        ? (now?.modRevision ?? 0) === c.modRevision
        : (now?.createRevision ?? 0) === c.createRevision;
    });
    if (!holds) {
      const current = compares.flatMap((c) => this.#latest(c.key) ?? []);
      return {
        succeeded: false,
        after: this.#prepared,
        result: { succeeded: false, revision: this.#prepared, current },
      };
    }
    const revision = this.#prepared + 1;
    const events: StoreEvent[] = [];
    for (const operation of operations) {
      const previous = this.#latest(operation.key);
      if (operation.type === 'delete') {
        if (previous === undefined) continue;
        events.push({ type: 'delete', key: operation.key, revision, previous });
        this.#pending.set(operation.key, {
          key: operation.key,
          modRevision: revision,
          stored: undefined,
          older: undefined,
        });
        continue;
      }
      const created = previous?.createRevision ?? revision;
      const value: StoredValue =
        operation.value instanceof Uint8Array
          ? { key: operation.key, value: operation.value, createRevision: created, modRevision: revision }
          : new LateValue(operation.key, operation.value, created, revision);
      if (operation.lease !== undefined) value.lease = operation.lease;
      events.push(
        previous === undefined
          ? { type: 'put', key: operation.key, revision, value }
          : { type: 'put', key: operation.key, revision, value, previous },
      );
      this.#pending.set(operation.key, { key: operation.key, modRevision: revision, stored: value, older: undefined });
    }
    if (events.length === 0)
      return {
        succeeded: false,
        after: this.#prepared,
        result: { succeeded: true, revision: this.#prepared, current: [] },
      };
    this.#prepared = revision;
    return { succeeded: true, prepared: { revision, events } };
  }

  /**
   * Makes a prepared (or, at load, a recorded) transaction visible. Revisions arrive in order; a gap at load is filled
   * with nothing.
   */
  commit(prepared: Prepared): void {
    this.#apply(prepared);
    this.#notify(prepared.events);
  }

  #apply(prepared: Prepared): void {
    while (this.#committed + 1 < prepared.revision) {
      this.#log.push([]);
      this.#committed++;
    }
    for (const event of prepared.events) {
      const older = this.#tree.get(event.key);
      this.#historyBytes += lengthOf(event.previous);
      this.#tree.set(event.key, { key: event.key, modRevision: prepared.revision, stored: event.value, older });
      if (this.#pending.get(event.key)?.modRevision === prepared.revision) this.#pending.delete(event.key);
    }
    this.#log.push(prepared.events);
    this.#committed = prepared.revision;
    if (this.#prepared < this.#committed) this.#prepared = this.#committed;
  }

  abandon(): void {
    this.#pending.clear();
    this.#prepared = this.#committed;
  }

  #notify(events: StoreEvent[]): void {
    let bytes = 0;
    for (const event of events) bytes += lengthOf(event.value) + lengthOf(event.previous);
    if (events.length === 1) {
      this.#forWatchers(events[0]!, (watcher) => watcher.push(events, bytes));
      return;
    }
    const wanted = new Map<MvccWatch, StoreEvent[]>();
    for (const event of events) {
      this.#forWatchers(event, (watcher) => {
        const list = wanted.get(watcher);
        if (list === undefined) wanted.set(watcher, [event]);
        else list.push(event);
      });
    }
    for (const [watcher, list] of wanted) watcher.push(list, bytes);
  }

  #forWatchers(event: StoreEvent, visit: (watcher: MvccWatch) => void): void {
    forPrefixes(event.key, (prefix) => {
      const set = this.#watchers.get(prefix);
      if (set !== undefined) for (const watcher of set) visit(watcher);
      const routers = this.#routed.get(prefix);
      if (routers === undefined) return;
      for (const router of routers.values())
        for (const value of new Set(router.valuesOf(event)))
          for (const watcher of router.byValue.get(value) ?? []) visit(watcher);
    });
  }

  /** Committed transactions after `revision` that touch the prefix. */
  history(prefix: string, revision: number): StoreEvent[][] {
    if (revision < this.#compacted) throw new CompactedError(this.#compacted);
    const out: StoreEvent[][] = [];
    for (let at = revision + 1; at <= this.#committed; at++) {
      const events = this.#log[at - this.#logStart]!;
      if (events.length === 1) {
        if (events[0]!.key.startsWith(prefix)) out.push(events);
        continue;
      }
      const some = events.filter((e) => e.key.startsWith(prefix));
      if (some.length > 0) out.push(some);
    }
    return out;
  }

  watch(prefix: string, fromRevision: number, route?: WatchRoute): MvccWatch {
    if (fromRevision > this.#committed) throw new FutureRevisionError(this.#committed);
    const watcher = new MvccWatch(this, prefix, fromRevision, route);
    if (route !== undefined) {
      this.#addRouted(watcher, route);
      return watcher;
    }
    const set = this.#watchers.get(prefix) ?? new Set();
    this.#watchers.set(prefix, set);
    set.add(watcher);
    return watcher;
  }

  #addRouted(watcher: MvccWatch, route: WatchRoute): void {
    const routers = this.#routed.get(watcher.prefix) ?? new Map<string, Router>();
    this.#routed.set(watcher.prefix, routers);
    const router = routers.get(route.name) ?? { valuesOf: route.valuesOf, byValue: new Map<string, Set<MvccWatch>>() };
    routers.set(route.name, router);
    const set = router.byValue.get(route.value) ?? new Set();
    router.byValue.set(route.value, set);
    set.add(watcher);
  }

  #removeRouted(watcher: MvccWatch, route: WatchRoute): void {
    const routers = this.#routed.get(watcher.prefix);
    const router = routers?.get(route.name);
    const set = router?.byValue.get(route.value);
    set?.delete(watcher);
    if (set?.size === 0) router!.byValue.delete(route.value);
    if (router?.byValue.size === 0) routers!.delete(route.name);
    if (routers?.size === 0) this.#routed.delete(watcher.prefix);
  }

  unwatch(watcher: MvccWatch): void {
    if (watcher.route !== undefined) {
      this.#removeRouted(watcher, watcher.route);
      return;
    }
    const set = this.#watchers.get(watcher.prefix);
    set?.delete(watcher);
    if (set?.size === 0) this.#watchers.delete(watcher.prefix);
  }

  closeWatches(): void {
    this.#forAllWatchers((watcher) => watcher.close());
  }

  #forAllWatchers(visit: (watcher: MvccWatch) => void): void {
    for (const set of [...this.#watchers.values()]) for (const watcher of [...set]) visit(watcher);
    for (const routers of [...this.#routed.values()])
      for (const router of [...routers.values()])
        for (const set of [...router.byValue.values()]) for (const watcher of [...set]) visit(watcher);
  }

  /** Forgets history up to the revision; answers the versions that nobody can read any more. */
  compact(revision: number): { key: string; modRevision: number }[] {
    const upTo = Math.min(revision, this.#committed);
    const dropped: { key: string; modRevision: number }[] = [];
    if (upTo <= this.#compacted) return dropped;
    const drop = upTo - this.#logStart + 1;
    for (const events of this.#log.splice(0, Math.max(0, drop))) {
      for (const event of events) {
        this.#historyBytes -= lengthOf(event.previous);
        this.#cut(event.key, upTo);
        if (event.previous !== undefined) dropped.push({ key: event.key, modRevision: event.previous.modRevision });
        if (event.type === 'delete') dropped.push({ key: event.key, modRevision: event.revision });
      }
    }
    this.#logStart = upTo + 1;
    this.#compacted = upTo;
    return dropped;
  }

  /** At load: what a key held when history was last compacted. */
  restore(stored: StoredValue): void {
    this.#tree.set(stored.key, { key: stored.key, modRevision: stored.modRevision, stored, older: undefined });
  }

  /** At load: what an event follows on. */
  latest(key: string): StoredValue | undefined {
    return this.#latest(key);
  }

  /**
   * The state of a later revision, where nobody knows what lies between: who follows is told that it was compacted.
   */
  replace(values: readonly StoredValue[], revision: number): void {
    const gone = new Map(this.list('').values.map((stored) => [stored.key, stored]));
    const events: StoreEvent[] = [];
    for (const value of values) {
      const previous = gone.get(value.key);
      gone.delete(value.key);
      if (previous?.modRevision === value.modRevision) continue;
      const { key } = value;
      events.push({ type: 'put', key, revision, value, ...(previous === undefined ? {} : { previous }) });
    }
    for (const [key, previous] of gone) events.push({ type: 'delete', key, revision, previous });
    this.#apply({ revision, events });
    this.compact(revision);
    this.#forAllWatchers((watcher) => watcher.fallBehind());
  }

  #cut(key: string, revision: number): void {
    const newest = this.#tree.get(key);
    const kept = versionAt(newest, revision);
    if (kept === undefined) return;
    kept.older = undefined;
    if (kept === newest && kept.stored === undefined) this.#tree.delete(key);
  }
}

/** A value's bytes, or no fewer than they will be where they were not made yet. */
function lengthOf(stored: StoredValue | undefined): number {
  return stored === undefined ? 0 : (stored.late?.lengthMax ?? stored.value.length);
}

function versionAt(version: Version | undefined, revision: number): Version | undefined {
  let at = version;
  while (at !== undefined && at.modRevision > revision) at = at.older;
  return at;
}

/** Every prefix under which a watcher may have subscribed: each directory of the key, and the key. */
function forPrefixes(key: string, visit: (prefix: string) => void): void {
  for (let at = key.indexOf('/'); at >= 0; at = key.indexOf('/', at + 1)) visit(key.slice(0, at + 1));
  if (!key.endsWith('/')) visit(key);
}

/** Throws for what etcd would refuse. */
export function checkBounds(operations: readonly Operation[]): void {
  if (operations.length > transactionOperationsMax)
    throw new ApiError('BadRequest', 'etcdserver: too many operations in txn request');
  const sum = (length: (value: Uint8Array | LateBytes) => number): number =>
    operations.reduce((total, o) => (o.type === 'put' ? total + length(o.value) : total), 0);
  if (
    sum((v) => (v instanceof Uint8Array ? v.length : v.lengthMax)) > transactionBytesMax &&
    sum((v) => bytesOf(v).length) > transactionBytesMax
  )
    throw new ApiError('InternalError', 'etcdserver: request is too large');
}

class LateValue implements StoredValue {
  readonly key: string;
  readonly late: LateBytes;
  readonly createRevision: number;
  readonly modRevision: number;
  lease?: number;

  constructor(key: string, late: LateBytes, createRevision: number, modRevision: number) {
    this.key = key;
    this.late = late;
    this.createRevision = createRevision;
    this.modRevision = modRevision;
  }

  get value(): Uint8Array {
    return this.late.bytes();
  }
}
