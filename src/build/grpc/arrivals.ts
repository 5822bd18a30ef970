/** Things by name that one connection brings and another asks for: who asks a moment too early waits for them. */
import { ApiError } from '#base/errors.ts';
import { onceAborted } from '#base/streams.ts';
import type { Clock } from '#os/clock.ts';

export class Arrivals<T> {
  readonly #clock: Clock;
  readonly #waitMs: number;
  readonly #what: string;
  readonly #here = new Map<string, T>();
  readonly #waiters = new Set<() => void>();

  /** `what`: as the error names one that does not come. */
  constructor(clock: Clock, waitMs: number, what: string) {
    this.#clock = clock;
    this.#waitMs = waitMs;
    this.#what = what;
  }

  get size(): number {
    return this.#here.size;
  }
  has(name: string): boolean {
    return this.#here.has(name);
  }

  add(name: string, value: T): void {
    this.#here.set(name, value);
    this.#wakeAll();
  }

  /** Only this one: another may have come under its name. */
  remove(name: string, value: T): void {
    if (this.#here.get(name) === value) this.#here.delete(name);
  }

  /** Throws NotFound when it has not come in time, and the signal's reason. */
  async get(name: string, signal: AbortSignal): Promise<T> {
    let isLate = false;
    const timer = this.#clock.setTimer(this.#waitMs, () => {
      isLate = true;
      this.#wakeAll();
    });
    try {
      for (;;) {
        const found = this.#here.get(name);
        if (found !== undefined) return found;
        if (isLate) throw new ApiError('NotFound', `${this.#what} ${name.slice(0, 100)}`);
        signal.throwIfAborted();
        await this.#change(signal);
      }
    } finally {
      timer.cancel();
    }
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiters.delete(wake);
        forget();
        resolve();
      };
      const forget = onceAborted(signal, wake);
      this.#waiters.add(wake);
    });
  }

  #wakeAll(): void {
    for (const wake of [...this.#waiters]) wake();
  }
}
