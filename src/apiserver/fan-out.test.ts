import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createFakeClock } from '#store/fake-clock.ts';
import { FanOut } from './fan-out.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import { fanOutRestMs, fanOutWatchersMin } from './limits.ts';

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('those that are told of the same', () => {
  it('rest together, and for as long as it took to tell them', async () => {
    const clock = createFakeClock();
    const fanOut = new FanOut(clock);
    const over: string[] = [];
    void fanOut.rest().then(() => over.push('first'));
    clock.advance(fanOutRestMs - 1);
    void fanOut.rest().then(() => over.push('last'));
    clock.advance(fanOutRestMs - 1);
    await settled();
    assert.deepEqual(over, []);
    clock.advance(1);
    await settled();
    assert.deepEqual(over, ['first', 'last']);
  });

  it('are told at once when nothing was for a while, then of all that has come meanwhile', async () => {
    await using t = await createTestApi();
    const from = t.api.server.store.currentRevision();
    const told: string[][] = [];
    const abort = new AbortController();
    const reading = Array.from({ length: fanOutWatchersMin }, async () => {
      const path = `${pods}?watch=1&resourceVersion=${from}`;
      const { body } = await t.raw('GET', path, { signal: abort.signal });
      const mine: string[] = [];
      told.push(mine);
      for await (const piece of body as AsyncIterable<Uint8Array>) mine.push(Buffer.from(piece).toString());
    });
    await settled();
    for (const name of ['a', 'b', 'c']) {
      await t.make(pods, podBody(name));
      await settled();
    }
    assert.ok(told.every((pieces) => pieces.length === 1));
    t.clock.advance(fanOutRestMs);
    await settled();
    await settled();
    assert.ok(told.every((pieces) => pieces.length === 2));
    assert.deepEqual(
      told[0]!.map((piece) => piece.trim().split('\n').length),
      [1, 2],
    );
    abort.abort();
    t.clock.advance(fanOutRestMs);
    await Promise.all(reading);
  });
});
