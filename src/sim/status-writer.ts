/**
 * Writes the statuses of one simulated node's Pods: one write at a time for each Pod, the newest state each, and the
 * removal of Pods that have stopped. What cannot be written while the node is away (`acts`) waits until it changes
 * again: a node that is back says all anew.
 */
import { isReason } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import type { SimPod } from './sim-pod.ts';

/** After a write that the API server did not take. */
const retryMs = 1_000;

export class StatusWriter {
  readonly #deps: { client: Client; clock: Clock; log: Logger };
  /** The node runs and reaches the API server. */
  readonly #acts: () => boolean;
  readonly #dirty = new Set<SimPod>();
  readonly #gone = new Set<SimPod>();
  readonly #writing = new Set<SimPod>();

  constructor(deps: { client: Client; clock: Clock; log: Logger }, acts: () => boolean) {
    this.#deps = deps;
    this.#acts = acts;
  }

  changed(which: SimPod): void {
    this.#dirty.add(which);
    this.#flush(which);
  }

  /** All its containers have stopped after a deletion: a last status, then the object goes. */
  stopped(which: SimPod): void {
    this.#gone.add(which);
    this.#flush(which);
  }

  #flush(which: SimPod): void {
    if (this.#writing.has(which) || !this.#acts()) return;
    this.#writing.add(which);
    void this.#write(which);
  }

  #isWanted(which: SimPod): boolean {
    return (this.#dirty.has(which) || this.#gone.has(which)) && this.#acts();
  }

  async #write(which: SimPod): Promise<void> {
    // What changes on one turn is one write.
    await Promise.resolve();
    try {
      await this.#writeAll(which);
    } finally {
      this.#writing.delete(which);
      // What changed while this came to its end.
      if (this.#isWanted(which)) this.#flush(which);
    }
  }

  async #writeAll(which: SimPod): Promise<void> {
    const { client, clock, log } = this.#deps;
    while (this.#isWanted(which)) {
      this.#dirty.delete(which);
      const isGone = this.#gone.has(which);
      const { name, namespace, uid, resourceVersion } = which.pod.metadata;
      try {
        // Conditions of others are kept as this Pod's newest known version has them, so it must be the newest.
        which.update(
          await client.update(
            kinds.Pod,
            {
              apiVersion: 'v1',
              kind: 'Pod',
              metadata: { name: name!, namespace: namespace!, uid: uid!, resourceVersion: resourceVersion! },
              status: which.status(),
            },
            { subresource: 'status' },
          ),
        );
        if (!isGone) continue;
        await client.delete(kinds.Pod, name!, namespace, { gracePeriodSeconds: 0, preconditions: { uid: uid! } });
        this.#gone.delete(which);
      } catch (error) {
        if (isReason(error, 'NotFound')) {
          this.#gone.delete(which);
          return;
        }
        this.#dirty.add(which);
        if (isReason(error, 'Conflict') && (await this.#catchUpWith(which))) continue;
        if (!isReason(error, 'ServiceUnavailable', 'Timeout', 'ServerTimeout', 'Conflict'))
          log.warn('pod status not written', { pod: keyOf(which.pod), error });
        await clock.sleep(retryMs);
      }
    }
  }

  /** Reads a Pod that changed before the node could write. False when that cannot be done now. */
  async #catchUpWith(which: SimPod): Promise<boolean> {
    const { name, namespace, uid } = which.pod.metadata;
    try {
      const current = await this.#deps.client.get(kinds.Pod, name!, namespace);
      if (current.metadata.uid === uid) {
        which.update(current);
        return true;
      }
    } catch (error) {
      if (!isReason(error, 'NotFound')) return false;
    }
    this.#dirty.delete(which);
    this.#gone.delete(which);
    return true;
  }
}
