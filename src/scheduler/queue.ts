/**
 * Pods that wait for a node: active (by priority, then age), backing off, and unschedulable until an event may help.
 * Which events help is known by the filters that rejected the Pod. One timer serves back-off and the five-minute net.
 */
import { heapPop, heapPush } from '#base/heap.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { podBackoffMs, podBackoffMsMax, unschedulableMsMax } from './limits.ts';
import type { PodInfo } from './pod-info.ts';

export interface QueuedPod {
  info: PodInfo;
  attempts: number;
  addedMs: number;
  order: number;
  plugins: ReadonlySet<string>;
  failedMs: number;
}

/** What happened in the cluster, as far as it may let a Pod fit. */
export type ClusterEvent =
  | 'NodeChanged'
  | 'NodeRemoved'
  | 'PodAdded'
  | 'PodChanged'
  | 'PodResized'
  | 'PodRemoved'
  | 'VolumeChanged'
  | 'NamespaceChanged';

const helpedBy: Record<ClusterEvent, readonly string[]> = {
  NodeChanged: [
    'NodeUnschedulable',
    'NodeName',
    'TaintToleration',
    'NodeAffinity',
    'NodeResourcesFit',
    'VolumeBinding',
    'VolumeZone',
    'PodTopologySpread',
    'InterPodAffinity',
    'NodePorts',
  ],
  // A domain that was empty does not count any more.
  NodeRemoved: ['PodTopologySpread'],
  PodRemoved: ['NodePorts', 'NodeResourcesFit', 'PodTopologySpread', 'InterPodAffinity'],
  PodAdded: ['InterPodAffinity', 'PodTopologySpread'],
  // It has other labels, or is about to go.
  PodChanged: ['InterPodAffinity', 'PodTopologySpread'],
  PodResized: ['NodeResourcesFit'],
  VolumeChanged: ['VolumeBinding', 'VolumeZone'],
  NamespaceChanged: ['InterPodAffinity'],
};

function isBefore(a: QueuedPod, b: QueuedPod): boolean {
  if (a.info.priority !== b.info.priority) return a.info.priority > b.info.priority;
  return a.order < b.order;
}

export class SchedulingQueue {
  readonly #clock: Clock;
  readonly #onReady: () => void;
  readonly #active: QueuedPod[] = [];
  readonly #activeKeys = new Map<string, QueuedPod>();
  readonly #backoff = new Map<string, QueuedPod>();
  readonly #unschedulable = new Map<string, QueuedPod>();
  #order = 0;
  #timer: Timer | undefined;
  #timerDueMs = Infinity;

  constructor(clock: Clock, onReady: () => void) {
    this.#clock = clock;
    this.#onReady = onReady;
  }

  get lengths(): { active: number; backoff: number; unschedulable: number } {
    return { active: this.#activeKeys.size, backoff: this.#backoff.size, unschedulable: this.#unschedulable.size };
  }

  has(key: string): boolean {
    return this.#activeKeys.has(key) || this.#backoff.has(key) || this.#unschedulable.has(key);
  }

  /** A new Pod, or a new version of one that waits. A change of what it asks for gives it another try at once. */
  put(info: PodInfo, mayFitNow: boolean): void {
    const held = this.#activeKeys.get(info.key) ?? this.#backoff.get(info.key) ?? this.#unschedulable.get(info.key);
    if (held === undefined || held.info.uid !== info.uid) {
      this.remove(info.key);
      this.#activate({
        info,
        attempts: 0,
        addedMs: this.#clock.monotonic(),
        order: this.#order++,
        plugins: new Set(),
        failedMs: 0,
      });
      return;
    }
    held.info = info;
    if (mayFitNow && this.#unschedulable.delete(info.key)) this.#activate(held);
  }

  remove(key: string): void {
    const active = this.#activeKeys.get(key);
    if (active !== undefined) this.#activeKeys.delete(key); // Left in the heap; `pop` passes over it.
    this.#backoff.delete(key);
    this.#unschedulable.delete(key);
  }

  pop(): QueuedPod | undefined {
    for (let next = heapPop(this.#active, isBefore); next !== undefined; next = heapPop(this.#active, isBefore)) {
      if (this.#activeKeys.get(next.info.key) !== next) continue;
      this.#activeKeys.delete(next.info.key);
      next.attempts++;
      return next;
    }
    return undefined;
  }

  /** No node fits now. */
  putUnschedulable(entry: QueuedPod, plugins: ReadonlySet<string>): void {
    if (this.has(entry.info.key)) return;
    entry.plugins = plugins;
    entry.failedMs = this.#clock.monotonic();
    this.#unschedulable.set(entry.info.key, entry);
    this.#arm(entry.failedMs + unschedulableMsMax);
  }

  /** Something failed that a later try may not (a write, a binding). */
  putBackoff(entry: QueuedPod): void {
    if (this.has(entry.info.key)) return;
    entry.failedMs = this.#clock.monotonic();
    this.#backoff.set(entry.info.key, entry);
    this.#arm(this.#backoffEnd(entry));
  }

  /** An event that may help: affected Pods are tried again once their back-off is over. */
  onEvent(event: ClusterEvent): void {
    if (this.#unschedulable.size === 0) return;
    const helped = helpedBy[event];
    for (const [key, entry] of [...this.#unschedulable]) {
      if (entry.plugins.size > 0 && !helped.some((plugin) => entry.plugins.has(plugin))) continue;
      this.#unschedulable.delete(key);
      if (this.#backoffEnd(entry) <= this.#clock.monotonic()) this.#activate(entry);
      else {
        this.#backoff.set(key, entry);
        this.#arm(this.#backoffEnd(entry));
      }
    }
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #backoffEnd(entry: QueuedPod): number {
    return entry.failedMs + Math.min(podBackoffMs * 2 ** Math.min(entry.attempts - 1, 10), podBackoffMsMax);
  }

  #activate(entry: QueuedPod): void {
    this.#activeKeys.set(entry.info.key, entry);
    heapPush(this.#active, entry, isBefore);
    this.#onReady();
  }

  #arm(dueMs: number): void {
    if (dueMs >= this.#timerDueMs) return;
    this.#timer?.cancel();
    this.#timerDueMs = dueMs;
    this.#timer = this.#clock.setTimer(Math.max(0, dueMs - this.#clock.monotonic()), () => this.#onTimer(), {
      background: true,
    });
  }

  #onTimer(): void {
    this.#timerDueMs = Infinity;
    const now = this.#clock.monotonic();
    let next = Infinity;
    for (const [key, entry] of [...this.#backoff]) {
      const end = this.#backoffEnd(entry);
      if (end <= now) {
        this.#backoff.delete(key);
        this.#activate(entry);
      } else next = Math.min(next, end);
    }
    for (const [key, entry] of [...this.#unschedulable]) {
      const end = entry.failedMs + unschedulableMsMax;
      if (end <= now) {
        this.#unschedulable.delete(key);
        this.#activate(entry);
      } else next = Math.min(next, end);
    }
    if (next !== Infinity) this.#arm(next);
  }
}
