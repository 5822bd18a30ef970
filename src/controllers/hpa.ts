/**
 * The HorizontalPodAutoscaler controller: every 15 s (or as told) per autoscaler, reads usage from metrics.k8s.io
 * (custom and external metrics where an API for them is registered) and sets the scale of its target. Without
 * autoscalers it does nothing at all.
 */
import type { Scale } from '#api/autoscaling.v1.ts';
import type {
  HorizontalPodAutoscaler,
  HorizontalPodAutoscalerCondition,
  HorizontalPodAutoscalerStatus,
  MetricStatus,
} from '#api/autoscaling.v2.ts';
import type { Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { matchesLabels, parseLabelSelector } from '#base/selectors.ts';
import { timestamp } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { resolveKind } from './discovery.ts';
import { isEqual, isEqualStatus } from './equality.ts';
import { emptyMemory, type HpaMemory, stabilize } from './hpa-behavior.ts';
import { describeSpec, MetricReader } from './hpa-measure.ts';
import { withCondition } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, recorderOf } from './runtime.ts';

/** What is found when an autoscaler is looked at. */
interface Sighting {
  hpa: HorizontalPodAutoscaler;
  scale: Scale;
  current: number;
  nowMs: number;
}

class HpaController {
  readonly #context: ControllerContext;
  readonly #autoscalers: Informer<HorizontalPodAutoscaler>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  readonly #metrics: MetricReader;
  readonly #memory = new Map<string, HpaMemory>();
  readonly queue: WorkQueue;

  readonly #syncPeriodMs: number;

  constructor(context: ControllerContext, syncPeriodMs: number) {
    this.#context = context;
    this.#syncPeriodMs = syncPeriodMs;
    this.#metrics = new MetricReader(context.client);
    this.#recorder = recorderOf(context, 'horizontal-pod-autoscaler');
    this.#autoscalers = context.informers.informer(kinds.HorizontalPodAutoscaler);
    this.#pods = context.informers.informer(kinds.Pod).addIndex('namespace', indexes.namespace);
    this.queue = createQueue(context, 'hpa', (key) => this.#reconcile(key));
    this.#autoscalers.addHandler({
      added: (o) => this.queue.add(`${o.metadata.namespace}/${o.metadata.name}`),
      updated: (o, previous) => {
        if (o.metadata.generation !== previous.metadata.generation || !isEqual(o.spec, previous.spec))
          this.queue.add(`${o.metadata.namespace}/${o.metadata.name}`);
      },
      deleted: (o) => {
        this.#memory.delete(o.metadata.uid);
      },
    });
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const hpa = this.#autoscalers.get(key);
    if (hpa === undefined || hpa.metadata.deletionTimestamp !== undefined) return undefined;
    try {
      await this.#scale(hpa, key);
    } catch (error) {
      if (!isReason(error, 'Conflict', 'NotFound')) this.#context.log.warn('autoscaling failed', { hpa: key, error });
    }
    return { requeueAfterMs: this.#syncPeriodMs };
  }

