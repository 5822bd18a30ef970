/**
 * Takes nodes out of the cluster that are asked to go, by an annotation that an administrator or the node itself sets
 * (`tiphys remove`, `tiphys leave`):
 *
 *   closed → emptied, as `kubectl drain` does it → its certificates are refused → its object and Pods go
 *
 * Each step follows from what is stored, so that any of them may be the last one of this process. A node that is not
 * ready is not waited for. Certificates of Kubernetes cannot be taken back one by one (its API server knows no lists of
 * revoked ones), so the time of the removal is kept by the node's name, and certificates of that name that were issued
 * until then are refused (`apiserver/authn/authenticate.ts`, `registry/connection.ts`). A machine that joins later
 * under the same name is given later ones.
 */
import type { Node, Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { machineAnnotations, nodeOfUser, removedNodes } from '#base/node-identity.ts';
import { timestamp } from '#base/timestamp.ts';
import { indexes, keyOf } from '#client/informer.ts';
import { evict, isToMove, removeNode, setUnschedulable } from './drain.ts';
import { drainMsMax, drainStepMs, removalSettleMs, removedNodeMsMax } from './limits.ts';
import { conditionOf } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, forEachBounded, recorderOf } from './runtime.ts';

export type RemovalPlan =
  /** Nobody asks for it. */
  | { step: 'none' }
  | { step: 'close' }
  | { step: 'evict'; pods: Pod[] }
  /** `left` have not gone in time, or cannot be told to. */
  | { step: 'refuse'; left: Pod[] }
  | { step: 'wait'; ms: number }
  | { step: 'forget' };

/** `removed`: since when certificates of this name are refused, if they are. */
export function planRemoval(node: Node, pods: readonly Pod[], removed: string | undefined, nowMs: number): RemovalPlan {
  const requestedMs = Date.parse(node.metadata.annotations?.[machineAnnotations.removal] ?? '');
  if (Number.isNaN(requestedMs)) return { step: 'none' };
  const removedMs = Date.parse(removed ?? '');
  // An older entry is of another machine that had the name.
  if (removedMs >= Date.parse(node.metadata.creationTimestamp ?? '')) {
    const leftMs = removedMs + removalSettleMs - nowMs;
    return leftMs > 0 ? { step: 'wait', ms: leftMs } : { step: 'forget' };
  }
  if (node.spec.unschedulable !== true) return { step: 'close' };
  const left = pods.filter(isToMove);
  const mayDrain = conditionOf(node, 'Ready')?.status === 'True' && nowMs < requestedMs + drainMsMax;
  return mayDrain && left.length > 0 ? { step: 'evict', pods: left } : { step: 'refuse', left };
}

export function startNodeRemoval(context: ControllerContext): Controller {
  const { client, clock, informers } = context;
  const nodes = informers.informer(kinds.Node);
  const pods = informers.informer(kinds.Pod).addIndex('node', indexes.node);
  const recorder = recorderOf(context, 'node-removal');

  const refused = async (): Promise<Record<string, string>> => {
    try {
      return (await client.get(kinds.ConfigMap, removedNodes.name, removedNodes.namespace)).data ?? {};
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
      await client.create(kinds.ConfigMap, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { ...removedNodes } });
      return {};
    }
  };
  /** Refuses what was issued until now; forgets entries that no certificate is left of. */
  const refuse = async (name: string): Promise<void> => {
    const nowMs = clock.now();
    const over = Object.entries(await refused()).filter(([, at]) => !(Date.parse(at) + removedNodeMsMax > nowMs));
    const data = { ...Object.fromEntries(over.map(([each]) => [each, null])), [name]: timestamp(nowMs) };
    await client.patch(kinds.ConfigMap, removedNodes, { merge: { data } });
  };
  /** Requests of before are not answered any more. */
  const dropRequests = async (name: string): Promise<void> => {
    const { items } = await client.list(kinds.CertificateSigningRequest);
    await forEachBounded(
      items.filter(({ spec }) => nodeOfUser(spec.username ?? '') === name),
      async ({ metadata }) => {
        await client.delete(kinds.CertificateSigningRequest, metadata.name).catch((error: unknown) => {
          if (!isReason(error, 'NotFound')) throw error;
        });
      },
    );
  };

  const queue = createQueue(context, 'node-removal', async (name) => {
    const node = nodes.get(name);
    if (node?.metadata.annotations?.[machineAnnotations.removal] === undefined) return undefined;
    const plan = planRemoval(node, [...pods.by('node', name)], (await refused())[name], clock.now());
    switch (plan.step) {
      case 'none':
        return undefined;
      case 'close':
        await setUnschedulable(client, name, true);
        return { requeueAfterMs: drainStepMs };
      case 'evict':
        await forEachBounded(plan.pods, (pod) => evict(client, pod));
        return { requeueAfterMs: drainStepMs };
      case 'refuse':
        if (plan.left.length > 0)
          recorder.event(
            node,
            'Warning',
            'PodsNotEvicted',
            `Taken out of the cluster with Pods that could not be evicted: ${plan.left.map(keyOf).join(', ')}`,
          );
        await refuse(name);
        await dropRequests(name);
        // What was signed in between is refused, too.
        await refuse(name);
        return { requeueAfterMs: removalSettleMs };
      case 'wait':
        return { requeueAfterMs: plan.ms };
      case 'forget':
        await removeNode(client, name);
        return undefined;
    }
  });
  const enqueue = ({ metadata }: Node): void => {
    if (metadata.annotations?.[machineAnnotations.removal] !== undefined) queue.add(metadata.name);
  };
  nodes.addHandler({ added: enqueue, updated: enqueue });
  return { name: 'node-removal', queues: [queue] };
}
