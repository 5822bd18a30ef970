/**
 * The etcd backend: several API servers share one etcd, each with a mirror of it in memory (`mirror.ts`). What a server
 * wrote itself is in its mirror when `txn` resolves. What others wrote is there after `sync()`, which asks etcd for its
 * revision by a linearizable read of no key - the cheapest that a majority answers - and waits for the mirror to reach
 * it. Calls that come together share one such read.
 *
 * The mirror follows etcd from where it stands; a connection that is lost and found again misses nothing and repeats
 * nothing. Where etcd has forgotten what lies between, the mirror begins anew and watches end with `CompactedError`.
 *
 * What lies in etcd: `PREFIX/…` the keys of the store, `PREFIX.meta` a JSON object {format, epoch, base},
 * `PREFIX.compacted` the revision of etcd up to which servers agreed to forget history. Revisions of the store are
 * etcd's plus `base`. A newer format is refused.
 */
import { ApiError } from '#base/errors.ts';
import { awaitedLater, whenSettled } from '#base/promises.ts';
import { messageOf } from '#base/thrown.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { bytesIn, messageIn, messagesIn, numberIn, textIn, type Message } from '#grpc/fields.ts';
import type { Logger } from '#observe/log.ts';
import { pause, type Clock, type Random, type Timer } from '#os/clock.ts';
import { checkBounds, Mvcc } from '../mvcc.ts';
import type {
  Compare,
  ListOptions,
  ListResult,
  Operation,
  Store,
  StoredValue,
  StoreEvent,
  StoreWatch,
  TxnResult,
  WatchRoute,
} from '../store.ts';
import { EtcdClient, type EtcdAddress } from './client.ts';
import { confirmIntervalMs, mirrorMsMin, requestMsMax, watchRetryMs, watchRetryMsMax } from './limits.ts';
import { Mirror } from './mirror.ts';
import { Place, defaultEtcdPrefix, lastOfEach, methods } from './requests.ts';
import { readAll, readCompacted, readMeta } from './state.ts';

export interface EtcdStoreOptions {
  address: EtcdAddress;
  /** Below which all keys lie, without a slash at its end; `/tiphys` when absent. */
  prefix?: string;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** What etcd's record of forgotten history says. */
interface Compacted {
  revision: number;
  modRevision: number;
}

/**
 * Reads all of the store into memory; resolves when that is done. Rejects where etcd cannot be reached, or holds a
 * newer format.
 */
export async function openEtcdStore(options: EtcdStoreOptions): Promise<EtcdStore> {
  const { address, clock, log, prefix = defaultEtcdPrefix } = options;
  const client = new EtcdClient({ ...address, clock, log });
  try {
    const { base, epoch } = await readMeta(client, prefix, options.random);
    const place = new Place(prefix, base);
    const compacted = await readCompacted(client, prefix);
    const state = await readAll(client, place, compacted.revision);
    const mvcc = new Mvcc(state.revision);
    for (const value of state.values) mvcc.restore(value);
    const store = new EtcdStore({ ...options, client, place, mvcc, compacted, epoch });
    await store.sync();
    return store;
  } catch (error) {
    await client.close();
    throw error;
  }
}

interface Parts extends EtcdStoreOptions {
  client: EtcdClient;
  place: Place;
  mvcc: Mvcc;
  compacted: Compacted;
  epoch: string;
}

export class EtcdStore implements Store {
  readonly isShared = true;
  /** Of the state that lies in etcd. */
  readonly epoch: string;
  readonly #client: EtcdClient;
  readonly #place: Place;
  readonly #mirror: Mirror;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #log: Logger;
  readonly #closing = new AbortController();
  #compacted: Compacted;
  /** The read that is under way, and the one that whoever comes now waits for. */
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  readonly #following: Promise<void>;
  #confirmedAtMs: number;
  /** Why the changes are not followed now. */
  #problem: string | undefined;
  #confirming: Timer | undefined;

  constructor({ client, place, mvcc, compacted, epoch, clock, random, log }: Parts) {
    this.epoch = epoch;
    this.#client = client;
    this.#place = place;
    this.#clock = clock;
    this.#random = random;
    this.#log = log;
    this.#compacted = compacted;
    this.#mirror = new Mirror(mvcc, place, (pair, type) => this.#sawOther(pair, type));
    this.#confirmedAtMs = clock.monotonic();
    this.#following = this.#follow();
    this.#confirmLater();
  }

