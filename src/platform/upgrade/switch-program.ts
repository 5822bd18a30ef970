/**
 * How a machine comes to run another program, which it keeps (`program.ts`): the record says so (`record.ts`), and that
 * program's own `up --replace` starts the processes anew, each beside the one whose place it takes (`heir.ts`). Where
 * it does not start, the record says what ran before, and that program's `up --replace` mends what was replaced.
 * Whoever is killed on the way finds in the record what was begun; running it again finishes it.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { realClock } from '#os/clock.real.ts';
import { tryLock } from '#os/files.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { partNames, partStatus, waitUntil } from '../launch.ts';
import { heirStepMs, upgradeLockWaitMs } from '../limits.ts';
import { files, type Paths } from '../paths.ts';
import { describeProgram, findProgram, keepOnly, keepProgram, rootOf, type Program } from './program.ts';
import { loadRecord, saveRecord, type ProgramRecord } from './record.ts';

interface Switched {
  program: Program;
  /** What can be returned to. */
  previous?: Program;
  /** Nothing was to be done. */
  ranAlready: boolean;
}

/** One at a time on a machine. */
export async function withUpgradeLock<T>(paths: Paths, run: () => Promise<T>): Promise<T> {
  let lock = tryLock(files.upgradeLock(paths));
  // Whoever looks whether it is held holds it for a moment.
  await waitUntil(
    realClock,
    upgradeLockWaitMs,
    () => (lock ??= tryLock(files.upgradeLock(paths))) !== undefined,
    heirStepMs,
  );
  if (lock === undefined)
    throw new ApiError('Conflict', 'this machine is being upgraded by another command: wait until it has ended');
  try {
    return await run();
  } finally {
    lock.release();
  }
}

/** Whether an upgrade of this machine goes on. */
export function isUpgrading(paths: Paths): boolean {
  const lock = tryLock(files.upgradeLock(paths));
  lock?.release();
  return lock === undefined;
}

/** Where the program lies whose processes run here; undefined where none run. */
function runningRoots(paths: Paths): (string | undefined)[] {
  return partNames(paths)
    .filter((name) => name !== 'etcd')
    .map((name) => {
      const { pid } = partStatus(paths, name);
      return pid === undefined ? undefined : rootOfProcess(pid);
    });
}

function rootOfProcess(pid: number): string | undefined {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    return words.flatMap((word) => /^(\/.*)\/(?:src|dist)\/cli\/main\.[jt]s$/.exec(word)?.[1] ?? [])[0];
  } catch {
    // It has ended meanwhile.
    return undefined;
  }
}

/**
 * Keeps what ran before the first upgrade. Where that is in the directory of the new program it was changed in place,
 * and is not there any more.
 */
async function keepRunning(paths: Paths, next: Program): Promise<string | undefined> {
  const root = runningRoots(paths).find((each) => each !== undefined);
  const { id } = root === undefined ? next : await keepProgram(paths, root);
  return id === next.id ? undefined : id;
}

/** Resolves when all processes here are of the program, which is kept; rejects when they are what they were before. */
export async function switchProgram(paths: Paths, program: Program): Promise<Switched> {
  const record = loadRecord(paths);
  const root = rootOf(paths, program.id);
  if (record?.current === program.id && record.isBegun !== true && runningRoots(paths).every((each) => each === root))
    return { program, ...previousOf(paths, record), ranAlready: true };
  const before = record?.current ?? (await keepRunning(paths, program));
  const isNew = before !== program.id;
  const previous = isNew ? before : record?.previous;
  const { attempt } = record ?? {};
  const next: ProgramRecord = {
    current: program.id,
    ...(previous === undefined ? {} : { previous }),
    ...(attempt === undefined ? {} : { attempt }),
  };
  saveRecord(paths, { ...next, isBegun: true });
  const problem = await bringUpBy(paths, root);
  if (problem !== undefined) throw await goBack(paths, program, { previous, problem, record });
  saveRecord(paths, next);
  keepOnly(paths, [next.current, next.previous]);
  return { program, ...previousOf(paths, next), ranAlready: false };
}

function previousOf(paths: Paths, { previous: id }: ProgramRecord): { previous?: Program } {
  const previous = id === undefined ? undefined : findProgram(paths, id);
  return previous === undefined ? {} : { previous };
}

interface Failure {
  previous: string | undefined;
  problem: string;
  /** Of before. */
  record: ProgramRecord | undefined;
}

/** Answers what is to be said. */
async function goBack(paths: Paths, program: Program, { previous, problem, record }: Failure): Promise<ApiError> {
  const name = describeProgram(program);
  const before = previous === undefined ? undefined : findProgram(paths, previous);
  if (before === undefined)
    return new ApiError(
      'InternalError',
      `${name} does not start here: ${problem}. What ran before is not kept: start it from its own directory by 'tiphys upgrade'`,
    );
  const kept = record?.previous === before.id ? undefined : record?.previous;
  const failed = { id: program.id, reason: problem };
  const { attempt } = record ?? {};
  const restored = {
    current: before.id,
    ...(kept === undefined ? {} : { previous: kept }),
    ...(attempt === undefined ? {} : { attempt }),
    failed,
  };
  saveRecord(paths, { ...restored, isBegun: true });
  const second = await bringUpBy(paths, rootOf(paths, before.id));
  if (second !== undefined)
    return new ApiError(
      'InternalError',
      `${name} does not start here: ${problem}. Nor does ${describeProgram(before)}, which ran before: ${second}`,
    );
  saveRecord(paths, restored);
  return new ApiError(
    'InternalError',
    `${name} does not start here, and this machine runs ${describeProgram(before)} as before: ${problem}`,
  );
}

/** Answers why it could not. */
async function bringUpBy(paths: Paths, root: string): Promise<string | undefined> {
  // Another program's compiled code is not for it.
  const { NODE_COMPILE_CACHE: _cache, ...environment } = process.env;
  const env = Object.fromEntries(
    Object.entries(environment).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
  try {
    const { code, stderr, stdout } = await linuxProcesses.run(
      join(root, 'tiphys'),
      ['up', '--yes', '--replace', '--data', paths.data],
      { env },
    );
    if (code === 0) return undefined;
    const said = `${stdout}${stderr}`.trim().split('\n');
    return said.findLast((line) => line.startsWith('tiphys: '))?.slice('tiphys: '.length) ?? said.at(-1) ?? '';
  } catch (error) {
    return messageOf(error);
  }
}

/** What can be returned to, or why nothing can. */
export function programBefore(paths: Paths): Program {
  const record = loadRecord(paths);
  const { previous } = record === undefined ? {} : previousOf(paths, record);
  if (previous === undefined)
    throw new ApiError(
      'NotFound',
      "no program of before is kept on this machine: run 'tiphys upgrade' in a checkout of the version that you want",
    );
  return previous;
}
