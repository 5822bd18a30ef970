/**
 * The CronJob controller: a Job at each time of a schedule, in a time zone.
 * Times are computed from the schedule and the last run, so that nothing is missed over a restart; of several missed
 * ones only the last runs. Spec: Kubernetes documentation, "CronJob" (concurrency policy, starting deadline, time
 * zones, history limits).
 */
import type { CronJob, CronJobSpec, CronJobStatus, Job } from '#api/batch.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { Cron } from 'croner';
import { isReason } from '#base/errors.ts';
import { timestamp } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import type { EventRecorder } from '#client/events.ts';
import { indexes, type Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ReconcileResult, WorkQueue } from '#client/work-queue.ts';
import { isEqualStatus } from './equality.ts';
import { isJobFinished } from './job.ts';
import { byAge, conditionOf } from './pods.ts';
import {
  type Controller,
  type ControllerContext,
  createQueue,
  deleteIfPresent,
  enqueueController,
  enqueueEach,
  forEachBounded,
  ownedBy,
  recorderOf,
} from './runtime.ts';

const missedTimesMax = 100;
const parsedSchedulesMax = 1_000;
/** The far end of what is searched for the next run: a schedule such as 30 February never comes. */
const minuteMs = 60_000;

export interface Schedule {
  /** The first time after `afterMs`; undefined when there is none. */ next(afterMs: number): number | undefined;
}

const descriptors: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};

/** A duration as `@every 1h30m` has it. */
function everyMs(text: string): number {
  const units: Record<string, number> = { h: 3_600_000, m: minuteMs, s: 1_000, ms: 1 };
  let total = 0;
  const rest = text.replaceAll(/(\d+(?:\.\d+)?)(ms|h|m|s)/g, (_all, amount: string, unit: string) => {
    total += Number(amount) * units[unit]!;
    return '';
  });
  if (rest.trim() !== '' || total < 1_000) throw new Error(`failed to parse duration @every ${text}`);
  return Math.floor(total / 1_000) * 1_000;
}

/** Remembers the last answer: it holds until the time that it names. */
function remembering({ next }: Schedule): Schedule {
  let [from, until] = [Infinity, -Infinity];
  return {
    next(afterMs) {
      if (afterMs >= from && afterMs < until) return until;
      const found = next(afterMs);
      if (found !== undefined) [from, until] = [afterMs, found];
      return found;
    },
  };
}

/** Those that were good, by zone and text: a CronJob is looked at several times for each of its runs. */
const parsed = new Map<string, Schedule>();

/**
 * Parses a schedule; throws on one that Kubernetes refuses. `?` means `*`; day of month and day of week together mean
 * either.
 */
export function parseSchedule(text: string, timeZone: string | undefined): Schedule {
  const key = `${timeZone ?? ''} ${text}`;
  let schedule = parsed.get(key);
  if (schedule === undefined) {
    schedule = parse(text, timeZone);
    if (parsed.size >= parsedSchedulesMax) parsed.clear();
    parsed.set(key, schedule);
  }
  return schedule;
}

function parse(text: string, timeZone: string | undefined): Schedule {
  let spec = text.trim();
  let zone = timeZone ?? 'UTC';
  const prefix = /^(?:CRON_)?TZ=(\S+)\s+(.*)$/.exec(spec);
  if (prefix !== null) {
    zone = prefix[1]!;
    spec = prefix[2]!;
  }
  if (spec.startsWith('@every ')) {
    const stepMs = everyMs(spec.slice(7));
    return { next: (afterMs) => Math.floor(afterMs / 1000) * 1000 + stepMs };
  }
  const expression = descriptors[spec] ?? spec;
  if (expression.split(/\s+/).length !== 5)
    throw new Error(`expected exactly 5 fields, found ${expression.split(/\s+/).length}: [${text}]`);
  const cron = new Cron(expression.replaceAll('?', '*'), { timezone: zone, paused: true, legacyMode: true });
  return remembering({ next: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime() });
}

export interface CronJobObserved {
  cronJob: CronJob;
  jobs: Job[];
}
export interface CronJobPlan {
  /** When the run was due, and the Job to make for it. */
  start?: { scheduledMs: number; job: Manifest<Job> };
  /** Running Jobs that `Replace` ends. */
  replace: Job[];
  cleanUp: Job[];
  status: CronJobStatus;
  requeueAfterMs?: number;
  events: { type: 'Normal' | 'Warning'; reason: string; message: string }[];
}

