/**
 * The DaemonSet controller: one Pod on each node that its template may run on, placed by the scheduler through node
 * affinity; updates by replacing a bounded number at a time. Spec: Kubernetes documentation, "DaemonSet" (taints and
 * tolerations, update strategy).
 */
import type { ControllerRevision, DaemonSet, DaemonSetStatus } from '#api/apps.v1.ts';
import type { Node, NodeSelectorTerm, Pod, Taint, Toleration } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { matchesLabels, matchesRequirement, requirementsOf, selectorOf } from '#base/selectors.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { resolveIntOrPercent } from './deployment-rolling.ts';
import { isEqual, isEqualStatus } from './equality.ts';
import { failureBackoffMs, failureBackoffMsMax, failuresRememberedMax } from './limits.ts';
import { byAge, isPodReady, isPodTerminal, podFromTemplate, untilAvailableMs } from './pods.ts';
import { applyRevisions, planRevisions, revisionHashLabel, revisionsOf, truncateHistory } from './revisions.ts';
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
} from './runtime.ts';

export interface DaemonSetObserved {
  set: DaemonSet;
  nodes: Node[];
  pods: Pod[];
  /** `controller-revision-hash` of the present template. */ hash: string;
  /** How long the failed Pod of a node is left there yet; 0 when absent. */ failedWaitMs?: (node: string) => number;
}
export interface DaemonSetPlan {
  create: string[];
  delete: { pod: Pod; reason: 'failed' | 'excess' | 'update' }[];
  status: DaemonSetStatus;
  requeueAfterMs?: number;
}

/** Tolerations that every daemon Pod gets: it belongs to a node in any state. */
const daemonTolerations = [
  { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/disk-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/memory-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/pid-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/unschedulable', operator: 'Exists', effect: 'NoSchedule' },
];
const hostNetworkToleration = {
  key: 'node.kubernetes.io/network-unavailable',
  operator: 'Exists',
  effect: 'NoSchedule',
};

function toleratesTaint(tolerations: readonly Toleration[], taint: Taint): boolean {
  return tolerations.some(
    (toleration) =>
      (toleration.effect === undefined || toleration.effect === '' || toleration.effect === taint.effect) &&
      (toleration.key === undefined || toleration.key === ''
        ? toleration.operator === 'Exists'
        : toleration.key === taint.key &&
          (toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? ''))),
  );
}

function termMatches(term: NodeSelectorTerm, node: Node): boolean {
  const expressions = requirementsOf(term.matchExpressions);
  const fields = requirementsOf(term.matchFields);
  if (expressions.length + fields.length === 0) return false;
  return (
    matchesLabels(expressions, node.metadata.labels) &&
    fields.every(
      (field) => field.key === 'metadata.name' && matchesRequirement(field, { 'metadata.name': node.metadata.name }),
    )
  );
}

/** Whether a daemon Pod belongs on a node, and whether one that is there may go on running. */
export function nodeSuits(set: DaemonSet, node: Node): { run: boolean; stay: boolean } {
  const { spec } = set.spec.template;
  const labels = node.metadata.labels ?? {};
  if (spec.nodeName !== undefined && spec.nodeName !== '' && spec.nodeName !== node.metadata.name)
    return { run: false, stay: false };
  for (const [key, value] of Object.entries(spec.nodeSelector ?? {}))
    if (labels[key] !== value) return { run: false, stay: false };
  const terms = spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (terms !== undefined && !terms.some((term) => termMatches(term, node))) return { run: false, stay: false };
  const tolerations = [
    ...(spec.tolerations ?? []),
    ...daemonTolerations,
    ...(spec.hostNetwork === true ? [hostNetworkToleration] : []),
  ];
  const taints = node.spec?.taints ?? [];
  const untolerated = taints.filter(
    (taint) => taint.effect !== 'PreferNoSchedule' && !toleratesTaint(tolerations, taint),
  );
  return { run: untolerated.length === 0, stay: !untolerated.some(({ effect }) => effect === 'NoExecute') };
}

