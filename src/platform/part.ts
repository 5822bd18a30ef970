/** How a process of the platform begins and ends, whichever it is. */
import { createLogger, type Logger } from '#observe/log.ts';
import { Metrics } from '#observe/metrics.ts';
import { measureProcess } from '#observe/process-metrics.ts';
import { realClock } from '#os/clock.real.ts';
import { processUsage } from '#os/process-usage.linux.ts';
import { loadInstance, type Instance } from './instance.ts';
import { pathsOfPart } from './launch.ts';
import type { Paths } from './paths.ts';
import { writeLogLine } from './process-log.ts';

export interface Part {
  paths: Paths;
  instance: Instance;
  log: Logger;
  /** What this process measures. */
  metrics: Metrics;
  /** Everything that was started, for the end. */
  stack: AsyncDisposableStack;
}

/** How long what was started has to stop. */
const stopMsMax = 5_000;

/** On SIGTERM and SIGINT what is on the stack is taken down, and the process ends. */
export function beginPart(name: string): Part {
  const paths = pathsOfPart();
  const instance = loadInstance(paths);
  if (instance === undefined) throw new Error(`no instance in ${paths.data}`);
  const level = process.env['TIPHYS_DEBUG'] === undefined ? 'info' : 'debug';
  const log = createLogger(() => realClock.now(), writeLogLine, level, name);
  process.on('unhandledRejection', (error) => log.error('unhandled rejection', { error: error as Error }));
  const stack = new AsyncDisposableStack();
  let isEnding = false;
  const end = (signal: string): void => {
    if (isEnding) return;
    isEnding = true;
    log.info('stopping', { signal });
    realClock.setTimer(stopMsMax, () => process.exit(0), { background: true });
    void stack
      .disposeAsync()
      .catch((error: unknown) => log.error('stop', { error }))
      .finally(() => process.exit(0));
  };
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  const metrics = new Metrics();
  measureProcess(metrics, processUsage);
  return { paths, instance, log, metrics, stack };
}
