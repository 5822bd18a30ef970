/**
 * The HorizontalPodAutoscaler controller: every 15 s (or as told) per autoscaler, reads usage from metrics.k8s.io
 * (custom and external metrics where an API for them is registered) and sets the scale of its target. Without
 * autoscalers it does nothing at all.
 */
import type { Scale } from '#api/autoscaling.v1.ts';
import type {
  CrossVersionObjectReference,
  HorizontalPodAutoscaler,
  HorizontalPodAutoscalerCondition,
  HorizontalPodAutoscalerStatus,
  MetricSpec,
  MetricStatus,
  MetricTarget,
} from '#api/autoscaling.v2.ts';
import type { Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import type { KindRef } from '#base/objects.ts';
import { isQuantity, milliOf, wholeOf } from '#base/quantity.ts';
import { matchesLabels, parseLabelSelector } from '#base/selectors.ts';
import { timestamp } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import { groupVersionOf } from '#base/objects.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kindOf, kinds } from '#client/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { discoverResources } from './discovery.ts';
import { isEqual, isEqualStatus } from './equality.ts';
import {
  emptyMemory,
  type HpaMemory,
  planResourceMetric,
  planValueMetric,
  type PodUsage,
  stabilize,
} from './hpa-plan.ts';
import { withCondition } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, recorderOf } from './runtime.ts';

const scalable: Record<string, KindRef> = {
  'apps/Deployment': kinds.Deployment,
  'apps/StatefulSet': kinds.StatefulSet,
  'apps/ReplicaSet': kinds.ReplicaSet,
  '/ReplicationController': kinds.ReplicationController,
};

/** What one metric asks for, and what the status shows of it. */
type Measured =
  | { replicas: number; current: MetricStatus; error?: undefined }
  | { error: { reason: string; message: string } };

class HpaController {
  readonly #context: ControllerContext;
  readonly #autoscalers: Informer<HorizontalPodAutoscaler>;
  readonly #pods: Informer<Pod>;
  readonly #recorder: EventRecorder;
  readonly #memory = new Map<string, HpaMemory>();
  readonly queue: WorkQueue;

  readonly #syncPeriodMs: number;

