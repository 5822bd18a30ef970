/**
 * What Pods take of their node's disk, and the bounds that they set to it themselves: `sizeLimit` of an emptyDir, and
 * limits of `ephemeral-storage`, of one container and of all together. Who exceeds one is evicted, whatever room the
 * node has left. An emptyDir in memory is bounded by the kernel.
 * Rules: Kubernetes documentation, "Local ephemeral storage / Managing local ephemeral storage".
 */
import type { Pod, Volume } from '#api/core.v1.ts';
import type { DiskUse } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { Lock } from '#base/gate.ts';
import { demandOf } from './admit.ts';
import { startedContainers } from './containers.ts';
import type { KubeletEngine, MountedVolumes, PodFiles, PodStorage } from './doors.ts';
import { storageCostFactor } from './limits.ts';
import { labelContainerName, labelPodUid } from './pod-labels.ts';
import { quantity } from './eviction.ts';
import { amount } from './qos.ts';

const resource = 'ephemeral-storage';

export interface StorageReading extends PodStorage {
  /** Milliseconds since 1970. */
  atMs: number;
  /** What containers wrote into their own file systems, by name; of all their runs that are kept. */
  roots: ReadonlyMap<string, DiskUse>;
}

export function sumOfUses(uses: Iterable<DiskUse>): DiskUse {
  const sum = { bytes: 0, inodes: 0 };
  for (const { bytes, inodes } of uses) {
    sum.bytes += bytes;
    sum.inodes += inodes;
  }
  return sum;
}

/** All that lies on the node's disk for the Pod; its claims are no part of it. */
export function storageOf({ volumes, logs, others, roots }: StorageReading): DiskUse {
  const onDisk = [...volumes.values()].filter(({ isOnDisk }) => isOnDisk);
  return sumOfUses([...onDisk, ...logs.values(), others, ...roots.values()]);
}

/** The claim that a volume shows: one that it names, or the one made for this very Pod. */
export function claimNameOf({ metadata }: Pod, { name, persistentVolumeClaim, ephemeral }: Volume): string | undefined {
  return persistentVolumeClaim?.claimName ?? (ephemeral === undefined ? undefined : `${metadata.name}-${name}`);
}

const containerLimit = ({ resources }: { resources?: { limits?: Record<string, string> } }): number | undefined => {
  const limit = amount(resources?.limits?.[resource]);
  return limit === 0 ? undefined : limit;
};
const sizeLimitOf = ({ emptyDir }: Volume): number => {
  const limit = emptyDir === undefined || emptyDir.medium === 'Memory' ? 0 : (amount(emptyDir.sizeLimit) ?? 0);
  return limit > 0 ? limit : Infinity;
};

/** Whether the Pod sets itself any such bound: others need not be measured for it. */
export function boundsStorage(pod: Pod): boolean {
  return (
    (pod.spec.volumes ?? []).some((volume) => sizeLimitOf(volume) < Infinity) || demandOf(pod, 'limits').has(resource)
  );
}

/** The bound that is exceeded, in the words of the eviction. `hasImageDisk`: containers write to another disk. */
export function exceededStorage(pod: Pod, reading: StorageReading, hasImageDisk: boolean): string | undefined {
  const { volumes, roots, logs } = reading;
  for (const volume of pod.spec.volumes ?? [])
    if ((volumes.get(volume.name)?.bytes ?? 0) > sizeLimitOf(volume))
      return `Usage of EmptyDir volume "${volume.name}" exceeds the limit "${volume.emptyDir?.sizeLimit}". `;
  const limit = demandOf(pod, 'limits').get(resource);
  if (limit !== undefined && storageOf(reading).bytes > limit)
    return `Pod ephemeral local storage usage exceeds the total limit of containers ${quantity(limit)}. `;
  for (const container of startedContainers(pod)) {
    const root = hasImageDisk ? undefined : roots.get(container.name);
    const used = (logs.get(container.name)?.bytes ?? 0) + (root?.bytes ?? 0);
    if (used > (containerLimit(container) ?? Infinity))
      return `Container ${container.name} exceeded its local ephemeral storage limit "${container.resources?.limits?.[resource]}". `;
  }
  return undefined;
}

/** A Pod and the volumes that it has by now. */
export interface Measured {
  readonly pod: Pod;
  readonly volumes: MountedVolumes | undefined;
}

/** Measures the Pods of a node, one at a time. */
export class StorageGauge {
  readonly #host: { clock: Clock; engine: KubeletEngine; files: PodFiles };
  readonly #known = new WeakMap<Measured, { reading: StorageReading; readMs: number; tookMs: number }>();
  readonly #lock = new Lock();

  constructor(host: { clock: Clock; engine: KubeletEngine; files: PodFiles }) {
    this.#host = host;
  }

  /** At most `ageMsMax` old, or as old as one that took long may be. */
  read(measured: Measured, ageMsMax: number): Promise<StorageReading> {
    return this.#lock.run(async () => {
      const { clock } = this.#host;
      const known = this.#known.get(measured);
      const beganMs = clock.monotonic();
      if (known !== undefined && beganMs - known.readMs < Math.max(ageMsMax, known.tookMs * storageCostFactor))
        return known.reading;
      const reading = await this.#measure(measured);
      const readMs = clock.monotonic();
      this.#known.set(measured, { reading, readMs, tookMs: readMs - beganMs });
      return reading;
    });
  }

  async #measure({ pod, volumes = new Map() }: Measured): Promise<StorageReading> {
    const { clock, engine, files } = this.#host;
    const stored = await files.storage(pod, volumes);
    const roots = new Map<string, DiskUse>();
    for (const { id, labels } of engine.containers.list({
      owner: 'kubelet',
      labels: { [labelPodUid]: pod.metadata.uid },
    })) {
      const name = labels[labelContainerName] ?? '';
      // One that is removed meanwhile takes nothing.
      const use = await engine.containers.diskUsage(id).catch(() => ({ bytes: 0, inodes: 0 }));
      roots.set(name, sumOfUses([roots.get(name) ?? { bytes: 0, inodes: 0 }, use]));
    }
    return { ...stored, roots, atMs: clock.now() };
  }
}
