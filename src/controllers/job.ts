/**
 * The Job controller: runs Pods to completion and counts each exactly once.
 *
 * Exactness: Pods carry a finalizer until they are counted. A finished Pod's UID is first written to
 * `status.uncountedTerminatedPods`,
 * then its finalizer goes, then the UID moves into the counters. A death at any line repeats a step and never counts
 * twice.
 * `planJob` is pure; back-off is derived from the finish times of failed Pods, so nothing must be remembered.
 * Spec: Kubernetes documentation, "Jobs" (completion modes, back-off, failure and success policies, suspension).
 */
import type { Job, JobCondition, JobStatus } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import { parseIndexes, formatIndexes } from './job-indexes.ts';
import { failureActionOf, successOf } from './job-policy.ts';
import { burstPodsMax } from './limits.ts';
import { byAge, type Condition, isPodReady, isPodTerminal, withCondition } from './pods.ts';

export const jobFinalizer = 'batch.kubernetes.io/job-tracking';
export const indexAnnotation = 'batch.kubernetes.io/job-completion-index';
const backoffFirstMs = 10_000;
const backoffMsMax = 360_000;

export interface JobObserved {
  job: Job;
  pods: Pod[];
  /** Pods (UIDs) that the controller itself took away, uncounted: they are no failures that the next Pod waits for. */
  takenAway?: ReadonlySet<string>;
}
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

export function indexOf(pod: KubeObject): number | undefined {
  const text = pod.metadata.annotations?.[indexAnnotation] ?? pod.metadata.labels?.[indexAnnotation];
  return text === undefined ? undefined : Number(text);
}

const hasFinalizer = (pod: Pod): boolean => pod.metadata.finalizers?.includes(jobFinalizer) === true;

function finishedMs(pod: Pod): number {
  let latest = 0;
  for (const status of pod.status?.containerStatuses ?? [])
    latest = Math.max(latest, Date.parse(status.state?.terminated?.finishedAt ?? '') || 0);
  const ready = (pod.status?.conditions ?? []).find(({ type }) => type === 'Ready')?.lastTransitionTime;
  return latest || Date.parse(ready ?? pod.metadata.deletionTimestamp ?? pod.metadata.creationTimestamp ?? '') || 0;
}

interface Tally {
  active: Pod[];
  succeeded: Pod[];
  failed: Pod[];
  terminating: number;
}

/**
 * With the default policy a Pod that is being deleted has failed; with `podReplacementPolicy: Failed` only when it has
 * ended.
 */
function tallyPods({ job, pods, takenAway }: JobObserved): Tally {
  const waitForEnd = job.spec.podReplacementPolicy === 'Failed' || job.spec.podFailurePolicy !== undefined;
  const tally: Tally = { active: [], succeeded: [], failed: [], terminating: 0 };
  for (const pod of pods) {
    const phase = pod.status?.phase;
    if (phase === 'Succeeded') tally.succeeded.push(pod);
    else if (phase === 'Failed' && takenAway?.has(pod.metadata.uid) === true) continue;
    else if (phase === 'Failed') tally.failed.push(pod);
    else if (pod.metadata.deletionTimestamp !== undefined) {
      tally.terminating++;
      if (!waitForEnd && takenAway?.has(pod.metadata.uid) !== true) tally.failed.push(pod);
    } else tally.active.push(pod);
  }
  return tally;
}

interface Counted {
  succeeded: number;
  failed: number;
  uncounted: { succeeded: string[]; failed: string[] };
  completed: Set<number>;
  failedIndexes: Set<number>;
  release: Pod[];
  ignored: number;
  failJob?: string;
}

