/**
 * The StatefulSet controller: Pods with identities `name-0` … and claims of their own, made and removed in order (or in
 * parallel), updated from the highest ordinal down. Invariant: never two Pods of one identity; a Pod that still
 * terminates holds its name.
 * Spec: Kubernetes documentation, "StatefulSets" (guarantees, partitions, claim retention, start ordinal).
 */
import type { ControllerRevision, StatefulSet, StatefulSetStatus } from '#api/apps.v1.ts';
import type { PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { OwnerReference } from '#api/meta.v1.ts';
import { isReason } from '#base/errors.ts';
import { matchesLabels, selectorOf } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { resolveIntOrPercent } from './deployment-rolling.ts';
import { isEqual, isEqualStatus } from './equality.ts';
import { isPodReady, isPodTerminal, podFromTemplate, untilAvailableMs } from './pods.ts';
import {
  applyRevisions,
  planRevisions,
  revisionHashLabel,
  revisionsOf,
  templateOfRevision,
  truncateHistory,
} from './revisions.ts';
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
} from './runtime.ts';

export interface StatefulSetObserved {
  set: StatefulSet;
  pods: Pod[];
  currentRevision: ControllerRevision;
  updateRevision: ControllerRevision;
}
export interface StatefulSetPlan {
  create: { ordinal: number; revision: ControllerRevision }[];
  delete: { pod: Pod; reason: 'failed' | 'scale' | 'update' }[];
  status: StatefulSetStatus;
  requeueAfterMs?: number;
}

export function ordinalOf(set: StatefulSet, pod: Pod): number | undefined {
  const prefix = `${set.metadata.name}-`;
  const { name } = pod.metadata;
  const tail = name.startsWith(prefix) ? name.slice(prefix.length) : '';
  return /^(0|[1-9]\d{0,9})$/.test(tail) ? Number(tail) : undefined;
}

const hashOf = (revision: ControllerRevision): string => revision.metadata.name;
const revisionOf = (pod: Pod): string => pod.metadata.labels?.[revisionHashLabel] ?? '';

export function planStatefulSet(
  { set, pods, currentRevision, updateRevision }: StatefulSetObserved,
  nowMs: number,
): StatefulSetPlan {
  const { spec } = set;
  const start: number = spec.ordinals?.start ?? 0;
  const replicas: number = spec.replicas ?? 1;
  const parallel = spec.podManagementPolicy === 'Parallel';
  const rolling = spec.updateStrategy?.type !== 'OnDelete';
  const partition: number = rolling ? (spec.updateStrategy?.rollingUpdate?.partition ?? 0) : 0;
  const byOrdinal = new Map<number, Pod>();
  const condemned: Pod[] = [];
  for (const pod of pods) {
    const ordinal = ordinalOf(set, pod)!;
    if (ordinal >= start && ordinal < start + replicas) byOrdinal.set(ordinal, pod);
    else condemned.push(pod);
  }
  condemned.sort((a, b) => ordinalOf(set, b)! - ordinalOf(set, a)!);
  const plan: StatefulSetPlan = {
    create: [],
    delete: [],
    ...planStatus({ set, pods, currentRevision, updateRevision }, nowMs),
  };
  if (set.metadata.deletionTimestamp !== undefined) return plan;
  const minReady: number = spec.minReadySeconds ?? 0;
  const healthy = (pod: Pod): boolean =>
    pod.metadata.deletionTimestamp === undefined && untilAvailableMs(pod, minReady, nowMs) === 0;
  let settled = true;
  for (let ordinal = start; ordinal < start + replicas; ordinal++) {
    const pod = byOrdinal.get(ordinal);
    if (pod === undefined)
      plan.create.push({
        ordinal,
        revision: rolling && ordinal < start + partition ? currentRevision : updateRevision,
      });
    else if (pod.metadata.deletionTimestamp === undefined && isPodTerminal(pod))
      plan.delete.push({ pod, reason: 'failed' });
    else if (healthy(pod)) continue;
    settled = false;
    if (!parallel) return plan;
  }
  const firstUnhealthy = condemned.findLast((pod) => !healthy(pod));
  for (const pod of condemned) {
    // One that is not well holds the rest up, unless it is itself the one that all others wait for.
    if (!parallel && !healthy(pod) && pod !== firstUnhealthy) return plan;
    if (pod.metadata.deletionTimestamp === undefined) plan.delete.push({ pod, reason: 'scale' });
    settled = false;
    // One at a time, the highest first, each gone before the next.
    if (!parallel) return plan;
  }
  if (!settled && !parallel) return plan;
  if (rolling)
    planUpdates({ set, byOrdinal, updateRevision, first: start + partition, end: start + replicas, healthy }, plan);
  return plan;
}

