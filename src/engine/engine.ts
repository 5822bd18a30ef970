/**
 * What the engine offers to its two users, the Docker façade and the kubelet. Neither knows the other.
 *
 * Words. A *container* is a root filesystem, a process configuration and a state, and belongs to an *owner*. A
 * *sandbox* holds the network,
 * IPC and UTS namespaces that a Pod's containers share, pinned by bind mounts so that they need no process. An *image*
 * is a manifest digest with names. A *monitor* (conmon) holds a container's terminal, log and exit status and outlives
 * the engine.
 *
 * Life of a container: `create` (root mounted lazily, record written) → `start` → exit → `remove`. A started container
 * survives the engine's
 * death; the next engine reads its record, finds its process or its exit file, and goes on. State: `created | running |
 * paused | restarting | removing | exited | dead`.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import type { Platform } from '#base/platform.ts';
import type { CgroupLimits } from '#os/cgroups.ts';

/** `plugin`: a managed one runs in it. */
export type Owner = 'docker' | 'kubelet' | 'build' | 'plugin';
export type ContainerState = 'created' | 'running' | 'paused' | 'restarting' | 'removing' | 'exited' | 'dead';

export interface Mount {
  type: 'bind' | 'tmpfs' | 'volume' | 'image';
  source: string;
  target: string;
  readOnly: boolean;
  /** Its options as docker shows them (`Mode`); undefined: not made by a request of docker's. */
  mode?: string;
  propagation?: 'private' | 'rslave' | 'rshared' | 'rprivate' | 'slave' | 'shared';
  tmpfsSizeBytes?: number;
  tmpfsMode?: number;
  /** Checked options for the kernel, in place of the usual ones (tmpfs-options.ts). */
  tmpfsOptions?: string[];
  /** Copy the image's content into an empty volume first. */
  populate?: boolean;
  /** Make a missing source directory, as `docker -v` does. */
  makeSource?: boolean;
  /** Of an image: the one that its source named when the container was made. */
  imageId?: string;
  /** Of a volume or an image: this directory or file in it. */
  subPath?: string;
  /** What is mounted below a read-only source is read-only too: where the kernel can, or not at all. */
  readOnlyBelow?: 'may' | 'must';
  /** Of a volume that has to be made. */
  volume?: { driver?: string; labels?: Record<string, string>; options?: Record<string, string> };
  /** Of a bind: what is mounted below the source does not come along. */
  nonRecursive?: boolean;
}

export interface DeviceRate {
  major: number;
  minor: number;
  rate: number;
}

/** Devices that a driver knows: by their ids, or so many of them (-1: all), with one of the lists of capabilities. */
export interface DeviceRequest {
  driver: string;
  count: number;
  ids: string[];
  capabilities: string[][];
  options: Record<string, string>;
}

export interface Resources {
  deviceRequests?: DeviceRequest[];
  cpuShares?: number;
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpusetCpus?: string;
  cpusetMems?: string;
  memoryLimitBytes?: number;
  memoryReservationBytes?: number;
  memorySwapBytes?: number;
  pidsMax?: number;
  oomScoreAdj?: number;
  devices?: { hostPath: string; containerPath: string; permissions: string }[];
  /** Devices that may be used without being put into /dev; `a` is both kinds, an absent number any. */
  deviceRules?: { type: 'a' | 'b' | 'c'; major?: number; minor?: number; access: string }[];
  memorySwappiness?: number;
  oomKillDisable?: boolean;
  tcpMemoryBytes?: number;
  cpuRealtimePeriodUs?: number;
  cpuRealtimeRuntimeUs?: number;
  /** Weight 0 is the kernel's default; rates are bytes or operations a second. */
  blockIo?: {
    weight: number;
    weights: { major: number; minor: number; weight: number }[];
    readBps: DeviceRate[];
    writeBps: DeviceRate[];
    readIops: DeviceRate[];
    writeIops: DeviceRate[];
  };
  ulimits?: { name: string; soft: number; hard: number }[];
}

export interface Security {
  /** Absent: docker's default profile. */
  privileged?: boolean;
  capAdd?: string[];
  capDrop?: string[];
  readOnlyRoot?: boolean;
  noNewPrivileges?: boolean;
  /** `default`, `unconfined`, or the JSON text of a profile. */
  seccomp?: string;
  /**
   * Name of an AppArmor profile, `unconfined`, or absent for the default; of no effect where the host has no AppArmor.
   */
  apparmor?: string;
  maskedPaths?: string[];
  readonlyPaths?: string[];
  /** Its own control group may be written to, by the container itself. */
  writableCgroups?: boolean;
}

