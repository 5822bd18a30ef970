/**
 * `Cgroups` where none may be made: an engine without root on a host that has not delegated any. Containers have no
 * limits and no counters and cannot be frozen; their processes are found by whose children they are.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { Cgroups, CgroupStats } from './cgroups.ts';

const nothingCounted: CgroupStats = {
  cpuNanoseconds: 0,
  cpuUserNanoseconds: 0,
  cpuSystemNanoseconds: 0,
  cpuPeriods: 0,
  cpuThrottledPeriods: 0,
  cpuThrottledNanoseconds: 0,
  memoryUsageBytes: 0,
  memoryInactiveFileBytes: 0,
  memoryLimitBytes: 0,
  memoryMaxUsageBytes: 0,
  memorySwapBytes: 0,
  memoryStat: {},
  pids: 0,
  pidsLimit: 0,
  blockIo: [],
};

/** What began a container, by which its other processes are found. */
interface First {
  pid: number;
  monitorPid: number;
}

export function createProcessGroups(): Cgroups {
  const firsts = new Map<string, First>();
  const pids = (path: string): number[] => {
    const first = firsts.get(path);
    return first === undefined ? [] : processesOf(first);
  };
  return {
    mode: 'none',
    hybridMount: undefined,
    controllers: [],
    top: '',
    offers: () => false,
    create: () => undefined,
    applyLimits: (_path, limits) => Object.keys(limits).map((name) => `${name}: no control groups`),
    enter: () => Promise.resolve(),
    adopt: (path, first) => void firsts.set(path, first),
    stats: () => nothingCounted,
    memoryUsageBytes: () => 0,
    pids,
    killAll(path) {
      for (const pid of pids(path))
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // Gone.
        }
    },
    freeze: (_path, frozen) => (frozen ? Promise.reject(new ApiError('InternalError', noFreezer)) : Promise.resolve()),
    oomKilled: () => false,
    remove: (path) => firsts.delete(path) || true,
    list: () => [],
  };
}

const noFreezer = 'this engine may make no control groups: containers cannot be paused';

/** All below the monitor, to which orphans of the container come; and what was put into its own pid namespace. */
function processesOf({ pid, monitorPid }: First): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync('/proc')) {
    const parent = /^PPid:\s*(\d+)$/m.exec(
      (/^\d+$/.test(name) ? read(() => readFileSync(`/proc/${name}/status`, 'utf8')) : '') ?? '',
    );
    if (parent !== null) parents.set(Number(name), Number(parent[1]));
  }
  const isBelow = (each: number | undefined): boolean =>
    each !== undefined && (each === monitorPid || isBelow(parents.get(each)));
  const space = namespaceOf(pid);
  const isOwn = space !== undefined && space !== namespaceOf('self');
  return [...parents.keys()].filter(
    (each) => each !== monitorPid && (isBelow(parents.get(each)) || (isOwn && namespaceOf(each) === space)),
  );
}

function namespaceOf(pid: number | 'self'): string | undefined {
  return read(() => readlinkSync(`/proc/${pid}/ns/pid`));
}

/** Processes end while they are looked at. */
function read(file: () => string): string | undefined {
  try {
    return file();
  } catch {
    return undefined;
  }
}
