/**
 * The faults of a rehearsal, each a course of its own in virtual time: a node or zone loses power, a node is drained as
 * `kubectl drain` does it, the API
 * server is out of reach. What is chosen by chance is chosen by the cluster's seed when the fault is due.
 */
import { isReason } from '#base/errors.ts';
import type { Pod } from '#api/core.v1.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Cluster } from '../cluster.ts';
import { formatDuration } from '../duration.ts';
import type { Observer } from './observer.ts';
import type { DrainReport, Fault } from './types.ts';

export const zoneLabel = 'topology.kubernetes.io/zone';
const retryMs = 5_000;
const apiDownMs = 60_000;
/** A drain that has not ended after this long is held by something. */
const drainPatienceMs = 600_000;

interface Drain {
  node: string;
  startedMs: number;
  endedMs?: number;
  /** The node takes Pods again. */ stoppedMs?: number;
  left: string[];
}

export class Strikes {
  readonly #cluster: Cluster;
  readonly #observer: Observer;
  readonly #endMs: number;
  readonly #drains: Drain[] = [];

  constructor(cluster: Cluster, observer: Observer, endMs: number) {
    this.#cluster = cluster;
    this.#observer = observer;
    this.#endMs = endMs;
  }

  /** Resolves when the fault is over; what lasts to the end never does. */
  async run(fault: Fault): Promise<void> {
    const { clock, random } = this.#cluster;
    const chosenMs =
      fault.latestMs === undefined
        ? fault.atMs
        : Math.round(fault.atMs + random.float() * (fault.latestMs - fault.atMs));
    await clock.sleep(chosenMs);
    if (fault.kind === 'drain') await this.#drainOne(fault);
    else if (fault.kind === 'api-down') await this.#apiDown(fault.forMs ?? apiDownMs);
    else await this.#kill(fault);
  }

  async #kill({ kind, target, forMs }: Fault): Promise<void> {
    const { nodes, clock } = this.#cluster;
    const zone = kind === 'kill-zone' ? (target ?? this.#pickZone()) : undefined;
    const picked =
      kind === 'kill-node'
        ? [target ?? this.#pickNode()].filter((name) => name !== undefined)
        : nodes.names().filter((name) => zone !== undefined && this.#zoneOf(name) === zone);
    const killed = picked.filter((name) => nodes.get(name)?.isUp === true);
    if (killed.length === 0) {
      this.#observer.note(
        `${kind}: ${picked.length === 0 ? 'no node is left' : `${picked.join(', ')} is down already`}`,
      );
      return;
    }
    if (zone !== undefined) this.#observer.note(`zone ${zone} loses power`);
    for (const name of killed) {
      this.#observer.note(`node ${name} dies`);
      nodes.kill(name);
      this.#observer.nodeChanged(name);
    }
    if (forMs === undefined) return;
    await clock.sleep(forMs);
    for (const name of killed) {
      this.#observer.note(`node ${name} is back`);
      nodes.boot(name);
    }
    // What their Pods have become is written by then.
    await clock.sleep(1);
    for (const name of killed) this.#observer.nodeChanged(name);
  }

  #zoneOf(name: string): string | undefined {
    const { zone, labels } = this.#cluster.nodes.options().find((option) => option.name === name) ?? {};
    return zone ?? labels?.[zoneLabel];
  }