/** Where a container's network comes from. */
export type NetworkMode =
  | { type: 'sandbox'; sandboxId: string }
  | { type: 'host' }
  | { type: 'none' }
  | { type: 'container'; containerId: string }
  /** docker networks by name; the first is the one that publishes ports. */
  | { type: 'networks' };

export interface ContainerSpec {
  id?: string;
  name: string;
  owner: Owner;
  image: string;
  /** Image id (`sha256:…` of the configuration) already resolved by the caller. */
  imageId: string;
  entrypoint?: string[];
  command?: string[];
  env: string[];
  workingDir?: string;
  /** `user[:group]` by name or number, resolved inside the container's root. */
  user?: string;
  groupAdd?: string[];
  /** Groups that the image gives its user are left out (`supplementalGroupsPolicy: Strict`). */
  strictGroups?: boolean;
  hostname?: string;
  tty: boolean;
  openStdin: boolean;
  stdinOnce: boolean;
  labels: Record<string, string>;
  mounts: Mount[];
  resources: Resources;
  security: Security;
  network: NetworkMode;
  pidMode?: { type: 'host' } | { type: 'container'; containerId: string };
  /** `shareable`: others may join; absent: its own, which nobody may join. */
  ipcMode?: { type: 'host' | 'shareable' | 'none' } | { type: 'container'; containerId: string };
  /** Sees and names the host as itself. */
  hostUts?: boolean;
  /** In the host's user namespace, also where others are not (user-mapping.ts). */
  hostUsers?: boolean;
  /** `container:alias` on the default bridge: names in /etc/hosts, and docker's old variables. */
  links?: string[];
  sysctls?: Record<string, string>;
  /** Absolute, below the cgroup root; a Pod's containers share a parent. Absent: the instance's own. */
  cgroupParent?: string;
  /**
   * Where the log goes. `path`: the kubelet's CRI-format file; absent: the engine's own (docker json-file semantics).
   */
  logPath?: string;
  logMaxBytes?: number;
  logMaxFiles?: number;
  /** Rotated files of the log but the newest are compressed. */
  logCompress?: boolean;
  /** Where the log goes besides its file, which may then be kept from being read. */
  logDriver?: { name: string; options: Record<string, string>; isUnreadable?: boolean };
  stopSignal?: string;
  /** Files generated by the caller that replace the engine's own /etc/hosts, /etc/hostname and /etc/resolv.conf. */
  etcFiles?: { hosts?: string; hostname?: string; resolvConf?: string };
  restartPolicy?: { name: 'no' | 'always' | 'unless-stopped' | 'on-failure'; maximumRetryCount?: number };
  autoRemove?: boolean;
  init?: boolean;
  /** Name of an OCI runtime of the configuration's; absent: the engine's own. */
  runtime?: string;
  shmSizeBytes?: number;
  /** Of its process, of commands in it and of health checks; absent: the runtime's. */
  umask?: number;
  /** Seconds that a stop waits before SIGKILL, where the caller of `stop` does not say. */
  stopTimeoutSeconds?: number;
  domainname?: string;
  /** Of the runtime's configuration, as they come. */
  annotations?: Record<string, string>;
  /** The terminal's size at the start. */
  consoleSize?: { width: number; height: number };
  /** Only with `network: {type: 'networks'}`. */
  networks?: NetworkAttachment[];
  ports?: PortBinding[];
  dns?: { servers: string[]; search: string[]; options: string[] };
  /** `name:address`, also `host-gateway` as the address. */
  extraHosts?: string[];
  /** `host` or `private`; absent: what fits the host's cgroup version. */
  cgroupNamespace?: 'host' | 'private';
  /** The façade's own request, kept to be shown by inspect; the engine does not read it. */
  request?: Record<string, unknown>;
}

export interface NetworkAttachment {
  network: string;
  aliases: string[];
  /** Addresses that were asked for, of version 4 and 6, and further ones that are good on the link alone. */
  ip?: string;
  ip6?: string;
  linkLocalIps?: string[];
  mac?: string;
  /** `container:alias`, known to this container alone. */ links?: string[];
  options?: Record<string, string>;
  /** The network with the highest one is the way out. */ gatewayPriority?: number;
}
/** Host port 0: any free one; `hostPortEnd` makes it a choice from a range. */
export interface PortBinding {
  hostIp: string;
  hostPort: number;
  hostPortEnd?: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  containerPort: number;
}

