/**
 * How many Pods of one ReplicaSet are active, ready and so on, kept as they change: a large set is not counted anew for
 * each of its Pods.
 */
import type { Pod } from '#api/core.v1.ts';
import { type LabelSelector, matchesLabels } from '#base/selectors.ts';
import { isPodActive, isPodReady } from './pods.ts';

export interface PodCounts {
  /** Match the selector and are active. */
  active: number;
  /** Of those: with all labels of the template; ready. */
  fullyLabeled: number;
  ready: number;
  /** Do not match the selector any more and are not going away. */
  strays: number;
}

const counted = ['active', 'fullyLabeled', 'ready', 'strays'] as const;

export class PodTally implements PodCounts {
  active = 0;
  fullyLabeled = 0;
  ready = 0;
  strays = 0;
  readonly #selector: LabelSelector;
  readonly #templateLabels: readonly (readonly [string, string])[];
  /** By key; each bit is one of `counted`. */
  readonly #pods = new Map<string, number>();

  constructor(selector: LabelSelector, templateLabels: Record<string, string>) {
    this.#selector = selector;
    this.#templateLabels = Object.entries(templateLabels);
  }

  put(key: string, pod: Pod): void {
    this.#change(key, this.#bitsOf(pod));
  }

  remove(key: string): void {
    this.#change(key, 0);
  }

  #bitsOf(pod: Pod): number {
    const labels = pod.metadata.labels ?? {};
    if (!matchesLabels(this.#selector, labels)) return pod.metadata.deletionTimestamp === undefined ? 8 : 0;
    if (!isPodActive(pod)) return 0;
    return (
      1 | (this.#templateLabels.every(([name, value]) => labels[name] === value) ? 2 : 0) | (isPodReady(pod) ? 4 : 0)
    );
  }

  #change(key: string, bits: number): void {
    const held = this.#pods.get(key) ?? 0;
    if (held === bits) return;
    if (bits === 0) this.#pods.delete(key);
    else this.#pods.set(key, bits);
    for (let i = 0; i < counted.length; i++) this[counted[i]!] += ((bits >> i) & 1) - ((held >> i) & 1);
  }
}
