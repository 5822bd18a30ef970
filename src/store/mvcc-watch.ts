/**
 * A watch of multi-version state in memory: a bounded queue of what was committed since it last took something, and
 * history where the queue was too small.
 */
import { watchQueueBytesMax, watchQueueTransactionsMax } from './limits.ts';
import type { StoreEvent, StoreWatch, WatchRoute } from './store.ts';

/** What a watch reads where it has fallen behind. */
export interface WatchedHistory {
  /** Committed transactions after the revision that touch the prefix. Throws `CompactedError`. */
  history(prefix: string, revision: number): StoreEvent[][];
  unwatch(watch: MvccWatch): void;
}

/** A cursor over the log: queued transactions while it keeps up, history again when it has fallen behind. */
export class MvccWatch implements StoreWatch {
  readonly prefix: string;
  readonly route: WatchRoute | undefined;
  #mvcc: WatchedHistory;
  #seen: number;
  #queue: StoreEvent[][] = [];
  #queueBytes = 0;
  #behind = true;
  #closed = false;
  #waiting: PromiseWithResolvers<void> | undefined;

  constructor(mvcc: WatchedHistory, prefix: string, fromRevision: number, route?: WatchRoute) {
    this.#mvcc = mvcc;
    this.route = route;
    this.prefix = prefix;
    this.#seen = fromRevision;
  }

  /** `bytes`: what the events keep from being forgotten. */
  push(events: StoreEvent[], bytes: number): void {
    if (!this.#behind) {
      this.#queueBytes += bytes;
      if (this.#queue.length < watchQueueTransactionsMax && this.#queueBytes <= watchQueueBytesMax)
        this.#queue.push(events);
      else this.fallBehind();
    }
    this.#wake();
  }

  /** What it has not taken is to be read from history. */
  fallBehind(): void {
    this.#behind = true;
    this.#queue = [];
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.resolve();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#mvcc.unwatch(this);
    this.#wake();
  }

  async delivered(): Promise<boolean> {
    if (!this.#closed && !this.#behind && this.#queue.length === 0)
      await (this.#waiting ??= Promise.withResolvers<void>()).promise;
    return !this.#closed;
  }

  take(): StoreEvent[] | undefined {
    if (this.#behind) {
      this.#queue = this.#mvcc.history(this.prefix, this.#seen);
      this.#queueBytes = 0;
      this.#behind = false;
    }
    const queue = this.#queue;
    if (queue.length === 0) return undefined;
    this.#queue = [];
    this.#queueBytes = 0;
    this.#seen = queue[queue.length - 1]![0]!.revision;
    return queue.length === 1 ? queue[0]! : queue.flat();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<StoreEvent[]> {
    try {
      while (!this.#closed) {
        const batch = this.take();
        if (batch !== undefined) {
          yield batch;
          continue;
        }
        await this.delivered();
      }
    } finally {
      this.close();
    }
  }
}
