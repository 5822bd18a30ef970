import { test } from 'node:test';
import assert from 'node:assert/strict';
import { SingleFlight } from './single-flight.ts';

/** Work that ends when told to, and counts how often it was begun. */
function makeWork(): {
  work: (over: AbortSignal) => Promise<string>;
  begun: PromiseWithResolvers<string>[];
  signals: AbortSignal[];
} {
  const begun: PromiseWithResolvers<string>[] = [];
  const signals: AbortSignal[] = [];
  const work = (over: AbortSignal): Promise<string> => {
    const one = Promise.withResolvers<string>();
    over.addEventListener('abort', () => one.reject(over.reason as Error));
    begun.push(one);
    signals.push(over);
    return one.promise;
  };
  return { work, begun, signals };
}

test('those who come while it runs share its result, those who come later begin anew', async () => {
  const flights = new SingleFlight<string>();
  const { work, begun } = makeWork();
  const both = [flights.run('a', work), flights.run('a', work)];
  const other = flights.run('b', work);
  assert.equal(begun.length, 2);
  begun[0]!.resolve('first');
  assert.deepEqual(await Promise.all(both), ['first', 'first']);
  assert.equal(flights.has('a'), false);
  const again = flights.run('a', work);
  begun[2]!.resolve('second');
  assert.equal(await again, 'second');
  begun[1]!.resolve('other');
  assert.equal(await other, 'other');
});

test('a failure is that of all who wait, and is not kept', async () => {
  const flights = new SingleFlight<string>();
  const { work, begun } = makeWork();
  const both = [flights.run('a', work), flights.run('a', work, new AbortController().signal)];
  begun[0]!.reject(new Error('full'));
  for (const one of both) await assert.rejects(one, /full/);
  const again = flights.run('a', work);
  begun[1]!.resolve('room');
  assert.equal(await again, 'room');
});

test('one who gives up takes nothing from the others; the last one stops the work', async () => {
  const flights = new SingleFlight<string>();
  const { work, begun, signals } = makeWork();
  const [first, second] = [new AbortController(), new AbortController()];
  const one = flights.run('a', work, first.signal);
  const two = flights.run('a', work, second.signal);
  first.abort(new Error('the first left'));
  await assert.rejects(one, /the first left/);
  assert.equal(signals[0]!.aborted, false);
  second.abort(new Error('the second left'));
  await assert.rejects(two, /the second left/);
  assert.equal(signals[0]!.aborted, true);
  const three = flights.run('a', work);
  begun[1]!.resolve('anew');
  assert.equal(await three, 'anew');
});

test('the last one to give up waits until the work has cleaned up', async () => {
  const flights = new SingleFlight<string>();
  const stop = new AbortController();
  const cleaned = Promise.withResolvers<void>();
  let isClean = false;
  const one = flights.run(
    'a',
    async (over) => {
      await new Promise((resolve) => over.addEventListener('abort', resolve));
      await cleaned.promise;
      isClean = true;
      throw over.reason;
    },
    stop.signal,
  );
  stop.abort(new Error('left'));
  setImmediate(() => cleaned.resolve());
  await assert.rejects(one, /left/);
  assert.equal(isClean, true);
});

test('whose signal is over begins nothing', async () => {
  const flights = new SingleFlight<string>();
  const { work, begun } = makeWork();
  await assert.rejects(flights.run('a', work, AbortSignal.abort(new Error('over'))), /over/);
  assert.equal(begun.length, 0);
});
