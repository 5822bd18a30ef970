/**
 * Usage of the node, its Pods and containers: the Summary API (`/stats/summary`) and Prometheus text
 * (`/metrics/resource`). CPU rates come from two readings of the kernel's counters; between requests nothing is read.
 */
import type { ContainerStats, ContainerStatus } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid } from './pod-labels.ts';
import type { Served } from './serving.ts';

export interface NodeUsage {
  cpuNanoseconds: number;
  memoryWorkingSetBytes: number;
  memoryAvailableBytes: number;
  memoryBytes: number;
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
function rateOf(owner: object, key: string, now: Reading, beganMs: number): number {
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

export async function statsSummary(options: StatsOptions): Promise<object> {
  const [all, node] = await Promise.all([usages(options), options.nodeUsage()]);
  const time = (ms: number): string => new Date(ms).toISOString();
  const nodeCores = rateOf(
    options.engine,
    'node',
    { atMs: node.readAtMs, cpuNanoseconds: node.cpuNanoseconds },
    node.bootedAtMs,
  );
  const byPod = new Map<string, Usage[]>();
  for (const usage of all) {
    const uid = usage.container.labels[labelPodUid]!;
    byPod.set(uid, [...(byPod.get(uid) ?? []), usage]);
  }
  return {
    node: {
      nodeName: options.nodeName,
      startTime: time(0),
      cpu: { time: time(node.readAtMs), usageNanoCores: nodeCores, usageCoreNanoSeconds: node.cpuNanoseconds },
      memory: {
        time: time(node.readAtMs),
        availableBytes: node.memoryAvailableBytes,
        workingSetBytes: node.memoryWorkingSetBytes,
        usageBytes: node.memoryWorkingSetBytes,
      },
    },
    pods: [...byPod].map(([uid, list]) => ({
      podRef: {
        name: list[0]!.container.labels[labelPodName],
        namespace: list[0]!.container.labels[labelPodNamespace],
        uid,
      },
      startTime: time(Math.min(...list.map((usage) => usage.container.startedAtMs))),
      containers: list.map(({ container, stats, nanoCores }) => ({
        name: container.labels[labelContainerName],
        startTime: time(container.startedAtMs),
        cpu: { time: time(stats.readAtMs), usageNanoCores: nanoCores, usageCoreNanoSeconds: stats.cpuNanoseconds },
        memory: {
          time: time(stats.readAtMs),
          usageBytes: stats.memoryUsageBytes,
          workingSetBytes: stats.memoryWorkingSetBytes,
        },
      })),
      cpu: {
        time: time(list[0]!.stats.readAtMs),
        usageNanoCores: list.reduce((sum, usage) => sum + usage.nanoCores, 0),
        usageCoreNanoSeconds: list.reduce((sum, usage) => sum + usage.stats.cpuNanoseconds, 0),
      },
      memory: {
        time: time(list[0]!.stats.readAtMs),
        workingSetBytes: list.reduce((sum, usage) => sum + usage.stats.memoryWorkingSetBytes, 0),
      },
    })),
  };
}

export async function resourceMetrics(options: StatsOptions): Promise<string> {
  const [all, node] = await Promise.all([usages(options), options.nodeUsage()]);
  const lines = [
    '# TYPE node_cpu_usage_seconds_total counter',
    `node_cpu_usage_seconds_total ${node.cpuNanoseconds / 1e9} ${node.readAtMs}`,
    '# TYPE node_memory_working_set_bytes gauge',
    `node_memory_working_set_bytes ${node.memoryWorkingSetBytes} ${node.readAtMs}`,
  ];
  const labels = (usage: Usage): string =>
    `container="${usage.container.labels[labelContainerName]}",namespace="${usage.container.labels[labelPodNamespace]}",pod="${usage.container.labels[labelPodName]}"`;
  lines.push(
    '# TYPE container_cpu_usage_seconds_total counter',
    ...all.map(
      (usage) =>
        `container_cpu_usage_seconds_total{${labels(usage)}} ${usage.stats.cpuNanoseconds / 1e9} ${usage.stats.readAtMs}`,
    ),
  );
  lines.push(
    '# TYPE container_memory_working_set_bytes gauge',
    ...all.map(
      (usage) =>
        `container_memory_working_set_bytes{${labels(usage)}} ${usage.stats.memoryWorkingSetBytes} ${usage.stats.readAtMs}`,
    ),
  );
  lines.push(
    '# TYPE container_start_time_seconds gauge',
    ...all.map((usage) => `container_start_time_seconds{${labels(usage)}} ${usage.container.startedAtMs / 1000}`),
  );
  return `${lines.join('\n')}\n`;
}
