/** What verdicts weigh, so that seeds can be compared and a pipeline can choose what fails it. Pure. */
import type { CronJobVerdict, DrainReport, JobVerdict, Rehearsal, RolloutReport, ServerVerdict } from './types.ts';

/**
 * 0 nothing happened; 1 degraded: fewer Pods than wanted, a retry, a budget undercut; 2 unavailable: no Pod, a run
 * missed; 3 broken: it does not come back by itself.
 */
export type Severity = 0 | 1 | 2 | 3;
export const severityNames = { degraded: 1, unavailable: 2, broken: 3 } as const;

const weights: Record<
  ServerVerdict | JobVerdict | CronJobVerdict | DrainReport['verdict'] | RolloutReport['verdict'],
  Severity
> = {
  ok: 0,
  done: 0,
  running: 0,
  'under way': 0,
  degraded: 1,
  'done after failures': 1,
  unavailable: 2,
  'missed runs': 2,
  'failed runs': 2,
  lost: 3,
  'not whole at the end': 3,
  'never ran': 3,
  stuck: 3,
  failed: 3,
  'never succeeded': 3,
  blocked: 3,
  unfinished: 3,
};

export function severityOf(verdict: keyof typeof weights): Severity {
  return weights[verdict];
}

function verdictsOf({ workloads, jobs, cronJobs, drains, rollouts }: Rehearsal): (keyof typeof weights)[] {
  return [...workloads, ...jobs, ...cronJobs, ...drains, ...rollouts].map(({ verdict }) => verdict);
}

/** The worst of all that a seed has shown. */
export function worstOf(rehearsal: Rehearsal): Severity {
  const budgets: Severity = rehearsal.budgets.some(({ brokenSeconds }) => brokenSeconds > 0) ? 1 : 0;
  return verdictsOf(rehearsal)
    .map(severityOf)
    .reduce((worst, severity) => (severity > worst ? severity : worst), budgets);
}

/**
 * More verdicts of a worse kind count first, then seconds without any Pod, missed and failed runs, seconds with too
 * few.
 */
function badness(rehearsal: Rehearsal): readonly number[] {
  const verdicts = verdictsOf(rehearsal);
  const count = (severity: Severity): number => verdicts.filter((verdict) => severityOf(verdict) === severity).length;
  const total = (values: number[]): number => values.reduce((sum, value) => sum + value, 0);
  return [
    count(3),
    count(2),
    total(rehearsal.workloads.map(({ downSeconds }) => downSeconds)),
    total(rehearsal.cronJobs.map(({ missed, failed }) => missed.length + failed)),
    total(rehearsal.budgets.map(({ brokenSeconds }) => brokenSeconds)),
    total(rehearsal.workloads.map(({ belowSeconds }) => belowSeconds)),
    total(rehearsal.jobs.map(({ failedPods }) => failedPods)),
  ];
}

/** The worst seed; of equals the first. */
export function worstSeed(rehearsals: readonly Rehearsal[]): Rehearsal {
  return rehearsals.reduce((worst, other) => (isWorse(badness(other), badness(worst)) ? other : worst));
}

function isWorse(a: readonly number[], b: readonly number[]): boolean {
  const differences = a.map((value, index) => value - (b[index] ?? 0));
  return (differences.find((difference) => difference !== 0) ?? 0) > 0;
}
