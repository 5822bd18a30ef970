/**
 * How many replicas a HorizontalPodAutoscaler wants: from metrics to a raw number, then through stabilization windows
 * and rate policies. Pure; what must be remembered (recommendations and past scalings) is `HpaMemory`. Spec: Kubernetes
 * documentation, "Horizontal Pod Autoscaling" (algorithm details, configurable scaling behavior).
 */
import type { HorizontalPodAutoscaler, MetricTarget, MetricValueStatus } from '#api/autoscaling.v2.ts';
import type { Pod } from '#api/core.v1.ts';
import { milliOf } from '#base/quantity.ts';
import { conditionOf, createdMs, isPodReady } from './pods.ts';

const toleranceDefault = 0.1;
const cpuInitializationMs = 300_000;
const initialReadinessDelayMs = 30_000;
const downStabilizationSecondsDefault = 300;

export interface PodUsage {
  timestampMs: number;
  containers: Record<string, Record<string, number>>;
}

export interface HpaMemory {
  recommendations: { atMs: number; replicas: number }[];
  scaleUps: { atMs: number; change: number }[];
  scaleDowns: { atMs: number; change: number }[];
}

export function emptyMemory(): HpaMemory {
  return { recommendations: [], scaleUps: [], scaleDowns: [] };
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

interface Rules {
  stabilizationSeconds: number;
  policies: { type: string; value: number; periodSeconds: number }[];
  select: string;
}

function rulesOf(hpa: HorizontalPodAutoscaler, direction: 'scaleUp' | 'scaleDown'): Rules {
  const rules = hpa.spec.behavior?.[direction] ?? {};
  const policies =
    direction === 'scaleUp'
      ? [
          { type: 'Pods', value: 4, periodSeconds: 15 },
          { type: 'Percent', value: 100, periodSeconds: 15 },
        ]
      : [{ type: 'Percent', value: 100, periodSeconds: 15 }];
  return {
    stabilizationSeconds:
      rules.stabilizationWindowSeconds ?? (direction === 'scaleUp' ? 0 : downStabilizationSecondsDefault),
    policies: rules.policies ?? policies,
    select: rules.selectPolicy ?? 'Max',
  };
}

function changedWithin(
  events: readonly { atMs: number; change: number }[],
  periodSeconds: number,
  nowMs: number,
): number {
  return events.reduce((sum, { atMs, change }) => (nowMs - atMs < periodSeconds * 1000 ? sum + change : sum), 0);
}

function upperLimit(rules: Rules, memory: HpaMemory, current: number, nowMs: number): number {
  if (rules.select === 'Disabled') return current;
  const limits = rules.policies.map(({ type, value, periodSeconds }) => {
    const start =
      current -
      changedWithin(memory.scaleUps, periodSeconds, nowMs) +
      changedWithin(memory.scaleDowns, periodSeconds, nowMs);
    return type === 'Pods' ? start + value : Math.ceil(start * (1 + value / 100));
  });
  return rules.select === 'Min' ? Math.min(...limits) : Math.max(...limits);
}

function lowerLimit(rules: Rules, memory: HpaMemory, current: number, nowMs: number): number {
  if (rules.select === 'Disabled') return current;
  const limits = rules.policies.map(({ type, value, periodSeconds }) => {
    const start =
      current -
      changedWithin(memory.scaleUps, periodSeconds, nowMs) +
      changedWithin(memory.scaleDowns, periodSeconds, nowMs);
    return type === 'Pods' ? start - value : Math.floor(start * (1 - value / 100));
  });
  return rules.select === 'Min' ? Math.max(...limits) : Math.min(...limits);
}

export interface Verdict {
  replicas: number;
  memory: HpaMemory;
  ableToScale: { reason: string; message: string };
  limited: { status: 'True' | 'False'; reason: string; message: string };
}

const windowMsMax = 3_600_000;

/** From the raw number to what may be set now. */
export function stabilize(
  hpa: HorizontalPodAutoscaler,
  current: number,
  raw: number,
  before: HpaMemory,
  nowMs: number,
): Verdict {
  const [up, down] = [rulesOf(hpa, 'scaleUp'), rulesOf(hpa, 'scaleDown')];
  const recommendations = [
    ...before.recommendations.filter(({ atMs }) => nowMs - atMs <= windowMsMax),
    { atMs: nowMs, replicas: raw },
  ];
  let least = raw;
  let most = raw;
  for (const { atMs, replicas } of recommendations) {
    if (nowMs - atMs <= up.stabilizationSeconds * 1000) least = Math.min(least, replicas);
    if (nowMs - atMs <= down.stabilizationSeconds * 1000) most = Math.max(most, replicas);
  }
  let stable = current;
  if (stable < least) stable = least;
  if (stable > most) stable = most;
  const ableToScale =
    stable === raw
      ? { reason: 'ReadyForNewScale', message: 'recommended size matches current size' }
      : raw < stable
        ? {
            reason: 'ScaleDownStabilized',
            message: 'recent recommendations were higher than current one, applying the highest recent recommendation',
          }
        : {
            reason: 'ScaleUpStabilized',
            message: 'recent recommendations were lower than current one, applying the lowest recent recommendation',
          };
  const least0: number = hpa.spec.minReplicas ?? 1;
  const most0: number = hpa.spec.maxReplicas;
  let limited: Verdict['limited'] = {
    status: 'False',
    reason: 'DesiredWithinRange',
    message: 'the desired count is within the acceptable range',
  };
  let replicas = stable;
  if (stable > current) {
    const limit = upperLimit(up, before, current, nowMs);
    if (replicas > limit) {
      replicas = Math.max(current, limit);
      limited = {
        status: 'True',
        reason: 'ScaleUpLimit',
        message: 'the desired replica count is increasing faster than the maximum scale rate',
      };
    }
  } else if (stable < current) {
    const limit = lowerLimit(down, before, current, nowMs);
    if (replicas < limit) {
      replicas = Math.min(current, limit);
      limited = {
        status: 'True',
        reason: 'ScaleDownLimit',
        message: 'the desired replica count is decreasing faster than the maximum scale rate',
      };
    }
  }
  if (replicas > most0) {
    replicas = most0;
    limited = {
      status: 'True',
      reason: 'TooManyReplicas',
      message: 'the desired replica count is more than the maximum replica count',
    };
  }
  if (replicas < least0) {
    replicas = least0;
    limited = {
      status: 'True',
      reason: 'TooFewReplicas',
      message: 'the desired replica count is less than the minimum replica count',
    };
  }
  const kept = (events: { atMs: number; change: number }[]): { atMs: number; change: number }[] =>
    events.filter(({ atMs }) => nowMs - atMs <= windowMsMax);
  const memory: HpaMemory = { recommendations, scaleUps: kept(before.scaleUps), scaleDowns: kept(before.scaleDowns) };
  if (replicas > current) memory.scaleUps.push({ atMs: nowMs, change: replicas - current });
  if (replicas < current) memory.scaleDowns.push({ atMs: nowMs, change: current - replicas });
  return { replicas, memory, ableToScale, limited };
}
