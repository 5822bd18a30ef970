/**
 * The garbage collector: objects whose owners are gone are deleted; owners that are deleted in the foreground wait for
 * their dependents, and those that orphan them have themselves taken off first.
 *
 * It keeps a graph of every object of every kind that can be listed and deleted, over the copies of the informers.
 * The graph is a hint: before anything is deleted for lack of owners, each owner is read from the server, and what goes
 * is exactly the version that was judged, so that a stale or incomplete graph never costs an object. Kinds come and go
 * with discovery. Events and what only reviews are left out.
 * Spec: Kubernetes documentation, "Garbage Collection" and "Use Cascading Deletion".
 */
import type { ObjectMeta, OwnerReference } from '#api/meta.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { groupVersionOf } from '#base/objects.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { discoverResources } from './discovery.ts';
import { absentOwnersMax, collectorConcurrencyMax } from './limits.ts';
import { type Controller, type ControllerContext, createQueue, forEachBounded } from './runtime.ts';

const orphanFinalizer = 'orphan';
const foregroundFinalizer = 'foregroundDeletion';
const ignoredGroups = new Set(['events.k8s.io', 'metrics.k8s.io', 'authentication.k8s.io', 'authorization.k8s.io']);
const noOwners: readonly OwnerReference[] = [];
const noFinalizers: readonly string[] = [];

interface GraphNode {
  kind: KindRef;
  /** As last seen. */
  object: KubeObject;
  namespace: string;
  name: string;
  uid: string;
  owners: readonly OwnerReference[];
  finalizers: readonly string[];
  deleting: boolean;
}

export type OwnerState = 'solid' | 'dangling' | 'waiting';
export type CollectorAction =
  | { type: 'none' }
  /** `unblocks`: its owners wait for it no longer, or each of a circle would wait for the next. */
  | { type: 'delete'; propagationPolicy: 'Background' | 'Foreground' | 'Orphan'; unblocks?: true }
  /** Take these owners off and keep the object: others still own it. */
  | { type: 'dropOwners'; uids: string[] };

/** How an object stands that owners may leave behind. */
interface Collectable {
  finalizers: readonly string[];
  /** Whether it owns something itself, and whether any of that already goes, and waits for what it owns. */
  dependents: 'none' | 'some' | 'waiting';
}

/** What becomes of an object, given how each of its owners stands. Pure. */
export function planCollection(
  node: Collectable,
  owners: readonly { uid: string; state: OwnerState }[],
): CollectorAction {
  if (owners.length === 0) return { type: 'none' };
  const gone = owners.filter(({ state }) => state === 'dangling');
  const waiting = owners.filter(({ state }) => state === 'waiting');
  if (gone.length + waiting.length === 0) return { type: 'none' };
  if (gone.length + waiting.length < owners.length)
    return { type: 'dropOwners', uids: [...gone, ...waiting].map(({ uid }) => uid) };
  if (waiting.length > 0 && node.dependents !== 'none')
    return {
      type: 'delete',
      propagationPolicy: 'Foreground',
      ...(node.dependents === 'waiting' ? { unblocks: true } : {}),
    };
  if (node.finalizers.includes(orphanFinalizer)) return { type: 'delete', propagationPolicy: 'Orphan' };
  if (node.finalizers.includes(foregroundFinalizer)) return { type: 'delete', propagationPolicy: 'Foreground' };
  return { type: 'delete', propagationPolicy: 'Background' };
}

