/**
 * One simulated run from a seed: a cluster, users, faults, then quiet, with every checker looking on. The same seed
 * gives the same history to the last byte, so a failure is a seed. `describeFailure` says how to repeat it.
 */
import { awaitedLater } from '#base/promises.ts';
import { pressureTransitionMs } from '#kubelet/limits.ts';
import { pick } from './chance.ts';
import { Cluster } from './cluster.ts';
import { addressesUnique } from './checkers/addresses-unique.ts';
import { budgetsKept } from './checkers/budgets-kept.ts';
import { comesToRest } from './checkers/comes-to-rest.ts';
import { endpointsTrue } from './checkers/endpoints-true.ts';
import { finalizersHonoured } from './checkers/finalizers-honoured.ts';
import { identitiesUnique } from './checkers/identities-unique.ts';
import { jobsExact } from './checkers/jobs-exact.ts';
import { listEqualsWatch } from './checkers/list-equals-watch.ts';
import { lostNodes } from './checkers/lost-nodes.ts';
import { oneLeader } from './checkers/one-leader.ts';
import { ownersAlive } from './checkers/owners-alive.ts';
import { placesRight } from './checkers/places-right.ts';
import { queuesBounded } from './checkers/queues-bounded.ts';
import { quotasKept } from './checkers/quotas-kept.ts';
import { revisionsGrow } from './checkers/revisions-grow.ts';
import { rolloutBounds } from './checkers/rollout-bounds.ts';
import { statusSettled } from './checkers/status-settled.ts';
import { updatesOrdered } from './checkers/updates-ordered.ts';
import { workBounded } from './checkers/work-bounded.ts';
import { workloadsWhole } from './checkers/workloads-whole.ts';
import { writesKept } from './checkers/writes-kept.ts';
import { healAll, randomFault } from './random-fault.ts';
import { type Checker, type Violation, World } from './world.ts';
import { cascades, placements, services } from './workloads/cascades.ts';
import { counters, daemons, jobs, leaders, rollouts, stateful, tenants, type Workload } from './workloads/workloads.ts';

export interface SimulationOptions {
  seed: number;
  /** Virtual minutes under faults; 5 when absent. */
  minutes?: number;
  nodes?: number;
  /** Put in before the run starts: a bug on purpose, to see a checker fire. */
  sabotage?: (world: World) => void;
  log?: 'debug' | 'info' | 'warn' | 'error';
  /** Ends the run, unjudged, in the second in which this revision is committed … */
  stopAt?: number;
  /** … and shows the cluster as it is then, before it goes away. */
  stopped?: (cluster: Cluster) => Promise<void>;
}

export interface SimulationResult {
  seed: number;
  hash: string;
  violations: Violation[];
  transactions: number;
  timers: number;
  virtualMs: number;
  faults: string[];
}

const settleLimitMs = 30 * 60_000;
const quietMs = 70_000;
const eventsBeforeFailure = 50;

/** Lets virtual time pass while something asynchronous runs to its end. */
async function during<T>(cluster: Cluster, work: Promise<T>): Promise<T> {
  let done = false;
  const watched = work.finally(() => {
    done = true;
  });
  void awaitedLater(watched);
  for (let waited = 0; !done; waited++) {
    if (waited > 100_000) throw new Error('a step of the simulation does not end');
    await cluster.advance(100);
  }
  return watched;
}

/** What a run is made of. */
interface Run {
  world: World;
  workloads: readonly Workload[];
  /** Those that befell it so far. */
  faults: string[];
  /** The revision at which it ends, unjudged. */
  stopAt: number;
}

async function runFaults({ world, workloads, faults, stopAt }: Run, endMs: number): Promise<void> {
  const { cluster } = world;
  let nextFault = cluster.now + 20_000;
  let nextAct = cluster.now + 3_000;
  while (cluster.now < endMs && world.revision < stopAt) {
    await cluster.advance(1_000);
    await during(cluster, world.tick());
    if (cluster.now >= nextAct && workloads.length > 0) {
      nextAct = cluster.now + cluster.random.float() * 8_000;
      await during(cluster, pick(cluster.random, workloads).act(world));
    }
    if (cluster.now >= nextFault) {
      nextFault = cluster.now + cluster.random.float() * 25_000;
      faults.push(`${Math.round(cluster.clock.monotonic() / 1000)}s ${await randomFault(cluster)}`);
    }
  }
}

