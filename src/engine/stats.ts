/** Numbers of a running container: its control group, and the links of its network namespace. */
import { readIfExists } from '#os/files.ts';
import type { CgroupStats } from '#os/cgroups.ts';
import type { Container } from './container.ts';
import type { ContainerStats } from './engine.ts';
import type { ContainerTable } from './container-table.ts';

export interface LinkCounters {
  name: string;
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}
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

/** /proc/PID/net/dev, without the loopback. */
function readLinks(pid: number): LinkCounters[] {
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

export function summariseStats(raw: RawStats): ContainerStats {
  const { cgroup, links } = raw;
  const sum = (pick: (link: LinkCounters) => number): number => links.reduce((total, link) => total + pick(link), 0);
  const io = (op: 'Read' | 'Write'): number =>
    cgroup.blockIo.filter((entry) => entry.op === op).reduce((total, entry) => total + entry.bytes, 0);
  return {
    cpuNanoseconds: cgroup.cpuNanoseconds,
    memoryUsageBytes: cgroup.memoryUsageBytes,
    memoryWorkingSetBytes: Math.max(0, cgroup.memoryUsageBytes - cgroup.memoryInactiveFileBytes),
    memoryLimitBytes: cgroup.memoryLimitBytes,
    pids: cgroup.pids,
    readAtMs: raw.readAtMs,
    rxBytes: sum((link) => link.rxBytes),
    txBytes: sum((link) => link.txBytes),
    blockReadBytes: io('Read'),
    blockWriteBytes: io('Write'),
  };
}
