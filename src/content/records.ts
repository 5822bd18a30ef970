/**
 * Small durable tables: `table → key → JSON value`, held in memory, kept in one journal file.
 *
 * File. The first line is `{"format":1}`; every other line is `CRC32 JSON`, where JSON is a list of `[table, key, value
 * | null]` changes that
 * take effect together. A line whose checksum is wrong or whose newline is missing ends the journal: it was being
 * written when power or process went, and was never acknowledged, so it is cut off at start. Compaction writes a new
 * file and renames it over the old one.
 *
 * Invariants: `commit` resolves after fdatasync, so what was acknowledged survives loss of power (without `sync` only
 * the death of the process: for what its owner finds out again); commits that arrive while one is being written share
 * the next write. Memory shows a change at once, before it is durable. When a write fails, everything that is not
 * durable is undone, the latest first, and what only waited its turn is done again on top of what is left: a rejected
 * value is neither seen nor ever written.
 *
 * Does not: order scans (callers sort), lock against a second process (the owner of the data directory does).
 */
import {
  closeSync,
  fdatasyncSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crc32 } from 'node:zlib';
import { codeOf } from '#base/thrown.ts';
import { journalCompactBytesMin, recordBytesMax } from './limits.ts';

const format = 1;

export interface Change {
  table: string;
  key: string;
  /** undefined removes. */ value: unknown;
}

export interface CommitOptions {
  /** Absent: true. */
  sync?: boolean;
}

export interface Records {
  get<T>(table: string, key: string): T | undefined;
  /** A live view; do not hold it across a commit. */
  entries<T>(table: string): IterableIterator<[string, T]>;
  count(table: string): number;
  /** All changes or none; durable when it resolves, but with `sync: false` only written. */
  commit(changes: Change[], options?: CommitOptions): Promise<void>;
  close(): Promise<void>;
}

type Tables = Map<string, Map<string, unknown>>;

function encodeLine(changes: [string, string, unknown][]): Buffer {
  const text = JSON.stringify(changes);
  const bytes = Buffer.from(text);
  if (bytes.length > recordBytesMax) throw new Error(`a record of ${bytes.length} bytes is over the bound`);
  return Buffer.concat([Buffer.from(`${crc32(bytes).toString(16).padStart(8, '0')} `), bytes, Buffer.from('\n')]);
}

function apply(tables: Tables, changes: [string, string, unknown][]): void {
  for (const [name, key, value] of changes) {
    let table = tables.get(name);
    if (table === undefined) tables.set(name, (table = new Map()));
    if (value === null || value === undefined) table.delete(key);
    else table.set(key, value);
  }
}

/** Reads the journal; returns how many bytes of it are whole. */
function load(data: Buffer, tables: Tables, path: string): number {
  let at = data.indexOf(10) + 1;
  if (at === 0) return 0;
  const header = JSON.parse(data.toString('utf8', 0, at)) as { format?: number };
  if (header.format !== format)
    throw new Error(`${path} has format ${String(header.format)}; this version reads ${format}`);
  while (at < data.length) {
    const end = data.indexOf(10, at);
    if (end < 0) break;
    const body = data.subarray(at + 9, end);
    if (data.toString('latin1', at, at + 8) !== crc32(body).toString(16).padStart(8, '0')) break;
    apply(tables, JSON.parse(body.toString()) as [string, string, unknown][]);
    at = end + 1;
  }
  return at;
}

