/**
 * The Deployment controller: one ReplicaSet per Pod template, and a rollout between them.
 * `planDeployment` says the next step only (make the new ReplicaSet, change sizes, clean up); each write is observed
 * again and brings the next step. Revisions live in annotations, as `kubectl rollout history` and `undo` read them.
 * Spec: Kubernetes documentation, "Deployments".
 */
import type { Deployment, ReplicaSet } from '#api/apps.v1.ts';
import type { Pod, PodTemplateSpec } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { matchesLabels, selectorOf } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import {
  newReplicaSetSize,
  planProportional,
  planRolling,
  rollingBounds,
  type ScaleStep,
} from './deployment-rolling.ts';
import { planDeploymentStatus, type StatusInput } from './deployment-status.ts';
import { canonicalJson, isEqual, isEqualStatus, safeHash } from './equality.ts';
import { revisionHistoryCharsMax } from './limits.ts';
import { byAge, isPodTerminal } from './pods.ts';
import {
  adopt,
  type Controller,
  type ControllerContext,
  controllerOf,
  createQueue,
  deleteIfPresent,
  enqueueController,
  enqueueEach,
  forEachBounded,
  ownedBy,
  recorderOf,
  release,
} from './runtime.ts';

const revisionAnnotation = 'deployment.kubernetes.io/revision';
const revisionHistoryAnnotation = 'deployment.kubernetes.io/revision-history';
const desiredAnnotation = 'deployment.kubernetes.io/desired-replicas';
const maxAnnotation = 'deployment.kubernetes.io/max-replicas';
const hashLabel = 'pod-template-hash';
const ownAnnotations = new Set([
  revisionAnnotation,
  revisionHistoryAnnotation,
  desiredAnnotation,
  maxAnnotation,
  'kubectl.kubernetes.io/last-applied-configuration',
  'deprecated.deployment.rollback.to',
]);

export interface DeploymentObserved {
  deployment: Deployment;
  /** ReplicaSets that this Deployment controls. */
  replicaSets: ReplicaSet[];
  /** Pods of old ReplicaSets that are not finished: Recreate waits for them. */
  oldPodsRunning: boolean;
}

export interface DeploymentPlan {
  create?: Manifest<ReplicaSet>;
  /** Annotations (and minReadySeconds) of existing ReplicaSets that must change. */
  annotate: { replicaSet: ReplicaSet; annotations: Record<string, string>; minReadySeconds: number }[];
  scale: ScaleStep[];
  delete: ReplicaSet[];
  /** The Deployment's own revision annotation. */
  revision?: string;
  newest: ReplicaSet | undefined;
}

/** The template without the label that the controller itself adds. */
function templateOf(replicaSet: Pick<ReplicaSet, 'spec'>): PodTemplateSpec | undefined {
  const { template } = replicaSet.spec;
  if (template === undefined) return undefined;
  const { [hashLabel]: _hash, ...labels } = template.metadata?.labels ?? {};
  return { ...template, metadata: { ...template.metadata, labels } };
}

function findNewest(deployment: Deployment, replicaSets: readonly ReplicaSet[]): ReplicaSet | undefined {
  return replicaSets.toSorted(byAge).find((replicaSet) => isEqual(templateOf(replicaSet), deployment.spec.template));
}

/** A 64-bit integer, which users may set; what is none counts as 0. */
function revisionOf({ metadata }: KubeObject): bigint {
  const text = metadata.annotations?.[revisionAnnotation] ?? '';
  if (!/^[+-]?\d{1,19}$/.test(text)) return 0n;
  const revision = BigInt(text.replace(/^\+/, ''));
  return BigInt.asIntN(64, revision) === revision ? revision : 0n;
}

/** The revisions that a ReplicaSet had before, one more among them: the oldest go where the text would be too long. */
function addHistory(history: string | undefined, revision: string): string {
  const revisions = [...(history ?? '').split(',').filter((text) => text !== ''), revision];
  while (revisions.join(',').length > revisionHistoryCharsMax && revisions.length > 1) revisions.shift();
  return revisions.join(',');
}

