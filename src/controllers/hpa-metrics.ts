/**
 * How many replicas a metric asks for (HorizontalPodAutoscaler): from usage and target to a number. Pure. Spec:
 * Kubernetes documentation, "Horizontal Pod Autoscaling" (algorithm details).
 */
import type { MetricTarget, MetricValueStatus } from '#api/autoscaling.v2.ts';
import type { Pod } from '#api/core.v1.ts';
import { milliOf } from '#base/quantity.ts';
import { conditionOf, createdMs, isPodReady } from './pods.ts';

const toleranceDefault = 0.1;
const cpuInitializationMs = 300_000;
const initialReadinessDelayMs = 30_000;

export interface PodUsage {
  timestampMs: number;
  containers: Record<string, Record<string, number>>;
}

/**
 * Request of a resource over a Pod's containers (or one of them), in thousandths; undefined where some container has
 * none.
 */
function requestOf(pod: Pod, resource: string, container: string | undefined): number | undefined {
  let sum = 0;
  for (const { name, resources } of pod.spec.containers) {
    if (container !== undefined && name !== container) continue;
    const text: string | undefined = resources?.requests?.[resource];
    if (text === undefined) return undefined;
    sum += milliOf(text);
  }
  return sum;
}

function usageOf(usage: PodUsage, resource: string, container: string | undefined): number | undefined {
  if (container !== undefined) return usage.containers[container]?.[resource];
  let sum: number | undefined;
  for (const amounts of Object.values(usage.containers))
    if (amounts[resource] !== undefined) sum = (sum ?? 0) + amounts[resource];
  return sum;
}

interface Group {
  ready: Pod[];
  unready: Pod[];
  missing: Pod[];
}

/** Which Pods count fully, which as not ready yet, which lack metrics; failed and leaving ones do not count. */
function groupPods(
  pods: readonly Pod[],
  usages: ReadonlyMap<string, PodUsage>,
  resource: string,
  nowMs: number,
): Group {
  const group: Group = { ready: [], unready: [], missing: [] };
  for (const pod of pods) {
    if (pod.metadata.deletionTimestamp !== undefined || pod.status?.phase === 'Failed') continue;
    const usage = usages.get(pod.metadata.name);
    if (pod.status?.phase === 'Pending') group.unready.push(pod);
    else if (usage === undefined) group.missing.push(pod);
    else if (resource === 'cpu' && isUnready(pod, usage, nowMs)) group.unready.push(pod);
    else group.ready.push(pod);
  }
  return group;
}

function isUnready(pod: Pod, usage: PodUsage, nowMs: number): boolean {
  const condition = conditionOf(pod, 'Ready');
  const start = Date.parse(pod.status?.startTime ?? '') || createdMs(pod);
  const changed = Date.parse(condition?.lastTransitionTime ?? '') || start;
  if (nowMs < start + cpuInitializationMs) return !isPodReady(pod) || usage.timestampMs < changed;
  return !isPodReady(pod) && changed < start + initialReadinessDelayMs;
}

export interface MetricResult {
  replicas: number;
  current: MetricValueStatus;
  error?: undefined;
}
export type MetricOutcome = MetricResult | { error: { reason: string; message: string } };

/** Replicas for a resource metric (of all containers or one). `target` as in `spec.metrics[].resource.target`. */
export function planResourceMetric(input: {
  pods: readonly Pod[];
  usages: ReadonlyMap<string, PodUsage>;
  resource: string;
  container?: string;
  target: MetricTarget;
  currentReplicas: number;
  nowMs: number;
}): MetricOutcome {
  const { pods, usages, resource, container, target, currentReplicas, nowMs } = input;
  const group = groupPods(pods, usages, resource, nowMs);
  const isRatio = target.type === 'Utilization';
  const requests = new Map<Pod, number>();
  if (isRatio) {
    for (const pod of [...group.ready, ...group.unready, ...group.missing]) {
      const request = requestOf(pod, resource, container);
      if (request === undefined)
        return failed(
          `missing request for ${resource} in container ${container ?? pod.spec.containers[0]?.name} of Pod ${pod.metadata.name}`,
        );
      requests.set(pod, request);
    }
  }
  if (group.ready.length + group.unready.length === 0 || usages.size === 0)
    return failed(`unable to get metrics for resource ${resource}: no metrics returned from resource metrics API`);
  const wanted = isRatio ? (target.averageUtilization ?? 0) / 100 : milliOf(target.averageValue ?? '0');
  const ratioOf = (list: { pod: Pod; usage: number }[]): number => {
    const usage = list.reduce((sum, entry) => sum + entry.usage, 0);
    const base = isRatio ? list.reduce((sum, { pod }) => sum + requests.get(pod)!, 0) : list.length;
    return base === 0 ? 0 : usage / base / wanted;
  };
  const measured = group.ready.map((pod) => ({
    pod,
    usage: usageOf(usages.get(pod.metadata.name)!, resource, container) ?? 0,
  }));
  const ratio = measured.length === 0 ? 1 : ratioOf(measured);
  const usage = measured.reduce((sum, entry) => sum + entry.usage, 0);
  const average = measured.length === 0 ? 0 : usage / measured.length;
  const requested = measured.reduce((sum, { pod }) => sum + (requests.get(pod) ?? 0), 0);
  const current = {
    averageValue: formatMilli(average, resource),
    ...(isRatio && requested > 0 ? { averageUtilization: Math.trunc((usage * 100) / requested) } : {}),
  };
  if (measured.length === 0) return failed(`unable to get metrics for resource ${resource}: no ready pods`);
  const within = (value: number): boolean => Math.abs(1 - value) <= toleranceDefault;
  if (group.missing.length + (ratio > 1 ? group.unready.length : 0) === 0) {
    return { replicas: within(ratio) ? currentReplicas : Math.ceil(ratio * measured.length - 1e-9), current };
  }
  // Pods without metrics count so that they damp: as idle when growing, as full when shrinking.
  const assumed = [...measured];
  for (const pod of group.missing)
    assumed.push({ pod, usage: ratio < 1 ? (isRatio ? requests.get(pod)! : wanted) : 0 });
  if (ratio > 1) for (const pod of group.unready) assumed.push({ pod, usage: 0 });
  const damped = ratioOf(assumed);
  if (within(damped) || (ratio < 1 && damped > 1) || (ratio > 1 && damped < 1))
    return { replicas: currentReplicas, current };
  const replicas = Math.ceil(damped * assumed.length - 1e-9);
  if ((damped < 1 && replicas > currentReplicas) || (damped > 1 && replicas < currentReplicas))
    return { replicas: currentReplicas, current };
  return { replicas, current };
}

function failed(message: string): MetricOutcome {
  return {
    error: {
      reason: 'FailedGetResourceMetric',
      message: `the HPA was unable to compute the replica count: ${message}`,
    },
  };
}

function formatMilli(milli: number, resource: string): string {
  if (resource === 'cpu') return `${Math.round(milli)}m`;
  return String(Math.round(milli / 1000));
}

/** One current value against a target for all Pods together (external and object metrics). */
export function planValueMetric(value: number, target: number, currentReplicas: number): number {
  const ratio = target === 0 ? 1 : value / target;
  return Math.abs(1 - ratio) <= toleranceDefault ? currentReplicas : Math.ceil(currentReplicas * ratio - 1e-9);
}

/** An average over `current` Pods against a target average. */
export function averageReplicas(total: number, target: number, current: number): number {
  const ratio = total / (target * current);
  return Math.abs(1 - ratio) <= toleranceDefault ? current : Math.ceil(total / target - 1e-9);
}