  get #mvcc(): Mvcc {
    return this.#mirror.mvcc;
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
  compactedRevision(): number {
    return this.#mvcc.compactedRevision;
  }
  historyBytes(): number {
    return this.#mvcc.historyBytes;
  }
  revisionKeeping(historyBytes: number): number {
    return this.#mvcc.revisionKeeping(historyBytes);
  }

  unconfirmedMs(): number {
    return this.#clock.monotonic() - this.#confirmedAtMs;
  }

  /** Members of the same etcd, the one to be asked first before the others. */
  useEndpoints(endpoints: readonly string[]): void {
    this.#client.useEndpoints(endpoints);
  }

  sync(): Promise<void> {
    return (this.#next ??= awaitedLater(this.#syncNext()));
  }

  async #syncNext(): Promise<void> {
    // One that began before may have been answered before what its caller must see. Where it fails, nobody waits again.
    await (this.#reading ?? Promise.resolve()).finally(() => {
      this.#next = undefined;
    });
    await (this.#reading = awaitedLater(this.#readRevision()));
  }

  async #readRevision(): Promise<void> {
    const begunMs = this.#clock.monotonic();
    const untilMs = begunMs + requestMsMax;
    try {
      const answer = await this.#client.read(methods.range, { key: Buffer.of(0), count_only: true });
      await this.#until(untilMs, this.#mirror.reached(this.#place.revisionOf(answer)));
      this.#confirmedAtMs = begunMs;
    } finally {
      this.#reading = undefined;
    }
  }