interface OrdinalUpdate {
  set: StatefulSet;
  byOrdinal: ReadonlyMap<number, Pod>;
  updateRevision: ControllerRevision;
  first: number;
  end: number;
  healthy: (pod: Pod) => boolean;
}

function planUpdates(
  { set, byOrdinal, updateRevision, first, end, healthy }: OrdinalUpdate,
  plan: StatefulSetPlan,
): void {
  const rolling = set.spec.updateStrategy?.rollingUpdate;
  const most =
    rolling?.maxUnavailable === undefined
      ? 1
      : Math.max(1, resolveIntOrPercent(rolling.maxUnavailable, set.spec.replicas ?? 1, true));
  // One that is just being made again is as unavailable as one that is broken.
  let unavailable: number = set.spec.replicas ?? 1;
  for (const pod of byOrdinal.values()) if (healthy(pod)) unavailable--;
  for (let ordinal = end - 1; ordinal >= first && unavailable < most; ordinal--) {
    const pod = byOrdinal.get(ordinal);
    if (pod === undefined || pod.metadata.deletionTimestamp !== undefined || revisionOf(pod) === hashOf(updateRevision))
      continue;
    if (plan.delete.some((other) => other.pod === pod)) continue;
    plan.delete.push({ pod, reason: 'update' });
    if (healthy(pod)) unavailable++;
  }
  // With one at a time, a Pod of an old revision that is broken itself must be replaced, not waited for.
  if (most === 1 && unavailable === 1 && plan.delete.length === 0 && plan.create.length === 0) {
    for (let ordinal = end - 1; ordinal >= first; ordinal--) {
      const pod = byOrdinal.get(ordinal);
      if (pod === undefined || healthy(pod) || pod.metadata.deletionTimestamp !== undefined) continue;
      if (revisionOf(pod) !== hashOf(updateRevision)) plan.delete.push({ pod, reason: 'update' });
      return;
    }
  }
}

