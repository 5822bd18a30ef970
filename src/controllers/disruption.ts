/**
 * The disruption controller: how many Pods of a PodDisruptionBudget may go now. Evictions (the API server) take from
 * that number.
 * Spec: Kubernetes documentation, "Specifying a Disruption Budget".
 */
import type { Deployment, ReplicaSet, StatefulSet } from '#api/apps.v1.ts';
import type { Pod, ReplicationController } from '#api/core.v1.ts';
import type { Condition } from '#api/meta.v1.ts';
import type { PodDisruptionBudget, PodDisruptionBudgetStatus } from '#api/policy.v1.ts';
import type { KindRef } from '#base/objects.ts';
import { type LabelSelector, matchesLabels, selectorOf } from '#base/selectors.ts';
import { timestamp } from '#base/timestamp.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { resolveIntOrPercent } from './deployment-rolling.ts';
import { isEqual, isEqualStatus } from './equality.ts';
import { isPodReady, isPodTerminal, withCondition } from './pods.ts';
import { type Controller, type ControllerContext, controllerOf, createQueue, enqueueEach } from './runtime.ts';

/** An eviction that was granted counts as gone until the deletion is seen, or for this long. */
const evictionSeenMs = 120_000;

export interface BudgetObserved {
  budget: PodDisruptionBudget;
  pods: Pod[];
  /** Replicas that the Pods' controllers want together; a text says why that is unknown. */ wanted: number | string;
}

