/**
 * A Deployment's status and conditions, as `kubectl rollout status` reads them. Pure.
 * Spec: Kubernetes documentation, "Deployment status" (progressing, complete, failed).
 */
import type { Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet } from '#api/apps.v1.ts';
import { rollingBounds } from './deployment-rolling.ts';
import { type Condition, withCondition } from './pods.ts';

export interface Counts {
  replicas: number;
  updatedReplicas: number;
  readyReplicas: number;
  availableReplicas: number;
  unavailableReplicas: number;
}

function countReplicas(all: readonly ReplicaSet[], newest: ReplicaSet | undefined): Counts {
  let [replicas, ready, available, wanted] = [0, 0, 0, 0];
  for (const { status, spec } of all) {
    replicas += status?.replicas ?? 0;
    ready += status?.readyReplicas ?? 0;
    available += status?.availableReplicas ?? 0;
    wanted += spec.replicas ?? 1;
  }
  return {
    replicas,
    updatedReplicas: newest?.status?.replicas ?? 0,
    readyReplicas: ready,
    availableReplicas: available,
    unavailableReplicas: Math.max(0, wanted - available),
  };
}

/** All replicas are of the newest template, available, and no old one is left. */
function isComplete(deployment: Deployment, counts: Counts): boolean {
  const wanted: number = deployment.spec.replicas ?? 1;
  return (
    counts.updatedReplicas === wanted &&
    counts.replicas === wanted &&
    counts.availableReplicas === wanted &&
    (deployment.status?.observedGeneration ?? 0) >= (deployment.metadata.generation ?? 0)
  );
}

function hasProgressed(deployment: Deployment, counts: Counts): boolean {
  const before = deployment.status ?? {};
  const oldBefore = (before.replicas ?? 0) - (before.updatedReplicas ?? 0);
  return (
    counts.updatedReplicas > (before.updatedReplicas ?? 0) ||
    counts.replicas - counts.updatedReplicas < oldBefore ||
    counts.readyReplicas > (before.readyReplicas ?? 0) ||
    counts.availableReplicas > (before.availableReplicas ?? 0)
  );
}

/** Nothing is timed by kubectl and by us alike when the deadline is the largest 32-bit number. */
const noDeadlineSeconds = 2_147_483_647;

function hasDeadline(deployment: Deployment): boolean {
  const seconds: number | undefined = deployment.spec.progressDeadlineSeconds;
  return seconds !== undefined && seconds !== noDeadlineSeconds;
}

export interface StatusPlan {
  status: DeploymentStatus;
  requeueAfterMs?: number;
  /** The rollout has just completed. */ complete: boolean;
}

export interface StatusInput {
  deployment: Deployment;
  all: readonly ReplicaSet[];
  newest: ReplicaSet | undefined;
  /** What happened in this round. */
  created?: string;
  found?: string;
  failure?: { reason: string; message: string };
  collisionCount?: number;
}

export function planDeploymentStatus(
  { deployment, all, newest, created, found, failure, collisionCount }: StatusInput,
  nowMs: number,
): StatusPlan {
  const counts = countReplicas(all, newest);
  const { spec } = deployment;
  const wanted: number = spec.replicas ?? 1;
  const complete = newest !== undefined && isComplete(deployment, counts);
  let conditions: DeploymentCondition[] = deployment.status?.conditions ?? [];
  const set = (condition: Condition): void => {
    conditions = withCondition(conditions, condition, nowMs, true);
  };
  const enough = counts.availableReplicas >= wanted - rollingBounds(deployment).maxUnavailable;
  set(
    enough
      ? {
          type: 'Available',
          status: 'True',
          reason: 'MinimumReplicasAvailable',
          message: 'Deployment has minimum availability.',
        }
      : {
          type: 'Available',
          status: 'False',
          reason: 'MinimumReplicasUnavailable',
          message: 'Deployment does not have minimum availability.',
        },
  );
  let requeueAfterMs: number | undefined;
  if (hasDeadline(deployment)) {
    const progress = planProgressing({ deployment, conditions, counts, complete, newest, created, found, nowMs });
    if (progress.remove) conditions = conditions.filter(({ type }) => type !== 'Progressing');
    else if (progress.condition !== undefined) {
      // Progress moves the clock of the deadline even where the words stay the same.
      if (progress.touch) conditions = touched(conditions, progress.condition, nowMs);
      set(progress.condition);
    }
    requeueAfterMs = progress.requeueAfterMs;
  }
  if (failure === undefined) conditions = conditions.filter(({ type }) => type !== 'ReplicaFailure');
  else set({ type: 'ReplicaFailure', status: 'True', ...failure });
  const collisions = collisionCount ?? deployment.status?.collisionCount;
  return {
    complete,
    status: {
      observedGeneration: deployment.metadata.generation ?? 0,
      ...counts,
      ...(collisions === undefined ? {} : { collisionCount: collisions }),
      conditions,
    },
    ...(requeueAfterMs === undefined ? {} : { requeueAfterMs }),
  };
}

