import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, it } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
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
  assert.deepEqual((await second.list('')).values.map((v) => [v.key, v.modRevision, v.createRevision, Buffer.from(v.value).toString()]), before.values.map((v) => [v.key, v.modRevision, v.createRevision, Buffer.from(v.value).toString()]));
  const events = [];
  for await (const batch of second.watch('/a/', 20)) { events.push(...batch); if (events.at(-1)!.revision === revision) break; }
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
  assert.deepEqual(rows.map((r) => r.key), ['/a']);
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
  const gone = (async () => { for await (const batch of second.watch('/l', second.currentRevision())) return batch[0]!.type; return undefined; })();
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
    const modes = ['', '-wal', '-shm'].flatMap((suffix) => { const stat = statSync(`${path}${suffix}`, { throwIfNoEntry: false }); return stat === undefined ? [] : [stat.mode & 0o777]; });
    assert.deepEqual([...new Set(modes)], [0o600]);
  } finally { process.umask(umask); }
});
