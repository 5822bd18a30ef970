/**
 * Voluntary disruptions stay within budgets (Kubernetes documentation, "Specifying a Disruption Budget"): each grant is
 * within what the status said was allowed; and counted here, evictions in a row never leave fewer healthy Pods than are
 * wanted, but for those that were lost otherwise since the controllers last certainly knew. At rest the status is what
 * the Pods are.
 */
import type { Pod } from '#api/core.v1.ts';
import type { PodDisruptionBudget, PodDisruptionBudgetStatus } from '#api/policy.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import { type Checker, type CommitOf, isCommitOf, type World } from '../world.ts';

/** The healthy Pods (name to UID) of a budget, until when they were these. */
interface Healthy {
  pods: Map<string, string>;
  untilMs: number;
}

const isHealthy = (pod: Pod): boolean =>
  isPodReady(pod) && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;

/** Whether the Pod is one of those that the budget is about. */
const covers = ({ metadata, spec }: PodDisruptionBudget, pod: Pod): boolean =>
  pod.metadata.namespace === metadata.namespace && matchesSelectorObject(spec.selector, pod.metadata.labels);

class Budgets {
  readonly #world: World;
  readonly #report: (message: string) => void;
  /** By `namespace/name` of the budget. */
  readonly #healthy = new Map<string, Healthy[]>();
  /** UIDs of Pods that were granted to an eviction. */
  readonly #evicted = new Set<string>();

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  #podsOf(budget: PodDisruptionBudget): Pod[] {
    return [...this.#world.of(kinds.Pod)].filter((pod) => covers(budget, pod));
  }

  seePod(commit: CommitOf<Pod>): void {
    for (const budget of this.#world.of(kinds.PodDisruptionBudget))
      if (covers(budget, commit.last)) this.#notePod(budget, commit);
  }

  /** What its healthy Pods may have been, the newest last; as they are now where it is new. */
  #historyOf(budget: PodDisruptionBudget): Healthy[] {
    const held = (this.#healthy.get(keyOf(budget)) ?? []).filter(
      ({ untilMs }) => untilMs >= this.#world.knownMs('controllers'),
    );
    if (held.length > 0) return held;
    const healthy = this.#podsOf(budget).filter(isHealthy);
    return [{ pods: new Map(healthy.map(({ metadata }) => [metadata.name, metadata.uid])), untilMs: Infinity }];
  }

  #notePod(budget: PodDisruptionBudget, { object, last: { metadata }, atMs }: CommitOf<Pod>): void {
    const history = this.#historyOf(budget);
    const last = history.at(-1);
    const isUp = object !== undefined && isHealthy(object);
    if (last !== undefined && (last.pods.get(metadata.name) === metadata.uid) !== isUp) {
      const pods = new Map(last.pods);
      if (isUp) pods.set(metadata.name, metadata.uid);
      else pods.delete(metadata.name);
      last.untilMs = atMs;
      history.push({ pods, untilMs: Infinity });
    }
    this.#healthy.set(keyOf(budget), history);
  }

  seeBudget({ last, object, previous }: CommitOf<PodDisruptionBudget>): void {
    if (object === undefined) {
      this.#healthy.delete(keyOf(last));
      return;
    }
    const history = this.#historyOf(object);
    this.#healthy.set(keyOf(object), history);
    const { disruptionsAllowed = 0, disruptedPods = {}, desiredHealthy = 0 } = object.status ?? {};
    if (disruptionsAllowed < 0) this.#report(`${object.metadata.name} allows ${disruptionsAllowed} disruptions`);
    const granted = Object.keys(disruptedPods).filter((pod) => previous?.status?.disruptedPods?.[pod] === undefined);
    if (granted.length === 0 || previous === undefined) return;
    const allowed = previous.status?.disruptionsAllowed ?? 0;
    if (allowed < granted.length)
      this.#report(`${object.metadata.name} granted ${granted.length} evictions where ${allowed} were allowed`);
    for (const pod of granted) {
      const uid = this.#world.get(kinds.Pod, pod, object.metadata.namespace)?.metadata.uid;
      if (uid !== undefined) this.#evicted.add(uid);
    }
    const left = Math.max(
      ...history.map(({ pods }) => [...pods.values()].filter((uid) => !this.#evicted.has(uid)).length),
    );
    if (left < desiredHealthy)
      this.#report(
        `${object.metadata.name} granted the eviction of ${granted.join(', ')}: ${left} healthy Pods are left, ${desiredHealthy} are wanted`,
      );
  }

  atRest(): void {
    for (const budget of this.#world.of(kinds.PodDisruptionBudget)) {
      const pods = this.#podsOf(budget).filter((pod) => !isPodTerminal(pod));
      const healthy = pods.filter(isHealthy).length;
      const {
        currentHealthy,
        desiredHealthy,
        disruptionsAllowed,
        disruptedPods = {},
        expectedPods,
        observedGeneration,
      }: Partial<PodDisruptionBudgetStatus> = budget.status ?? {};
      const minAvailable = budget.spec.minAvailable;
      const wanted =
        typeof minAvailable === 'number'
          ? { desiredHealthy: minAvailable, expectedPods: pods.length }
          : { desiredHealthy, expectedPods };
      const should = JSON.stringify({
        healthy,
        ...wanted,
        allowed: expectedPods === 0 ? 0 : Math.max(0, healthy - (wanted.desiredHealthy ?? 0)),
        disrupted: 0,
        generation: budget.metadata.generation,
      });
      const is = JSON.stringify({
        healthy: currentHealthy,
        desiredHealthy,
        expectedPods,
        allowed: disruptionsAllowed,
        disrupted: Object.keys(disruptedPods).length,
        generation: observedGeneration,
      });
      if (is !== should) this.#report(`the status of ${budget.metadata.name} is ${is}, it should be ${should}`);
    }
  }
}

export function budgetsKept(): Checker {
  const name = 'budgets-kept';
  let budgets: Budgets | undefined;
  return {
    name,
    onCommit(commit, world) {
      budgets ??= new Budgets(world, name);
      if (isCommitOf(kinds.Pod, commit)) budgets.seePod(commit);
      else if (isCommitOf(kinds.PodDisruptionBudget, commit)) budgets.seeBudget(commit);
    },
    atRest() {
      budgets?.atRest();
    },
  };
}
