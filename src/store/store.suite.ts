/** What every store must do. Each backend's test calls `runStoreSuite` with a way to make an empty store. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import type { Clock } from '#os/clock.ts';
import { transactionOperationsMax } from './limits.ts';
import { CompactedError, FutureRevisionError } from './store.ts';
import type { Store, StoreEvent } from './store.ts';
import { createFakeClock } from './fake-clock.ts';
import type { FakeClock } from './fake-clock.ts';

const bytes = (text: string): Uint8Array => Buffer.from(text);
export const text = (value: Uint8Array | undefined): string | undefined =>
  value === undefined ? undefined : Buffer.from(value).toString();
const put = (store: Store, key: string, value: string) => store.txn([], [{ type: 'put', key, value: bytes(value) }]);

export async function take(watch: AsyncIterable<StoreEvent[]>, count: number): Promise<StoreEvent[]> {
  const out: StoreEvent[] = [];
  for await (const batch of watch) {
    out.push(...batch);
    if (out.length >= count) break;
  }
  return out;
}

/** `time`: whether leases end by the clock that the store is given, or by that of somebody else's, which is real. */
export function runStoreSuite(
  name: string,
  make: (clock: Clock) => Promise<Store>,
  time: 'leases of the given clock' | 'leases of its own clock' = 'leases of the given clock',
): void {
  const withStore = (run: (store: Store, clock: FakeClock) => Promise<void>) => async (): Promise<void> => {
    const clock = createFakeClock();
    const store = await make(clock);
    try {
      await run(store, clock);
    } finally {
      await store[Symbol.asyncDispose]();
    }
  };

  describe(name, () => {
    it(
      'grows the revision by one with each transaction that changes something',
      withStore(async (store) => {
        const start = store.currentRevision();
        assert.equal((await put(store, '/a', '1')).revision, start + 1);
        assert.equal(
          (
            await store.txn(
              [],
              [
                { type: 'put', key: '/b', value: bytes('2') },
                { type: 'put', key: '/c', value: bytes('3') },
              ],
            )
          ).revision,
          start + 2,
        );
        const nothing = await store.txn([], [{ type: 'delete', key: '/none' }]);
        assert.deepEqual([nothing.succeeded, nothing.revision, store.currentRevision()], [true, start + 2, start + 2]);
      }),
    );

    it(
      'keeps createRevision over updates and starts anew after a delete',
      withStore(async (store) => {
        const first = (await put(store, '/a', '1')).revision;
        const second = (await put(store, '/a', '2')).revision;
        const value = (await store.get('/a'))!;
        assert.deepEqual([value.createRevision, value.modRevision, text(value.value)], [first, second, '2']);
        await store.txn([], [{ type: 'delete', key: '/a' }]);
        assert.equal(await store.get('/a'), undefined);
        const third = (await put(store, '/a', '3')).revision;
        assert.equal((await store.get('/a'))!.createRevision, third);
      }),
    );

    it(
      'refuses a transaction whose compare fails and says what the keys hold',
      withStore(async (store) => {
        const { revision } = await put(store, '/a', '1');
        const failed = await store.txn(
          [
            { key: '/a', modRevision: 0 },
            { key: '/b', modRevision: 0 },
          ],
          [{ type: 'put', key: '/b', value: bytes('x') }],
        );
        assert.deepEqual(
          [failed.succeeded, failed.current.map((c) => [c.key, c.modRevision])],
          [false, [['/a', revision]]],
        );
        assert.equal(await store.get('/b'), undefined);
        assert.equal(
          (
            await store.txn(
              [
                { key: '/a', modRevision: revision },
                { key: '/a', createRevision: revision },
              ],
              [{ type: 'put', key: '/a', value: bytes('2') }],
            )
          ).succeeded,
          true,
        );
      }),
    );

    it(
      'lets exactly one of many concurrent creators win',
      withStore(async (store) => {
        const results = await Promise.all(
          Array.from({ length: 50 }, (_, i) =>
            store.txn([{ key: '/x', modRevision: 0 }], [{ type: 'put', key: '/x', value: bytes(String(i)) }]),
          ),
        );
        const winners = results.filter((r) => r.succeeded);
        assert.equal(winners.length, 1);
        for (const lost of results.filter((r) => !r.succeeded))
          assert.equal(lost.current[0]!.modRevision, winners[0]!.revision);
      }),
    );

    it(
      'lists a prefix in key order, in pages, at a revision',
      withStore(async (store) => {
        for (const key of ['/r/c', '/r/a', '/q/z', '/r/b', '/s/a']) await put(store, key, key);
        const before = store.currentRevision();
        await store.txn([], [{ type: 'delete', key: '/r/b' }]);
        await put(store, '/r/d', 'd');
        assert.deepEqual(
          (await store.list('/r/')).values.map((v) => v.key),
          ['/r/a', '/r/c', '/r/d'],
        );
        assert.deepEqual(
          (await store.list('/r/', { revision: before })).values.map((v) => v.key),
          ['/r/a', '/r/b', '/r/c'],
        );
        const page = await store.list('/r/', { revision: before, limit: 1 });
        assert.deepEqual(
          [page.values.map((v) => v.key), page.more, page.remaining, page.revision],
          [['/r/a'], true, 2, before],
        );
        const rest = await store.list('/r/', { revision: before, after: '/r/a' });
        assert.deepEqual([rest.values.map((v) => v.key), rest.more], [['/r/b', '/r/c'], false]);
      }),
    );

    it(
      'lists thousands of keys in order',
      withStore(async (store) => {
        const keys = Array.from({ length: 3000 }, (_, i) => `/n/${String((i * 7919) % 3000).padStart(5, '0')}`);
        for (let at = 0; at < keys.length; at += 100)
          await store.txn(
            [],
            keys.slice(at, at + 100).map((key) => ({ type: 'put', key, value: bytes(key) })),
          );
        assert.deepEqual(
          (await store.list('/n/')).values.map((v) => v.key),
          [...keys].sort(),
        );
      }),
    );

    it(
      'reads a key as it was',
      withStore(async (store) => {
        const one = (await put(store, '/a', '1')).revision;
        await put(store, '/a', '2');
        assert.equal(text((await store.get('/a', one))!.value), '1');
        assert.equal(await store.get('/a', one - 1), undefined);
        await assert.rejects(store.get('/a', store.currentRevision() + 1), FutureRevisionError);
      }),
    );

    it(
      'watches from a revision: history first, then what comes, whole transactions in order and nothing twice',
      withStore(async (store) => {
        const from = store.currentRevision();
        await put(store, '/w/a', '1');
        await put(store, '/v/a', 'other');
        await put(store, '/w/a', '2');
        const watch = store.watch('/w/', from);
        const taken = take(watch, 5);
        await store.txn(
          [],
          [
            { type: 'delete', key: '/w/a' },
            { type: 'put', key: '/w/b', value: bytes('3') },
            { type: 'put', key: '/v/b', value: bytes('4') },
          ],
        );
        await put(store, '/w/b', '5');
        const events = await taken;
        assert.deepEqual(
          events.map((e) => [e.type, e.key, text(e.value?.value), text(e.previous?.value)]),
          [
            ['put', '/w/a', '1', undefined],
            ['put', '/w/a', '2', '1'],
            ['delete', '/w/a', undefined, '2'],
            ['put', '/w/b', '3', undefined],
            ['put', '/w/b', '5', '3'],
          ],
        );
        assert.deepEqual(
          events.map((e) => e.revision),
          [...events.map((e) => e.revision)].sort((a, b) => a - b),
        );
      }),
    );

    it(
      'watches a single key',
      withStore(async (store) => {
        const taken = take(store.watch('/k/one', store.currentRevision()), 1);
        await put(store, '/k/two', 'x');
        await put(store, '/k/one', 'y');
        assert.deepEqual(
          (await taken).map((e) => e.key),
          ['/k/one'],
        );
      }),
    );

    it(
      'catches up a watcher that fell far behind',
      withStore(async (store) => {
        const watch = store.watch('/f/', store.currentRevision());
        for (let i = 0; i < 5000; i += 100)
          await Promise.all(Array.from({ length: 100 }, (_, j) => put(store, `/f/${i + j}`, 'x')));
        const events = await take(watch, 5000);
        assert.equal(new Set(events.map((e) => e.revision)).size, 5000);
      }),
    );

    it(
      'delivers to a routed watcher every event of its value, before and after it came there',
      withStore(async (store) => {
        const valuesOf = (event: StoreEvent): string[] =>
          [text(event.value?.value), text(event.previous?.value)].filter((v) => v !== undefined);
        const mine = take(store.watch('/r/', store.currentRevision(), { name: 'value', value: 'one', valuesOf }), 3);
        await put(store, '/r/a', 'two');
        await put(store, '/r/b', 'one');
        await put(store, '/r/b', 'two');
        await put(store, '/r/a', 'one');
        const events = (await mine).filter((e) => valuesOf(e).includes('one'));
        assert.deepEqual(
          events.slice(0, 3).map((e) => [e.key, text(e.value?.value)]),
          [
            ['/r/b', 'one'],
            ['/r/b', 'two'],
            ['/r/a', 'one'],
          ],
        );
      }),
    );

    it(
      'ends a watch that is closed',
      withStore(async (store) => {
        const watch = store.watch('/c/', store.currentRevision());
        const done = take(watch, 1);
        watch.close();
        assert.deepEqual(await done, []);
      }),
    );

    it(
      'forgets what was compacted and keeps what is current',
      withStore(async (store) => {
        const one = (await put(store, '/a', '1')).revision;
        await put(store, '/b', '1');
        await store.txn([], [{ type: 'delete', key: '/b' }]);
        const two = (await put(store, '/a', '2')).revision;
        await put(store, '/a', '3');
        await store.compact(two);
        assert.equal(store.compactedRevision(), two);
        await assert.rejects(store.get('/a', one), CompactedError);
        await assert.rejects(store.list('/', { revision: one }), CompactedError);
        assert.equal(text((await store.get('/a', two))!.value), '2');
        assert.equal(text((await store.get('/a'))!.value), '3');
        await assert.rejects(take(store.watch('/', one), 1), CompactedError);
        assert.deepEqual(
          (await take(store.watch('/a', two), 1)).map((e) => text(e.value?.value)),
          ['3'],
        );
      }),
    );

    it(
      'bounds a transaction as etcd does',
      withStore(async (store) => {
        const many = Array.from(
          { length: transactionOperationsMax + 1 },
          (_, i) => ({ type: 'put', key: `/m/${i}`, value: bytes('x') }) as const,
        );
        await assert.rejects(store.txn([], many), /too many operations/);
        await assert.rejects(
          store.txn([], [{ type: 'put', key: '/m', value: new Uint8Array(1_600_000) }]),
          /too large/,
        );
        assert.equal((await store.list('/m')).values.length, 0);
      }),
    );

    it(
      'deletes the keys of a lease when it ends, unless it is kept alive or they moved',
      withStore(async (store, clock) => {
        const isReal = time === 'leases of its own clock';
        const ttlSeconds = isReal ? 3 : 60;
        const pass = async (part: number): Promise<void> => {
          if (isReal) await realClock.sleep(ttlSeconds * 1000 * part);
          else clock.advance(ttlSeconds * 1000 * part);
        };
        const lease = await store.grantLease(ttlSeconds);
        await store.txn(
          [],
          [
            { type: 'put', key: '/l/a', value: bytes('1'), lease },
            { type: 'put', key: '/l/b', value: bytes('1'), lease },
          ],
        );
        for (let quarters = 0; quarters < 6; quarters++) {
          await pass(0.25);
          await store.keepLeaseAlive(lease);
        }
        assert.equal((await store.list('/l/')).values.length, 2);
        await put(store, '/l/b', 'without lease');
        const gone = take(store.watch('/l/a', store.currentRevision()), 1);
        await pass(1.01);
        assert.equal((await gone)[0]!.type, 'delete');
        assert.deepEqual(
          (await store.list('/l/')).values.map((v) => v.key),
          ['/l/b'],
        );
      }),
    );
  });
}
