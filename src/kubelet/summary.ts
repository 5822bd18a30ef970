/**
 * `/stats/summary`: what the node, its Pods and their containers and volumes use, in the shapes of the Summary API
 * (`k8s.io/kubelet/pkg/apis/stats/v1alpha1`). Page faults and pressure stalls are not shown.
 */
import type { Pod } from '#api/core.v1.ts';
import type { ContainerStats, DiskUse, LinkCounters } from '#engine/engine.ts';
import type { FileSystemReading, NodeReading } from './doors.ts';
import { memoryLimitBytesMax } from './limits.ts';
import { claimNameOf, type StorageReading, storageOf } from './local-storage.ts';
import { labelContainerName, labelPodName, labelPodNamespace, labelPodUid } from './pod-labels.ts';
import { byPod, rateOf, type StatsOptions, type Usage, usages } from './stats.ts';

const timeOf = (ms: number): string => new Date(ms).toISOString();

interface Cpu {
  time: string;
  usageNanoCores: number;
  usageCoreNanoSeconds: number;
}
interface Memory {
  time: string;
  workingSetBytes: number;
  usageBytes: number;
  rssBytes: number;
  availableBytes?: number;
}
/** Of what is used, or of the file system that it lies on. */
interface Fs {
  time: string;
  availableBytes: number;
  capacityBytes: number;
  usedBytes: number;
  inodesFree: number;
  inodes: number;
  inodesUsed: number;
}

function fsOf(disk: FileSystemReading, atMs: number, used?: DiskUse): Fs {
  const { capacityBytes, availableBytes, inodes, inodesFree } = disk;
  const { bytes, inodes: inodesUsed } = used ?? {
    bytes: capacityBytes - availableBytes,
    inodes: inodes - inodesFree,
  };
  return { time: timeOf(atMs), availableBytes, capacityBytes, usedBytes: bytes, inodesFree, inodes, inodesUsed };
}

function sumOf<T>(all: readonly T[], of: (each: T) => number): number {
  return all.reduce((sum, each) => sum + of(each), 0);
}

function cpuOf(all: readonly Usage[]): Cpu {
  return {
    time: timeOf(Math.max(...all.map(({ stats }) => stats.readAtMs))),
    usageNanoCores: sumOf(all, ({ nanoCores }) => nanoCores),
    usageCoreNanoSeconds: sumOf(all, ({ stats }) => stats.cpuNanoseconds),
  };
}

/** What is available is known where all have a limit. */
function memoryOf(all: readonly Usage[]): Memory {
  const of = (field: 'memoryWorkingSetBytes' | 'memoryUsageBytes' | 'memoryRssBytes' | 'memoryLimitBytes'): number =>
    sumOf(all, ({ stats }) => stats[field]);
  const isLimited = all.every(
    ({ stats }) => stats.memoryLimitBytes > 0 && stats.memoryLimitBytes < memoryLimitBytesMax,
  );
  const workingSetBytes = of('memoryWorkingSetBytes');
  return {
    time: timeOf(Math.max(...all.map(({ stats }) => stats.readAtMs))),
    ...(isLimited ? { availableBytes: Math.max(0, of('memoryLimitBytes') - workingSetBytes) } : {}),
    usageBytes: of('memoryUsageBytes'),
    workingSetBytes,
    rssBytes: of('memoryRssBytes'),
  };
}

function swapOf(all: readonly { stats: Pick<ContainerStats, 'memorySwapBytes' | 'readAtMs'> }[]): object {
  const readAtMs = Math.max(...all.map(({ stats }) => stats.readAtMs));
  return { time: timeOf(readAtMs), swapUsageBytes: sumOf(all, ({ stats }) => stats.memorySwapBytes) };
}

function networkOf(links: readonly LinkCounters[], readAtMs: number): object | undefined {
  const interfaces = links.map(({ name, rxBytes, rxErrors, txBytes, txErrors }) => ({
    name,
    rxBytes,
    rxErrors,
    txBytes,
    txErrors,
  }));
  if (interfaces.length === 0) return undefined;
  return { time: timeOf(readAtMs), ...interfaces[0], interfaces };
}

/** What there is of disk, for containers and for the rest. */
interface Disks {
  nodefs: FileSystemReading;
  imagefs: FileSystemReading;
}

