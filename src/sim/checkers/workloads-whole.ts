/**
 * When faults have stopped every workload is whole again, on nodes that live: every Pod of a lost node has been
 * replaced.
 */
import { isPodReady } from '#controllers/pods.ts';
import type { Checker } from '../world.ts';

export function workloadsWhole(): Checker {
  const name = 'workloads-whole';
  return {
    name,
    atRest(world) {
      for (const deployment of world.of('apps/deployments')) {
        const { spec, status = {} } = deployment;
        const wanted: number = spec.replicas ?? 1;
        if (
          spec.paused !== true &&
          ((status.availableReplicas ?? 0) !== wanted || (status.updatedReplicas ?? 0) !== wanted)
        )
          world.report(
            name,
            `Deployment ${deployment.metadata.namespace}/${deployment.metadata.name} has ${status.availableReplicas ?? 0} available and ${status.updatedReplicas ?? 0} updated of ${wanted}`,
          );
      }
      for (const set of world.of('apps/statefulsets')) {
        const { spec, status = {} } = set;
        if ((status.readyReplicas ?? 0) !== (spec.replicas ?? 1) || status.currentRevision !== status.updateRevision)
          world.report(
            name,
            `StatefulSet ${set.metadata.name} has ${status.readyReplicas ?? 0} ready of ${spec.replicas}, revision ${status.currentRevision} of ${status.updateRevision}`,
          );
      }
      for (const set of world.of('apps/daemonsets')) {
        const { status = {} } = set;
        if (
          (status.numberReady ?? 0) !== (status.desiredNumberScheduled ?? 0) ||
          (status.updatedNumberScheduled ?? 0) !== (status.desiredNumberScheduled ?? 0)
        )
          world.report(
            name,
            `DaemonSet ${set.metadata.name} has ${status.numberReady ?? 0} ready and ${status.updatedNumberScheduled ?? 0} updated of ${status.desiredNumberScheduled}`,
          );
      }
      for (const pod of world.of('pods')) {
        const node: string | undefined = pod['spec'].nodeName;
        if (node !== undefined && isPodReady(pod) && world.cluster.nodes.get(node)?.isUp !== true)
          world.report(name, `Pod ${pod.metadata.name} counts as ready on ${node}, which is down`);
      }
    },
  };
}
