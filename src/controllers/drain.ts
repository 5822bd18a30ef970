/**
 * Empties nodes that are to leave, as `kubectl drain` does (Kubernetes documentation, "Safely Drain a Node"): no new
 * Pods, and those that are there are evicted, so that disruption budgets and grace periods hold and their controllers
 * make others elsewhere. Pods of DaemonSets and static Pods belong to their node and stay on it; so do Pods that have
 * ended.
 */
import type { Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { Eviction } from '#api/policy.v1.ts';
import { isReason } from '#base/errors.ts';
import type { Client } from '#client/client.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import { drainMsMax, drainStepMs } from './limits.ts';

const mirrorAnnotation = 'kubernetes.io/config.mirror';

/**
 * Resolves when the nodes are empty, or when that takes too long: with the keys of the Pods that are still there. All
 * nodes close before the first Pod moves, so that none moves from one to another.
 */
export async function drainNodes(client: Client, clock: Clock, names: readonly string[]): Promise<string[]> {
  for (const name of names) await setUnschedulable(client, name, true);
  const deadline = clock.monotonic() + drainMsMax;
  for (;;) {
    const lists = await Promise.all(
      names.map((name) => client.list(kinds.Pod, { fieldSelector: `spec.nodeName=${name}` })),
    );
    const left = lists.flatMap(({ items }) => items).filter(isToMove);
    if (left.length === 0 || clock.monotonic() >= deadline) return left.map(keyOf);
    await Promise.all(left.map((pod) => evict(client, pod)));
    await clock.sleep(drainStepMs);
  }
}

/** Does nothing where there is no such node. */
export async function setUnschedulable(client: Client, name: string, unschedulable: boolean): Promise<void> {
  const patch = { spec: { unschedulable: unschedulable ? true : null } };
  await client.patch(kinds.Node, { name }, { merge: patch }).catch((error: unknown) => {
    if (!isReason(error, 'NotFound')) throw error;
  });
}

/** Has the cluster forget a node that runs no more, and the Pods that are still bound to it. */
export async function removeNode(client: Client, name: string): Promise<void> {
  const gone = (error: unknown): void => {
    if (!isReason(error, 'NotFound')) throw error;
  };
  await client.delete(kinds.Node, name).catch(gone);
  await client.delete(kinds.Lease, name, 'kube-node-lease').catch(gone);
  const { items } = await client.list(kinds.Pod, { fieldSelector: `spec.nodeName=${name}` });
  for (const { metadata } of items)
    await client.delete(kinds.Pod, metadata.name, metadata.namespace, { gracePeriodSeconds: 0 }).catch(gone);
}

export function isToMove({ metadata, status }: Pod): boolean {
  const isOfNode =
    metadata.annotations?.[mirrorAnnotation] !== undefined ||
    (metadata.ownerReferences ?? []).some(({ kind, controller }) => kind === 'DaemonSet' && controller === true);
  return !isOfNode && status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}

export async function evict(client: Client, { metadata }: Pod): Promise<void> {
  if (metadata.deletionTimestamp !== undefined) return;
  const { name, namespace, uid } = metadata;
  const eviction: Manifest<Eviction> = {
    apiVersion: 'policy/v1',
    kind: 'Eviction',
    metadata: { name, namespace },
    deleteOptions: { preconditions: { uid } },
  };
  await client.createSubresource(kinds.Pod, 'eviction', eviction).catch((error: unknown) => {
    // A budget that allows none now is asked again; what is gone, or another by now, needs no eviction.
    if (!isReason(error, 'TooManyRequests', 'NotFound', 'Conflict')) throw error;
  });
}
