/** What a Pod uses and has asked for of a resource that its node is short of. */
import type { KubeletEngine, PodFiles } from './doors.ts';
import type { EvictionCandidate, Starved } from './eviction.ts';
import { containerNamed } from './containers.ts';
import { labelContainerName, labelPodUid } from './pod-labels.ts';
import type { PodWorker } from './pod-worker.ts';
import { amount } from './qos.ts';

export interface PodUse extends EvictionCandidate {
  worker: PodWorker;
}

/** A container that cannot be measured uses nothing. Inodes are not counted by Pod: priority decides. */
export async function podUseOf(
  worker: PodWorker,
  resource: Starved,
  { engine, files }: { engine: KubeletEngine; files: PodFiles },
): Promise<PodUse> {
  const { pod, uid } = worker;
  const running = engine.containers
    .list({ owner: 'kubelet', labels: { [labelPodUid]: uid } })
    .filter(({ state }) => state === 'running');
  const containers = await Promise.all(
    running.map(async ({ id, labels }) => {
      const name = labels[labelContainerName]!;
      const spec = containerNamed(pod, name);
      const usage = await usageOf(engine, id, resource).catch(() => 0);
      return { name, usage, request: amount(spec?.resources?.requests?.[resource]) ?? 0 };
    }),
  );
  const own = resource === 'ephemeral-storage' ? await files.diskUsage(pod) : 0;
  const sum = (of: (each: { usage: number; request: number }) => number): number =>
    containers.reduce((total, each) => total + of(each), 0);
  const request = worker.demand.resources.get(resource) ?? sum((each) => each.request);
  return { worker, pod, containers, usage: own + sum((each) => each.usage), request };
}

async function usageOf(engine: KubeletEngine, id: string, resource: Starved): Promise<number> {
  switch (resource) {
    case 'memory':
      return (await engine.containers.stats(id)).memoryWorkingSetBytes;
    case 'pids':
      return (await engine.containers.stats(id)).pids;
    case 'ephemeral-storage':
      return engine.containers.diskUsage(id);
    case 'inodes':
      return 0;
  }
}
