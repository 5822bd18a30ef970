/** What a simulated Pod has of its node. */
import type { EventRecorder } from '#client/events.ts';
import type { Clock, Random } from '#os/clock.ts';
import type { NodeImages } from './node-images.ts';
import type { Scripts } from './pod-script.ts';
import type { References } from './references.ts';
import type { SimPod } from './sim-pod.ts';

export interface SimPodHost {
  clock: Clock;
  random: Random;
  scripts: Scripts;
  /** Absent where nobody wants events. */
  recorder: EventRecorder | undefined;
  references: References;
  images: NodeImages;
  hostIp: string;
  allocatable: { cpu: number; memory: number; ephemeralStorage: number };
  /** How far the node's clock is ahead of the cluster's. */
  skewMs(): number;
  /** Each pull takes this long more. */
  pullDelayMs(): number;
  /** Why nothing can be written to the node's disk; undefined when it can. */
  diskProblem(): string | undefined;
  allocateIp(): string;
  /** The status changed: write it. */
  changed(pod: SimPod): void;
  /** All containers have stopped after a deletion: remove the object. */
  stopped(pod: SimPod): void;
  /** A container without a limit has used up the node's memory. */
  starved(): void;
}
