/**
 * What shall run to an end: Jobs, Pods by themselves that do not restart for ever, and the runs of CronJobs. Finished
 * Jobs may be deleted (history limits, time to live), so what was last seen of each is kept.
 */
import type { CronJob, Job, JobCondition } from '#api/batch.v1.ts';
import type { Pod } from '#api/core.v1.ts';
import { keyOf } from '#client/informer.ts';
import { parseSchedule } from '#controllers/cronjob.ts';
import { conditionOf, createdMs, isPodTerminal } from '#controllers/pods.ts';
import type { CronJobReport, JobReport, JobVerdict } from './types.ts';

const scheduledAnnotation = 'batch.kubernetes.io/cronjob-scheduled-timestamp';
/** A run that falls due so shortly before the end is not waited for. */
const lastRunMs = 10_000;

interface Run {
  object: Job | Pod;
  isGone: boolean;
  /** A Pod that was told to stop before it was done: however it then ends. */ isLost: boolean;
  cronJob: string | undefined;
  failedPods: Set<string>;
  livePods: Map<string, Pod>;
}

/**
 * A Job's end is announced first; the last word waits for Pods that are still terminating, on a dead node for ever
 * (documentation, "Jobs": terminal conditions).
 */
function endOf(job: Job): JobCondition | undefined {
  return ['SuccessCriteriaMet', 'FailureTarget', 'Complete', 'Failed']
    .map((type) => conditionOf(job, type))
    .find((condition) => condition?.status === 'True');
}

/** Why a Job or a Pod has failed. */
function whyFailed(object: Job | Pod): string {
  if (object.kind === 'Pod') return whyPodFailed(object);
  const end = endOf(object);
  return end === undefined ? 'failed' : `${end.reason}: ${end.message}`;
}

/** When the last word was said: until then a CronJob takes its run for active. */
function finalMsOf({ object }: Run): number {
  if (object.kind === 'Pod') return Infinity;
  const final = ['Complete', 'Failed']
    .map((type) => conditionOf(object, type))
    .find((condition) => condition?.status === 'True');
  return final === undefined ? Infinity : Date.parse(final.lastTransitionTime ?? '');
}

function endMsOf({ object }: Run): number | undefined {
  if (object.kind === 'Pod') {
    const ended = (object.status?.containerStatuses ?? [])
      .map(({ state }) => Date.parse(state?.terminated?.finishedAt ?? ''))
      .filter((ms) => !Number.isNaN(ms));
    return isPodTerminal(object) && ended.length > 0 ? Math.max(...ended) : undefined;
  }
  const end = endOf(object);
  return end === undefined ? undefined : Date.parse(end.lastTransitionTime ?? '');
}

function outcomeOf({ object, isGone, isLost }: Run): 'succeeded' | 'failed' | 'lost' | undefined {
  if (object.kind === 'Pod') {
    const phase = object.status?.phase;
    if (isLost) return 'lost';
    return phase === 'Succeeded' ? 'succeeded' : phase === 'Failed' ? 'failed' : isGone ? 'lost' : undefined;
  }
  const end = endOf(object)?.type;
  return end === undefined
    ? isGone
      ? 'lost'
      : undefined
    : end === 'Complete' || end === 'SuccessCriteriaMet'
      ? 'succeeded'
      : 'failed';
}

export class Jobs {
  readonly #runs = new Map<string, Run>();
  readonly #cronJobs = new Map<string, CronJob>();
  readonly #now: () => number;
  readonly #note: (what: string) => void;

  constructor(now: () => number, note: (what: string) => void) {
    this.#now = now;
    this.#note = note;
  }

  seeCronJob(cronJob: CronJob): void {
    this.#cronJobs.set(keyOf(cronJob), cronJob);
  }
  unseeCronJob(cronJob: CronJob): void {
    this.#cronJobs.delete(keyOf(cronJob));
  }

