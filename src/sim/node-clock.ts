/** The clock of one node: what it says of the time may be off, how fast it goes is not. */
import type { Clock, Timer } from '#os/clock.ts';

export class NodeClock implements Clock {
  readonly #clock: Clock;
  /** How far it is ahead of the cluster's, in milliseconds. */
  skewMs: number;

  constructor(clock: Clock, skewMs: number) {
    this.#clock = clock;
    this.skewMs = skewMs;
  }

  now(): number {
    return this.#clock.now() + this.skewMs;
  }
  monotonic(): number {
    return this.#clock.monotonic();
  }
  setTimer(delayMs: number, run: () => void, options?: { background?: boolean }): Timer {
    return this.#clock.setTimer(delayMs, run, options);
  }
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return this.#clock.sleep(delayMs, signal);
  }
}