/** The node that a daemon Pod is on, or is meant for. */
export function nodeOf(pod: Pod): string | undefined {
  const placed: string | undefined = pod.spec.nodeName;
  if (placed !== undefined && placed !== '') return placed;
  const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  for (const term of terms ?? [])
    for (const field of term.matchFields ?? []) if (field.key === 'metadata.name') return field.values?.[0];
  return undefined;
}

const noCounts = { currentNumberScheduled: 0, desiredNumberScheduled: 0, numberMisscheduled: 0, numberReady: 0 };

interface Placement {
  node: Node;
  run: boolean;
  stay: boolean;
  pods: Pod[];
}

export function planDaemonSet(observed: DaemonSetObserved, nowMs: number): DaemonSetPlan {
  const { set, nodes, pods, hash } = observed;
  const byNode = new Map<string, Pod[]>();
  for (const pod of pods) {
    const node = nodeOf(pod);
    if (node === undefined) continue;
    const list = byNode.get(node);
    if (list === undefined) byNode.set(node, [pod]);
    else list.push(pod);
  }
  const placements: Placement[] = nodes.map((node) => ({
    node,
    ...nodeSuits(set, node),
    pods: (byNode.get(node.metadata.name) ?? []).sort(byAge),
  }));
  const plan: DaemonSetPlan = { create: [], delete: [], ...planStatus(set, placements, hash, nowMs) };
  if (set.metadata.deletionTimestamp !== undefined) return plan;
  const deleting = new Set<Pod>();
  const remove = (pod: Pod, reason: 'failed' | 'excess' | 'update'): void => {
    if (deleting.has(pod) || pod.metadata.deletionTimestamp !== undefined) return;
    deleting.add(pod);
    plan.delete.push({ pod, reason });
  };
  for (const { node, run, stay, pods: here } of placements) {
    const live = here.filter((pod) => pod.metadata.deletionTimestamp === undefined);
    const waitMs = live.some(isPodTerminal) ? (observed.failedWaitMs?.(node.metadata.name) ?? 0) : 0;
    if (waitMs > 0) plan.requeueAfterMs = Math.min(plan.requeueAfterMs ?? Infinity, waitMs);
    else for (const pod of live) if (isPodTerminal(pod)) remove(pod, 'failed');
    const running = live.filter((pod) => !isPodTerminal(pod));
    if (!run && !stay) for (const pod of running) remove(pod, 'excess');
    else if (running.length === 0 && run && here.length === 0) plan.create.push(node.metadata.name);
    else planSurplus({ set, running, hash, nowMs }, remove);
  }
  const known = new Set(nodes.map(({ metadata }) => metadata.name));
  for (const [node, here] of byNode)
    if (!known.has(node)) for (const pod of here) if (pod.spec.nodeName === undefined) remove(pod, 'excess');
  if (set.spec.updateStrategy?.type !== 'OnDelete') planUpdate({ set, placements, hash, nowMs }, plan, remove);
  return plan;
}

interface Surplus {
  set: DaemonSet;
  running: Pod[];
  hash: string;
  nowMs: number;
}

/** Of several Pods on a node the oldest stays, except that a surge's new one stays once it is available. */
function planSurplus(
  { set, running, hash, nowMs }: Surplus,
  remove: (pod: Pod, reason: 'excess' | 'update') => void,
): void {
  if (running.length < 2) return;
  const surge = (set.spec.updateStrategy?.rollingUpdate?.maxSurge ?? 0) !== 0;
  const fresh = running.find((pod) => pod.metadata.labels?.[revisionHashLabel] === hash);
  const old = running.find((pod) => pod.metadata.labels?.[revisionHashLabel] !== hash);
  if (surge && fresh !== undefined && old !== undefined) {
    if (untilAvailableMs(fresh, set.spec.minReadySeconds ?? 0, nowMs) === 0) remove(old, 'update');
    for (const pod of running) if (pod !== fresh && pod !== old) remove(pod, 'excess');
    return;
  }
  for (const pod of running.slice(1)) remove(pod, 'excess');
}