export function planBudget(
  { budget, pods, wanted }: BudgetObserved,
  nowMs: number,
): { status: PodDisruptionBudgetStatus; requeueAfterMs?: number } {
  const { spec } = budget;
  let conditions: Condition[] = budget.status?.conditions ?? [];
  const failed = (message: string): { status: PodDisruptionBudgetStatus } => {
    conditions = withCondition(
      conditions,
      {
        type: 'DisruptionAllowed',
        status: 'False',
        reason: 'SyncFailed',
        message,
        observedGeneration: budget.metadata.generation ?? 0,
        lastTransitionTime: timestamp(nowMs),
      },
      nowMs,
    );
    return {
      status: {
        currentHealthy: 0,
        desiredHealthy: 0,
        expectedPods: 0,
        ...budget.status,
        disruptionsAllowed: 0,
        observedGeneration: budget.metadata.generation ?? 0,
        conditions,
      },
    };
  };
  const disrupted: Record<string, string> = {};
  let requeueAfterMs: number | undefined;
  for (const [name, at] of Object.entries(budget.status?.disruptedPods ?? {})) {
    const pod = pods.find(({ metadata }) => metadata.name === name);
    const leftMs = Date.parse(at) + evictionSeenMs - nowMs;
    if (pod === undefined || pod.metadata.deletionTimestamp !== undefined || leftMs <= 0) continue;
    disrupted[name] = at;
    requeueAfterMs = Math.min(requeueAfterMs ?? Infinity, leftMs);
  }
  const alive = pods.filter((pod) => !isPodTerminal(pod));
  const healthy = alive.filter(
    (pod) =>
      pod.metadata.deletionTimestamp === undefined && isPodReady(pod) && disrupted[pod.metadata.name] === undefined,
  ).length;
  let expected: number;
  let desired: number;
  if (spec.maxUnavailable !== undefined && spec.maxUnavailable !== null) {
    if (typeof wanted === 'string') return failed(wanted);
    expected = wanted;
    desired = Math.max(0, expected - resolveIntOrPercent(spec.maxUnavailable, expected, true));
  } else if (typeof spec.minAvailable === 'string') {
    if (typeof wanted === 'string') return failed(wanted);
    expected = wanted;
    desired = resolveIntOrPercent(spec.minAvailable, expected, true);
  } else {
    expected = alive.length;
    desired = spec.minAvailable ?? 0;
  }
  const allowed = expected === 0 ? 0 : Math.max(0, healthy - desired);
  conditions = withCondition(
    conditions,
    allowed > 0
      ? {
          type: 'DisruptionAllowed',
          status: 'True',
          reason: 'SufficientPods',
          message: '',
          observedGeneration: budget.metadata.generation ?? 0,
          lastTransitionTime: timestamp(nowMs),
        }
      : {
          type: 'DisruptionAllowed',
          status: 'False',
          reason: 'InsufficientPods',
          message: '',
          observedGeneration: budget.metadata.generation ?? 0,
          lastTransitionTime: timestamp(nowMs),
        },
    nowMs,
  );
  return {
    status: {
      observedGeneration: budget.metadata.generation ?? 0,
      disruptionsAllowed: allowed,
      currentHealthy: healthy,
      desiredHealthy: desired,
      expectedPods: expected,
      ...(Object.keys(disrupted).length === 0 ? {} : { disruptedPods: disrupted }),
      conditions,
    },
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

/** What has a number of replicas that Pods belong to. */
type Owner = ReplicaSet | Deployment | StatefulSet | ReplicationController;

const owners: Record<string, KindRef<Owner>> = {
  ReplicaSet: kinds.ReplicaSet,
  Deployment: kinds.Deployment,
  StatefulSet: kinds.StatefulSet,
  ReplicationController: kinds.ReplicationController,
};

class DisruptionController {
  readonly #context: ControllerContext;
  readonly #budgets: Informer<PodDisruptionBudget>;
  readonly #pods: Informer<Pod>;
  readonly #owners = new Map<string, Informer<Owner>>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#budgets = context.informers.informer(kinds.PodDisruptionBudget).addIndex('namespace', indexes.namespace);
    this.#pods = context.informers.informer(kinds.Pod).addIndex('namespace', indexes.namespace);
    this.queue = createQueue(context, 'disruption', (key) => this.#reconcile(key));
    enqueueEach(this.#budgets, this.queue);
    const onPod = (pod: Pod): void => {
      for (const budget of this.#budgets.by('namespace', pod.metadata.namespace))
        if (matchesLabels(selectorOf(budget.spec.selector) ?? [], pod.metadata.labels)) this.queue.add(keyOf(budget));
    };
    this.#pods.addHandler({
      added: onPod,
      deleted: onPod,
      updated: (pod, previous) => {
        onPod(pod);
        if (!isEqual(pod.metadata.labels, previous.metadata.labels)) onPod(previous);
      },
    });
    for (const [kind, reference] of Object.entries(owners)) {
      const informer = context.informers.informer(reference);
      this.#owners.set(kind, informer);
      informer.addHandler({
        updated: (owner, previous) => {
          if (owner.spec.replicas === previous.spec.replicas) return;
          for (const budget of this.#budgets.by('namespace', owner.metadata.namespace)) this.queue.add(keyOf(budget));
        },
      });
    }
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const budget = this.#budgets.get(key);
    if (budget === undefined || budget.metadata.deletionTimestamp !== undefined) return undefined;
    const selector: LabelSelector = selectorOf(budget.spec.selector) ?? [{ key: '\n', operator: 'Exists', values: [] }];
    const pods = [...this.#pods.by('namespace', budget.metadata.namespace)].filter((pod) =>
      matchesLabels(selector, pod.metadata.labels),
    );
    const { status, requeueAfterMs } = planBudget(
      { budget, pods, wanted: await this.#wanted(pods) },
      this.#context.clock.now(),
    );
    if (!isEqualStatus(budget.status, status))
      await this.#context.client.update(kinds.PodDisruptionBudget, { ...budget, status }, { subresource: 'status' });
    return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
  }

  async #wanted(pods: readonly Pod[]): Promise<number | string> {
    const sizes = new Map<string, number>();
    for (const pod of pods) {
      if (isPodTerminal(pod)) continue;
      const owner = controllerOf(pod);
      if (owner === undefined) return `found no controllers for pod "${pod.metadata.name}"`;
      const found = this.#topOwner(pod.metadata.namespace, owner);
      if (found === undefined)
        return `${owner.kind.toLowerCase()}s "${owner.name}" does not implement the scale subresource`;
      sizes.set(found.metadata.uid, found.spec.replicas ?? 1);
    }
    let sum = 0;
    for (const size of sizes.values()) sum += size;
    return sum;
  }

  #topOwner(namespace: string, reference: { kind: string; name: string; uid: string }): Owner | undefined {
    const owner = this.#owners.get(reference.kind)?.get(`${namespace}/${reference.name}`);
    if (owner === undefined || owner.metadata.uid !== reference.uid) return undefined;
    const above = owner.kind === 'ReplicaSet' ? controllerOf(owner) : undefined;
    return above?.kind === 'Deployment' ? (this.#topOwner(namespace, above) ?? owner) : owner;
  }
}

export function startDisruptionController(context: ControllerContext): Controller {
  const controller = new DisruptionController(context);
  return { name: 'disruption', queues: [controller.queue] };
}