function annotationsFor(
  deployment: Deployment,
  revision: string,
  held: Record<string, string> = {},
): Record<string, string> {
  const kept = Object.fromEntries(Object.entries(held).filter(([key]) => key === revisionHistoryAnnotation));
  const copied = Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([key]) => !ownAnnotations.has(key)),
  );
  const replicas: number = deployment.spec.replicas ?? 1;
  const before = held[revisionAnnotation];
  if (before !== undefined && before !== revision)
    kept[revisionHistoryAnnotation] = addHistory(kept[revisionHistoryAnnotation], before);
  return {
    ...copied,
    ...kept,
    [revisionAnnotation]: revision,
    [desiredAnnotation]: String(replicas),
    [maxAnnotation]: String(replicas + rollingBounds(deployment).maxSurge),
  };
}

function newReplicaSet(deployment: Deployment, all: readonly ReplicaSet[], revision: string): Manifest<ReplicaSet> {
  const { spec, metadata } = deployment;
  const collisions: number | undefined = deployment.status?.collisionCount;
  const hash = safeHash(canonicalJson(spec.template) + (collisions === undefined ? '' : String(collisions)));
  const labels = { ...spec.template.metadata?.labels, [hashLabel]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${metadata.name}-${hash}`,
      namespace: metadata.namespace,
      labels,
      annotations: annotationsFor(deployment, revision),
      ownerReferences: [ownedBy(deployment)],
    },
    spec: {
      replicas: newReplicaSetSize(deployment, undefined, all),
      minReadySeconds: spec.minReadySeconds ?? 0,
      selector: { ...spec.selector, matchLabels: { ...spec.selector?.matchLabels, [hashLabel]: hash } },
      template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
    },
  };
}

export function planDeployment({ deployment, replicaSets, oldPodsRunning }: DeploymentObserved): DeploymentPlan {
  const { spec } = deployment;
  const newest = findNewest(deployment, replicaSets);
  const old = replicaSets.filter((replicaSet) => replicaSet !== newest);
  const plan: DeploymentPlan = { annotate: [], scale: [], delete: [], newest };
  if (deployment.metadata.deletionTimestamp !== undefined) return plan;
  const latest = old.map(revisionOf).reduce((a, b) => (a > b ? a : b), 0n);
  const revision = String(latest + 1n);
  const newestRevision = newest !== undefined && revisionOf(newest) > latest ? String(revisionOf(newest)) : revision;
  const desiredBefore = (replicaSet: ReplicaSet): number | undefined => {
    const text = replicaSet.metadata.annotations?.[desiredAnnotation];
    return text === undefined ? undefined : Number(text);
  };
  const maxBefore = (replicaSet: ReplicaSet): number | undefined => {
    const text = replicaSet.metadata.annotations?.[maxAnnotation];
    return text === undefined ? undefined : Number(text);
  };
  const scaling = replicaSets.some(
    (replicaSet) =>
      (replicaSet.spec.replicas ?? 1) > 0 &&
      desiredBefore(replicaSet) !== undefined &&
      desiredBefore(replicaSet) !== (spec.replicas ?? 1),
  );
  if (newest !== undefined) {
    plan.revision = newestRevision;
    const annotations = annotationsFor(deployment, newestRevision, newest.metadata.annotations);
    if (
      !isEqual(annotations, newest.metadata.annotations) ||
      (newest.spec.minReadySeconds ?? 0) !== (spec.minReadySeconds ?? 0)
    ) {
      plan.annotate.push({ replicaSet: newest, annotations, minReadySeconds: spec.minReadySeconds ?? 0 });
    }
  }
  if (spec.paused === true || scaling) {
    plan.scale = planProportional(deployment, replicaSets, newest, maxBefore);
    for (const replicaSet of old) {
      if (desiredBefore(replicaSet) === undefined || desiredBefore(replicaSet) === (spec.replicas ?? 1)) continue;
      const annotations = {
        ...replicaSet.metadata.annotations,
        [desiredAnnotation]: String(spec.replicas ?? 1),
        [maxAnnotation]: String((spec.replicas ?? 1) + rollingBounds(deployment).maxSurge),
      };
      plan.annotate.push({ replicaSet, annotations, minReadySeconds: replicaSet.spec.minReadySeconds ?? 0 });
    }
  } else if (spec.strategy?.type === 'Recreate') {
    planRecreate({ deployment, newest, old, oldPodsRunning, revision }, plan);
  } else if (newest === undefined) {
    plan.create = newReplicaSet(deployment, replicaSets, revision);
    plan.revision = revision;
  } else {
    plan.scale = planRolling(deployment, newest, old);
  }
  plan.delete = planCleanup(deployment, old, newest, plan);
  return plan;
}

interface Recreation {
  deployment: Deployment;
  newest: ReplicaSet | undefined;
  old: readonly ReplicaSet[];
  oldPodsRunning: boolean;
  revision: string;
}

function planRecreate({ deployment, newest, old, oldPodsRunning, revision }: Recreation, plan: DeploymentPlan): void {
  const active = old.filter((replicaSet) => (replicaSet.spec.replicas ?? 1) > 0);
  if (active.length > 0) plan.scale = active.map((replicaSet) => ({ replicaSet, replicas: 0 }));
  else if (oldPodsRunning) return;
  else if (newest === undefined) {
    plan.create = newReplicaSet(deployment, old, revision);
    plan.revision = revision;
  } else if ((newest.spec.replicas ?? 1) !== (deployment.spec.replicas ?? 1)) {
    plan.scale = [{ replicaSet: newest, replicas: deployment.spec.replicas ?? 1 }];
  }
}

/** Old ReplicaSets beyond the history limit, when the rollout has nothing else to do. */
function planCleanup(
  deployment: Deployment,
  old: readonly ReplicaSet[],
  newest: ReplicaSet | undefined,
  plan: DeploymentPlan,
): ReplicaSet[] {
  const limit: number = deployment.spec.revisionHistoryLimit ?? 10;
  if (newest === undefined || plan.scale.length > 0 || plan.create !== undefined) return [];
  const complete = (newest.status?.availableReplicas ?? 0) >= (deployment.spec.replicas ?? 1);
  if (!complete) return [];
  const spare = old.filter(
    ({ metadata, spec, status }) =>
      metadata.deletionTimestamp === undefined &&
      (spec.replicas ?? 1) === 0 &&
      (status?.replicas ?? 0) === 0 &&
      (status?.observedGeneration ?? 0) >= (metadata.generation ?? 0),
  );
  if (old.length <= limit) return [];
  return spare
    .toSorted((a, b) => Number(revisionOf(a) - revisionOf(b)) || byAge(a, b))
    .slice(0, Math.max(0, old.length - limit));
}

class DeploymentController {
  readonly #context: ControllerContext;
  readonly #deployments: Informer<Deployment>;
  readonly #replicaSets: Informer<ReplicaSet>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#recorder = recorderOf(context, 'deployment-controller');
    this.#deployments = context.informers.informer(kinds.Deployment).addIndex('namespace', indexes.namespace);
    this.#replicaSets = context.informers
      .informer(kinds.ReplicaSet)
      .addIndex('controller', indexes.controller)
      .addIndex('orphans', indexes.orphans);
    this.#pods = context.informers.informer(kinds.Pod).addIndex('controller', indexes.controller);
    this.queue = createQueue(context, 'deployment', (key) => this.#reconcile(key));
    enqueueEach(this.#deployments, this.queue);
    enqueueController(this.#replicaSets, 'Deployment', this.queue);
    this.#replicaSets.addHandler({ added: (o) => this.#enqueueMatching(o), updated: (o) => this.#enqueueMatching(o) });
    // Recreate waits for the last old Pod.
    this.#pods.addHandler({
      deleted: (pod) => this.#onPodGone(pod),
      updated: (pod) => {
        if (isPodTerminal(pod)) this.#onPodGone(pod);
      },
    });
  }

  #enqueueMatching(replicaSet: ReplicaSet): void {
    if (controllerOf(replicaSet) !== undefined) return;
    for (const deployment of this.#deployments.by('namespace', replicaSet.metadata.namespace)) {
      if (matchesLabels(selectorOf(deployment.spec.selector) ?? [], replicaSet.metadata.labels))
        this.queue.add(`${deployment.metadata.namespace}/${deployment.metadata.name}`);
    }
  }

  #onPodGone(pod: Pod): void {
    const owner = controllerOf(pod);
    if (owner?.kind !== 'ReplicaSet') return;
    const replicaSet = this.#replicaSets.get(`${pod.metadata.namespace}/${owner.name}`);
    const deployment = replicaSet === undefined ? undefined : controllerOf(replicaSet);
    if (deployment === undefined) return;
    const key = `${pod.metadata.namespace}/${deployment.name}`;
    if (this.#deployments.get(key)?.spec.strategy?.type === 'Recreate') this.queue.add(key);
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const deployment = this.#deployments.get(key);
    if (deployment === undefined) return undefined;
    await this.#claim(deployment);
    const replicaSets = [...this.#replicaSets.by('controller', deployment.metadata.uid)];
    const newest = findNewest(deployment, replicaSets);
    const oldPodsRunning =
      deployment.spec.strategy?.type === 'Recreate' &&
      replicaSets.some(
        (replicaSet) =>
          replicaSet !== newest &&
          [...this.#pods.by('controller', replicaSet.metadata.uid)].some((pod) => !isPodTerminal(pod)),
      );
    const plan = planDeployment({ deployment, replicaSets, oldPodsRunning });
    const outcome: Pick<StatusInput, 'created' | 'found' | 'failure' | 'collisionCount'> = {};
    if (plan.newest !== undefined) outcome.found = plan.newest.metadata.name!;
    let failure: unknown;
    try {
      await this.#apply(deployment, plan, outcome);
    } catch (error) {
      failure = error;
    }
    const requeueAfterMs = await this.#writeStatus(key, outcome);
    if (failure !== undefined) throw failure;
    return requeueAfterMs === undefined ? undefined : { requeueAfterMs };
  }

  async #claim(deployment: Deployment): Promise<void> {
    if (deployment.metadata.deletionTimestamp !== undefined) return;
    const selector = selectorOf(deployment.spec.selector) ?? [];
    const orphans = [...this.#replicaSets.by('orphans', deployment.metadata.namespace)].filter(
      (o) => o.metadata.deletionTimestamp === undefined && matchesLabels(selector, o.metadata.labels),
    );
    await forEachBounded(orphans, (replicaSet) => adopt(this.#context, kinds.ReplicaSet, deployment, replicaSet));
    const strangers = [...this.#replicaSets.by('controller', deployment.metadata.uid)].filter(
      (o) => !matchesLabels(selector, o.metadata.labels),
    );
    await forEachBounded(strangers, (replicaSet) => release(this.#context, kinds.ReplicaSet, deployment, replicaSet));
  }

  async #apply(
    deployment: Deployment,
    plan: DeploymentPlan,
    outcome: Pick<StatusInput, 'created' | 'failure' | 'collisionCount'>,
  ): Promise<void> {
    const { client } = this.#context;
    if (plan.revision !== undefined && deployment.metadata.annotations?.[revisionAnnotation] !== plan.revision) {
      await client.patch(kinds.Deployment, deployment.metadata, {
        merge: { metadata: { annotations: { [revisionAnnotation]: plan.revision } } },
      });
    }
    if (plan.create !== undefined) await this.#create(deployment, plan.create, outcome);
    await this.#patchReplicaSets(deployment, plan);
    await forEachBounded(plan.delete, (replicaSet) => deleteIfPresent(this.#context, kinds.ReplicaSet, replicaSet));
  }

  /**
   * Size and annotations of one ReplicaSet change in one write: a death in between must not forget that a scaling was
   * under way. It holds for the version that was planned with: a request that a network delivers late, or again, must
   * not undo a later one.
   */
  async #patchReplicaSets(deployment: Deployment, plan: DeploymentPlan): Promise<void> {
    const { client } = this.#context;
    for (const replicaSet of new Set([
      ...plan.scale.map((step) => step.replicaSet),
      ...plan.annotate.map((step) => step.replicaSet),
    ])) {
      const replicas = plan.scale.find((step) => step.replicaSet === replicaSet)?.replicas;
      const annotate = plan.annotate.find((step) => step.replicaSet === replicaSet);
      const removed =
        annotate === undefined
          ? {}
          : Object.fromEntries(
              Object.keys(replicaSet.metadata.annotations ?? {})
                .filter((key) => !(key in annotate.annotations))
                .map((key) => [key, null]),
            );
      await client.patch(kinds.ReplicaSet, replicaSet.metadata, {
        merge: {
          metadata: {
            uid: replicaSet.metadata.uid,
            resourceVersion: replicaSet.metadata.resourceVersion,
            ...(annotate === undefined ? {} : { annotations: { ...removed, ...annotate.annotations } }),
          },
          spec: {
            ...(replicas === undefined ? {} : { replicas }),
            ...(annotate === undefined ? {} : { minReadySeconds: annotate.minReadySeconds }),
          },
        },
      });
      const before: number = replicaSet.spec.replicas ?? 1;
      if (replicas !== undefined)
        this.#recorder.event(
          deployment,
          'Normal',
          'ScalingReplicaSet',
          `Scaled ${replicas > before ? 'up' : 'down'} replica set ${replicaSet.metadata.name} from ${before} to ${replicas}`,
        );
    }
  }

  async #create(
    deployment: Deployment,
    replicaSet: Manifest<ReplicaSet>,
    outcome: Pick<StatusInput, 'created' | 'failure' | 'collisionCount'>,
  ): Promise<void> {
    const { client } = this.#context;
    try {
      const created = await client.create(kinds.ReplicaSet, replicaSet);
      outcome.created = created.metadata.name!;
      if ((replicaSet.spec.replicas ?? 0) > 0)
        this.#recorder.event(
          deployment,
          'Normal',
          'ScalingReplicaSet',
          `Scaled up replica set ${created.metadata.name} from 0 to ${replicaSet.spec.replicas}`,
        );
    } catch (error) {
      if (isReason(error, 'AlreadyExists')) {
        const held = await client.get(kinds.ReplicaSet, replicaSet.metadata.name!, replicaSet.metadata.namespace);
        const same =
          controllerOf(held)?.uid === deployment.metadata.uid && isEqual(templateOf(held), deployment.spec.template);
        // Ours from before a restart: the watch will show it. Another's: a new name is needed.
        if (!same) outcome.collisionCount = (deployment.status?.collisionCount ?? 0) + 1;
        return;
      }
      const message = messageOf(error);
      if (!(isReason(error, 'Forbidden') && message.includes('being terminated'))) {
        outcome.failure = {
          reason: 'ReplicaSetCreateError',
          message: `Failed to create new replica set "${replicaSet.metadata.name}": ${message}`,
        };
        this.#recorder.event(deployment, 'Warning', 'ReplicaSetCreateError', outcome.failure.message);
      }
      throw error;
    }
  }

  async #writeStatus(
    key: string,
    outcome: Pick<StatusInput, 'created' | 'found' | 'failure' | 'collisionCount'>,
  ): Promise<number | undefined> {
    const current = this.#deployments.get(key);
    if (current === undefined) return undefined;
    const all = [...this.#replicaSets.by('controller', current.metadata.uid)];
    const failing = all
      .flatMap((replicaSet) => replicaSet.status?.conditions ?? [])
      .find(({ type, status }) => type === 'ReplicaFailure' && status === 'True');
    if (outcome.failure === undefined && failing !== undefined)
      outcome.failure = { reason: failing.reason ?? '', message: failing.message ?? '' };
    const { status, requeueAfterMs } = planDeploymentStatus(
      { deployment: current, all, newest: findNewest(current, all), ...outcome },
      this.#context.clock.now(),
    );
    if (!isEqualStatus(current.status, status))
      await this.#context.client.update(kinds.Deployment, { ...current, status }, { subresource: 'status' });
    return requeueAfterMs;
  }
}

// walk kubectl-apply 6/8: the controller hears of it by its informer and makes a ReplicaSet, which makes Pods.
export function startDeploymentController(context: ControllerContext): Controller {
  const controller = new DeploymentController(context);
  return { name: 'deployment', queues: [controller.queue] };
}
