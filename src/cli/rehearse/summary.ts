/** All seeds in one: for each workload the worst that any has shown. Pure. */
import { type Severity, severityOf, worstOf, worstSeed } from '#sim/rehearse/severity.ts';
import type {
  BudgetReport,
  CronJobReport,
  DrainReport,
  JobReport,
  Rehearsal,
  RolloutReport,
  WorkloadReport,
} from '#sim/rehearse/types.ts';

/** Over all seeds: the worst number of each; `seeds` are those that gave this verdict, or a worse one. */
export interface Summary {
  workloads: (Omit<WorkloadReport, 'stuck'> & { seeds: number[] })[];
  jobs: (JobReport & { seeds: number[] })[];
  cronJobs: (Omit<CronJobReport, 'missed'> & { missed: number; seeds: number[] })[];
  budgets: (BudgetReport & { seeds: number[] })[];
  drains: { done: number; blocked: number; longestSeconds: number };
  rollouts: (Omit<RolloutReport, 'startedSeconds'> & { seeds: number[] })[];
}

/** What `--json` prints. `format` grows when a field changes its meaning or goes. */
export interface JsonResult {
  format: 1;
  failOn: string;
  failed: number[];
  worst: number;
  repeat: string;
  notes: string[];
  summary: Summary;
  seeds: Rehearsal[];
}

interface Identified {
  kind?: string;
  namespace: string;
  name: string;
}
type Judged = Identified & { verdict: Parameters<typeof severityOf>[0] };

/** The reports on one thing, over all seeds; of those that are worst the first. */
interface Group<T> {
  worst: T;
  reports: { seed: number; report: T }[];
}

function grouped<T extends Identified>(
  all: readonly Rehearsal[],
  of: (rehearsal: Rehearsal) => readonly T[],
  weightOf: (report: T) => number,
): Group<T>[] {
  const groups = new Map<string, Group<T>>();
  for (const rehearsal of all) {
    for (const report of of(rehearsal)) {
      const key = `${report.kind ?? ''} ${report.namespace}/${report.name}`;
      let group = groups.get(key);
      if (group === undefined) groups.set(key, (group = { worst: report, reports: [] }));
      group.reports.push({ seed: rehearsal.seed, report });
      if (weightOf(report) > weightOf(group.worst)) group.worst = report;
    }
  }
  return [...groups.values()];
}

const severityOfReport = ({ verdict }: Judged): number => severityOf(verdict);

/** The seeds that show what the worst shows, where that is anything. */
function alike({ worst, reports }: Group<Judged>): number[] {
  const severity = severityOfReport(worst);
  return severity === 0
    ? []
    : reports
        .filter(({ report }) => severityOfReport(report) === severity)
        .map(({ seed }) => seed)
        .sort((a, b) => a - b);
}

const most = <T>({ reports }: Group<T>, of: (report: T) => number): number =>
  Math.max(...reports.map(({ report }) => of(report)));
const least = <T>(group: Group<T>, of: (report: T) => number): number => -most(group, (report) => -of(report));

export function summaryOf(all: readonly Rehearsal[]): Summary {
  const drains = all.flatMap((rehearsal): DrainReport[] => rehearsal.drains);
  return {
    workloads: grouped(all, ({ workloads }) => workloads, severityOfReport).map((group) => {
      const { stuck: _stuck, ...first } = group.worst;
      return {
        ...first,
        lowestReady: least(group, (report) => report.lowestReady),
        belowSeconds: most(group, (report) => report.belowSeconds),
        downSeconds: most(group, (report) => report.downSeconds),
        restarts: most(group, (report) => report.restarts),
        seeds: alike(group),
      };
    }),
    jobs: grouped(all, ({ jobs }) => jobs, severityOfReport).map((group) => ({
      ...group.worst,
      failedPods: most(group, (report) => report.failedPods),
      seconds: most(group, (report) => report.seconds),
      seeds: alike(group),
    })),
    cronJobs: grouped(all, ({ cronJobs }) => cronJobs, severityOfReport).map((group) => ({
      ...group.worst,
      started: least(group, (report) => report.started),
      succeeded: least(group, (report) => report.succeeded),
      failed: most(group, (report) => report.failed),
      missed: most(group, (report) => report.missed.length),
      longestSeconds: most(group, (report) => report.longestSeconds),
      seeds: alike(group),
    })),
    budgets: grouped(
      all,
      ({ budgets }) => budgets,
      ({ brokenSeconds }) => brokenSeconds,
    ).map((group) => ({
      namespace: group.worst.namespace,
      name: group.worst.name,
      brokenSeconds: most(group, (report) => report.brokenSeconds),
      refused: most(group, (report) => report.refused),
      seeds: group.reports.filter(({ report }) => report.brokenSeconds > 0).map(({ seed }) => seed),
    })),
    drains: {
      done: drains.filter(({ verdict }) => verdict === 'done').length,
      blocked: drains.filter(({ verdict }) => verdict === 'blocked').length,
      longestSeconds: Math.max(0, ...drains.map(({ seconds }) => seconds ?? 0)),
    },
    rollouts: grouped(all, ({ rollouts }) => rollouts, severityOfReport).map((group) => {
      const { startedSeconds: _started, seconds: _seconds, ...first } = group.worst;
      const took = group.reports.flatMap(({ report }) => report.seconds ?? []);
      return { ...first, ...(took.length === 0 ? {} : { seconds: Math.max(...took) }), seeds: alike(group) };
    }),
  };
}

export function jsonResult(
  all: readonly Rehearsal[],
  failOn: { name: string; severity: Severity },
  repeat: (seed: number) => string,
  notes: string[],
): JsonResult {
  const worst = worstSeed(all).seed;
  return {
    format: 1,
    failOn: failOn.name,
    failed: failedSeeds(all, failOn.severity),
    worst,
    repeat: repeat(worst),
    notes,
    summary: summaryOf(all),
    seeds: [...all],
  };
}

/** Seeds in which something is at least that bad. */
export function failedSeeds(all: readonly Rehearsal[], severity: Severity): number[] {
  return all.filter((rehearsal) => worstOf(rehearsal) >= severity).map(({ seed }) => seed);
}
