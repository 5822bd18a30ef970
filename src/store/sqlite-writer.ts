/**
 * The writer: a worker that owns the SQLite file. It loads the rows once, then appends: a batch of transactions is one
 * SQLite transaction in WAL mode with
 * `synchronous=FULL`, so that when it answers `synced` the batch is on disk. Nobody else opens the file (exclusive
 * lock).
 *
 * File format 1: `log(id, key, value, created, lease)`, one row per change, `id = revision * 128 + n`, value null for a
 * delete; `meta(name, value)`: format, compacted, revision, and how often a write was tried (probe); `lease(id, ttl_ms,
 * expires_at)`. A newer format refuses to open.
 */
import { chmodSync, closeSync, existsSync, openSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { parentPort, workerData } from 'node:worker_threads';
import { messageOf } from '#base/thrown.ts';
import { vacuumPagesKept, walBytesMax } from './limits.ts';
import { rowsPerRevision } from './log-messages.ts';
import type { FromWriter, LoadedRow, ToWriter, WriterOptions, WrittenTransaction } from './log-messages.ts';

const fileFormat = 1;
const loadRowsPerMessage = 2000;
const options = workerData as WriterOptions;
const port = parentPort!;
const send = (message: FromWriter, transfer: ArrayBuffer[] = []): void => port.postMessage(message, transfer);

/**
 * Whoever reads the file reads the cluster's Secrets. SQLite gives its log and index the mode of the file itself; those
 * of an earlier version are narrowed.
 */
closeSync(openSync(options.path, 'a', 0o600));
for (const file of ['', '-wal', '-shm'])
  if (existsSync(`${options.path}${file}`)) chmodSync(`${options.path}${file}`, 0o600);
const database = new DatabaseSync(options.path);

function pragma(name: string): number {
  return Number(Object.values(database.prepare(`PRAGMA ${name}`).get() as Record<string, number>)[0]);
}

/**
 * Free pages can be given back one by one. A file made before this was so is written anew once, where there is room for
 * it.
 */
function prepareVacuum(): void {
  const incremental = 2;
  if (pragma('auto_vacuum') === incremental) return;
  database.exec('PRAGMA auto_vacuum=INCREMENTAL');
  if (pragma('page_count') < 2) return;
  try {
    database.exec('VACUUM');
  } catch {
    /* it stays as it is; the next start tries again */
  }
}

function prepareFile(): void {
  prepareVacuum();
  database.exec(
    `PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=${options.synchronous}; PRAGMA wal_autocheckpoint=2000; PRAGMA journal_size_limit=${walBytesMax}; PRAGMA cache_size=-4096; PRAGMA temp_store=MEMORY;`,
  );
  database.exec(`BEGIN IMMEDIATE;
    CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS log(
      id INTEGER PRIMARY KEY, key TEXT NOT NULL, value BLOB, created INTEGER NOT NULL, lease INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS lease(id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, expires_at INTEGER NOT NULL);
    INSERT OR IGNORE INTO meta VALUES('format', ${fileFormat}), ('compacted', 0), ('revision', 0); COMMIT;`);
  const format = readMeta('format');
  if (format > fileFormat)
    throw new Error(`${options.path} has format ${format}; this program knows ${fileFormat}: use a newer one`);
}

function readMeta(name: string): number {
  return Number((database.prepare('SELECT value FROM meta WHERE name = ?').get(name) as { value: number }).value);
}

function load(): void {
  let rows: LoadedRow[] = [];
  const flush = (): void => {
    send(
      { type: 'rows', rows },
      rows.flatMap((r) => (r.value === null ? [] : [r.value.buffer as ArrayBuffer])),
    );
    rows = [];
  };
  let last = 0;
  for (const row of database
    .prepare('SELECT id, key, value, created, lease FROM log ORDER BY id')
    .iterate() as Iterable<{ id: number; key: string; value: Uint8Array | null; created: number; lease: number }>) {
    last = Math.floor(row.id / rowsPerRevision);
    rows.push({ revision: last, key: row.key, value: row.value, createRevision: row.created, lease: row.lease });
    if (rows.length >= loadRowsPerMessage) flush();
  }
  flush();
  const leases = (
    database.prepare('SELECT id, ttl_ms, expires_at FROM lease').all() as {
      id: number;
      ttl_ms: number;
      expires_at: number;
    }[]
  ).map((l) => ({ id: l.id, ttlMs: l.ttl_ms, expiresAt: l.expires_at }));
  send({ type: 'ready', compacted: readMeta('compacted'), revision: Math.max(last, readMeta('revision')), leases });
}

prepareFile();
load();

const insert = database.prepare('INSERT INTO log(id, key, value, created, lease) VALUES(?, ?, ?, ?, ?)');
const remove = database.prepare('DELETE FROM log WHERE id >= ? AND id < ? AND key = ?');
const setMeta = database.prepare('UPDATE meta SET value = ? WHERE name = ?');
const touchMeta = database.prepare(
  "INSERT OR REPLACE INTO meta SELECT 'probe', IFNULL(MAX(value), 0) + 1 FROM meta WHERE name = 'probe'",
);
const putLease = database.prepare('INSERT OR REPLACE INTO lease VALUES(?, ?, ?)');
const dropLease = database.prepare('DELETE FROM lease WHERE id = ?');

function transaction(run: () => void): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    run();
    database.exec('COMMIT');
  } catch (error) {
    try {
      database.exec('ROLLBACK');
    } catch {
      /* SQLite has rolled back already */
    }
    throw error;
  }
}

