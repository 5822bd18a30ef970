/**
 * Node life cycle: a node whose kubelet renews neither its Lease nor its status is marked Unknown and tainted; Pods
 * that do not tolerate a NoExecute taint (or no longer do) are evicted; conditions become NoSchedule taints. Time is
 * measured by when renewals were *seen* here, on the own monotonic clock, so that clock skew between machines does no
 * harm. When most nodes seem lost at once, it is rather the network here: then nothing is evicted. Nothing polls: each
 * node has one timer, pushed out by what is seen. Spec: Kubernetes documentation, "Nodes" (heartbeats), "Taints and
 * Tolerations" (eviction).
 */
import type { Lease } from '#api/coordination.v1.ts';
import type { Node, NodeCondition, Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { isEqual } from './equality.ts';
import { type Condition, conditionOf, isPodTerminal } from './pods.ts';
import {
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  forEachBounded,
  recorderOf,
} from './runtime.ts';

/** Kubernetes' own. */
const defaultGraceMs = 40_000;
/** A node that never reported gets longer. */
const startupGraceMs = 60_000;

export interface Taint {
  key: string;
  value?: string;
  effect: string;
  timeAdded?: string;
}
/** Signs of life other than Leases: a simulation, where nothing is wrong, saves itself the writing. */
export interface Heartbeats {
  /** It is heard of all the time, for now. */
  isBeating(node: string): boolean;
  /** Called when a node is no longer (or again) beating, with how long ago it last did. */
  listen(changed: (node: string, agoMs: number) => void): void;
}
export interface NodeLifecycleOptions {
  heartbeats?: Heartbeats | undefined;
  /** How long nothing is heard of a node before it is taken for lost; 40 s when absent. */
  graceMs?: number | undefined;
}
export interface NodePlan {
  conditions: NodeCondition[] | undefined;
  taints: Taint[] | undefined;
  /** Its kubelet is lost. */ lost: boolean;
  becameLost: boolean;
}

const unreachable = 'node.kubernetes.io/unreachable';
const notReady = 'node.kubernetes.io/not-ready';
const pressureTaints: Record<string, string> = {
  MemoryPressure: 'node.kubernetes.io/memory-pressure',
  DiskPressure: 'node.kubernetes.io/disk-pressure',
  PIDPressure: 'node.kubernetes.io/pid-pressure',
  NetworkUnavailable: 'node.kubernetes.io/network-unavailable',
};
const ownKeys = new Set([unreachable, notReady, 'node.kubernetes.io/unschedulable', ...Object.values(pressureTaints)]);
const kubeletConditions = ['Ready', 'MemoryPressure', 'DiskPressure', 'PIDPressure'];

// walk node-dies 2/5: a lease that is not renewed makes the node not ready, and taints it.
/** Conditions and taints that a node shall have; undefined where they are right already. */
export function planNode(node: Node, isLost: boolean, nowMs: number): NodePlan {
  let conditions: NodeCondition[] = node.status?.conditions ?? [];
  const before = conditions;
  if (isLost) {
    const at = timestamp(nowMs);
    for (const type of kubeletConditions) {
      const held = conditions.find((condition) => condition.type === type);
      if (held === undefined) {
        conditions = [
          ...conditions,
          {
            type,
            status: 'Unknown',
            reason: 'NodeStatusNeverUpdated',
            message: 'Kubelet never posted node status.',
            lastTransitionTime: at,
          },
        ];
      } else if (held.status !== 'Unknown') {
        conditions = conditions.map((condition) =>
          condition === held
            ? {
                ...held,
                status: 'Unknown',
                reason: 'NodeStatusUnknown',
                message: 'Kubelet stopped posting node status.',
                lastTransitionTime: at,
              }
            : condition,
        );
      }
    }
  }
  const taints = planTaints(node, conditions, nowMs);
  const wasLost = before.find(({ type }) => type === 'Ready')?.status === 'Unknown';
  return {
    conditions: conditions === before ? undefined : conditions,
    taints: isEqual(taints, node.spec?.taints) ? undefined : taints,
    lost: isLost,
    becameLost: isLost && !wasLost,
  };
}

function planTaints(node: Node, conditions: readonly Condition[], nowMs: number): Taint[] {
  const held: Taint[] = node.spec?.taints ?? [];
  const wanted: Taint[] = [];
  const want = (key: string, effect: string): void => {
    const existing = held.find((taint) => taint.key === key && taint.effect === effect);
    wanted.push(
      existing ?? {
        key,
        effect,
        ...(effect === 'NoExecute' || key === 'node.kubernetes.io/unschedulable'
          ? { timeAdded: timestamp(nowMs) }
          : {}),
      },
    );
  };
  const ready = conditions.find(({ type }) => type === 'Ready')?.status;
  if (ready === 'Unknown') for (const effect of ['NoSchedule', 'NoExecute']) want(unreachable, effect);
  else if (ready === 'False') for (const effect of ['NoSchedule', 'NoExecute']) want(notReady, effect);
  else if (ready === undefined) want(notReady, 'NoSchedule');
  for (const [type, key] of Object.entries(pressureTaints))
    if (conditions.some((condition) => condition.type === type && condition.status === 'True')) want(key, 'NoSchedule');
  if (node.spec?.unschedulable === true) want('node.kubernetes.io/unschedulable', 'NoSchedule');
  return [...held.filter((taint) => !ownKeys.has(taint.key)), ...wanted];
}

// walk node-dies 3/5: Pods go when their toleration ends.
/** When a Pod must leave its node: now (0), after so many milliseconds, or never (undefined). */
export function evictionDelayMs(pod: Pod, taints: readonly Taint[], nowMs: number): number | undefined {
  const evicting = taints.filter(({ effect }) => effect === 'NoExecute');
  if (evicting.length === 0) return undefined;
  const tolerations = pod.spec?.tolerations ?? [];
  let soonest: number | undefined;
  for (const taint of evicting) {
    const matching = tolerations.filter(
      (toleration) =>
        (toleration.effect === undefined || toleration.effect === '' || toleration.effect === 'NoExecute') &&
        (toleration.key === undefined || toleration.key === ''
          ? toleration.operator === 'Exists'
          : toleration.key === taint.key &&
            (toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? ''))),
    );
    if (matching.length === 0) return 0;
    const seconds = matching
      .map(({ tolerationSeconds }) => tolerationSeconds)
      .filter((value) => value !== undefined && value !== null);
    if (seconds.length === 0) continue;
    const since = taint.timeAdded === undefined ? nowMs : Date.parse(taint.timeAdded);
    const left = Math.max(0, since + Math.max(0, Math.min(...seconds)) * 1000 - nowMs);
    soonest = Math.min(soonest ?? Infinity, left);
  }
  return soonest;
}

