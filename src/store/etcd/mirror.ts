/**
 * What an etcd holds, in memory: reads, lists and watches are answered from here, at the speed of the other backends.
 *
 * It follows etcd by one watch of *all* keys, also those of others, so that each revision of etcd comes as an event and
 * the mirror knows by itself that it has reached one. A watch of the store's keys alone would need etcd's progress
 * notifications for that; in etcd before 3.4.25 and 3.5.8 these may overtake the events that they speak of.
 *
 * A transaction of this process is taken over from its answer, where the mirror has reached the revision before it; the
 * watch's event of the same revision then changes nothing. Invariant: revisions are committed one by one, none twice.
 *
 * What comes in one turn of the event loop is taken up together at its end: etcd writes transactions in groups, and
 * answers them so; who follows a burst wakes once for each group.
 */
import { bytesIn, messageIn, numberIn, type Message } from '#grpc/fields.ts';
import { giveWay } from '#os/turn.ts';
import type { Mvcc } from '../mvcc.ts';
import type { Operation, StoredValue, StoreEvent } from '../store.ts';
import type { Place } from './requests.ts';

const deleted = 1;

interface Waiter {
  revision: number;
  resolve(): void;
  reject(error: Error): void;
}

export class Mirror {
  readonly mvcc: Mvcc;
  readonly #place: Place;
  /** Told of a key that is not the store's. */
  readonly #other: (pair: Message, type: StoreEvent['type']) => void;
  /** Transactions of this process whose revision the mirror has not reached. */
  #own = new Map<number, readonly Operation[]>();
  #waiters: Waiter[] = [];
  /** Events of this turn. */
  readonly #delivered: Message[] = [];
  #turn: Promise<void> | undefined;

  constructor(mvcc: Mvcc, place: Place, other: (pair: Message, type: StoreEvent['type']) => void) {
    this.mvcc = mvcc;
    this.#place = place;
    this.#other = other;
  }

  /** Takes up what a watch of etcd delivered, at the end of this turn: whole revisions, in order. */
  apply(events: readonly Message[]): void {
    for (const event of events) this.#delivered.push(event);
    this.#takeUpLater();
  }

  #takeUpLater(): void {
    this.#turn ??= giveWay().then(() => {
      this.#turn = undefined;
      this.#takeUp();
    });
  }

  #takeUp(): void {
    let revision = 0;
    let together: Message[] = [];
    for (const event of this.#delivered.splice(0)) {
      const at = numberIn(messageIn(event, 'kv'), 'mod_revision');
      if (at !== revision) {
        this.#applyRevision(revision + this.#place.base, together);
        together = [];
      }
      revision = at;
      together.push(event);
    }
    this.#applyRevision(revision + this.#place.base, together);
    this.#commitOwn();
    this.#wake();
  }

  #applyRevision(revision: number, events: readonly Message[]): void {
    const known = revision <= this.mvcc.revision;
    const out: StoreEvent[] = [];
    for (const event of events) {
      const pair = messageIn(event, 'kv');
      const type = numberIn(event, 'type') === deleted ? 'delete' : 'put';
      const key = this.#place.ownKey(bytesIn(pair, 'key'));
      if (key === undefined) this.#other(pair, type);
      else if (!known) out.push(...this.#eventOf(key, revision, type === 'put' ? pair : undefined));
    }
    if (known || events.length === 0) return;
    this.#own.delete(revision);
    this.mvcc.commit({ revision, events: out });
  }

  #eventOf(key: string, revision: number, pair: Message | undefined): StoreEvent[] {
    const previous = this.mvcc.latest(key);
    if (pair === undefined) return previous === undefined ? [] : [{ type: 'delete', key, revision, previous }];
    const value = this.#place.valueOf(key, pair);
    return [{ type: 'put', key, revision, value, ...(previous === undefined ? {} : { previous }) }];
  }

  /** Takes over what a transaction of this process changed; resolves when the mirror has it. */
  own(revision: number, operations: readonly Operation[]): Promise<void> {
    if (revision > this.mvcc.revision) {
      this.#own.set(revision, operations);
      this.#takeUpLater();
    }
    return this.reached(revision);
  }

  #commitOwn(): void {
    for (;;) {
      const revision = this.mvcc.revision + 1;
      const operations = this.#own.get(revision);
      if (operations === undefined) return;
      this.#own.delete(revision);
      const prepared = this.mvcc.prepare([], [...operations]);
      this.mvcc.commit(prepared.succeeded ? prepared.prepared : { revision, events: [] });
    }
  }

  /** Resolves when the mirror has the revision; rejects when that is given up. */
  reached(revision: number): Promise<void> {
    if (revision <= this.mvcc.revision) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ revision, resolve, reject }));
  }

  #wake(): void {
    if (this.#waiters.length === 0) return;
    const { revision } = this.mvcc;
    const still: Waiter[] = [];
    for (const waiter of this.#waiters)
      if (waiter.revision <= revision) waiter.resolve();
      else still.push(waiter);
    this.#waiters = still;
  }

  /** Begins anew with the state of a revision, where what lies between is forgotten. */
  replace(values: readonly StoredValue[], revision: number): void {
    this.#takeUp();
    if (revision < this.mvcc.revision) return;
    for (const known of this.#own.keys()) if (known <= revision) this.#own.delete(known);
    this.mvcc.replace(values, revision);
    this.#wake();
  }

  giveUp(error: Error): void {
    for (const waiter of this.#waiters.splice(0)) waiter.reject(error);
  }
}