export function planCronJob({ cronJob, jobs }: CronJobObserved, nowMs: number): CronJobPlan {
  const { spec, metadata } = cronJob;
  const running = jobs.filter((job) => !isJobFinished(job));
  const plan: CronJobPlan = {
    replace: [],
    cleanUp: planHistory(spec, jobs),
    status: statusOf(cronJob, jobs, running),
    events: [],
  };
  for (const job of jobs) {
    const known = (cronJob.status?.active ?? []).some(({ uid }) => uid === job.metadata.uid);
    if (known && isJobFinished(job))
      plan.events.push({
        type: 'Normal',
        reason: 'SawCompletedJob',
        message: `Saw completed job: ${job.metadata.name}, condition: ${conditionOf(job, 'Complete')?.status === 'True' ? 'Complete' : 'Failed'}`,
      });
  }
  if (metadata.deletionTimestamp !== undefined || spec.suspend === true) return plan;
  let schedule: Schedule;
  try {
    schedule = parseSchedule(spec.schedule, spec.timeZone);
  } catch (error) {
    plan.events.push({
      type: 'Warning',
      reason: 'UnparseableSchedule',
      message: `unparseable schedule: ${JSON.stringify(spec.schedule)} : ${messageOf(error)}`,
    });
    return plan;
  }
  const due = dueTime(cronJob, schedule, nowMs, plan);
  const next = schedule.next(nowMs);
  if (next !== undefined) plan.requeueAfterMs = next - nowMs;
  if (due !== undefined) planStart({ cronJob, running, dueMs: due, nowMs }, plan);
  return plan;
}

/** The latest time that should have run and has not. */
function dueTime(cronJob: CronJob, schedule: Schedule, nowMs: number, plan: CronJobPlan): number | undefined {
  const { spec, metadata, status } = cronJob;
  let earliest = Date.parse(status?.lastScheduleTime ?? metadata.creationTimestamp ?? timestamp(nowMs));
  if (spec.startingDeadlineSeconds !== undefined)
    earliest = Math.max(earliest, nowMs - spec.startingDeadlineSeconds * 1000);
  let latest: number | undefined;
  let count = 0;
  for (let next = schedule.next(earliest); next !== undefined && next <= nowMs; next = schedule.next(next)) {
    latest = next;
    // After a long pause one would walk for ever: jump near to now, on the assumption that schedules repeat within the
    // step.
    if (++count === missedTimesMax) {
      plan.events.push({
        type: 'Warning',
        reason: 'TooManyMissedTimes',
        message: 'too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew',
      });
      const step = Math.max(minuteMs, (next - earliest) / count);
      const near = nowMs - step * 10;
      if (near > next) next = near;
    }
  }
  return latest;
}

interface DueStart {
  cronJob: CronJob;
  running: Job[];
  dueMs: number;
  nowMs: number;
}

function planStart({ cronJob, running, dueMs, nowMs }: DueStart, plan: CronJobPlan): void {
  const { spec, metadata, status } = cronJob;
  if (spec.startingDeadlineSeconds !== undefined && nowMs - dueMs > spec.startingDeadlineSeconds * 1000) {
    plan.events.push({
      type: 'Warning',
      reason: 'MissSchedule',
      message: `Missed scheduled time to start a job: ${new Date(dueMs).toUTCString()}`,
    });
    return;
  }
  const name = `${metadata.name}-${Math.floor(dueMs / minuteMs)}`;
  if ((status?.active ?? []).some((active) => active.name === name) || status?.lastScheduleTime === timestamp(dueMs))
    return;
  if (running.length > 0 && spec.concurrencyPolicy === 'Forbid') {
    plan.events.push({
      type: 'Normal',
      reason: 'JobAlreadyActive',
      message: 'Not starting job because prior execution is running and concurrency policy is Forbid',
    });
    return;
  }
  if (spec.concurrencyPolicy === 'Replace') plan.replace = running;
  const { labels, annotations } = spec.jobTemplate.metadata ?? {};
  plan.start = {
    scheduledMs: dueMs,
    job: {
      apiVersion: 'batch/v1',
      kind: 'Job',
      metadata: {
        name,
        namespace: metadata.namespace,
        ...(labels === undefined ? {} : { labels }),
        annotations: {
          ...annotations,
          'batch.kubernetes.io/cronjob-scheduled-timestamp': scheduledStamp(dueMs, spec.timeZone),
        },
        ownerReferences: [ownedBy(cronJob)],
      },
      spec: spec.jobTemplate.spec,
    },
  };
}

/** RFC 3339 in the CronJob's zone. */
function scheduledStamp(atMs: number, timeZone: string | undefined): string {
  if (timeZone === undefined || timeZone === 'UTC' || timeZone === 'Etc/UTC') return timestamp(atMs);
  const parts = new Intl.DateTimeFormat('en-US', {
    timeZone,
    hourCycle: 'h23',
    year: 'numeric',
    month: '2-digit',
    day: '2-digit',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    timeZoneName: 'longOffset',
  }).formatToParts(new Date(atMs));
  const of = (type: string): string => parts.find((part) => part.type === type)?.value ?? '';
  const offset = of('timeZoneName').replace('GMT', '');
  return `${of('year')}-${of('month')}-${of('day')}T${of('hour')}:${of('minute')}:${of('second')}${offset === '' ? 'Z' : offset}`;
}

