/** A hundred seeds under faults, short runs; more and longer with `npm run simulate -- --seeds N --minutes M`. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { linuxProcesses } from '#os/processes.linux.ts';
import { runSeeds } from '#sim/seeds.ts';
import { commitOf } from '#sim/commit.ts';
import { describeFailure, resumeNear, type SimulationResult } from '#sim/simulate.ts';

const minutes = 0.75;
const seeds = Array.from({ length: 100 }, (_, at) => at + 1);

async function hashes(which: readonly number[], workers: number): Promise<string[]> {
  const found: string[] = [];
  await runSeeds(which, { minutes }, workers, (result) => {
    found.push(result.hash);
  });
  return found;
}

test('every invariant holds under faults with each of 100 seeds, and a seed gives one history in any worker and process', async () => {
  const results: SimulationResult[] = [];
  await runSeeds(seeds, { minutes }, 2, (result) => {
    results.push(result);
  });
  const failures = results.filter(({ violations }) => violations.length > 0);
  assert.equal(failures.length, 0, failures.map((result) => describeFailure(result, minutes, commitOf())).join('\n'));
  assert.equal(results.length, seeds.length);
  assert.equal(new Set(results.map(({ hash }) => hash)).size, seeds.length, 'each seed has a history of its own');

  const some = results.slice(0, 4).map(({ hash }) => hash);
  assert.deepEqual(await hashes([1, 2, 3, 4], 1), some, 'one worker');
  assert.deepEqual(await hashes([1, 2, 3, 4], 3), some, 'three workers');
  const program = new URL('../../src/sim/simulate.main.ts', import.meta.url).pathname;
  const { stdout } = await linuxProcesses.run(process.execPath, [
    program,
    '--seeds',
    '4',
    '--minutes',
    String(minutes),
    '--workers',
    '1',
  ]);
  assert.deepEqual(
    [...stdout.matchAll(/hash (\w+)/g)].map(([, hash]) => hash),
    some.map((hash) => hash.slice(0, 12)),
    'another process',
  );
});

test('a failure says seed, commit and command, and how to come near it', () => {
  const text = describeFailure(
    {
      seed: 7,
      hash: '',
      violations: [{ checker: 'c', message: 'm', atMs: 0, revision: 90 }],
      transactions: 0,
      timers: 0,
      virtualMs: 0,
      faults: [],
    },
    3,
    'abc',
  );
  assert.equal(
    text,
    [
      'seed 7 failed at commit abc:',
      '  c: m (revision 90, 1970-01-01T00:00:00.000Z)',
      '  repeat: npm run simulate -- --seed 7 --minutes 3',
      '  near it: npm run simulate -- --seed 7 --minutes 3 --from-event 40',
    ].join('\n'),
  );
});

test('forks resume near an event, each in its own way and the same way each time', async () => {
  const run = async (): Promise<SimulationResult[]> => {
    const results: SimulationResult[] = [];
    await resumeNear({ seed: 3, minutes: 1 }, 400, 2, (result) => results.push(result));
    return results;
  };
  const [first, second] = [await run(), await run()];
  assert.deepEqual(
    first.map(({ violations }) => violations),
    [[], []],
  );
  assert.equal(new Set(first.map(({ hash }) => hash)).size, 2);
  assert.deepEqual(
    first.map(({ hash }) => hash),
    second.map(({ hash }) => hash),
  );
});