export interface ContainerStatus {
  id: string;
  name: string;
  owner: Owner;
  image: string;
  imageId: string;
  /** Of images that are mounted in it; absent: none. */
  mountedImageIds?: string[];
  state: ContainerState;
  pid: number;
  exitCode: number | undefined;
  /** Nobody saw how it ended: the machine went down under it. */
  isExitUnknown?: boolean;
  oomKilled: boolean;
  error: string;
  /** Milliseconds since 1970; 0 when it has not happened. */
  createdAtMs: number;
  startedAtMs: number;
  finishedAtMs: number;
  labels: Record<string, string>;
  restartCount: number;
  logPath: string;
  /** What it was given last. */
  resources: Resources;
}

export interface SandboxSpec {
  id: string;
  name: string;
  hostname: string;
  labels: Record<string, string>;
  /** `host` shares the node's network; `pod` gets its own namespace with an address of the node's Pod range. */
  network: 'pod' | 'host';
  hostPid?: boolean;
  hostIpc?: boolean;
  shareProcessNamespace?: boolean;
  sysctls?: Record<string, string>;
  /** Host ports that lead to the Pod; only with a network of its own. */
  ports?: PortBinding[];
  cgroupParent: string;
  /** Applied to `cgroupParent` as a whole. */
  resources?: Resources;
}
export interface SandboxStatus {
  id: string;
  name: string;
  ready: boolean;
  podIp: string;
  createdAtMs: number;
  labels: Record<string, string>;
  network: 'pod' | 'host';
  cgroupParent: string;
  /** What its control group was given last. */
  resources: Resources;
}

export interface ExecSpec {
  command: string[];
  env?: string[];
  user?: string;
  workingDir?: string;
  tty: boolean;
  privileged?: boolean;
  stdin?: boolean;
}
export interface Streams {
  stdin?: Readable;
  stdout?: Writable;
  stderr?: Writable;
  /** Terminal sizes as they change. */ resizes?: AsyncIterable<{ width: number; height: number }>;
}

export interface LogOptions {
  stdout: boolean;
  stderr: boolean;
  follow: boolean;
  /** Nanoseconds since 1970; both are included. */
  sinceNs?: bigint;
  untilNs?: bigint;
  /** Lines, whatever number of pieces they came in, of those that are wanted otherwise. */
  tailLines?: number;
  signal?: AbortSignal;
}
export interface LogLine {
  stream: 'stdout' | 'stderr';
  timestamp: string;
  /** Bytes as written, with the newline unless partial. */ data: Uint8Array;
  partial: boolean;
}

/** Of one link of a network namespace, since it is there. */
export interface LinkCounters {
  name: string;
  rxBytes: number;
  rxPackets: number;
  rxErrors: number;
  rxDropped: number;
  txBytes: number;
  txPackets: number;
  txErrors: number;
  txDropped: number;
}

/** What lies on a disk: bytes of its blocks, holes left out, and inodes. */
export interface DiskUse {
  bytes: number;
  inodes: number;
}

export interface ContainerStats {
  cpuNanoseconds: number;
  cpuUserNanoseconds: number;
  cpuSystemNanoseconds: number;
  /** Periods of a processor quota: those that began, and those in which it was used up. */
  cpuPeriods: number;
  cpuThrottledPeriods: number;
  cpuThrottledNanoseconds: number;
  memoryUsageBytes: number;
  memoryWorkingSetBytes: number;
  memoryMaxUsageBytes: number;
  memoryLimitBytes: number;
  /** Anonymous memory, that of files, and what is swapped out. */
  memoryRssBytes: number;
  memoryCacheBytes: number;
  memorySwapBytes: number;
  pids: number;
  readAtMs: number;
  /** Without the loopback; none where the network is the host's. */
  links: LinkCounters[];
  blockReadBytes: number;
  blockWriteBytes: number;
  blockReads: number;
  blockWrites: number;
}

export interface EngineEvent {
  type: 'container' | 'image' | 'network' | 'volume' | 'plugin' | 'daemon';
  action: string;
  id: string;
  attributes: Record<string, string>;
  /** Nanoseconds since 1970; no two events have the same, and later ones have more. */ timeNs: bigint;
  owner?: Owner;
}

