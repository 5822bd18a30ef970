/**
 * What a simulated node does when it runs short of memory or disk, as a kubelet would: its conditions say so, unused
 * images go, and every 10 s one Pod is evicted - until there is enough again; the conditions hold for 5 minutes more.
 * Rules: Kubernetes documentation, "Node-pressure Eviction".
 */
import { evictionMessage, rankForEviction, type Starved } from '#kubelet/eviction.ts';
import { evictionIntervalMs, pressureTransitionMs } from '#kubelet/limits.ts';
import type { Pressure } from '#kubelet/node-status.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { diskThresholdBytes, memoryThresholdBytes } from './limits.ts';
import type { NodeImages } from './node-images.ts';
import type { SimPod } from './sim-pod.ts';

export interface PressureHost {
  readonly clock: Clock;
  readonly images: NodeImages;
  readonly isUp: boolean;
  readonly isStopped: boolean;
  readonly running: ReadonlyMap<string, SimPod>;
  /** The conditions changed: say so. */
  report(): void;
  /** Told before the Pod goes. */
  evicted(pod: SimPod, message: string): void;
}

export class NodePressure {
  readonly #host: PressureHost;
  /** What it is short of right now, and what its conditions say, which is longer. */
  readonly #starved: Set<Starved>;
  #conditions: Pressure;
  readonly #timers = new Map<Starved, Timer>();
  #evictionTimer: Timer | undefined;

  constructor(host: PressureHost, starved: readonly Starved[], conditions: Pressure) {
    this.#host = host;
    this.#starved = new Set(starved);
    this.#conditions = conditions;
  }

  get conditions(): Pressure {
    return this.#conditions;
  }
  get starved(): readonly Starved[] {
    return [...this.#starved];
  }
  isShortOf(resource: Starved): boolean {
    return this.#starved.has(resource);
  }

  /** Takes up what a copied node was under. */
  begin(): void {
    if (this.#starved.size > 0) this.#watch();
    this.#endLater();
  }

  starve(resource: Starved): void {
    if (this.#starved.has(resource)) return;
    this.#starved.add(resource);
    this.#set(resource, true);
    if (resource === 'ephemeral-storage') this.#collectImages();
    if (this.#starved.size === 1) this.#watch();
  }

  relieve(resource: Starved): void {
    this.#starved.delete(resource);
    this.#endLater();
  }

  /** A leak has come to its end: the first to be evicted goes at once, and the node has memory again. */
  peak(): void {
    this.#set('memory', true);
    this.#evictOne('memory');
    this.#endLater();
  }

  #collectImages(): void {
    const { images, running } = this.#host;
    images.keepOnly(
      new Set([...running.values()].filter(({ isFinished }) => !isFinished).flatMap((pod) => pod.images())),
    );
  }

  #set(resource: Starved, holds: boolean): void {
    this.#conditions =
      resource === 'memory' ? { ...this.#conditions, memory: holds } : { ...this.#conditions, disk: holds };
    this.#timers.get(resource)?.cancel();
    this.#timers.delete(resource);
    this.#host.report();
  }

  /** Conditions fall back only after a while without a sign of what they say. */
  #endLater(): void {
    for (const [resource, holds] of [
      ['memory', this.#conditions.memory],
      ['ephemeral-storage', this.#conditions.disk],
    ] as const) {
      if (!holds || this.#starved.has(resource) || this.#timers.has(resource)) continue;
      this.#timers.set(
        resource,
        this.#host.clock.setTimer(pressureTransitionMs, () => this.#set(resource, false)),
      );
    }
  }

  #watch(): void {
    this.#evictionTimer?.cancel();
    this.#evictionTimer = this.#host.clock.setTimer(evictionIntervalMs, () => {
      if (this.#starved.size === 0 || this.#host.isStopped) return;
      // Memory first, as the kubelet looks at it first.
      if (this.#host.isUp) this.#evictOne(this.#starved.has('memory') ? 'memory' : 'ephemeral-storage');
      this.#watch();
    });
  }

  #evictOne(resource: Starved): void {
    const candidates = [...this.#host.running.values()]
      .filter((pod) => !pod.isFinished && !pod.isStopping)
      .map((which) => {
        const containers = resource === 'memory' ? which.memoryUse() : [];
        const sum = (of: (each: { usage: number; request: number }) => number): number =>
          containers.reduce((total, each) => total + of(each), 0);
        return {
          which,
          pod: which.pod,
          usage: sum(({ usage }) => usage),
          request: resource === 'memory' ? sum(({ request }) => request) : (which.demand.resources.get(resource) ?? 0),
          containers,
        };
      });
    const first = rankForEviction(candidates)[0];
    if (first === undefined) return;
    const message = evictionMessage(
      resource,
      resource === 'memory' ? memoryThresholdBytes : diskThresholdBytes,
      0,
      first,
    );
    this.#host.evicted(first.which, message);
    first.which.fail({ reason: 'Evicted', message, disrupted: true }, 0);
  }

  stop(): void {
    for (const timer of [this.#evictionTimer, ...this.#timers.values()]) timer?.cancel();
  }
}
