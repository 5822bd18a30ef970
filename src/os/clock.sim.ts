/**
 * Virtual time and seeded chance. Time stands still while anything runs and jumps to the next timer when all is quiet:
 * between two timers every promise that can settle has settled (one turn of the real event loop drains them, as nothing
 * under simulation does real I/O). Timers due at the same moment fire in the order they were set, so a run repeats
 * exactly.
 */
import { heapPop, heapPush } from '#base/heap.ts';
import type { Clock, Random, Timer } from './clock.ts';

interface Entry {
  dueMs: number;
  order: number;
  run: (() => void) | undefined;
}

/** One turn of the real event loop: all settled promises have run their continuations. */
export function settle(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

export class SimClock implements Clock {
  #nowMs: number;
  readonly #startMs: number;
  readonly #heap: Entry[] = [];
  #order = 0;
  #cancelled = 0;
  /** Timers fired so far. */
  fired = 0;

  constructor(startMs: number) {
    this.#nowMs = startMs;
    this.#startMs = startMs;
  }

  now(): number {
    return this.#nowMs;
  }
  monotonic(): number {
    return this.#nowMs - this.#startMs;
  }
  get pending(): number {
    return this.#heap.length - this.#cancelled;
  }

  setTimer(delayMs: number, run: () => void): Timer {
    // Whole milliseconds, as real timers have: with fractions, sums of delays would miss their own due time by a
    // rounding.
    const entry: Entry = { dueMs: this.#nowMs + Math.ceil(Math.max(0, delayMs)), order: this.#order++, run };
    heapPush(this.#heap, entry, isBefore);
    return {
      cancel: () => {
        if (entry.run === undefined) return;
        entry.run = undefined;
        this.#cancelled++;
        if (this.#cancelled > 1024 && this.#cancelled * 2 > this.#heap.length) this.#sweep();
      },
    };
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(signal!.reason);
      };
      const timer = this.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** When the next timer is due; undefined when there is none. */
  nextDueMs(): number | undefined {
    this.#dropCancelled();
    return this.#heap[0]?.dueMs;
  }

  /**
   * Fires the next timer if it is due by `limitMs`, moving time to it; false when there is none. Callers `settle`
   * before and after.
   */
  fireNext(limitMs: number): boolean {
    this.#dropCancelled();
    const next = this.#heap[0];
    if (next === undefined || next.dueMs > limitMs) return false;
    heapPop(this.#heap, isBefore);
    if (next.dueMs > this.#nowMs) this.#nowMs = next.dueMs;
    const { run } = next;
    next.run = undefined;
    this.fired++;
    run!();
    return true;
  }

  /** Moves time without firing; for the end of an advance. */
  setNow(nowMs: number): void {
    if (nowMs > this.#nowMs) this.#nowMs = nowMs;
  }

  /** Lets `durationMs` pass: fires every timer that falls due, in order, letting all promises settle after each. */
  async advance(durationMs: number): Promise<void> {
    const end = this.#nowMs + durationMs;
    await settle();
    while (this.fireNext(end)) await settle();
    this.setNow(end);
  }

  #dropCancelled(): void {
    while (this.#heap.length > 0 && this.#heap[0]!.run === undefined) {
      heapPop(this.#heap, isBefore);
      this.#cancelled--;
    }
  }

  #sweep(): void {
    const kept = this.#heap.filter((entry) => entry.run !== undefined);
    this.#heap.length = 0;
    this.#cancelled = 0;
    for (const entry of kept) heapPush(this.#heap, entry, isBefore);
  }
}

function isBefore(a: Entry, b: Entry): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}

/** xoshiro128** seeded through splitmix32: small, fast, and the same everywhere. */
export class SimRandom implements Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed >>> 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) >>> 0;
      let mixed = state ^ (state >>> 16);
      mixed = Math.imul(mixed, 0x21f0aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a2d97);
      return (mixed ^ (mixed >>> 15)) >>> 0;
    };
    this.#a = next();
    this.#b = next();
    this.#c = next();
    this.#d = next() | 1;
  }

  #next(): number {
    const product = Math.imul(this.#b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  float(): number {
    return this.#next() / 4_294_967_296;
  }

  bytes(count: number): Uint8Array {
    const out = new Uint8Array(count);
    for (let i = 0; i < count; i++) out[i] = this.#next() & 255;
    return out;
  }

  uuid(): string {
    const bytes = this.bytes(16);
    bytes[6] = (bytes[6]! & 0x0f) | 0x40;
    bytes[8] = (bytes[8]! & 0x3f) | 0x80;
    let hex = '';
    for (const byte of bytes) hex += (byte + 256).toString(16).slice(1);
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  }

  /** A generator of its own, drawn from this one. */
  split(): SimRandom {
    return new SimRandom(this.#next());
  }
}
