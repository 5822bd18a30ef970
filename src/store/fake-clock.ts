/** A clock for tests: time stands still until `advance`. */
import type { Clock, Timer } from '#os/clock.ts';

export interface FakeClock extends Clock {
  advance(ms: number): void;
}

export function createFakeClock(startMs = Date.UTC(2030, 0, 1)): FakeClock {
  let now = startMs;
  let order = 0;
  let timers: { at: number; order: number; run: () => void }[] = [];
  const clock: FakeClock = {
    now: () => now,
    monotonic: () => now - startMs,
    setTimer(delayMs, run): Timer {
      const timer = { at: now + Math.max(0, delayMs), order: order++, run };
      timers.push(timer);
      return {
        cancel: () => {
          timers = timers.filter((t) => t !== timer);
        },
      };
    },
    sleep: (delayMs, signal) =>
      new Promise((resolve, reject) => {
        const timer = clock.setTimer(delayMs, resolve);
        signal?.addEventListener(
          'abort',
          () => {
            timer.cancel();
            reject(signal.reason);
          },
          { once: true },
        );
      }),
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const next = timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
        if (next === undefined) break;
        timers = timers.filter((t) => t !== next);
        now = next.at;
        next.run();
      }
      now = end;
    },
  };
  return clock;
}
