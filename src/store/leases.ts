/**
 * Leases of the backends in this process: an expiry per lease, one timer for the earliest, and the keys attached to
 * each. What expires is deleted by ordinary transactions, at most `transactionOperationsMax` keys each.
 */
import type { Clock, Timer } from '#os/clock.ts';
import type { StoreEvent } from './store.ts';

export class Leases {
  #clock: Clock;
  #expire: (lease: number, keys: string[]) => void;
  #leases = new Map<number, { ttlMs: number; expiresAt: number; keys: Set<string> }>();
  #next = 1;
  #timer: Timer | undefined;
  #timerAt = Infinity;

  constructor(clock: Clock, expire: (lease: number, keys: string[]) => void) {
    this.#clock = clock;
    this.#expire = expire;
  }

  grant(ttlMs: number, id = this.#next, expiresAt = this.#clock.now() + ttlMs): number {
    this.#next = Math.max(this.#next, id) + 1;
    this.#leases.set(id, { ttlMs, expiresAt, keys: new Set() });
    this.#arm(expiresAt);
    return id;
  }

  has(lease: number): boolean {
    return this.#leases.has(lease);
  }
  describe(lease: number): { ttlMs: number; expiresAt: number } | undefined {
    return this.#leases.get(lease);
  }

  keepAlive(lease: number): void {
    const found = this.#leases.get(lease);
    if (found === undefined) throw new Error(`lease ${lease} not found`);
    found.expiresAt = this.#clock.now() + found.ttlMs;
  }

  attach(lease: number, key: string): void {
    this.#leases.get(lease)?.keys.add(key);
  }

  /** Follows what committed events attach and let go. */
  follow(events: readonly StoreEvent[]): void {
    for (const { key, value, previous } of events) {
      if (previous?.lease !== undefined && previous.lease !== value?.lease)
        this.#leases.get(previous.lease)?.keys.delete(key);
      if (value?.lease !== undefined) this.attach(value.lease, key);
    }
  }

  /** The same leases under another clock, for a fork. */
  fork(clock: Clock, expire: (lease: number, keys: string[]) => void): Leases {
    const copy = new Leases(clock, expire);
    for (const [id, lease] of this.#leases) {
      copy.grant(lease.ttlMs, id, lease.expiresAt);
      for (const key of lease.keys) copy.attach(id, key);
    }
    return copy;
  }

  revoke(lease: number): void {
    const found = this.#leases.get(lease);
    if (found === undefined) return;
    this.#leases.delete(lease);
    this.#expire(lease, [...found.keys]);
  }

  close(): void {
    this.#timer?.cancel();
    this.#leases.clear();
  }

  #arm(at: number): void {
    if (at >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = this.#clock.setTimer(Math.max(0, at - this.#clock.now()), () => this.#run(), { background: true });
  }

  #run(): void {
    this.#timerAt = Infinity;
    const now = this.#clock.now();
    let earliest = Infinity;
    for (const [id, lease] of [...this.#leases]) {
      if (lease.expiresAt <= now) this.revoke(id);
      else earliest = Math.min(earliest, lease.expiresAt);
    }
    if (earliest < Infinity) this.#arm(earliest);
  }
}