/** Moves finished Pods one step: unseen → uncounted → counted. */
function countPods({ job, pods }: JobObserved, tally: Tally, indexed: boolean): Counted {
  const status = job.status ?? {};
  const completions: number = job.spec.completions ?? 0;
  const byUid = new Map(pods.map((pod) => [pod.metadata.uid, pod]));
  const counted: Counted = {
    succeeded: status.succeeded ?? 0,
    failed: status.failed ?? 0,
    uncounted: { succeeded: [], failed: [] },
    completed: parseIndexes(status.completedIndexes, completions),
    failedIndexes: parseIndexes(status.failedIndexes, completions),
    release: [],
    ignored: 0,
  };
  const held = {
    succeeded: new Set<string>(status.uncountedTerminatedPods?.succeeded ?? []),
    failed: new Set<string>(status.uncountedTerminatedPods?.failed ?? []),
  };
  for (const outcome of ['succeeded', 'failed'] as const) {
    for (const uid of held[outcome]) {
      const pod = byUid.get(uid);
      if (pod !== undefined && hasFinalizer(pod)) {
        counted.uncounted[outcome].push(uid);
        counted.release.push(pod);
      } else counted[outcome]++;
    }
  }
  // Noted once is noted for good: a Pod that counts as failed because it was deleted may end well before its finalizer
  // is off.
  const isNoted = ({ metadata }: Pod): boolean => held.succeeded.has(metadata.uid) || held.failed.has(metadata.uid);
  for (const pod of tally.succeeded) {
    const index = indexOf(pod);
    if (!hasFinalizer(pod) || isNoted(pod)) continue;
    counted.release.push(pod);
    if (!indexed) counted.uncounted.succeeded.push(pod.metadata.uid);
    else if (index !== undefined && index < completions) counted.completed.add(index);
  }
  for (const pod of tally.failed) {
    if (!hasFinalizer(pod) || isNoted(pod)) continue;
    const action =
      isPodTerminal(pod) || job.spec.podFailurePolicy === undefined ? failureActionOf(job, pod) : { action: 'Count' };
    counted.release.push(pod);
    if (action.action === 'Ignore') {
      counted.ignored++;
      continue;
    }
    if (action.failJob !== undefined) counted.failJob ??= action.failJob;
    counted.uncounted.failed.push(pod.metadata.uid);
    const index = indexOf(pod);
    if (
      index !== undefined &&
      (action.action === 'FailIndex' || failuresOfIndex(job, pod) >= (job.spec.backoffLimitPerIndex ?? Infinity))
    )
      counted.failedIndexes.add(index);
  }
  if (indexed) counted.succeeded = counted.completed.size;
  return counted;
}

/** How often this index had failed before this Pod. */
function failuresOfIndex(job: Job, pod: Pod): number {
  if (job.spec.backoffLimitPerIndex === undefined) return -1;
  return Number(pod.metadata.annotations?.['batch.kubernetes.io/job-index-failure-count'] ?? 0);
}

interface Ending {
  type: 'Complete' | 'Failed';
  reason: string;
  message: string;
}

