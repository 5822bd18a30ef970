/**
 * The network between a client and the API server, with faults: cut, slow, requests lost on the way there, answers lost on the way back
 * (the write happened and nobody was told), watches broken. Nothing is random but what the seed says.
 */
import { ApiError } from '#base/errors.ts';
import type { KubeObject, WatchEvent } from '#base/objects.ts';
import type { Transport, TransportRequest } from '#client/transport.ts';
import type { Clock, Random } from '#os/clock.ts';

export interface NetworkFaults {
  /** Nothing gets through. */
  cut: boolean;
  /** Each way takes up to this long; 0: none. */
  delayMsMax: number;
  /** Share of requests that never arrive. */
  requestLoss: number;
  /** Share of answers that never come back. */
  replyLoss: number;
}

export function noFaults(): NetworkFaults {
  return { cut: false, delayMsMax: 0, requestLoss: 0, replyLoss: 0 };
}

const lost = (): ApiError => new ApiError('ServiceUnavailable', 'the server is currently unable to handle the request (simulated network)');

export class FaultyTransport implements Transport {
  readonly faults: NetworkFaults = noFaults();
  readonly #inner: Transport;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watches = new Set<AbortController>();

  constructor(inner: Transport, clock: Clock, random: Random) {
    this.#inner = inner;
    this.#clock = clock;
    this.#random = random;
  }

  async send(request: TransportRequest): Promise<KubeObject> {
    const { faults } = this;
    if (faults.cut || (faults.requestLoss > 0 && this.#random.float() < faults.requestLoss)) throw lost();
    if (faults.delayMsMax > 0) await this.#clock.sleep(this.#random.float() * faults.delayMsMax);
    const answer = await this.#inner.send(request);
    if (faults.delayMsMax > 0) await this.#clock.sleep(this.#random.float() * faults.delayMsMax);
    if (this.faults.cut || (faults.replyLoss > 0 && this.#random.float() < faults.replyLoss)) throw lost();
    return answer;
  }

  watch(request: TransportRequest): AsyncIterable<WatchEvent> {
    if (this.faults.cut) return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(lost()) }) };
    const broken = new AbortController();
    this.#watches.add(broken);
    const signal = request.signal === undefined ? broken.signal : AbortSignal.any([request.signal, broken.signal]);
    const events = this.#inner.watch({ ...request, signal })[Symbol.asyncIterator]();
    const next = async (): Promise<IteratorResult<WatchEvent>> => {
      const result = await events.next();
      if (this.faults.delayMsMax > 0 && result.done !== true) await this.#clock.sleep(this.#random.float() * this.faults.delayMsMax);
      if (result.done === true) this.#watches.delete(broken);
      return result;
    };
    return { [Symbol.asyncIterator]: () => ({ next: () => (this.faults.delayMsMax === 0 ? events.next() : next()), return: async () => { this.#watches.delete(broken); broken.abort(); await events.return?.(); return { done: true, value: undefined }; } }) };
  }

  /** Ends every watch, as a restarting server does. */
  breakWatches(): void {
    for (const watch of [...this.#watches]) {
      this.#watches.delete(watch);
      watch.abort();
    }
  }

  /** Cuts the network; watches end too. */
  cut(): void {
    this.faults.cut = true;
    this.breakWatches();
  }

  heal(): void { Object.assign(this.faults, noFaults()); }

  async [Symbol.asyncDispose](): Promise<void> {
    this.breakWatches();
    await this.#inner[Symbol.asyncDispose]();
  }
}

/** The connection of one process: when it is killed, nothing that it still does reaches anybody. */
export class ProcessTransport implements Transport {
  readonly #inner: Transport;
  readonly #death = new AbortController();

  constructor(inner: Transport) {
    this.#inner = inner;
  }

  kill(): void { this.#death.abort(); }

  async send(request: TransportRequest): Promise<KubeObject> {
    if (this.#death.signal.aborted) throw lost();
    const answer = await this.#inner.send(request);
    if (this.#death.signal.aborted) throw lost();
    return answer;
  }

  watch(request: TransportRequest): AsyncIterable<WatchEvent> {
    return this.#inner.watch({ ...request, signal: request.signal === undefined ? this.#death.signal : AbortSignal.any([request.signal, this.#death.signal]) });
  }

  async [Symbol.asyncDispose](): Promise<void> { this.kill(); }
}
