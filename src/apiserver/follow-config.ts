/** A configuration file that may change while the server runs. */
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { configPollMs } from './limits.ts';
import { readConfig } from './read-config.ts';

/**
 * Takes the file up now, and whenever its text is another. Throws what `take` throws the first time; later such a file
 * is told of, and what was taken before holds. Answers how to stop.
 */
export function followConfig(
  file: string,
  flag: string,
  { clock, log }: { clock: Clock; log: Logger },
  take: (text: string) => void,
): () => void {
  let last = readConfig(file, flag);
  take(last);
  const look = (): void => {
    try {
      const text = readConfig(file, flag);
      if (text !== last) {
        last = text;
        take(text);
        log.info('configuration is taken up', { file });
      }
    } catch (error) {
      log.error('configuration cannot be taken up; what was there before holds', { file, why: messageOf(error) });
    }
    timer = clock.setTimer(configPollMs, look, { background: true });
  };
  let timer = clock.setTimer(configPollMs, look, { background: true });
  return () => timer.cancel();
}
