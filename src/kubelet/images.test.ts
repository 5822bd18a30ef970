/** Pulls that Pods share: who leaves takes the pull from nobody, and the last to leave ends it. */
import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ImageSummary, Images } from '#engine/engine.ts';
import { SimClock } from '#os/clock.sim.ts';
import { createImageManager, createImageSource } from './images.ts';
import { Interrupted, Interruption } from './interruption.ts';
import { stored } from './stored.testing.ts';

const summary = { id: 'i', sizeBytes: 1 } as ImageSummary;

function pulling() {
  const events: string[] = [];
  const { promise, resolve } = Promise.withResolvers<ImageSummary>();
  const signals: AbortSignal[] = [];
  const images: Pick<Images, 'find' | 'pull'> = {
    find: () => undefined,
    pull: async (_image, options) => {
      signals.push(options!.signal!);
      options!.signal!.throwIfAborted();
      return promise;
    },
  };
  const source = createImageSource({ engine: { images: images as Images }, credentials: async () => [] });
  const manager = createImageManager({
    source,
    clock: new SimClock(0),
    tell: ({ pod }, _type, reason) => events.push(`${pod.metadata.name} ${reason}`),
  });
  const ensure = (name: string, stop: Interruption): Promise<ImageSummary> => {
    const pod: Pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...stored, name, namespace: 'd', uid: name },
      spec: { containers: [] },
    };
    return manager.ensure(pod, { name: 'c', image: 'app:1' }, stop);
  };
  return { events, resolve, signals, ensure };
}

test('a Pod that goes while it waits for a pull takes it from no other; nothing has failed', async () => {
  const { events, resolve, signals, ensure } = pulling();
  const [first, second] = [new Interruption([]), new Interruption([])];
  const [one, two] = [ensure('one', first), ensure('two', second)];
  await new Promise(setImmediate);
  assert.equal(signals.length, 1, 'one pull for both');
  first.interrupt();
  await assert.rejects(one, Interrupted);
  assert.equal(signals[0]!.aborted, false);
  resolve(summary);
  assert.equal(await two, summary);
  assert.deepEqual(events, ['one Pulling', 'two Pulling', 'two Pulled']);
});

test('a pull that nobody waits for any more ends, and the next Pod begins another', async () => {
  const { resolve, signals, ensure } = pulling();
  const stop = new Interruption([]);
  const gone = ensure('one', stop);
  await new Promise(setImmediate);
  stop.interrupt();
  await assert.rejects(gone, Interrupted);
  assert.equal(signals[0]!.aborted, true);
  const next = ensure('two', new Interruption([]));
  await new Promise(setImmediate);
  assert.equal(signals.length, 2);
  resolve(summary);
  assert.equal(await next, summary);
});
