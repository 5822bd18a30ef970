/**
 * Pods of a node that is lost (Kubernetes documentation, "Nodes", "Taint based Evictions", "Force Delete StatefulSet
 * Pods", "Non-graceful node shutdown").
 *
 * - While a node is out of reach none of its Pods that may still run is removed: nobody can know that it has stopped.
 *   So a StatefulSet's Pod stays
 *   Terminating, and its name taken, until the node comes back, is deleted or is declared out of service, or a user
 *   forces the Pod away.
 * - When it has been out of reach for the grace period, the toleration of five minutes and some more, while controllers
 *   were in touch and another node was
 *   well, each of its Pods that does not tolerate that for ever is being deleted, and ReplicaSets have made others.
 */
import type { Pod } from '#api/core.v1.ts';
import { fieldOf } from '#base/unknown.ts';
import { kinds } from '#base/kinds.ts';
import type { TransportRequest } from '#client/transport.ts';
import { conditionOf, isPodActive, isPodTerminal } from '#controllers/pods.ts';
import { type Checker, type CommitOf, isCommitOf, type World } from '../world.ts';

const lostMs = 40_000 + 300_000 + 60_000;
/** What a kubelet sent before it was cut off may still arrive. */
const onItsWayMs = 3_000;
const tolerationKey = 'node.kubernetes.io/unreachable';

const staysForEver = (pod: Pod): boolean =>
  (pod.spec.tolerations ?? []).some(
    ({ key, effect, operator, tolerationSeconds }) =>
      (!key || key === tolerationKey) &&
      (!effect || effect === 'NoExecute') &&
      operator === 'Exists' &&
      tolerationSeconds === undefined,
  );

class Lost {
  readonly #world: World;
  readonly #report: (message: string) => void;
  /** Since when each node is out of reach. */
  readonly #sinceMs = new Map<string, number>();
  /** Since when some node has been within reach without a break. */
  #anySinceMs = 0;
  readonly #forced = new Set<string>();

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  seeRequest({ method, path, body, query }: TransportRequest): void {
    const seconds = fieldOf(body, 'gracePeriodSeconds') ?? query?.get('gracePeriodSeconds');
    if (method === 'DELETE' && Number(seconds ?? 1) === 0)
      this.#forced.add(path.replace('/api/v1/namespaces/', '').replace('/pods/', '/'));
  }

  seeRemoval({ object, previous, key, atMs }: CommitOf<Pod>): void {
    if (object !== undefined || previous === undefined || isPodTerminal(previous)) return;
    const name = previous.spec.nodeName;
    const node = name === undefined ? undefined : this.#world.get(kinds.Node, name);
    const since = this.#sinceMs.get(name ?? '');
    if (
      node === undefined ||
      since === undefined ||
      atMs - since < onItsWayMs ||
      this.#forced.delete(key.slice('/registry/pods/'.length))
    )
      return;
    if ((node.spec.taints ?? []).some((taint) => taint.key === 'node.kubernetes.io/out-of-service')) return;
    this.#report(`Pod ${previous.metadata.name} was removed while its node ${name} is out of reach and may run it`);
  }

  tick(): void {
    const { cluster } = this.#world;
    let any = false;
    for (const name of cluster.nodes.names()) {
      const { isUp = false, isConnected = false } = cluster.nodes.get(name) ?? {};
      const node = this.#world.get(kinds.Node, name);
      const ready = node !== undefined && conditionOf(node, 'Ready')?.status === 'True';
      if (isUp && isConnected && !cluster.networks.nodes.isHealthy) this.#sinceMs.delete(name);
      else if (isUp && isConnected) {
        this.#sinceMs.delete(name);
        any ||= ready;
      } else if (!this.#sinceMs.has(name)) this.#sinceMs.set(name, cluster.now);
    }
    // With every node silent the controllers rather doubt their own network.
    if (!any) this.#anySinceMs = cluster.now;
    for (const [name, sinceMs] of this.#sinceMs) {
      const fromMs = Math.max(sinceMs, this.#anySinceMs, this.#world.inTouchSinceMs('controllers'));
      if (cluster.now - fromMs >= lostMs) this.#judge(name, fromMs);
    }
  }

  #judge(node: string, fromMs: number): void {
    const owners = new Set<string>();
    for (const pod of this.#world.podsOn(node)) {
      if (isPodTerminal(pod) || staysForEver(pod) || Date.parse(pod.metadata.creationTimestamp) > fromMs) continue;
      if (pod.metadata.deletionTimestamp === undefined)
        this.#report(`Pod ${pod.metadata.name} still counts on ${node}, which is lost`);
      const owner = pod.metadata.ownerReferences?.find(
        ({ kind, controller }) => kind === 'ReplicaSet' && controller === true,
      )?.uid;
      if (owner !== undefined) owners.add(owner);
    }
    for (const uid of owners) {
      const replicaSet = this.#world.byUid(kinds.ReplicaSet, uid);
      if (
        replicaSet === undefined ||
        replicaSet.metadata.deletionTimestamp !== undefined ||
        conditionOf(replicaSet, 'ReplicaFailure') !== undefined
      )
        continue;
      const active = this.#world.ownedOf(kinds.Pod, uid).filter(isPodActive).length;
      const wanted = replicaSet.spec.replicas ?? 1;
      if (active < wanted && this.#world.cluster.now - this.#world.lastChangeMs > onItsWayMs)
        this.#report(
          `ReplicaSet ${replicaSet.metadata.name} has ${active} Pods of ${wanted}, others were lost with ${node}`,
        );
    }
  }
}

export function lostNodes(): Checker {
  const name = 'lost-nodes';
  let lost: Lost | undefined;
  return {
    name,
    onRequest(part, request, world) {
      if (part === 'client') (lost ??= new Lost(world, name)).seeRequest(request);
    },
    onCommit(commit) {
      if (isCommitOf(kinds.Pod, commit)) lost?.seeRemoval(commit);
    },
    onTick(world) {
      (lost ??= new Lost(world, name)).tick();
    },
  };
}
