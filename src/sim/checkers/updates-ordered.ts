/**
 * StatefulSets and DaemonSets take Pods down in order (Kubernetes documentation, "StatefulSets": deployment and scaling
 * guarantees, rolling updates, partitions; "Perform a Rolling Update on a DaemonSet").
 *
 * Judged is each Pod that the controllers, while they are in touch, ask to delete for an update, by whether it was free
 * to go at some moment that they may have seen. A StatefulSet's:
 * of an old revision, not below the partition, fewer of the others unavailable than may be, and all above it updated -
 * unless it is itself broken. A DaemonSet's: of an old revision, and itself unavailable or fewer of the other nodes
 * without one than may be. A StatefulSet in order makes a Pod only after all below it were ready at once since that Pod
 * was last gone. Their own specification they know from the generation on that they last said they had observed. Pods
 * that ended, are surplus, or were on a tainted node, go for other reasons.
 */
import type { ControllerRevision, DaemonSet, StatefulSet } from '#api/apps.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { kinds } from '#client/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { nodeOf, nodeSuits } from '#controllers/daemonset.ts';
import { resolveIntOrPercent } from '#controllers/deployment-rolling.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import { revisionHashLabel } from '#controllers/revisions.ts';
import { ordinalOf } from '#controllers/statefulset.ts';
import type { Checker, Commit, World } from '../world.ts';

const ownerOf = (object: KubeObject): { kind: string; uid: string } | undefined =>
  object.metadata.ownerReferences?.find(({ controller }) => controller === true);
const isPod = (object: KubeObject): object is Pod => isOf(kinds.Pod, object);
const isHealthy = (pod: Pod): boolean =>
  isPodReady(pod) && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;

/**
 * The revision that Pods shall come to: the newest made. A Pod's label names it by its name (StatefulSet) or hash
 * (DaemonSet).
 */
function newestRevision(owned: readonly KubeObject[]): ControllerRevision | undefined {
  let newest: ControllerRevision | undefined;
  for (const object of owned)
    if (
      isOf(kinds.ControllerRevision, object) &&
      (newest === undefined || (object.revision ?? 0) > (newest.revision ?? 0))
    )
      newest = object;
  return newest;
}

function isOfRevision(pod: Pod, revision: ControllerRevision): boolean {
  const hash = pod.metadata.labels?.[revisionHashLabel];
  return hash === revision.metadata.name || hash === revision.metadata.labels?.[revisionHashLabel];
}

class Order {
  /** By UID of the Pod, until when it was free to be taken down. */
  readonly #freeUntilMs = new Map<string, number>();
  /** By node, when it last had a taint that evicts. */
  readonly #taintedMs = new Map<string, number>();
  /** Identities that may be made: all below were ready at once since they were last gone. */
  readonly #due = new Set<string>();
  /** By UID of the set: the versions that its controller may act by, newest last. */
  readonly #versions = new Map<string, KubeObject[]>();
  readonly #report: (message: string) => void;
  readonly #world: World;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  see({ object, previous, key }: Commit): void {
    const changed = object ?? previous;
    if (changed === undefined) return;
    if (changed.kind === 'Node') this.#seeNode(object, changed.metadata.name!);
    const owner =
      changed.kind === 'StatefulSet' || changed.kind === 'DaemonSet'
        ? { kind: changed.kind, uid: changed.metadata.uid! }
        : changed.kind === 'Pod' || changed.kind === 'ControllerRevision'
          ? ownerOf(changed)
          : undefined;
    if (owner === undefined) return;
    if (changed.kind === 'Pod' && owner.kind === 'StatefulSet')
      this.#seeIdentity(owner.uid, changed, object, previous, key);
    if (changed === object && owner.uid === changed.metadata.uid) this.#noteVersion(changed);
    if (object === undefined && owner.uid === changed.metadata.uid) this.#versions.delete(owner.uid);
    if (this.#versions.has(owner.uid)) this.#look(owner.uid);
  }

