/**
 * Time and chance. Everything outside `os` takes these as arguments, so that the simulator can run the same code in
 * virtual time and from a seed. `clock.real.ts` holds the implementation that a running platform uses.
 */
export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since 1970-01-01 UTC; may jump. */
  now(): number;
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonic(): number;
  /** Calls `run` once after `delayMs`. A timer keeps the process alive unless `background`. */
  setTimer(delayMs: number, run: () => void, options?: { background?: boolean }): Timer;
  /** Resolves after `delayMs`; rejects with the signal's reason when aborted. */
  sleep(delayMs: number, signal?: AbortSignal): Promise<void>;
}

export interface Random {
  /** Uniform in [0, 1). */
  float(): number;
  bytes(count: number): Uint8Array;
  /** RFC 9562 version 4. */
  uuid(): string;
}

/** Sleeps, or ends early without an error when the signal aborts: for loops that look at the signal themselves. */
export async function pause(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  // Nothing but the signal ends a sleep early.
  await clock.sleep(delayMs, signal).catch(() => {});
}

const suffixLetters = 'bcdfghjklmnpqrstvwxz2456789';

/** A suffix as Kubernetes makes for `generateName`: letters that form no words. */
export function randomSuffix(random: Random, length = 5): string {
  let out = '';
  for (let i = 0; i < length; i++) out += suffixLetters[Math.floor(random.float() * suffixLetters.length)];
  return out;
}
