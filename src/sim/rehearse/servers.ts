/**
 * What shall run all the time, judged by its Pods' readiness from change to change: Deployments, StatefulSets,
 * DaemonSets, ReplicationControllers, and ReplicaSets and Pods without an owner. Time counts from when a workload was
 * whole for the first time. A Pod without an owner is remembered after it is gone. A Pod whose node is down serves
 * nobody, whatever the API still says of it; a DaemonSet wants no Pod there.
 */
import type { DaemonSet, Deployment, ReplicaSet, StatefulSet } from '#api/apps.v1.ts';
import type { Pod, ReplicationController } from '#api/core.v1.ts';
import { isOf, type KindRef, type KubeObject } from '#base/objects.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isPodReady } from '#controllers/pods.ts';
import { Deficit } from './deficit.ts';
import type { RolloutReport, ServerVerdict, WorkloadReport } from './types.ts';

/** What keeps Pods running. */
export type ServerObject = Deployment | StatefulSet | DaemonSet | ReplicaSet | ReplicationController;
export const serverKinds: readonly KindRef<ServerObject>[] = [
  kinds.Deployment,
  kinds.StatefulSet,
  kinds.DaemonSet,
  kinds.ReplicaSet,
  kinds.ReplicationController,
];

export function isServerObject(object: KubeObject): object is ServerObject {
  return serverKinds.some((kind) => isOf(kind, object));
}

/** `Deployment default/web`. */
export function nameOf(object: KubeObject): string {
  return `${object.kind} ${keyOf(object)}`;
}

/** It answers users: ready, not told to stop, and on a node that runs. */
export function isServing(pod: Pod, isUp: (node: string) => boolean): boolean {
  const { nodeName } = pod.spec;
  return isPodReady(pod) && pod.metadata.deletionTimestamp === undefined && nodeName !== undefined && isUp(nodeName);
}

function wantedOf(object: ServerObject | Pod): number {
  if (object.kind === 'Pod') return 1;
  return object.kind === 'DaemonSet' ? (object.status?.desiredNumberScheduled ?? 0) : (object.spec.replicas ?? 1);
}

const isDaemonSetRolledOut = ({ spec, status }: DaemonSet, wanted: number): boolean =>
  (spec.updateStrategy?.type === 'OnDelete' || (status?.updatedNumberScheduled ?? 0) >= wanted) &&
  (status?.numberReady ?? 0) >= wanted;

/** Its newest template runs everywhere and is ready. */
export function isRolledOut(object: ServerObject): boolean {
  if (object.status?.observedGeneration !== object.metadata.generation) return false;
  const wanted = wantedOf(object);
  if (object.kind === 'DaemonSet') return isDaemonSetRolledOut(object, wanted);
  const isReady = (object.status?.readyReplicas ?? 0) >= wanted;
  if (object.kind === 'ReplicaSet' || object.kind === 'ReplicationController') return isReady;
  const strategy = object.kind === 'StatefulSet' ? object.spec.updateStrategy : undefined;
  if (strategy?.type === 'OnDelete') return isReady;
  const updated = Math.max(0, wanted - (strategy?.rollingUpdate?.partition ?? 0));
  return isReady && (object.status?.updatedReplicas ?? 0) >= updated && (object.status?.replicas ?? 0) === wanted;
}

interface Server {
  object: ServerObject | Pod;
  isGone: boolean;
  pods: Map<string, Pod>;
  ready: Set<string>;
  lowest: number;
  below: Deficit;
  down: Deficit;
  wasWhole: boolean;
  last: number | undefined;
  restarts: number;
}
interface Rollout {
  object: ServerObject;
  startedMs: number;
  endedMs?: number;
}

export class Servers {
  readonly #servers = new Map<string, Server>();
  /** Restarts of each Pod, kept when it is gone. */
  readonly #restarts = new Map<string, number>();
  readonly #rollouts: Rollout[] = [];
  readonly #now: () => number;
  readonly #note: (what: string) => void;
  readonly #isUp: (node: string) => boolean;

  constructor(now: () => number, note: (what: string) => void, isUp: (node: string) => boolean) {
    this.#now = now;
    this.#note = note;
    this.#isUp = isUp;
  }