export interface Containers {
  create(spec: ContainerSpec): Promise<string>;
  start(id: string): Promise<void>;
  /**
   * Sends `signal`, by default the container's stop signal, waits `timeoutMs`, then SIGKILL. Resolves when it has
   * exited.
   */
  stop(id: string, timeoutMs: number, signal?: number): Promise<void>;
  kill(id: string, signal: string): Promise<void>;
  remove(id: string, options?: { force?: boolean; volumes?: boolean }): Promise<void>;
  /**
   * Gives it other limits; a running one has them at once. What is not named stays; a quota or a memory limit of -1 is
   * none. Throws InternalError, and changes nothing that it says of the container, when the kernel refuses.
   */
  update(id: string, limits: CgroupLimits): Promise<void>;
  status(id: string): ContainerStatus | undefined;
  list(filter?: { owner?: Owner; labels?: Record<string, string> }): ContainerStatus[];
  /** Resolves with the exit code when it is not running. */
  wait(id: string, signal?: AbortSignal): Promise<number>;
  /** Runs a command in a running container; resolves with its exit code. */
  exec(id: string, spec: ExecSpec, streams: Streams, signal?: AbortSignal): Promise<number>;
  attach(id: string, streams: Streams, signal?: AbortSignal): Promise<void>;
  logs(id: string, options: LogOptions): AsyncIterable<LogLine>;
  stats(id: string): Promise<ContainerStats>;
  /** What it has written into its own root filesystem. */
  diskUsage(id: string): Promise<DiskUse>;
  /** Makes the log file anew after a rename by the caller (log rotation). */
  reopenLog(id: string): Promise<void>;
}

export interface Sandboxes {
  /** When the signal aborts, what has been made by then is taken away, and it rejects with the signal's reason. */
  create(spec: SandboxSpec, signal?: AbortSignal): Promise<SandboxStatus>;
  /** Gives the control group of the whole other limits, as `Containers.update` does. */
  update(id: string, limits: CgroupLimits): Promise<void>;
  /** Takes network, namespaces and cgroup away; a no-op when it is gone. */
  remove(id: string): Promise<void>;
  list(): SandboxStatus[];
  status(id: string): SandboxStatus | undefined;
  /**
   * A connection made inside the sandbox's network namespace, for port-forward and probes of host-unreachable ports.
   */
  connect(id: string, port: number): Promise<Duplex>;
}

export interface ImageSummary {
  id: string;
  names: string[];
  digests: string[];
  sizeBytes: number;
  createdAtMs: number;
  config: ImageConfig;
  /** What it is made for, where that is known. */
  platform?: Platform;
  /** None of an image that was never written down as one: a build's, before it is pushed. */
  manifest?: { mediaType: string; digest: string; size: number };
  /**
   * Only the kubelet brought it here, no user tagged it, and neither a lease nor a container needs it: the kubelet may
   * remove it.
   */
  isCollectable: boolean;
}
export interface ImageConfig {
  user: string;
  env: string[];
  entrypoint: string[];
  command: string[];
  workingDir: string;
  volumes: string[];
  exposedPorts: string[];
  stopSignal: string;
  labels: Record<string, string>;
  /** As the image has it: times in nanoseconds. */
  healthcheck?: {
    Test?: string[];
    Interval?: number;
    Timeout?: number;
    StartPeriod?: number;
    StartInterval?: number;
    Retries?: number;
  };
}
export interface RegistryCredential {
  username?: string;
  password?: string;
  identityToken?: string;
}

export interface Images {
  /**
   * By name (normalised as docker does), id, id prefix or digest; undefined when it is not here. `isWhole`: no
   * beginning of an id is meant. `platform`: the image for it, of what the name stands for.
   */
  find(reference: string, options?: { isWhole?: boolean; platform?: Platform }): ImageSummary | undefined;
  list(): ImageSummary[];
  /** Local first, then the platform's registry, mirrors, upstream. Throws ApiError NotFound as docker words it. */
  pull(
    reference: string,
    options?: {
      credential?: RegistryCredential;
      onProgress?: (event: Record<string, unknown>) => void;
      signal?: AbortSignal;
      /** Who asks; absent: a user. */ owner?: Owner;
    },
  ): Promise<ImageSummary>;
  remove(
    reference: string,
    options?: { force?: boolean; owner?: Owner },
  ): Promise<{ untagged: string[]; deleted: string[] }>;
  /**
   * Keeps an image from collection while a lease of this owner names it. `sync: false`: a loss of power may undo it,
   * and whoever asks finds that out.
   */
  lease(owner: Owner, imageId: string, holder: string, options?: { sync?: boolean }): Promise<void>;
  releaseLease(owner: Owner, holder: string, options?: { sync?: boolean }): Promise<void>;
  /** Of every owner. */
  releaseLeases(isStale: (holder: string) => boolean): Promise<void>;
}

export interface Engine extends AsyncDisposable {
  readonly containers: Containers;
  readonly sandboxes: Sandboxes;
  readonly images: Images;
  /** Events from now on; ends when the signal aborts. Synchronous callbacks, in order. */
  onEvent(listener: (event: EngineEvent) => void): () => void;
}
