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
import type { Node, Pod } from '#api/core.v1.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { nodeOf, nodeSuits } from '#controllers/daemonset.ts';
import { resolveIntOrPercent } from '#controllers/deployment-rolling.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import { revisionHashLabel } from '#controllers/revisions.ts';
import { ordinalOf } from '#controllers/statefulset.ts';
import { type Checker, type Commit, type CommitOf, isCommitOf, storeKeyOf, type World } from '../world.ts';
import { preconditionsOf } from './requests.ts';

const ownerOf = (object: KubeObject): { kind: string; uid: string } | undefined =>
  object.metadata.ownerReferences?.find(({ controller }) => controller === true);
const isPod = (object: KubeObject): object is Pod => isOf(kinds.Pod, object);
type OrderedSet = StatefulSet | DaemonSet;
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
  readonly #versions = new Map<string, OrderedSet[]>();
  readonly #report: (message: string) => void;
  readonly #world: World;

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  see(commit: Commit): void {
    if (isCommitOf(kinds.Node, commit)) this.#seeNode(commit);
    else if (isCommitOf(kinds.StatefulSet, commit) || isCommitOf(kinds.DaemonSet, commit)) {
      const { object, last } = commit;
      if (object === undefined) this.#versions.delete(last.metadata.uid);
      else this.#noteVersion(object);
      this.#look(last.metadata.uid);
    } else if (isCommitOf(kinds.Pod, commit)) {
      const owner = ownerOf(commit.last);
      if (owner?.kind === 'StatefulSet') this.#seeIdentity(owner.uid, commit);
      if (owner !== undefined) this.#look(owner.uid);
    } else if (isCommitOf(kinds.ControllerRevision, commit)) {
      const owner = ownerOf(commit.last);
      if (owner !== undefined) this.#look(owner.uid);
    }
  }

  /** What a set controls has changed, or itself: nothing of it is free that is not free now. */
  #look(uid: string): void {
    const sets = this.#versions.get(uid);
    if (sets === undefined) return;
    const free = new Set<string>();
    const owned = this.#world.ownedBy(uid);
    for (const set of sets) {
      if (set.kind === 'StatefulSet') this.#lookAtStatefulSet(set, owned, free);
      else this.#lookAtDaemonSet(set, owned, free);
    }
    for (const pod of owned.filter(isPod)) {
      const podUid = pod.metadata.uid;
      if (free.has(podUid)) this.#freeUntilMs.set(podUid, Infinity);
      else if (this.#freeUntilMs.get(podUid) === Infinity) this.#freeUntilMs.set(podUid, this.#world.cluster.now);
    }
  }

  #noteVersion(set: OrderedSet): void {
    const { uid, generation } = set.metadata;
    const observed = set.status?.observedGeneration ?? 0;
    const held = (this.#versions.get(uid) ?? []).filter(
      ({ metadata }) => (metadata.generation ?? 0) >= observed && metadata.generation !== generation,
    );
    this.#versions.set(uid, [...held, set]);
  }

  #seeNode({ object, last }: CommitOf<Node>): void {
    const { name } = last.metadata;
    const evicts = (object?.spec.taints ?? []).some(({ effect }) => effect === 'NoExecute');
    if (evicts) this.#taintedMs.set(name, Infinity);
    else if (this.#taintedMs.get(name) === Infinity) this.#taintedMs.set(name, this.#world.cluster.now);
    for (const [uid, [set]] of this.#versions) if (set?.kind === 'DaemonSet') this.#look(uid);
  }

  #seeIdentity(owner: string, { object, previous, last, key }: CommitOf<Pod>): void {
    const set = this.#world.byUid(kinds.StatefulSet, owner);
    const ordinal = set === undefined ? undefined : ordinalOf(set, last);
    if (set === undefined || ordinal === undefined) return;
    if (object === undefined) {
      this.#freeUntilMs.delete(last.metadata.uid);
      this.#due.delete(key);
    }
    const isNew = object !== undefined && previous === undefined;
    const { podManagementPolicy, ordinals } = set.spec;
    if (isNew && podManagementPolicy !== 'Parallel' && ordinal > (ordinals?.start ?? 0) && !this.#due.has(key))
      this.#report(`${last.metadata.name} was made before all below it were ready`);
  }

  #lookAtStatefulSet(set: StatefulSet, owned: readonly KubeObject[], free: Set<string>): void {
    const { spec } = set;
    const revision = newestRevision(owned);
    const byOrdinal = new Map<number, Pod>();
    for (const pod of owned.filter(isPod)) {
      const ordinal = ordinalOf(set, pod);
      if (ordinal !== undefined) byOrdinal.set(ordinal, pod);
    }
    const isUp = (pod: Pod | undefined): boolean => pod !== undefined && isHealthy(pod);
    const start = spec.ordinals?.start ?? 0;
    const end = start + (spec.replicas ?? 1);
    // The first that may be made after all those before it are ready; with none unready, any.
    for (let ordinal = start; ordinal < end; ordinal++) {
      this.#due.add(storeKeyOf(kinds.Pod, `${set.metadata.name}-${ordinal}`, set.metadata.namespace));
      if (!isUp(byOrdinal.get(ordinal))) break;
    }
    for (const [ordinal, pod] of byOrdinal) if (ordinal < start || ordinal >= end) free.add(pod.metadata.uid);
    if (revision === undefined || spec.updateStrategy?.type === 'OnDelete') return;
    const rolling = spec.updateStrategy?.rollingUpdate ?? {};
    const most =
      rolling.maxUnavailable === undefined
        ? 1
        : Math.max(1, resolveIntOrPercent(rolling.maxUnavailable, spec.replicas ?? 1, true));
    let down = 0;
    for (let ordinal = start; ordinal < end; ordinal++) if (!isUp(byOrdinal.get(ordinal))) down++;
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
    const wanted = [...this.#world.of(kinds.Node)]
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

  asked(request: TransportRequest): void {
    const [, namespace, name = ''] = /^\/api\/v1\/namespaces\/([^/]+)\/pods\/([^/]+)$/.exec(request.path) ?? [];
    const pod = request.method === 'DELETE' ? this.#world.get(kinds.Pod, name, namespace) : undefined;
    const owner = pod === undefined ? undefined : ownerOf(pod);
    if (pod === undefined || (owner?.kind !== 'StatefulSet' && owner?.kind !== 'DaemonSet')) return;
    const wanted = preconditionsOf(request).uid;
    const set = this.#world.anyByUid(owner.uid);
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
      (this.#taintedMs.get(node) ?? -Infinity) >= Date.parse(pod.metadata.creationTimestamp) ||
      this.#world.get(kinds.Node, node) === undefined;
    const isLeaving = this.#world.isNamespaceLeaving(pod.metadata.namespace);
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
