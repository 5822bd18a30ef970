/**
 * Many seeds at once: each is a run of its own, so they are shared out over worker threads, one seed at a time to
 * whoever is free. A seed gives the same history in whichever worker it runs; results come in the order of the seeds.
 */
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { awaitedLater } from '#base/promises.ts';
import { stackOf } from '#base/thrown.ts';
import { simulate, type SimulationOptions, type SimulationResult } from './simulate.ts';

export type SeedOptions = Omit<SimulationOptions, 'seed' | 'sabotage'>;

/** Calls `done` for each seed, in order. */
export async function runSeeds(
  seeds: readonly number[],
  options: SeedOptions,
  workersMax: number,
  done: (result: SimulationResult) => void | Promise<void>,
): Promise<void> {
  const results = seeds.map((seed) => ({ seed, ...Promise.withResolvers<SimulationResult>() }));
  for (const { promise } of results) void awaitedLater(promise);
  const left = results.values();
  const workers = Array.from({ length: Math.min(workersMax, seeds.length) }, () => {
    const worker = new Worker(new URL(import.meta.url));
    const give = (): void => {
      const { value: run } = left.next();
      if (run === undefined) return;
      worker.once('message', (result: SimulationResult | { failed: string }) => {
        if ('failed' in result) run.reject(new Error(`seed ${run.seed}: ${result.failed}`));
        else run.resolve(result);
        give();
      });
      worker.postMessage({ ...options, seed: run.seed });
    };
    worker.on('error', (error) => {
      for (const { reject } of results) reject(error);
    });
    give();
    return worker;
  });
  try {
    for (const { promise } of results) await done(await promise);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  port.on('message', (options: SimulationOptions) => {
    void simulate(options).then(
      (result) => port.postMessage(result),
      (error: unknown) => port.postMessage({ failed: stackOf(error) }),
    );
  });
}
