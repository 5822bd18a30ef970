/**
 * `/metrics/cadvisor`: what the kernel counted of the node's containers and Pods, with cAdvisor's names and labels as
 * the kubelet has them (cAdvisor, "Monitoring cAdvisor with Prometheus"). A Pod's own series have no container; those
 * of its network are read in one of its containers, as all share it. What the kernel counts differently for each disk
 * and page fault is not shown.
 */
import { exposeMetrics, type Exposition } from '#observe/exposition.ts';
import { type Definition, Metrics } from '#observe/metrics.ts';
import type { ContainerStats, LinkCounters } from '#engine/engine.ts';
import { memoryLimitBytesMax } from './limits.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid } from './pod-labels.ts';
import { byPod, usages, type StatsOptions, type Usage } from './stats.ts';

interface Measure<T> {
  name: string;
  help: string;
  isGauge?: boolean;
  /** Further labels, and the values of them that every series has. */
  labels?: Readonly<Record<string, string>>;
  of(measured: T): number;
}

const seconds = (nanoseconds: number): number => nanoseconds / 1e9;

/** Of containers, and summed up of Pods. */
const common: readonly Measure<ContainerStats>[] = [
  {
    name: 'cpu_usage_seconds_total',
    help: 'Cumulative cpu time consumed in seconds.',
    labels: { cpu: 'total' },
    of: ({ cpuNanoseconds }) => seconds(cpuNanoseconds),
  },
  {
    name: 'cpu_user_seconds_total',
    help: 'Cumulative user cpu time consumed in seconds.',
    of: ({ cpuUserNanoseconds }) => seconds(cpuUserNanoseconds),
  },
  {
    name: 'cpu_system_seconds_total',
    help: 'Cumulative system cpu time consumed in seconds.',
    of: ({ cpuSystemNanoseconds }) => seconds(cpuSystemNanoseconds),
  },
  {
    name: 'memory_working_set_bytes',
    help: 'Current working set in bytes.',
    isGauge: true,
    of: ({ memoryWorkingSetBytes }) => memoryWorkingSetBytes,
  },
  {
    name: 'memory_usage_bytes',
    help: 'Current memory usage in bytes, including all memory regardless of when it was accessed',
    isGauge: true,
    of: ({ memoryUsageBytes }) => memoryUsageBytes,
  },
  { name: 'memory_rss', help: 'Size of RSS in bytes.', isGauge: true, of: ({ memoryRssBytes }) => memoryRssBytes },
  {
    name: 'memory_cache',
    help: 'Number of bytes of page cache memory.',
    isGauge: true,
    of: ({ memoryCacheBytes }) => memoryCacheBytes,
  },
  { name: 'memory_swap', help: 'Container swap usage in bytes.', isGauge: true, of: (stats) => stats.memorySwapBytes },
];

const ofContainers: readonly Measure<Usage>[] = [
  ...common.map(({ of, ...measure }) => ({ ...measure, of: ({ stats }: Usage) => of(stats) })),
  {
    name: 'memory_max_usage_bytes',
    help: 'Maximum memory usage recorded in bytes',
    isGauge: true,
    of: ({ stats }) => stats.memoryMaxUsageBytes,
  },
  {
    name: 'spec_memory_limit_bytes',
    help: 'Memory limit for the container; 0: none.',
    isGauge: true,
    of: ({ stats }) => (stats.memoryLimitBytes < memoryLimitBytesMax ? stats.memoryLimitBytes : 0),
  },
  {
    name: 'spec_cpu_shares',
    help: 'CPU share of the container.',
    isGauge: true,
    of: ({ container }) => container.resources.cpuShares ?? 0,
  },
  {
    name: 'spec_cpu_period',
    help: 'CPU period of the container.',
    isGauge: true,
    of: ({ container }) => container.resources.cpuPeriodUs ?? 0,
  },
  {
    name: 'spec_cpu_quota',
    help: 'CPU quota of the container; 0: none.',
    isGauge: true,
    of: ({ container }) => Math.max(0, container.resources.cpuQuotaUs ?? 0),
  },
  {
    name: 'cpu_cfs_periods_total',
    help: 'Number of elapsed enforcement period intervals.',
    of: ({ stats }) => stats.cpuPeriods,
  },
  {
    name: 'cpu_cfs_throttled_periods_total',
    help: 'Number of throttled period intervals.',
    of: ({ stats }) => stats.cpuThrottledPeriods,
  },
  {
    name: 'cpu_cfs_throttled_seconds_total',
    help: 'Total time duration the container has been throttled.',
    of: ({ stats }) => seconds(stats.cpuThrottledNanoseconds),
  },
  {
    name: 'fs_reads_bytes_total',
    help: 'Cumulative count of bytes read',
    labels: { device: '' },
    of: ({ stats }) => stats.blockReadBytes,
  },
  {
    name: 'fs_writes_bytes_total',
    help: 'Cumulative count of bytes written',
    labels: { device: '' },
    of: ({ stats }) => stats.blockWriteBytes,
  },
  {
    name: 'fs_reads_total',
    help: 'Cumulative count of reads completed',
    labels: { device: '' },
    of: ({ stats }) => stats.blockReads,
  },
  {
    name: 'fs_writes_total',
    help: 'Cumulative count of writes completed',
    labels: { device: '' },
    of: ({ stats }) => stats.blockWrites,
  },
  {
    name: 'threads',
    help: 'Number of threads running inside the container',
    isGauge: true,
    of: ({ stats }) => stats.pids,
  },
  {
    name: 'start_time_seconds',
    help: 'Start time of the container since unix epoch in seconds.',
    isGauge: true,
    of: ({ container }) => container.startedAtMs / 1000,
  },
  {
    name: 'last_seen',
    help: 'Last time a container was seen by the exporter',
    isGauge: true,
    of: ({ stats }) => Math.floor(stats.readAtMs / 1000),
  },
];

