/**
 * The ReplicaSet controller: as many active Pods that match the selector as `spec.replicas` says.
 * Adopts matching Pods that have no controller, lets go of its own that no longer match, creates and deletes the
 * difference (those that hurt least first), and counts. It does not roll out templates. ReplicationControllers, the
 * older form with a plain map as selector, are served by the same code. Spec: Kubernetes documentation, "ReplicaSet",
 * "ReplicationController".
 */
import type { ReplicaSet, ReplicaSetStatus } from '#api/apps.v1.ts';
import type { Pod, ReplicationController } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef } from '#base/objects.ts';
import { type LabelSelector, matchesLabels, selectorOf, selectorOfMap } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { burstPodsMax } from './limits.ts';
import { type PodCounts, PodTally } from './pod-tally.ts';
import {
  byAge,
  type Condition,
  conditionOf,
  createdMs,
  isPodActive,
  isPodReady,
  podFromTemplate,
  untilAvailableMs,
  withCondition,
  withoutCondition,
} from './pods.ts';
import {
  adopt,
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  enqueueController,
  enqueueEach,
  forEachBounded,
  ownedBy,
  recorderOf,
  release,
  slowStart,
  writeStatus,
} from './runtime.ts';

/** Either form: one code serves both. */
type AnyReplicaSet = ReplicaSet | ReplicationController;

export interface ReplicaSetObserved {
  replicaSet: AnyReplicaSet;
  /** Pods that this ReplicaSet controls, and Pods of its namespace that nothing controls. */
  owned: Iterable<Pod>;
  orphans: Pod[];
  /** Of `owned`, where it is kept. */
  counts?: PodCounts;
  /** Pods on a node that belong to ReplicaSets of the same owner: for spreading deletions. */
  relatedOnNode?: (node: string) => number;
}

/** What went wrong in the last attempt to create or delete. */
interface ReplicaFailure {
  reason: 'FailedCreate' | 'FailedDelete';
  message: string;
}

/** The selector of either form. */
function selectorIn(replicaSet: AnyReplicaSet): LabelSelector {
  return replicaSet.kind === 'ReplicationController'
    ? selectorOfMap(replicaSet.spec.selector ?? {})
    : (selectorOf(replicaSet.spec.selector) ?? []);
}

export interface ReplicaSetPlan {
  adopt: Pod[];
  release: Pod[];
  create: number;
  delete: Pod[];
  status: ReplicaSetStatus;
  /** When a ready Pod becomes available by time alone. */
  requeueAfterMs?: number;
}

export function planReplicaSet(observed: ReplicaSetObserved, nowMs: number): ReplicaSetPlan {
  const { replicaSet, owned, orphans } = observed;
  const { spec } = replicaSet;
  const selector = selectorIn(replicaSet);
  const matches = (pod: Pod): boolean => matchesLabels(selector, pod.metadata.labels);
  const deleting = replicaSet.metadata.deletionTimestamp !== undefined;
  const counts = observed.counts ?? tallyOf(replicaSet, owned);
  const adopted = deleting
    ? []
    : orphans.filter((pod) => pod.metadata.deletionTimestamp === undefined && matches(pod) && isPodActive(pod));
  const all = adopted.length === 0 ? counts : sum(counts, tallyOf(replicaSet, adopted));
  // Only who must choose among the Pods goes through them.
  const active = (): Pod[] => [...[...owned].filter((pod) => isPodActive(pod) && matches(pod)), ...adopted];
  const difference = deleting ? 0 : (spec.replicas ?? 1) - all.active;
  return {
    adopt: adopted,
    release:
      deleting || counts.strays === 0
        ? []
        : [...owned].filter((pod) => pod.metadata.deletionTimestamp === undefined && !matches(pod)),
    create: Math.min(Math.max(difference, 0), burstPodsMax),
    delete:
      difference < 0
        ? rankForDeletion(active(), observed.relatedOnNode, nowMs).slice(0, Math.min(-difference, burstPodsMax))
        : [],
    ...planStatus({ replicaSet, counts: all, active, failure: undefined, nowMs }),
  };
}

