/**
 * Roll-outs keep their bounds (Kubernetes documentation, "Deployments", Max Surge and Max Unavailable).
 *
 * What a controller decides rests on copies that lag, so each step is judged by what it may have seen: the versions of the Deployment from the
 * one it last said it had observed on, and of each ReplicaSet's available Pods the counts since its size was last set (the answer to that write is in its
 * copy) and since the controllers were last certainly up to date.
 * - Surge: whoever makes a ReplicaSet larger leaves no more Pods asked for together than replicas + surge.
 * - Unavailability: whoever makes one smaller leaves `replicas - maxUnavailable` available ones, or takes away none that is available.
 *   Nodes that are lost and containers that crash are not its doing, and scaling by the user spreads sizes regardless of availability ("Proportional scaling").
 */
import type { KubeObject } from '#base/objects.ts';
import { rollingBounds } from '#controllers/deployment-rolling.ts';
import type { Checker, Commit, World } from '../world.ts';

interface Version { generation: number; replicas: number; most: number; least: number; bounded: boolean }

const desiredAnnotation = 'deployment.kubernetes.io/desired-replicas';
const sizeOf = (replicaSet: KubeObject | undefined): number => (replicaSet === undefined ? 0 : (replicaSet['spec'].replicas ?? 1));
const availableOf = (replicaSet: KubeObject): number => replicaSet['status']?.availableReplicas ?? 0;
const ownerUid = (object: KubeObject): string | undefined => object.metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid;

function versionOf(deployment: KubeObject): Version {
  const { spec, metadata } = deployment;
  const replicas: number = spec.replicas ?? 1;
  const { maxSurge, maxUnavailable } = rollingBounds(deployment);
  return { generation: metadata.generation ?? 1, replicas, most: replicas + maxSurge, least: replicas - maxUnavailable, bounded: spec.strategy?.type !== 'Recreate' && spec.paused !== true && metadata.deletionTimestamp === undefined };
}

/** Sizes of a Deployment's ReplicaSets before this commit do not fit its replicas: it is being scaled. */
function isScaling(version: Version, { object, previous }: Commit, replicaSets: readonly KubeObject[]): boolean {
  return replicaSets.some((other) => {
    const held = other.metadata.uid === object?.metadata.uid ? previous : other;
    const desired = held?.metadata.annotations?.[desiredAnnotation];
    return held !== undefined && sizeOf(held) > 0 && desired !== undefined && Number(desired) !== version.replicas;
  });
}

export function rolloutBounds(): Checker {
  const name = 'rollout-bounds';
  /** By UID of the Deployment: what its controller may act by. */
  const versions = new Map<string, Version[]>();
  /** By UID of the ReplicaSet: how many were available, until when. */
  const counts = new Map<string, { available: number; untilMs: number }[]>();
  const seenCounts = (uid: string | undefined, world: World): number[] => {
    const known = (counts.get(uid ?? '') ?? []).filter(({ untilMs }) => untilMs >= world.knownMs('controllers'));
    return known.length === 0 ? [0] : known.map(({ available }) => available);
  };

  const noteDeployment = (deployment: KubeObject): void => {
    const uid = deployment.metadata.uid!;
    const observed: number = deployment['status']?.observedGeneration ?? 0;
    const version = versionOf(deployment);
    const held = versions.get(uid) ?? [];
    versions.set(uid, [...held.filter(({ generation }) => generation >= observed && generation !== version.generation), version]);
  };

  const judge = (commit: Commit, replicaSet: KubeObject, owner: string, world: World): void => {
    const known = versions.get(owner);
    const [before, now] = [sizeOf(commit.previous), sizeOf(replicaSet)];
    if (known === undefined || before === now) return;
    const all = world.ownedBy(owner).filter(({ kind }) => kind === 'ReplicaSet');
    const total = all.reduce((sum, other) => sum + sizeOf(other), 0);
    const who = `${replicaSet.metadata.namespace}/${replicaSet.metadata.name}`;
    if (now > before) {
      const most = Math.max(...known.map((version) => version.most));
      if (total > most) world.report(name, `${who} grew from ${before} to ${now}: the ReplicaSets ask for ${total} Pods together, ${most} are allowed`);
      return;
    }
    if (now >= Math.min(...seenCounts(replicaSet.metadata.uid, world))) return;
    const left = all.reduce((sum, other) => sum + Math.min(sizeOf(other), Math.max(...seenCounts(other.metadata.uid, world))), 0);
    const may = known.some((version) => !version.bounded || left >= version.least || isScaling(version, commit, all));
    if (!may) world.report(name, `${who} shrank from ${before} to ${now}: at best ${left} Pods are left available, ${Math.min(...known.map(({ least }) => least))} are wanted`);
  };

  return {
    name,
    onCommit(commit, world) {
      const { object, previous, key } = commit;
      if (key.startsWith('/registry/apps/deployments/')) {
        if (object === undefined) versions.delete(previous?.metadata.uid ?? '');
        else noteDeployment(object);
      }
      if (!key.startsWith('/registry/apps/replicasets/')) return;
      if (object === undefined) { counts.delete(previous?.metadata.uid ?? ''); return; }
      const uid = object.metadata.uid!;
      const owner = ownerUid(object);
      if (owner !== undefined) judge(commit, object, owner, world);
      const held = sizeOf(previous) === sizeOf(object) ? (counts.get(uid) ?? []).filter(({ untilMs }) => untilMs >= world.knownMs('controllers')) : [];
      const last = held.at(-1);
      if (last?.available === availableOf(object)) return;
      if (last !== undefined) last.untilMs = commit.atMs;
      counts.set(uid, [...held, { available: availableOf(object), untilMs: Infinity }]);
    },
  };
}
