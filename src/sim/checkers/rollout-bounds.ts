/**
 * Roll-outs keep their bounds (Kubernetes documentation, "Deployments", Max Surge and Max Unavailable).
 *
 * What a controller decides rests on copies that lag, so each step is judged by what it may have seen: the versions of
 * the Deployment from the one it last said it had observed on, and of each ReplicaSet's available Pods the counts since
 * its size was last set (the answer to that write is in its copy) and since the controllers were last certainly up to
 * date.
 * - Surge: whoever makes a ReplicaSet larger leaves no more Pods asked for together than replicas + surge.
 * - Unavailability: whoever makes one smaller leaves `replicas - maxUnavailable` available ones, or takes away none
 *   that is available.
 *   (Both are worked out here again: surge rounds up, unavailability down, and where both are nothing one Pod may be
 *   unavailable.)
 *   Nodes that are lost and containers that crash are not its doing, and scaling by the user spreads sizes regardless
 *   of availability ("Proportional scaling").
 * - Recreate: no ReplicaSet grows while Pods of another one, made before the controllers last certainly knew all, have
 *   not ended.
 * - A ReplicaSet never has more Pods than it was asked for, but for those whose creation nobody answered, or that a
 *   network which doubles may have asked for twice.
 */
import type { Deployment, DeploymentSpec, ReplicaSet } from '#api/apps.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import type { IntOrString } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { isPodActive, isPodTerminal } from '#controllers/pods.ts';
import { type Checker, type CommitOf, isCommitOf, type World } from '../world.ts';
import { ownerOfNewPod } from './requests.ts';

interface Version {
  generation: number;
  replicas: number;
  most: number;
  least: number;
  bounded: boolean;
  recreate: boolean;
}

const desiredAnnotation = 'deployment.kubernetes.io/desired-replicas';
const sizeOf = (replicaSet: ReplicaSet | undefined): number =>
  replicaSet === undefined ? 0 : (replicaSet.spec.replicas ?? 1);
const availableOf = (replicaSet: ReplicaSet): number => replicaSet.status?.availableReplicas ?? 0;
const hashOf = ({ spec }: ReplicaSet): string | undefined => spec.template?.metadata?.labels?.['pod-template-hash'];
const ownerUid = (object: KubeObject): string | undefined =>
  object.metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid;

/** A number, or a percentage of the replicas. */
function shareOf(value: IntOrString, replicas: number, round: (share: number) => number): number {
  return typeof value === 'string' ? round((Number.parseInt(value, 10) * replicas) / 100) : value;
}

function boundsOf({ strategy = {} }: DeploymentSpec, replicas: number): { surge: number; unavailable: number } {
  if (strategy.type === 'Recreate') return { surge: 0, unavailable: replicas };
  const surge = shareOf(strategy.rollingUpdate?.maxSurge ?? '25%', replicas, Math.ceil);
  const unavailable = shareOf(strategy.rollingUpdate?.maxUnavailable ?? '25%', replicas, Math.floor);
  return { surge, unavailable: surge === 0 && unavailable === 0 ? 1 : unavailable };
}

function versionOf({ spec, metadata }: Deployment): Version {
  const replicas = spec.replicas ?? 1;
  const { surge, unavailable } = boundsOf(spec, replicas);
  const recreate = spec.strategy?.type === 'Recreate';
  return {
    generation: metadata.generation ?? 1,
    replicas,
    recreate,
    most: replicas + surge,
    least: replicas - unavailable,
    bounded: !recreate && spec.paused !== true && metadata.deletionTimestamp === undefined,
  };
}