function append(transactions: readonly WrittenTransaction[]): void {
  for (const { revision, rows } of transactions) {
    rows.forEach((row, n) =>
      insert.run(revision * rowsPerRevision + n, row.key, row.value ?? null, row.createRevision, row.lease),
    );
  }
}

/** Several rows of a revision are counted, in the order of their keys. */
function restore(revision: number, rows: readonly LoadedRow[]): void {
  const counts = new Map<number, number>();
  for (const row of rows) {
    const n = counts.get(row.revision) ?? 0;
    counts.set(row.revision, n + 1);
    insert.run(row.revision * rowsPerRevision + n, row.key, row.value, row.createRevision, row.lease);
  }
  setMeta.run(revision, 'compacted');
  setMeta.run(revision, 'revision');
}

/** How many free pages are more than are worth keeping. */
function freePages(): number {
  return Math.max(0, pragma('freelist_count') - Math.max(vacuumPagesKept, Math.floor(pragma('page_count') / 10)));
}

function vacuum(pages: number): void {
  const before = freePages();
  if (before > 0) database.prepare(`PRAGMA incremental_vacuum(${Math.min(pages, before)})`).all();
  const left = freePages();
  if (before > 0 && left === 0) database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  // Where a step gave nothing back, further ones would not either.
  send({ type: 'vacuumed', left: left < before ? left : 0 });
}

function handle(message: ToWriter): void {
  switch (message.type) {
    case 'commit':
      transaction(() => append(message.transactions));
      send({ type: 'synced' });
      return;
    case 'compact':
      transaction(() => {
        for (const { key, modRevision } of message.dropped)
          remove.run(modRevision * rowsPerRevision, (modRevision + 1) * rowsPerRevision, key);
        setMeta.run(message.revision, 'compacted');
        setMeta.run(message.revision, 'revision');
      });
      send({ type: 'synced' });
      return;
    case 'lease':
      putLease.run(message.id, message.ttlMs, message.expiresAt);
      send({ type: 'synced' });
      return;
    case 'unlease':
      dropLease.run(message.id);
      send({ type: 'synced' });
      return;
    case 'restore':
      transaction(() => restore(message.revision, message.rows));
      send({ type: 'synced' });
      return;
    case 'probe':
      transaction(() => {
        touchMeta.run();
      });
      send({ type: 'synced' });
      return;
    case 'vacuum':
      vacuum(message.pages);
      return;
    case 'close':
      database.close();
      send({ type: 'closed' });
      port.close();
  }
}

port.on('message', (message: ToWriter) => {
  try {
    handle(message);
  } catch (error) {
    send({ type: 'failed', message: messageOf(error) });
  }
});
