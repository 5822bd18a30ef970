/**
 * The network between a client and the API server, with faults: cut, slow, requests lost on the way there, answers lost
 * on the way back (the write happened and nobody was told), watches broken. Nothing is random but what the seed says.
 */
import { ApiError } from '#base/errors.ts';
import type { WatchEvent } from '#base/objects.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Transport, TransportRequest } from '#client/transport.ts';
import type { Clock, Random } from '#os/clock.ts';
import { lateMsMax } from './limits.ts';

export interface NetworkFaults {
  /** Nothing gets through. */
  cut: boolean;
  /** Each way takes up to this long; 0: none. */
  delayMsMax: number;
  /** Share of requests that never arrive. */
  requestLoss: number;
  /** Share of answers that never come back. */
  replyLoss: number;
  /** Share of requests that are held up for as long as `lateMsMax` while later ones pass. */
  reorder: number;
  /** Share of requests that arrive a second time, as late as that; nobody waits for the second answer. */
  duplication: number;
}

function noFaults(): NetworkFaults {
  return { cut: false, delayMsMax: 0, requestLoss: 0, replyLoss: 0, reorder: 0, duplication: 0 };
}

/**
 * Nothing in Kubernetes' API tells the second create of a generated name from the first: that one no client may send
 * twice.
 */
function isRepeatable({ method, body }: TransportRequest): boolean {
  return method !== 'GET' && fieldOf(body, 'metadata', 'generateName') === undefined;
}

const lost = (): ApiError =>
  new ApiError('ServiceUnavailable', 'the server is currently unable to handle the request (simulated network)');

/**
 * A controller that aborts with any of the signals. `AbortSignal.any` would do, but when it lets go is the collector's
 * choice.
 */
function linked(...signals: (AbortSignal | undefined)[]): { controller: AbortController; unlink(): void } {
  const controller = new AbortController();
  const abort = (): void => {
    unlink();
    controller.abort();
  };
  const unlink = (): void => {
    for (const signal of signals) signal?.removeEventListener('abort', abort);
  };
  for (const signal of signals) {
    if (signal?.aborted === true) controller.abort();
    else signal?.addEventListener('abort', abort, { once: true });
  }
  return { controller, unlink };
}

export class FaultyTransport implements Transport {
  readonly faults: NetworkFaults;
  /** Called when what is wrong changes. */
  onChange: (() => void) | undefined;
  readonly #faults = noFaults();
  readonly #inner: Transport;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #watches = new Set<AbortController>();

  constructor(inner: Transport, clock: Clock, random: Random) {
    this.#inner = inner;
    this.#clock = clock;
    this.#random = random;
    this.faults = new Proxy(this.#faults, {
      set: (target, name, value) => {
        const done = Reflect.set(target, name, value);
        this.onChange?.();
        return done;
      },
    });
  }

  get isHealthy(): boolean {
    const { cut, ...shares } = this.#faults;
    return !cut && Object.values(shares).every((share) => share === 0);
  }

  async send(request: TransportRequest): Promise<object> {
    const faults = this.#faults;
    if (faults.cut || (faults.requestLoss > 0 && this.#random.float() < faults.requestLoss)) throw lost();
    if (faults.duplication > 0 && isRepeatable(request) && this.#random.float() < faults.duplication)
      this.#sendAgain(request);
    if (faults.delayMsMax > 0) await this.#clock.sleep(this.#random.float() * faults.delayMsMax);
    if (faults.reorder > 0 && this.#random.float() < faults.reorder)
      await this.#clock.sleep(this.#random.float() * lateMsMax);
    const answer = await this.#inner.send(request);
    if (faults.delayMsMax > 0) await this.#clock.sleep(this.#random.float() * faults.delayMsMax);
    if (faults.cut || (faults.replyLoss > 0 && this.#random.float() < faults.replyLoss)) throw lost();
    return answer;
  }

  #sendAgain(request: TransportRequest): void {
    this.#clock.setTimer(this.#random.float() * lateMsMax, () => {
      // Nobody waits for the answer of what the network repeats.
      void this.#inner.send(request).catch(() => {});
    });
  }

  watch(request: TransportRequest): AsyncIterable<WatchEvent[]> {
    if (this.#faults.cut) return { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(lost()) }) };
    const { controller: broken, unlink } = linked(request.signal);
    this.#watches.add(broken);
    const events = this.#inner.watch({ ...request, signal: broken.signal })[Symbol.asyncIterator]();
    const release = (): void => {
      unlink();
      this.#watches.delete(broken);
    };
    const next = async (): Promise<IteratorResult<WatchEvent[]>> => {
      try {
        const result = await events.next();
        if (this.#faults.delayMsMax > 0 && result.done !== true)
          await this.#clock.sleep(this.#random.float() * this.#faults.delayMsMax);
        if (result.done === true) release();
        return result;
      } catch (error) {
        release();
        throw error;
      }
    };
    return {
      [Symbol.asyncIterator]: () => ({
        next,
        return: async () => {
          release();
          broken.abort();
          await events.return?.();
          return { done: true, value: undefined };
        },
      }),
    };
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

  heal(): void {
    Object.assign(this.faults, noFaults());
  }

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

  kill(): void {
    this.#death.abort();
  }

  async send(request: TransportRequest): Promise<object> {
    if (this.#death.signal.aborted) throw lost();
    const answer = await this.#inner.send(request);
    if (this.#death.signal.aborted) throw lost();
    return answer;
  }

  watch(request: TransportRequest): AsyncIterable<WatchEvent[]> {
    // The links live as long as this process: what it watches, it watches until it dies.
    return this.#inner.watch({ ...request, signal: linked(request.signal, this.#death.signal).controller.signal });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
  }
}

/** The connection of one kubelet: while it is not whole, nothing gets through, nor do answers to what did. */
export class GuardedTransport implements Transport {
  readonly #inner: Transport;
  readonly #isWhole: () => boolean;

  constructor(inner: Transport, isWhole: () => boolean) {
    this.#inner = inner;
    this.#isWhole = isWhole;
  }

  async send(request: TransportRequest): Promise<object> {
    if (!this.#isWhole()) throw lost();
    const answer = await this.#inner.send(request);
    if (!this.#isWhole()) throw lost();
    return answer;
  }

  /** Of a node that is handed what it follows: there is nothing to watch. */
  watch(): AsyncIterable<WatchEvent[]> {
    throw lost();
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
