/**
 * The garbage collector (Kubernetes documentation, "Garbage Collection", "Use Cascading Deletion") takes nothing early
 * and leaves nothing behind.
 *
 * - What it asks to delete (it alone names UID and resourceVersion) has no owner that is there - but one that goes in
 *   the foreground and is blocked by it,
 *   or did so until a moment ago: no transaction spans two objects, so an owner may be told to orphan between the
 *   collector's last look and its request.
 * - While in touch it lets an owner that goes in the foreground go only after every dependent that blocks it, and one
 *   that orphans only after none names
 *   it any more (a user's second deletion with another policy takes the finalizer off as well).
 * - No ReplicaSet is cleared away while it has Pods and its Deployment lives. At rest no object names an owner that is
 *   not there.
 * - A Namespace goes after all that is in it ("Namespaces"): nothing is left of it, and at rest no object is in one
 *   that is not there.
 */
import type { ReplicaSet } from '#api/apps.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { type Checker, inFlightMs, isCommitOf, type World } from '../world.ts';
import { preconditionsOf } from './requests.ts';

const foregroundFinalizer = 'foregroundDeletion';
const orphanFinalizer = 'orphan';
const isForeground = ({ metadata }: KubeObject): boolean =>
  metadata.deletionTimestamp !== undefined && metadata.finalizers?.includes(foregroundFinalizer) === true;
const describe = (objects: readonly KubeObject[]): string =>
  objects.map(({ kind, metadata }) => `${kind} ${metadata.name}`).join(', ');

function judgeCollection(
  name: string,
  request: TransportRequest,
  turned: ReadonlyMap<string, number>,
  world: World,
): void {
  const { uid, resourceVersion } = preconditionsOf(request);
  const object = uid === undefined || resourceVersion === undefined ? undefined : world.anyByUid(uid);
  if (object === undefined) return;
  const alive = (object.metadata.ownerReferences ?? []).flatMap((reference) => {
    const owner = world.anyByUid(reference.uid);
    if (owner === undefined) return [];
    return reference.blockOwnerDeletion === true &&
      (isForeground(owner) || world.cluster.now - (turned.get(reference.uid) ?? -Infinity) <= inFlightMs)
      ? []
      : [owner];
  });
  if (alive.length > 0)
    world.report(name, `${object.kind} ${object.metadata.name} is collected while ${describe(alive)} lives`);
}

/** The request that takes the collector's finalizer off. */
function judgeRelease(name: string, { method, body }: TransportRequest, world: World): void {
  const sent = method === 'PATCH' ? fieldOf(body, 'metadata') : undefined;
  const [uid, finalizers] = [textOf(sent, 'uid'), fieldOf(sent, 'finalizers')];
  const owner = uid === undefined || finalizers === undefined ? undefined : world.anyByUid(uid);
  const released = (owner?.metadata.finalizers ?? []).filter((finalizer) => !itemsOf(finalizers).includes(finalizer));
  if (uid === undefined || owner === undefined || released.length === 0) return;
  const dependents = world.ownedBy(uid);
  const blocking = dependents.filter(({ metadata }) =>
    metadata.ownerReferences?.some((reference) => reference.uid === uid && reference.blockOwnerDeletion === true),
  );
  if (released.includes(foregroundFinalizer) && blocking.length > 0)
    world.report(name, `${owner.kind} ${owner.metadata.name} goes in the foreground before ${describe(blocking)}`);
  if (released.includes(orphanFinalizer) && dependents.length > 0)
    world.report(
      name,
      `${owner.kind} ${owner.metadata.name} was to orphan ${describe(dependents)}, which it still owns`,
    );
}

function judgeRemoval(name: string, { metadata, spec, status }: ReplicaSet, world: World): void {
  if ((spec.replicas ?? 1) === 0 && (status?.replicas ?? 0) === 0) return;
  const owner = metadata.ownerReferences?.find(({ controller }) => controller === true);
  const deployment = owner === undefined ? undefined : world.anyByUid(owner.uid);
  const isLeaving = metadata.deletionTimestamp !== undefined || world.isNamespaceLeaving(metadata.namespace);
  if (deployment !== undefined && deployment.metadata.deletionTimestamp === undefined && !isLeaving)
    world.report(name, `${metadata.name} was removed at size ${spec.replicas} while Deployment ${owner?.name} lives`);
}

function judgeNamespace(name: string, namespace: string, world: World): void {
  const left = [...world.objects].filter(([, { metadata }]) => metadata.namespace === namespace).map(([key]) => key);
  if (left.length > 0) world.report(name, `Namespace ${namespace} went before ${left.join(', ')}`);
}

export function ownersAlive(): Checker {
  const name = 'owners-alive';
  /** When owners that went in the foreground were last told otherwise, by UID. */
  const turned = new Map<string, number>();
  return {
    name,
    onRequest(part, request, world) {
      if (part !== 'controllers') return;
      judgeCollection(name, request, turned, world);
      if (world.isInTouch('controllers')) judgeRelease(name, request, world);
    },
    onCommit(commit, world) {
      const { object, previous, atMs } = commit;
      if (object !== undefined) {
        if (previous !== undefined && isForeground(previous) && !isForeground(object))
          turned.set(object.metadata.uid ?? '', atMs);
      } else if (isCommitOf(kinds.ReplicaSet, commit)) judgeRemoval(name, commit.last, world);
      else if (isCommitOf(kinds.Namespace, commit)) judgeNamespace(name, commit.last.metadata.name, world);
    },
    atRest(world) {
      for (const [key, { metadata }] of world.objects) {
        const gone = (metadata.ownerReferences ?? []).filter(({ uid }) => world.anyByUid(uid) === undefined);
        if (
          metadata.namespace !== undefined &&
          metadata.namespace !== '' &&
          !world.objects.has(`/registry/namespaces/${metadata.namespace}`)
        )
          world.report(name, `${key} is left, its Namespace is gone`);
        if (gone.length > 0)
          world.report(
            name,
            `${key} is left, its owners ${gone.map(({ kind, name: owner }) => `${kind} ${owner}`).join(', ')} are gone`,
          );
      }
    },
  };
}