function planStatus(
  { set, pods, currentRevision, updateRevision }: StatefulSetObserved,
  nowMs: number,
): Pick<StatefulSetPlan, 'status' | 'requeueAfterMs'> {
  const { spec } = set;
  let [ready, available, current, updated] = [0, 0, 0, 0];
  let requeueAfterMs: number | undefined;
  const [currentHash, updateHash] = [hashOf(currentRevision), hashOf(updateRevision)];
  for (const pod of pods) {
    const waitMs = untilAvailableMs(pod, spec.minReadySeconds ?? 0, nowMs);
    if (isPodReady(pod) && pod.status?.phase === 'Running') ready++;
    if (waitMs === 0) available++;
    else if (waitMs !== undefined) requeueAfterMs = Math.min(requeueAfterMs ?? Infinity, waitMs);
    if (pod.metadata.deletionTimestamp !== undefined) continue;
    if (revisionOf(pod) === currentHash) current++;
    if (revisionOf(pod) === updateHash) updated++;
  }
  const replicas: number = spec.replicas ?? 1;
  const done = updated === replicas && ready === replicas && pods.length === replicas;
  return {
    status: {
      observedGeneration: set.metadata.generation ?? 0,
      replicas: pods.length,
      readyReplicas: ready,
      availableReplicas: available,
      currentReplicas: done ? updated : current,
      updatedReplicas: updated,
      currentRevision: done ? updateHash : currentHash,
      updateRevision: updateHash,
      collisionCount: set.status?.collisionCount ?? 0,
      ...(set.status?.conditions === undefined ? {} : { conditions: set.status.conditions }),
    },
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

function claimsOf(set: StatefulSet, ordinal: number): Manifest<PersistentVolumeClaim>[] {
  const selectorLabels: Record<string, string> = set.spec.selector?.matchLabels ?? {};
  return (set.spec.volumeClaimTemplates ?? []).map((template) => ({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: {
      name: `${template.metadata?.name}-${set.metadata.name}-${ordinal}`,
      namespace: set.metadata.namespace,
      labels: { ...template.metadata?.labels, ...selectorLabels },
      ...(template.metadata?.annotations === undefined ? {} : { annotations: template.metadata.annotations }),
    },
    ...(template.spec === undefined ? {} : { spec: template.spec }),
  }));
}

function statefulPod(set: StatefulSet, ordinal: number, revision: ControllerRevision): Manifest<Pod> {
  const name = `${set.metadata.name}-${ordinal}`;
  const template = templateOfRevision(revision);
  if (template === undefined) throw new Error(`ControllerRevision ${revision.metadata.name} holds no template`);
  const pod = podFromTemplate(template, set.metadata.namespace, ownedBy(set), { name });
  pod.metadata.labels = {
    ...pod.metadata.labels,
    [revisionHashLabel]: hashOf(revision),
    'statefulset.kubernetes.io/pod-name': name,
    'apps.kubernetes.io/pod-index': String(ordinal),
  };
  const claims = (set.spec.volumeClaimTemplates ?? []).map(({ metadata }) => ({
    name: metadata?.name ?? '',
    persistentVolumeClaim: { claimName: `${metadata?.name}-${name}` },
  }));
  const volumes = (pod.spec.volumes ?? []).filter((volume) => !claims.some((claim) => claim.name === volume.name));
  pod.spec = {
    ...pod.spec,
    hostname: name,
    subdomain: set.spec.serviceName ?? '',
    volumes: [...claims, ...volumes],
  };
  return pod;
}

/** Who owns a claim under the retention policy: the set (deleted with it), the Pod (scaled away), or nobody. */
function claimOwners(set: StatefulSet, pod: Pod | undefined, ordinal: number): 'none' | 'set' | 'pod' {
  const policy = set.spec.persistentVolumeClaimRetentionPolicy ?? {};
  const start: number = set.spec.ordinals?.start ?? 0;
  const scaledAway = ordinal < start || ordinal >= start + (set.spec.replicas ?? 1);
  if (policy.whenScaled === 'Delete' && scaledAway && pod !== undefined) return 'pod';
  return policy.whenDeleted === 'Delete' ? 'set' : 'none';
}

class StatefulSetController {
  readonly #context: ControllerContext;
  readonly #sets: Informer<StatefulSet>;
  readonly #pods: Informer<Pod>;
  readonly #claims: Informer<PersistentVolumeClaim>;
  readonly #revisions: Informer<ControllerRevision>;
  readonly #recorder: EventRecorder;
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#recorder = recorderOf(context, 'statefulset-controller');
    this.#sets = context.informers.informer(kinds.StatefulSet).addIndex('namespace', indexes.namespace);
    this.#pods = context.informers
      .informer(kinds.Pod)
      .addIndex('controller', indexes.controller)
      .addIndex('orphans', indexes.orphans);
    this.#claims = context.informers.informer(kinds.PersistentVolumeClaim);
    this.#revisions = context.informers.informer(kinds.ControllerRevision).addIndex('controller', indexes.controller);
    this.queue = createQueue(context, 'statefulset', (key) => this.#reconcile(key));
    enqueueEach(this.#sets, this.queue);
    enqueueController(this.#pods, 'StatefulSet', this.queue);
    this.#pods.addHandler({ added: (pod) => this.#enqueueMatching(pod), updated: (pod) => this.#enqueueMatching(pod) });
  }

  #enqueueMatching(pod: Pod): void {
    if (indexes.controller(pod) !== undefined || pod.metadata.labels === undefined) return;
    for (const set of this.#sets.by('namespace', pod.metadata.namespace)) {
      if (ordinalOf(set, pod) !== undefined && matchesLabels(selectorOf(set.spec.selector) ?? [], pod.metadata.labels))
        this.queue.add(`${set.metadata.namespace}/${set.metadata.name}`);
    }
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const set = this.#sets.get(key);
    if (set === undefined) return undefined;
    await this.#claim(set);
    const pods = [...this.#pods.by('controller', set.metadata.uid)].filter((pod) => ordinalOf(set, pod) !== undefined);
    const revisions = revisionsOf(this.#revisions, set);
    const updateRevision = await applyRevisions(
      this.#context,
      planRevisions(set, revisions, set.status?.collisionCount ?? 0),
    );
    if (updateRevision === undefined) {
      await this.#context.client.update(
        kinds.StatefulSet,
        { ...set, status: { replicas: 0, ...set.status, collisionCount: (set.status?.collisionCount ?? 0) + 1 } },
        { subresource: 'status' },
      );
      return undefined;
    }
    const currentRevision =
      revisions.find((revision) => revision.metadata.name === set.status?.currentRevision) ?? updateRevision;
    const plan = planStatefulSet({ set, pods, currentRevision, updateRevision }, this.#context.clock.now());
    let failure: unknown;
    try {
      await this.#apply(set, plan);
      await this.#retainClaims(set, pods);
    } catch (error) {
      failure = error;
    }
    const status = this.#statusNow(key, currentRevision, updateRevision);
    const current = this.#sets.get(key);
    if (current !== undefined && status !== undefined && !isEqualStatus(current.status, status))
      await this.#context.client.update(kinds.StatefulSet, { ...current, status }, { subresource: 'status' });
    if (failure !== undefined) throw failure;
    const live = new Set([updateRevision.metadata.name, currentRevision.metadata.name, ...pods.map(revisionOf)]);
    await truncateHistory(this.#context, revisions, live, set.spec.revisionHistoryLimit ?? 10);
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs };
  }

  #statusNow(
    key: string,
    currentRevision: ControllerRevision,
    updateRevision: ControllerRevision,
  ): StatefulSetStatus | undefined {
    const set = this.#sets.get(key);
    if (set === undefined) return undefined;
    const pods = [...this.#pods.by('controller', set.metadata.uid)].filter((pod) => ordinalOf(set, pod) !== undefined);
    return planStatus({ set, pods, currentRevision, updateRevision }, this.#context.clock.now()).status;
  }

  async #claim(set: StatefulSet): Promise<void> {
    const selector = selectorOf(set.spec.selector) ?? [];
    if (set.metadata.deletionTimestamp !== undefined) return;
    const orphans = [...this.#pods.by('orphans', set.metadata.namespace)].filter(
      (pod) =>
        pod.metadata.deletionTimestamp === undefined &&
        ordinalOf(set, pod) !== undefined &&
        matchesLabels(selector, pod.metadata.labels),
    );
    await forEachBounded(orphans, (pod) => adopt(this.#context, kinds.Pod, set, pod));
    const strangers = [...this.#pods.by('controller', set.metadata.uid)].filter(
      (pod) => !matchesLabels(selector, pod.metadata.labels),
    );
    await forEachBounded(strangers, (pod) => release(this.#context, kinds.Pod, set, pod));
  }

  async #apply(set: StatefulSet, plan: StatefulSetPlan): Promise<void> {
    await forEachBounded(plan.delete, async ({ pod }) => {
      await deleteIfPresent(this.#context, kinds.Pod, pod);
      this.#recorder.event(
        set,
        'Normal',
        'SuccessfulDelete',
        `delete Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} successful`,
      );
    });
    await forEachBounded(plan.create, async ({ ordinal, revision }) => {
      await this.#createClaims(set, ordinal);
      const pod = statefulPod(set, ordinal, revision);
      try {
        await this.#context.client.create(kinds.Pod, pod);
        this.#recorder.event(
          set,
          'Normal',
          'SuccessfulCreate',
          `create Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} successful`,
        );
      } catch (error) {
        const message = messageOf(error);
        if (!isReason(error, 'AlreadyExists'))
          this.#recorder.event(
            set,
            'Warning',
            'FailedCreate',
            `create Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} failed error: ${message}`,
          );
        throw error;
      }
    });
  }

  async #createClaims(set: StatefulSet, ordinal: number): Promise<void> {
    for (const claim of claimsOf(set, ordinal)) {
      const held = this.#claims.get(`${claim.metadata.namespace}/${claim.metadata.name}`);
      if (held?.metadata.deletionTimestamp !== undefined)
        throw new Error(`claim ${claim.metadata.name} is being deleted`);
      if (held !== undefined) continue;
      try {
        await this.#context.client.create(kinds.PersistentVolumeClaim, claim);
        this.#recorder.event(
          set,
          'Normal',
          'SuccessfulCreate',
          `create Claim ${claim.metadata.name} Pod ${set.metadata.name}-${ordinal} in StatefulSet ${set.metadata.name} success`,
        );
      } catch (error) {
        if (!isReason(error, 'AlreadyExists')) throw error;
      }
    }
  }

  /** Keeps the owners of claims as the retention policy says; the garbage collector does the rest. */
  async #retainClaims(set: StatefulSet, pods: readonly Pod[]): Promise<void> {
    if ((set.spec.volumeClaimTemplates ?? []).length === 0) return;
    for (const pod of pods) {
      const ordinal = ordinalOf(set, pod)!;
      const wanted = claimOwners(set, pod, ordinal);
      for (const { metadata } of claimsOf(set, ordinal)) {
        const claim = this.#claims.get(`${metadata.namespace}/${metadata.name}`);
        if (claim === undefined || claim.metadata.deletionTimestamp !== undefined) continue;
        const others = (claim.metadata.ownerReferences ?? []).filter(
          ({ uid, kind }) => uid !== set.metadata.uid && kind !== 'Pod',
        );
        const reference = (owner: StatefulSet | Pod): OwnerReference => ({
          apiVersion: owner.apiVersion,
          kind: owner.kind,
          name: owner.metadata.name,
          uid: owner.metadata.uid,
        });
        const ownerReferences = wanted === 'none' ? others : [...others, reference(wanted === 'set' ? set : pod)];
        if (isEqual(ownerReferences, claim.metadata.ownerReferences)) continue;
        await this.#context.client.patch(kinds.PersistentVolumeClaim, claim.metadata, {
          merge: {
            metadata: { uid: claim.metadata.uid, resourceVersion: claim.metadata.resourceVersion, ownerReferences },
          },
        });
      }
    }
  }
}

export function startStatefulSetController(context: ControllerContext): Controller {
  const controller = new StatefulSetController(context);
  return { name: 'statefulset', queues: [controller.queue] };
}