class GarbageCollector {
  readonly #context: ControllerContext;
  readonly #nodes = new Map<string, GraphNode>();
  /**
   * Owners that the API server said are not there, by namespace and UID: a UID does not come back, and what they leave
   * behind comes in hundreds.
   */
  readonly #absent = new Set<string>();
  readonly #dependents = new Map<string, Set<string>>();
  /** Informers by `group/resource`; the handler that feeds the graph is on each. */
  readonly #monitored = new Map<string, { kind: KindRef; remove(): void }>();
  readonly #kindByName = new Map<string, KindRef>();
  readonly queue: WorkQueue;
  readonly discoveryQueue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.queue = createQueue(context, 'garbage-collector', (uid) => this.#reconcile(uid), collectorConcurrencyMax);
    this.discoveryQueue = createQueue(context, 'garbage-collector-discovery', () => this.#discover(), 1);
    const rediscover = {
      added: () => this.discoveryQueue.addAfter('all', 100),
      updated: () => this.discoveryQueue.addAfter('all', 100),
      deleted: () => this.discoveryQueue.addAfter('all', 100),
    };
    context.informers.informer(kinds.CustomResourceDefinition).addHandler(rediscover);
    context.informers.informer(kinds.APIService).addHandler(rediscover);
    this.discoveryQueue.add('all');
  }

  async #discover(): Promise<ReconcileResult | undefined> {
    const { resources, failed } = await discoverResources(this.#context.client);
    const seen = new Set<string>();
    const added = new Set<string>();
    for (const { kind, verbs } of resources) {
      if (
        ignoredGroups.has(kind.group) ||
        (kind.group === '' && kind.resource === 'events') ||
        !['list', 'watch', 'delete'].every((verb) => verbs.includes(verb))
      )
        continue;
      const id = `${kind.group}/${kind.resource}`;
      seen.add(id);
      if (!this.#kindByName.has(`${kind.group}/${kind.kind}`)) added.add(`${kind.group}/${kind.kind}`);
      this.#kindByName.set(`${kind.group}/${kind.kind}`, kind);
      if (this.#monitored.has(id)) continue;
      const informer = this.#context.informers.informer(kind);
      const handle = informer.addHandler({
        added: (o) => this.#put(kind, o),
        updated: (o) => this.#put(kind, o),
        deleted: (o) => this.#remove(o),
      });
      this.#monitored.set(id, { kind, remove: () => handle.remove() });
    }
    this.#lookAgain(added);
    if (failed.length > 0) return { requeueAfterMs: 30_000 };
    for (const [id, monitor] of this.#monitored) {
      if (seen.has(id)) continue;
      monitor.remove();
      this.#monitored.delete(id);
      for (const node of [...this.#nodes.values()])
        if (node.kind.group === monitor.kind.group && node.kind.resource === monitor.kind.resource) this.#drop(node);
    }
    return undefined;
  }

  /** Owners of these kinds could not be looked for before: what they may have left behind was spared. */
  #lookAgain(kindNames: ReadonlySet<string>): void {
    if (kindNames.size === 0) return;
    const isOfThem = ({ apiVersion, kind }: OwnerReference): boolean =>
      kindNames.has(`${groupVersionOf(apiVersion).group}/${kind}`);
    for (const node of this.#nodes.values())
      if (node.owners.some((owner) => isOfThem(owner) && this.#isSuspect(owner.uid))) this.queue.add(node.uid);
  }

  #put(kind: KindRef, object: KubeObject): void {
    const { uid, ownerReferences: owners = noOwners, finalizers = noFinalizers, deletionTimestamp } = object.metadata;
    if (uid === undefined) return;
    const held = this.#nodes.get(uid);
    const deleting = deletionTimestamp !== undefined;
    if (held !== undefined && held.owners === owners && held.finalizers === finalizers && held.deleting === deleting) {
      held.object = object;
      return;
    }
    const node: GraphNode = {
      kind,
      object,
      namespace: object.metadata.namespace ?? '',
      name: object.metadata.name!,
      uid,
      owners,
      finalizers,
      deleting,
    };
    this.#nodes.set(uid, node);
    if (held?.owners !== owners) {
      for (const owner of held?.owners ?? noOwners)
        if (!owners.some((other) => other.uid === owner.uid)) this.#unlink(owner.uid, uid);
      for (const owner of owners) {
        let set = this.#dependents.get(owner.uid);
        if (set === undefined) this.#dependents.set(owner.uid, (set = new Set()));
        set.add(uid);
      }
    }
    this.#enqueueChanged(node, held);
  }

  #enqueueChanged(node: GraphNode, held: GraphNode | undefined): void {
    if (node.deleting && (node.finalizers.includes(orphanFinalizer) || node.finalizers.includes(foregroundFinalizer)))
      this.queue.add(node.uid);
    // An owner that is not in the graph may never have existed, or be of a kind not yet seen: ask the server.
    if (held === undefined) {
      if (node.owners.some((owner) => this.#isSuspect(owner.uid))) this.queue.add(node.uid);
    } else if (
      !node.deleting &&
      node.owners !== held.owners &&
      node.owners.some((owner) => !held.owners.some((other) => other.uid === owner.uid))
    )
      this.queue.add(node.uid);
    // A dependent that no longer blocks, or started to go, may let its owner go.
    if (held !== undefined)
      for (const owner of held.owners) if (this.#nodes.get(owner.uid)?.deleting === true) this.queue.add(owner.uid);
  }

  #isSuspect(uid: string): boolean {
    const owner = this.#nodes.get(uid);
    return owner === undefined || (owner.deleting && owner.finalizers.includes(foregroundFinalizer));
  }

  #unlink(owner: string, dependent: string): void {
    const set = this.#dependents.get(owner);
    if (set === undefined) return;
    set.delete(dependent);
    if (set.size === 0) this.#dependents.delete(owner);
  }

  #remove(object: KubeObject): void {
    const node = this.#nodes.get(object.metadata.uid ?? '');
    if (node !== undefined) this.#drop(node);
  }

  #drop(node: GraphNode): void {
    this.#nodes.delete(node.uid);
    for (const owner of node.owners) {
      this.#unlink(owner.uid, node.uid);
      if (this.#nodes.get(owner.uid)?.deleting === true) this.queue.add(owner.uid);
    }
    for (const dependent of this.#dependents.get(node.uid) ?? []) this.queue.add(dependent);
  }

  async #reconcile(uid: string): Promise<ReconcileResult | undefined> {
    const node = this.#nodes.get(uid);
    if (node === undefined) return undefined;
    if (node.deleting && node.finalizers.includes(orphanFinalizer)) return this.#orphanDependents(node);
    if (node.deleting && node.finalizers.includes(foregroundFinalizer)) return this.#deleteDependents(node);
    if (node.deleting || node.owners.length === 0) return undefined;
    return this.#collect(node);
  }

  async #collect(node: GraphNode): Promise<undefined> {
    const { client } = this.#context;
    try {
      try {
        await this.#collectAsSeen(node, node.object);
      } catch (error) {
        if (!isReason(error, 'Conflict')) throw error;
        // The copy lags behind.
        const fresh = await client.get(node.kind, node.name, node.namespace);
        if (fresh.metadata.uid === node.uid && fresh.metadata.deletionTimestamp === undefined)
          await this.#collectAsSeen(node, fresh);
      }
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
    return undefined;
  }

  /** Collects this version of the object, or throws Conflict. */
  async #collectAsSeen(node: GraphNode, { metadata }: KubeObject): Promise<void> {
    const states: { uid: string; state: OwnerState }[] = [];
    const owners = metadata.ownerReferences ?? [];
    for (const owner of owners) states.push({ uid: owner.uid, state: await this.#stateOf(owner, node) });
    const action = planCollection(
      { finalizers: metadata.finalizers ?? [], dependents: this.#dependentsState(node) },
      states,
    );
    if (action.type === 'dropOwners') {
      await this.#writeOwners(
        node,
        metadata,
        owners.filter((owner) => !action.uids.includes(owner.uid)),
      );
    } else if (action.type === 'delete') {
      const judged =
        action.unblocks === true
          ? await this.#writeOwners(
              node,
              metadata,
              owners.map(({ blockOwnerDeletion: _blocks, ...owner }) => owner),
            )
          : metadata;
      await this.#context.client.delete(node.kind, node.name, node.namespace, {
        propagationPolicy: action.propagationPolicy,
        preconditions: { uid: node.uid, resourceVersion: judged.resourceVersion! },
      });
    }
  }

  #dependentsState(node: GraphNode): Collectable['dependents'] {
    if (!this.#dependents.has(node.uid)) return 'none';
    return this.#dependentsOf(node).some((each) => each.deleting && each.finalizers.includes(foregroundFinalizer))
      ? 'waiting'
      : 'some';
  }

  async #stateOf(owner: OwnerReference, dependent: GraphNode): Promise<OwnerState> {
    const known = this.#nodes.get(owner.uid);
    // What is kept may be kept by a copy that lags. What goes may not: the owner may have been told to orphan
    // meanwhile.
    const isSolid =
      known !== undefined &&
      !(known.deleting && known.finalizers.includes(foregroundFinalizer) && owner.blockOwnerDeletion === true);
    if (isSolid && (known.namespace === '' || known.namespace === dependent.namespace)) return 'solid';
    const { group, version } = groupVersionOf(owner.apiVersion);
    const kind = this.#kindByName.get(`${group}/${owner.kind}`);
    // A kind that the server does not serve, as far as it could say: it may be on its way, so nothing is deleted for it
    // until it is.
    if (kind === undefined) return 'solid';
    if (kind.namespaced && dependent.namespace === '') return 'solid';
    const absence = `${dependent.namespace} ${owner.uid}`;
    if (this.#absent.has(absence)) return 'dangling';
    try {
      const object = await this.#context.client.get(
        kind.version === version ? kind : { ...kind, version },
        owner.name,
        kind.namespaced ? dependent.namespace : undefined,
      );
      if (object.metadata.uid !== owner.uid) return this.#isAbsent(absence);
      return object.metadata.deletionTimestamp !== undefined &&
        (object.metadata.finalizers ?? []).includes(foregroundFinalizer) &&
        owner.blockOwnerDeletion === true
        ? 'waiting'
        : 'solid';
    } catch (error) {
      if (isReason(error, 'NotFound')) return this.#isAbsent(absence);
      throw error;
    }
  }

  #isAbsent(absence: string): 'dangling' {
    if (this.#absent.size >= absentOwnersMax) this.#absent.clear();
    this.#absent.add(absence);
    return 'dangling';
  }

  /** `--cascade=orphan`: dependents lose their reference to the owner before it goes. */
  async #orphanDependents(node: GraphNode): Promise<undefined> {
    const dependents = this.#dependentsOf(node);
    await forEachBounded(dependents, async (dependent) => {
      try {
        const fresh = await this.#context.client.get(dependent.kind, dependent.name, dependent.namespace);
        const kept = (fresh.metadata.ownerReferences ?? []).filter((owner) => owner.uid !== node.uid);
        await this.#writeOwners(dependent, fresh.metadata, kept);
      } catch (error) {
        if (!isReason(error, 'NotFound')) throw error;
      }
    });
    await this.#removeFinalizer(node, orphanFinalizer);
    return undefined;
  }

  /** `--cascade=foreground`: dependents go first; those that do not block are not waited for. */
  async #deleteDependents(node: GraphNode): Promise<undefined> {
    const blocking = this.#dependentsOf(node).filter((dependent) =>
      dependent.owners.some((owner) => owner.uid === node.uid && owner.blockOwnerDeletion === true),
    );
    if (blocking.length === 0) {
      await this.#removeFinalizer(node, foregroundFinalizer);
      return undefined;
    }
    for (const dependent of blocking) if (!dependent.deleting) this.queue.add(dependent.uid);
    for (const dependent of this.#dependentsOf(node)) if (!dependent.deleting) this.queue.add(dependent.uid);
    return undefined;
  }

