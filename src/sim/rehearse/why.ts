/** Why a Pod does not run, in words that say what to do where that is not plain. Pure. */
import type { Pod } from '#api/core.v1.ts';
import { conditionOf } from '#controllers/pods.ts';

/** The scheduler's reason, when it has found no node. */
export function whyNotScheduled(pod: Pod): string | undefined {
  const condition = conditionOf(pod, 'PodScheduled');
  return condition?.status === 'False' ? (condition.message ?? 'not scheduled') : undefined;
}

function whyLeaving(pod: Pod, isUp: (node: string) => boolean): string {
  const node = pod.spec.nodeName;
  if (node === undefined || isUp(node)) return 'is being deleted';
  const owner = pod.metadata.ownerReferences?.find(({ controller }) => controller === true);
  const held = `deleted, but its node ${node} is down and cannot confirm that it has stopped`;
  return owner?.kind === 'StatefulSet'
    ? `${held}; a StatefulSet never makes a second Pod of one name (the node must come back, or be deleted, or "kubectl delete pod --force")`
    : held;
}

/** Why a Pod is not ready now. `missing` says what its volumes need that is not there: the status does not. */
export function whyNotReady(pod: Pod, isUp: (node: string) => boolean, missing: () => string | undefined): string {
  if (pod.metadata.deletionTimestamp !== undefined) return whyLeaving(pod, isUp);
  const unscheduled = whyNotScheduled(pod);
  if (unscheduled !== undefined) return unscheduled;
  const { initContainerStatuses = [], containerStatuses = [], phase = 'Pending' } = pod.status ?? {};
  const waiting = [...initContainerStatuses, ...containerStatuses]
    .map(({ state }) => state?.waiting)
    .find((state) => state !== undefined);
  const { nodeName } = pod.spec;
  const node = nodeName ?? 'no node';
  if (nodeName !== undefined && !isUp(nodeName)) return `its node ${node} is down`;
  const message = waiting === undefined ? undefined : (waiting.message ?? missing());
  if (waiting !== undefined) return `${waiting.reason}${message === undefined ? '' : `: ${message}`} on ${node}`;
  return `${phase} on ${node}, not ready`;
}