  /** A workload came or changed. */
  see(object: ServerObject | Pod): void {
    const name = nameOf(object);
    const held = this.#servers.get(name);
    if (held === undefined)
      this.#servers.set(name, {
        object,
        isGone: false,
        pods: new Map(),
        ready: new Set(),
        lowest: Infinity,
        below: new Deficit(),
        down: new Deficit(),
        wasWhole: false,
        last: undefined,
        restarts: 0,
      });
    else Object.assign(held, { object, isGone: false });
    const rollout = this.#rollouts.find((other) => nameOf(other.object) === name && other.endedMs === undefined);
    if (rollout !== undefined && object.kind !== 'Pod' && isRolledOut(object)) {
      rollout.endedMs = this.#now();
      this.#note(`${name}: rolled out after ${Math.ceil((rollout.endedMs - rollout.startedMs) / 1000)} s`);
    }
    this.#look(name);
  }

  /** A workload was deleted. A Pod by itself is lost with that; another is no longer wanted. */
  unsee(object: ServerObject | Pod): void {
    const name = nameOf(object);
    if (object.kind !== 'Pod') {
      this.#servers.delete(name);
      return;
    }
    const held = this.#servers.get(name);
    if (held === undefined) return;
    held.isGone = true;
    held.ready.clear();
    this.#look(name);
    this.#note(`${name} is gone: nothing makes it again`);
  }

  /** A Pod of this workload came or changed. */
  seePod(name: string, pod: Pod): void {
    const server = this.#servers.get(name);
    if (server === undefined) return;
    const { uid } = pod.metadata;
    server.pods.set(keyOf(pod), pod);
    if (isServing(pod, this.#isUp)) server.ready.add(uid);
    else server.ready.delete(uid);
    const restarts = (pod.status?.containerStatuses ?? []).reduce((sum, { restartCount }) => sum + restartCount, 0);
    server.restarts += restarts - (this.#restarts.get(uid) ?? restarts);
    this.#restarts.set(uid, restarts);
    this.#look(name);
  }

  unseePod(name: string, pod: Pod): void {
    const server = this.#servers.get(name);
    server?.pods.delete(keyOf(pod));
    server?.ready.delete(pod.metadata.uid);
    this.#look(name);
  }

  /** Something was applied to it: its roll-out begins, unless there is nothing to do. */
  startRollout(object: ServerObject): void {
    this.#rollouts.push({ object, startedMs: this.#now() });
  }

  #wanted({ object, pods }: Server): number {
    const all = wantedOf(object);
    if (object.kind !== 'DaemonSet') return all;
    // Once a dead node is tainted the controller no longer wants a Pod there, and calls the one that is left
    // misscheduled.
    const down = [...pods.values()].filter(
      ({ spec: { nodeName } }) => nodeName !== undefined && !this.#isUp(nodeName),
    ).length;
    return all - Math.max(0, down - (object.status?.numberMisscheduled ?? 0));
  }

  #look(name: string): void {
    const server = this.#servers.get(name);
    if (server === undefined) return;
    const [now, wanted, ready] = [this.#now(), this.#wanted(server), server.ready.size];
    if (ready >= wanted && (wanted > 0 || server.object.status?.observedGeneration !== undefined))
      server.wasWhole = true;
    if (!server.wasWhole) return;
    server.lowest = Math.min(server.lowest, ready);
    server.below.set(ready < wanted, now);
    server.down.set(ready === 0 && wanted > 0, now);
    if (server.last !== ready && (ready < wanted || (server.last ?? wanted) < wanted))
      this.#note(`${name}: ${ready} of ${wanted} ready`);
    server.last = ready;
  }

  /**
   * `why` says of each Pod why it is not ready (undefined: it is), and of a workload why it has fewer Pods than it
   * wants.
   */
  report(
    startMs: number,
    why: { pod(key: string): string | undefined; workload(name: string): string | undefined },
  ): { workloads: WorkloadReport[]; rollouts: RolloutReport[] } {
    const now = this.#now();
    const workloads = [...this.#servers.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, server]) => {
        const wanted = this.#wanted(server);
        const stuck = [...server.pods.keys()].sort().flatMap((pod) => {
          const reason = why.pod(pod);
          return reason === undefined ? [] : [{ pod, why: reason }];
        });
        const missing = server.pods.size < wanted ? why.workload(name) : undefined;
        if (server.isGone)
          stuck.push({
            pod: keyOf(server.object),
            why: 'gone for good: nothing makes a Pod again that no controller owns',
          });
        else if (missing !== undefined)
          stuck.push({ pod: `${keyOf(server.object)} (${wanted - server.pods.size} not made)`, why: missing });
        const [belowSeconds, downSeconds] = [server.below.seconds(now), server.down.seconds(now)];
        return {
          kind: server.object.kind,
          namespace: server.object.metadata.namespace,
          name: server.object.metadata.name,
          wanted,
          lowestReady: server.wasWhole ? Math.min(server.lowest, wanted) : server.ready.size,
          belowSeconds,
          downSeconds,
          restarts: server.restarts,
          stuck,
          verdict: verdictOf(server, wanted, belowSeconds, downSeconds),
        };
      });
    const rollouts = this.#rollouts.map(({ object: { kind, metadata }, startedMs, endedMs }): RolloutReport => ({
      kind,
      namespace: metadata.namespace,
      name: metadata.name,
      startedSeconds: Math.round((startedMs - startMs) / 1000),
      ...(endedMs === undefined ? {} : { seconds: Math.ceil((endedMs - startedMs) / 1000) }),
      verdict: endedMs === undefined ? 'unfinished' : 'done',
    }));
    return { workloads, rollouts };
  }
}

function verdictOf(server: Server, wanted: number, belowSeconds: number, downSeconds: number): ServerVerdict {
  if (!server.wasWhole) return 'never ran';
  if (server.isGone || (server.object.kind === 'Pod' && server.object.metadata.deletionTimestamp !== undefined))
    return 'lost';
  if (server.ready.size < wanted) return 'not whole at the end';
  return downSeconds > 0 ? 'unavailable' : belowSeconds > 0 ? 'degraded' : 'ok';
}