function endingOf(job: Job, tally: Tally, counted: Counted, nowMs: number): Ending | undefined {
  const { spec } = job;
  const failed = counted.failed + counted.uncounted.failed.length;
  const succeeded = counted.succeeded + counted.uncounted.succeeded.length;
  const indexed = spec.completionMode === 'Indexed';
  if (counted.failJob !== undefined) return { type: 'Failed', reason: 'PodFailurePolicy', message: counted.failJob };
  const success = indexed ? successOf(job, formatIndexes(counted.completed)) : undefined;
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
  if (indexed && spec.maxFailedIndexes !== undefined && counted.failedIndexes.size > spec.maxFailedIndexes)
    return {
      type: 'Failed',
      reason: 'MaxFailedIndexesExceeded',
      message: 'Job has exceeded the specified maximal number of failed indexes',
    };
  if (
    indexed &&
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

export function planJob(observed: JobObserved, nowMs: number): JobPlan {
  const { job, pods } = observed;
  const { spec } = job;
  const indexed = spec.completionMode === 'Indexed';
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
  const tally = tallyPods(observed);
  const counted = countPods(observed, tally, indexed);
  plan.releaseFinalizer = counted.release;
  let conditions: JobCondition[] = before.conditions ?? [];
  const suspended = spec.suspend === true;
  let startTime: string | undefined = before.startTime;
  const wasSuspended = conditions.some(({ type, status }) => type === 'Suspended' && status === 'True');
  if (startTime === undefined && !suspended) startTime = timestamp(nowMs);
  if (suspended && !wasSuspended) {
    conditions = withCondition(
      conditions,
      { type: 'Suspended', status: 'True', reason: 'JobSuspended', message: 'Job suspended' },
      nowMs,
    );
    plan.events.push({ type: 'Normal', reason: 'Suspended', message: 'Job suspended' });
  } else if (!suspended && wasSuspended) {
    conditions = withCondition(
      conditions,
      { type: 'Suspended', status: 'False', reason: 'JobResumed', message: 'Job resumed' },
      nowMs,
    );
    startTime = timestamp(nowMs);
    plan.events.push({ type: 'Normal', reason: 'Resumed', message: 'Job resumed' });
  }
  const ending =
    pendingEnding(conditions) ??
    (suspended
      ? undefined
      : endingOf(
          { ...job, status: { ...before, ...(startTime === undefined ? {} : { startTime }) } },
          tally,
          counted,
          nowMs,
        ));
  if (ending !== undefined || suspended) {
    plan.delete = tally.active;
    plan.deleteUncounted = ending === undefined;
  } else planRunning(observed, tally, counted, indexed, nowMs, plan);
  const active = tally.active.length - plan.delete.length;
  let completionTime: string | undefined;
  if (ending !== undefined) {
    const early = ending.type === 'Complete' ? 'SuccessCriteriaMet' : 'FailureTarget';
    conditions = withCondition(
      conditions,
      { type: early, status: 'True', reason: ending.reason, message: ending.message },
      nowMs,
    );
    // The verdict is final only when every Pod has ended and is counted.
    const settled =
      tally.active.length === 0 &&
      tally.terminating === 0 &&
      counted.uncounted.succeeded.length + counted.uncounted.failed.length === 0 &&
      pods.every((pod) => !hasFinalizer(pod) || counted.release.includes(pod));
    if (settled) {
      conditions = withCondition(
        conditions,
        { type: ending.type, status: 'True', reason: ending.reason, message: ending.message },
        nowMs,
      );
      if (ending.type === 'Complete') {
        completionTime = timestamp(nowMs);
        plan.events.push({ type: 'Normal', reason: 'Completed', message: 'Job completed' });
      } else plan.events.push({ type: 'Warning', reason: ending.reason, message: ending.message });
    }
  }
  plan.status = {
    ...(conditions.length === 0 ? {} : { conditions }),
    ...(startTime === undefined ? {} : { startTime }),
    ...(completionTime === undefined ? {} : { completionTime }),
    ...(active + plan.create.length === 0 ? {} : { active }),
    ready: tally.active.filter((pod) => !plan.delete.includes(pod) && isPodReady(pod)).length,
    terminating: tally.terminating + plan.delete.length,
    ...(counted.succeeded === 0 ? {} : { succeeded: counted.succeeded }),
    ...(counted.failed === 0 ? {} : { failed: counted.failed }),
    ...(indexed ? { completedIndexes: formatIndexes(counted.completed) } : {}),
    ...(spec.backoffLimitPerIndex === undefined ? {} : { failedIndexes: formatIndexes(counted.failedIndexes) }),
    uncountedTerminatedPods: {
      ...(counted.uncounted.succeeded.length === 0 ? {} : { succeeded: counted.uncounted.succeeded }),
      ...(counted.uncounted.failed.length === 0 ? {} : { failed: counted.uncounted.failed }),
    },
  };
  if (spec.activeDeadlineSeconds !== undefined && startTime !== undefined && ending === undefined && !suspended) {
    plan.requeueAfterMs = Math.min(
      plan.requeueAfterMs ?? Infinity,
      Math.max(0, Date.parse(startTime) + spec.activeDeadlineSeconds * 1000 - nowMs),
    );
  }
  return plan;
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
function planRunning(
  { job, pods }: JobObserved,
  tally: Tally,
  counted: Counted,
  indexed: boolean,
  nowMs: number,
  plan: JobPlan,
): void {
  const { spec } = job;
  const parallelism: number = spec.parallelism ?? 1;
  const succeeded = counted.succeeded + counted.uncounted.succeeded.length;
  const waiting = spec.podReplacementPolicy === 'Failed' || spec.podFailurePolicy !== undefined ? tally.terminating : 0;
  let wanted: number;
  if (spec.completions === undefined || spec.completions === null)
    wanted = succeeded > 0 ? tally.active.length : parallelism;
  else wanted = Math.min(parallelism, Math.max(0, spec.completions - succeeded));
  const misplaced = indexed ? misplacedPods(job, tally) : [];
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
  if (indexed && spec.backoffLimitPerIndex !== undefined) {
    planPerIndex(job, pods, tally, counted, missing, nowMs, plan);
    return;
  }
  const delayMs = backoffMsFor([...tally.succeeded, ...tally.failed], nowMs);
  if (delayMs > 0) {
    plan.requeueAfterMs = delayMs;
    return;
  }
  plan.create = indexed ? freeIndexes(job, tally, counted, missing) : Array.from({ length: missing }, () => undefined);
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

function freeIndexes(job: Job, tally: Tally, counted: Counted, count: number): number[] {
  const taken = new Set(tally.active.map(indexOf));
  const free: number[] = [];
  for (let index = 0; index < (job.spec.completions ?? 0) && free.length < count; index++) {
    if (!taken.has(index) && !counted.completed.has(index) && !counted.failedIndexes.has(index)) free.push(index);
  }
  return free;
}

function planPerIndex(
  job: Job,
  pods: readonly Pod[],
  tally: Tally,
  counted: Counted,
  missing: number,
  nowMs: number,
  plan: JobPlan,
): void {
  for (const index of freeIndexes(job, tally, counted, job.spec.completions ?? 0)) {
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
