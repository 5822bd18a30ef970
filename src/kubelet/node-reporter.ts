/**
 * What a kubelet says of its node: the Node object, its status and its Lease. The status is written when the node
 * changes, when the object says something of it that is not so - that it is lost, that it has room - and now and then.
 */
import type { Node, NodeStatus } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { whenSettled } from '#base/promises.ts';
import { microTimestamp } from '#base/timestamp.ts';
import type { Client } from '#client/client.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import type { KubeletEngine } from './doors.ts';
import { leaseSecondsDefault, reportRetryMs } from './limits.ts';
import { nodeObject, nodeStatus, type NodeFacts, type Pressure } from './node-status.ts';
import { persist } from './persist.ts';

export interface ReporterOptions {
  client: Client;
  clock: Clock;
  engine: Pick<KubeletEngine, 'images'>;
  facts: NodeFacts;
  leaseSeconds?: number | undefined;
  signal: AbortSignal;
  pressure(): Pressure;
}

export class NodeReporter {
  readonly #of: ReporterOptions;
  /** Since when no renewal has come through, on the monotonic clock. */
  #outOfTouchMs: number | undefined;
  #reporting: Promise<void> | undefined;
  /** The node's own object, as it was last seen. */
  self: Node | undefined;

  constructor(of: ReporterOptions) {
    this.#of = of;
  }

  /** Makes the Node object, or takes over the one of this name: `known` is called with it before it is changed. */
  async register(known: (node: Node) => void): Promise<void> {
    const { client, facts, clock, signal } = this.#of;
    const wanted = nodeObject(facts);
    await persist({ clock, signal }, async () => {
      try {
        this.self = await client.create(kinds.Node, { ...wanted, status: this.#status(undefined) });
      } catch (error) {
        if (!isReason(error, 'AlreadyExists')) throw error;
        this.self = await client.patch(
          kinds.Node,
          { name: facts.name },
          {
            strategic: {
              metadata: { labels: wanted.metadata.labels, annotations: wanted.metadata.annotations },
              spec: { podCIDR: facts.podCidr, podCIDRs: [facts.podCidr] },
            },
          },
        );
        known(this.self);
        await this.#write();
      }
    });
  }

  // walk node-dies 1/5: a living kubelet renews its lease four times before it ends.
  async renewLease(): Promise<void> {
    const { client, clock, facts, leaseSeconds: leaseDurationSeconds = leaseSecondsDefault } = this.#of;
    const spec = { holderIdentity: facts.name, leaseDurationSeconds, renewTime: microTimestamp(clock.now()) };
    try {
      await client.patch(kinds.Lease, { name: facts.name, namespace: 'kube-node-lease' }, { merge: { spec } });
    } catch (error) {
      if (!isReason(error, 'NotFound')) {
        this.#outOfTouchMs ??= clock.monotonic();
        throw error;
      }
      await client.create(kinds.Lease, {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: facts.name, namespace: 'kube-node-lease' },
        spec,
      });
    }
    const sinceMs = this.#outOfTouchMs;
    this.#outOfTouchMs = undefined;
    // Out of touch for so long that the node was taken for lost: say at once that it is ready again.
    if (sinceMs !== undefined && clock.monotonic() - sinceMs > leaseDurationSeconds * 1000) await this.report();
  }

  /** A version of the node's own object. */
  see(node: Node): void {
    this.self = node;
    if (!this.#isTrue(node)) void this.report();
  }

  #isTrue(node: Node): boolean {
    const { disk, memory, pid } = this.#of.pressure();
    const says = (type: string, holds: boolean): boolean =>
      (node.status?.conditions ?? []).find((each) => each.type === type)?.status === (holds ? 'True' : 'False');
    return (
      says('Ready', true) && says('DiskPressure', disk) && says('MemoryPressure', memory) && says('PIDPressure', pid)
    );
  }

  /** Writes the status; resolves when it is written, or the node is gone. */
  report(): Promise<void> {
    this.#reporting ??= this.#report().finally(() => {
      this.#reporting = undefined;
    });
    return this.#reporting;
  }

  async #report(): Promise<void> {
    const { clock, signal } = this.#of;
    while (!signal.aborted) {
      const pressure = this.#of.pressure();
      try {
        await this.#write();
        if (pressure === this.#of.pressure()) return;
      } catch (error) {
        if (isReason(error, 'NotFound')) return;
        await whenSettled(clock.sleep(reportRetryMs, signal));
      }
    }
  }

  async #write(): Promise<void> {
    const { client, facts } = this.#of;
    const previous = (this.self ??= await client.get(kinds.Node, facts.name)).status;
    const status = this.#status(previous);
    this.self = await client.patch(
      kinds.Node,
      { name: facts.name },
      { strategic: { status } },
      { subresource: 'status' },
    );
  }

  #status(previous: NodeStatus | undefined): NodeStatus {
    const { engine, clock, facts } = this.#of;
    const images = engine.images
      .list()
      .map((image) => ({ names: [...image.names, ...image.digests], sizeBytes: image.sizeBytes }))
      .filter((image) => image.names.length > 0);
    return nodeStatus({ facts, images, previous, nowMs: clock.now(), pressure: this.#of.pressure() });
  }
}
