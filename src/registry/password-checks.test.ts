import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimClock, settle } from '#os/clock.sim.ts';
import { passwordRestFactor, passwordSuspectMs, passwordWaitersMax, passwordWaitersPerSourceMax } from './limits.ts';
import { PasswordChecks } from './password-checks.ts';

const checkMs = 100;

/** Checks that take virtual time; `log` tells when each one began. */
function makeBench(): {
  clock: SimClock;
  checks: PasswordChecks;
  log: [string, number][];
  ask(source: string, isRight: boolean): Promise<boolean>;
  mostAtOnce(): number;
  run(ms: number): Promise<void>;
} {
  const clock = new SimClock(0);
  const checks = new PasswordChecks(clock);
  const log: [string, number][] = [];
  let running = 0;
  let most = 0;
  return {
    clock,
    checks,
    log,
    mostAtOnce: () => most,
    ask: (source, isRight) =>
      checks.run(source, async () => {
        most = Math.max(most, ++running);
        log.push([source, clock.monotonic()]);
        await clock.sleep(checkMs);
        running--;
        return isRight;
      }),
    run: (ms) => clock.advance(ms),
  };
}

test('one check runs at a time, and sources take turns', async () => {
  const bench = makeBench();
  const results = [bench.ask('a', true), bench.ask('a', true), bench.ask('a', true), bench.ask('b', true)];
  await bench.run(10_000);
  assert.deepEqual(await Promise.all(results), [true, true, true, true]);
  assert.deepEqual([bench.log.map(([source]) => source).join(''), bench.mostAtOnce()], ['abaa', 1]);
});

test('who guesses costs a bounded share of the time and makes nobody else wait for more than one check', async () => {
  const bench = makeBench();
  for (let source = 0; source < 4; source++)
    for (let count = 0; count < passwordWaitersPerSourceMax; count++) void bench.ask(`guess${source}`, false);
  await bench.run(5000);
  const checkedMs = bench.log.length * checkMs;
  assert.ok(checkedMs <= 4 * checkMs + 5000 / (1 + passwordRestFactor) + checkMs, `${checkedMs} ms of 5000`);
  const askedMs = bench.clock.monotonic();
  const right = bench.ask('owner', true);
  await bench.run(2 * checkMs + 1);
  assert.equal(await right, true);
  assert.ok(bench.log.find(([source]) => source === 'owner')![1] - askedMs <= checkMs);
});

test('waiting places are bounded by source and in all, half of them for those who did not fail', async () => {
  const bench = makeBench();
  const refused: string[] = [];
  const ask = (source: string): void => {
    bench.ask(source, false).catch(() => refused.push(source));
  };
  for (let count = 0; count < passwordWaitersPerSourceMax + 5; count++) ask('one');
  await settle();
  assert.equal(refused.length, 4);
  await bench.run(checkMs + 1);
  for (let source = 0; bench.checks.waiting < passwordWaitersMax / 2; source++) ask(`s${source}`);
  refused.length = 0;
  ask('one');
  ask('new');
  await settle();
  assert.deepEqual(refused, ['one']);
  for (let source = 0; source < passwordWaitersMax; source++) ask(`t${source}`);
  await settle();
  assert.equal(bench.checks.waiting, passwordWaitersMax);
});

test('a wrong password is forgiven after a while', async () => {
  const bench = makeBench();
  void bench.ask('a', false);
  await bench.run(passwordSuspectMs + checkMs);
  void bench.ask('b', true);
  const order = [bench.ask('a', true), bench.ask('c', true)];
  await bench.run(1000);
  await Promise.all(order);
  assert.equal(bench.log.map(([source]) => source).join(''), 'abac');
});