  /** Who is asked only for what it has seen must know how old that may be. */
  #confirmLater(): void {
    const { aborted } = this.#closing.signal;
    if (aborted) return;
    this.#confirming = this.#clock.setTimer(
      confirmIntervalMs,
      () => {
        const confirmed = this.unconfirmedMs() < confirmIntervalMs ? undefined : this.sync();
        // Its failure shows in the time that passes.
        void whenSettled(confirmed).then(() => this.#confirmLater());
      },
      { background: true },
    );
  }

  /** Waits for what the mirror is to reach. */
  async #until(untilMs: number, reached: Promise<void>): Promise<void> {
    const late = Promise.withResolvers<never>();
    const timer = this.#clock.setTimer(
      Math.max(mirrorMsMin, untilMs - this.#clock.monotonic()),
      () => late.reject(new ApiError('Timeout', `the changes of etcd do not arrive${this.#whyNot()}`)),
      { background: true },
    );
    try {
      await Promise.race([reached, late.promise]);
    } finally {
      timer.cancel();
    }
  }

  #whyNot(): string {
    return this.#problem === undefined ? '' : `: ${this.#problem}`;
  }

  async txn(compares: Compare[], operations: Operation[]): Promise<TxnResult> {
    checkBounds(operations);
    if (this.#closing.signal.aborted) throw new ApiError('ServiceUnavailable', 'the store is closed');
    const untilMs = this.#clock.monotonic() + requestMsMax;
    const wanted = lastOfEach(operations);
    const { isChanged, ...result } = this.#place.txnResult(
      await this.#write(methods.txn, this.#place.txn(compares, wanted)),
    );
    // What was done is done, and acknowledged once it can be read here.
    const reached = isChanged ? this.#mirror.own(result.revision, wanted) : this.#mirror.reached(result.revision);
    if (result.revision > this.#mvcc.revision) await this.#until(untilMs, reached);
    return result;
  }

  async #write(method: string, request: Message): Promise<Message> {
    try {
      return await this.#client.write(method, request);
    } catch (error) {
      if (error instanceof GrpcError) throw refusal(error);
      throw error;
    }
  }

  /** Follows etcd's changes until the store is closed. */
  async #follow(): Promise<void> {
    const { signal } = this.#closing;
    for (let delayMs = watchRetryMs; !signal.aborted; delayMs = Math.min(watchRetryMsMax, 2 * delayMs)) {
      const revision = this.#mvcc.revision;
      try {
        await this.#followOnce(signal);
      } catch (error) {
        this.#problem = messageOf(error);
        if (!signal.aborted) this.#log.warn('the changes of etcd are followed anew', { error: this.#problem });
      }
      if (this.#mvcc.revision > revision) delayMs = watchRetryMs;
      await pause(this.#clock, delayMs, signal);
    }
  }

  async #followOnce(signal: AbortSignal): Promise<void> {
    using stream = await this.#client.open(methods.watch, signal);
    const all = Buffer.of(0);
    const from = this.#mvcc.revision + 1 - this.#place.base;
    await stream.send({ create_request: { key: all, range_end: all, start_revision: from, fragment: true } });
    let pending: Message[] = [];
    for await (const answer of stream.messages) {
      if (numberIn(answer, 'compact_revision') > 0) {
        await this.#beginAnew();
        return;
      }
      if (answer['canceled'] === true) throw new Error(`etcd ended the watch: ${textIn(answer, 'cancel_reason')}`);
      const [whole, begun] = splitLast([...pending, ...messagesIn(answer, 'events')], answer['fragment'] === true);
      this.#mirror.apply(whole);
      pending = begun;
      this.#problem = undefined;
    }
  }

  async #beginAnew(): Promise<void> {
    this.#log.warn('etcd has forgotten changes that were not seen: the state is read again');
    const { values, revision } = await readAll(this.#client, this.#place, 0);
    this.#mirror.replace(values, revision);
  }

  #sawOther(pair: Message, type: StoreEvent['type']): void {
    if (bytesIn(pair, 'key').toString() !== `${this.#place.prefix}.compacted`) return;
    const modRevision = numberIn(pair, 'mod_revision');
    this.#compacted = {
      revision: type === 'put' ? Number(bytesIn(pair, 'value').toString()) : 0,
      modRevision: type === 'put' ? modRevision : 0,
    };
  }

  /**
   * Of several servers that want to forget at a time one does so in etcd: the one whose record of it is written. Each
   * forgets in its own memory.
   */
  async compact(revision: number): Promise<void> {
    const upTo = Math.min(revision, this.#mvcc.revision);
    if (upTo <= this.#mvcc.compactedRevision) return;
    const target = upTo - this.#place.base;
    if (target > this.#compacted.revision && (await this.#recordCompaction(target))) await this.#compactEtcd(target);
    this.#mvcc.compact(upTo);
  }

  async #recordCompaction(target: number): Promise<boolean> {
    const key = Buffer.from(`${this.#place.prefix}.compacted`);
    try {
      const answer = await this.#write(methods.txn, {
        compare: [{ key, result: 0, target: 2, mod_revision: this.#compacted.modRevision }],
        success: [{ request_put: { key, value: Buffer.from(String(target)) } }],
      });
      return answer['succeeded'] === true;
    } catch (error) {
      // Where nothing can be written any more, forgetting is what makes room.
      if (isOutOfSpace(error)) return true;
      throw error;
    }
  }

  async #compactEtcd(revision: number): Promise<void> {
    try {
      await this.#client.write(methods.compact, { revision });
    } catch (error) {
      // Somebody else has forgotten more.
      if (!(error instanceof GrpcError && error.status === code.outOfRange)) throw error;
    }
  }

  async health(): Promise<string | undefined> {
    if (this.#closing.signal.aborted) return 'the store is closed';
    return this.sync().then(() => undefined, messageOf);
  }

  async grantLease(ttlSeconds: number): Promise<number> {
    // etcd's own choice would not fit into a number.
    const id = Buffer.from(this.#random.bytes(6)).readUIntBE(0, 6) + 1;
    await this.#write(methods.grant, { TTL: ttlSeconds, ID: id });
    return id;
  }

  async keepLeaseAlive(lease: number): Promise<void> {
    const answer = await this.#write(methods.keepAlive, { ID: lease });
    if (numberIn(answer, 'TTL') <= 0) throw new Error(`lease ${lease} not found`);
  }

  async revokeLease(lease: number): Promise<void> {
    try {
      await this.#client.write(methods.revoke, { ID: lease });
    } catch (error) {
      // It has ended.
      if (!(error instanceof GrpcError && error.status === code.notFound)) throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#confirming?.cancel();
    await this.#client.close();
    await this.#following;
    this.#mirror.giveUp(new ApiError('ServiceUnavailable', 'the store is closed'));
    this.#mvcc.closeWatches();
  }
}

/** etcd has an alarm: it takes deletions and compactions alone. */
export function isOutOfSpace(error: unknown): boolean {
  return /database space exceeded/.test(messageOf(error));
}

/** Of a message that is continued in the next one, the events of the last revision may not be all. */
function splitLast(events: readonly Message[], isContinued: boolean): [whole: Message[], begun: Message[]] {
  const revisionOf = (event: Message | undefined): number => numberIn(messageIn(event ?? {}, 'kv'), 'mod_revision');
  const last = revisionOf(events.at(-1));
  const end = isContinued ? events.findIndex((event) => revisionOf(event) === last) : events.length;
  return [events.slice(0, Math.max(0, end)), events.slice(Math.max(0, end))];
}

/** What etcd refuses, as kube-apiserver passes it on: in etcd's words, as an internal error. */
function refusal(error: GrpcError): ApiError {
  const refused = new ApiError('InternalError', error.message);
  refused.cause = error;
  return refused;
}
