/**
 * At rest every status has caught up with its specification and says what is (Kubernetes documentation, "API
 * conventions": observedGeneration, conditions; "StatefulSets", stable storage): nothing is left half done, and each
 * StatefulSet's Pod has its own claims, each bound to one volume of its own.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

const observed = [
  'apps/deployments',
  'apps/replicasets',
  'apps/statefulsets',
  'apps/daemonsets',
  'policy/poddisruptionbudgets',
];

function judgeGenerations(world: World, report: (message: string) => void): void {
  for (const resource of observed) {
    for (const { kind, metadata, status } of world.of(resource))
      if (status?.observedGeneration !== metadata.generation)
        report(
          `${kind} ${metadata.name} is of generation ${metadata.generation}, its status of ${status?.observedGeneration}`,
        );
  }
}

function judgeReplicaSets(world: World, report: (message: string) => void): void {
  for (const replicaSet of world.of('apps/replicasets')) {
    const pods = world
      .ownedBy(replicaSet.metadata.uid!)
      .filter((pod) => pod.kind === 'Pod' && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined);
    const { replicas = 0, readyReplicas = 0, availableReplicas = 0 } = replicaSet['status'] ?? {};
    const ready = pods.filter(isPodReady).length;
    if (replicas !== pods.length || readyReplicas !== ready || availableReplicas !== ready)
      report(
        `ReplicaSet ${replicaSet.metadata.name} says ${replicas} replicas, ${readyReplicas} ready, ${availableReplicas} available; it has ${pods.length}, ${ready} ready`,
      );
  }
}

function judgeDeployments(world: World, report: (message: string) => void): void {
  for (const { metadata, spec, status } of world.of('apps/deployments')) {
    const condition = (type: string): Json => (status?.conditions ?? []).find((one: Json) => one.type === type);
    const who = `Deployment ${metadata.namespace}/${metadata.name}`;
    if (condition('Available')?.status !== 'True') report(`${who} is not called available`);
    if (spec.paused !== true && condition('Progressing')?.reason !== 'NewReplicaSetAvailable')
      report(`${who} is called ${condition('Progressing')?.reason}`);
    if (condition('ReplicaFailure') !== undefined) report(`${who} is called failing`);
    const old = world
      .ownedBy(metadata.uid!)
      .filter((one) => one.kind === 'ReplicaSet' && (one['spec'].replicas ?? 1) === 0).length;
    if (old > (spec.revisionHistoryLimit ?? 10))
      report(`${who} keeps ${old} old ReplicaSets of ${spec.revisionHistoryLimit ?? 10}`);
  }
}

function judgeClaims(world: World, report: (message: string) => void): void {
  const users = new Map<string, string>();
  for (const claim of world.of('persistentvolumeclaims')) {
    const volume: string | undefined = claim['spec'].volumeName;
    if (volume === undefined) continue;
    const { namespace, name } = claim.metadata;
    const reference = world.objects.get(`/registry/persistentvolumes/${volume}`)?.['spec'].claimRef;
    if (users.has(volume)) report(`claims ${users.get(volume)} and ${namespace}/${name} both have volume ${volume}`);
    users.set(volume, `${namespace}/${name}`);
    if (reference?.uid !== claim.metadata.uid)
      report(`claim ${namespace}/${name} is bound to ${volume}, which is bound to ${reference?.name ?? 'nothing'}`);
  }
  for (const set of world.of('apps/statefulsets')) {
    for (const pod of world.ownedBy(set.metadata.uid!).filter(({ kind }) => kind === 'Pod')) {
      for (const template of (set['spec'].volumeClaimTemplates ?? []) as KubeObject[]) {
        const claim = world.objects.get(
          `/registry/persistentvolumeclaims/${pod.metadata.namespace}/${template.metadata.name}-${pod.metadata.name}`,
        );
        const isMounted = ((pod['spec'].volumes ?? []) as Json[]).some(
          (volume) => volume.persistentVolumeClaim?.claimName === claim?.metadata.name,
        );
        if (claim?.['status']?.phase !== 'Bound' || !isMounted)
          report(`Pod ${pod.metadata.name} runs without its claim ${template.metadata.name}`);
      }
    }
  }
}

export function statusSettled(): Checker {
  const name = 'status-settled';
  return {
    name,
    atRest(world) {
      const report = (message: string): void => world.report(name, message);
      for (const judge of [judgeGenerations, judgeReplicaSets, judgeDeployments, judgeClaims]) judge(world, report);
    },
  };
}
