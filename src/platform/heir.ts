/**
 * How a process takes the place of another one of the same part with next to no time between: it is started beside it
 * and loads its program; when it is ready to begin it ends the other one, and writes itself into the files that say who
 * is the part. Nobody else has a hand in it, so that whoever started it may be killed. While the other one still runs
 * an heir may end at any line: its supervisor starts it again only when it has begun to take over (`supervise.sh`).
 */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { realClock } from '#os/clock.real.ts';
import { listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Instance } from './instance.ts';
import { heirVariable, isSupervisor, partStatus, startPart, waitUntil } from './launch.ts';
import { heirStepMs, partStopTimeoutMs, replaceMsMax, replaceStartsMax } from './limits.ts';
import { files, makeDirectory, privateMode, type Paths } from './paths.ts';

/** Of this process: it was started beside one that still runs. */
export function isHeir(): boolean {
  return process.env[heirVariable] !== undefined;
}

/** Resolves when this process is the part, and the one before it is gone. At once where there was none. */
export async function inherit(paths: Paths, name: string): Promise<void> {
  if (!isHeir()) return;
  const before = partStatus(paths, name);
  const file = (kind: string): string => join(files.processes(paths), `${name}.${kind}`);
  const own = String(process.ppid);
  // From here on this one's supervisor starts it again, whatever happens.
  writeFileAtomic(file('supervisor'), `${own}\n`, { mode: 0o644 });
  const first = before.supervisor ?? before.pid;
  if (first !== undefined && String(first) !== own) await end(first, before.pid);
  writeFileAtomic(file('supervisor'), `${own}\n`, { mode: 0o644 });
  writeFileAtomic(file('pid'), `${process.pid}\n`, { mode: 0o644 });
  rmSync(files.heir(paths, name), { force: true });
  // What this process starts is nobody's heir.
  delete process.env[heirVariable];
}

async function end(first: number, pid: number | undefined): Promise<void> {
  const all = [first, ...(pid === undefined ? [] : [pid])].map((each) => ({
    pid: each,
    since: linuxProcesses.startTime(each),
  }));
  const gone = (): boolean =>
    all.every(({ pid: each, since }) => since === undefined || linuxProcesses.startTime(each) !== since);
  linuxProcesses.kill(first, 'SIGTERM');
  if (await waitUntil(realClock, partStopTimeoutMs, gone, heirStepMs)) return;
  for (const { pid: each } of all) linuxProcesses.kill(each, 'SIGKILL');
  await waitUntil(realClock, partStopTimeoutMs, gone, heirStepMs);
}

/** Ends what was started to take a part's place and has not done so: whoever started it was killed. */
export async function endHeirs(paths: Paths): Promise<void> {
  for (const name of listDirectory(files.heirs(paths))) {
    const pid = Number(readIfExists(files.heir(paths, name))?.trim());
    if (isSupervisor(paths, pid) && pid !== partStatus(paths, name).supervisor) await end(pid, undefined);
    rmSync(files.heir(paths, name), { force: true });
  }
}

/**
 * Starts a part anew beside the process that runs, and resolves when the new one is ready in its place. Rejects where
 * it does not come to that, and says whether the one before it goes on.
 */
export async function replacePart(instance: Instance, paths: Paths, name: string): Promise<void> {
  const heir = startPart(instance, paths, name, { isHeir: true });
  makeDirectory(files.heirs(paths), privateMode);
  writeFileAtomic(files.heir(paths, name), `${heir}\n`);
  const since = linuxProcesses.startTime(heir);
  const pids = new Set<number>();
  let status = partStatus(paths, name);
  const isDecided = (): boolean => {
    status = partStatus(paths, name);
    if (status.supervisor === heir && status.pid !== undefined) pids.add(status.pid);
    const isGone = since === undefined || linuxProcesses.startTime(heir) !== since;
    return (status.supervisor === heir && status.ready) || isGone || pids.size > replaceStartsMax;
  };
  await waitUntil(realClock, replaceMsMax, isDecided, heirStepMs);
  if (status.supervisor === heir && status.ready) return;
  if (status.supervisor !== heir) await endHeirs(paths);
  const log = join(files.logs(paths), `${name}.log`);
  throw new ApiError(
    'InternalError',
    `${name} does not start${status.supervisor === heir ? '' : '; the process that ran before goes on'}: the reason is in ${log}`,
  );
}
