/** Disruption budgets: for how long fewer Pods were healthy than each wants, and how many evictions it refused. */
import type { Pod } from '#api/core.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { keyOf } from '#client/informer.ts';
import { Deficit } from './deficit.ts';
import { isServing } from './servers.ts';
import type { BudgetReport } from './types.ts';

interface Budget {
  object: PodDisruptionBudget;
  healthy: Set<string>;
  broken: Deficit;
  wasKept: boolean;
  isBroken: boolean;
  refused: number;
}

export class Budgets {
  readonly #budgets = new Map<string, Budget>();
  readonly #now: () => number;
  readonly #note: (what: string) => void;
  readonly #isUp: (node: string) => boolean;

  constructor(now: () => number, note: (what: string) => void, isUp: (node: string) => boolean) {
    this.#now = now;
    this.#note = note;
    this.#isUp = isUp;
  }

  see(object: PodDisruptionBudget, pods: Iterable<Pod>): void {
    const key = keyOf(object);
    let budget = this.#budgets.get(key);
    if (budget !== undefined) budget.object = object;
    else {
      budget = {
        object,
        healthy: new Set(),
        broken: new Deficit(),
        wasKept: false,
        isBroken: false,
        refused: 0,
      };
      this.#budgets.set(key, budget);
      for (const pod of pods) this.#count(budget, pod);
    }
    this.#look(budget);
  }

  unsee(object: PodDisruptionBudget): void {
    this.#budgets.delete(keyOf(object));
  }

  seePod(pod: Pod): void {
    for (const budget of this.#budgets.values()) if (this.#count(budget, pod)) this.#look(budget);
  }

  unseePod(pod: Pod): void {
    for (const budget of this.#budgets.values()) if (budget.healthy.delete(pod.metadata.uid)) this.#look(budget);
  }

  /** Whether the number changed. */
  #count({ object, healthy }: Budget, pod: Pod): boolean {
    const { uid } = pod.metadata;
    if (pod.metadata.namespace !== object.metadata.namespace) return false;
    const counts = isServing(pod, this.#isUp) && matchesSelectorObject(object.spec.selector, pod.metadata.labels);
    if (counts === healthy.has(uid)) return false;
    if (counts) healthy.add(uid);
    else healthy.delete(uid);
    return true;
  }

  /** As with workloads, time counts from when it was kept for the first time. */
  #look(budget: Budget): void {
    const wanted = budget.object.status?.desiredHealthy;
    if (wanted === undefined) return;
    const isBroken = budget.healthy.size < wanted;
    if (!isBroken) budget.wasKept = true;
    if (!budget.wasKept) return;
    budget.broken.set(isBroken, this.#now());
    if (isBroken && !budget.isBroken)
      this.#note(
        `disruption budget ${keyOf(budget.object)} is undercut: ${budget.healthy.size} healthy, ${wanted} wanted`,
      );
    budget.isBroken = isBroken;
  }

  /** The API server has refused to evict this Pod; answers the budgets that hold it. */
  refuse(pod: Pod): string[] {
    const holding = [...this.#budgets.values()].filter(
      ({ object }) =>
        object.metadata.namespace === pod.metadata.namespace &&
        matchesSelectorObject(object.spec.selector, pod.metadata.labels),
    );
    for (const budget of holding) budget.refused += 1;
    return holding.map(({ object }) => keyOf(object));
  }

  report(): BudgetReport[] {
    return [...this.#budgets.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, { object, broken, refused }]) => ({
        namespace: object.metadata.namespace,
        name: object.metadata.name,
        brokenSeconds: broken.seconds(this.#now()),
        refused,
      }));
  }
}
