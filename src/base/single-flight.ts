/**
 * The same work asked for several times at a time is done once: whoever comes while it runs waits for its result.
 *
 * Each caller may bring a signal of its own. One who gives up leaves the others their result; the work itself is told
 * to stop only when nobody waits for it any more, and the last caller then waits until it has stopped, so that what it
 * cleans up is clean. A result is not kept: who comes later begins anew, also after a failure.
 */
import { onceAborted } from './streams.ts';

interface Flight<T> {
  result: Promise<T>;
  over: AbortController;
  waiting: number;
}

export class SingleFlight<T> {
  readonly #flights = new Map<string, Flight<T>>();

  has(key: string): boolean {
    return this.#flights.has(key);
  }

  /** `work` is called at once, if nothing runs under this key; its signal aborts when nobody waits any more. */
  run(key: string, work: (over: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    const flight = this.#flights.get(key) ?? this.#begin(key, work);
    flight.waiting++;
    if (signal === undefined) return flight.result;
    return new Promise((resolve, reject) => {
      const forget = onceAborted(signal, () => {
        flight.waiting--;
        if (flight.waiting > 0) reject(signal.reason);
        else {
          // Who comes now must not share in a work that stops.
          if (this.#flights.get(key) === flight) this.#flights.delete(key);
          flight.over.abort(signal.reason);
        }
      });
      flight.result.then(resolve, reject).finally(forget);
    });
  }

  /** Waits until nothing runs, whatever comes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled([...this.#flights.values()].map(({ result }) => result));
  }

  #begin(key: string, work: (over: AbortSignal) => Promise<T>): Flight<T> {
    const over = new AbortController();
    const flight: Flight<T> = {
      over,
      waiting: 0,
      result: work(over.signal).finally(() => {
        if (this.#flights.get(key) === flight) this.#flights.delete(key);
      }),
    };
    this.#flights.set(key, flight);
    return flight;
  }
}