  constructor(context: ControllerContext, syncPeriodMs: number) {
    this.#context = context;
    this.#syncPeriodMs = syncPeriodMs;
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

  async #targetKind(reference: CrossVersionObjectReference): Promise<KindRef> {
    const { group, version } = groupVersionOf(reference.apiVersion ?? 'v1');
    const known = scalable[`${group}/${reference.kind}`];
    if (known !== undefined) return known;
    const { resources } = await discoverResources(this.#context.client);
    const found = resources.find(({ kind }) => kind.group === group && kind.kind === reference.kind)?.kind;
    return found === undefined
      ? kindOf(reference.apiVersion ?? 'v1', `${reference.kind.toLowerCase()}s`, reference.kind)
      : { ...found, version };
  }

  async #scale(hpa: HorizontalPodAutoscaler, key: string): Promise<void> {
    const { client, clock } = this.#context;
    const nowMs = clock.now();
    let conditions: HorizontalPodAutoscalerCondition[] = hpa.status?.conditions ?? [];
    const set = (type: string, status: string, reason: string, message: string): void => {
      conditions = withCondition(conditions, { type, status, reason, message }, nowMs);
    };
    const namespace = hpa.metadata.namespace;
    const reference = hpa.spec.scaleTargetRef;
    const target = await this.#targetKind(reference);
    let scale: Scale;
    try {
      scale = await client.getSubresource(target, 'scale', reference.name, namespace);
    } catch (error) {
      const message = `the HPA controller was unable to get the target's current scale: ${messageOf(error)}`;
      set('AbleToScale', 'False', 'FailedGetScale', message);
      this.#recorder.event(hpa, 'Warning', 'FailedGetScale', messageOf(error));
      await this.#writeStatus(key, { desiredReplicas: 0, ...hpa.status, conditions });
      return;
    }
    const current: number = scale.spec?.replicas ?? 0;
    set('AbleToScale', 'True', 'SucceededGetScale', "the HPA controller was able to get the target's current scale");
    const memory = this.#memory.get(hpa.metadata.uid) ?? emptyMemory();
    let desired = current;
    let metrics = hpa.status?.currentMetrics ?? [];
    const [least, most]: [number, number] = [hpa.spec.minReplicas ?? 1, hpa.spec.maxReplicas];
    if (current === 0 && least !== 0) {
      set(
        'ScalingActive',
        'False',
        'ScalingDisabled',
        'scaling is disabled since the replica count of the target is zero',
      );
    } else if (current > most) {
      desired = most;
    } else if (current < least) {
      desired = least;
    } else {
      const outcome = await this.#compute(hpa, scale, current, nowMs);
      metrics = outcome.metrics;
      if (outcome.error !== undefined) {
        set('ScalingActive', 'False', outcome.error.reason, outcome.error.message);
        this.#recorder.event(
          hpa,
          'Warning',
          outcome.error.reason,
          outcome.error.message.replace(/^the HPA was unable to compute the replica count: /, ''),
        );
      } else {
        set(
          'ScalingActive',
          'True',
          'ValidMetricFound',
          `the HPA was able to successfully calculate a replica count from ${outcome.source}`,
        );
      }
      if (outcome.replicas !== undefined && (outcome.error === undefined || outcome.replicas > current)) {
        const verdict = stabilize(hpa, current, outcome.replicas, memory, nowMs);
        desired = verdict.replicas;
        this.#memory.set(hpa.metadata.uid, verdict.memory);
        set('AbleToScale', 'True', verdict.ableToScale.reason, verdict.ableToScale.message);
        set('ScalingLimited', verdict.limited.status, verdict.limited.reason, verdict.limited.message);
      }
    }
    let lastScaleTime: string | undefined = hpa.status?.lastScaleTime;
    if (desired !== current) {
      await client.updateSubresource(target, 'scale', { ...scale, spec: { ...scale.spec, replicas: desired } });
      lastScaleTime = timestamp(nowMs);
      set(
        'AbleToScale',
        'True',
        'SucceededRescale',
        `the HPA controller was able to update the target scale to ${desired}`,
      );
      const why =
        current > most
          ? 'Current number of replicas above Spec.MaxReplicas'
          : current < least
            ? 'Current number of replicas below Spec.MinReplicas'
            : desired > current
              ? `${describeMetric(hpa)} above target`
              : 'All metrics below target';
      this.#recorder.event(hpa, 'Normal', 'SuccessfulRescale', `New size: ${desired}; reason: ${why}`);
    }
    await this.#writeStatus(key, {
      ...(hpa.metadata.generation === undefined ? {} : { observedGeneration: hpa.metadata.generation }),
      ...(lastScaleTime === undefined ? {} : { lastScaleTime }),
      currentReplicas: current,
      desiredReplicas: desired,
      ...(metrics.length === 0 ? {} : { currentMetrics: metrics }),
      conditions,
    });
  }

  async #writeStatus(key: string, status: HorizontalPodAutoscalerStatus): Promise<void> {
    const current = this.#autoscalers.get(key);
    if (current === undefined || isEqualStatus(current.status, status)) return;
    await this.#context.client.update(kinds.HorizontalPodAutoscaler, { ...current, status }, { subresource: 'status' });
  }

  /** The largest number that any metric asks for; with a failing metric only growing is allowed. */
  async #compute(
    hpa: HorizontalPodAutoscaler,
    scale: Scale,
    current: number,
    nowMs: number,
  ): Promise<{
    replicas?: number;
    metrics: MetricStatus[];
    source: string;
    error?: { reason: string; message: string };
  }> {
    const specs: MetricSpec[] = hpa.spec.metrics ?? [
      { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 80 } } },
    ];
    const selector = parseLabelSelector(scale.status?.selector ?? '');
    const pods = [...this.#pods.by('namespace', hpa.metadata.namespace)].filter((pod) =>
      matchesLabels(selector, pod.metadata.labels),
    );
    let replicas: number | undefined;
    let error: { reason: string; message: string } | undefined;
    let source = '';
    const metrics: MetricStatus[] = [];
    let usages: Map<string, PodUsage> | undefined;
    for (const spec of specs) {
      let outcome: Measured;
      try {
        if (spec.type === 'Resource' || spec.type === 'ContainerResource')
          usages ??= await this.#podUsages(hpa.metadata.namespace, scale.status?.selector ?? '');
        outcome = await this.#one(hpa, spec, pods, usages ?? new Map(), scale, current, nowMs);
      } catch (caught) {
        outcome = {
          error: {
            reason: `FailedGet${spec.type}Metric`,
            message: `the HPA was unable to compute the replica count: ${messageOf(caught)}`,
          },
        };
      }
      if (outcome.error !== undefined) {
        error ??= outcome.error;
        continue;
      }
      metrics.push(outcome.current);
      if (replicas === undefined || outcome.replicas > replicas) {
        replicas = outcome.replicas;
        source = describeSpec(spec);
      }
    }
    return {
      metrics,
      source,
      ...(replicas === undefined ? {} : { replicas }),
      ...(error === undefined ? {} : { error }),
    };
  }

  async #podUsages(namespace: string, selector: string): Promise<Map<string, PodUsage>> {
    const { items } = await this.#context.client.list(kinds.PodMetrics, { namespace, labelSelector: selector });
    const usages = new Map<string, PodUsage>();
    for (const item of items) {
      const containers: PodUsage['containers'] = {};
      for (const { name, usage } of item.containers)
        containers[name] = Object.fromEntries(
          Object.entries(usage).map(([resource, amount]) => [
            resource,
            resource === 'cpu' ? milliOf(amount) : wholeOf(amount) * 1000,
          ]),
        );
      usages.set(item.metadata.name ?? '', { timestampMs: Date.parse(item.timestamp ?? ''), containers });
    }
    return usages;
  }

  async #one(
    hpa: HorizontalPodAutoscaler,
    spec: MetricSpec,
    pods: readonly Pod[],
    usages: ReadonlyMap<string, PodUsage>,
    scale: Scale,
    current: number,
    nowMs: number,
  ): Promise<Measured> {
    const namespace = hpa.metadata.namespace;
    const { resource, containerResource, external, pods: ofPods, object } = spec;
    const source = resource ?? containerResource;
    if (source !== undefined) {
      const outcome = planResourceMetric({
        pods,
        usages,
        resource: source.name,
        ...(containerResource === undefined ? {} : { container: containerResource.container }),
        target: source.target,
        currentReplicas: current,
        nowMs,
      });
      if (outcome.error !== undefined) return outcome;
      return {
        replicas: outcome.replicas,
        current:
          containerResource === undefined
            ? { type: 'Resource', resource: { name: source.name, current: outcome.current } }
            : {
                type: 'ContainerResource',
                containerResource: {
                  name: source.name,
                  container: containerResource.container,
                  current: outcome.current,
                },
              },
      };
    }
    if (external !== undefined) {
      const { metric, target } = external;
      const values = await this.#values(`/apis/external.metrics.k8s.io/v1beta1/namespaces/${namespace}/${metric.name}`);
      const total = values.reduce((sum, value) => sum + value, 0);
      const replicas =
        target.type === 'AverageValue'
          ? averageReplicas(total, milliOf(target.averageValue ?? '0'), current)
          : planValueMetric(total, milliOf(target.value ?? '0'), current);
      return {
        replicas,
        current: {
          type: 'External',
          external: {
            metric,
            current:
              target.type === 'AverageValue'
                ? { averageValue: `${Math.round(total / Math.max(1, current))}m` }
                : { value: `${total}m` },
          },
        },
      };
    }
    const custom = `/apis/custom.metrics.k8s.io/v1beta2/namespaces/${namespace}`;
    if (ofPods !== undefined) {
      const { metric, target } = ofPods;
      const selector = encodeURIComponent(scale.status?.selector ?? '');
      const values = await this.#values(`${custom}/pods/*/${metric.name}?labelSelector=${selector}`);
      const total = values.reduce((sum, value) => sum + value, 0);
      return {
        replicas: averageReplicas(total, milliOf(target.averageValue ?? '0'), Math.max(values.length, 1)),
        current: {
          type: 'Pods',
          pods: { metric, current: { averageValue: `${Math.round(total / Math.max(1, values.length))}m` } },
        },
      };
    }
    if (object === undefined) throw new Error(`a metric of type ${spec.type} has no source`);
    const { metric, target, describedObject } = object;
    const path = `${describedObject.kind.toLowerCase()}s/${describedObject.name}/${metric.name}`;
    const total = (await this.#values(`${custom}/${path}`)).reduce((sum, value) => sum + value, 0);
    const replicas =
      target.type === 'AverageValue'
        ? averageReplicas(total, milliOf(target.averageValue ?? '0'), current)
        : planValueMetric(total, milliOf(target.value ?? '0'), current);
    return {
      replicas,
      current: { type: 'Object', object: { metric, describedObject, current: { value: `${total}m` } } },
    };
  }

  /** What a metrics API lists (ExternalMetricValueList, MetricValueList), in thousandths. */
  async #values(path: string): Promise<number[]> {
    const list: unknown = await this.#context.client.raw('GET', path);
    return itemsOf(fieldOf(list, 'items')).map((item) => {
      const value = fieldOf(item, 'value');
      return isQuantity(value) ? milliOf(value) : 0;
    });
  }
}