function planHistory(spec: CronJobSpec, jobs: readonly Job[]): Job[] {
  const finished = jobs.filter((job) => isJobFinished(job) && job.metadata.deletionTimestamp === undefined);
  const excess = (type: string, limit: number): Job[] => {
    const list = finished.filter((job) => conditionOf(job, type)?.status === 'True').sort(byAge);
    return list.slice(0, Math.max(0, list.length - limit));
  };
  return [
    ...excess('Complete', spec.successfulJobsHistoryLimit ?? 3),
    ...excess('Failed', spec.failedJobsHistoryLimit ?? 1),
  ];
}

function statusOf(cronJob: CronJob, jobs: readonly Job[], running: readonly Job[]): CronJobStatus {
  const before = cronJob.status ?? {};
  let lastSuccessfulTime: string | undefined = before.lastSuccessfulTime;
  for (const job of jobs) {
    const done = job.status?.conditions?.some(({ type, status }) => type === 'Complete' && status === 'True');
    const at: string | undefined = job.status?.completionTime;
    if (done === true && at !== undefined && (lastSuccessfulTime === undefined || at > lastSuccessfulTime))
      lastSuccessfulTime = at;
  }
  const active = running.toSorted(byAge).map(({ metadata, apiVersion, kind }) => ({
    apiVersion,
    kind,
    name: metadata.name,
    namespace: metadata.namespace,
    uid: metadata.uid,
  }));
  return {
    ...(active.length === 0 ? {} : { active }),
    ...(before.lastScheduleTime === undefined ? {} : { lastScheduleTime: before.lastScheduleTime }),
    ...(lastSuccessfulTime === undefined ? {} : { lastSuccessfulTime }),
  };
}

class CronJobController {
  readonly #context: ControllerContext;
  readonly #cronJobs: Informer<CronJob>;
  readonly #jobs: Informer<Job>;
  readonly #recorder: EventRecorder;
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#recorder = recorderOf(context, 'cronjob-controller');
    this.#cronJobs = context.informers.informer(kinds.CronJob);
    this.#jobs = context.informers.informer(kinds.Job).addIndex('controller', indexes.controller);
    this.queue = createQueue(context, 'cronjob', (key) => this.#reconcile(key));
    enqueueEach(this.#cronJobs, this.queue);
    enqueueController(this.#jobs, 'CronJob', this.queue);
  }

  async #reconcile(key: string): Promise<ReconcileResult | undefined> {
    const cronJob = this.#cronJobs.get(key);
    if (cronJob === undefined) return undefined;
    const { client } = this.#context;
    const jobs = [...this.#jobs.by('controller', cronJob.metadata.uid)];
    const plan = planCronJob({ cronJob, jobs }, this.#context.clock.now());
    for (const { type, reason, message } of plan.events) this.#recorder.event(cronJob, type, reason, message);
    await forEachBounded(plan.replace, (job) =>
      deleteIfPresent(this.#context, kinds.Job, job, { propagationPolicy: 'Background' }),
    );
    let { status } = plan;
    if (plan.start !== undefined) {
      await this.#start(cronJob, plan.start.job);
      const active = statusOf(
        cronJob,
        jobs,
        [...this.#jobs.by('controller', cronJob.metadata.uid)].filter((job) => !isJobFinished(job)),
      ).active;
      status = {
        ...status,
        lastScheduleTime: timestamp(plan.start.scheduledMs),
        ...(active === undefined ? {} : { active }),
      };
    }
    const current = this.#cronJobs.get(key);
    if (current !== undefined && !isEqualStatus(current.status, status))
      await client.update(kinds.CronJob, { ...current, status }, { subresource: 'status' });
    await forEachBounded(plan.cleanUp, async (job) => {
      await deleteIfPresent(this.#context, kinds.Job, job, { propagationPolicy: 'Background' });
      this.#recorder.event(cronJob, 'Normal', 'SuccessfulDelete', `Deleted job ${job.metadata.name}`);
    });
    return plan.requeueAfterMs === undefined ? undefined : { requeueAfterMs: plan.requeueAfterMs };
  }

  async #start(cronJob: CronJob, job: Manifest<Job>): Promise<void> {
    try {
      await this.#context.client.create(kinds.Job, job);
      this.#recorder.event(cronJob, 'Normal', 'SuccessfulCreate', `Created job ${job.metadata.name}`);
    } catch (error) {
      // Made before a restart; the status write that follows was what had been lost.
      if (isReason(error, 'AlreadyExists')) return;
      const message = messageOf(error);
      if (!message.includes('being terminated'))
        this.#recorder.event(cronJob, 'Warning', 'FailedCreate', `Error creating job: ${message}`);
      throw error;
    }
  }
}

export function startCronJobController(context: ControllerContext): Controller {
  const controller = new CronJobController(context);
  return { name: 'cronjob', queues: [controller.queue] };
}
