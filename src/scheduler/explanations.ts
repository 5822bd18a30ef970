/**
 * What becomes of a Pod that fits nowhere: the PodScheduled condition and an event say why, and where lower Pods make
 * room for it, these are evicted.
 */
import type { Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import type { Client } from '#client/client.ts';
import { type EventRecorder } from '#client/events.ts';
import { type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { type Failure } from './choose-node.ts';
import { type PodInfo } from './pod-info.ts';
import { type Victims } from './preemption.ts';

export class Explanations {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #log: Logger;
  readonly #name: string;
  readonly #recorder: EventRecorder;
  readonly #pods: Informer<Pod>;

  constructor(options: {
    client: Client;
    clock: Clock;
    log: Logger;
    /** The scheduler's. */
    name: string;
    recorder: EventRecorder;
    pods: Informer<Pod>;
  }) {
    this.#client = options.client;
    this.#clock = options.clock;
    this.#log = options.log;
    this.#name = options.name;
    this.#recorder = options.recorder;
    this.#pods = options.pods;
  }

  /** Says on the Pod and in an event why it waits; carries out a preemption. */
  async explain({ pod, key }: PodInfo, failure: Failure, preemption: Victims | string): Promise<void> {
    const suffix =
      typeof preemption === 'string'
        ? ` preemption: ${preemption}`
        : ` preemption: node ${preemption.node} is nominated.`;
    const message =
      failure.rejections.size === 0 && failure.message.startsWith('no nodes')
        ? failure.message
        : failure.message + suffix;
    this.#recorder.event(pod, 'Warning', 'FailedScheduling', message);
    try {
      await this.#writeCondition(pod, message, typeof preemption === 'string' ? undefined : preemption.node);
      if (typeof preemption !== 'string') await this.#evict(pod, preemption);
    } catch (error) {
      if (!isReason(error, 'NotFound', 'Conflict')) this.#log.warn('could not explain a failure', { pod: key, error });
    }
  }

  async #writeCondition(pod: Pod, message: string, nominatedNodeName: string | undefined): Promise<void> {
    const current = this.#pods.get(keyOf(pod));
    if (current === undefined || current.metadata.uid !== pod.metadata.uid || current.spec.nodeName !== undefined)
      return;
    const held = current.status?.conditions?.find(({ type }) => type === 'PodScheduled');
    const nominated = nominatedNodeName ?? current.status?.nominatedNodeName;
    if (held?.status === 'False' && held.message === message && nominated === current.status?.nominatedNodeName) return;
    const lastTransitionTime = held?.status === 'False' ? held.lastTransitionTime : timestamp(this.#clock.now());
    const made = {
      type: 'PodScheduled',
      status: 'False',
      reason: 'Unschedulable',
      message,
      lastProbeTime: null,
      lastTransitionTime,
      observedGeneration: current.metadata.generation,
    };
    await this.#client.patch(
      kinds.Pod,
      pod.metadata,
      {
        strategic: {
          metadata: { uid: pod.metadata.uid },
          status: { conditions: [made], ...(nominated === undefined ? {} : { nominatedNodeName: nominated }) },
        },
      },
      { subresource: 'status' },
    );
  }

  async #evict(pod: Pod, { node, pods }: Victims): Promise<void> {
    for (const victim of pods) {
      const { name, namespace, uid } = victim.pod.metadata;
      const current = this.#pods.get(victim.key);
      if (current === undefined || current.metadata.deletionTimestamp !== undefined) continue;
      const condition = {
        type: 'DisruptionTarget',
        status: 'True',
        reason: 'PreemptionByScheduler',
        lastProbeTime: null,
        lastTransitionTime: timestamp(this.#clock.now()),
        message: `${this.#name}: preempting to accommodate a higher priority pod`,
      };
      try {
        await this.#client.patch(
          kinds.Pod,
          { name, namespace },
          { strategic: { metadata: { uid }, status: { conditions: [condition] } } },
          { subresource: 'status' },
        );
        await this.#client.delete(kinds.Pod, name, namespace, { preconditions: { uid: uid } });
        this.#recorder.event(victim.pod, 'Normal', 'Preempted', `Preempted by pod ${pod.metadata.uid} on node ${node}`);
      } catch (error) {
        if (!isReason(error, 'NotFound', 'Conflict')) throw error;
      }
    }
  }
}