interface Update {
  set: DaemonSet;
  placements: Placement[];
  hash: string;
  nowMs: number;
}

function planUpdate(
  { set, placements, hash, nowMs }: Update,
  plan: DaemonSetPlan,
  remove: (pod: Pod, reason: 'update') => void,
): void {
  const wanted = placements.filter(({ run }) => run);
  const rolling = set.spec.updateStrategy?.rollingUpdate ?? {};
  const maxSurge = resolveIntOrPercent(rolling.maxSurge ?? 0, wanted.length, true);
  const maxUnavailable =
    maxSurge > 0
      ? resolveIntOrPercent(rolling.maxUnavailable ?? 0, wanted.length, true)
      : Math.max(1, resolveIntOrPercent(rolling.maxUnavailable ?? 1, wanted.length, true));
  const minReady: number = set.spec.minReadySeconds ?? 0;
  const isAvailable = (pod: Pod): boolean =>
    pod.metadata.deletionTimestamp === undefined && untilAvailableMs(pod, minReady, nowMs) === 0;
  const isOld = (pod: Pod): boolean => pod.metadata.labels?.[revisionHashLabel] !== hash;
  const live = (pods: Pod[]): Pod[] =>
    pods.filter((pod) => pod.metadata.deletionTimestamp === undefined && !isPodTerminal(pod));
  if (maxSurge > 0) {
    const surging = wanted.filter(({ pods }) => live(pods).length > 1).length;
    const next = wanted
      .filter(({ pods }) => live(pods).length === 1 && isOld(live(pods)[0]!))
      .slice(0, Math.max(0, maxSurge - surging));
    plan.create.push(...next.map(({ node }) => node.metadata.name));
    return;
  }
  let unavailable = wanted.filter(({ pods }) => !pods.some(isAvailable)).length;
  const old = wanted.flatMap(({ pods }) => live(pods).filter(isOld));
  // Those that are down already cost nothing.
  for (const pod of old) if (!isAvailable(pod)) remove(pod, 'update');
  for (const pod of old) {
    if (!isAvailable(pod)) continue;
    if (unavailable >= maxUnavailable) return;
    remove(pod, 'update');
    unavailable++;
  }
}

function planStatus(
  set: DaemonSet,
  placements: Placement[],
  hash: string,
  nowMs: number,
): Pick<DaemonSetPlan, 'status' | 'requeueAfterMs'> {
  let [desired, current, ready, available, updated, misscheduled] = [0, 0, 0, 0, 0, 0];
  let requeueAfterMs: number | undefined;
  for (const { run, pods } of placements) {
    const live = pods.filter((pod) => !isPodTerminal(pod));
    if (!run) {
      if (live.length > 0) misscheduled++;
      continue;
    }
    desired++;
    if (live.length === 0) continue;
    current++;
    const waits = live
      .filter((pod) => pod.metadata.deletionTimestamp === undefined && isPodReady(pod))
      .map((pod) => untilAvailableMs(pod, set.spec.minReadySeconds ?? 0, nowMs) ?? Infinity);
    if (waits.length > 0) {
      ready++;
      const least = Math.min(...waits);
      if (least === 0) available++;
      else requeueAfterMs = Math.min(requeueAfterMs ?? Infinity, least);
    }
    if (live.some((pod) => pod.metadata.labels?.[revisionHashLabel] === hash)) updated++;
  }
  return {
    status: {
      currentNumberScheduled: current,
      numberMisscheduled: misscheduled,
      desiredNumberScheduled: desired,
      numberReady: ready,
      observedGeneration: set.metadata.generation ?? 0,
      updatedNumberScheduled: updated,
      ...(available === 0 ? {} : { numberAvailable: available }),
      ...(desired - available === 0 ? {} : { numberUnavailable: desired - available }),
      ...(set.status?.collisionCount === undefined ? {} : { collisionCount: set.status.collisionCount }),
      ...(set.status?.conditions === undefined ? {} : { conditions: set.status.conditions }),
    },
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

function daemonPod(set: DaemonSet, node: string, hash: string): Manifest<Pod> {
  const pod = podFromTemplate(set.spec.template, set.metadata.namespace, ownedBy(set), {
    generateName: `${set.metadata.name}-`,
  });
  pod.metadata.labels = {
    ...pod.metadata.labels,
    [revisionHashLabel]: hash,
    'pod-template-generation':
      set.metadata.annotations?.['deprecated.daemonset.template.generation'] ?? String(set.metadata.generation ?? 1),
  };
  const { spec } = pod;
  const required = { nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [node] }] }] };
  const nodeAffinity = { ...spec.affinity?.nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: required };
  const extra = [...daemonTolerations, ...(spec.hostNetwork === true ? [hostNetworkToleration] : [])].filter(
    (toleration) => !(spec.tolerations ?? []).some((held) => isEqual(held, toleration)),
  );
  pod.spec = {
    ...spec,
    affinity: { ...spec.affinity, nodeAffinity },
    tolerations: [...(spec.tolerations ?? []), ...extra],
  };
  return pod;
}

