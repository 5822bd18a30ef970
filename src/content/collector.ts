/**
 * Collection by time. Whoever removes something collects at once, but leaves what is young, and what a build or pull
 * that failed or was killed left has no remover at all.
 */
import type { Logger } from '#observe/log.ts';
import { pause, type Clock } from '#os/clock.ts';
import type { Content } from './content.ts';
import { collectEveryMs } from './limits.ts';

/** Collects now and every minute until it is disposed of. All owners must have said by then what they need. */
export function keepCollected(
  content: Pick<Content, 'collect'>,
  { clock, log }: { clock: Clock; log: Logger },
): AsyncDisposable {
  const ending = new AbortController();
  const work = (async () => {
    while (!ending.signal.aborted) {
      await content.collect().catch((error: unknown) => log.warn('collection failed', { error }));
      await pause(clock, collectEveryMs, ending.signal);
    }
  })();
  return {
    async [Symbol.asyncDispose]() {
      ending.abort();
      await work;
    },
  };
}
