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

type Identified = { kind?: string; namespace: string; name: string; verdict?: Parameters<typeof severityOf>[0] };

/** The reports on one thing, over all seeds, worst first. */
function grouped<T extends Identified>(
  all: readonly Rehearsal[],
  of: (rehearsal: Rehearsal) => readonly T[],
): { seed: number; report: T }[][] {
  const groups = new Map<string, { seed: number; report: T }[]>();
  for (const rehearsal of all) {
    for (const report of of(rehearsal)) {
      const key = `${report.kind ?? ''} ${report.namespace}/${report.name}`;
      groups.set(key, [...(groups.get(key) ?? []), { seed: rehearsal.seed, report }]);
    }
  }
  const weight = ({ report }: { report: T }): number => (report.verdict === undefined ? 0 : severityOf(report.verdict));
  return [...groups.values()].map((group) => group.toSorted((a, b) => weight(b) - weight(a)));
}

/** The seeds that show what the first shows, where that is anything. */
function alike<T extends Identified>(group: { seed: number; report: T }[]): number[] {
  const worst = severityOf(group[0]!.report.verdict!);
  return worst === 0
    ? []
    : group
        .filter(({ report }) => severityOf(report.verdict!) === worst)
        .map(({ seed }) => seed)
        .sort((a, b) => a - b);
}

const most = <T>(group: { report: T }[], of: (report: T) => number): number =>
  Math.max(...group.map(({ report }) => of(report)));

export function summaryOf(all: readonly Rehearsal[]): Summary {
  const drains = all.flatMap((rehearsal): DrainReport[] => rehearsal.drains);
  return {
    workloads: grouped(all, ({ workloads }) => workloads).map((group) => {
      const { stuck: _stuck, ...first } = group[0]!.report;
      return {
        ...first,
        lowestReady: Math.min(...group.map(({ report }) => report.lowestReady)),
        belowSeconds: most(group, (report) => report.belowSeconds),
        downSeconds: most(group, (report) => report.downSeconds),
        restarts: most(group, (report) => report.restarts),
        seeds: alike(group),
      };
    }),
    jobs: grouped(all, ({ jobs }) => jobs).map((group) => ({
      ...group[0]!.report,
      failedPods: most(group, (report) => report.failedPods),
      seconds: most(group, (report) => report.seconds),
      seeds: alike(group),
    })),
    cronJobs: grouped(all, ({ cronJobs }) => cronJobs).map((group) => ({
      ...group[0]!.report,
      started: Math.min(...group.map(({ report }) => report.started)),
      succeeded: Math.min(...group.map(({ report }) => report.succeeded)),
      failed: most(group, (report) => report.failed),
      missed: most(group, (report) => report.missed.length),
      longestSeconds: most(group, (report) => report.longestSeconds),
      seeds: alike(group),
    })),
    budgets: grouped(all, ({ budgets }) => budgets as (BudgetReport & Identified)[]).map((group) => ({
      namespace: group[0]!.report.namespace,
      name: group[0]!.report.name,
      brokenSeconds: most(group, (report) => report.brokenSeconds),
      refused: most(group, (report) => report.refused),
      seeds: group.filter(({ report }) => report.brokenSeconds > 0).map(({ seed }) => seed),
    })),
    drains: {
      done: drains.filter(({ verdict }) => verdict === 'done').length,
      blocked: drains.filter(({ verdict }) => verdict === 'blocked').length,
      longestSeconds: Math.max(0, ...drains.map(({ seconds }) => seconds ?? 0)),
    },
    rollouts: grouped(all, ({ rollouts }) => rollouts).map((group) => {
      const { startedSeconds: _started, seconds: _seconds, ...first } = group[0]!.report;
      const took = group.flatMap(({ report }) => report.seconds ?? []);
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
