/**
 * What a Job's Pods count for: which are active, which have ended how, and which of these have been counted. Pure.
 *
 * Exactness: Pods carry a finalizer until they are counted. A finished Pod's UID is first written to
 * `status.uncountedTerminatedPods`, then its finalizer goes, then the UID moves into the counters. A death at any line
 * repeats a step and never counts twice.
 */
import type { Job } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { parseIndexes } from './job-indexes.ts';
import { failureActionOf } from './job-policy.ts';
import { isPodTerminal } from './pods.ts';

export const jobFinalizer = 'batch.kubernetes.io/job-tracking';
export const indexAnnotation = 'batch.kubernetes.io/job-completion-index';
export interface JobObserved {
  job: Job;
  pods: Pod[];
  /** Pods (UIDs) that the controller itself took away, uncounted: they are no failures that the next Pod waits for. */
  takenAway?: ReadonlySet<string>;
}
export function indexOf(pod: Pod): number | undefined {
  const text = pod.metadata.annotations?.[indexAnnotation] ?? pod.metadata.labels?.[indexAnnotation];
  return text === undefined ? undefined : Number(text);
}

export const hasFinalizer = (pod: Pod): boolean => pod.metadata.finalizers?.includes(jobFinalizer) === true;

export interface Tally {
  active: Pod[];
  succeeded: Pod[];
  failed: Pod[];
  terminating: number;
}

/**
 * With the default policy a Pod that is being deleted has failed; with `podReplacementPolicy: Failed` only when it has
 * ended.
 */
export function tallyPods({ job, pods, takenAway }: JobObserved): Tally {
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

export interface Counted {
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
export function countPods({ job, pods }: JobObserved, tally: Tally, indexed: boolean): Counted {
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