  /** Of the nodes that are up, one that runs Pods, by chance. */
  #pickNode(mayPick: (name: string) => boolean = () => true): string | undefined {
    const names = this.#cluster.nodes
      .names()
      .filter((name) => this.#cluster.nodes.get(name)?.isUp === true && mayPick(name))
      .sort();
    const used = names.filter((name) => [...this.#observer.pods.by('node', name)].length > 0);
    const from = used.length > 0 ? used : names;
    return from[Math.floor(this.#cluster.random.float() * from.length)];
  }

  #pickZone(): string | undefined {
    const node = this.#pickNode((name) => this.#zoneOf(name) !== undefined);
    return node === undefined ? undefined : this.#zoneOf(node);
  }

  /** Nobody reaches the API server: Pods go on as they are. */
  async #apiDown(forMs: number): Promise<void> {
    const networks = Object.values(this.#cluster.networks);
    this.#observer.note(`the API server is out of reach for ${formatDuration(forMs)}`);
    for (const network of networks) network.cut();
    await this.#cluster.clock.sleep(forMs);
    for (const network of networks) network.heal();
    this.#observer.note('the API server is back');
  }

  async #drainOne({ target, forMs }: Fault): Promise<void> {
    const { clock } = this.#cluster;
    const draining = new Set(this.#drains.filter(({ stoppedMs }) => stoppedMs === undefined).map(({ node }) => node));
    const node = target ?? this.#pickNode((name) => !draining.has(name));
    if (node === undefined) {
      this.#observer.note('drain: no node is left');
      return;
    }
    const startedMs = clock.now();
    const untilMs = forMs === undefined ? this.#endMs : startedMs + forMs;
    this.#observer.note(`node ${node} is drained`);
    await this.#cordon(node, true);
    const drain: Drain = { node, startedMs, left: [] };
    this.#drains.push(drain);
    await this.#drain(drain, untilMs);
    if (forMs === undefined) return;
    await clock.sleep(Math.max(0, untilMs - clock.now()));
    await this.#cordon(node, false);
    drain.stoppedMs = clock.now();
    this.#observer.note(`node ${node} takes Pods again`);
  }

  async #cordon(node: string, unschedulable: boolean): Promise<void> {
    await this.#insist(() =>
      this.#cluster.client.patch(
        kinds.Node,
        { name: node },
        { merge: { spec: { unschedulable: unschedulable ? true : null } } },
      ),
    );
  }

  /** Again and again while the API server does not answer. */
  async #insist<T>(ask: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await ask();
      } catch (error) {
        if (!isReason(error, 'ServiceUnavailable', 'Timeout', 'Conflict')) throw error;
        await this.#cluster.clock.sleep(retryMs);
      }
    }
  }

  /**
   * Evictions, again while a budget refuses them; Pods of DaemonSets stay, Pods without an owner go too (`--force`).
   */
  async #drain(drain: Drain, untilMs: number): Promise<void> {
    const { node, startedMs } = drain;
    const { client, clock } = this.#cluster;
    const refused = new Set<string>();
    for (;;) {
      const { items } = await this.#insist(() => client.list(kinds.Pod, { fieldSelector: `spec.nodeName=${node}` }));
      const left = items.filter(
        (pod) => pod.metadata.ownerReferences?.some((owner) => owner.kind === 'DaemonSet') !== true,
      );
      drain.left = left.map(keyOf);
      if (left.length === 0) {
        drain.endedMs = clock.now();
        this.#observer.note(`node ${node} is empty after ${Math.ceil((drain.endedMs - startedMs) / 1000)} s`);
        return;
      }
      for (const pod of left) if (pod.metadata.deletionTimestamp === undefined) await this.#evict(node, pod, refused);
      if (clock.now() + retryMs > untilMs) {
        this.#observer.note(`node ${node} could not be emptied: ${drain.left.join(', ')}`);
        return;
      }
      await clock.sleep(retryMs);
    }
  }

  async #evict(node: string, pod: Pod, refused: Set<string>): Promise<void> {
    const { name, namespace } = pod.metadata;
    try {
      await this.#insist(() =>
        this.#cluster.client.raw('POST', `/api/v1/namespaces/${namespace}/pods/${name}/eviction`, {
          apiVersion: 'policy/v1',
          kind: 'Eviction',
          metadata: { name, namespace },
        }),
      );
    } catch (error) {
      if (isReason(error, 'NotFound')) return;
      if (!isReason(error, 'TooManyRequests', 'InternalError')) throw error;
      const budgets = this.#observer.budgets.refuse(pod);
      if (!refused.has(pod.metadata.uid))
        this.#observer.note(
          `drain of ${node}: ${keyOf(pod)} must stay for now, by disruption budget ${budgets.join(', ')}`,
        );
      refused.add(pod.metadata.uid);
    }
  }

  report(startMs: number): DrainReport[] {
    const endMs = this.#cluster.now;
    return this.#drains.map(({ node, startedMs, endedMs, left }): DrainReport => ({
      node,
      startedSeconds: Math.round((startedMs - startMs) / 1000),
      ...(endedMs === undefined ? {} : { seconds: Math.ceil((endedMs - startedMs) / 1000) }),
      left: endedMs === undefined ? left : [],
      verdict: endedMs !== undefined ? 'done' : endMs - startedMs < drainPatienceMs ? 'under way' : 'blocked',
    }));
  }
}