function snapshotLines(tables: Tables): Buffer {
  const parts: Buffer[] = [Buffer.from(`${JSON.stringify({ format })}\n`)];
  for (const [name, table] of tables) for (const [key, value] of table) parts.push(encodeLine([[name, key, value]]));
  return Buffer.concat(parts);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function rewrite(path: string, content: Buffer): void {
  const fd = openSync(`${path}.new`, 'w', 0o600);
  try {
    for (let at = 0; at < content.length;) at += writeSync(fd, content, at);
    fdatasyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(`${path}.new`, path);
  syncDirectory(dirname(path));
}

/** What is asked of the journal's file. */
export interface JournalFile {
  appendFile(bytes: Uint8Array): Promise<void>;
  datasync(): Promise<void>;
  truncate(bytes: number): Promise<void>;
  close(): Promise<void>;
}
type OpenFile = (path: string) => Promise<JournalFile>;
const openForAppend: OpenFile = (path) => open(path, 'a', 0o600);

interface Pending {
  line: Buffer;
  sync: boolean;
  changes: [string, string, unknown][];
  /** What the keys held before, in the order of the changes. */
  before: [string, string, unknown][];
  resolve: () => void;
  reject: (error: unknown) => void;
}

interface Journal {
  path: string;
  openFile: OpenFile;
  file: JournalFile;
  sizeBytes: number;
}

class JournalRecords implements Records {
  readonly #path: string;
  readonly #tables: Tables;
  readonly #open: OpenFile;
  #file: JournalFile;
  #sizeBytes: number;
  #liveBytes: number;
  #queue: Pending[] = [];
  #writing: Promise<void> | undefined;
  /** Set when a write failed: the file's end is unknown, so the next write starts by making the file anew. */
  #broken = false;

  constructor({ path, openFile, file, sizeBytes }: Journal, tables: Tables) {
    this.#path = path;
    this.#open = openFile;
    this.#tables = tables;
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#liveBytes = sizeBytes;
  }

  get<T>(table: string, key: string): T | undefined {
    return this.#tables.get(table)?.get(key) as T | undefined;
  }
  entries<T>(table: string): IterableIterator<[string, T]> {
    return (this.#tables.get(table) ?? new Map<string, T>()).entries() as IterableIterator<[string, T]>;
  }
  count(table: string): number {
    return this.#tables.get(table)?.size ?? 0;
  }

  async commit(changes: Change[], { sync = true }: CommitOptions = {}): Promise<void> {
    if (changes.length === 0) return;
    const list = changes.map((change): [string, string, unknown] => [change.table, change.key, change.value ?? null]);
    const line = encodeLine(list);
    await new Promise<void>((resolve, reject) => {
      const item: Pending = { line, sync, changes: list, before: [], resolve, reject };
      this.#show(item);
      this.#queue.push(item);
      this.#writing ??= this.#run();
    });
  }

  #show(item: Pending): void {
    // One change after the other: a list may change a key twice.
    item.before = item.changes.map((change): [string, string, unknown] => {
      const [table, key] = change;
      const old: [string, string, unknown] = [table, key, this.get(table, key) ?? null];
      apply(this.#tables, [change]);
      return old;
    });
  }

  #undo(failed: Pending[]): void {
    const waiting = this.#queue;
    for (const item of [...failed, ...waiting].reverse()) apply(this.#tables, item.before.reverse());
    for (const item of waiting) this.#show(item);
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const batch = this.#queue.splice(0);
      try {
        if (this.#broken) await this.#remake();
        else {
          const bytes = Buffer.concat(batch.map((item) => item.line));
          this.#broken = true;
          await this.#file.appendFile(bytes);
          if (batch.some(({ sync }) => sync)) await this.#file.datasync();
          this.#broken = false;
          this.#sizeBytes += bytes.length;
          if (this.#sizeBytes > journalCompactBytesMin && this.#sizeBytes > 2 * this.#liveBytes) await this.#remake();
        }
        for (const item of batch) item.resolve();
      } catch (error) {
        this.#undo(batch);
        // What reached the file of it must not come back with the next start.
        await this.#file.truncate(this.#sizeBytes).catch(() => {});
        for (const item of batch) item.reject(error);
      }
    }
    this.#writing = undefined;
  }

  async #remake(): Promise<void> {
    const content = snapshotLines(this.#tables);
    rewrite(this.#path, content);
    await this.#file.close();
    this.#file = await this.#open(this.#path);
    this.#sizeBytes = this.#liveBytes = content.length;
    this.#broken = false;
  }

  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }
}

/** Opens or makes the journal at `path`. Throws where a newer version wrote it. */
export async function openRecords(path: string, openFile = openForAppend): Promise<Records> {
  const tables: Tables = new Map();
  let data: Buffer = Buffer.alloc(0);
  try {
    data = readFileSync(path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
  }
  const whole = load(data, tables, path);
  if (whole === 0) rewrite(path, snapshotLines(tables));
  else if (whole < data.length) truncateSync(path, whole);
  return new JournalRecords({ path, openFile, file: await openFile(path), sizeBytes: Math.max(whole, 0) }, tables);
}
