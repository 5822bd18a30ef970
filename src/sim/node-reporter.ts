/**
 * What one simulated node says of itself: its Node object and its Lease. Where nothing is wrong with any network
 * (`isQuiet`), Leases are renewed in thought only: the fleet answers for them, and is told when that ends.
 */
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { microTimestamp } from '#base/timestamp.ts';
import { kinds } from '#client/kinds.ts';
import { conditionOf } from '#controllers/pods.ts';
import { leaseDurationSeconds, leaseRenewMs } from '#kubelet/limits.ts';
import { nodeConditions, type Pressure } from '#kubelet/node-status.ts';
import type { Timer } from '#os/clock.ts';
import { reportRetryMs } from './limits.ts';
import type { Fleet } from './sim-node.ts';

export interface ReportingNode {
  readonly name: string;
  /** It runs and reaches the API server. */
  readonly acts: boolean;
  /** The node's own clock, ms since 1970. */
  readonly nowMs: number;
  readonly pressure: Pressure;
}

export class NodeReporter {
  readonly #of: ReportingNode;
  readonly #fleet: Fleet;
  #timer: Timer | undefined;
  /** When in each period the Lease falls due. */
  #phaseMs = 0;
  #wasBeating = false;
  #reporting = false;

  constructor(of: ReportingNode, fleet: Fleet) {
    this.#of = of;
    this.#fleet = fleet;
  }

  get isBeating(): boolean {
    return this.#of.acts && this.#fleet.isQuiet;
  }
  /** The Node object as it was last seen. */
  get self(): KubeObject | undefined {
    return this.#fleet.deps.informers.informer(kinds.Node).get(this.#of.name);
  }

  /** Makes the Node object, or takes over the one of this name. */
  async register(node: KubeObject): Promise<void> {
    try {
      await this.#fleet.deps.client.create(kinds.Node, node);
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
      await this.#writeConditions();
    }
    await this.#renew();
  }

  begin(): void {
    const { clock, random } = this.#fleet.deps;
    // Leases of many nodes must not fall due at one instant.
    this.#phaseMs = (clock.monotonic() + Math.floor(random.float() * leaseRenewMs)) % leaseRenewMs;
    this.changed();
  }

  /** The node came, went, or the networks changed: starts or ends the writing of Leases. */
  changed(): void {
    const { clock } = this.#fleet.deps;
    const agoMs = (((clock.monotonic() - this.#phaseMs) % leaseRenewMs) + leaseRenewMs) % leaseRenewMs;
    this.#timer?.cancel();
    this.#timer = this.#fleet.isQuiet ? undefined : clock.setTimer(leaseRenewMs - agoMs, () => this.#onLease());
    if (this.#wasBeating && !this.isBeating) this.#fleet.tellHeartbeat(this.#of.name, agoMs);
    this.#wasBeating = this.isBeating;
  }

  /** Back in touch: the first sign of life is a written one. */
  returned(): void {
    this.changed();
    if (this.isBeating) void this.#renew().catch(() => undefined);
  }

  #onLease(): void {
    this.#timer = this.#fleet.deps.clock.setTimer(leaseRenewMs, () => this.#onLease());
    if (this.#of.acts) void this.#renew().catch(() => undefined);
  }

  async #renew(): Promise<void> {
    const { client } = this.#fleet.deps;
    const { name, nowMs } = this.#of;
    const spec = { holderIdentity: name, leaseDurationSeconds, renewTime: microTimestamp(nowMs) };
    const lease: KubeObject = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace: 'kube-node-lease' },
      spec,
    };
    try {
      await client.update(kinds.Lease, lease);
    } catch (error) {
      if (isReason(error, 'NotFound')) await client.create(kinds.Lease, lease).catch(() => undefined);
    }
  }

  async #writeConditions(): Promise<void> {
    const { name, nowMs, pressure } = this.#of;
    await this.#fleet.deps.client.patch(
      kinds.Node,
      name,
      undefined,
      'strategic',
      { status: { conditions: nodeConditions(this.self?.['status'], nowMs, pressure) } },
      { subresource: 'status' },
    );
  }

  /**
   * Writes the conditions where the object says something of the node that is not so: that it is lost, or that it has
   * room.
   */
  report(node = this.self): void {
    const { acts, pressure } = this.#of;
    if (node === undefined || !acts || this.#reporting) return;
    const says = (type: string, holds: boolean): boolean =>
      conditionOf(node, type)?.status === (holds ? 'True' : 'False');
    if (says('Ready', true) && says('DiskPressure', pressure.disk) && says('MemoryPressure', pressure.memory)) return;
    this.#reporting = true;
    void this.#writeReport().finally(() => {
      this.#reporting = false;
    });
  }

  async #writeReport(): Promise<void> {
    for (;;) {
      try {
        await this.#renew();
        await this.#writeConditions();
        return;
      } catch (error) {
        if (isReason(error, 'NotFound') || !this.#of.acts) return;
        await this.#fleet.deps.clock.sleep(reportRetryMs);
      }
    }
  }

  stop(): void {
    this.#timer?.cancel();
  }
}
