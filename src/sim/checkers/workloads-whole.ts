/**
 * When faults have stopped every workload is whole again, on nodes that live: every Pod of a lost node has been
 * replaced.
 */
import type { DaemonSetStatus, StatefulSetStatus } from '#api/apps.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isPodReady } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function workloadsWhole(): Checker {
  const name = 'workloads-whole';
  return {
    name,
    atRest(world) {
      for (const { metadata, spec, status = {} } of world.of(kinds.Deployment)) {
        const wanted = spec.replicas ?? 1;
        if (
          spec.paused !== true &&
          ((status.availableReplicas ?? 0) !== wanted || (status.updatedReplicas ?? 0) !== wanted)
        )
          world.report(
            name,
            `Deployment ${metadata.namespace}/${metadata.name} has ${status.availableReplicas ?? 0} available and ${status.updatedReplicas ?? 0} updated of ${wanted}`,
          );
      }
      for (const { metadata, spec, status } of world.of(kinds.StatefulSet)) {
        const { readyReplicas = 0, currentRevision, updateRevision }: Partial<StatefulSetStatus> = status ?? {};
        if (readyReplicas !== (spec.replicas ?? 1) || currentRevision !== updateRevision)
          world.report(
            name,
            `StatefulSet ${metadata.name} has ${readyReplicas} ready of ${spec.replicas}, revision ${currentRevision} of ${updateRevision}`,
          );
      }
      for (const { metadata, status } of world.of(kinds.DaemonSet)) {
        const {
          numberReady = 0,
          updatedNumberScheduled = 0,
          desiredNumberScheduled = 0,
        }: Partial<DaemonSetStatus> = status ?? {};
        if (numberReady !== desiredNumberScheduled || updatedNumberScheduled !== desiredNumberScheduled)
          world.report(
            name,
            `DaemonSet ${metadata.name} has ${numberReady} ready and ${updatedNumberScheduled} updated of ${desiredNumberScheduled}`,
          );
      }
      for (const pod of world.of(kinds.Pod)) {
        const node = pod.spec.nodeName;
        if (node !== undefined && isPodReady(pod) && world.cluster.nodes.get(node)?.isUp !== true)
          world.report(name, `Pod ${pod.metadata.name} counts as ready on ${node}, which is down`);
      }
    },
  };
}
