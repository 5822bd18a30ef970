/**
 * MVCC in memory over a log that somebody writes: a worker with an SQLite file (`sqlite.ts`), or the simulator's disk.
 * A transaction is prepared in memory, sent to the writer with whatever else is waiting (group commit) and becomes
 * visible and acknowledged when the writer has synced it. One message is under way at a time; the next batch gathers
 * meanwhile.
 *
 * When a write fails (disk full), everything prepared is abandoned and refused with ServiceUnavailable; what was
 * acknowledged stays. Reads go on. Writes are tried again with the next request.
 */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { whenSettled } from '#base/promises.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import { Leases } from './leases.ts';
import {
  groupCommitTransactionsMax,
  healthFreshMs,
  healthProbeIntervalMs,
  healthProbeMsMax,
  transactionOperationsMax,
  vacuumIdleMs,
  vacuumPagesPerStep,
} from './limits.ts';
import type { FromWriter, LoadedRow, ToWriter } from './log-messages.ts';
import { MemoryStore } from './memory.ts';
import type { ForkableStore } from './memory.ts';
import { Mvcc } from './mvcc.ts';
import type { Prepared } from './mvcc.ts';
import type { StoreState } from './state.ts';
import { bytesOf } from './store.ts';
import type {
  Compare,
  ListOptions,
  ListResult,
  Operation,
  StoredValue,
  StoreEvent,
  StoreWatch,
  TxnResult,
  WatchRoute,
} from './store.ts';

/** Whoever keeps the log. */
export interface LogWriter {
  /** Takes one message; `answered` once it is on disk, or could not be written. The next one comes after that. */
  send(message: ToWriter, answered: (answer: FromWriter) => void): void;
  /** Nothing more will come. */
  close(): Promise<void>;
}

/** What a writer found when it began. */
export interface LoadedLog {
  rows: readonly LoadedRow[];
  compacted: number;
  revision: number;
  leases: readonly { id: number; ttlMs: number; expiresAt: number }[];
}

export interface LogStoreOptions {
  clock: Clock;
  log: Logger;
  /** The writer keeps a file that can give room back while nobody writes. */
  vacuums?: boolean;
}

interface Waiting {
  prepared: Prepared;
  resolve(result: TxnResult): void;
  reject(error: unknown): void;
}
/** Work for the writer that is no transaction; keeps its place among them. */
interface Task {
  message: ToWriter;
  resolve(): void;
  reject(error: unknown): void;
}

// walk kubectl-apply 5/8: the transaction is synced by the writer before it is acknowledged.
export class LogStore implements ForkableStore {
  readonly isShared = false;
  #mvcc: Mvcc;
  #writer: LogWriter;
  #clock: Clock;
  #log: Logger;
  #leases: Leases;
  #waiting: Waiting[] = [];
  #tasks: Task[] = [];
  /** Answers for transactions whose compare failed on what is not synced yet. */
  #after: { revision: number; resolve(): void; reject(error: unknown): void }[] = [];
  #busy = false;
  #closed = false;
  #vacuumTimer: Timer | undefined;
  readonly #vacuums: boolean;
  /** Nothing was compacted since there was nothing left to give back. */
  #freed = false;
  /** Why the last write failed; undefined when it did not. */
  #problem: string | undefined;
  #syncedAtMs: number;
  #probe: { atMs: number; done: Promise<string | undefined> } | undefined;

