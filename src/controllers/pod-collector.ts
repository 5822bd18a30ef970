/**
 * Collects Pods that nobody else will: bound to nodes that are gone, being deleted without ever having had a node, on
 * nodes declared out of service, and the oldest finished ones beyond a bound. Spec: Kubernetes documentation, "Pod
 * garbage collection".
 */
import type { Node, Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { terminatedPodsMax } from './limits.ts';
import { byAge, conditionOf, isPodTerminal } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, deleteIfPresent } from './runtime.ts';

/** A node may only be late to register: its Pods are kept this long. */
const quarantineMs = 40_000;

export type CollectReason = 'orphaned' | 'unscheduled' | 'out-of-service';

// walk node-dies 4/5: Pods of a node that is gone for good are removed, and their controllers replace them.
/** Why a Pod is to be removed at once; undefined: it is not. */
function planPodCollection(pod: Pod, node: Node | undefined): CollectReason | undefined {
  const name: string | undefined = pod.spec?.nodeName;
  if (name === undefined || name === '')
    return pod.metadata.deletionTimestamp === undefined ? undefined : 'unscheduled';
  if (node === undefined) return 'orphaned';
  const outOfService = (node.spec?.taints ?? []).some(({ key }) => key === 'node.kubernetes.io/out-of-service');
  return outOfService && pod.metadata.deletionTimestamp !== undefined && conditionOf(node, 'Ready')?.status !== 'True'
    ? 'out-of-service'
    : undefined;
}

class PodCollector {
  readonly #context: ControllerContext;
  readonly #pods: Informer<Pod>;
  readonly #nodes: Informer<Node>;
  #finished = 0;
  readonly #missingSince = new Map<string, number>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#pods = context.informers.informer(kinds.Pod).addIndex('node', indexes.node);
    this.#nodes = context.informers.informer(kinds.Node);
    this.queue = createQueue(context, 'pod-collector', (key) =>
      key === 'finished' ? this.#collectFinished() : this.#reconcile(key),
    );
    this.#nodes.addHandler({
      added: (node) => {
        this.#missingSince.delete(node.metadata.name);
      },
      updated: (node) => {
        if ((node.spec?.taints ?? []).some(({ key }) => key === 'node.kubernetes.io/out-of-service'))
          for (const pod of this.#pods.by('node', node.metadata.name)) this.queue.add(keyOf(pod));
      },
      deleted: (node) => {
        for (const pod of this.#pods.by('node', node.metadata.name)) this.queue.add(keyOf(pod));
      },
    });
    const look = (pod: Pod): void => {
      const node: string | undefined = pod.spec?.nodeName;
      if (
        node === undefined || node === ''
          ? pod.metadata.deletionTimestamp !== undefined
          : this.#nodes.get(node) === undefined
      )
        this.queue.add(keyOf(pod));
    };
    this.#pods.addHandler({
      added: (pod) => {
        look(pod);
        this.#countFinished(pod, undefined);
      },
      updated: (pod, previous) => {
        look(pod);
        this.#countFinished(pod, previous);
      },
      deleted: (pod) => {
        if (isPodTerminal(pod)) this.#finished--;
      },
    });
  }

  #countFinished(pod: Pod, previous: Pod | undefined): void {
    this.#finished += Number(isPodTerminal(pod)) - Number(previous !== undefined && isPodTerminal(previous));
    if (this.#finished > terminatedPodsMax) this.queue.addAfter('finished', 1_000);
  }

  async #collectFinished(): Promise<undefined> {
    const finished = this.#pods
      .list()
      .filter((pod) => isPodTerminal(pod) && pod.metadata.deletionTimestamp === undefined)
      .sort(byAge);
    for (const pod of finished.slice(0, Math.max(0, finished.length - terminatedPodsMax)))
      await deleteIfPresent(this.#context, kinds.Pod, pod, { gracePeriodSeconds: 0 });
    return undefined;
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const pod = this.#pods.get(key);
    if (pod === undefined) return undefined;
    const nodeName: string = pod.spec?.nodeName ?? '';
    const reason = planPodCollection(pod, this.#nodes.get(nodeName));
    if (reason === undefined) return undefined;
    if (reason === 'orphaned') {
      const { clock, client } = this.#context;
      const since = this.#missingSince.get(nodeName) ?? clock.monotonic();
      this.#missingSince.set(nodeName, since);
      const leftMs = since + quarantineMs - clock.monotonic();
      if (leftMs > 0) return { requeueAfterMs: leftMs };
      try {
        await client.get(kinds.Node, nodeName);
        return undefined;
      } catch (error) {
        if (!isReason(error, 'NotFound')) throw error;
      }
      if (!isPodTerminal(pod)) await this.#markFailed(pod);
    }
    await deleteIfPresent(this.#context, kinds.Pod, pod, { gracePeriodSeconds: 0 });
    return undefined;
  }

  async #markFailed(pod: Pod): Promise<void> {
    const condition = {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'DeletionByPodGC',
      message: 'PodGC: node no longer exists',
      lastTransitionTime: timestamp(this.#context.clock.now()),
    };
    try {
      await this.#context.client.patch(
        kinds.Pod,
        pod.metadata,
        { strategic: { metadata: { uid: pod.metadata.uid }, status: { phase: 'Failed', conditions: [condition] } } },
        { subresource: 'status' },
      );
    } catch (error) {
      if (!isReason(error, 'NotFound', 'Conflict')) throw error;
    }
  }
}

export function startPodCollector(context: ControllerContext): Controller {
  const collector = new PodCollector(context);
  return { name: 'pod-collector', queues: [collector.queue] };
}
