/**
 * How many replicas each ReplicaSet of a Deployment shall have next: rolling update, recreate and proportional scaling.
 * Pure. Spec: Kubernetes documentation, "Deployments" (Strategy, Proportional scaling).
 */
import type { Deployment, ReplicaSet } from '#api/apps.v1.ts';
import type { IntOrString } from '#api/meta.v1.ts';
import { byAge } from './pods.ts';

export interface ScaleStep {
  replicaSet: ReplicaSet;
  replicas: number;
}

/** A number or a percentage of `total`. */
export function resolveIntOrPercent(value: IntOrString | undefined, total: number, roundUp: boolean): number {
  if (typeof value === 'number') return value;
  const percent = Number(String(value ?? '0').replace('%', ''));
  const exact = (percent * total) / 100;
  return roundUp ? Math.ceil(exact) : Math.floor(exact);
}

export interface RollingBounds {
  maxSurge: number;
  maxUnavailable: number;
}

/** Surge rounds up and unavailability down; both zero would never move, so one may then be unavailable. */
export function rollingBounds(deployment: Deployment): RollingBounds {
  const { spec } = deployment;
  if (spec.strategy?.type === 'Recreate') return { maxSurge: 0, maxUnavailable: 0 };
  const rolling = spec.strategy?.rollingUpdate ?? {};
  const replicas: number = spec.replicas ?? 1;
  const maxSurge = resolveIntOrPercent(rolling.maxSurge ?? '25%', replicas, true);
  const maxUnavailable = resolveIntOrPercent(rolling.maxUnavailable ?? '25%', replicas, false);
  return maxSurge === 0 && maxUnavailable === 0
    ? { maxSurge, maxUnavailable: 1 }
    : { maxSurge, maxUnavailable: Math.min(maxUnavailable, replicas) };
}

const sizeOf = (replicaSet: ReplicaSet): number => replicaSet.spec.replicas ?? 1;
/** A status may still count Pods that the size no longer includes: they are on their way out. */
const availableOf = (replicaSet: ReplicaSet): number =>
  Math.min(replicaSet.status?.availableReplicas ?? 0, sizeOf(replicaSet));
const sum = (list: readonly ReplicaSet[], of: (replicaSet: ReplicaSet) => number): number =>
  list.reduce((total, item) => total + of(item), 0);

/** The size that the newest ReplicaSet may have now. */
export function newReplicaSetSize(
  deployment: Deployment,
  newest: ReplicaSet | undefined,
  all: readonly ReplicaSet[],
): number {
  const wanted: number = deployment.spec.replicas ?? 1;
  if (deployment.spec.strategy?.type === 'Recreate') return wanted;
  const current = newest === undefined ? 0 : sizeOf(newest);
  const total = sum(all, sizeOf);
  const most = wanted + rollingBounds(deployment).maxSurge;
  if (total >= most) return current;
  return current + Math.min(most - total, wanted - current);
}

/**
 * One round of a rolling update: first the newest grows, and when it cannot, the old ones shrink as far as availability
 * allows.
 */
export function planRolling(deployment: Deployment, newest: ReplicaSet, old: readonly ReplicaSet[]): ScaleStep[] {
  const wanted: number = deployment.spec.replicas ?? 1;
  if (sizeOf(newest) > wanted) return [{ replicaSet: newest, replicas: wanted }];
  if (sizeOf(newest) < wanted) {
    const size = newReplicaSetSize(deployment, newest, [...old, newest]);
    if (size !== sizeOf(newest)) return [{ replicaSet: newest, replicas: size }];
  }
  return planShrinkOld(deployment, newest, old);
}