  /** A Job, or a Pod that nobody owns, came or changed. */
  see(object: Job | Pod): void {
    const { uid } = object.metadata;
    const owner = object.metadata.ownerReferences?.find(({ controller }) => controller === true);
    const run = this.#runs.get(uid) ?? {
      object,
      isGone: false,
      isLost: false,
      cronJob: owner?.kind === 'CronJob' ? `${object.metadata.namespace}/${owner.name}` : undefined,
      failedPods: new Set<string>(),
      livePods: new Map<string, Pod>(),
    };
    const before = outcomeOf(run);
    run.object = object;
    this.#runs.set(uid, run);
    if (
      object.kind === 'Pod' &&
      before === undefined &&
      object.metadata.deletionTimestamp !== undefined &&
      !isPodTerminal(object)
    ) {
      run.isLost = true;
      this.#note(`Pod ${keyOf(object)} is deleted before it was done: nothing makes it again`);
    }
    if (before === undefined && outcomeOf(run) === 'failed')
      this.#note(
        `${object.kind} ${keyOf(object)} failed: ${object.kind === 'Job' ? endOf(object)?.reason : whyFailed(object)}`,
      );
  }

  unsee(object: Job | Pod): void {
    const run = this.#runs.get(object.metadata.uid);
    if (run === undefined) return;
    const before = outcomeOf(run);
    run.isGone = true;
    if (object.kind === 'Pod' && before === undefined)
      this.#note(`Pod ${keyOf(object)} is gone before it was done: nothing makes it again`);
  }

  /** A Pod of a Job came or changed. */
  seePod(jobUid: string, pod: Pod): void {
    const run = this.#runs.get(jobUid);
    if (run === undefined) return;
    const { uid } = pod.metadata;
    const phase = pod.status?.phase;
    if (phase === 'Succeeded') {
      run.livePods.delete(uid);
      return;
    }
    run.livePods.set(uid, pod);
    if (outcomeOf(run) !== undefined || (phase !== 'Failed' && pod.metadata.deletionTimestamp === undefined)) return;
    run.livePods.delete(uid);
    if (run.failedPods.has(uid)) return;
    run.failedPods.add(uid);
    this.#note(
      `Job ${keyOf(run.object)}: Pod ${pod.metadata.name} ${phase === 'Failed' ? 'failed' : 'is deleted before it was done'}`,
    );
  }

  unseePod(jobUid: string, pod: Pod): void {
    this.#runs.get(jobUid)?.livePods.delete(pod.metadata.uid);
  }

  /** Jobs and Pods that no CronJob has made. `why` says why a Pod is not ready. */
  reportJobs(why: (pod: Pod) => string): JobReport[] {
    const single = [...this.#runs.values()].filter(({ cronJob }) => cronJob === undefined);
    return single
      .map((run): JobReport => {
        const { object, failedPods, livePods } = run;
        const failures =
          object.kind === 'Job' ? Math.max(failedPods.size, object.status?.failed ?? 0) : failedPods.size;
        const startMs = Date.parse(object.status?.startTime ?? '') || createdMs(object);
        const outcome = outcomeOf(run);
        const pods = object.kind === 'Pod' ? [object] : [...livePods.values()];
        const isSuspended = object.kind === 'Job' && object.spec.suspend === true;
        const runs = isSuspended || pods.some((pod) => pod.status?.phase === 'Running');
        const verdict: JobVerdict =
          outcome === 'succeeded'
            ? failures > 0
              ? 'done after failures'
              : 'done'
            : (outcome ?? (runs ? 'running' : 'stuck'));
        const reason =
          verdict === 'failed'
            ? whyFailed(object)
            : verdict === 'lost'
              ? 'gone before it was done, and nothing makes it again'
              : verdict === 'stuck'
                ? pods[0] === undefined
                  ? 'it has no Pod'
                  : why(pods[0])
                : undefined;
        return {
          kind: object.kind,
          namespace: object.metadata.namespace,
          name: object.metadata.name,
          failedPods: failures,
          seconds: Math.ceil(Math.max(0, (endMsOf(run) ?? this.#now()) - startMs) / 1000),
          ...(reason === undefined ? {} : { why: reason }),
          verdict,
        };
      })
      .sort((a, b) => (`${a.kind} ${a.namespace}/${a.name}` < `${b.kind} ${b.namespace}/${b.name}` ? -1 : 1));
  }

  reportCronJobs(startMs: number): CronJobReport[] {
    return [...this.#cronJobs.entries()]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, cronJob]) => {
        const runs = [...this.#runs.values()].filter((run) => run.cronJob === key);
        const byTime = new Map(
          runs.map((run) => [Date.parse(run.object.metadata.annotations?.[scheduledAnnotation] ?? ''), run]),
        );
        const due = dueTimes(cronJob, startMs, this.#now() - lastRunMs);
        const started = [...byTime].filter(([atMs]) => atMs > startMs).map(([, run]) => run);
        const missed = due
          .filter((atMs) => !byTime.has(atMs))
          .map((atMs) => ({ atSeconds: Math.round((atMs - startMs) / 1000), why: whyMissed(cronJob, runs, atMs) }));
        const succeeded = started.filter((run) => outcomeOf(run) === 'succeeded').length;
        const failed = started.filter((run) => outcomeOf(run) === 'failed').length;
        const longestMs = Math.max(0, ...started.map((run) => (endMsOf(run) ?? this.#now()) - createdMs(run.object)));
        const verdict =
          due.length > 0 &&
          succeeded === 0 &&
          started.every((run) => outcomeOf(run) !== undefined || this.#now() - createdMs(run.object) > lastRunMs * 60)
            ? 'never succeeded'
            : failed > 0
              ? 'failed runs'
              : missed.length > 0
                ? 'missed runs'
                : 'ok';
        return {
          namespace: cronJob.metadata.namespace,
          name: cronJob.metadata.name,
          due: due.length,
          started: started.length,
          succeeded,
          failed,
          missed,
          longestSeconds: Math.ceil(longestMs / 1000),
          verdict,
        };
      });
  }
}

function whyPodFailed({ status = {} }: Pod): string {
  const { reason, message, containerStatuses = [] } = status;
  if (reason !== undefined) return message === undefined ? reason : `${reason}: ${message}`;
  const exited = containerStatuses.find(({ state }) => (state?.terminated?.exitCode ?? 0) !== 0);
  return exited === undefined
    ? 'failed'
    : `container ${exited.name} ended with exit code ${exited.state?.terminated?.exitCode}`;
}

/** When runs fall due after `startMs`, or after it was made, and before `endMs`. */
function dueTimes(cronJob: CronJob, startMs: number, endMs: number): number[] {
  if (cronJob.spec.suspend === true) return [];
  const schedule = parseSchedule(cronJob.spec.schedule, cronJob.spec.timeZone);
  const times: number[] = [];
  for (
    let next = schedule.next(Math.max(startMs, createdMs(cronJob)));
    next !== undefined && next < endMs;
    next = schedule.next(next)
  )
    times.push(next);
  return times;
}

function whyMissed({ spec }: CronJob, runs: readonly Run[], atMs: number): string {
  const { concurrencyPolicy, startingDeadlineSeconds } = spec;
  if (concurrencyPolicy === 'Forbid' && runs.some((run) => createdMs(run.object) < atMs && finalMsOf(run) > atMs))
    return 'the run before was still going (concurrencyPolicy Forbid)';
  return startingDeadlineSeconds === undefined
    ? 'the controllers could not start it in time, and a later run took its place'
    : `not started within startingDeadlineSeconds (${startingDeadlineSeconds} s)`;
}
