/**
 * What a Job does next: which Pods it makes and takes away, and when it has come to its end. What its Pods count for:
 * `job-count.ts`. Pure; back-off is derived from the finish times of failed Pods, so nothing must be remembered.
 * Spec: Kubernetes documentation, "Jobs" (completion modes, back-off, failure and success policies, suspension).
 */
import type { Job, JobCondition, JobStatus } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { timestamp } from '#base/timestamp.ts';
import {
  type Counted,
  countPods,
  hasFinalizer,
  indexOf,
  type JobObserved,
  type Tally,
  tallyPods,
} from './job-count.ts';
import { formatIndexes } from './job-indexes.ts';
import { successOf } from './job-policy.ts';
import { burstPodsMax } from './limits.ts';
import { byAge, type Condition, isPodReady, isPodTerminal, withCondition } from './pods.ts';

const backoffFirstMs = 10_000;
const backoffMsMax = 360_000;

export interface JobPlan {
  /** The status to write first; undefined when it is as it should be. */
  status: JobStatus;
  /** Pods whose finalizer may go once that status is written. */
  releaseFinalizer: Pod[];
  create: (number | undefined)[];
  delete: Pod[];
  /**
   * The finalizer of those to delete goes first: the Job itself takes them away (suspended, fewer wanted), so they are
   * no failures.
   */
  deleteUncounted: boolean;
  requeueAfterMs?: number;
  events: { type: 'Normal' | 'Warning'; reason: string; message: string }[];
}

function finishedMs(pod: Pod): number {
  let latest = 0;
  for (const status of pod.status?.containerStatuses ?? [])
    latest = Math.max(latest, Date.parse(status.state?.terminated?.finishedAt ?? '') || 0);
  const ready = (pod.status?.conditions ?? []).find(({ type }) => type === 'Ready')?.lastTransitionTime;
  return latest || Date.parse(ready ?? pod.metadata.deletionTimestamp ?? pod.metadata.creationTimestamp ?? '') || 0;
}

interface Ending {
  type: 'Complete' | 'Failed';
  reason: string;
  message: string;
}

function endingOf(job: Job, { tally, counted, isIndexed, nowMs }: Sighting): Ending | undefined {
  const { spec } = job;
  const failed = counted.failed + counted.uncounted.failed.length;
  const succeeded = counted.succeeded + counted.uncounted.succeeded.length;
  if (counted.failJob !== undefined) return { type: 'Failed', reason: 'PodFailurePolicy', message: counted.failJob };
  const success = isIndexed ? successOf(job, formatIndexes(counted.completed)) : undefined;
  if (success !== undefined) return { type: 'Complete', reason: 'SuccessPolicy', message: success };
  const restarts =
    spec.template.spec.restartPolicy === 'OnFailure'
      ? [...tally.active].reduce(
          (sum, pod) =>
            sum +
            (pod.status?.containerStatuses ?? []).reduce((total, status) => total + (status.restartCount ?? 0), 0),
          0,
        )
      : 0;
  const limit: number = spec.backoffLimit ?? (spec.backoffLimitPerIndex === undefined ? 6 : 2_147_483_647);
  if (failed > limit || (restarts > 0 && (limit === 0 ? restarts > 0 : restarts >= limit)))
    return { type: 'Failed', reason: 'BackoffLimitExceeded', message: 'Job has reached the specified backoff limit' };
  const start = Date.parse(job.status?.startTime ?? '');
  if (
    spec.activeDeadlineSeconds !== undefined &&
    spec.suspend !== true &&
    nowMs - start >= spec.activeDeadlineSeconds * 1000
  )
    return { type: 'Failed', reason: 'DeadlineExceeded', message: 'Job was active longer than specified deadline' };
  if (isIndexed && spec.maxFailedIndexes !== undefined && counted.failedIndexes.size > spec.maxFailedIndexes)
    return {
      type: 'Failed',
      reason: 'MaxFailedIndexesExceeded',
      message: 'Job has exceeded the specified maximal number of failed indexes',
    };
  if (
    isIndexed &&
    counted.failedIndexes.size > 0 &&
    counted.failedIndexes.size + counted.completed.size >= (spec.completions ?? 0) &&
    tally.active.length === 0
  )
    return { type: 'Failed', reason: 'FailedIndexes', message: 'Job has failed indexes' };
  const complete =
    spec.completions === undefined || spec.completions === null
      ? succeeded > 0 && tally.active.length === 0
      : succeeded >= spec.completions;
  return complete
    ? { type: 'Complete', reason: 'CompletionsReached', message: 'Reached expected number of succeeded pods' }
    : undefined;
}

export function isJobFinished(job: Job): boolean {
  return (job.status?.conditions ?? []).some(
    ({ type, status }) => (type === 'Complete' || type === 'Failed') && status === 'True',
  );
}

/** A Job as it is seen now, and what its Pods count for. */
interface Sighting extends JobObserved {
  tally: Tally;
  counted: Counted;
  isIndexed: boolean;
  nowMs: number;
}

