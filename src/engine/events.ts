/** Events of the engine: to listeners at once and in order, and the last few kept for those who ask about the past. */
import type { Clock } from '#os/clock.ts';
import type { EngineEvent } from './engine.ts';
import { eventHistoryMax } from './limits.ts';

export class Events {
  readonly #clock: Clock;
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #history: EngineEvent[] = [];

  constructor(clock: Clock) { this.#clock = clock; }

  emit(event: Omit<EngineEvent, 'timeMs'>): void {
    const complete: EngineEvent = { ...event, timeMs: this.#clock.now() };
    this.#history.push(complete);
    if (this.#history.length > eventHistoryMax) this.#history.shift();
    for (const listener of this.#listeners) listener(complete);
  }

  /** Returns what ends the listening. */
  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The last `eventHistoryMax` events. */
  history(): readonly EngineEvent[] { return this.#history; }
}