/** Sizes of a Deployment's ReplicaSets before this commit do not fit its replicas: it is being scaled. */
function isScaling(
  version: Version,
  { last, previous }: CommitOf<ReplicaSet>,
  replicaSets: readonly ReplicaSet[],
): boolean {
  return replicaSets.some((other) => {
    const held = other.metadata.uid === last.metadata.uid ? previous : other;
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
  const seenCounts = (uid: string, world: World): number[] => {
    const known = (counts.get(uid) ?? []).filter(({ untilMs }) => untilMs >= world.knownMs('controllers'));
    return known.length === 0 ? [0] : known.map(({ available }) => available);
  };

  const noteDeployment = (deployment: Deployment): void => {
    const { uid } = deployment.metadata;
    const observed = deployment.status?.observedGeneration ?? 0;
    const version = versionOf(deployment);
    const held = versions.get(uid) ?? [];
    versions.set(uid, [
      ...held.filter(({ generation }) => generation >= observed && generation !== version.generation),
      version,
    ]);
  };

  const judge = (commit: CommitOf<ReplicaSet>, owner: string, world: World): void => {
    const replicaSet = commit.last;
    const known = versions.get(owner);
    const [before, now] = [sizeOf(commit.previous), sizeOf(replicaSet)];
    if (known === undefined || before === now) return;
    const all = world.ownedOf(kinds.ReplicaSet, owner);
    const total = all.reduce((sum, other) => sum + sizeOf(other), 0);
    const who = `${replicaSet.metadata.namespace}/${replicaSet.metadata.name}`;
    if (now > before) {
      const most = Math.max(...known.map((version) => version.most));
      if (total > most)
        world.report(
          name,
          `${who} grew from ${before} to ${now}: the ReplicaSets ask for ${total} Pods together, ${most} are allowed`,
        );
      if (known.every(({ recreate }) => recreate)) judgeRecreate(who, replicaSet, all, world);
      return;
    }
    if (now >= Math.min(...seenCounts(replicaSet.metadata.uid, world))) return;
    const left = all.reduce(
      (sum, other) => sum + Math.min(sizeOf(other), Math.max(...seenCounts(other.metadata.uid, world))),
      0,
    );
    const may = known.some((version) => !version.bounded || left >= version.least || isScaling(version, commit, all));
    if (!may)
      world.report(
        name,
        `${who} shrank from ${before} to ${now}: at best ${left} Pods are left available, ${Math.min(...known.map(({ least }) => least))} are wanted`,
      );
  };

  const judgeRecreate = (who: string, replicaSet: ReplicaSet, all: readonly ReplicaSet[], world: World): void => {
    for (const other of all) {
      if (other.metadata.uid === replicaSet.metadata.uid || hashOf(other) === hashOf(replicaSet)) continue;
      const left = world
        .ownedOf(kinds.Pod, other.metadata.uid)
        .find(
          (pod) => !isPodTerminal(pod) && Date.parse(pod.metadata.creationTimestamp) < world.knownMs('controllers'),
        );
      if (left !== undefined)
        world.report(
          name,
          `${who} grew while Pod ${left.metadata.name} of ${other.metadata.name} had not ended: its Deployment recreates`,
        );
    }
  };

  /** By UID of the ReplicaSet: creations that nobody answered, or that may arrive twice. */
  const unanswered = new Map<string, number>();
  /** By UID of the ReplicaSet: the sizes that its controller may act by, until when. */
  const sizes = new Map<string, { size: number; untilMs: number }[]>();
  const noteSize = (replicaSet: ReplicaSet, atMs: number, world: World): void => {
    const { uid } = replicaSet.metadata;
    const held = (sizes.get(uid) ?? []).filter(({ untilMs }) => untilMs >= world.knownMs('controllers'));
    const last = held.at(-1);
    if (last?.size === sizeOf(replicaSet)) return;
    if (last !== undefined) last.untilMs = atMs;
    sizes.set(uid, [...held, { size: sizeOf(replicaSet), untilMs: Infinity }]);
  };
  const judgePod = (pod: Pod, world: World): void => {
    const uid = ownerUid(pod) ?? '';
    const known = sizes.get(uid);
    if (known === undefined) return;
    const most = Math.max(...known.map(({ size }) => size)) + (unanswered.get(uid) ?? 0);
    const active = world.ownedOf(kinds.Pod, uid).filter(isPodActive).length;
    if (active > most)
      world.report(name, `Pod ${pod.metadata.name} is one of ${active}, its ReplicaSet was asked for ${most}`);
  };

  const allowOneMore = (request: TransportRequest): void => {
    const uid = ownerOfNewPod(request)?.uid;
    if (uid !== undefined) unanswered.set(uid, (unanswered.get(uid) ?? 0) + 1);
  };

  return {
    name,
    onRequest(part, request, world) {
      if (world.cluster.networks[part].faults.duplication > 0) allowOneMore(request);
    },
    onFailure(_part, request) {
      allowOneMore(request);
    },
    onCommit(commit, world) {
      if (isCommitOf(kinds.Deployment, commit)) {
        if (commit.object === undefined) versions.delete(commit.last.metadata.uid);
        else noteDeployment(commit.object);
      }
      if (isCommitOf(kinds.Pod, commit) && commit.previous === undefined) judgePod(commit.last, world);
      if (!isCommitOf(kinds.ReplicaSet, commit)) return;
      const {
        object,
        previous,
        last: { metadata },
      } = commit;
      const { uid } = metadata;
      if (object === undefined) {
        for (const map of [counts, sizes, unanswered]) map.delete(uid);
        return;
      }
      noteSize(object, commit.atMs, world);
      const owner = ownerUid(object);
      if (owner !== undefined) judge(commit, owner, world);
      const held =
        sizeOf(previous) === sizeOf(object)
          ? (counts.get(uid) ?? []).filter(({ untilMs }) => untilMs >= world.knownMs('controllers'))
          : [];
      const last = held.at(-1);
      if (last?.available === availableOf(object)) return;
      if (last !== undefined) last.untilMs = commit.atMs;
      counts.set(uid, [...held, { available: availableOf(object), untilMs: Infinity }]);
    },
  };
}
