import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createMemoryStore } from './memory.ts';
import { runStoreSuite } from './store.suite.ts';
import { createFakeClock } from './fake-clock.ts';

runStoreSuite('memory store', async (clock) => createMemoryStore(clock));
runStoreSuite('fork of a memory store', async (clock) => {
  const base = createMemoryStore(clock);
  await base.txn([], [{ type: 'put', key: '~base', value: Buffer.from('x') }]);
  return base.fork();
});

it('a fork and its base go on independently', async () => {
  const base = createMemoryStore(createFakeClock());
  for (let i = 0; i < 1000; i++) await base.txn([], [{ type: 'put', key: `/k/${i}`, value: Buffer.from('base') }]);
  const fork = base.fork();
  const at = base.currentRevision();
  await fork.txn(
    [],
    [
      { type: 'put', key: '/k/1', value: Buffer.from('fork') },
      { type: 'delete', key: '/k/2' },
    ],
  );
  await base.txn([], [{ type: 'put', key: '/k/3', value: Buffer.from('later') }]);
  const read = async (store: { get(key: string): Promise<{ value: Uint8Array } | undefined> }, key: string) => {
    const v = await store.get(key);
    return v === undefined ? undefined : Buffer.from(v.value).toString();
  };
  assert.deepEqual(
    [await read(base, '/k/1'), await read(base, '/k/2'), await read(base, '/k/3')],
    ['base', 'base', 'later'],
  );
  assert.deepEqual(
    [await read(fork, '/k/1'), await read(fork, '/k/2'), await read(fork, '/k/3')],
    ['fork', undefined, 'base'],
  );
  assert.deepEqual([base.currentRevision(), fork.currentRevision()], [at + 1, at + 1]);
});
