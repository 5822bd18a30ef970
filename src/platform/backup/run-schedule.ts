/** The server's part in scheduled backups (`schedule.ts`): begins each when it is due, and tells how it went. */
import type { EventRecorder } from '#client/events.ts';
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import { pause, type Clock } from '#os/clock.ts';
import type { Processes } from '#os/processes.ts';
import { commandLine } from '../launch.ts';
import { backupLookMs } from '../limits.ts';
import type { Paths } from '../paths.ts';
import { loadResult, loadSchedule, nextBackupMs, saveResult, type ScheduledResult } from './schedule.ts';

export interface ScheduleRunner {
  paths: Paths;
  clock: Clock;
  log: Logger;
  processes: Processes;
  recorder: EventRecorder;
  /** The machine's first node, which Events are about. */
  node: string;
}

/** Goes on until it is disposed of; what is being made then is told to end. */
export function runBackupSchedule(runner: ScheduleRunner): AsyncDisposable {
  const stop = new AbortController();
  const going = look(runner, stop.signal);
  return {
    async [Symbol.asyncDispose]() {
      stop.abort();
      await going;
    },
  };
}

async function look(runner: ScheduleRunner, signal: AbortSignal): Promise<void> {
  const { paths, clock, log } = runner;
  let said = '';
  while (!signal.aborted) {
    try {
      const schedule = loadSchedule(paths);
      if (schedule !== undefined && nextBackupMs(schedule, loadResult(paths), clock.now()) <= clock.now())
        await makeOne(runner, signal);
      said = '';
    } catch (error) {
      // The same every few seconds helps nobody.
      if (messageOf(error) !== said) log.error('backups cannot be scheduled', { error });
      said = messageOf(error);
    }
    await pause(clock, backupLookMs, signal);
  }
}

async function makeOne(
  { paths, clock, log, processes, recorder, node }: ScheduleRunner,
  signal: AbortSignal,
): Promise<void> {
  const before = loadResult(paths);
  const begunAtMs = clock.now();
  const child = processes.spawn(process.execPath, commandLine(['scheduled-backup']), {
    env: Object.fromEntries(
      Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    ),
    stdin: 'ignore',
    stdout: 'ignore',
    stderr: 'ignore',
  });
  const end = (): void => void processes.kill(child.pid, 'SIGTERM');
  signal.addEventListener('abort', end, { once: true });
  const { code } = await child.exit;
  signal.removeEventListener('abort', end);
  if (signal.aborted) return;
  let result: ScheduledResult = loadResult(paths) ?? { begunAtMs };
  if (code !== 0 && result.error === undefined) {
    // It ended before it could say why.
    result = {
      ...{ begunAtMs, endedAtMs: clock.now(), error: `the process ended with ${code}` },
      ...(before?.lastGoodAtMs === undefined ? {} : { lastGoodAtMs: before.lastGoodAtMs }),
    };
    saveResult(paths, result);
  }
  const about = { apiVersion: 'v1', kind: 'Node', name: node };
  if (result.error === undefined) {
    log.info('backup made', { ...result });
    recorder.event(about, 'Normal', 'BackupMade', `Backup ${result.name ?? ''} of revision ${result.revision ?? 0}`);
  } else {
    log.error('no backup was made', { error: result.error });
    recorder.event(about, 'Warning', 'BackupFailed', `No backup was made: ${result.error}`);
  }
}
