/**
 * Whom a node that is short of something evicts first, and in which words. Pure.
 * Rules: Kubernetes documentation, "Node-pressure Eviction / Pod selection for kubelet eviction": Pods that use more
 * than they request first, then by priority, then by how far their use exceeds the request. System-critical Pods are
 * not chosen.
 */
import type { Pod } from '#api/core.v1.ts';
import { formatQuantity } from '#base/quantity.ts';
import { isCritical } from './admit.ts';

export interface EvictionCandidate {
  pod: Pod;
  /** Of the resource that is short. */
  usage: number;
  request: number;
  /** The containers, largest use first counts for the message. */
  containers: readonly { name: string; usage: number; request: number }[];
}

export type Starved = 'memory' | 'ephemeral-storage' | 'inodes' | 'pids';

/** First to go first; those alike in their order of `candidates`. */
export function rankForEviction<T extends EvictionCandidate>(candidates: readonly T[]): T[] {
  const exceeds = ({ usage, request }: T): number => (usage > request ? 0 : 1);
  return candidates
    .filter(({ pod }) => !isCritical(pod))
    .sort(
      (a, b) =>
        exceeds(a) - exceeds(b) ||
        (a.pod.spec.priority ?? 0) - (b.pod.spec.priority ?? 0) ||
        b.usage - b.request - (a.usage - a.request),
    );
}

/** Bytes as a quantity prints them: `100Mi`, `0`. */
export const quantity = (bytes: number): string =>
  formatQuantity({ nano: BigInt(Math.round(bytes)) * 1_000_000_000n, format: 'BinarySI' });
/** Usage as the kubelet measures it: in whole KiB. */
const kibibytes = (bytes: number): string => (bytes === 0 ? '0' : `${Math.round(bytes / 1024)}Ki`);
const isOfBytes = (resource: Starved): boolean => resource === 'memory' || resource === 'ephemeral-storage';

/** The message of an evicted Pod and of its event. Amounts in bytes, or as counts. */
export function evictionMessage(
  resource: Starved,
  threshold: number,
  available: number,
  { containers }: EvictionCandidate,
): string {
  const [limit, used] = isOfBytes(resource) ? [quantity, kibibytes] : [String, String];
  const larger = containers
    .filter(({ usage, request }) => usage > request)
    .map(
      ({ name, usage, request }) =>
        `Container ${name} was using ${used(usage)}, request is ${limit(request)}, has larger consumption of ${resource}. `,
    );
  return `The node was low on resource: ${resource}. Threshold quantity: ${limit(threshold)}, available: ${used(available)}. ${larger.join('')}`;
}
