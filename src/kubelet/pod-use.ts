/** What a Pod uses and has asked for of a resource that its node is short of. */
import type { DiskUse } from '#engine/engine.ts';
import type { KubeletEngine } from './doors.ts';
import type { EvictionCandidate, Starved } from './eviction.ts';
import { containerNamed } from './containers.ts';
import { type StorageGauge, storageOf } from './local-storage.ts';
import { labelContainerName, labelPodUid } from './pod-labels.ts';
import type { PodWorker } from './pod-worker.ts';
import { amount } from './qos.ts';

export interface PodUse extends EvictionCandidate {
  worker: PodWorker;
}

export interface UseReaders {
  engine: KubeletEngine;
  storage: StorageGauge;
}

export async function podUseOf(worker: PodWorker, resource: Starved, readers: UseReaders): Promise<PodUse> {
  const { pod } = worker;
  const use = await (resource === 'memory' || resource === 'pids'
    ? measureRunning(worker, resource, readers.engine)
    : measureStored(worker, resource, readers.storage));
  const containers = [...use.containers].map(([name, usage]) => {
    const request = amount(containerNamed(pod, name)?.resources?.requests?.[resource]) ?? 0;
    return { name, usage, request };
  });
  const request =
    worker.demand.resources.get(resource) ?? containers.reduce((total, container) => total + container.request, 0);
  return { worker, pod, containers, usage: use.total, request };
}

interface Use {
  total: number;
  /** By name. */
  containers: ReadonlyMap<string, number>;
}

async function measureRunning({ uid }: PodWorker, resource: 'memory' | 'pids', engine: KubeletEngine): Promise<Use> {
  const containers = new Map<string, number>();
  let total = 0;
  for (const { id, labels, state } of engine.containers.list({ owner: 'kubelet', labels: { [labelPodUid]: uid } })) {
    if (state !== 'running') continue;
    // One that cannot be measured uses nothing.
    const stats = await engine.containers.stats(id).catch(() => undefined);
    const usage = (resource === 'memory' ? stats?.memoryWorkingSetBytes : stats?.pids) ?? 0;
    containers.set(labels[labelContainerName] ?? '', usage);
    total += usage;
  }
  return { total, containers };
}

async function measureStored(
  worker: PodWorker,
  resource: 'ephemeral-storage' | 'inodes',
  storage: StorageGauge,
): Promise<Use> {
  const of = ({ bytes, inodes }: DiskUse): number => (resource === 'inodes' ? inodes : bytes);
  const reading = await storage.read(worker, 0);
  const containers = new Map([...reading.roots].map(([name, use]) => [name, of(use)]));
  return { total: of(storageOf(reading)), containers };
}