function tallyOf(replicaSet: AnyReplicaSet, pods: Iterable<Pod>): PodTally {
  const tally = new PodTally(selectorIn(replicaSet), replicaSet.spec.template?.metadata?.labels ?? {});
  for (const pod of pods) tally.put(keyOf(pod), pod);
  return tally;
}

function sum(a: PodCounts, b: PodCounts): PodCounts {
  return {
    active: a.active + b.active,
    fullyLabeled: a.fullyLabeled + b.fullyLabeled,
    ready: a.ready + b.ready,
    strays: a.strays + b.strays,
  };
}

interface StatusInput {
  replicaSet: AnyReplicaSet;
  counts: PodCounts;
  active: () => Pod[];
  failure: ReplicaFailure | undefined;
  nowMs: number;
}

function planStatus({ replicaSet, counts, active, failure, nowMs }: StatusInput): {
  status: ReplicaSetStatus;
  requeueAfterMs?: number;
} {
  const minReadySeconds: number = replicaSet.spec.minReadySeconds ?? 0;
  let available = counts.ready;
  let requeueAfterMs: number | undefined;
  if (minReadySeconds > 0 && counts.ready > 0) {
    available = 0;
    for (const pod of active()) {
      const waitMs = untilAvailableMs(pod, minReadySeconds, nowMs);
      if (waitMs === 0) available++;
      else if (waitMs !== undefined) requeueAfterMs = Math.min(requeueAfterMs ?? Infinity, waitMs);
    }
  }
  const held: Condition[] | undefined = replicaSet.status?.conditions;
  // The first failure's words stay: each attempt's would differ (they name the Pod that was not made), and every write
  // would bring the next attempt.
  const already =
    failure !== undefined &&
    held?.some(({ type, reason }) => type === 'ReplicaFailure' && reason === failure.reason) === true;
  const conditions = already
    ? held
    : failure === undefined
      ? withoutCondition(held, 'ReplicaFailure')
      : withCondition(
          held,
          { type: 'ReplicaFailure', status: 'True', reason: failure.reason, message: failure.message },
          nowMs,
        );
  return {
    status: {
      replicas: counts.active,
      fullyLabeledReplicas: counts.fullyLabeled,
      readyReplicas: counts.ready,
      availableReplicas: available,
      observedGeneration: replicaSet.metadata.generation ?? 0,
      ...(conditions.length === 0 ? {} : { conditions }),
    },
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

const phaseRank: Record<string, number> = { Pending: 0, Unknown: 1, Running: 2 };

/** Pods to delete first come first: those not placed, not running, not ready, cheap, crowded, young. */
function rankForDeletion(pods: Pod[], relatedOnNode: ((node: string) => number) | undefined, nowMs: number): Pod[] {
  const ranks = pods.map((pod) => {
    const ready = isPodReady(pod);
    const readyAt = conditionOf(pod, 'Ready')?.lastTransitionTime;
    const restarts = ((pod.status?.containerStatuses ?? []) as { restartCount?: number }[]).reduce(
      (sum, status) => sum + (status.restartCount ?? 0),
      0,
    );
    const node: string | undefined = pod.spec?.nodeName;
    const cost = Number(pod.metadata.annotations?.['controller.kubernetes.io/pod-deletion-cost'] ?? 0);
    return {
      pod,
      keys: [
        node === undefined ? 0 : 1,
        phaseRank[pod.status?.phase ?? 'Pending'] ?? 1,
        ready ? 1 : 0,
        Number.isFinite(cost) ? cost : 0,
        node === undefined || relatedOnNode === undefined ? 0 : -relatedOnNode(node),
        // Recently ready before long ready, by order of magnitude only, so that zones of one rollout mix.
        ready && readyAt != null ? logarithmOf(nowMs - Date.parse(readyAt)) : 0,
        -restarts,
        logarithmOf(nowMs - createdMs(pod)),
      ],
    };
  });
  ranks.sort((a, b) => {
    for (let i = 0; i < a.keys.length; i++) if (a.keys[i] !== b.keys[i]) return a.keys[i]! - b.keys[i]!;
    return -byAge(a.pod, b.pod);
  });
  return ranks.map(({ pod }) => pod);
}

function logarithmOf(ageMs: number): number {
  return Math.floor(Math.log2(Math.max(1, ageMs / 1000)));
}

class ReplicaSetController {
  readonly #context: ControllerContext;
  readonly #kind: KindRef<AnyReplicaSet>;
  readonly #replicaSets: Informer<AnyReplicaSet>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  /** By UID of the ReplicaSet, each for one generation of it. */
  readonly #tallies = new Map<string, { generation: number | undefined; tally: PodTally }>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext, kind: KindRef<AnyReplicaSet>, name: string) {
    this.#context = context;
    this.#kind = kind;
    this.#recorder = recorderOf(context, name.endsWith('-controller') ? name : `${name}-controller`);
    this.#replicaSets = context.informers
      .informer(kind)
      .addIndex('controller', indexes.controller)
      .addIndex('namespace', indexes.namespace);
    this.#pods = context.informers
      .informer(kinds.Pod)
      .addIndex('controller', indexes.controller)
      .addIndex('orphans', indexes.orphans);
    this.queue = createQueue(context, name, (key) => this.#reconcile(key));
    this.#pods.addHandler({
      added: (pod) => this.#count(pod),
      updated: (pod, previous) => this.#count(pod, previous),
      deleted: (_pod, held) => this.#uncount(held),
    });
    this.#replicaSets.addHandler({
      deleted: ({ metadata }) => {
        this.#tallies.delete(metadata.uid);
      },
    });
    enqueueEach(this.#replicaSets, this.queue);
    enqueueController(this.#pods, kind.kind, this.queue);
    this.#pods.addHandler({ added: (pod) => this.#enqueueMatching(pod), updated: (pod) => this.#enqueueMatching(pod) });
  }

  #count(pod: Pod, previous?: Pod): void {
    const owner = indexes.controller(pod);
    if (
      previous !== undefined &&
      pod.metadata.ownerReferences !== previous.metadata.ownerReferences &&
      indexes.controller(previous) !== owner
    )
      this.#uncount(previous);
    if (owner !== undefined) this.#tallies.get(owner)?.tally.put(keyOf(pod), pod);
  }

  #uncount(pod: Pod): void {
    this.#tallies.get(indexes.controller(pod) ?? '')?.tally.remove(keyOf(pod));
  }

  #countsOf(replicaSet: AnyReplicaSet): PodCounts {
    const { uid, generation } = replicaSet.metadata;
    let held = this.#tallies.get(uid);
    if (held === undefined || held.generation !== generation) {
      held = { generation, tally: tallyOf(replicaSet, this.#pods.by('controller', uid)) };
      this.#tallies.set(uid, held);
    }
    return held.tally;
  }

  /** A Pod without a controller may be one to adopt. */
  #enqueueMatching(pod: Pod): void {
    if (indexes.controller(pod) !== undefined || pod.metadata.labels === undefined) return;
    for (const replicaSet of this.#replicaSets.by('namespace', pod.metadata.namespace)) {
      if (matchesLabels(selectorIn(replicaSet), pod.metadata.labels))
        this.queue.add(`${replicaSet.metadata.namespace}/${replicaSet.metadata.name}`);
    }
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const replicaSet = this.#replicaSets.get(key);
    if (replicaSet === undefined) return undefined;
    const observed: ReplicaSetObserved = {
      replicaSet,
      owned: this.#owned(replicaSet),
      counts: this.#countsOf(replicaSet),
      orphans: this.#candidates(replicaSet),
      relatedOnNode: this.#relatedOnNode(replicaSet),
    };
    const plan = planReplicaSet(observed, this.#context.clock.now());
    let failure: unknown;
    try {
      await this.#apply(replicaSet, plan);
    } catch (error) {
      failure = error;
    }
    await this.#writeStatus(key, replicaSet, plan, failure);
    if (failure !== undefined) throw failure;
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs };
  }

  #owned(replicaSet: AnyReplicaSet): Iterable<Pod> {
    return { [Symbol.iterator]: () => this.#pods.by('controller', replicaSet.metadata.uid)[Symbol.iterator]() };
  }

  #candidates(replicaSet: AnyReplicaSet): Pod[] {
    const selector = selectorIn(replicaSet);
    return [...this.#pods.by('orphans', replicaSet.metadata.namespace)].filter((pod) =>
      matchesLabels(selector, pod.metadata.labels),
    );
  }

  /** Counts lazily: most reconciliations delete nothing. */
  #relatedOnNode(replicaSet: AnyReplicaSet): (node: string) => number {
    let counts: Map<string, number> | undefined;
    return (node) => {
      if (counts === undefined) {
        counts = new Map();
        const owner = indexes.controller(replicaSet);
        const related = owner === undefined ? [replicaSet] : this.#replicaSets.by('controller', owner);
        for (const { metadata } of related) {
          for (const pod of this.#pods.by('controller', metadata.uid)) {
            const on: string | undefined = pod.spec?.nodeName;
            if (on !== undefined && isPodActive(pod)) counts.set(on, (counts.get(on) ?? 0) + 1);
          }
        }
      }
      return counts.get(node) ?? 0;
    };
  }

  async #apply(replicaSet: AnyReplicaSet, plan: ReplicaSetPlan): Promise<void> {
    const { client } = this.#context;
    const { namespace, name } = replicaSet.metadata;
    if (plan.adopt.length > 0) {
      // The cache may not know yet that this ReplicaSet is going away: then nothing may be adopted.
      const fresh = await client.get(this.#kind, name, namespace);
      if (fresh.metadata.uid === replicaSet.metadata.uid && fresh.metadata.deletionTimestamp === undefined) {
        await forEachBounded(plan.adopt, (pod) => adopt(this.#context, kinds.Pod, replicaSet, pod));
      }
    }
    await forEachBounded(plan.release, (pod) => release(this.#context, kinds.Pod, replicaSet, pod));
    const { template = { spec: { containers: [] } } } = replicaSet.spec;
    const made = podFromTemplate(template, namespace, ownedBy(replicaSet), { generateName: `${name}-` });
    await slowStart(plan.create, async () => {
      try {
        const pod = await client.create(kinds.Pod, made);
        this.#recorder.event(replicaSet, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
      } catch (error) {
        if (!(isReason(error, 'Forbidden', 'NotFound') && error.message.includes('terminat'))) {
          this.#recorder.event(replicaSet, 'Warning', 'FailedCreate', `Error creating: ${messageOf(error)}`);
        }
        throw Object.assign(error as Error, { replicaFailure: 'FailedCreate' });
      }
    });
    await forEachBounded(plan.delete, async (pod) => {
      await deleteIfPresent(this.#context, kinds.Pod, pod);
      this.#recorder.event(replicaSet, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
    });
  }

  async #writeStatus(key: string, replicaSet: AnyReplicaSet, plan: ReplicaSetPlan, failure: unknown): Promise<void> {
    const current = this.#replicaSets.get(key);
    if (current === undefined) return;
    // Where nothing was done since, the plan's count stands.
    if (
      failure === undefined &&
      current === replicaSet &&
      plan.create + plan.delete.length + plan.adopt.length + plan.release.length === 0
    ) {
      await writeStatus(this.#context, this.#kind, current, plan.status);
      return;
    }
    const failed: ReplicaFailure | undefined =
      failure instanceof Error
        ? { reason: 'replicaFailure' in failure ? 'FailedCreate' : 'FailedDelete', message: failure.message }
        : undefined;
    const selector = selectorIn(current);
    const active = (): Pod[] =>
      [...this.#owned(current)].filter((pod) => isPodActive(pod) && matchesLabels(selector, pod.metadata.labels));
    const { status, requeueAfterMs } = planStatus({
      replicaSet: current,
      counts: this.#countsOf(current),
      active,
      failure: failed,
      nowMs: this.#context.clock.now(),
    });
    if (requeueAfterMs !== undefined) plan.requeueAfterMs = requeueAfterMs;
    await writeStatus(this.#context, this.#kind, current, status);
  }
}

export function startReplicaSetController(context: ControllerContext): Controller {
  const controller = new ReplicaSetController(context, kinds.ReplicaSet, 'replicaset');
  return { name: 'replicaset', queues: [controller.queue] };
}

export function startReplicationController(context: ControllerContext): Controller {
  const controller = new ReplicaSetController(context, kinds.ReplicationController, 'replication-controller');
  return { name: 'replicationcontroller', queues: [controller.queue] };
}
