/**
 * The control groups of this host behind one shape, whether it has version 1, version 2 or both (hybrid: the
 * controllers are where the version 1 mounts are). Groups are named by absolute paths within the hierarchy
 * (`/tiphys_1a2b/docker/ID`).
 *
 * What the host cannot do (a controller that is missing, a limit that it refuses) is skipped and told to `warn`.
 * Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst of the kernel.
 */
export interface CgroupLimits {
  cpuShares?: number;
  cpuQuotaUs?: number;
  cpuPeriodUs?: number;
  cpusetCpus?: string;
  cpusetMems?: string;
  memoryLimitBytes?: number;
  memoryReservationBytes?: number;
  memorySwapBytes?: number;
  pidsMax?: number;
  /** 10 to 1000, as version 1 has it. */
  blockIoWeight?: number;
  blockIoDevices?: BlockIoRule[];
}

/** A weight or a rate a second of one block device; 0 takes the rule away. */
export interface BlockIoRule {
  type: 'weight' | 'readBps' | 'writeBps' | 'readIops' | 'writeIops';
  major: number;
  minor: number;
  value: number;
}

export interface CgroupStats {
  cpuNanoseconds: number;
  cpuUserNanoseconds: number;
  cpuSystemNanoseconds: number;
  cpuPeriods: number;
  cpuThrottledPeriods: number;
  cpuThrottledNanoseconds: number;
  memoryUsageBytes: number;
  memoryInactiveFileBytes: number;
  memoryLimitBytes: number;
  memoryMaxUsageBytes: number;
  memorySwapBytes: number;
  memoryStat: Record<string, number>;
  pids: number;
  pidsLimit: number;
  blockIo: { major: number; minor: number; op: 'Read' | 'Write'; bytes: number; operations: number }[];
}

/**
 * The delegated unit of all containers where systemd runs, and its path in the hierarchy (`platform/systemd.ts` makes
 * it).
 */
export const containersUnit = 'tiphys-containers.service';
export const delegatedGroup = `/tiphys.slice/${containersUnit}`;

/**
 * Limits that not every kernel has: weights and rates of block devices, swappiness, no OOM killer, real-time budgets,
 * memory of TCP buffers.
 */
export type CgroupFeature =
  | 'blockIoWeight'
  | 'blockIoWeightDevice'
  | 'blockIoThrottle'
  | 'swappiness'
  | 'oomKillDisable'
  | 'realtime'
  | 'tcpMemory';

/** `none`: this engine may make no groups. */
export type CgroupMode = 'v1' | 'v2' | 'hybrid' | 'none';

export interface Cgroups {
  readonly mode: CgroupMode;
  /** The version 2 mount of a hybrid host that holds a controller: crun refuses to create there. */
  readonly hybridMount: string | undefined;
  readonly controllers: readonly string[];
  /** Where groups are made: empty for the hierarchy's own top, else the path of the unit that systemd has delegated. */
  readonly top: string;
  /** Whether groups of this host have the files of such a limit. */
  offers(feature: CgroupFeature): boolean;
  /** Makes a group in every hierarchy; what is there stays. */
  create(path: string, limits?: CgroupLimits): void;
  /** What the host refused, in words; empty when all holds. */
  applyLimits(path: string, limits: CgroupLimits): string[];
  /** Moves a process into a group, in every hierarchy; a process that is gone is no error. */
  enter(path: string, pid: number): Promise<void>;
  /** Says what began a container: the kernel knows the others of a group, and `none` has to look for them. */
  adopt(path: string, first: { pid: number; monitorPid: number }): void;
  /** Undefined when there is no such group. */
  stats(path: string): CgroupStats | undefined;
  memoryUsageBytes(path: string): number;
  /** Process ids in the group and below. */
  pids(path: string): number[];
  /** SIGKILL for everything in the group and below. */
  killAll(path: string): void;
  freeze(path: string, frozen: boolean): Promise<void>;
  /** True when the kernel has killed for want of memory. */
  oomKilled(path: string): boolean;
  /** Removes the group and those below, in every hierarchy; false when something is still in it. */
  remove(path: string): boolean;
  /** Groups directly below, in any hierarchy. */
  list(path: string): string[];
}