/** Nothing goes wrong any more: the cluster gets the time it needs to come to rest, and is judged. */
async function runQuiet({ world, workloads, faults, stopAt }: Run, minutes: number): Promise<void> {
  const { cluster } = world;
  healAll(cluster);
  const healed = cluster.now;
  for (const workload of workloads) if (workload.end !== undefined) await during(cluster, workload.end(world));
  const limit = cluster.now + settleLimitMs;
  // A node refuses Pods for five minutes after it was short of disk; a daemon comes back after at most as long again as
  // it was refused.
  const patienceMs = faults.some((text) => text.endsWith('is full'))
    ? 2 * (pressureTransitionMs + minutes * 60_000) + quietMs
    : 0;
  while (
    cluster.now < limit &&
    world.revision < stopAt &&
    (cluster.now - world.lastChangeMs < quietMs || cluster.now - healed < patienceMs)
  ) {
    await cluster.advance(5_000);
    await during(cluster, world.tick());
  }
  if (world.revision < stopAt) await during(cluster, world.rest());
}

export async function simulate({
  seed,
  minutes = 5,
  nodes = 5,
  sabotage,
  log,
  stopAt = Infinity,
  stopped,
}: SimulationOptions): Promise<SimulationResult> {
  await using cluster = new Cluster({
    seed,
    hash: true,
    leases: true,
    disk: true,
    nodes: Array.from({ length: nodes }, (_, i) => ({ name: `node-${i}`, zone: 'abc'.charAt(i % 3) })),
    ...(log === undefined ? {} : { log }),
  });
  const [leading, writes] = [oneLeader(), writesKept()];
  const checkers: Checker[] = [
    ...stateCheckers(),
    revisionsGrow(),
    listEqualsWatch(),
    identitiesUnique(),
    rolloutBounds(),
    updatesOrdered(),
    placesRight(),
    budgetsKept(),
    quotasKept(),
    ownersAlive(),
    jobsExact(),
    lostNodes(),
    leading,
    queuesBounded(),
    workBounded(),
    writes,
  ];
  const world = new World(cluster, checkers);
  const workloads = [
    rollouts(),
    stateful(),
    jobs(),
    daemons(),
    tenants(),
    cascades(),
    services(),
    placements(),
    counters(writes),
    leaders(leading),
  ];
  await cluster.ready();
  sabotage?.(world);
  for (const workload of workloads) await during(cluster, workload.setUp(world));
  const run: Run = { world, workloads, faults: [], stopAt };
  await runFaults(run, cluster.now + minutes * 60_000);
  if (world.revision < stopAt) await runQuiet(run, minutes);
  await stopped?.(cluster);
  return resultOf(seed, run);
}

function resultOf(seed: number, { world: { cluster, violations }, faults }: Run): SimulationResult {
  return {
    seed,
    hash: cluster.hash,
    violations,
    transactions: cluster.observed.transactions,
    timers: cluster.clock.fired,
    virtualMs: cluster.clock.monotonic(),
    faults,
  };
}

/** What can be judged by the present alone, without having seen what went before. */
function stateCheckers(): Checker[] {
  return [finalizersHonoured(), addressesUnique(), workloadsWhole(), statusSettled(), endpointsTrue(), comesToRest()];
}

/**
 * Resumes near a failure: runs the seed until `fromEvent` (a revision) is committed, and from there as many forks as
 * asked for, each with faults and a seed of its own (1, 2 …) for a minute and then in quiet. What a fork shows is
 * judged by the present alone.
 */
export async function resumeNear(
  options: SimulationOptions,
  fromEvent: number,
  forks: number,
  done: (result: SimulationResult) => void,
): Promise<void> {
  await simulate({
    ...options,
    stopAt: fromEvent,
    async stopped(origin) {
      for (let seed = 1; seed <= forks; seed++) {
        await using cluster = origin.fork({ seed });
        const world = new World(cluster, stateCheckers());
        await cluster.ready();
        await world.adopt();
        const run: Run = { world, workloads: [], faults: [], stopAt: Infinity };
        await runFaults(run, cluster.now + 60_000);
        await runQuiet(run, options.minutes ?? 5);
        done(resultOf(seed, run));
      }
    },
  });
}

/** What to print for a seed that failed; `commit` is that of the program. */
export function describeFailure(result: SimulationResult, minutes: number, commit: string): string {
  const lines = result.violations.map(
    ({ checker, message, revision, atMs }) =>
      `  ${checker}: ${message} (revision ${revision}, ${new Date(atMs).toISOString()})`,
  );
  const command = `npm run simulate -- --seed ${result.seed} --minutes ${minutes}`;
  const near = Math.max(1, (result.violations[0]?.revision ?? 1) - eventsBeforeFailure);
  return [
    `seed ${result.seed} failed at commit ${commit}:`,
    ...lines,
    `  repeat: ${command}`,
    `  near it: ${command} --from-event ${near}`,
  ].join('\n');
}