export function planJob(observed: JobObserved, nowMs: number): JobPlan {
  const { job, pods } = observed;
  const before: JobStatus = job.status ?? {};
  const plan: JobPlan = {
    status: before,
    releaseFinalizer: [],
    create: [],
    delete: [],
    deleteUncounted: false,
    events: [],
  };
  if (isJobFinished(job)) {
    plan.releaseFinalizer = pods.filter(hasFinalizer);
    return plan;
  }
  const isIndexed = job.spec.completionMode === 'Indexed';
  const tally = tallyPods(observed);
  const counted = countPods(observed, tally, isIndexed);
  const seen: Sighting = { ...observed, tally, counted, isIndexed, nowMs };
  plan.releaseFinalizer = counted.release;
  const progress = planSuspension(job, nowMs, plan);
  const isSuspended = job.spec.suspend === true;
  const ending =
    pendingEnding(progress.conditions) ??
    (isSuspended ? undefined : endingOf({ ...job, status: { ...before, ...startOf(progress) } }, seen));
  if (ending !== undefined || isSuspended) {
    plan.delete = tally.active;
    plan.deleteUncounted = ending === undefined;
  } else planRunning(seen, plan);
  if (ending !== undefined) announceEnding(ending, seen, progress, plan);
  plan.status = statusOf(seen, progress, plan);
  const { activeDeadlineSeconds } = job.spec;
  if (activeDeadlineSeconds !== undefined && progress.startTime !== undefined && ending === undefined && !isSuspended)
    plan.requeueAfterMs = Math.min(
      plan.requeueAfterMs ?? Infinity,
      Math.max(0, Date.parse(progress.startTime) + activeDeadlineSeconds * 1000 - nowMs),
    );
  return plan;
}

/** What the status says of the Job's course. */
interface Progress {
  conditions: JobCondition[];
  startTime: string | undefined;
  completionTime: string | undefined;
}

const startOf = ({ startTime }: Progress): Pick<JobStatus, 'startTime'> =>
  startTime === undefined ? {} : { startTime };

/** Time begins anew when a suspended Job goes on. */
function planSuspension({ spec, status }: Job, nowMs: number, plan: JobPlan): Progress {
  const conditions: JobCondition[] = status?.conditions ?? [];
  const isSuspended = spec.suspend === true;
  const wasSuspended = conditions.some((held) => held.type === 'Suspended' && held.status === 'True');
  const startTime = status?.startTime ?? (isSuspended ? undefined : timestamp(nowMs));
  if (isSuspended === wasSuspended) return { conditions, startTime, completionTime: undefined };
  const change = isSuspended
    ? ({ status: 'True', reason: 'JobSuspended', message: 'Job suspended' } as const)
    : ({ status: 'False', reason: 'JobResumed', message: 'Job resumed' } as const);
  plan.events.push({ type: 'Normal', reason: isSuspended ? 'Suspended' : 'Resumed', message: change.message });
  return {
    conditions: withCondition(conditions, { type: 'Suspended', ...change }, nowMs),
    startTime: isSuspended ? startTime : timestamp(nowMs),
    completionTime: undefined,
  };
}

