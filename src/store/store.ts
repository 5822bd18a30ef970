/**
 * The one store interface: etcd-shaped multi-version concurrency control (etcd v3 API, "KV" and "Watch").
 *
 * Words. A *revision* is a number that grows by one with each transaction that changes something; it is the cluster's
 * resourceVersion. A *key* maps to bytes; its *modRevision* is the revision that last wrote it, its *createRevision*
 * the one that made it. *Compaction* forgets versions older than a revision; reading below it throws `CompactedError`.
 *
 * Several servers may share a backend. Reads and watches are answered from what this process has seen of it, which is
 * all that it wrote itself, and after `sync()` all that anybody did.
 *
 * Durability: when `txn` resolves, the change is on disk (backends that have one). Order: watches deliver whole
 * transactions in revision order, and nothing twice. Bounds: `limits.ts`. Every backend passes `store.suite.ts`.
 */
export interface StoredValue {
  key: string;
  value: Uint8Array;
  createRevision: number;
  modRevision: number;
  lease?: number;
  /** Where the bytes come from, while nobody needed them. */ late?: LateBytes;
}

/**
 * Bytes that are made when somebody asks. A backend without a disk does not, so that a writer who keeps the object it
 * wrote as its own reading copy need not encode it.
 */
export interface LateBytes {
  /** No fewer than the bytes are. */ readonly lengthMax: number;
  bytes(): Uint8Array;
}

/** The bytes, made now if they were not yet. */
export function bytesOf(value: Uint8Array | LateBytes): Uint8Array {
  return value instanceof Uint8Array ? value : value.bytes();
}

export interface StoreEvent {
  type: 'put' | 'delete';
  key: string;
  revision: number;
  /** The new value; absent for a delete. */
  value?: StoredValue;
  /** The value before this event; absent for a create. */
  previous?: StoredValue;
}

export type Compare =
  | { key: string; modRevision: number } // 0: the key does not exist
  | { key: string; createRevision: number };

export type Operation =
  | { type: 'put'; key: string; value: Uint8Array | LateBytes; lease?: number }
  | { type: 'delete'; key: string };

export interface TxnResult {
  succeeded: boolean;
  /** The revision of this change, or the current one where nothing changed. */
  revision: number;
  /** When a compare failed: what those keys hold now (absent keys left out). */
  current: StoredValue[];
}

export interface ListOptions {
  /** Read at this revision; now when absent. */
  revision?: number;
  /** At most this many values. */
  limit?: number;
  /** Start after this key (exclusive). */
  after?: string;
}

export interface ListResult {
  values: StoredValue[];
  revision: number;
  more: boolean;
  /** Keys in the prefix beyond this page. */ remaining: number;
}

export interface StoreWatch extends AsyncIterable<StoreEvent[]> {
  /**
   * What was delivered and not yet taken, as one batch; undefined where there is nothing. Whoever takes sees every
   * write that this process was told to be done, and after `sync()` those of all others. Throws `CompactedError` where
   * history that it has not seen is forgotten.
   */
  take(): StoreEvent[] | undefined;
  /** Resolves when there may be something to take: true; or when the watch is closed, by whomever: false. */
  delivered(): Promise<boolean>;
  /** Batches are whole transactions in revision order. Ends by throwing `CompactedError` or on `close`. */
  close(): void;
}

/**
 * A hint that a watcher wants only events for which `valuesOf` holds `value`: with a thousand watchers, one per node,
 * an event then wakes one and not all. A backend may deliver others as well; `name` says which routes share `valuesOf`.
 */
export interface WatchRoute {
  name: string;
  value: string;
  valuesOf(event: StoreEvent): readonly string[];
}

export interface Store extends AsyncDisposable {
  get(key: string, revision?: number): Promise<StoredValue | undefined>;
  list(prefix: string, options?: ListOptions): Promise<ListResult>;
  txn(compares: Compare[], operations: Operation[]): Promise<TxnResult>;
  /**
   * Events after `fromRevision` (exclusive) of keys that begin with the prefix: a directory (`/registry/pods/`) or one
   * whole key. When nothing is queued, the watch has delivered everything up to `currentRevision()`.
   */
  watch(prefix: string, fromRevision: number, route?: WatchRoute): StoreWatch;
  currentRevision(): number;
  /** Other processes may write to the same state. */
  readonly isShared: boolean;
  /**
   * When it resolves, reads, watches and `currentRevision()` know every write that was acknowledged before the call, by
   * whichever server on this state; a store that is not shared knows them always. Rejects with Timeout or
   * ServiceUnavailable where the store does not answer.
   */
  sync(): Promise<void>;
  /** For how long it has not been certain that nothing was written elsewhere that this process has not seen. */
  unconfirmedMs(): number;
  compactedRevision(): number;
  compact(revision: number): Promise<void>;
  /** Bytes of values that only history still holds. */
  historyBytes(): number;
  /** The oldest revision to keep so that history holds no more than so many bytes. */
  revisionKeeping(historyBytes: number): number;
  /** Why no write would succeed now; undefined when one has, a moment ago. */
  health(): Promise<string | undefined>;
  grantLease(ttlSeconds: number): Promise<number>;
  keepLeaseAlive(lease: number): Promise<void>;
  revokeLease(lease: number): Promise<void>;
}

export class CompactedError extends Error {
  readonly compactedRevision: number;
  constructor(compactedRevision: number) {
    super(`required revision has been compacted; the oldest kept is ${compactedRevision + 1}`);
    this.compactedRevision = compactedRevision;
  }
}
export class FutureRevisionError extends Error {
  readonly currentRevision: number;
  constructor(currentRevision: number) {
    super(`required revision is newer than the current one, ${currentRevision}`);
    this.currentRevision = currentRevision;
  }
}
