/**
 * The Lease of one simulated node. Where nothing is wrong with any network (`isQuiet`) it is renewed in thought only:
 * the fleet answers for it, and is told when that ends.
 */
import { leaseRenewals, leaseSecondsDefault } from '#kubelet/limits.ts';
import type { Timer } from '#os/clock.ts';
import type { Fleet } from './fleet.ts';

const leaseRenewMs = (leaseSecondsDefault * 1000) / leaseRenewals;

export class NodeBeat {
  readonly #name: string;
  /** The node runs and reaches the API server. */
  readonly #acts: () => boolean;
  readonly #fleet: Fleet;
  #timer: Timer | undefined;
  /** When in each period the Lease falls due. */
  #phaseMs: number | undefined;
  #wasBeating = false;
  #renew: (() => Promise<void>) | undefined;

  constructor(name: string, acts: () => boolean, fleet: Fleet) {
    this.#name = name;
    this.#acts = acts;
    this.#fleet = fleet;
  }

  get isBeating(): boolean {
    return this.#acts() && this.#fleet.isQuiet;
  }

  /** The node's kubelet is there, with what renews the Lease. */
  begin(renew: () => Promise<void>): Timer {
    const { clock, random } = this.#fleet.deps;
    this.#renew = renew;
    // Leases of many nodes must not fall due at one instant.
    this.#phaseMs ??= (clock.monotonic() + Math.floor(random.float() * leaseRenewMs)) % leaseRenewMs;
    this.#write();
    this.changed();
    return {
      cancel: () => {
        if (this.#renew === renew) this.#renew = undefined;
      },
    };
  }

  #write(): void {
    // One that does not get through is renewed the next time.
    void this.#renew?.().catch(() => undefined);
  }

  /** The node came, went, or the networks changed: starts or ends the writing of Leases. */
  changed(): void {
    const { clock } = this.#fleet.deps;
    const phaseMs = this.#phaseMs ?? 0;
    const agoMs = (((clock.monotonic() - phaseMs) % leaseRenewMs) + leaseRenewMs) % leaseRenewMs;
    this.#timer?.cancel();
    this.#timer = this.#fleet.isQuiet ? undefined : clock.setTimer(leaseRenewMs - agoMs, () => this.#onLease());
    if (this.#wasBeating && !this.isBeating) this.#fleet.tellHeartbeat(this.#name, agoMs);
    this.#wasBeating = this.isBeating;
  }

  /** Back in touch: the first sign of life is a written one. */
  returned(): void {
    this.changed();
    if (this.isBeating) this.#write();
  }

  #onLease(): void {
    this.#timer = this.#fleet.deps.clock.setTimer(leaseRenewMs, () => this.#onLease());
    if (this.#acts()) this.#write();
  }

  stop(): void {
    this.#timer?.cancel();
  }
}
