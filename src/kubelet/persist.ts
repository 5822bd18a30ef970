/** Tries again what the API server could not take just now, for as long as the kubelet runs. */
import { isReason } from '#base/errors.ts';
import type { Clock } from '#os/clock.ts';
import { syncErrorRetryMs } from './limits.ts';

const final = ['NotFound', 'Conflict', 'Invalid', 'Forbidden', 'AlreadyExists', 'BadRequest'] as const;

export async function persist<T>(
  { clock, signal }: { clock: Clock; signal: AbortSignal },
  run: () => Promise<T>,
): Promise<T> {
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, syncErrorRetryMs)) {
    try {
      return await run();
    } catch (error) {
      if (signal.aborted || isReason(error, ...final)) throw error;
      await clock.sleep(delayMs, signal);
    }
  }
}
