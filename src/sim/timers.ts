/** Timers by name: setting one anew replaces it, and all can be ended at once. */
import type { Clock, Timer } from '#os/clock.ts';

export class Timers {
  readonly #clock: Clock;
  readonly #timers = new Map<string, Timer>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  set(id: string, delayMs: number, run: () => void): void {
    this.#timers.get(id)?.cancel();
    this.#timers.set(
      id,
      this.#clock.setTimer(Math.max(0, delayMs), () => {
        this.#timers.delete(id);
        run();
      }),
    );
  }

  has(id: string): boolean {
    return this.#timers.has(id);
  }

  cancel(id: string): void {
    const timer = this.#timers.get(id);
    if (timer === undefined) return;
    timer.cancel();
    this.#timers.delete(id);
  }

  clear(): void {
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }
}
