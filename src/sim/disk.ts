/**
 * The simulated disk under a cluster's store: what is written is safe after a while, and what was not safe is gone when
 * the power is. The store above it is the real one (`store/log-store.ts`), with its group commit and its recovery; only
 * the file is imagined.
 */
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { FromWriter, LoadedRow, ToWriter } from '#store/log-messages.ts';
import { type LoadedLog, LogStore, type LogWriter } from '#store/log-store.ts';
import { diskSyncMsMax } from './limits.ts';

interface Contents {
  rows: Map<number, LoadedRow[]>;
  compacted: number;
  revision: number;
  leases: Map<number, { id: number; ttlMs: number; expiresAt: number }>;
}

/** Does to what is on the disk what a message says. */
function write(contents: Contents, message: ToWriter): void {
  switch (message.type) {
    case 'commit':
      for (const { revision, rows } of message.transactions)
        contents.rows.set(
          revision,
          rows.map(({ key, value, createRevision, lease }) => ({
            revision,
            key,
            value: value ?? null,
            createRevision,
            lease,
          })),
        );
      return;
    case 'compact':
      for (const { key, modRevision } of message.dropped) {
        const kept = contents.rows.get(modRevision)?.filter((row) => row.key !== key) ?? [];
        if (kept.length > 0) contents.rows.set(modRevision, kept);
        else contents.rows.delete(modRevision);
      }
      contents.compacted = contents.revision = message.revision;
      return;
    case 'lease':
      contents.leases.set(message.id, { id: message.id, ttlMs: message.ttlMs, expiresAt: message.expiresAt });
      return;
    case 'unlease':
      contents.leases.delete(message.id);
      return;
    case 'restore':
      for (const row of message.rows)
        contents.rows.set(row.revision, [...(contents.rows.get(row.revision) ?? []), row]);
      contents.compacted = contents.revision = message.revision;
      return;
    case 'probe':
    case 'vacuum':
    case 'close':
      return;
  }
}

export class SimDisk {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #contents: Contents;
  #underWay: { message: ToWriter; answered: (answer: FromWriter) => void; timer: Timer } | undefined;
  /** What a lying disk has said to be safe and is not. */
  #unsafe: ToWriter[] = [];
  /** Each start of the store has a writer of its own; that of a dead one is heard no more. */
  #life = {};
  /** Nothing can be written. */
  isFull = false;
  /** A fault of its own: it says "synced" first and writes later. */
  lies = false;
  /** Writes are safe at once: for the end of a run, when no time passes any more. */
  isInstant = false;

  constructor(
    clock: Clock,
    random: Random,
    contents: Contents = { rows: new Map(), compacted: 0, revision: 0, leases: new Map() },
  ) {
    this.#clock = clock;
    this.#random = random;
    this.#contents = contents;
  }

  /** A disk of its own with what is safe on this one. */
  fork(clock: Clock, random: Random): SimDisk {
    const { rows, leases, compacted, revision } = this.#contents;
    return new SimDisk(clock, random, { rows: new Map(rows), leases: new Map(leases), compacted, revision });
  }

  /** The store as it comes up from what is here. */
  open(log: Logger): LogStore {
    const life = (this.#life = {});
    const writer: LogWriter = {
      send: (message, answered) => {
        if (life === this.#life) this.#take(message, answered);
      },
      close: async () => undefined,
    };
    return new LogStore(writer, this.#load(), { clock: this.#clock, log });
  }

  #load(): LoadedLog {
    const { rows, compacted, revision, leases } = this.#contents;
    const all = [...rows.values()].flat();
    return {
      rows: all,
      compacted,
      revision: Math.max(revision, all.at(-1)?.revision ?? 0),
      leases: [...leases.values()],
    };
  }

  #take(message: ToWriter, answered: (answer: FromWriter) => void): void {
    if (this.isInstant) {
      this.#finish(message, answered);
      return;
    }
    const timer = this.#clock.setTimer(this.#random.float() * diskSyncMsMax, () => {
      this.#underWay = undefined;
      this.#finish(message, answered);
    });
    this.#underWay = { message, answered, timer };
  }

  #finish(message: ToWriter, answered: (answer: FromWriter) => void): void {
    if (this.isFull && message.type !== 'close') {
      answered({ type: 'failed', message: 'database or disk is full' });
      return;
    }
    if (this.lies) this.#unsafe.push(message);
    else write(this.#contents, message);
    answered({ type: 'synced' });
  }

  /** The store's process is gone: nobody hears of what was under way, which may have been written or not. */
  cut(): void {
    this.#life = {};
    this.#unsafe = [];
    const lost = this.#underWay;
    this.#underWay = undefined;
    if (lost === undefined) return;
    lost.timer.cancel();
    if (!this.isFull && this.#random.float() < 0.5) write(this.#contents, lost.message);
  }

  /** No more time will pass: what is under way ends now. */
  finish(): void {
    this.isInstant = true;
    const last = this.#underWay;
    this.#underWay = undefined;
    if (last === undefined) return;
    last.timer.cancel();
    this.#finish(last.message, last.answered);
  }
}
