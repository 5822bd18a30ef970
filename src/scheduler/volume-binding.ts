/**
 * Volumes before the Pod: what the scheduler chose for a Pod's claims is written (a volume's `claimRef`, a claim's
 * selected node), and waited for until the volume controller or a provisioner has bound them.
 */
import type { PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { Client } from '#client/client.ts';
import { type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import { volumeBindingMs } from './limits.ts';
import type { VolumeChoice } from './volumes.ts';

export class VolumeBinding {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #pods: Informer<Pod>;
  readonly #waiters = new Map<string, Set<() => void>>();

  constructor(options: { client: Client; clock: Clock; claims: Informer<PersistentVolumeClaim>; pods: Informer<Pod> }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#claims = options.claims;
    this.#pods = options.pods;
  }

  /** Resolves when the claims of a Pod are bound for this node; rejects when that cannot be, or takes too long. */
  async bind(podKey: string, node: string, { bind, provision }: VolumeChoice): Promise<void> {
    for (const { claim, volume } of bind) {
      const { namespace, name, uid, resourceVersion } = claim.metadata;
      const claimRef = { kind: 'PersistentVolumeClaim', apiVersion: 'v1', namespace, name, uid, resourceVersion };
      await this.#client.patch(kinds.PersistentVolume, volume.metadata, {
        merge: {
          metadata: {
            resourceVersion: volume.metadata.resourceVersion,
            annotations: { 'pv.kubernetes.io/bound-by-controller': 'yes' },
          },
          spec: { claimRef },
        },
      });
    }
    for (const claim of provision) {
      if (claim.metadata.annotations?.['volume.kubernetes.io/selected-node'] === node) continue;
      await this.#client.patch(kinds.PersistentVolumeClaim, claim.metadata, {
        merge: { metadata: { uid: claim.metadata.uid, annotations: { 'volume.kubernetes.io/selected-node': node } } },
      });
    }
    const waiting = [...bind.map(({ claim }) => claim), ...provision];
    await Promise.all(waiting.map((claim) => this.#awaitBound(podKey, keyOf(claim), claim.metadata.uid, node)));
  }

  async #awaitBound(podKey: string, key: string, uid: string, node: string): Promise<void> {
    const deadline = this.#clock.monotonic() + volumeBindingMs;
    for (;;) {
      const claim = this.#claims.get(key);
      if (claim === undefined || claim.metadata.uid !== uid)
        throw new Error(`persistentvolumeclaim "${key}" was deleted`);
      if (claim.metadata.annotations?.['pv.kubernetes.io/bind-completed'] !== undefined) return;
      if (
        claim.metadata.annotations?.['volume.kubernetes.io/selected-node'] === undefined &&
        claim.spec.volumeName === undefined &&
        this.#clock.monotonic() > deadline - volumeBindingMs + 5_000
      ) {
        throw new Error(`provisioning of persistentvolumeclaim "${key}" on node "${node}" was given up`);
      }
      if (this.#pods.get(podKey) === undefined) throw new Error('the Pod was deleted');
      const left = deadline - this.#clock.monotonic();
      if (left <= 0) throw new Error(`timed out waiting for persistentvolumeclaim "${key}" to be bound`);
      await this.#changed(key, left);
    }
  }

  #changed(key: string, timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const waiters = this.#waiters.get(key) ?? new Set();
      this.#waiters.set(key, waiters);
      const done = (): void => {
        timer.cancel();
        waiters.delete(done);
        if (waiters.size === 0) this.#waiters.delete(key);
        resolve();
      };
      const timer = this.#clock.setTimer(timeoutMs, done, { background: true });
      waiters.add(done);
    });
  }

  /** This claim has changed, or is gone. */
  tell(key: string): void {
    for (const waiter of [...(this.#waiters.get(key) ?? [])]) waiter();
  }
}
