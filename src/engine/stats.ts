/** Numbers of a running container: its control group, and the links of its network namespace. */
import { readIfExists } from '#os/files.ts';
import type { CgroupStats } from '#os/cgroups.ts';
import type { Container } from './container.ts';
import type { ContainerStats, LinkCounters } from './engine.ts';
import type { ContainerTable } from './container-table.ts';

export interface RawStats {
  cgroup: CgroupStats;
  links: LinkCounters[];
  readAtMs: number;
}

/** Undefined when it does not run. */
export function readStats(table: ContainerTable, container: Container): RawStats | undefined {
  const run = container.record.run;
  if (run === undefined || !container.isRunning) return undefined;
  const cgroup = table.context.os.cgroups.stats(run.cgroup);
  if (cgroup === undefined) return undefined;
  const hasOwnNetwork = container.record.spec.network.type !== 'host';
  return { cgroup, links: hasOwnNetwork ? readLinks(run.pid) : [], readAtMs: table.context.clock.now() };
}

/** /proc/PID/net/dev, without the loopback; `self`: of this process. */
export function readLinks(pid: number | 'self'): LinkCounters[] {
  return (readIfExists(`/proc/${pid}/net/dev`) ?? '')
    .split('\n')
    .slice(2)
    .flatMap((line) => {
      const at = line.indexOf(':');
      const name = line.slice(0, at).trim();
      if (at < 0 || name === 'lo') return [];
      const n = line
        .slice(at + 1)
        .trim()
        .split(/\s+/)
        .map(Number);
      return [
        {
          name,
          rxBytes: n[0] ?? 0,
          rxPackets: n[1] ?? 0,
          rxErrors: n[2] ?? 0,
          rxDropped: n[3] ?? 0,
          txBytes: n[8] ?? 0,
          txPackets: n[9] ?? 0,
          txErrors: n[10] ?? 0,
          txDropped: n[11] ?? 0,
        },
      ];
    });
}

export function summariseStats({ cgroup, links, readAtMs }: RawStats): ContainerStats {
  const sum = (op: 'Read' | 'Write', of: 'bytes' | 'operations'): number =>
    cgroup.blockIo.filter((entry) => entry.op === op).reduce((total, entry) => total + entry[of], 0);
  // What the two versions of control groups call it.
  const memory = (...names: string[]): number =>
    names.map((name) => cgroup.memoryStat[name]).find(Number.isFinite) ?? 0;
  return {
    cpuNanoseconds: cgroup.cpuNanoseconds,
    cpuUserNanoseconds: cgroup.cpuUserNanoseconds,
    cpuSystemNanoseconds: cgroup.cpuSystemNanoseconds,
    cpuPeriods: cgroup.cpuPeriods,
    cpuThrottledPeriods: cgroup.cpuThrottledPeriods,
    cpuThrottledNanoseconds: cgroup.cpuThrottledNanoseconds,
    memoryUsageBytes: cgroup.memoryUsageBytes,
    memoryWorkingSetBytes: Math.max(0, cgroup.memoryUsageBytes - cgroup.memoryInactiveFileBytes),
    memoryMaxUsageBytes: cgroup.memoryMaxUsageBytes,
    memoryLimitBytes: cgroup.memoryLimitBytes,
    memoryRssBytes: memory('total_rss', 'anon'),
    memoryCacheBytes: memory('total_cache', 'file'),
    memorySwapBytes: cgroup.memorySwapBytes,
    pids: cgroup.pids,
    readAtMs,
    links,
    blockReadBytes: sum('Read', 'bytes'),
    blockWriteBytes: sum('Write', 'bytes'),
    blockReads: sum('Read', 'operations'),
    blockWrites: sum('Write', 'operations'),
  };
}
