/**
 * `tiphys rehearse`: the user's own manifests, run by the real controllers in virtual time while nodes die or are
 * drained, images come slowly, the API server is away, or a new version is rolled out.
 *
 * A cluster is set up and comes to rest; every seed is a fork of it, in which chance chooses the nodes that are hit and
 * the delays. What is seen of Pods becomes verdicts: how few were ready, for how long too few, what restarted, what
 * never ran and why, which runs were missed, which disruption budgets were undercut, which drains and roll-outs never
 * ended. Nothing here changes what controllers do.
 */
import { isReason } from '#base/errors.ts';
import type { Cluster } from '../cluster.ts';
import { Applier } from './apply.ts';
import { Observer } from './observer.ts';
import { isServerObject, nameOf } from './servers.ts';
import { setUp } from './setup.ts';
import { Strikes } from './strike.ts';
import { surround } from './surroundings.ts';
import { type Change, RehearsalError, type Rehearsal, type RehearseOptions } from './types.ts';

/** Pods are first placed in this many ways; which one a seed sees is decided by the seed alone. */
const placements = 4;
const retryMs = 5_000;

/**
 * Clusters at rest that seeds are forked from. The same seed tells the same story, alone or among others, in whichever
 * thread.
 */
export class Stage implements AsyncDisposable {
  readonly #options: RehearseOptions;
  readonly #bases = new Map<number, Promise<{ cluster: Cluster; notes: string[] }>>();

  constructor(options: RehearseOptions) {
    this.#options = options;
  }

  #base(seed: number): Promise<{ cluster: Cluster; notes: string[] }> {
    const placement = ((seed - 1) % placements) + 1;
    let base = this.#bases.get(placement);
    if (base === undefined) this.#bases.set(placement, (base = setUp(this.#options, placement)));
    return base;
  }

  /**
   * Whether all manifests are accepted, also those that come later; answers what had to be added. Throws
   * `RehearsalError`.
   */
  async check(seed: number): Promise<string[]> {
    const { cluster, notes } = await this.#base(seed);
    const { changes = [] } = this.#options;
    if (changes.length > 0) {
      await using trial = cluster.fork({ seed: 1 });
      await trial.ready();
      for (const { manifests } of changes) await new Applier(trial.client, () => trial.settle()).apply(manifests);
    }
    return notes;
  }

  async run(seed: number): Promise<Rehearsal> {
    const { cluster: base } = await this.#base(seed);
    await using cluster = base.fork({ seed });
    // Awaited here: the fork must not be taken down before.
    return await runSeed(cluster, this.#options, seed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Who asked for it has heard why it is not there.
    for (const base of this.#bases.values()) await (await base.catch(() => undefined))?.cluster[Symbol.asyncDispose]();
  }
}

/** Runs every seed in this thread; `runRehearsals` uses several. */
export async function rehearse(options: RehearseOptions, seeds: readonly number[]): Promise<Rehearsal[]> {
  await using stage = new Stage(options);
  const results: Rehearsal[] = [];
  for (const seed of seeds) {
    if (results.length === 0) await stage.check(seed);
    results.push(await stage.run(seed));
  }
  return results;
}

async function runSeed(cluster: Cluster, options: RehearseOptions, seed: number): Promise<Rehearsal> {
  await cluster.ready();
  await using _surroundings = await surround(cluster, options.slowPullMs);
  const observer = new Observer(cluster);
  await observer.start();
  const strikes = new Strikes(cluster, observer, observer.startMs + options.forMs);
  // Each course sleeps on the cluster's clock; those that last to the end simply never wake up again.
  const failures: unknown[] = [];
  const courses = [
    ...options.faults.map((fault) => strikes.run(fault)),
    ...(options.changes ?? []).map((change) => runChange(cluster, observer, change)),
  ];
  for (const course of courses)
    course.catch((error: unknown) => {
      failures.push(error);
    });
  await cluster.advance(options.forMs);
  if (failures.length > 0) throw failures[0];
  const result: Rehearsal = { seed, ...observer.report(), drains: strikes.report(observer.startMs) };
  await observer.stop();
  return result;
}

/** Applies manifests when their time has come; while the API server does not answer, again and again. */
async function runChange(cluster: Cluster, observer: Observer, { atMs, label, manifests }: Change): Promise<void> {
  await cluster.clock.sleep(atMs);
  observer.note(`${label} is applied`);
  const applier = new Applier(cluster.client, () => cluster.clock.sleep(1_000));
  for (;;) {
    try {
      for (const { object, changed } of await applier.apply(manifests)) {
        if (!changed) continue;
        observer.note(`${nameOf(object)} is new or changed`);
        if (isServerObject(object)) observer.servers.startRollout(object);
      }
      return;
    } catch (error) {
      if (error instanceof RehearsalError || !isReason(error, 'ServiceUnavailable', 'Timeout', 'Conflict')) throw error;
      await cluster.clock.sleep(retryMs);
    }
  }
}
