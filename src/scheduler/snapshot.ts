/**
 * What one scheduling decision looks at: nodes with their Pods, claims and volumes, Namespaces, nominations. Read-only
 * for plans.
 */
import type { PersistentVolume, PersistentVolumeClaim } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import type { NodeInfo } from './node-info.ts';
import type { PodInfo } from './pod-info.ts';

export interface VolumeView {
  claim(namespace: string, name: string): PersistentVolumeClaim | undefined;
  volume(name: string): PersistentVolume | undefined;
  storageClass(name: string): StorageClass | undefined;
  /** Volumes that a claim of this class might bind. */
  unboundVolumes(storageClass: string): Iterable<PersistentVolume>;
  /** Volumes promised to claims by decisions whose writes are not seen yet. */
  isAssumed(volume: string): boolean;
}

export interface Snapshot {
  /** In a fixed order; sampling starts where the last decision ended. */
  nodes: readonly NodeInfo[];
  byName: ReadonlyMap<string, NodeInfo>;
  /** Whether any Pod anywhere has affinity terms: most clusters have none, and then nothing is looked through. */
  hasAffinity: boolean;
  hasRequiredAntiAffinity: boolean;
  namespaceLabels(namespace: string): Record<string, string>;
  volumes: VolumeView;
  /** Pods that were promised room on a node by preemption, by node. */
  nominated: ReadonlyMap<string, readonly PodInfo[]>;
  /** How many Pods of an owner each node holds, by the node's row; undefined: none anywhere. */
  ownedPods(owner: string): ReadonlyMap<number, number> | undefined;
  /** Nodes that hold an image, by image, for spreading the gain of locality. */
  imageNodes(image: string): number;
}
