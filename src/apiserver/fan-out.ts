/**
 * When watchers of which there are many are told of changes: the first one at once, those that follow closely together.
 * What a change costs is not its bytes, which all share, but the write to each connection. They rest together, so that
 * all are told the same, and at least for as long as it took to tell them.
 */
import type { Clock } from '#os/clock.ts';
import { fanOutRestMs, fanOutRestMsMax } from './limits.ts';

export class FanOut {
  readonly #clock: Clock;
  #rest: PromiseWithResolvers<void> | undefined;
  /** When the first and the latest of those that rest were told. */
  #firstMs = 0;
  #latestMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Called by each that was told; resolves when the rest ends. */
  rest(): Promise<void> {
    this.#latestMs = this.#clock.monotonic();
    if (this.#rest === undefined) {
      this.#rest = Promise.withResolvers();
      this.#firstMs = this.#latestMs;
      this.#wait(fanOutRestMs);
    }
    return this.#rest.promise;
  }

  #wait(ms: number): void {
    this.#clock.setTimer(ms, () => this.#end(), { background: true });
  }

  #end(): void {
    const restMs = Math.max(fanOutRestMs, this.#latestMs - this.#firstMs);
    const leftMs = this.#latestMs + restMs - this.#clock.monotonic();
    if (leftMs >= 1 && restMs < fanOutRestMsMax) return this.#wait(leftMs);
    this.#rest?.resolve();
    this.#rest = undefined;
  }
}
