/**
 * Many seeds at once: they are shared out, one at a time to whoever is free, over this thread and others, each with
 * clusters of its own. A seed gives the same result in whichever; results come in the order of the seeds.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { stackOf } from '#base/thrown.ts';
import { Stage } from './rehearse.ts';
import type { Rehearsal, RehearseOptions } from './types.ts';

interface Start {
  rehearse: RehearseOptions;
}
type Answer = { seed: number; result: Rehearsal } | { seed: number; failed: string };

/**
 * Runs all seeds in at most so many threads, this one among them. Throws `RehearsalError` when a manifest or fault is
 * refused.
 */
export async function runRehearsals(
  options: RehearseOptions,
  seeds: readonly number[],
  threadsMax: number,
): Promise<{ rehearsals: Rehearsal[]; notes: string[] }> {
  await using stage = new Stage(options);
  const [first] = seeds;
  const notes = first === undefined ? [] : await stage.check(first);
  const results = new Map<number, Rehearsal>();
  const queue = [...new Set(seeds)];
  const workers = Array.from(
    { length: Math.max(0, Math.min(threadsMax, Math.floor(queue.length / 4)) - 1) },
    () => new Worker(new URL(import.meta.url), { workerData: { rehearse: options } satisfies Start }),
  );
  try {
    await Promise.all([runHere(stage, queue, results), ...workers.map((worker) => runThere(worker, queue, results))]);
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return { rehearsals: seeds.flatMap((seed) => results.get(seed) ?? []), notes };
}

async function runHere(stage: Stage, queue: number[], results: Map<number, Rehearsal>): Promise<void> {
  for (let seed = queue.shift(); seed !== undefined; seed = queue.shift()) results.set(seed, await stage.run(seed));
}

function runThere(worker: Worker, queue: number[], results: Map<number, Rehearsal>): Promise<void> {
  return new Promise((resolve, reject) => {
    const give = (): void => {
      const seed = queue.shift();
      if (seed === undefined) resolve();
      else worker.postMessage(seed);
    };
    worker.on('message', (answer: Answer) => {
      if ('failed' in answer) {
        reject(new Error(`seed ${answer.seed}: ${answer.failed}`));
        return;
      }
      results.set(answer.seed, answer.result);
      give();
    });
    worker.on('error', reject);
    give();
  });
}

const given: Partial<Start> | null | undefined = workerData;
if (!isMainThread && parentPort !== null && given?.rehearse !== undefined) {
  const port = parentPort;
  const stage = new Stage(given.rehearse);
  port.on('message', (seed: number) => {
    void stage.run(seed).then(
      (result) => port.postMessage({ seed, result } satisfies Answer),
      (error: unknown) => port.postMessage({ seed, failed: stackOf(error) } satisfies Answer),
    );
  });
}
