/**
 * Work queues: keys to reconcile, each processed by at most one worker at a time and at least once after it was last
 * added.
 *
 * `add` while a key waits is a no-op; while it is being processed it runs once more afterwards. Failures come back
 * after a delay that doubles per key; results may ask for a later look. One timer serves all delays, so that an idle
 * queue costs nothing.
 * Bound: a queue holds keys of existing (or just deleted) objects only, each once, so the store bounds it; `length` is
 * a metric.
 */
import { heapPop, heapPush } from '#base/heap.ts';
import { toApiError } from '#base/errors.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { retryDelayMs, retryDelayMsMax } from './limits.ts';
import type { WorkQueueMetrics } from './metrics.ts';

/** What a reconciler may answer: look again after this delay. */
export interface ReconcileResult {
  requeueAfterMs?: number;
}
export type Reconcile = (key: string) => Promise<ReconcileResult | undefined | void>;

export interface WorkQueueOptions {
  name: string;
  clock: Clock;
  log: Logger;
  reconcile: Reconcile;
  /** Keys processed at once; 1 when absent. */
  concurrency?: number;
  /** Errors that are part of normal life (conflicts) and are retried without a line in the log. */
  isExpected?: (error: unknown) => boolean;
  metrics?: WorkQueueMetrics | undefined;
}

interface Delayed {
  key: string;
  dueMs: number;
  order: number;
}

export interface WorkQueueStats {
  name: string;
  length: number;
  active: number;
  delayed: number;
  processed: number;
  failed: number;
}

export class WorkQueue {
  readonly name: string;
  readonly #options: WorkQueueOptions;
  readonly #concurrency: number;
  /** Since when each waits. */
  readonly #ready = new Map<string, number>();
  readonly #active = new Set<string>();
  readonly #again = new Set<string>();
  readonly #failures = new Map<string, number>();
  readonly #delays = new Map<string, Delayed>();
  #heap: Delayed[] = [];
  #order = 0;
  #timer: Timer | undefined;
  #timerDueMs = Infinity;
  #pumping = false;
  #stopped = false;
  #paused = false;
  #processed = 0;
  #failed = 0;
  #drained: PromiseWithResolvers<void> | undefined;

  constructor(options: WorkQueueOptions) {
    this.name = options.name;
    this.#options = options;
    this.#concurrency = options.concurrency ?? 1;
  }

  get stats(): WorkQueueStats {
    return {
      name: this.name,
      length: this.#ready.size,
      active: this.#active.size,
      delayed: this.#delays.size,
      processed: this.#processed,
      failed: this.#failed,
    };
  }

  /** True when nothing is ready or under way (delayed keys may wait). */
  get isIdle(): boolean {
    return this.#ready.size === 0 && this.#active.size === 0;
  }

  add(key: string): void {
    if (this.#stopped) return;
    if (this.#active.has(key)) {
      this.#again.add(key);
      return;
    }
    if (!this.#ready.has(key)) {
      this.#ready.set(key, this.#options.clock.monotonic());
      this.#note();
    }
    this.#pump();
  }

  /** One more waits. */
  #note(): void {
    const { metrics } = this.#options;
    if (metrics === undefined) return;
    metrics.adds.add();
    metrics.depth.value = this.#ready.size;
  }

  /** Adds after a delay; of several delays for a key the shortest counts. */
  addAfter(key: string, delayMs: number): void {
    if (this.#stopped) return;
    if (delayMs <= 0) {
      this.add(key);
      return;
    }
    if (this.#ready.has(key)) return;
    const dueMs = this.#options.clock.monotonic() + delayMs;
    const held = this.#delays.get(key);
    if (held !== undefined && held.dueMs <= dueMs) return;
    const entry: Delayed = { key, dueMs, order: this.#order++ };
    this.#delays.set(key, entry);
    heapPush(this.#heap, entry, before);
    this.#arm();
  }

  /** Keys gather and none is processed until `resume`. */
  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#ready.size > 0) this.#pump();
  }

  /** Stops taking keys and waits for those under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ready.clear();
    this.#timer?.cancel();
    if (this.#active.size === 0) return;
    this.#drained = Promise.withResolvers();
    await this.#drained.promise;
  }

  #arm(): void {
    const next = this.#heap[0];
    if (next === undefined || next.dueMs >= this.#timerDueMs) return;
    this.#timer?.cancel();
    this.#timerDueMs = next.dueMs;
    this.#timer = this.#options.clock.setTimer(
      Math.max(0, next.dueMs - this.#options.clock.monotonic()),
      () => this.#onTimer(),
      { background: true },
    );
  }

  #onTimer(): void {
    this.#timerDueMs = Infinity;
    this.#timer = undefined;
    const now = this.#options.clock.monotonic();
    for (let next = this.#heap[0]; next !== undefined && next.dueMs <= now; next = this.#heap[0]) {
      heapPop(this.#heap, before);
      if (this.#delays.get(next.key) !== next) continue;
      this.#delays.delete(next.key);
      this.add(next.key);
    }
    this.#arm();
  }

  /** Workers start on a later turn, so that a burst of adds on one turn is one pass. */
  #pump(): void {
    if (this.#pumping || this.#paused) return;
    this.#pumping = true;
    void Promise.resolve().then(() => {
      this.#pumping = false;
      for (const [key, sinceMs] of this.#ready) {
        if (this.#active.size >= this.#concurrency || this.#stopped) return;
        this.#ready.delete(key);
        this.#active.add(key);
        void this.#process(key, sinceMs);
      }
    });
  }

  async #process(key: string, sinceMs: number): Promise<void> {
    const { clock, metrics } = this.#options;
    const begunMs = clock.monotonic();
    if (metrics !== undefined) {
      metrics.depth.value = this.#ready.size;
      metrics.queueSeconds.observe((begunMs - sinceMs) / 1000);
    }
    try {
      const result = await this.#options.reconcile(key);
      this.#failures.delete(key);
      if (result?.requeueAfterMs !== undefined) this.addAfter(key, result.requeueAfterMs);
    } catch (error) {
      if (!this.#stopped) this.#onFailure(key, error);
    }
    metrics?.workSeconds.observe((clock.monotonic() - begunMs) / 1000);
    this.#processed++;
    this.#active.delete(key);
    if (this.#again.delete(key)) this.add(key);
    if (this.#stopped) {
      if (this.#active.size === 0) this.#drained?.resolve();
    } else if (this.#ready.size > 0) {
      this.#pump();
    }
  }

  #onFailure(key: string, error: unknown): void {
    const failures = this.#failures.get(key) ?? 0;
    this.#failures.set(key, failures + 1);
    this.#failed++;
    this.#options.metrics?.retries.add();
    const delayMs = Math.min(retryDelayMs * 2 ** Math.min(failures, 30), retryDelayMsMax);
    if (this.#options.isExpected?.(error) !== true) {
      const { reason, message } = toApiError(error);
      this.#options.log.warn(`${this.name}: ${key} failed`, {
        reason,
        message,
        ...(reason === 'InternalError' ? { error } : {}),
        retryMs: delayMs,
      });
    }
    this.addAfter(key, delayMs);
  }
}

function before(a: Delayed, b: Delayed): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.order < b.order);
}
