/**
 * At rest every status has caught up with its specification and says what is (Kubernetes documentation, "API
 * conventions": observedGeneration, conditions; "StatefulSets", stable storage): nothing is left half done, and each
 * StatefulSet's Pod has its own claims, each bound to one volume of its own.
 */
import type { ReplicaSetStatus } from '#api/apps.v1.ts';
import { kinds } from '#base/kinds.ts';
import { conditionOf, isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

function judgeGenerations(world: World, report: (message: string) => void): void {
  for (const objects of [
    world.of(kinds.Deployment),
    world.of(kinds.ReplicaSet),
    world.of(kinds.StatefulSet),
    world.of(kinds.DaemonSet),
    world.of(kinds.PodDisruptionBudget),
  ]) {
    for (const { kind, metadata, status } of objects)
      if (status?.observedGeneration !== metadata.generation)
        report(
          `${kind} ${metadata.name} is of generation ${metadata.generation}, its status of ${status?.observedGeneration}`,
        );
  }
}

function judgeReplicaSets(world: World, report: (message: string) => void): void {
  for (const { metadata, status } of world.of(kinds.ReplicaSet)) {
    const pods = world
      .ownedOf(kinds.Pod, metadata.uid)
      .filter((pod) => !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined);
    const { replicas = 0, readyReplicas = 0, availableReplicas = 0 }: Partial<ReplicaSetStatus> = status ?? {};
    const ready = pods.filter(isPodReady).length;
    if (replicas !== pods.length || readyReplicas !== ready || availableReplicas !== ready)
      report(
        `ReplicaSet ${metadata.name} says ${replicas} replicas, ${readyReplicas} ready, ${availableReplicas} available; it has ${pods.length}, ${ready} ready`,
      );
  }
}

function judgeDeployments(world: World, report: (message: string) => void): void {
  for (const deployment of world.of(kinds.Deployment)) {
    const { metadata, spec } = deployment;
    const who = `Deployment ${metadata.namespace}/${metadata.name}`;
    if (conditionOf(deployment, 'Available')?.status !== 'True') report(`${who} is not called available`);
    const progress = conditionOf(deployment, 'Progressing')?.reason;
    if (spec.paused !== true && progress !== 'NewReplicaSetAvailable') report(`${who} is called ${progress}`);
    if (conditionOf(deployment, 'ReplicaFailure') !== undefined) report(`${who} is called failing`);
    const old = world.ownedOf(kinds.ReplicaSet, metadata.uid).filter((one) => (one.spec.replicas ?? 1) === 0).length;
    if (old > (spec.revisionHistoryLimit ?? 10))
      report(`${who} keeps ${old} old ReplicaSets of ${spec.revisionHistoryLimit ?? 10}`);
  }
}

function judgeClaims(world: World, report: (message: string) => void): void {
  const users = new Map<string, string>();
  for (const claim of world.of(kinds.PersistentVolumeClaim)) {
    const volume = claim.spec.volumeName;
    if (volume === undefined) continue;
    const { namespace, name } = claim.metadata;
    const reference = world.get(kinds.PersistentVolume, volume)?.spec.claimRef;
    if (users.has(volume)) report(`claims ${users.get(volume)} and ${namespace}/${name} both have volume ${volume}`);
    users.set(volume, `${namespace}/${name}`);
    if (reference?.uid !== claim.metadata.uid)
      report(`claim ${namespace}/${name} is bound to ${volume}, which is bound to ${reference?.name ?? 'nothing'}`);
  }
  for (const set of world.of(kinds.StatefulSet)) {
    for (const { metadata, spec } of world.ownedOf(kinds.Pod, set.metadata.uid)) {
      for (const template of set.spec.volumeClaimTemplates ?? []) {
        const claimName = `${template.metadata?.name}-${metadata.name}`;
        const claim = world.get(kinds.PersistentVolumeClaim, claimName, metadata.namespace);
        const isMounted = (spec.volumes ?? []).some((volume) => volume.persistentVolumeClaim?.claimName === claimName);
        if (claim?.status?.phase !== 'Bound' || !isMounted)
          report(`Pod ${metadata.name} runs without its claim ${template.metadata?.name}`);
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
