/** Why a Pod does not run, in words that say what to do where that is not plain. Pure. */
import type { Json, KubeObject } from '#base/objects.ts';
import { conditionOf } from '#controllers/pods.ts';

/** The scheduler's reason, when it has found no node. */
export function whyNotScheduled(pod: KubeObject): string | undefined {
  const condition = conditionOf(pod, 'PodScheduled');
  return condition?.status === 'False' ? (condition.message ?? 'not scheduled') : undefined;
}

function whyLeaving(pod: KubeObject, isUp: (node: string) => boolean): string {
  const node: string | undefined = pod['spec'].nodeName;
  if (node === undefined || isUp(node)) return 'is being deleted';
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
  const held = `deleted, but its node ${node} is down and cannot confirm that it has stopped`;
  return owner?.kind === 'StatefulSet'
    ? `${held}; a StatefulSet never makes a second Pod of one name (the node must come back, or be deleted, or "kubectl delete pod --force")`
    : held;
}

/** Why a Pod is not ready now. `missing` says what its volumes need that is not there: the status does not. */
export function whyNotReady(
  pod: KubeObject,
  isUp: (node: string) => boolean,
  missing: () => string | undefined,
): string {
  if (pod.metadata.deletionTimestamp !== undefined) return whyLeaving(pod, isUp);
  const unscheduled = whyNotScheduled(pod);
  if (unscheduled !== undefined) return unscheduled;
  const waiting = [...(pod['status']?.initContainerStatuses ?? []), ...(pod['status']?.containerStatuses ?? [])]
    .map((status: Json) => status.state?.waiting)
    .find((state: Json) => state !== undefined);
  const node: string = pod['spec'].nodeName ?? 'no node';
  if (pod['spec'].nodeName !== undefined && !isUp(node)) return `its node ${node} is down`;
  const message: string | undefined = waiting === undefined ? undefined : (waiting.message ?? missing());
  if (waiting !== undefined) return `${waiting.reason}${message === undefined ? '' : `: ${message}`} on ${node}`;
  return `${pod['status']?.phase ?? 'Pending'} on ${node}, not ready`;
}
