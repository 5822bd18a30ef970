/**
 * What a node has to give and what its Pods have taken: each is asked for admission once. Sums are kept, not made anew
 * for each Pod that comes.
 */
import type { Node, Pod } from '#api/core.v1.ts';
import { admitPod, type PodDemand, resizeRefusal, sumOfDemands } from './admit.ts';
import type { NodeFacts, Pressure } from './node-status.ts';
import { amount } from './qos.ts';
import type { ResizePending } from './resize.ts';
import type { Refusal } from './status.ts';

/** A Pod that has its place on the node. */
export interface Placed {
  readonly pod: Pod;
  demand: PodDemand;
  /** Nothing of it runs or will. */
  readonly isFinished: boolean;
}

export class NodePlaces {
  readonly #facts: NodeFacts;
  readonly #allocatable: ReadonlyMap<string, number>;
  readonly #placed = new Set<Placed>();
  /** What all of `#placed` would take together, ended Pods included: enough to see that there is room. */
  readonly #resources = new Map<string, number>();
  readonly #hostPorts: string[] = [];

  constructor(facts: NodeFacts) {
    this.#facts = facts;
    this.#allocatable = new Map(Object.entries(facts.allocatable).map(([name, value]) => [name, amount(value) ?? 0]));
  }

  /** Why the Pod may not run here; undefined when it may. `self`: the Node object, as far as it is known. */
  refusalOf({ pod, demand }: Placed, self: Node | undefined, pressure: Pressure): Refusal | undefined {
    const room = {
      name: this.#facts.name,
      labels: self?.metadata.labels ?? {},
      taints: self?.spec?.taints ?? [],
      pods: this.#allocatable.get('pods') ?? 0,
      allocatable: this.#allocatable,
      pressure,
      appArmor: this.#facts.appArmor,
    };
    const all: PodDemand = { pods: this.#placed.size, resources: this.#resources, hostPorts: this.#hostPorts };
    const refusal = admitPod(pod, demand, all, room);
    if (refusal === undefined) return undefined;
    const unfinished = [...this.#placed].filter(({ isFinished }) => !isFinished);
    return admitPod(pod, demand, sumOfDemands(unfinished.map(({ demand: each }) => each)), room);
  }

  hold(placed: Placed): void {
    if (this.#placed.has(placed)) return;
    this.#placed.add(placed);
    this.#count(placed.demand, 1);
  }

  release(placed: Placed): void {
    if (this.#placed.delete(placed)) this.#count(placed.demand, -1);
  }

  /**
   * Gives one that is here a new place. Refused when the node never has what it asks for of processor or memory, or
   * does not have it now.
   */
  resize(placed: Placed, demand: PodDemand): ResizePending | undefined {
    const others = sumOfDemands(
      [...this.#placed].filter((each) => each !== placed && !each.isFinished).map((each) => each.demand),
    );
    const pending = resizeRefusal(demand, others, this.#allocatable);
    if (pending !== undefined) return pending;
    this.#count(placed.demand, -1);
    placed.demand = demand;
    this.#count(demand, 1);
    return undefined;
  }

  #count({ resources, hostPorts }: PodDemand, sign: 1 | -1): void {
    for (const [name, value] of resources) this.#resources.set(name, (this.#resources.get(name) ?? 0) + sign * value);
    for (const port of hostPorts)
      if (sign === 1) this.#hostPorts.push(port);
      else this.#hostPorts.splice(this.#hostPorts.indexOf(port), 1);
  }
}