function planShrinkOld(deployment: Deployment, newest: ReplicaSet, old: readonly ReplicaSet[]): ScaleStep[] {
  const wanted: number = deployment.spec.replicas ?? 1;
  const sizes = new Map(old.map((replicaSet) => [replicaSet, sizeOf(replicaSet)]));
  const oldTotal = sum(old, sizeOf);
  if (oldTotal === 0) return [];
  const leastAvailable = wanted - rollingBounds(deployment).maxUnavailable;
  const newUnavailable = sizeOf(newest) - availableOf(newest);
  let mayGo = oldTotal + sizeOf(newest) - leastAvailable - newUnavailable;
  if (mayGo <= 0) return [];
  // Those that never became available go first: they cost nothing.
  const oldestFirst = [...old].sort(byAge);
  for (const replicaSet of oldestFirst) {
    if (mayGo <= 0) break;
    const size = sizes.get(replicaSet)!;
    const unhealthy = Math.min(mayGo, size - availableOf(replicaSet));
    if (size === 0 || unhealthy <= 0) continue;
    sizes.set(replicaSet, size - unhealthy);
    mayGo -= unhealthy;
  }
  let spare = sum(old, availableOf) + availableOf(newest) - leastAvailable;
  for (const replicaSet of oldestFirst) {
    if (spare <= 0) break;
    const size = sizes.get(replicaSet)!;
    const shrink = Math.min(size, spare);
    if (size === 0 || shrink <= 0) continue;
    sizes.set(replicaSet, size - shrink);
    spare -= shrink;
  }
  return old
    .filter((replicaSet) => sizes.get(replicaSet) !== sizeOf(replicaSet))
    .map((replicaSet) => ({ replicaSet, replicas: sizes.get(replicaSet)! }));
}

/**
 * Scaling in the middle of a rollout, or while paused: the difference is spread over the ReplicaSets in proportion to
 * their sizes, so that what was available stays spread the same. With one active ReplicaSet it takes all.
 */
export function planProportional(
  deployment: Deployment,
  all: readonly ReplicaSet[],
  newest: ReplicaSet | undefined,
  desiredBefore: (replicaSet: ReplicaSet) => number | undefined,
): ScaleStep[] {
  const wanted: number = deployment.spec.replicas ?? 1;
  const active = all.filter((replicaSet) => sizeOf(replicaSet) > 0);
  const single =
    active.length === 0 ? (newest ?? all.toSorted(byAge).at(-1)) : active.length === 1 ? active[0] : undefined;
  if (single !== undefined) return sizeOf(single) === wanted ? [] : [{ replicaSet: single, replicas: wanted }];
  if (newest !== undefined && sizeOf(newest) === wanted && availableOf(newest) === wanted) {
    return active.filter((replicaSet) => replicaSet !== newest).map((replicaSet) => ({ replicaSet, replicas: 0 }));
  }
  if (deployment.spec.strategy?.type === 'Recreate' || active.length === 0) return [];
  const allowed = wanted > 0 ? wanted + rollingBounds(deployment).maxSurge : 0;
  const toAdd = allowed - sum(active, sizeOf);
  if (toAdd === 0) return [];
  // Biggest first; of equals the newest when growing, the oldest when shrinking.
  const ordered = active.toSorted((a, b) => sizeOf(b) - sizeOf(a) || (toAdd > 0 ? byAge(b, a) : byAge(a, b)));
  const sizes = ordered.map((replicaSet) => {
    const before = desiredBefore(replicaSet) ?? wanted;
    return { replicaSet, share: Math.round((sizeOf(replicaSet) * allowed) / Math.max(1, before)) - sizeOf(replicaSet) };
  });
  let left = toAdd;
  const steps = sizes.map(({ replicaSet, share }) => {
    const bounded = toAdd > 0 ? Math.max(0, Math.min(share, left)) : Math.min(0, Math.max(share, left));
    left -= bounded;
    return { replicaSet, replicas: sizeOf(replicaSet) + bounded };
  });
  if (steps.length > 0) steps[0]!.replicas = Math.max(0, steps[0]!.replicas + left);
  return steps.filter(({ replicaSet, replicas }) => replicas !== sizeOf(replicaSet));
}