  constructor(writer: LogWriter, { rows, compacted, revision, leases }: LoadedLog, options: LogStoreOptions) {
    this.#writer = writer;
    this.#mvcc = rebuild(rows, compacted, revision);
    this.#clock = options.clock;
    this.#log = options.log;
    this.#vacuums = options.vacuums === true;
    this.#syncedAtMs = -Infinity;
    this.#leases = new Leases(options.clock, (lease, keys) => {
      void this.#expire(lease, keys);
    });
    for (const lease of leases) this.#leases.grant(lease.ttlMs, lease.id, lease.expiresAt);
    this.#vacuumWhenIdle();
    if (leases.length > 0)
      for (const value of this.#mvcc.list('').values)
        if (value.lease !== undefined) this.#leases.attach(value.lease, value.key);
  }

  async #expire(lease: number, keys: string[]): Promise<void> {
    try {
      for (let at = 0; at < keys.length; at += transactionOperationsMax)
        await this.txn(
          [],
          keys.slice(at, at + transactionOperationsMax).map((key) => ({ type: 'delete', key })),
        );
      await this.#run({ type: 'unlease', id: lease });
    } catch (error) {
      if (!this.#closed) this.#log.warn('lease was not cleaned up', { lease, error });
    }
  }

  async get(key: string, revision?: number): Promise<StoredValue | undefined> {
    return this.#mvcc.get(key, revision);
  }
  async list(prefix: string, options?: ListOptions): Promise<ListResult> {
    return this.#mvcc.list(prefix, options);
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
  fork(clock: Clock = this.#clock): MemoryStore {
    return new MemoryStore(clock, this.#mvcc.fork(), this.#leases);
  }

  async txn(compares: Compare[], operations: Operation[]): Promise<TxnResult> {
    if (this.#closed) throw new ApiError('ServiceUnavailable', 'the store is closed');
    const result = this.#mvcc.prepare(
      compares,
      operations.map((o) => (o.type === 'put' ? { ...o, value: bytesOf(o.value) } : o)),
    );
    if (!result.succeeded) {
      if (result.after > this.#mvcc.revision)
        await new Promise<void>((resolve, reject) => this.#after.push({ revision: result.after, resolve, reject }));
      return result.result;
    }
    return new Promise<TxnResult>((resolve, reject) => {
      this.#waiting.push({ prepared: result.prepared, resolve, reject });
      this.#pump();
    });
  }

  #run(message: ToWriter): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#tasks.push({ message, resolve, reject });
      this.#pump();
    });
  }

  /** Sends the next batch when the writer is idle. */
  #pump(): void {
    if (this.#busy) return;
    const task = this.#tasks.shift();
    if (task !== undefined) {
      this.#send(task.message, (answer) => {
        if (answer.type === 'failed')
          task.reject(new ApiError('ServiceUnavailable', `the store could not write: ${answer.message}`));
        else task.resolve();
        this.#pump();
      });
      return;
    }
    if (this.#waiting.length === 0) return;
    const batch = this.#waiting.splice(0, groupCommitTransactionsMax);
    const transactions = batch.map(({ prepared }) => ({
      revision: prepared.revision,
      rows: prepared.events.map(rowOf),
    }));
    this.#send({ type: 'commit', transactions }, (answer) => {
      if (answer.type === 'synced') this.#synced(batch);
      else this.#failed(batch, answer.type === 'failed' ? answer.message : answer.type);
    });
  }

  #send(message: ToWriter, answered: (answer: FromWriter) => void): void {
    this.#busy = true;
    this.#vacuumTimer?.cancel();
    this.#writer.send(message, (answer) => {
      this.#busy = false;
      if (answer.type === 'failed') this.#problem = answer.message;
      else if (answer.type === 'synced') {
        this.#problem = undefined;
        this.#syncedAtMs = this.#clock.monotonic();
      }
      answered(answer);
      this.#vacuumWhenIdle();
    });
  }

  /** What compaction left free goes back to the file system a little at a time, and only while nobody writes. */
  #vacuumWhenIdle(delayMs = vacuumIdleMs): void {
    if (!this.#vacuums || this.#busy || this.#closed || this.#freed) return;
    this.#vacuumTimer = this.#clock.setTimer(
      delayMs,
      () => {
        if (this.#busy || this.#closed || this.#waiting.length > 0) return;
        this.#send({ type: 'vacuum', pages: vacuumPagesPerStep }, (answer) => {
          this.#freed = answer.type !== 'vacuumed' || answer.left === 0;
          this.#pump();
        });
      },
      { background: true },
    );
  }

  async health(): Promise<string | undefined> {
    if (this.#closed) return 'the store is closed';
    const nowMs = this.#clock.monotonic();
    if (this.#problem === undefined && nowMs - this.#syncedAtMs < healthFreshMs) return undefined;
    if (this.#probe === undefined || nowMs - this.#probe.atMs >= healthProbeIntervalMs)
      this.#probe = { atMs: nowMs, done: this.#probeWrite() };
    return this.#probe.done;
  }

  async #probeWrite(): Promise<string | undefined> {
    const late = Promise.withResolvers<string>();
    const timer = this.#clock.setTimer(healthProbeMsMax, () => late.resolve('the disk does not answer'), {
      background: true,
    });
    const written = this.#run({ type: 'probe' }).then(() => undefined, messageOf);
    try {
      return await Promise.race([written, late.promise]);
    } finally {
      timer.cancel();
    }
  }

  #synced(batch: readonly Waiting[]): void {
    for (const { prepared, resolve } of batch) {
      this.#mvcc.commit(prepared);
      this.#leases.follow(prepared.events);
      resolve({ succeeded: true, revision: prepared.revision, current: [] });
    }
    const revision = this.#mvcc.revision;
    while (this.#after[0] !== undefined && this.#after[0].revision <= revision) this.#after.shift()!.resolve();
    this.#pump();
  }

  #failed(batch: readonly Waiting[], message: string): void {
    this.#log.error('the store could not write', { error: message });
    this.#mvcc.abandon();
    const error = new ApiError('ServiceUnavailable', `the store could not write: ${message}`, { retryAfterSeconds: 1 });
    const waiting = this.#waiting.splice(0);
    for (const { reject } of [...batch, ...waiting]) reject(error);
    for (const { reject } of this.#after.splice(0)) reject(error);
    this.#pump();
  }

  /** All that it holds now. */
  state(): StoreState {
    const { values, revision } = this.#mvcc.list('');
    const nowMs = this.#clock.now();
    const leases = new Map<number, number>();
    for (const { lease } of values) {
      const found = lease === undefined ? undefined : this.#leases.describe(lease);
      if (lease !== undefined && found !== undefined) leases.set(lease, Math.max(1, found.expiresAt - nowMs));
    }
    return { values, revision, leases };
  }

  /** Writes a state to a file that holds nothing. It is there when the file is opened again. */
  async restore({ values, revision, leases }: StoreState): Promise<void> {
    const rows = values.map((stored) => ({
      revision: stored.modRevision,
      key: stored.key,
      value: stored.value,
      createRevision: stored.createRevision,
      lease: stored.lease ?? 0,
    }));
    for (const [id, ttlMs] of leases)
      await this.#run({ type: 'lease', id, ttlMs, expiresAt: this.#clock.now() + ttlMs });
    await this.#run({ type: 'restore', revision, rows });
  }

  async compact(revision: number): Promise<void> {
    const upTo = Math.min(revision, this.#mvcc.revision);
    if (upTo <= this.#mvcc.compactedRevision) return;
    this.#freed = false;
    await this.#run({ type: 'compact', revision: upTo, dropped: this.#mvcc.compact(upTo) });
  }

  async grantLease(ttlSeconds: number): Promise<number> {
    const ttlMs = ttlSeconds * 1000;
    const id = this.#leases.grant(ttlMs);
    await this.#run({ type: 'lease', id, ttlMs, expiresAt: this.#clock.now() + ttlMs });
    return id;
  }

  async keepLeaseAlive(lease: number): Promise<void> {
    this.#leases.keepAlive(lease);
    const { ttlMs, expiresAt } = this.#leases.describe(lease)!;
    await this.#run({ type: 'lease', id: lease, ttlMs, expiresAt });
  }

  async revokeLease(lease: number): Promise<void> {
    this.#leases.revoke(lease);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    while (this.#waiting.length > 0 || this.#tasks.length > 0 || this.#busy)
      // Each writer hears of its own error; here only the order counts.
      await whenSettled(this.#run({ type: 'unlease', id: -1 }));
    this.#closed = true;
    this.#vacuumTimer?.cancel();
    this.#leases.close();
    this.#mvcc.closeWatches();
    await this.#writer.close();
  }
}

function rowOf(event: StoreEvent): {
  key: string;
  value: Uint8Array | undefined;
  createRevision: number;
  lease: number;
} {
  return {
    key: event.key,
    value: event.value?.value,
    createRevision: event.value?.createRevision ?? event.previous?.createRevision ?? event.revision,
    lease: event.value?.lease ?? 0,
  };
}

/** Rebuilds the MVCC state from the log's rows. */
function rebuild(rows: readonly LoadedRow[], compacted: number, revision: number): Mvcc {
  const mvcc = new Mvcc(compacted);
  let events: StoreEvent[] = [];
  const flush = (): void => {
    if (events.length > 0) mvcc.commit({ revision: events[0]!.revision, events });
    events = [];
  };
  for (const row of rows) {
    const value: StoredValue | undefined =
      row.value === null
        ? undefined
        : {
            key: row.key,
            value: row.value,
            createRevision: row.createRevision,
            modRevision: row.revision,
            ...(row.lease === 0 ? {} : { lease: row.lease }),
          };
    if (row.revision <= compacted) {
      if (value !== undefined) mvcc.restore(value);
      continue;
    }
    if (events.length > 0 && events[0]!.revision !== row.revision) flush();
    const previous = mvcc.latest(row.key);
    events.push({
      type: value === undefined ? 'delete' : 'put',
      key: row.key,
      revision: row.revision,
      ...(value === undefined ? {} : { value }),
      ...(previous === undefined ? {} : { previous }),
    });
  }
  flush();
  if (mvcc.revision < revision) mvcc.commit({ revision, events: [] });
  return mvcc;
}
