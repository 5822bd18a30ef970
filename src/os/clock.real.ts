/** The system's clock and randomness. Only `platform`, `cli` and tests of real I/O import this. */
import { randomBytes, randomUUID } from 'node:crypto';
import { uptime } from 'node:os';
import type { Clock, Random, Timer } from './clock.ts';

/** Node's timers take at most a signed 32-bit delay; a longer one would fire at once. */
const delayMsMax = 2_147_483_647;

export const realClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  setTimer(delayMs, run, options): Timer {
    let handle: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      handle =
        leftMs > delayMsMax
          ? setTimeout(() => arm(leftMs - delayMsMax), delayMsMax)
          : setTimeout(run, Math.max(0, leftMs));
      if (options?.background === true) handle.unref();
    };
    arm(delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
  sleep(delayMs, signal) {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const onAbort = (): void => {
        timer.cancel();
        reject(signal!.reason);
      };
      const timer = realClock.setTimer(delayMs, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  },
};

export const realRandom: Random = {
  float: () => Math.random(),
  bytes: (count) => randomBytes(count),
  uuid: () => randomUUID(),
};

/** How long this process runs already, in milliseconds. */
export function processUptimeMs(): number {
  return performance.now();
}

/** When the machine was started, in milliseconds since 1970. */
export function machineBootedAtMs(): number {
  return Date.now() - uptime() * 1000;
}
