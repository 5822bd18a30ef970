/**
 * What a node does when it runs short of memory, disk, inodes or processes: its conditions say so at once, and until
 * there is enough again one Pod is evicted every 10 s. For disk, dead containers and unused images go first, and a Pod
 * only if that was not enough by the next look. A condition for which Pods were evicted holds for 5 minutes after the
 * last sign of it, so that they do not come back to be evicted again; another one for a moment.
 *
 * It looks when it is told to (`look`), and every 10 s while a condition holds. Memory is what the kernel calls
 * available, so that caches count as free; a file system is measured as it is, and one that images share with Pods is
 * measured once, by the bound of the node's.
 * Rules: Kubernetes documentation, "Node-pressure Eviction" (thresholds of the kubelet's defaults).
 */
import type { NodeCondition } from '#api/core.v1.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import type { FileSystemReading, NodeGauge, NodeReading } from './doors.ts';
import { evictionMessage, rankForEviction, type EvictionCandidate, type Starved } from './eviction.ts';
import {
  evictionIntervalMs,
  imagefsAvailablePercentMin,
  imagefsInodesFreePercentMin,
  memoryAvailableBytesMin,
  nodefsAvailablePercentMin,
  nodefsInodesFreePercentMin,
  pidsAvailablePercentMin,
  pressureReliefMs,
  pressureTransitionMs,
} from './limits.ts';
import type { Pressure } from './node-status.ts';

/** A resource that is short: what there is, and what there should be at least. */
export interface Shortage {
  condition: keyof Pressure;
  resource: Starved;
  threshold: number;
  available: number;
}

/** In the order in which they are acted on: memory first. Pure. */
export function shortagesOf(reading: NodeReading): Shortage[] {
  const { memoryAvailableBytes, nodefs, imagefs, pidsMax, pidsUsed } = reading;
  const found: Shortage[] = [];
  const look = (condition: keyof Pressure, resource: Starved, threshold: number, available: number): void => {
    if (available < threshold) found.push({ condition, resource, threshold, available });
  };
  const lookAt = (disk: FileSystemReading, bytesPercent: number, inodesPercent: number): void => {
    look('disk', 'ephemeral-storage', (disk.capacityBytes * bytesPercent) / 100, disk.availableBytes);
    look('disk', 'inodes', Math.floor((disk.inodes * inodesPercent) / 100), disk.inodesFree);
  };
  look('memory', 'memory', memoryAvailableBytesMin, memoryAvailableBytes);
  lookAt(nodefs, nodefsAvailablePercentMin, nodefsInodesFreePercentMin);
  if (imagefs !== undefined) lookAt(imagefs, imagefsAvailablePercentMin, imagefsInodesFreePercentMin);
  look('pid', 'pids', Math.floor((pidsMax * pidsAvailablePercentMin) / 100), pidsMax - pidsUsed);
  return found;
}

export interface PressureHost<T extends EvictionCandidate> {
  readonly clock: Clock;
  readonly log: Logger;
  readonly gauge: NodeGauge;
  /** The conditions are to be told; resolves when they are. */
  report(): Promise<void>;
  /** Dead containers and unused images go. */
  reclaimDisk(): Promise<void>;
  /** Pods that may be evicted, with what they use of it. */
  candidates(resource: Starved): Promise<T[]>;
  evict(candidate: T, message: string): void;
}

export class NodePressure<T extends EvictionCandidate> {
  readonly #host: PressureHost<T>;
  /** When each condition was last seen to be true, on the monotonic clock. */
  readonly #lastSignMs = new Map<keyof Pressure, number>();
  #conditions: Pressure = Object.freeze({ disk: false, memory: false, pid: false });
  /** What the API server has been told of them. */
  #told: Pressure = this.#conditions;
  /** Conditions for which Pods were evicted since they began to hold. */
  readonly #evictedFor = new Set<keyof Pressure>();
  #nextEvictionMs = 0;
  #reclaimedMs = -Infinity;
  #timer: Timer | undefined;
  #looking: Promise<void> | undefined;
  #isClosed = false;

