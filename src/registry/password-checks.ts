/**
 * Turns for checking passwords. A check is slow on purpose (scrypt) and runs on the thread pool that files and name
 * look-ups share, so strangers who guess must not be able to fill it.
 *
 * One check runs at a time. Each source (address) has a queue of its own, bounded, and sources take turns; a source
 * that gave a wrong password lately is a suspect: it waits until nobody else does, and after each wrong password all
 * suspects rest for a multiple of the time that the check took, so that guessing costs a bounded share of one core
 * however many guess. Whoever signs in rightly from an address of his own waits for one check at most.
 *
 * Does not: remember results (`access.ts` does, so that a password that is used again costs nothing).
 */
import { ApiError } from '#base/errors.ts';
import type { Clock } from '#os/clock.ts';
import { passwordRestFactor, passwordSuspectMs, passwordWaitersMax, passwordWaitersPerSourceMax } from './limits.ts';

interface Job {
  check: () => Promise<boolean>;
  resolve: (isRight: boolean) => void;
  reject: (error: unknown) => void;
}
interface Source {
  jobs: Job[];
  /** Monotonic; -Infinity: never. */ failedAtMs: number;
}

export class PasswordChecks {
  readonly #clock: Clock;
  /** In the order of turns: whoever was served goes to the end. */
  readonly #sources = new Map<string, Source>();
  #waiting = 0;
  #isRunning = false;
  #restUntilMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Whether the password was right. Throws ApiError TooManyRequests when this source, or all together, wait too often.
   */
  run(address: string, check: () => Promise<boolean>): Promise<boolean> {
    const source = this.#sources.get(address) ?? { jobs: [], failedAtMs: -Infinity };
    // Half of the places are kept for those who have not failed.
    const placesMax = this.#isSuspect(source) ? passwordWaitersMax / 2 : passwordWaitersMax;
    if (source.jobs.length >= passwordWaitersPerSourceMax || this.#waiting >= placesMax)
      return Promise.reject(new ApiError('TooManyRequests', 'too many sign-ins at a time'));
    this.#sources.set(address, source);
    return new Promise((resolve, reject) => {
      source.jobs.push({ check, resolve, reject });
      this.#waiting++;
      this.#next();
    });
  }

  get waiting(): number {
    return this.#waiting;
  }

  #isSuspect(source: Source): boolean {
    return this.#clock.monotonic() - source.failedAtMs < passwordSuspectMs;
  }

  #pick(): [string, Source] | undefined {
    let suspect: [string, Source] | undefined;
    for (const [address, source] of this.#sources) {
      if (source.jobs.length === 0) {
        if (!this.#isSuspect(source)) this.#sources.delete(address);
        continue;
      }
      if (!this.#isSuspect(source)) return [address, source];
      suspect ??= [address, source];
    }
    return suspect;
  }

  #next(): void {
    if (this.#isRunning) return;
    const picked = this.#pick();
    if (picked === undefined) return;
    const [address, source] = picked;
    const restMs = this.#isSuspect(source) ? this.#restUntilMs - this.#clock.monotonic() : 0;
    if (restMs > 0) {
      this.#clock.setTimer(Math.min(restMs, 1000), () => this.#next(), { background: true });
      return;
    }
    const job = source.jobs.shift()!;
    this.#waiting--;
    this.#isRunning = true;
    const startedMs = this.#clock.monotonic();
    job
      .check()
      .then((isRight) => {
        source.failedAtMs = isRight ? -Infinity : this.#clock.monotonic();
        if (!isRight)
          this.#restUntilMs = this.#clock.monotonic() + passwordRestFactor * (this.#clock.monotonic() - startedMs);
        job.resolve(isRight);
      }, job.reject)
      .finally(() => {
        this.#sources.delete(address);
        this.#sources.set(address, source);
        this.#isRunning = false;
        this.#next();
      });
  }
}
