/**
 * `/metrics/resource`: processor, memory and swap of the node, its Pods and their containers, with the moment of each
 * reading; and the figures of claims in `/metrics` (Kubernetes documentation, "Kubernetes Metrics Reference").
 */
import { exposeMetrics, type Exposition } from '#observe/exposition.ts';
import { Metrics } from '#observe/metrics.ts';
import { labelContainerName, labelPodName, labelPodNamespace } from './pod-labels.ts';
import type { FileSystemReading } from './doors.ts';
import { claimNameOf } from './local-storage.ts';
import { byPod, type NodeUsage, type StatsOptions, type Usage, usages } from './stats.ts';

interface Sample {
  labels: Readonly<Record<string, string>>;
  value: number;
  atMs?: number;
}

const seconds = (nanoseconds: number): number => nanoseconds / 1e9;
// What names may hold needs no escapes.
const textOf = (labels: Sample['labels']): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${value}"`)
    .join(',');

function family(name: string, help: string, type: 'counter' | 'gauge', samples: readonly Sample[]): string[] {
  if (samples.length === 0) return [];
  const lines = samples.map(({ labels, value, atMs }) => {
    const shown = textOf(labels);
    return `${name}${shown === '' ? '' : `{${shown}}`} ${value}${atMs === undefined ? '' : ` ${Math.floor(atMs)}`}`;
  });
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...lines];
}

const labelsOfPod = ({ container: { labels } }: Usage): Record<string, string> => ({
  namespace: labels[labelPodNamespace] ?? '',
  pod: labels[labelPodName] ?? '',
});

export async function resourceMetrics(options: StatsOptions): Promise<string> {
  // Who scrapes is told by a figure.
  const read = await Promise.all([usages(options), options.nodeUsage()]).catch(() => undefined);
  const scraped = family('resource_scrape_error', '1 if usage could not be read, 0 otherwise', 'gauge', [
    { labels: {}, value: read === undefined ? 1 : 0 },
  ]);
  return [...(read === undefined ? [] : usageOf(...read)), ...scraped, ''].join('\n');
}

function usageOf(all: readonly Usage[], node: NodeUsage): string[] {
  const ofNode = (value: number): Sample[] => [{ labels: {}, value, atMs: node.readAtMs }];
  const ofContainers = (of: (usage: Usage) => number, isTimed = true): Sample[] =>
    all.map((usage) => ({
      labels: { container: usage.container.labels[labelContainerName] ?? '', ...labelsOfPod(usage) },
      value: of(usage),
      ...(isTimed ? { atMs: usage.stats.readAtMs } : {}),
    }));
  const pods = [...byPod(all).values()];
  const ofPods = (of: (usage: Usage) => number): Sample[] =>
    pods.map((own) => ({
      labels: labelsOfPod(own[0]),
      value: own.reduce((sum, usage) => sum + of(usage), 0),
      atMs: own[0].stats.readAtMs,
    }));
  const cpu = ({ stats }: Usage): number => seconds(stats.cpuNanoseconds);
  const memory = ({ stats }: Usage): number => stats.memoryWorkingSetBytes;
  const swap = ({ stats }: Usage): number => stats.memorySwapBytes;
  const ofCpu = (what: string): string => `Cumulative cpu time consumed by the ${what} in core-seconds`;
  const ofMemory = (what: string): string => `Current working set of the ${what} in bytes`;
  const ofSwap = (what: string): string => `Current swap usage of the ${what} in bytes`;
  return [
    ...family('container_cpu_usage_seconds_total', ofCpu('container'), 'counter', ofContainers(cpu)),
    ...family('container_memory_working_set_bytes', ofMemory('container'), 'gauge', ofContainers(memory)),
    ...family(
      'container_start_time_seconds',
      'Start time of the container since unix epoch in seconds',
      'gauge',
      ofContainers(({ container }) => container.startedAtMs / 1000, false),
    ),
    ...family('container_swap_usage_bytes', ofSwap('container'), 'gauge', ofContainers(swap)),
    ...family('node_cpu_usage_seconds_total', ofCpu('node'), 'counter', ofNode(seconds(node.cpuNanoseconds))),
    ...family('node_memory_working_set_bytes', ofMemory('node'), 'gauge', ofNode(node.memoryWorkingSetBytes)),
    ...family('node_swap_usage_bytes', ofSwap('node'), 'gauge', ofNode(node.swapUsedBytes)),
    ...family('pod_cpu_usage_seconds_total', ofCpu('pod'), 'counter', ofPods(cpu)),
    ...family('pod_memory_working_set_bytes', ofMemory('pod'), 'gauge', ofPods(memory)),
    ...family('pod_swap_usage_bytes', ofSwap('pod'), 'gauge', ofPods(swap)),
  ];
}

const claimFigures: readonly [name: string, help: string, field: keyof FileSystemReading][] = [
  ['capacity_bytes', 'Capacity in bytes of the volume', 'capacityBytes'],
  ['available_bytes', 'Number of available bytes in the volume', 'availableBytes'],
  ['inodes', 'Maximum number of inodes in the volume', 'inodes'],
  ['inodes_free', 'Number of free inodes in the volume', 'inodesFree'],
];

/** `kubelet_volume_stats_*` of the claims that Pods of this node have mounted. */
export async function claimMetrics({ kubelet }: StatsOptions): Promise<Exposition> {
  const metrics = new Metrics();
  const labels = ['namespace', 'persistentvolumeclaim'];
  const define = (name: string, help: string): ReturnType<Metrics['gauge']> =>
    metrics.gauge({ name: `kubelet_volume_stats_${name}`, help, labels });
  const families = claimFigures.map(([name, help, field]) => ({ family: define(name, help), field }));
  const used = define('used_bytes', 'Number of used bytes in the volume');
  const inodesUsed = define('inodes_used', 'Number of used inodes in the volume');
  for (const pod of kubelet.pods()) {
    const claims = (pod.spec.volumes ?? []).filter((volume) => claimNameOf(pod, volume) !== undefined);
    const storage = claims.length === 0 ? undefined : await kubelet.storage(pod.metadata.uid);
    for (const volume of claims) {
      const disk = storage?.claims.get(volume.name);
      if (disk === undefined) continue;
      const of = [pod.metadata.namespace, claimNameOf(pod, volume) ?? ''];
      for (const { family: each, field } of families) each.of(...of).value = disk[field];
      used.of(...of).value = disk.capacityBytes - disk.availableBytes;
      inodesUsed.of(...of).value = disk.inodes - disk.inodesFree;
    }
  }
  return exposeMetrics(metrics);
}
