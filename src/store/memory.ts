/**
 * The memory backend: the MVCC state and nothing else. A transaction is committed as it is prepared, so that everything
 * happens in the caller's turn of the event loop. `fork` copies on write: it costs pointers, not objects.
 */
import type { Clock } from '#os/clock.ts';
import { Leases } from './leases.ts';
import { transactionOperationsMax } from './limits.ts';
import { Mvcc } from './mvcc.ts';
import type {
  Compare,
  ListOptions,
  ListResult,
  Operation,
  Store,
  StoredValue,
  StoreWatch,
  TxnResult,
  WatchRoute,
} from './store.ts';

/** A store that can give an independent copy of its present state at once. */
export interface ForkableStore extends Store {
  /** Leases of the copy run on `clock`. */ fork(clock?: Clock): ForkableStore;
}

export class MemoryStore implements ForkableStore {
  readonly isShared = false;
  #mvcc: Mvcc;
  #clock: Clock;
  #leases: Leases;

  constructor(clock: Clock, mvcc = new Mvcc(), leases?: Leases) {
    const expire = (_lease: number, keys: string[]): void => {
      void this.#deleteAll(keys);
    };
    this.#clock = clock;
    this.#mvcc = mvcc;
    this.#leases = leases === undefined ? new Leases(clock, expire) : leases.fork(clock, expire);
  }

  async #deleteAll(keys: string[]): Promise<void> {
    for (let at = 0; at < keys.length; at += transactionOperationsMax) {
      await this.txn(
        [],
        keys.slice(at, at + transactionOperationsMax).map((key) => ({ type: 'delete', key })),
      );
    }
  }

  async get(key: string, revision?: number): Promise<StoredValue | undefined> {
    return this.#mvcc.get(key, revision);
  }
  async list(prefix: string, options?: ListOptions): Promise<ListResult> {
    return this.#mvcc.list(prefix, options);
  }

  async txn(compares: Compare[], operations: Operation[]): Promise<TxnResult> {
    const prepared = this.#mvcc.prepare(compares, operations);
    if (!prepared.succeeded) return prepared.result;
    this.#mvcc.commit(prepared.prepared);
    this.#leases.follow(prepared.prepared.events);
    return { succeeded: true, revision: prepared.prepared.revision, current: [] };
  }

  watch(prefix: string, fromRevision: number, route?: WatchRoute): StoreWatch {
    return this.#mvcc.watch(prefix, fromRevision, route);
  }
  currentRevision(): number {
    return this.#mvcc.revision;
  }
  async sync(): Promise<void> {}
  unconfirmedMs(): number {
    return 0;
  }
  compactedRevision(): number {
    return this.#mvcc.compactedRevision;
  }
  historyBytes(): number {
    return this.#mvcc.historyBytes;
  }
  revisionKeeping(historyBytes: number): number {
    return this.#mvcc.revisionKeeping(historyBytes);
  }
  async compact(revision: number): Promise<void> {
    this.#mvcc.compact(revision);
  }
  async health(): Promise<string | undefined> {
    return undefined;
  }
  async grantLease(ttlSeconds: number): Promise<number> {
    return this.#leases.grant(ttlSeconds * 1000);
  }
  async keepLeaseAlive(lease: number): Promise<void> {
    this.#leases.keepAlive(lease);
  }
  async revokeLease(lease: number): Promise<void> {
    this.#leases.revoke(lease);
  }
  fork(clock: Clock = this.#clock): MemoryStore {
    return new MemoryStore(clock, this.#mvcc.fork(), this.#leases);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#leases.close();
    this.#mvcc.closeWatches();
  }
}

export function createMemoryStore(clock: Clock): MemoryStore {
  return new MemoryStore(clock);
}
