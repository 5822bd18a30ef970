/**
 * Usage of the node and its containers, for whoever shows it (`summary.ts`, `resource-metrics.ts`,
 * `container-metrics.ts`). CPU rates come from two readings of the kernel's counters; between requests nothing is read.
 */
import type { ContainerStats, ContainerStatus, LinkCounters } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { labelPodUid } from './pod-labels.ts';
import type { Served } from './serving.ts';

export interface NodeUsage {
  cpuNanoseconds: number;
  memoryWorkingSetBytes: number;
  memoryAvailableBytes: number;
  memoryRssBytes: number;
  memoryBytes: number;
  swapUsedBytes: number;
  swapFreeBytes: number;
  /** Of the node's own network. */
  links: LinkCounters[];
  cores: number;
  readAtMs: number;
  bootedAtMs: number;
}
export interface StatsOptions extends Served {
  clock: Clock;
  nodeName: string;
  nodeUsage(): Promise<NodeUsage>;
}

interface Reading {
  atMs: number;
  cpuNanoseconds: number;
}
const readings = new WeakMap<object, Map<string, Reading[]>>();

/**
 * Nanocores since an earlier reading of the same thing, or on average since it began where there is none; keeps the
 * last few.
 */
export function rateOf(owner: object, key: string, now: Reading, beganMs: number): number {
  let byKey = readings.get(owner);
  if (byKey === undefined) {
    byKey = new Map();
    readings.set(owner, byKey);
  }
  const kept = byKey.get(key) ?? [];
  const base = kept.find((reading) => now.atMs - reading.atMs >= 500);
  byKey.set(
    key,
    [now, ...kept].filter((reading, index) => index === 0 || now.atMs - reading.atMs < 120_000).slice(0, 4),
  );
  if (base === undefined)
    return now.atMs - beganMs < 100 ? 0 : Math.round(now.cpuNanoseconds / ((now.atMs - beganMs) / 1000));
  return Math.max(0, Math.round((now.cpuNanoseconds - base.cpuNanoseconds) / ((now.atMs - base.atMs) / 1000)));
}

export interface Usage {
  container: ContainerStatus;
  stats: ContainerStats;
  nanoCores: number;
}

/** Of each Pod, by its UID. */
export function byPod(all: readonly Usage[]): Map<string, [Usage, ...Usage[]]> {
  const found = new Map<string, [Usage, ...Usage[]]>();
  for (const usage of all) {
    const uid = usage.container.labels[labelPodUid] ?? '';
    const known = found.get(uid);
    if (known === undefined) found.set(uid, [usage]);
    else known.push(usage);
  }
  return found;
}

/** Of the Pods' containers that run. */
export async function usages(options: StatsOptions): Promise<Usage[]> {
  const running = options.engine.containers
    .list({ owner: 'kubelet' })
    .filter((container) => container.state === 'running');
  const read = await Promise.all(
    running.map(async (container) => {
      const stats = await options.engine.containers.stats(container.id).catch(() => undefined);
      return stats === undefined
        ? undefined
        : {
            container,
            stats,
            nanoCores: rateOf(
              options.engine,
              container.id,
              { atMs: stats.readAtMs, cpuNanoseconds: stats.cpuNanoseconds },
              container.startedAtMs,
            ),
          };
    }),
  );
  return read.filter((entry) => entry !== undefined);
}
