import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AsyncQueue, QueueOverflowError } from './queue.ts';

test('items come out in order, also those pushed while the consumer waits', async () => {
  const queue = new AsyncQueue<number>(10);
  queue.push(1);
  queue.push(2);
  assert.equal((await queue.next()).value, 1);
  assert.equal((await queue.next()).value, 2);
  const waiting = queue.next();
  queue.push(3);
  assert.equal((await waiting).value, 3);
  queue.push(4);
  queue.close();
  assert.equal((await queue.next()).value, 4);
  assert.equal((await queue.next()).done, true);
});

test('a full queue fails after what it holds has been taken', async () => {
  const queue = new AsyncQueue<number>(1);
  assert.equal(queue.push(1), true);
  assert.equal(queue.push(2), false);
  assert.equal((await queue.next()).value, 1);
  await assert.rejects(queue.next(), QueueOverflowError);
  assert.equal((await queue.next()).done, true);
});

test('leaving the loop tells the producer once', async () => {
  let returns = 0;
  const queue = new AsyncQueue<number>(10, () => {
    returns++;
  });
  queue.push(1);
  queue.push(2);
  for await (const _item of queue) break;
  queue.close();
  assert.equal(returns, 1);
  assert.equal(queue.push(3), false);
});
