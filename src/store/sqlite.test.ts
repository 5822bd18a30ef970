import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, it } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { LogStore } from './log-store.ts';
import { openSqliteStore } from './sqlite.ts';
import { runStoreSuite } from './store.suite.ts';
import { createFakeClock } from './fake-clock.ts';

const dir = mkdtempSync(join(tmpdir(), 'tiphys-store-'));
after(() => rmSync(dir, { recursive: true, force: true }));
let files = 0;
const fresh = (): string => join(dir, `${files++}.db`);
const open = (path: string, clock: Clock = createFakeClock()) => openSqliteStore({ path, clock, log: silentLogger });

runStoreSuite('SQLite store', (clock) => open(fresh(), clock));

const put = (key: string, value: string) => ({ type: 'put', key, value: Buffer.from(value) }) as const;

it('a reopened store has every value, revision and the history since the last compaction', async () => {
  const path = fresh();
  const first = await open(path);
  for (let i = 0; i < 50; i++) await first.txn([], [put(`/a/${i % 10}`, String(i)), put(`/b/${i}`, 'x')]);
  await first.txn([], [{ type: 'delete', key: '/a/3' }]);
  await first.compact(20);
  const before = await first.list('');
  const revision = first.currentRevision();
  await first[Symbol.asyncDispose]();
  await using second = await open(path);
  assert.equal(second.currentRevision(), revision);
  assert.equal(second.compactedRevision(), 20);
  assert.deepEqual(
    (await second.list('')).values.map((v) => [
      v.key,
      v.modRevision,
      v.createRevision,
      Buffer.from(v.value).toString(),
    ]),
    before.values.map((v) => [v.key, v.modRevision, v.createRevision, Buffer.from(v.value).toString()]),
  );
  const events = [];
  for await (const batch of second.watch('/a/', 20)) {
    events.push(...batch);
    if (events.at(-1)!.revision === revision) break;
  }
  assert.equal(events.length, 31);
  assert.deepEqual([events[0]!.revision, Buffer.from(events[0]!.previous!.value).toString()], [21, '10']);
});

it('compaction removes what nobody can read from the file', async () => {
  const path = fresh();
  const store = await open(path);
  for (let i = 0; i < 100; i++) await store.txn([], [put('/a', String(i))]);
  await store.txn([], [put('/b', '1')]);
  await store.txn([], [{ type: 'delete', key: '/b' }]);
  await store.compact(store.currentRevision());
  await store[Symbol.asyncDispose]();
  const database = new DatabaseSync(path);
  const rows = database.prepare('SELECT key FROM log').all();
  database.close();
  assert.deepEqual(
    rows.map((r) => r.key),
    ['/a'],
  );
});

it('a lease outlives the process that granted it', async () => {
  const path = fresh();
  const clock = createFakeClock();
  const first = await open(path, clock);
  const lease = await first.grantLease(60);
  await first.txn([], [{ ...put('/l', 'x'), lease }]);
  await first[Symbol.asyncDispose]();
  const later = createFakeClock(clock.now());
  await using second = await open(path, later);
  const gone = (async () => {
    for await (const batch of second.watch('/l', second.currentRevision())) return batch[0]!.type;
    return undefined;
  })();
  later.advance(61_000);
  assert.equal(await gone, 'delete');
});

it('refuses a file that another process holds, and one of a newer format', async () => {
  const path = fresh();
  const first = await open(path);
  await assert.rejects(open(path), /another process holds it/);
  await first[Symbol.asyncDispose]();
  const database = new DatabaseSync(path);
  database.exec("UPDATE meta SET value = 99 WHERE name = 'format'");
  database.close();
  await assert.rejects(open(path), /format 99/);
});

it('the file, its log and its index are for their owner alone, also where they were made otherwise', async () => {
  const path = fresh();
  const umask = process.umask(0);
  try {
    const first = await open(path);
    await first.txn([], [put('/a', '1')]);
    await first[Symbol.asyncDispose]();
    chmodSync(path, 0o644);
    await using second = await open(path);
    await second.txn([], [put('/a', '2')]);
    const modes = ['', '-wal', '-shm'].flatMap((suffix) => {
      const stat = statSync(`${path}${suffix}`, { throwIfNoEntry: false });
      return stat === undefined ? [] : [stat.mode & 0o777];
    });
    assert.deepEqual([...new Set(modes)], [0o600]);
  } finally {
    process.umask(umask);
  }
});

it('gives room back while nobody writes, also from a file that could not', async () => {
  const path = fresh();
  const clock = createFakeClock();
  {
    await using store = await open(path);
    for (let i = 0; i < 20; i++) await store.txn([], [put('/a', 'x'.repeat(500_000))]);
  }
  const pagesOf = (name: string): number => {
    const database = new DatabaseSync(path);
    const [value] = Object.values(database.prepare(`PRAGMA ${name}`).get() as Record<string, number>);
    database.close();
    return value!;
  };
  const before = pagesOf('page_count');
  assert.ok(before > 2000);
  // As a file of an older program is.
  {
    const database = new DatabaseSync(path);
    database.exec('PRAGMA journal_mode=DELETE; PRAGMA auto_vacuum=NONE; VACUUM');
    database.close();
  }
  assert.equal(pagesOf('auto_vacuum'), 0);
  {
    await using store = await open(path, clock);
    await store.compact(store.currentRevision());
    for (let step = 0; step < 40; step++) {
      clock.advance(2_500);
      await store.grantLease(60);
    }
    assert.equal(Buffer.from((await store.get('/a'))!.value).length, 500_000);
  }
  assert.equal(pagesOf('auto_vacuum'), 2);
  assert.ok(pagesOf('page_count') < before / 3, `${pagesOf('page_count')} of ${before} pages`);
});

it('says that no write succeeds, and that one does again', async () => {
  const path = fresh();
  const clock = createFakeClock();
  await using store = await open(path, clock);
  assert.equal(await store.health(), undefined);
  const refused = new LogStore(
    {
      send: (_message, answered) => answered({ type: 'failed', message: 'database or disk is full' }),
      close: async () => undefined,
    },
    { rows: [], compacted: 0, revision: 0, leases: [] },
    { clock, log: silentLogger },
  );
  assert.match((await refused.health())!, /disk is full/);
  await assert.rejects(refused.txn([], [put('/a', '1')]), /could not write/);
  let works = false;
  const again = new LogStore(
    {
      send: (_message, answered) => answered(works ? { type: 'synced' } : { type: 'failed', message: 'full' }),
      close: async () => undefined,
    },
    { rows: [], compacted: 0, revision: 0, leases: [] },
    { clock, log: silentLogger },
  );
  await assert.rejects(again.txn([], [put('/a', '1')]), /could not write/);
  assert.match((await again.health())!, /full/);
  works = true;
  clock.advance(2_000);
  assert.equal(await again.health(), undefined);
  const stuck = new LogStore(
    { send: () => undefined, close: async () => undefined },
    { rows: [], compacted: 0, revision: 0, leases: [] },
    { clock, log: silentLogger },
  );
  const asked = stuck.health();
  clock.advance(5_001);
  assert.match((await asked)!, /does not answer/);
});