  async #scale(hpa: HorizontalPodAutoscaler, key: string): Promise<void> {
    const { client, clock } = this.#context;
    const nowMs = clock.now();
    const conditions = new Conditions(hpa, nowMs);
    const { namespace } = hpa.metadata;
    const reference = hpa.spec.scaleTargetRef;
    const target = await resolveKind(client, reference);
    let scale: Scale;
    try {
      scale = await client.getSubresource(target, 'scale', reference.name, namespace);
    } catch (error) {
      const message = `the HPA controller was unable to get the target's current scale: ${messageOf(error)}`;
      conditions.set('AbleToScale', 'False', 'FailedGetScale', message);
      this.#recorder.event(hpa, 'Warning', 'FailedGetScale', messageOf(error));
      await this.#writeStatus(key, { desiredReplicas: 0, ...hpa.status, conditions: conditions.list });
      return;
    }
    const current = scale.spec?.replicas ?? 0;
    conditions.set(
      'AbleToScale',
      'True',
      'SucceededGetScale',
      "the HPA controller was able to get the target's current scale",
    );
    const { desired, metrics } = await this.#desire({ hpa, scale, current, nowMs }, conditions);
    let lastScaleTime: string | undefined = hpa.status?.lastScaleTime;
    if (desired !== current) {
      await client.updateSubresource(target, 'scale', { ...scale, spec: { ...scale.spec, replicas: desired } });
      lastScaleTime = timestamp(nowMs);
      conditions.set(
        'AbleToScale',
        'True',
        'SucceededRescale',
        `the HPA controller was able to update the target scale to ${desired}`,
      );
      const reason = rescaleReason(hpa, current, desired);
      this.#recorder.event(hpa, 'Normal', 'SuccessfulRescale', `New size: ${desired}; reason: ${reason}`);
    }
    await this.#writeStatus(key, {
      ...(hpa.metadata.generation === undefined ? {} : { observedGeneration: hpa.metadata.generation }),
      ...(lastScaleTime === undefined ? {} : { lastScaleTime }),
      currentReplicas: current,
      desiredReplicas: desired,
      ...(metrics.length === 0 ? {} : { currentMetrics: metrics }),
      conditions: conditions.list,
    });
  }

  /** How many replicas there shall be: what the bounds force, or what the metrics ask for as far as is allowed now. */
  async #desire(
    { hpa, scale, current, nowMs }: Sighting,
    conditions: Conditions,
  ): Promise<{ desired: number; metrics: MetricStatus[] }> {
    const metrics = hpa.status?.currentMetrics ?? [];
    const [least, most] = boundsOf(hpa);
    if (current === 0 && least !== 0) {
      conditions.set(
        'ScalingActive',
        'False',
        'ScalingDisabled',
        'scaling is disabled since the replica count of the target is zero',
      );
      return { desired: current, metrics };
    }
    if (current > most) return { desired: most, metrics };
    if (current < least) return { desired: least, metrics };
    const selector = parseLabelSelector(scale.status?.selector ?? '');
    const pods = [...this.#pods.by('namespace', hpa.metadata.namespace)].filter((pod) =>
      matchesLabels(selector, pod.metadata.labels),
    );
    const outcome = await this.#metrics.recommend({ hpa, scale, pods, currentReplicas: current, nowMs });
    if (outcome.error === undefined)
      conditions.set(
        'ScalingActive',
        'True',
        'ValidMetricFound',
        `the HPA was able to successfully calculate a replica count from ${outcome.source}`,
      );
    else {
      const { reason, message } = outcome.error;
      conditions.set('ScalingActive', 'False', reason, message);
      const brief = message.replace(/^the HPA was unable to compute the replica count: /, '');
      this.#recorder.event(hpa, 'Warning', reason, brief);
    }
    // With a failing metric only growing is allowed.
    if (outcome.replicas === undefined || (outcome.error !== undefined && outcome.replicas <= current))
      return { desired: current, metrics: outcome.metrics };
    const before = this.#memory.get(hpa.metadata.uid) ?? emptyMemory();
    const verdict = stabilize({ hpa, current, raw: outcome.replicas, before, nowMs });
    this.#memory.set(hpa.metadata.uid, verdict.memory);
    conditions.set('AbleToScale', 'True', verdict.ableToScale.reason, verdict.ableToScale.message);
    conditions.set('ScalingLimited', verdict.limited.status, verdict.limited.reason, verdict.limited.message);
    return { desired: verdict.replicas, metrics: outcome.metrics };
  }

  async #writeStatus(key: string, status: HorizontalPodAutoscalerStatus): Promise<void> {
    const current = this.#autoscalers.get(key);
    if (current === undefined || isEqualStatus(current.status, status)) return;
    await this.#context.client.update(kinds.HorizontalPodAutoscaler, { ...current, status }, { subresource: 'status' });
  }
}

/** The conditions of an autoscaler, as one look at it changes them. */
class Conditions {
  list: HorizontalPodAutoscalerCondition[];
  readonly #nowMs: number;

  constructor(hpa: HorizontalPodAutoscaler, nowMs: number) {
    this.list = hpa.status?.conditions ?? [];
    this.#nowMs = nowMs;
  }

  set(type: string, status: string, reason: string, message: string): void {
    this.list = withCondition(this.list, { type, status, reason, message }, this.#nowMs);
  }
}

/** Least and most replicas. */
function boundsOf({ spec }: HorizontalPodAutoscaler): [number, number] {
  return [spec.minReplicas ?? 1, spec.maxReplicas];
}

function rescaleReason(hpa: HorizontalPodAutoscaler, current: number, desired: number): string {
  const [least, most] = boundsOf(hpa);
  if (current > most) return 'Current number of replicas above Spec.MaxReplicas';
  if (current < least) return 'Current number of replicas below Spec.MinReplicas';
  return desired > current ? `${describeMetric(hpa)} above target` : 'All metrics below target';
}

function describeMetric(hpa: HorizontalPodAutoscaler): string {
  const spec = hpa.spec.metrics?.[0];
  return spec === undefined ? 'cpu resource utilization (percentage of request)' : describeSpec(spec);
}

export function startHpaController(context: ControllerContext, syncPeriodMs = 15_000): Controller {
  const controller = new HpaController(context, syncPeriodMs);
  return { name: 'hpa', queues: [controller.queue] };
}
