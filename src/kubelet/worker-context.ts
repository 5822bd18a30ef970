/** What the workers of a node's Pods are given: doors, settings, and ways back to the kubelet. */
import type { Json, KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import type { Engine } from '#engine/engine.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import type { DnsSettings } from './container-spec.ts';
import type { ImageManager } from './images.ts';
import type { KubeletPaths } from './names.ts';
import type { VolumeSources } from './volumes.ts';

export interface PodEvents {
  event(type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void;
}

/** What all workers of a node share. */
export interface WorkerContext {
  client: Client;
  engine: Engine;
  clock: Clock;
  random: Random;
  log: Logger;
  paths: KubeletPaths;
  hostIp: string;
  nodeMemoryBytes: number;
  /** The instance's own cgroup. */
  cgroupRoot: string;
  nodeAllocatable: { cpu: number; memory: number; ephemeralStorage: number };
  dns: DnsSettings;
  images: ImageManager;
  volumeSources(holder: string): VolumeSources;
  services(): readonly KubeObject[];
  eventsFor(pod: KubeObject): PodEvents;
  /** Sends a status; resolves with the Pod as stored, or undefined when it is gone. */
  writeStatus(pod: KubeObject, status: Json): Promise<KubeObject | undefined>;
  /** Tells the API server that the Pod has ended and may be removed. */
  confirmDeleted(pod: KubeObject): Promise<void>;
  onGone(uid: string): void;
}
