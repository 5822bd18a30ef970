/**
 * The simulated nodes, and what can befall them. One informer serves all of them; each (`sim-node.ts`) acts on its own
 * Pods.
 */
import type { Node, Pod } from '#api/core.v1.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Heartbeats } from '#controllers/node-lifecycle.ts';
import { type Duration, durationMs } from './duration.ts';
import { createClient } from '#client/rest-client.ts';
import { References } from './references.ts';
import type { Fleet, NodeDependencies } from './fleet.ts';
import { type NodeSnapshot, SimNode, type SimNodeState } from './sim-node.ts';
import type { SimPod } from './sim-pod.ts';

export class SimNodes implements AsyncDisposable, Heartbeats, Fleet {
  readonly deps: NodeDependencies;
  readonly pods: Informer<Pod>;
  readonly references: References;
  readonly #nodes = new Map<string, SimNode>();
  isStopped = false;
  #isQuiet: boolean;
  readonly #reachListeners = new Set<(node: string) => void>();
  #heard: ((node: string, agoMs: number) => void) | undefined;

  constructor(deps: NodeDependencies) {
    this.deps = deps;
    this.references = new References(createClient(deps.transport, 'kubelet'), deps.clock);
    this.#isQuiet = !deps.writesLeases;
    this.pods = deps.informers.informer(kinds.Pod).addIndex('node', indexes.node);
    const see = (pod: Pod): void => {
      this.#nodes.get(pod.spec.nodeName ?? '')?.see(pod);
    };
    const seeSelf = (node: Node): void => {
      this.#nodes.get(node.metadata.name)?.seeSelf(node);
    };
    deps.informers.informer(kinds.Node).addHandler({ added: seeSelf, updated: seeSelf });
    this.pods.addHandler({
      added: see,
      updated: see,
      deleted: (pod) => {
        this.#nodes.get(pod.spec.nodeName ?? '')?.unsee(pod);
      },
    });
  }

  /** Nothing is wrong with any network: Leases need not be written to be known. */
  get isQuiet(): boolean {
    return this.#isQuiet;
  }
  isBeating(node: string): boolean {
    return this.#nodes.get(node)?.isBeating === true;
  }
  listen(heard: (node: string, agoMs: number) => void): void {
    this.#heard = heard;
  }
  tellHeartbeat(node: string, agoMs: number): void {
    this.#heard?.(node, agoMs);
  }

  setQuiet(isQuiet: boolean): void {
    const next = isQuiet && !this.deps.writesLeases;
    if (next === this.#isQuiet) return;
    this.#isQuiet = next;
    for (const node of this.#nodes.values()) node.heartbeatsChanged();
  }

  /** Adds nodes and waits until they are registered. `existing` nodes (a fork) take up what they already run. */
  async add(options: readonly NodeSnapshot[]): Promise<void> {
    const first = this.#nodes.size;
    const made = options.map((option, at) => ({ option, node: new SimNode(this, first + at, option) }));
    for (const { node } of made) this.#nodes.set(node.name, node);
    for (const { option, node } of made) {
      const { isDown = false, isCut = false } = option;
      // A copy of a node that is away cannot say that it is there.
      if (isCut) node.cut();
      const begun = node.begin();
      if (isDown) node.down();
      if (!isDown && !isCut) await begun;
    }
  }

  names(): string[] {
    return [...this.#nodes.keys()];
  }
  get(name: string): SimNodeState | undefined {
    return this.#nodes.get(name);
  }
  /** Power off and on. */
  kill(name: string): void {
    this.#of(name).down();
    this.#tellReach(name);
  }
  boot(name: string): void {
    this.#of(name).up();
    this.#tellReach(name);
  }
  /** Cuts a node off from the API server and joins it again; its containers go on. */
  partition(name: string): void {
    this.#of(name).cut();
    this.#tellReach(name);
  }
  heal(name: string): void {
    this.#of(name).heal();
    this.#tellReach(name);
  }
  /** Calls back when a node may have come within reach of the API server, or out of it; until the answer is called. */
  onReach(listener: (node: string) => void): () => void {
    this.#reachListeners.add(listener);
    return () => {
      this.#reachListeners.delete(listener);
    };
  }
  #tellReach(node: string): void {
    for (const listener of this.#reachListeners) listener(node);
  }
  isReachable(name: string): boolean {
    const node = this.#nodes.get(name);
    return node !== undefined && node.isUp && node.isConnected;
  }
  /** A running container of a Pod dies with this code. */
  crashPod(namespace: string, name: string, exitCode = 1): void {
    this.find(`${namespace}/${name}`)?.pod.crash(exitCode);
  }
  /**
   * The node's clock is off by this many milliseconds from now on, behind when negative (0: right again): its Leases
   * and the times it reports are.
   */
  skewClock(name: string, ms: number): void {
    if (!Number.isFinite(ms)) throw new Error(`not a number of milliseconds: ${ms}`);
    this.#of(name).skewMs = ms;
  }
  /**
   * Every image pull on the node takes this much longer from now on (0: as ever); those on their way are not changed.
   */
  slowPulls(name: string, delay: Duration): void {
    const ms = durationMs(delay);
    if (!Number.isFinite(ms) || ms < 0) throw new Error(`a pull cannot take ${ms} ms longer`);
    this.#of(name).pullDelayMs = ms;
  }
  /**
   * The node's disk is full: DiskPressure, unused images go, image pulls fail, new Pods are refused (`Evicted`), and
   * every 10 s one Pod is evicted.
   */
  fillDisk(name: string): void {
    this.#of(name).exhaust('ephemeral-storage');
  }
  /** There is room again; where Pods were evicted the condition holds for 5 minutes more, as a kubelet's does. */
  freeDisk(name: string): void {
    this.#of(name).relieve('ephemeral-storage');
  }
  /**
   * The node's memory is used up, by none of its Pods: MemoryPressure, new BestEffort Pods are refused, and every 10 s
   * one Pod is evicted.
   */
  pressMemory(name: string): void {
    this.#of(name).exhaust('memory');
  }
  /** There is memory again; where Pods were evicted the condition holds for 5 minutes more. */
  easeMemory(name: string): void {
    this.#of(name).relieve('memory');
  }
  /** What copies of the nodes start from, faults included. */
  options(): NodeSnapshot[] {
    return [...this.#nodes.values()].map((node) => node.snapshot());
  }

  /** By `namespace/name`: of two of one name, the one that is not going. */
  find(key: string): { node: SimNodeState; pod: SimPod } | undefined {
    let found: { node: SimNodeState; pod: SimPod } | undefined;
    for (const node of this.#nodes.values())
      for (const pod of node.pods) {
        if (keyOf(pod.pod) !== key) continue;
        if (pod.pod.metadata.deletionTimestamp === undefined) return { node, pod };
        found ??= { node, pod };
      }
    return found;
  }

  *running(): Iterable<{ node: string; pod: SimPod }> {
    for (const node of this.#nodes.values()) if (node.isUp) for (const pod of node.pods) yield { node: node.name, pod };
  }

  #of(name: string): SimNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no simulated node ${JSON.stringify(name)}`);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isStopped = true;
    for (const node of this.#nodes.values()) node.stop();
  }
}
