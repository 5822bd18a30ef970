/** Asking again, for whoever is away or busy for a moment. */
import { isReason } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';

export interface Patience {
  /** Of the monotonic clock. */
  untilMs: number;
  stepMs: number;
  /** Whether the failure passes by itself. Absent: ServiceUnavailable and Timeout do. */
  isPassing?(error: unknown): boolean;
}

const isAway = (error: unknown): boolean => isReason(error, 'ServiceUnavailable', 'Timeout');

/** Rejects with the first failure that does not pass, or with one that is there too late. */
export async function retryWhile<T>(
  { untilMs, stepMs, isPassing = isAway }: Patience,
  ask: () => Promise<T>,
): Promise<T> {
  for (;;)
    try {
      return await ask();
    } catch (error) {
      if (!isPassing(error) || realClock.monotonic() > untilMs) throw error;
      await realClock.sleep(stepMs);
    }
}