function averageReplicas(total: number, target: number, current: number): number {
  const ratio = total / (target * current);
  return Math.abs(1 - ratio) <= 0.1 ? current : Math.ceil(total / target - 1e-9);
}

function describeSpec({ resource, containerResource, external, pods, object }: MetricSpec): string {
  const ofRequest = ({ type }: MetricTarget): string =>
    type === 'Utilization' ? ' utilization (percentage of request)' : '';
  if (resource !== undefined) return `${resource.name} resource${ofRequest(resource.target)}`;
  if (containerResource !== undefined)
    return `${containerResource.name} container resource${ofRequest(containerResource.target)}`;
  if (external !== undefined)
    return `external metric ${external.metric.name}(${JSON.stringify(external.metric.selector ?? null)})`;
  return pods !== undefined
    ? `pods metric ${pods.metric.name}`
    : `${object?.describedObject.kind} metric ${object?.metric.name}`;
}

function describeMetric(hpa: HorizontalPodAutoscaler): string {
  const spec = hpa.spec.metrics?.[0];
  return spec === undefined ? 'cpu resource utilization (percentage of request)' : describeSpec(spec);
}

export function startHpaController(context: ControllerContext, syncPeriodMs = 15_000): Controller {
  const controller = new HpaController(context, syncPeriodMs);
  return { name: 'hpa', queues: [controller.queue] };
}