  constructor(host: PressureHost<T>) {
    this.#host = host;
  }

  /** The conditions as an earlier kubelet has left them: a restart ends none that still is so. */
  resume(conditions: readonly NodeCondition[] | undefined): void {
    const holds = (type: string): boolean =>
      conditions?.some((each) => each.type === type && each.status === 'True') === true;
    const left: Pressure = {
      disk: holds('DiskPressure'),
      memory: holds('MemoryPressure'),
      pid: holds('PIDPressure'),
    };
    if (!left.disk && !left.memory && !left.pid) return;
    this.#conditions = this.#told = Object.freeze(left);
    for (const name of ['disk', 'memory', 'pid'] as const)
      if (left[name]) this.#lastSignMs.set(name, this.#host.clock.monotonic());
    this.#reclaimedMs = this.#host.clock.monotonic();
    this.#lookAgain();
  }

  get conditions(): Pressure {
    return this.#conditions;
  }

  /**
   * For what Pods are refused. Until the API server knows they are not: they would go on coming, be refused and be
   * lost, instead of waiting.
   */
  get refusing(): Pressure {
    const [is, told] = [this.#conditions, this.#told];
    return { disk: is.disk && told.disk, memory: is.memory && told.memory, pid: is.pid && told.pid };
  }

  async #tell(): Promise<void> {
    const conditions = this.#conditions;
    await this.#host.report();
    this.#told = conditions;
  }

  /** One look; those that come while it is under way are it. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #look(): Promise<void> {
    const { clock, gauge, log } = this.#host;
    try {
      const shortages = shortagesOf(await gauge.read());
      if (this.#isClosed) return;
      const before = this.#conditions;
      this.#note(shortages, clock.monotonic());
      const told = before === this.#conditions ? undefined : this.#tell();
      if (this.#conditions.disk && !before.disk) {
        this.#reclaimedMs = clock.monotonic();
        await this.#host.reclaimDisk();
      }
      await this.#relieve(shortages);
      await told;
    } catch (error) {
      log.warn('the node could not be measured', { error });
    }
    this.#lookAgain();
  }

  #note(shortages: readonly Shortage[], nowMs: number): void {
    for (const { condition } of shortages) this.#lastSignMs.set(condition, nowMs);
    const holds = (name: keyof Pressure): boolean => {
      const last = this.#lastSignMs.get(name);
      const holdMs = this.#evictedFor.has(name) ? pressureTransitionMs : pressureReliefMs;
      const isHeld = last !== undefined && nowMs - last < holdMs;
      if (!isHeld) this.#evictedFor.delete(name);
      return isHeld;
    };
    const { disk, memory, pid } = this.#conditions;
    const next = { disk: holds('disk'), memory: holds('memory'), pid: holds('pid') };
    if (next.disk !== disk || next.memory !== memory || next.pid !== pid) this.#conditions = Object.freeze(next);
  }

  /** Evicts one Pod, for what comes first. */
  async #relieve([worst]: readonly Shortage[]): Promise<void> {
    const nowMs = this.#host.clock.monotonic();
    if (worst === undefined || nowMs < this.#nextEvictionMs) return;
    // Pods are evicted off a disk only when all else has had its turn.
    if (worst.condition === 'disk' && nowMs < this.#reclaimedMs + evictionIntervalMs) return;
    const first = rankForEviction(await this.#host.candidates(worst.resource))[0];
    if (first === undefined || this.#isClosed) return;
    this.#nextEvictionMs = nowMs + evictionIntervalMs;
    this.#evictedFor.add(worst.condition);
    this.#host.evict(first, evictionMessage(worst.resource, worst.threshold, worst.available, first));
  }

  #lookAgain(): void {
    this.#timer?.cancel();
    const { disk, memory, pid } = this.#conditions;
    if (this.#isClosed || (!disk && !memory && !pid)) return;
    this.#timer = this.#host.clock.setTimer(evictionIntervalMs, () => void this.look(), { background: true });
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }
}