function touched(conditions: Condition[], condition: Condition, nowMs: number): Condition[] {
  const at = `${new Date(nowMs).toISOString().slice(0, 19)}Z`;
  return conditions.map((held) =>
    held.type === condition.type && held.status === condition.status && held.reason === condition.reason
      ? { ...held, lastUpdateTime: at }
      : held,
  );
}

interface Progress {
  condition?: Condition;
  touch?: boolean;
  remove?: boolean;
  requeueAfterMs?: number;
}

interface ProgressInput {
  deployment: Deployment;
  conditions: Condition[];
  counts: Counts;
  complete: boolean;
  newest: ReplicaSet | undefined;
  created: string | undefined;
  found: string | undefined;
  nowMs: number;
}

function planProgressing({
  deployment,
  conditions,
  counts,
  complete,
  newest,
  created,
  found,
  nowMs,
}: ProgressInput): Progress {
  const held = conditions.find(({ type }) => type === 'Progressing');
  const name = newest?.metadata.name;
  const subject = name === undefined ? `Deployment "${deployment.metadata.name}"` : `ReplicaSet "${name}"`;
  const progressing = (reason: string, message: string, touch = false): Progress => ({
    condition: { type: 'Progressing', status: 'True', reason, message },
    touch,
  });
  const deadlineMs = (deployment.spec.progressDeadlineSeconds as number) * 1000;
  const paused = deployment.spec.paused === true;
  if (created !== undefined)
    return {
      ...progressing('NewReplicaSetCreated', `Created new replica set "${created}"`),
      requeueAfterMs: deadlineMs + 1000,
    };
  if (paused)
    return held?.reason === 'DeploymentPaused'
      ? {}
      : {
          condition: {
            type: 'Progressing',
            status: 'Unknown',
            reason: 'DeploymentPaused',
            message: 'Deployment is paused',
          },
        };
  if (held?.reason === 'DeploymentPaused')
    return {
      condition: {
        type: 'Progressing',
        status: 'Unknown',
        reason: 'DeploymentResumed',
        message: 'Deployment is resumed',
      },
      requeueAfterMs: deadlineMs + 1000,
    };
  if (held === undefined && found !== undefined)
    return progressing('FoundNewReplicaSet', `Found new replica set "${found}"`);
  const settled = counts.replicas === counts.updatedReplicas && held?.reason === 'NewReplicaSetAvailable';
  if (complete)
    return held?.reason === 'NewReplicaSetAvailable'
      ? {}
      : progressing('NewReplicaSetAvailable', `${subject} has successfully progressed.`);
  // A rollout that was complete stays so while Pods come and go; only a new one starts the clock.
  if (settled) return {};
  if (hasProgressed(deployment, counts))
    return {
      ...progressing('ReplicaSetUpdated', `${subject} is progressing.`, true),
      requeueAfterMs: deadlineMs + 1000,
    };
  if (held === undefined || held.reason === 'ProgressDeadlineExceeded') return {};
  const since = Date.parse(held.lastUpdateTime ?? held.lastTransitionTime ?? '1970-01-01T00:00:00Z');
  if (nowMs - since >= deadlineMs)
    return {
      condition: {
        type: 'Progressing',
        status: 'False',
        reason: 'ProgressDeadlineExceeded',
        message: `${subject} has timed out progressing.`,
      },
    };
  return { requeueAfterMs: since + deadlineMs - nowMs + 1000 };
}
