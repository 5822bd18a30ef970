/**
 * From the number of replicas that the metrics ask for to what may be set now: stabilization windows, rate policies and
 * the bounds of the autoscaler. Pure; what must be remembered (recommendations and past scalings) is `HpaMemory`. Spec:
 * Kubernetes documentation, "Horizontal Pod Autoscaling" (configurable scaling behavior).
 */
import type { HorizontalPodAutoscaler } from '#api/autoscaling.v2.ts';

const downStabilizationSecondsDefault = 300;
const windowMsMax = 3_600_000;

interface Scaling {
  atMs: number;
  change: number;
}

export interface HpaMemory {
  recommendations: { atMs: number; replicas: number }[];
  scaleUps: Scaling[];
  scaleDowns: Scaling[];
}

export function emptyMemory(): HpaMemory {
  return { recommendations: [], scaleUps: [], scaleDowns: [] };
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

function changedWithin(events: readonly Scaling[], periodSeconds: number, nowMs: number): number {
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

type Limited = { status: 'True' | 'False'; reason: string; message: string };

export interface Verdict {
  replicas: number;
  memory: HpaMemory;
  ableToScale: { reason: string; message: string };
  limited: Limited;
}

/** From the raw number to what may be set now. */
export function stabilize(input: {
  hpa: HorizontalPodAutoscaler;
  current: number;
  raw: number;
  before: HpaMemory;
  nowMs: number;
}): Verdict {
  const { hpa, current, raw, before, nowMs } = input;
  const [up, down] = [rulesOf(hpa, 'scaleUp'), rulesOf(hpa, 'scaleDown')];
  const recommendations = [
    ...before.recommendations.filter(({ atMs }) => nowMs - atMs <= windowMsMax),
    { atMs: nowMs, replicas: raw },
  ];
  const within = ({ stabilizationSeconds }: Rules): number[] =>
    recommendations.flatMap(({ atMs, replicas }) => (nowMs - atMs <= stabilizationSeconds * 1000 ? [replicas] : []));
  const stable = Math.min(Math.max(current, Math.min(raw, ...within(up))), Math.max(raw, ...within(down)));
  const paced = limitRate(stable, current, {
    upper: () => upperLimit(up, before, current, nowMs),
    lower: () => lowerLimit(down, before, current, nowMs),
  });
  const { replicas, limited } = limitRange(hpa, paced);
  const kept = (events: Scaling[]): Scaling[] => events.filter(({ atMs }) => nowMs - atMs <= windowMsMax);
  const memory: HpaMemory = { recommendations, scaleUps: kept(before.scaleUps), scaleDowns: kept(before.scaleDowns) };
  if (replicas > current) memory.scaleUps.push({ atMs: nowMs, change: replicas - current });
  if (replicas < current) memory.scaleDowns.push({ atMs: nowMs, change: current - replicas });
  return { replicas, memory, ableToScale: stabilityOf(stable, raw), limited };
}

function stabilityOf(stable: number, raw: number): Verdict['ableToScale'] {
  if (stable === raw) return { reason: 'ReadyForNewScale', message: 'recommended size matches current size' };
  return raw < stable
    ? {
        reason: 'ScaleDownStabilized',
        message: 'recent recommendations were higher than current one, applying the highest recent recommendation',
      }
    : {
        reason: 'ScaleUpStabilized',
        message: 'recent recommendations were lower than current one, applying the lowest recent recommendation',
      };
}

interface Bounded {
  replicas: number;
  limited: Limited;
}

/** The rate policies: how far one step may go. */
function limitRate(stable: number, current: number, limits: { upper(): number; lower(): number }): Bounded {
  if (stable > current && stable > limits.upper())
    return {
      replicas: Math.max(current, limits.upper()),
      limited: {
        status: 'True',
        reason: 'ScaleUpLimit',
        message: 'the desired replica count is increasing faster than the maximum scale rate',
      },
    };
  if (stable < current && stable < limits.lower())
    return {
      replicas: Math.min(current, limits.lower()),
      limited: {
        status: 'True',
        reason: 'ScaleDownLimit',
        message: 'the desired replica count is decreasing faster than the maximum scale rate',
      },
    };
  return {
    replicas: stable,
    limited: {
      status: 'False',
      reason: 'DesiredWithinRange',
      message: 'the desired count is within the acceptable range',
    },
  };
}

function limitRange({ spec }: HorizontalPodAutoscaler, paced: Bounded): Bounded {
  const least = spec.minReplicas ?? 1;
  if (Math.min(paced.replicas, spec.maxReplicas) < least)
    return {
      replicas: least,
      limited: {
        status: 'True',
        reason: 'TooFewReplicas',
        message: 'the desired replica count is less than the minimum replica count',
      },
    };
  if (paced.replicas <= spec.maxReplicas) return paced;
  return {
    replicas: spec.maxReplicas,
    limited: {
      status: 'True',
      reason: 'TooManyReplicas',
      message: 'the desired replica count is more than the maximum replica count',
    },
  };
}
