import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { Engine, ImageSummary } from '#engine/engine.ts';
import { silentLogger } from '#observe/log.ts';
import { bytesToFree, createImageCollector } from './image-collection.ts';

const image = (id: string, sizeBytes: number, createdAtMs: number, isCollectable: boolean): ImageSummary => ({
  id,
  sizeBytes,
  createdAtMs,
  isCollectable,
  names: [id],
  digests: [],
  config: {
    user: '',
    env: [],
    entrypoint: [],
    command: [],
    workingDir: '',
    volumes: [],
    exposedPorts: [],
    stopSignal: '',
    labels: {},
  },
});

test('nothing is to be freed below the high threshold, and down to the low one above it', () => {
  assert.equal(bytesToFree({ totalBytes: 1000, availableBytes: 160 }), 0);
  assert.equal(bytesToFree({ totalBytes: 1000, availableBytes: 150 }), 50);
  assert.equal(bytesToFree({ totalBytes: 1000, availableBytes: 0 }), 200);
});

test('the oldest images that only the kubelet needed go, once they were unneeded twice, and no others', async () => {
  const all = [
    image('new', 100, 3, true),
    image('old', 100, 1, true),
    image('users', 1000, 0, false),
    image('newer', 100, 4, true),
  ];
  const removed: string[] = [];
  const engine = {
    images: {
      list: () => all.filter((each) => !removed.includes(each.id)),
      remove: (id: string) => {
        removed.push(id);
        return Promise.resolve({ untagged: [], deleted: [id] });
      },
    },
  } as unknown as Engine;
  const collector = createImageCollector(engine, silentLogger);
  const full = { totalBytes: 1000, availableBytes: 0 };
  assert.match((await collector.collect(full))!, /Attempted to free 200 bytes, but only found 0 bytes/);
  assert.deepEqual(removed, []);
  assert.equal(await collector.collect(full), undefined);
  assert.deepEqual(removed, ['old', 'new']);
});