  #look(uid: string): void {
    const free = new Set<string>();
    const owned = this.#world.ownedBy(uid);
    for (const set of this.#versions.get(uid)!) {
      if (isOf(kinds.StatefulSet, set)) this.#lookAtStatefulSet(set, owned, free);
      else if (isOf(kinds.DaemonSet, set)) this.#lookAtDaemonSet(set, owned, free);
    }
    for (const { metadata } of owned) {
      if (free.has(metadata.uid!)) this.#freeUntilMs.set(metadata.uid!, Infinity);
      else if (this.#freeUntilMs.get(metadata.uid!) === Infinity)
        this.#freeUntilMs.set(metadata.uid!, this.#world.cluster.now);
    }
  }

  #noteVersion(set: KubeObject): void {
    const observed: number = set['status']?.observedGeneration ?? 0;
    const held = this.#versions.get(set.metadata.uid!) ?? [];
    this.#versions.set(set.metadata.uid!, [
      ...held.filter(
        ({ metadata }) => metadata.generation! >= observed && metadata.generation !== set.metadata.generation,
      ),
      set,
    ]);
  }

  #seeNode(node: KubeObject | undefined, name: string): void {
    const evicts = (node?.['spec']?.taints ?? []).some(
      ({ effect }: { effect: string }) => effect === 'NoExecute',
    ) as boolean;
    if (evicts) this.#taintedMs.set(name, Infinity);
    else if (this.#taintedMs.get(name) === Infinity) this.#taintedMs.set(name, this.#world.cluster.now);
    for (const [uid, [set]] of this.#versions) if (set?.kind === 'DaemonSet') this.#look(uid);
  }

  #seeIdentity(
    owner: string,
    pod: KubeObject,
    object: KubeObject | undefined,
    previous: KubeObject | undefined,
    key: string,
  ): void {
    const set = this.#world.byUid(owner);
    const ordinal = set === undefined ? undefined : ordinalOf(set, pod);
    if (set === undefined || ordinal === undefined) return;
    if (object === undefined) {
      this.#freeUntilMs.delete(pod.metadata.uid!);
      this.#due.delete(key);
    }
    const isNew = object !== undefined && previous === undefined;
    if (
      isNew &&
      set['spec'].podManagementPolicy !== 'Parallel' &&
      ordinal > (set['spec'].ordinals?.start ?? 0) &&
      !this.#due.has(key)
    )
      this.#report(`${pod.metadata.name} was made before all below it were ready`);
  }

  #lookAtStatefulSet(set: StatefulSet, owned: readonly KubeObject[], free: Set<string>): void {
    const { spec } = set;
    const revision = newestRevision(owned);
    const byOrdinal = new Map(owned.filter(isPod).map((pod) => [ordinalOf(set, pod)!, pod]));
    const start: number = spec.ordinals?.start ?? 0;
    const end: number = start + (spec.replicas ?? 1);
    const prefix = `/registry/pods/${set.metadata.namespace}/${set.metadata.name}-`;
    // The first that may be made after all those before it are ready; with none unready, any.
    for (let ordinal = start; ordinal < end; ordinal++) {
      this.#due.add(`${prefix}${ordinal}`);
      const pod = byOrdinal.get(ordinal);
      if (pod === undefined || !isHealthy(pod)) break;
    }
    for (const [ordinal, pod] of byOrdinal) if (ordinal < start || ordinal >= end) free.add(pod.metadata.uid);
    if (revision === undefined || spec.updateStrategy?.type === 'OnDelete') return;
    const rolling = spec.updateStrategy?.rollingUpdate ?? {};
    const most =
      rolling.maxUnavailable === undefined
        ? 1
        : Math.max(1, resolveIntOrPercent(rolling.maxUnavailable, spec.replicas ?? 1, true));
    let down = 0;
    for (let ordinal = start; ordinal < end; ordinal++)
      if (byOrdinal.get(ordinal) === undefined || !isHealthy(byOrdinal.get(ordinal)!)) down++;
    let aboveIsNew = true;
    for (let ordinal = end - 1; ordinal >= start + (rolling.partition ?? 0); ordinal--) {
      const pod = byOrdinal.get(ordinal);
      const isNew = pod !== undefined && isOfRevision(pod, revision);
      if (
        pod !== undefined &&
        !isNew &&
        down - (isHealthy(pod) ? 0 : 1) < most &&
        (aboveIsNew || most > 1 || !isHealthy(pod))
      )
        free.add(pod.metadata.uid);
      aboveIsNew &&= isNew;
    }
  }

  #lookAtDaemonSet(set: DaemonSet, owned: readonly KubeObject[], free: Set<string>): void {
    const revision = newestRevision(owned);
    if (revision === undefined || set.spec.updateStrategy?.type === 'OnDelete') return;
    const rolling = set.spec.updateStrategy?.rollingUpdate ?? {};
    const pods = owned.filter(isPod);
    const served = new Set(pods.filter(isHealthy).map(nodeOf));
    const wanted = [...this.#world.of('nodes')]
      .filter((node) => isOf(kinds.Node, node))
      .filter((node) => nodeSuits(set, node).run)
      .map(({ metadata }) => metadata.name);
    const most = Math.max(1, resolveIntOrPercent(rolling.maxUnavailable ?? 1, wanted.length, true));
    const down = wanted.filter((node) => !served.has(node)).length;
    const surges = resolveIntOrPercent(rolling.maxSurge ?? 0, wanted.length, true) > 0;
    for (const pod of pods)
      if (!isOfRevision(pod, revision) && (!isHealthy(pod) || surges || down < most)) free.add(pod.metadata.uid);
    // Of several on one node all but one are too many.
    const nodes = pods.map(nodeOf);
    for (const pod of pods)
      if (nodes.indexOf(nodeOf(pod)) !== nodes.lastIndexOf(nodeOf(pod))) free.add(pod.metadata.uid);
  }

  asked({ method, path, body }: TransportRequest): void {
    const match = method === 'DELETE' ? /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)$/.exec(path) : null;
    const pod = match === null ? undefined : this.#world.objects.get(`/registry/pods/${match[1]}/${match[2]}`);
    const owner = pod === undefined ? undefined : ownerOf(pod);
    if (pod === undefined || !isPod(pod) || (owner?.kind !== 'StatefulSet' && owner?.kind !== 'DaemonSet')) return;
    const wanted = (body as { preconditions?: { uid?: string } } | undefined)?.preconditions?.uid;
    const set = this.#world.byUid(owner.uid);
    if (
      (wanted !== undefined && wanted !== pod.metadata.uid) ||
      set === undefined ||
      set.metadata.deletionTimestamp !== undefined ||
      isPodTerminal(pod) ||
      pod.metadata.deletionTimestamp !== undefined
    )
      return;
    const node = nodeOf(pod) ?? '';
    const isLost =
      (this.#taintedMs.get(node) ?? -Infinity) >= Date.parse(pod.metadata.creationTimestamp ?? '') ||
      !this.#world.objects.has(`/registry/nodes/${node}`);
    const isLeaving =
      this.#world.objects.get(`/registry/namespaces/${pod.metadata.namespace}`)?.metadata.deletionTimestamp !==
      undefined;
    if (!isLost && !isLeaving && (this.#freeUntilMs.get(pod.metadata.uid) ?? -1) < this.#world.knownMs('controllers'))
      this.#report(`${owner.kind} ${set.metadata.name} took down ${pod.metadata.name} out of turn`);
  }
}

export function updatesOrdered(): Checker {
  const name = 'updates-ordered';
  let order: Order | undefined;
  return {
    name,
    onCommit(commit, world) {
      (order ??= new Order(world, name)).see(commit);
    },
    onRequest(part, request, world) {
      if (part === 'controllers' && world.isInTouch('controllers')) order?.asked(request);
    },
  };
}
