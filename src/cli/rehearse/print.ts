/** Prints what seeds have shown: the timeline of the worst, a table over all, and how to repeat it. */
import { worstSeed } from '#sim/rehearse/severity.ts';
import type { Rehearsal } from '#sim/rehearse/types.ts';
import { print, seconds, table } from '../output.ts';
import { type Summary, summaryOf } from './summary.ts';

const timelineLinesMax = 200;
const stuckLinesMax = 40;

/** `01:02:03`. */
function clock(total: number): string {
  return [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60]
    .map((part) => String(part).padStart(2, '0'))
    .join(':');
}

/** `12 s`, `5 min 31 s`, `1 h 40 min`. */
function span(total: number): string {
  const [hours, minutes, rest] = [Math.floor(total / 3600), Math.floor(total / 60) % 60, total % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : minutes > 0 ? `${minutes} min ${rest} s` : `${rest} s`;
}

function printTimeline({ seed, timeline }: Rehearsal, of: number): void {
  print(`Timeline of seed ${seed}${of > 1 ? `, the worst of ${of}` : ''}:`);
  for (const { atSeconds, what } of timeline.slice(0, timelineLinesMax)) print(`  ${clock(atSeconds)}  ${what}`);
  if (timeline.length > timelineLinesMax) print(`  … and ${timeline.length - timelineLinesMax} more (--json has all)`);
  if (timeline.length === 0) print('  nothing happened');
}

function printTables(summary: Summary, of: number): void {
  const share = (seeds: number[]): string => (seeds.length === 0 ? '-' : `${seeds.length}/${of}`);
  if (summary.workloads.length > 0) {
    print(
      `\n${table([['WORKLOAD', 'WANTED', 'LOWEST', 'BELOW', 'DOWN', 'RESTARTS', 'SEEDS', 'VERDICT'], ...summary.workloads.map((one) => [`${one.kind} ${one.namespace}/${one.name}`, String(one.wanted), String(one.lowestReady), span(one.belowSeconds), span(one.downSeconds), String(one.restarts), share(one.seeds), one.verdict])])}`,
    );
  }
  if (summary.jobs.length > 0)
    print(
      `\n${table([['JOB', 'TOOK', 'FAILED PODS', 'SEEDS', 'VERDICT'], ...summary.jobs.map((one) => [`${one.kind} ${one.namespace}/${one.name}`, span(one.seconds), String(one.failedPods), share(one.seeds), one.verdict + (one.why === undefined ? '' : `: ${one.why}`)])])}`,
    );
  if (summary.cronJobs.length > 0)
    print(
      `\n${table([['CRONJOB', 'DUE', 'STARTED', 'SUCCEEDED', 'FAILED', 'MISSED', 'LONGEST', 'SEEDS', 'VERDICT'], ...summary.cronJobs.map((one) => [`${one.namespace}/${one.name}`, String(one.due), String(one.started), String(one.succeeded), String(one.failed), String(one.missed), span(one.longestSeconds), share(one.seeds), one.verdict])])}`,
    );
  if (summary.budgets.length > 0)
    print(
      `\n${table([['DISRUPTION BUDGET', 'UNDERCUT', 'REFUSED', 'SEEDS'], ...summary.budgets.map((one) => [`${one.namespace}/${one.name}`, one.brokenSeconds === 0 ? 'kept' : span(one.brokenSeconds), String(one.refused), share(one.seeds)])])}`,
    );
  if (summary.rollouts.length > 0)
    print(
      `\n${table([['ROLL-OUT', 'TOOK', 'SEEDS', 'VERDICT'], ...summary.rollouts.map((one) => [`${one.kind} ${one.namespace}/${one.name}`, one.seconds === undefined ? '-' : span(one.seconds), share(one.seeds), one.verdict])])}`,
    );
}

/** What is wrong at the end of the worst seed, each with its reason. */
function printReasons({ workloads, jobs, cronJobs, drains, seed }: Rehearsal): void {
  const lines = [
    ...workloads.flatMap(({ stuck, verdict }) =>
      verdict === 'ok' ? [] : stuck.map(({ pod, why }) => `Pod ${pod}: ${why}`),
    ),
    ...jobs.flatMap(({ kind, namespace, name, why }) =>
      why === undefined ? [] : [`${kind} ${namespace}/${name}: ${why}`],
    ),
    ...cronJobs.flatMap(({ namespace, name, missed }) =>
      missed.map(({ atSeconds, why }) => `CronJob ${namespace}/${name} missed the run of ${clock(atSeconds)}: ${why}`),
    ),
    ...drains
      .filter(({ verdict }) => verdict === 'blocked')
      .map(({ node, left }) => `the drain of ${node} does not end: ${left.join(', ')}`),
  ];
  if (lines.length === 0) return;
  print(`\nAt the end of seed ${seed}:`);
  for (const line of lines.slice(0, stuckLinesMax)) print(`  ${line}`);
  if (lines.length > stuckLinesMax) print(`  … and ${lines.length - stuckLinesMax} more (--json has all)`);
}

export interface Result {
  all: readonly Rehearsal[];
  /** The seeds that showed something as bad as `failOn`. */
  failed: readonly number[];
  failOn: string;
  /** The command that repeats a seed. */
  repeat: (seed: number) => string;
  /** Of real time. */
  tookMs: number;
}

export function printResult({ all, failed, failOn, repeat, tookMs }: Result): void {
  const worst = worstSeed(all);
  printTimeline(worst, all.length);
  printTables(summaryOf(all), all.length);
  printReasons(worst);
  const what =
    failOn === 'degraded' ? 'degraded or worse' : failOn === 'unavailable' ? 'unavailable or worse' : 'broken for good';
  print(
    `\n${all.length} seed${all.length === 1 ? '' : 's'} of ${span(worst.virtualSeconds)} in ${seconds(tookMs)}: ${failed.length === 0 ? `nothing was ${what}` : `in ${failed.length} something was ${what}`}.`,
  );
  if (all.length > 1) print(`The worst again: ${repeat(worst.seed)}`);
}