/** The verdict is announced at once; it is final only when every Pod has ended and is counted. */
function announceEnding(
  ending: Ending,
  { pods, tally, counted, nowMs }: Sighting,
  progress: Progress,
  plan: JobPlan,
): void {
  const { type, reason, message } = ending;
  const set = (name: string): void => {
    progress.conditions = withCondition(progress.conditions, { type: name, status: 'True', reason, message }, nowMs);
  };
  set(type === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget');
  const isSettled =
    tally.active.length === 0 &&
    tally.terminating === 0 &&
    counted.uncounted.succeeded.length + counted.uncounted.failed.length === 0 &&
    pods.every((pod) => !hasFinalizer(pod) || counted.release.includes(pod));
  if (!isSettled) return;
  set(type);
  if (type === 'Complete') {
    progress.completionTime = timestamp(nowMs);
    plan.events.push({ type: 'Normal', reason: 'Completed', message: 'Job completed' });
  } else plan.events.push({ type: 'Warning', reason, message });
}

function statusOf({ job, tally, counted, isIndexed }: Sighting, progress: Progress, plan: JobPlan): JobStatus {
  const { conditions, completionTime } = progress;
  const active = tally.active.length - plan.delete.length;
  const { uncounted } = counted;
  return {
    ...(conditions.length === 0 ? {} : { conditions }),
    ...startOf(progress),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(active + plan.create.length === 0 ? {} : { active }),
    ready: tally.active.filter((pod) => !plan.delete.includes(pod) && isPodReady(pod)).length,
    terminating: tally.terminating + plan.delete.length,
    ...(counted.succeeded === 0 ? {} : { succeeded: counted.succeeded }),
    ...(counted.failed === 0 ? {} : { failed: counted.failed }),
    ...(isIndexed ? { completedIndexes: formatIndexes(counted.completed) } : {}),
    ...(job.spec.backoffLimitPerIndex === undefined ? {} : { failedIndexes: formatIndexes(counted.failedIndexes) }),
    uncountedTerminatedPods: {
      ...(uncounted.succeeded.length === 0 ? {} : { succeeded: uncounted.succeeded }),
      ...(uncounted.failed.length === 0 ? {} : { failed: uncounted.failed }),
    },
  };
}

/** An ending that was already announced stays what it is. */
function pendingEnding(conditions: readonly Condition[]): Ending | undefined {
  for (const { type, status, reason, message } of conditions) {
    if (status !== 'True') continue;
    if (type === 'SuccessCriteriaMet') return { type: 'Complete', reason: reason ?? '', message: message ?? '' };
    if (type === 'FailureTarget') return { type: 'Failed', reason: reason ?? '', message: message ?? '' };
  }
  return undefined;
}

/** How many Pods to add or take away while the Job runs. */
function planRunning(seen: Sighting, plan: JobPlan): void {
  const { job, tally, counted, isIndexed, nowMs } = seen;
  const { spec } = job;
  const parallelism: number = spec.parallelism ?? 1;
  const succeeded = counted.succeeded + counted.uncounted.succeeded.length;
  const waiting = spec.podReplacementPolicy === 'Failed' || spec.podFailurePolicy !== undefined ? tally.terminating : 0;
  let wanted: number;
  if (spec.completions === undefined || spec.completions === null)
    wanted = succeeded > 0 ? tally.active.length : parallelism;
  else wanted = Math.min(parallelism, Math.max(0, spec.completions - succeeded));
  const misplaced = isIndexed ? misplacedPods(job, tally) : [];
  const surplus = Math.max(tally.active.length - wanted, misplaced.length);
  if (surplus > 0) {
    // Those that have no place go first, then those that run least.
    const order = (pod: Pod): number => (misplaced.includes(pod) ? 0 : isPodReady(pod) ? 2 : 1);
    plan.delete = tally.active.toSorted((a, b) => order(a) - order(b) || -byAge(a, b)).slice(0, surplus);
    plan.deleteUncounted = true;
    return;
  }
  const missing = Math.min(wanted - tally.active.length - waiting, burstPodsMax);
  if (missing <= 0) return;
  if (isIndexed && spec.backoffLimitPerIndex !== undefined) {
    planPerIndex(seen, missing, plan);
    return;
  }
  const delayMs = backoffMsFor([...tally.succeeded, ...tally.failed], nowMs);
  if (delayMs > 0) {
    plan.requeueAfterMs = delayMs;
    return;
  }
  plan.create = isIndexed ? freeIndexes(seen, missing) : Array.from({ length: missing }, () => undefined);
}

/** Active Pods of an index that there is no more, or that an older Pod has as well. */
function misplacedPods(job: Job, tally: Tally): Pod[] {
  const held = new Set<number>();
  return tally.active.toSorted(byAge).filter((pod) => {
    const index = indexOf(pod);
    if (index === undefined || index >= (job.spec.completions ?? 0) || held.has(index)) return true;
    held.add(index);
    return false;
  });
}

function freeIndexes({ job, tally, counted }: Sighting, count: number): number[] {
  const taken = new Set(tally.active.map(indexOf));
  const free: number[] = [];
  for (let index = 0; index < (job.spec.completions ?? 0) && free.length < count; index++) {
    if (!taken.has(index) && !counted.completed.has(index) && !counted.failedIndexes.has(index)) free.push(index);
  }
  return free;
}

function planPerIndex(seen: Sighting, missing: number, plan: JobPlan): void {
  const { job, pods, nowMs } = seen;
  for (const index of freeIndexes(seen, job.spec.completions ?? 0)) {
    if (plan.create.length >= missing) return;
    const delayMs = backoffMsFor(
      pods.filter(
        (pod) => indexOf(pod) === index && (isPodTerminal(pod) || pod.metadata.deletionTimestamp !== undefined),
      ),
      nowMs,
    );
    if (delayMs === 0) plan.create.push(index);
    else plan.requeueAfterMs = Math.min(plan.requeueAfterMs ?? Infinity, delayMs);
  }
}

/** How long to wait before the next Pod: 10 s after the first failure since a success, doubled for each further one. */
function backoffMsFor(finished: readonly Pod[], nowMs: number): number {
  const ended = finished
    .map((pod) => ({ failed: pod.status?.phase !== 'Succeeded', atMs: finishedMs(pod) }))
    .sort((a, b) => a.atMs - b.atMs);
  let failures = 0;
  for (const { failed } of ended) failures = failed ? failures + 1 : 0;
  if (failures === 0) return 0;
  return Math.max(0, ended.at(-1)!.atMs + Math.min(backoffFirstMs * 2 ** (failures - 1), backoffMsMax) - nowMs);
}
