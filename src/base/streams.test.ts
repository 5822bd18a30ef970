import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { setImmediate } from 'node:timers/promises';
import { test } from 'node:test';
import { onceAborted, onceClosed, onceEnded, whenDrained, whenFinished } from './streams.ts';

async function told(listen: (listener: () => void) => unknown): Promise<boolean> {
  let was = 0;
  listen(() => {
    was++;
  });
  await setImmediate();
  assert.ok(was <= 1);
  return was === 1;
}

test('an end is told, also to those who come after it', async () => {
  const stream = new PassThrough();
  stream.resume();
  let early = false;
  onceEnded(stream, () => {
    early = true;
  });
  stream.end();
  await setImmediate();
  assert.ok(early);
  assert.ok(await told((listener) => onceEnded(stream, listener)));
  const cut = new PassThrough();
  assert.ok(!(await told((listener) => onceEnded(cut, listener))));
  cut.destroy();
  await setImmediate();
  assert.ok(await told((listener) => onceEnded(cut, listener)));
  assert.ok(await told((listener) => onceClosed(cut, listener)));
});

test('nobody waits for a stream that is gone', async () => {
  const stream = new PassThrough({ highWaterMark: 1 });
  assert.equal(stream.write('x'), false);
  stream.destroy();
  await setImmediate();
  await whenDrained(stream);
  await whenFinished(stream);
});

test('an abort that was before counts', async () => {
  assert.ok(await told((listener) => onceAborted(AbortSignal.abort(), listener)));
  const forget = onceAborted(AbortSignal.abort(), () => assert.fail('taken back'));
  forget();
  await setImmediate();
});