/**
 * A node that refuses or loses a daemon's Pods gets the next one later and later: 1 s, doubled up to 15 min, from the
 * start again after twice that without one.
 */
class FailureBackoff {
  readonly #last = new Map<string, { atMs: number; delayMs: number }>();

  #key(set: DaemonSet, node: string): string {
    return `${set.metadata.uid}/${set.metadata.generation}/${node}`;
  }

  /** How long a failed Pod must still be left where it is. */
  waitMs(set: DaemonSet, node: string, nowMs: number): number {
    const last = this.#last.get(this.#key(set, node));
    return last === undefined ? 0 : Math.max(0, last.atMs + last.delayMs - nowMs);
  }

  /** A failed Pod is being replaced. */
  note(set: DaemonSet, node: string, nowMs: number): void {
    if (this.#last.size >= failuresRememberedMax)
      for (const [key, { atMs }] of this.#last) if (nowMs - atMs > 2 * failureBackoffMsMax) this.#last.delete(key);
    const key = this.#key(set, node);
    const last = this.#last.get(key);
    const isFresh = last === undefined || nowMs - last.atMs > 2 * failureBackoffMsMax;
    this.#last.set(key, {
      atMs: nowMs,
      delayMs: isFresh ? failureBackoffMs : Math.min(last.delayMs * 2, failureBackoffMsMax),
    });
  }
}

