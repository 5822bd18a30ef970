/**
 * What a kubelet stands on. It decides; what it decides is done behind these doors, so that the same kubelet runs on a
 * Linux node (`linux-node.ts`) and in the simulation (`src/sim/sim-node.ts`):
 *
 * - the *engine*: containers, sandboxes and images, by the contract of `engine/engine.ts`;
 * - *files*: the Pods' volumes and what else lies on disk for them;
 * - the *node*: what it is (`NodeFacts`), what it has left (`NodeGauge`), how often it looks (`Rhythm`), and how a
 *   container is asked whether it is well (`Prober`).
 */
import type { LifecycleHandler, Node, Pod, PodStatus, Service } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import type { KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import type { EventRecorder } from '#client/events.ts';
import type { InformerHandler } from '#client/informer.ts';
import type { Containers, DiskUse, Engine, Images, ImageSummary, Mount, Sandboxes } from '#engine/engine.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { ReferencedObjects } from './env.ts';
import type { PodDemand } from './admit.ts';
import type { Interruption } from './interruption.ts';
import type { ResizePending } from './resize.ts';
import type { NodeFacts } from './node-status.ts';

/** The part of the engine that a kubelet uses. */
export interface KubeletEngine extends Pick<Engine, 'onEvent'> {
  readonly containers: Pick<
    Containers,
    | 'create'
    | 'start'
    | 'stop'
    | 'kill'
    | 'remove'
    | 'update'
    | 'status'
    | 'list'
    | 'wait'
    | 'exec'
    | 'logs'
    | 'stats'
    | 'diskUsage'
  >;
  readonly sandboxes: Pick<Sandboxes, 'create' | 'remove' | 'update' | 'list' | 'status'>;
  readonly images: Pick<Images, 'list' | 'remove' | 'lease' | 'releaseLease'>;
}

/** Where the image of a container comes from. */
export interface ImageSource {
  /** The image, where it is on the node. Throws ApiError BadRequest where the name is none. */
  find(pod: Pod, container: AnyContainer): ImageSummary | undefined;
  /** Brings it; rejects with the signal's reason when that aborts, and leaves others who wait for it alone. */
  pull(pod: Pod, container: AnyContainer, signal: AbortSignal): Promise<ImageSummary>;
}

/** A volume as containers bind it: host path by volume name. */
export type MountedVolumes = ReadonlyMap<string, { path: string; readOnly: boolean }>;

export interface ContainerFilesInput {
  pod: Pod;
  container: AnyContainer;
  restartCount: number;
  environment: ReadonlyMap<string, string>;
  volumes: MountedVolumes;
  podIp: string;
}
/** What lies on the node for one start of a container. */
export interface ContainerFiles {
  mounts: Mount[];
  etcFiles: { hosts?: string; hostname?: string; resolvConf?: string };
  logPath: string;
  /** `default`, `unconfined`, or the JSON text of a profile. */
  seccomp: string;
}

/** What a Pod has on its node, beside what its containers write into their own file systems. */
export interface PodStorage {
  /** By volume, of those that were made for the Pod; `isOnDisk`: not in memory. */
  volumes: ReadonlyMap<string, DiskUse & { isOnDisk: boolean }>;
  /** By volume: the file system that a claim lies on. */
  claims: ReadonlyMap<string, FileSystemReading>;
  /** By container. */
  logs: ReadonlyMap<string, DiskUse>;
  /** Its `/etc/hosts`, termination messages and the like. */
  others: DiskUse;
}

export interface PodFiles {
  /** Makes what all Pods share. */
  open(): Promise<void>;
  /**
   * Makes every volume of the Pod; safe to repeat, and repeating it brings projected content up to date. Throws an
   * ApiError `MountVolume.SetUp failed for volume …`.
   */
  mountVolumes(pod: Pod, podIp: string): Promise<MountedVolumes>;
  /** ConfigMaps and Secrets that the Pod's environment is made of. */
  objectsFor(pod: Pod): ReferencedObjects;
  /** Throws an ApiError or a WaitingError where the container cannot be made as its Pod says. */
  prepareContainer(input: ContainerFilesInput): Promise<ContainerFiles>;
  /** What a run of a container has left to say; empty when nothing. */
  readTerminationMessage(uid: string, container: string, restartCount: number): Promise<string>;
  /** What lies on the node for the Pod, whose volumes these are. */
  storage(pod: Pod, volumes: MountedVolumes): Promise<PodStorage>;
  /** Takes all of a Pod's volumes and files away; claims and host paths keep their content. */
  removePod(pod: Pod): Promise<void>;
  /** UIDs of Pods that have left files. */
  podsWithFiles(): Promise<string[]>;
  /** Calls back with the UIDs of Pods whose volumes' content may have changed. */
  onChange(listener: (uids: string[]) => void): void;
  close(): void;
}

export type ProbeKind = 'Startup' | 'Readiness' | 'Liveness';

export interface ActionResult {
  ok: boolean;
  message: string;
  /** The action could not be tried at all. */
  unknown?: boolean;
}
/** The run of a container that an action or a probe is for. */
export interface ActionTarget {
  containerId: string;
  podIp: string;
  pod: Pod;
  container: AnyContainer;
}
export interface ProbeListener {
  /** One look is over: what came of it, and how long it took. */
  looked?(result: 'successful' | 'failed' | 'unknown', tookMs: number): void;
  /** One look has failed. */
  failed(message: string): void;
  /** As many looks alike as the threshold asks for; the first verdict, and each that differs. */
  decided(ok: boolean): void;
}

export interface Prober {
  /** Whether a run of the container waits for a verdict of this kind, or lives by it. */
  isAsked(kind: ProbeKind, target: Pick<ActionTarget, 'containerId' | 'container'>): boolean;
  /** Looks at a run that began at `startedAtMs` (ms since 1970), until it is cancelled. */
  start(kind: ProbeKind, target: ActionTarget, startedAtMs: number, listener: ProbeListener): { cancel(): void };
  /** Runs a hook once. */
  act(action: LifecycleHandler, target: ActionTarget, timeoutMs: number, signal: AbortSignal): Promise<ActionResult>;
}

/** What a file system has, in bytes and inodes; `inodes` is 0 where there is no limit to them. */
export interface FileSystemReading {
  capacityBytes: number;
  availableBytes: number;
  inodes: number;
  inodesFree: number;
}
export interface NodeReading {
  memoryCapacityBytes: number;
  memoryAvailableBytes: number;
  /** Where Pods, their volumes and their logs lie. */
  nodefs: FileSystemReading;
  /** Where images and writable layers lie, if that is another file system. */
  imagefs?: FileSystemReading;
  pidsMax: number;
  pidsUsed: number;
}
export interface NodeGauge {
  read(): Promise<NodeReading>;
}

/** What a kubelet does again and again. */
export type Recurring = 'lease' | 'node status' | 'pressure' | 'image collection' | 'volume refresh';
export interface Rhythm {
  /** Runs it at once and then every `periodMs`, or - in a simulation - when there is a reason to. */
  every(what: Recurring, periodMs: number, run: () => Promise<void>): Timer;
}

/** A followed kind: an informer, or a part of one. */
export interface Followed<T extends KubeObject> {
  start(): void;
  readonly synced: Promise<void>;
  list(): T[];
  addHandler(handler: InformerHandler<T>): { remove(): void };
}

export interface DnsSettings {
  clusterDns: string;
  clusterDomain: string;
  /** The node's own resolv.conf text. */
  hostResolvConf: string;
}

/** Why a Pod's worker looks at it: it is new, its object has changed, it ends, or something of it has happened. */
export type PodPass = 'create' | 'update' | 'kill' | 'sync';

export interface KubeletOptions {
  client: Client;
  /** Pods bound to this node. */
  pods: Followed<Pod>;
  /** The node's own object. */
  self: Followed<Node>;
  /** Shared with the node's network part; Pods start when they are known. */
  services: Pick<Followed<Service>, 'synced' | 'list'>;
  /** Absent where nobody wants events. */
  recorder: EventRecorder | undefined;
  engine: KubeletEngine;
  images: ImageSource;
  files: PodFiles;
  prober: Prober;
  gauge: NodeGauge;
  rhythm: Rhythm;
  clock: Clock;
  random: Random;
  log: Logger;
  facts: NodeFacts;
  /** How long the node's Lease holds; it is renewed four times as often. */
  leaseSeconds?: number | undefined;
  /** Pods' cgroups lie below this one. */
  cgroupRoot: string;
  dns: DnsSettings;
  /**
   * Resolves when the network policies that select a Pod hold for its address: its containers start after that. Absent
   * where the network knows no policies.
   */
  isolate?(pod: Pod, podIp: string): Promise<void>;
  /** Told of each look at a Pod when it is over, also when it has failed. */
  onPass?(operation: PodPass, durationMs: number): void;
}

/** Brings the image of a container, by its pull policy, with the back-offs of the node's Pods (`images.ts`). */
export interface ImageManager {
  /** Rejects with `Interrupted` when that comes first: nothing has failed then. */
  ensure(pod: Pod, container: AnyContainer, interruption: Interruption): Promise<ImageSummary>;
}

/** What a Pod's worker is given by the kubelet, beside the doors. */
export interface PodHost extends Pick<
  KubeletOptions,
  'engine' | 'files' | 'prober' | 'clock' | 'log' | 'cgroupRoot' | 'dns' | 'isolate' | 'onPass'
> {
  images: ImageManager;
  api: PodApi;
  hostIp: string;
  memoryBytes: number;
  allocatable: { cpu: number; memory: number; ephemeralStorage: number };
  onGone(uid: string): void;
  /**
   * Gives a Pod that is here its new place, if the node has it: `demand` is what it is to take. Undefined: it has it.
   */
  takeResize(uid: string, demand: PodDemand): ResizePending | undefined;
}

/** What an event is about: a Pod, or one of its containers. */
export interface PodPart {
  pod: Pod;
  container?: string | undefined;
}

/** What a worker asks of and tells the API server. */
export interface PodApi {
  services(): readonly Service[];
  /** Records an event. */
  tell(about: PodPart, type: 'Normal' | 'Warning', reason: string, message: string): void;
  checkRuntimeClass(pod: Pod): Promise<void>;
  /** Throws ApiError Conflict where `pod` is not the newest version, NotFound where it is gone. */
  updateStatus(pod: Pod, status: PodStatus): Promise<Pod>;
  /** The newest version; undefined when this Pod is gone. */
  read(pod: Pod): Promise<Pod | undefined>;
  /** Tells the API server that the Pod has ended and may be removed. */
  confirmDeleted(pod: Pod, signal: AbortSignal): Promise<void>;
}
