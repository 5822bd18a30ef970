/**
 * Voluntary disruptions stay within budgets (Kubernetes documentation, "Specifying a Disruption Budget"): each grant is
 * within what the status said was allowed; and counted here, evictions in a row never leave fewer healthy Pods than are
 * wanted, but for those that were lost otherwise since the controllers last certainly knew. At rest the status is what
 * the Pods are.
 */
import type { KubeObject } from '#base/objects.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { isPodReady, isPodTerminal } from '#controllers/pods.ts';
import type { Checker, Commit, World } from '../world.ts';

/** The healthy Pods (name to UID) of a budget, until when they were these. */
interface Healthy {
  pods: Map<string, string>;
  untilMs: number;
}

const isHealthy = (pod: KubeObject): boolean =>
  isPodReady(pod) && !isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined;

class Budgets {
  readonly #world: World;
  readonly #report: (message: string) => void;
  readonly #healthy = new Map<string, Healthy[]>();
  /** UIDs of Pods that were granted to an eviction. */
  readonly #evicted = new Set<string>();

  constructor(world: World, name: string) {
    this.#world = world;
    this.#report = (message) => world.report(name, message);
  }

  #podsOf(budget: KubeObject): KubeObject[] {
    return [...this.#world.of('pods')].filter(
      (pod) =>
        pod.metadata.namespace === budget.metadata.namespace &&
        matchesSelectorObject(budget['spec'].selector, pod.metadata.labels),
    );
  }

  seePod({ object, previous, atMs }: Commit): void {
    const pod = (object ?? previous)!;
    for (const [key, budget] of this.#world.entriesOf('policy/poddisruptionbudgets')) {
      if (
        pod.metadata.namespace !== budget.metadata.namespace ||
        !matchesSelectorObject(budget['spec'].selector, pod.metadata.labels)
      )
        continue;
      this.#note(key, budget, atMs, pod, object !== undefined && isHealthy(object));
    }
  }

  #note(key: string, budget: KubeObject, atMs: number, pod?: KubeObject, isUp = false): Healthy[] {
    const history = this.#healthy.get(key) ?? [
      {
        pods: new Map(
          this.#podsOf(budget)
            .filter(isHealthy)
            .map(({ metadata }) => [metadata.name!, metadata.uid!]),
        ),
        untilMs: Infinity,
      },
    ];
    const last = history.at(-1)!;
    const uid = pod?.metadata.uid;
    if (pod !== undefined && (last.pods.get(pod.metadata.name!) === uid) !== isUp) {
      const pods = new Map(last.pods);
      if (isUp) pods.set(pod.metadata.name!, uid!);
      else pods.delete(pod.metadata.name!);
      last.untilMs = atMs;
      history.push({ pods, untilMs: Infinity });
    }
    const known = history.filter(({ untilMs }) => untilMs >= this.#world.knownMs('controllers'));
    this.#healthy.set(key, known);
    return known;
  }

  seeBudget({ key, object, previous, atMs }: Commit): void {
    if (object === undefined) {
      this.#healthy.delete(key);
      return;
    }
    const history = this.#note(key, object, atMs);
    const { disruptionsAllowed = 0, disruptedPods = {}, desiredHealthy = 0 } = object['status'] ?? {};
    if (disruptionsAllowed < 0) this.#report(`${object.metadata.name} allows ${disruptionsAllowed} disruptions`);
    const granted = Object.keys(disruptedPods).filter(
      (pod) => previous?.['status']?.disruptedPods?.[pod] === undefined,
    );
    if (granted.length === 0 || previous === undefined) return;
    const allowed: number = previous['status']?.disruptionsAllowed ?? 0;
    if (allowed < granted.length)
      this.#report(`${object.metadata.name} granted ${granted.length} evictions where ${allowed} were allowed`);
    for (const pod of granted) {
      const uid = this.#world.objects.get(`/registry/pods/${object.metadata.namespace}/${pod}`)?.metadata.uid;
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
    for (const budget of this.#world.of('policy/poddisruptionbudgets')) {
      const pods = this.#podsOf(budget).filter((pod) => !isPodTerminal(pod));
      const healthy = pods.filter(isHealthy).length;
      const {
        currentHealthy,
        desiredHealthy,
        disruptionsAllowed,
        disruptedPods = {},
        expectedPods,
        observedGeneration,
      } = budget['status'] ?? {};
      const { minAvailable } = budget['spec'];
      const wanted =
        typeof minAvailable === 'number'
          ? { desiredHealthy: minAvailable, expectedPods: pods.length }
          : { desiredHealthy, expectedPods };
      const should = JSON.stringify({
        healthy,
        ...wanted,
        allowed: expectedPods === 0 ? 0 : Math.max(0, healthy - wanted.desiredHealthy),
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
      if (commit.key.startsWith('/registry/pods/')) budgets.seePod(commit);
      else if (commit.key.startsWith('/registry/policy/poddisruptionbudgets/')) budgets.seeBudget(commit);
    },
    atRest() {
      budgets?.atRest();
    },
  };
}