class NodeLifecycle {
  readonly #context: ControllerContext;
  readonly #heartbeats: Heartbeats | undefined;
  readonly #graceMs: number;
  readonly #nodes: Informer<Node>;
  readonly #pods: Informer<Pod>;
  readonly #leases: Informer<Lease>;
  readonly #recorder: EventRecorder;
  /** When each node was last heard of, on the monotonic clock. */
  readonly #heard = new Map<string, { atMs: number; renewTime: string; graceMs: number }>();
  readonly queue: WorkQueue;
  readonly evictionQueue: WorkQueue;

  constructor(context: ControllerContext, { heartbeats, graceMs = defaultGraceMs }: NodeLifecycleOptions) {
    this.#context = context;
    this.#graceMs = graceMs;
    this.#heartbeats = heartbeats;
    heartbeats?.listen((node, agoMs) => {
      this.#hear(node, '', agoMs);
      this.queue.add(node);
    });
    this.#recorder = recorderOf(context, 'node-controller');
    this.#nodes = context.informers.informer(kinds.Node);
    this.#pods = context.informers.informer(kinds.Pod).addIndex('node', indexes.node);
    this.#leases = context.informers.informer(kinds.Lease);
    this.queue = createQueue(context, 'node-lifecycle', (key) => this.#reconcile(key));
    this.evictionQueue = createQueue(context, 'taint-eviction', (key) => this.#evict(key));
    const renewed = (lease: Lease): void => {
      if (lease.metadata.namespace === 'kube-node-lease') this.#hear(lease.metadata.name, lease.spec?.renewTime ?? '');
    };
    this.#leases.addHandler({ added: renewed, updated: renewed });
    this.#nodes.addHandler({
      added: (node) => this.#onNode(node, undefined),
      updated: (node, previous) => this.#onNode(node, previous),
      deleted: (node) => {
        this.#heard.delete(node.metadata.name);
      },
    });
    this.#pods.addHandler({
      added: (pod) => this.#enqueuePod(pod),
      updated: (pod, previous) => {
        if (pod.spec.nodeName !== previous.spec.nodeName || !isEqual(pod.spec.tolerations, previous.spec.tolerations))
          this.#enqueuePod(pod);
      },
    });
  }

  #hear(name: string, renewTime: string, agoMs = 0): void {
    const held = this.#heard.get(name);
    if (held?.renewTime === renewTime && renewTime !== '') return;
    const now = this.#context.clock.monotonic() - agoMs;
    const wasLost = held !== undefined && now - held.atMs >= held.graceMs;
    if (held === undefined) this.#heard.set(name, { atMs: now, renewTime, graceMs: this.#graceMs });
    else Object.assign(held, { atMs: now, renewTime, graceMs: this.#graceMs });
    if (wasLost || held === undefined) this.queue.add(name);
  }

  #onNode(node: Node, previous: Node | undefined): void {
    const name = node.metadata.name;
    if (!this.#heard.has(name))
      this.#heard.set(name, {
        atMs: this.#context.clock.monotonic(),
        renewTime: '',
        graceMs: conditionOf(node, 'Ready') === undefined ? startupGraceMs : this.#graceMs,
      });
    // A kubelet's status is a sign of life too.
    const beat = (of: Node): string | null | undefined => conditionOf(of, 'Ready')?.lastHeartbeatTime;
    if (previous !== undefined && beat(node) !== beat(previous)) this.#hear(name, `status ${beat(node) ?? ''}`);
    const statusChanged =
      previous === undefined || !isEqual(node.spec, previous.spec) || !isEqual(states(node), states(previous));
    if (statusChanged) this.queue.add(name);
    if (
      previous === undefined ? (node.spec?.taints ?? []).length > 0 : !isEqual(node.spec?.taints, previous.spec?.taints)
    ) {
      for (const pod of this.#pods.by('node', name)) this.#enqueuePod(pod);
    }
  }

  #enqueuePod(pod: Pod): void {
    const node = this.#nodes.get(pod.spec?.nodeName ?? '');
    if (node !== undefined && (node.spec.taints ?? []).some(({ effect }) => effect === 'NoExecute'))
      this.evictionQueue.add(`${pod.metadata.namespace}/${pod.metadata.name}`);
  }

  async #reconcile(name: string): Promise<ReconcileResult | undefined> {
    const node = this.#nodes.get(name);
    const heard = this.#heard.get(name);
    if (node === undefined || heard === undefined) return undefined;
    const { client, clock } = this.#context;
    const isBeating = this.#heartbeats?.isBeating(name) === true;
    const silentMs = isBeating ? 0 : clock.monotonic() - heard.atMs;
    const isLost = silentMs >= heard.graceMs;
    const plan = planNode(node, isLost, clock.now());
    if (plan.conditions !== undefined)
      await client.update(
        kinds.Node,
        { ...node, status: { ...node.status, conditions: plan.conditions } },
        { subresource: 'status' },
      );
    if (plan.taints !== undefined) {
      const current = this.#nodes.get(name) ?? node;
      await client.patch(kinds.Node, current.metadata, {
        merge: {
          metadata: { resourceVersion: current.metadata.resourceVersion },
          spec: { taints: plan.taints.length === 0 ? null : plan.taints },
        },
      });
    }
    if (plan.becameLost)
      this.#recorder.event(node, 'Normal', 'NodeNotReady', `Node ${name} status is now: NodeNotReady`);
    const ready = (plan.conditions ?? node.status?.conditions ?? []).find(({ type }) => type === 'Ready');
    if (ready !== undefined && ready.status !== 'True') await this.#markPodsNotReady(name);
    return isLost || isBeating ? undefined : { requeueAfterMs: heard.graceMs - silentMs };
  }

  /** Services must not send to Pods of which nothing is known. */
  async #markPodsNotReady(node: string): Promise<void> {
    const at = timestamp(this.#context.clock.now());
    await forEachBounded(
      [...this.#pods.by('node', node)].filter((pod) => conditionOf(pod, 'Ready')?.status === 'True'),
      async (pod) => {
        try {
          await this.#context.client.patch(
            kinds.Pod,
            pod.metadata,
            {
              strategic: {
                metadata: { uid: pod.metadata.uid },
                status: { conditions: [{ type: 'Ready', status: 'False', lastTransitionTime: at }] },
              },
            },
            { subresource: 'status' },
          );
          this.#recorder.event(pod, 'Warning', 'NodeNotReady', 'Node is not ready');
        } catch (error) {
          if (!isReason(error, 'NotFound', 'Conflict')) throw error;
        }
      },
    );
  }

  async #evict(key: string): Promise<ReconcileResult | undefined> {
    const pod = this.#pods.get(key);
    const node = pod === undefined ? undefined : this.#nodes.get(pod.spec?.nodeName ?? '');
    if (pod === undefined || node === undefined || pod.metadata.deletionTimestamp !== undefined || isPodTerminal(pod))
      return undefined;
    const delayMs = evictionDelayMs(pod, node.spec?.taints ?? [], this.#context.clock.now());
    if (delayMs === undefined) return undefined;
    if (delayMs > 0) return { requeueAfterMs: delayMs };
    if (this.#isOwnNetworkSuspect()) return { requeueAfterMs: this.#graceMs };
    const condition = {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'DeletionByTaintManager',
      message: 'Taint manager: deleting due to NoExecute taint',
      lastTransitionTime: timestamp(this.#context.clock.now()),
    };
    try {
      await this.#context.client.patch(
        kinds.Pod,
        pod.metadata,
        { strategic: { metadata: { uid: pod.metadata.uid }, status: { conditions: [condition] } } },
        { subresource: 'status' },
      );
    } catch (error) {
      if (!isReason(error, 'NotFound', 'Conflict')) throw error;
    }
    this.#recorder.event(pod, 'Normal', 'TaintManagerEviction', `Marking for deletion Pod ${key}`);
    await deleteIfPresent(this.#context, kinds.Pod, pod);
    return undefined;
  }

  /** Every one of several nodes silent: the fault is more likely on this side. */
  #isOwnNetworkSuspect(): boolean {
    if (this.#nodes.size < 3) return false;
    for (const node of this.#nodes.values()) if (conditionOf(node, 'Ready')?.status !== 'Unknown') return false;
    return true;
  }
}

function states(node: Node): Record<string, string> {
  return Object.fromEntries((node.status?.conditions ?? []).map(({ type, status }) => [type, status]));
}

export function startNodeLifecycleController(
  context: ControllerContext,
  options: NodeLifecycleOptions = {},
): Controller {
  const controller = new NodeLifecycle(context, options);
  return { name: 'node-lifecycle', queues: [controller.queue, controller.evictionQueue] };
}