  #dependentsOf(node: GraphNode): GraphNode[] {
    return [...(this.#dependents.get(node.uid) ?? [])].flatMap((uid) => this.#nodes.get(uid) ?? []);
  }

  async #writeOwners(
    node: GraphNode,
    { resourceVersion }: ObjectMeta,
    ownerReferences: readonly OwnerReference[],
  ): Promise<ObjectMeta> {
    const { metadata } = await this.#context.client.patch(node.kind, node, {
      merge: { metadata: { uid: node.uid, resourceVersion, ownerReferences } },
    });
    return metadata;
  }

  async #removeFinalizer(node: GraphNode, finalizer: string): Promise<void> {
    try {
      const fresh = await this.#context.client.get(node.kind, node.name, node.namespace);
      if (fresh.metadata.uid !== node.uid || !(fresh.metadata.finalizers ?? []).includes(finalizer)) return;
      const finalizers = fresh.metadata.finalizers!.filter((name) => name !== finalizer);
      await this.#context.client.patch(node.kind, node, {
        merge: { metadata: { uid: node.uid, resourceVersion: fresh.metadata.resourceVersion, finalizers } },
      });
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
  }
}

export function startGarbageCollector(context: ControllerContext): Controller {
  const collector = new GarbageCollector(context);
  return { name: 'garbage-collector', queues: [collector.queue, collector.discoveryQueue] };
}