function containerOf(usage: Usage, storage: StorageReading | undefined, { nodefs, imagefs }: Disks): object {
  const { container } = usage;
  const name = container.labels[labelContainerName] ?? '';
  const none = { bytes: 0, inodes: 0 };
  return {
    name,
    startTime: timeOf(container.startedAtMs),
    cpu: cpuOf([usage]),
    memory: memoryOf([usage]),
    ...(storage === undefined
      ? {}
      : {
          rootfs: fsOf(imagefs, storage.atMs, storage.roots.get(name) ?? none),
          logs: fsOf(nodefs, storage.atMs, storage.logs.get(name) ?? none),
        }),
    swap: swapOf([usage]),
  };
}

function volumesOf(pod: Pod, { volumes, claims, atMs }: StorageReading, { nodefs }: Disks): object[] {
  const { namespace } = pod.metadata;
  return (pod.spec.volumes ?? []).flatMap((volume) => {
    const { name } = volume;
    const own = volumes.get(name);
    if (own !== undefined) return [{ ...fsOf(nodefs, atMs, own), name }];
    const disk = claims.get(name);
    if (disk === undefined) return [];
    return [{ ...fsOf(disk, atMs), name, pvcRef: { name: claimNameOf(pod, volume), namespace } }];
  });
}

function podOf(
  all: readonly [Usage, ...Usage[]],
  pod: Pod | undefined,
  storage: StorageReading | undefined,
  disks: Disks,
): object {
  const [{ container, stats }] = all;
  return {
    podRef: {
      name: container.labels[labelPodName],
      namespace: container.labels[labelPodNamespace],
      uid: container.labels[labelPodUid],
    },
    startTime: pod?.status?.startTime ?? timeOf(Math.min(...all.map((each) => each.container.startedAtMs))),
    containers: all.map((usage) => containerOf(usage, storage, disks)),
    cpu: cpuOf(all),
    memory: memoryOf(all),
    network: networkOf(stats.links, stats.readAtMs),
    ...(storage === undefined
      ? {}
      : {
          volume: pod === undefined ? [] : volumesOf(pod, storage, disks),
          'ephemeral-storage': fsOf(disks.nodefs, storage.atMs, storageOf(storage)),
        }),
    process_stats: { process_count: sumOf(all, (each) => each.stats.pids) },
    swap: swapOf(all),
  };
}

/** `onlyUse`: of processor and memory; nothing of disks is measured then. */
export async function statsSummary(options: StatsOptions, onlyUse: boolean): Promise<object> {
  const { kubelet, engine, nodeName, clock } = options;
  const [all, node, reading] = await Promise.all([usages(options), options.nodeUsage(), kubelet.reading()]);
  const disks = { nodefs: reading.nodefs, imagefs: reading.imagefs ?? reading.nodefs };
  const pods: object[] = [];
  const known = new Map(kubelet.pods().map((pod) => [pod.metadata.uid, pod]));
  for (const [uid, own] of byPod(all)) {
    const storage = onlyUse ? undefined : await kubelet.storage(uid);
    pods.push(podOf(own, known.get(uid), storage, disks));
  }
  const nanoCores = rateOf(
    engine,
    'node',
    { atMs: node.readAtMs, cpuNanoseconds: node.cpuNanoseconds },
    node.bootedAtMs,
  );
  return {
    node: {
      nodeName,
      startTime: timeOf(node.bootedAtMs),
      cpu: { time: timeOf(node.readAtMs), usageNanoCores: nanoCores, usageCoreNanoSeconds: node.cpuNanoseconds },
      memory: {
        time: timeOf(node.readAtMs),
        availableBytes: node.memoryAvailableBytes,
        workingSetBytes: node.memoryWorkingSetBytes,
        usageBytes: node.memoryWorkingSetBytes,
        rssBytes: node.memoryRssBytes,
      },
      network: networkOf(node.links, node.readAtMs),
      swap: { time: timeOf(node.readAtMs), swapUsageBytes: node.swapUsedBytes, swapAvailableBytes: node.swapFreeBytes },
      ...nodeDisks(reading, disks, clock.now()),
    },
    pods,
  };
}

function nodeDisks({ pidsMax, pidsUsed }: NodeReading, { nodefs, imagefs }: Disks, atMs: number): object {
  return {
    fs: fsOf(nodefs, atMs),
    runtime: { imageFs: fsOf(imagefs, atMs), containerFs: fsOf(imagefs, atMs) },
    rlimit: { time: timeOf(atMs), maxpid: pidsMax, curproc: pidsUsed },
  };
}
