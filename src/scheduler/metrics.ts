/** What the scheduler measures, with Kubernetes' names (documentation, "Kubernetes Metrics Reference"). */
import type { Counter, Family, Histogram, Metrics } from '#observe/metrics.ts';

type Result = 'scheduled' | 'unschedulable' | 'error';
type Queue = 'active' | 'backoff' | 'unschedulable';

export interface SchedulerMetrics {
  attempts: Family<Counter>;
  attemptSeconds: Family<Histogram>;
  /** From when a Pod was first tried until it is bound. */
  podSeconds: Family<Histogram>;
  /** How long choosing a node took. */
  algorithmSeconds: Family<Histogram>;
  /** How many Pods wait in each queue; undefined while this process does not schedule. */
  lengths: (() => Record<Queue, number>) | undefined;
}

export function createSchedulerMetrics(metrics: Metrics): SchedulerMetrics {
  const made: SchedulerMetrics = {
    attempts: metrics.counter({
      name: 'scheduler_schedule_attempts_total',
      help: 'Number of attempts to schedule pods, by the result: scheduled, unschedulable, error.',
      labels: ['result', 'profile'],
    }),
    attemptSeconds: metrics.histogram({
      name: 'scheduler_scheduling_attempt_duration_seconds',
      help: 'Scheduling attempt latency in seconds (scheduling algorithm + binding).',
      labels: ['result', 'profile'],
    }),
    podSeconds: metrics.histogram({
      name: 'scheduler_pod_scheduling_sli_duration_seconds',
      help: 'Latency in seconds for a pod being scheduled, from when it was queued.',
      labels: ['attempts'],
    }),
    algorithmSeconds: metrics.histogram({
      name: 'scheduler_scheduling_algorithm_duration_seconds',
      help: 'Scheduling algorithm latency in seconds.',
    }),
    lengths: undefined,
  };
  metrics.gauge(
    {
      name: 'scheduler_pending_pods',
      help: 'Number of pending pods, by the queue: active, backoff, unschedulable.',
      labels: ['queue'],
    },
    (family) => {
      family.clear();
      const lengths = made.lengths?.();
      if (lengths === undefined) return;
      for (const queue of ['active', 'backoff', 'unschedulable'] as const) family.of(queue).value = lengths[queue];
    },
  );
  return made;
}

/** As a label: Pods that were tried very often are one. */
const attemptsShownMax = 15;

/** An attempt ended; `entry` where it was the last one. */
export function noteAttempt(
  metrics: SchedulerMetrics,
  { profile, result, seconds }: { profile: string; result: Result; seconds: number },
  entry?: { attempts: number; waitedSeconds: number },
): void {
  metrics.attempts.of(result, profile).add();
  metrics.attemptSeconds.of(result, profile).observe(seconds);
  if (entry === undefined) return;
  const shown = entry.attempts > attemptsShownMax ? `${attemptsShownMax}+` : String(entry.attempts);
  metrics.podSeconds.of(shown).observe(entry.waitedSeconds);
}
