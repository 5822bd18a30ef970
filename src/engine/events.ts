/** Events of the engine: to listeners at once and in order, and the last few kept for those who ask about the past. */
import type { Clock } from '#os/clock.ts';
import type { EngineEvent } from './engine.ts';
import { eventHistoryMax } from './limits.ts';

export type NewEvent = Omit<EngineEvent, 'timeNs'>;

export class Events {
  readonly #clock: Clock;
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #history: EngineEvent[] = [];
  #lastNs = 0n;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * The clock tells milliseconds. Events of one follow each other by a nanosecond, so that a client can go on after the
   * last that it saw. `timeMs`: when it happened, where the caller knows better.
   */
  emit(event: NewEvent, timeMs = this.#clock.now()): void {
    const now = BigInt(Math.floor(timeMs)) * 1_000_000n;
    this.#lastNs = now > this.#lastNs ? now : this.#lastNs + 1n;
    const complete: EngineEvent = { ...event, timeNs: this.#lastNs };
    this.#history.push(complete);
    if (this.#history.length > eventHistoryMax) this.#history.shift();
    for (const listener of this.#listeners) listener(complete);
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  /** Returns what ends the listening. */
  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The last `eventHistoryMax` events. */
  history(): readonly EngineEvent[] {
    return this.#history;
  }
}