class DaemonSetController {
  readonly #context: ControllerContext;
  readonly #sets: Informer<DaemonSet>;
  readonly #pods: Informer<Pod>;
  readonly #nodes: Informer<Node>;
  readonly #revisions: Informer<ControllerRevision>;
  readonly #recorder: EventRecorder;
  readonly #failures = new FailureBackoff();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#recorder = recorderOf(context, 'daemonset-controller');
    this.#sets = context.informers.informer(kinds.DaemonSet).addIndex('namespace', indexes.namespace);
    this.#pods = context.informers
      .informer(kinds.Pod)
      .addIndex('controller', indexes.controller)
      .addIndex('orphans', indexes.orphans);
    this.#nodes = context.informers.informer(kinds.Node);
    this.#revisions = context.informers.informer(kinds.ControllerRevision).addIndex('controller', indexes.controller);
    this.queue = createQueue(context, 'daemonset', (key) => this.#reconcile(key));
    enqueueEach(this.#sets, this.queue);
    enqueueController(this.#pods, 'DaemonSet', this.queue);
    const enqueueAll = (): void => {
      for (const key of this.#sets.keys()) this.queue.add(key);
    };
    this.#nodes.addHandler({
      added: enqueueAll,
      deleted: enqueueAll,
      updated: (node, previous) => {
        if (
          !isEqual(node.metadata.labels, previous.metadata.labels) ||
          !isEqual(node.spec?.taints, previous.spec?.taints)
        )
          enqueueAll();
      },
    });
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const set = this.#sets.get(key);
    if (set === undefined) return undefined;
    const selector = selectorOf(set.spec.selector) ?? [];
    if (set.metadata.deletionTimestamp === undefined) {
      const orphans = [...this.#pods.by('orphans', set.metadata.namespace)].filter(
        (pod) => pod.metadata.deletionTimestamp === undefined && matchesLabels(selector, pod.metadata.labels),
      );
      await forEachBounded(orphans, (pod) => adopt(this.#context, kinds.Pod, set, pod));
      const strangers = [...this.#pods.by('controller', set.metadata.uid)].filter(
        (pod) => !matchesLabels(selector, pod.metadata.labels),
      );
      await forEachBounded(strangers, (pod) => release(this.#context, kinds.Pod, set, pod));
    }
    const revisions = revisionsOf(this.#revisions, set);
    const revision = await applyRevisions(
      this.#context,
      planRevisions(set, revisions, set.status?.collisionCount ?? 0),
    );
    if (revision === undefined) {
      await this.#context.client.update(
        kinds.DaemonSet,
        { ...set, status: { ...(set.status ?? noCounts), collisionCount: (set.status?.collisionCount ?? 0) + 1 } },
        { subresource: 'status' },
      );
      return undefined;
    }
    const hash = revision.metadata.labels?.[revisionHashLabel] ?? '';
    const observe = (current: DaemonSet): DaemonSetObserved => ({
      set: current,
      nodes: this.#nodes.list(),
      pods: [...this.#pods.by('controller', current.metadata.uid)],
      hash,
      failedWaitMs: (node) => this.#failures.waitMs(current, node, this.#context.clock.now()),
    });
    const plan = planDaemonSet(observe(set), this.#context.clock.now());
    let failure: unknown;
    try {
      await this.#apply(set, plan, hash);
    } catch (error) {
      failure = error;
    }
    const current = this.#sets.get(key);
    if (current !== undefined) {
      const { status } = planDaemonSet(observe(current), this.#context.clock.now());
      if (!isEqualStatus(current.status, status))
        await this.#context.client.update(kinds.DaemonSet, { ...current, status }, { subresource: 'status' });
    }
    if (failure !== undefined) throw failure;
    const live = new Set([
      hash,
      ...[...this.#pods.by('controller', set.metadata.uid)].map(
        (pod) => pod.metadata.labels?.[revisionHashLabel] ?? '',
      ),
    ]);
    await truncateHistory(this.#context, revisions, live, set.spec.revisionHistoryLimit ?? 10);
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs };
  }

  async #apply(set: DaemonSet, plan: DaemonSetPlan, hash: string): Promise<void> {
    await forEachBounded(plan.delete, async ({ pod, reason }) => {
      if (reason === 'failed') this.#failures.note(set, nodeOf(pod) ?? '', this.#context.clock.now());
      if (reason === 'failed')
        this.#recorder.event(
          set,
          'Warning',
          'FailedDaemonPod',
          `Found failed daemon pod ${pod.metadata.namespace}/${pod.metadata.name} on node ${nodeOf(pod)}, will try to kill it`,
        );
      await deleteIfPresent(this.#context, kinds.Pod, pod);
      this.#recorder.event(set, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
    });
    await slowStart(plan.create.length, async (index) => {
      try {
        const pod = await this.#context.client.create(kinds.Pod, daemonPod(set, plan.create[index]!, hash));
        this.#recorder.event(set, 'Normal', 'SuccessfulCreate', `Created pod: ${pod.metadata.name}`);
      } catch (error) {
        this.#recorder.event(set, 'Warning', 'FailedCreate', `Error creating: ${messageOf(error)}`);
        throw error;
      }
    });
  }
}

export function startDaemonSetController(context: ControllerContext): Controller {
  const controller = new DaemonSetController(context);
  return { name: 'daemonset', queues: [controller.queue] };
}