const ofLinks: readonly Measure<LinkCounters>[] = (
  [
    ['receive', 'bytes', 'rxBytes'],
    ['receive', 'packets', 'rxPackets'],
    ['receive', 'packets_dropped', 'rxDropped'],
    ['receive', 'errors', 'rxErrors'],
    ['transmit', 'bytes', 'txBytes'],
    ['transmit', 'packets', 'txPackets'],
    ['transmit', 'packets_dropped', 'txDropped'],
    ['transmit', 'errors', 'txErrors'],
  ] as const
).map(([way, what, field]) => ({
  name: `network_${way}_${what}_total`,
  help: `Cumulative count of ${what.replace('_', ' ')} (${way})`,
  of: (link) => link[field],
}));

/** What every series says of what it measures. */
const labelNames = ['container', 'id', 'image', 'name', 'namespace', 'pod'];

function labelsOf({ container }: Usage): string[] {
  const { id, image, name, labels } = container;
  return [
    labels[labelContainerName] ?? '',
    `${podGroup(labels[labelPodUid])}/${id}`,
    image,
    name,
    ...podLabelsOf(container),
  ];
}
const podGroup = (uid: string | undefined): string => `/kubepods/pod${uid}`;
const podLabelsOf = ({ labels }: Usage['container']): string[] => [
  labels[labelPodNamespace] ?? '',
  labels[labelPodName] ?? '',
];

class Shown {
  readonly metrics = new Metrics();
  readonly #families = new Map<string, { of(...labels: string[]): { value: number } }>();

  add<T>(
    { name, help, isGauge, labels = {}, of }: Measure<T>,
    values: string[],
    measured: T,
    more: string[] = [],
  ): void {
    const definition: Definition = {
      name: `container_${name}`,
      help,
      labels: [...labelNames, ...(more.length > 0 ? ['interface'] : []), ...Object.keys(labels)],
    };
    let family = this.#families.get(name);
    if (family === undefined) {
      family = isGauge === true ? this.metrics.gauge(definition) : this.metrics.counter(definition);
      this.#families.set(name, family);
    }
    family.of(...values, ...more, ...Object.values(labels)).value = of(measured);
  }
}

function showPod(shown: Shown, [first, ...others]: [Usage, ...Usage[]]): void {
  const { labels } = first.container;
  const values = ['', podGroup(labels[labelPodUid]), '', '', ...podLabelsOf(first.container)];
  for (const measure of common)
    shown.add(
      { ...measure, of: (all: Usage[]) => all.reduce((sum, { stats }) => sum + measure.of(stats), 0) },
      values,
      [first, ...others],
    );
  for (const link of first.stats.links) for (const measure of ofLinks) shown.add(measure, values, link, [link.name]);
}

export async function containerMetrics(options: StatsOptions): Promise<Exposition> {
  const [all, node] = await Promise.all([usages(options), options.nodeUsage()]);
  const shown = new Shown();
  const { metrics } = shown;
  metrics.gauge({ name: 'machine_cpu_cores', help: 'Number of logical CPU cores.' }).of().value = node.cores;
  metrics.gauge({ name: 'machine_memory_bytes', help: 'Amount of memory installed on the machine.' }).of().value =
    node.memoryBytes;
  for (const usage of all) for (const measure of ofContainers) shown.add(measure, labelsOf(usage), usage);
  for (const own of byPod(all).values()) showPod(shown, own);
  return exposeMetrics(metrics);
}
