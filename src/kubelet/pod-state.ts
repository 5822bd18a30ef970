/**
 * What a worker knows of its Pod between two passes. All of it may be lost: containers carry their Pod and attempt in
 * labels, so a new kubelet goes on where the last one stopped.
 */
import type { Pod } from '#api/core.v1.ts';
import type { SandboxStatus } from '#engine/engine.ts';
import type { Timer } from '#os/clock.ts';
import type { MountedVolumes, PodHost } from './doors.ts';
import { Interruption } from './interruption.ts';
import { memoryFromStatus, type Memory, type Observed } from './container-memory.ts';
import type { PodPlan } from './pod-plan.ts';
import type { Allocation, ResizeState } from './resize.ts';
import { allocatedPod, firstAllocation, firstResizeState } from './resize.ts';
import type { Refusal } from './status.ts';

/** What the next status is made of. */
export interface Report {
  observed: Observed;
  plan: PodPlan | undefined;
  sandbox: SandboxStatus | undefined;
  failed?: Refusal | undefined;
  /** Everything has stopped for good. */
  terminal?: boolean;
}

/** The Pod fails by the node's will, once its containers have stopped. */
export interface Failing {
  refusal: Refusal;
  graceMs: number;
}

export interface PodState {
  /** The newest version that is known. */
  pod: Pod;
  /** What the node has given it room for; the Pod may ask for other resources by now. */
  allocation: Allocation;
  readonly resize: ResizeState;
  readonly uid: string;
  readonly host: PodHost;
  readonly memory: Memory;
  readonly startedAtMs: number;
  /** It was being stopped already when this worker began. */
  readonly isTakenOver: boolean;
  isAdopted: boolean;
  /** Gone from the API. */
  isDeleted: boolean;
  refused: Refusal | undefined;
  failing: Failing | undefined;
  hasFailed: boolean;
  /** On the monotonic clock; set once the Pod was asked to go. */
  stopDueMs: number | undefined;
  /** Grows when a stop that is under way is to end sooner. */
  onShorterGrace: ((dueMs: number) => void) | undefined;
  volumes: MountedVolumes | undefined;
  areVolumesStale: boolean;
  errorRetryMs: number;
  /** Probes by container, with the attempt that they look at. */
  readonly probes: Map<string, { attempt: string; probes: { cancel(): void }[] }>;
  /** Termination messages by container id. */
  messages: Map<string, string> | undefined;
  /** Ids of containers that were told to stop, and of those whose preStop hook has run. */
  killed: Set<string> | undefined;
  hooked: Set<string> | undefined;
  /** The container that is being started, and what ends the wait for it. */
  starting: { name: string; image: string; interruption: Interruption } | undefined;
  /** Ends the waits of the pass that runs. */
  interruption: Interruption;
  /** Work of the engine's that nobody waits for any more. */
  readonly leftovers: Promise<unknown>[];
  /** Due when the kubelet ends. */
  readonly stop: Interruption;
  report: Report | undefined;
  isDirty: boolean;
  writing: Promise<void> | undefined;
  /** A version that came while a status was being written. */
  unseen: Pod | undefined;
  /** resourceVersion of the last own write. */
  lastWritten: string | undefined;
  deadlineTimer: Timer | undefined;
  /** Asks for another pass. */
  wake(): void;
}

export function newPodState(pod: Pod, host: PodHost, wake: () => void): PodState {
  const leftovers: Promise<unknown>[] = [];
  return {
    pod,
    allocation: firstAllocation(pod),
    resize: firstResizeState(pod),
    uid: pod.metadata.uid,
    host,
    memory: memoryFromStatus(pod),
    startedAtMs: host.clock.now(),
    isTakenOver: pod.metadata.deletionTimestamp !== undefined && pod.status?.startTime !== undefined,
    isAdopted: false,
    isDeleted: false,
    refused: undefined,
    failing: undefined,
    hasFailed: false,
    stopDueMs: undefined,
    onShorterGrace: undefined,
    volumes: undefined,
    areVolumesStale: false,
    errorRetryMs: 0,
    probes: new Map(),
    messages: undefined,
    killed: undefined,
    hooked: undefined,
    starting: undefined,
    interruption: new Interruption(leftovers),
    leftovers,
    stop: new Interruption(leftovers),
    report: undefined,
    isDirty: false,
    writing: undefined,
    unseen: undefined,
    lastWritten: undefined,
    deadlineTimer: undefined,
    wake,
  };
}

/** The Pod as it runs: with what is allocated to it. */
export function podAsAllocated({ pod, allocation }: PodState): Pod {
  return allocatedPod(pod, allocation);
}

/** The Pod is on its way out: nothing of it starts any more. */
export function isEnding({ pod, isDeleted, failing, stop }: PodState): boolean {
  return isDeleted || failing !== undefined || stop.isDue || pod.metadata.deletionTimestamp !== undefined;
}

export function isTerminal(pod: Pod): boolean {
  const phase: string | undefined = pod.status?.phase;
  return phase === 'Succeeded' || phase === 'Failed';
}

/** Milliseconds that the Pod may still be active; undefined without a deadline. */
export function deadlineLeftMs({ pod, startedAtMs, host }: PodState): number | undefined {
  const seconds: number | undefined = pod.spec.activeDeadlineSeconds;
  if (seconds === undefined) return undefined;
  const startMs = pod.status?.startTime === undefined ? startedAtMs : Date.parse(pod.status.startTime);
  return Math.max(0, startMs + seconds * 1000 - host.clock.now());
}
