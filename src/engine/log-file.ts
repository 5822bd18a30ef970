/**
 * One file of a container's log as conmon writes it: records `TIME STREAM TAG text` (the k8s-file format, which is
 * CRI's), where tag `P` marks a piece of a line whose rest follows in later records of the same stream, and `F` its
 * end. Records are read forward from any place, backward from any place, or looked for by time; always a chunk at a
 * time, so that the caller can give way in between. Files may be of any size.
 */
import {
  closeSync,
  createReadStream,
  createWriteStream,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { codeOf } from '#base/thrown.ts';
import { formatNanoseconds, parseRfc3339 } from '#base/timestamp.ts';
import type { LogLine } from './engine.ts';
import { logReadChunkBytes, logRecordBytesMax, logRotatedFilesMax, logTailChunkBytes } from './limits.ts';

const newline = 0x0a;

/** A record in its file: from `at`, without its newline. */
export interface RawRecord {
  at: number;
  bytes: Buffer;
}

/** One record without its newline; undefined when it is none of ours. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const head = headOf(line);
  if (head === undefined) return undefined;
  const text = line.subarray(head.textFrom);
  return {
    stream: head.stream,
    timestamp: timeOf(line),
    partial: head.partial,
    data: head.partial ? Buffer.from(text) : Buffer.concat([text, Buffer.of(newline)]),
  };
}

/** What a record is, without its time, which is the dear part. */
export function headOf(line: Buffer): { stream: 'stdout' | 'stderr'; partial: boolean; textFrom: number } | undefined {
  const first = line.indexOf(0x20);
  const second = line.indexOf(0x20, first + 1);
  const third = line.indexOf(0x20, second + 1);
  if (first < 0 || second < 0 || third < 0) return undefined;
  const stream = line.toString('latin1', first + 1, second);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  return { stream, partial: line[second + 1] === 0x50, textFrom: third + 1 };
}

/** A record's time, UTC with nine digits: texts compare as the times do. */
export function timeOf(line: Buffer): string {
  return normaliseTime(line.toString('latin1', 0, Math.max(0, line.indexOf(0x20))));
}

/** conmon writes its local offset; readers want UTC with nine digits. */
export function normaliseTime(text: string): string {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|[+-]00:?00)$/.exec(text);
  if (match !== null) return `${match[1]}.${(match[2] ?? '').padEnd(9, '0').slice(0, 9)}Z`;
  const ns = parseRfc3339(text);
  return ns === undefined ? text : formatNanoseconds(ns);
}

export class LogFile {
  readonly #fd: number;
  readonly inode: number;
  /** Where `read` goes on. */
  position = 0;
  #left: Buffer = Buffer.alloc(0);

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
    this.inode = fstatSync(this.#fd).ino;
  }

  get size(): number {
    return fstatSync(this.#fd).size;
  }

  /** `read` begins at this place, which begins a record. */
  seek(position: number): void {
    this.position = position;
    this.#left = Buffer.alloc(0);
  }

  /** The next whole records up to `end`, at most about a chunk's worth; empty at the end of what is written. */
  read(end = Infinity): RawRecord[] {
    for (;;) {
      const chunk = Buffer.allocUnsafe(Math.max(0, Math.min(logReadChunkBytes, end - this.position)));
      const count = readSync(this.#fd, chunk, 0, chunk.length, this.position);
      if (count === 0) {
        if (this.size < this.position) this.seek(0);
        return [];
      }
      const from = this.position - this.#left.length;
      this.position += count;
      const bytes =
        this.#left.length === 0 ? chunk.subarray(0, count) : Buffer.concat([this.#left, chunk.subarray(0, count)]);
      const { records, rest } = split(bytes, from);
      this.#left = rest.length > logRecordBytesMax ? Buffer.alloc(0) : Buffer.from(rest);
      if (records.length > 0) return records;
    }
  }

  /**
   * Chunks of records from the last one that ends by `end` back to the one at `start`; the records of a chunk in the
   * file's order.
   */
  *backward(end: number, start = 0): Generator<RawRecord[]> {
    let carry: Buffer = Buffer.alloc(0);
    let size = logTailChunkBytes;
    for (let at = end; at > start; size = Math.min(size * 2, logReadChunkBytes)) {
      const from = Math.max(start, at - size);
      const chunk = this.#bytes(from, at);
      const bytes = carry.length === 0 ? chunk : Buffer.concat([chunk, carry]);
      at = from;
      const first = from === start ? -1 : bytes.indexOf(newline);
      if (from !== start && first < 0) {
        carry = bytes.length > logRecordBytesMax ? Buffer.alloc(0) : bytes;
        continue;
      }
      carry = Buffer.from(bytes.subarray(0, first + 1));
      yield split(bytes.subarray(first + 1), from + first + 1).records;
    }
  }

  /** Where the last whole record before `before` ends. */
  lastEnd(before: number): number {
    let size = logTailChunkBytes;
    for (let at = before; at > 0; size = Math.min(size * 2, logReadChunkBytes)) {
      const from = Math.max(0, at - size);
      const found = this.#bytes(from, at).lastIndexOf(newline);
      if (found >= 0) return from + found + 1;
      at = from;
    }
    return 0;
  }

  /** Where the first record that ends at `from` or later has its end; the file's end when there is none. */
  firstEnd(from: number): number {
    const { size } = this;
    for (let at = Math.max(0, from - 1); at < size; at += logReadChunkBytes) {
      const found = this.#bytes(at, Math.min(size, at + logReadChunkBytes)).indexOf(newline);
      if (found >= 0) return at + found + 1;
    }
    return size;
  }

  /** Hands the bytes from one place to another to `write`, in chunks. */
  async copy(from: number, to: number, write: (bytes: Buffer) => Promise<void>): Promise<void> {
    for (let at = from; at < to; at += logReadChunkBytes)
      await write(this.#bytes(at, Math.min(to, at + logReadChunkBytes)));
  }

  /**
   * A place that begins a record, shortly before the first record of that time or later, found in few reads. Records
   * lie in the order of their times but where the machine's clock was set back; what a chunk before is looked at again
   * covers small steps.
   */
  placeOf(time: string): number {
    let low = 0;
    let high = this.size;
    while (high - low > logReadChunkBytes) {
      const middle = low + Math.floor((high - low) / 2);
      const record = this.#firstAfter(middle, high);
      if (record !== undefined && timeOf(record.bytes) < time) low = record.at;
      else high = middle;
    }
    return this.lastEnd(Math.max(0, low - logReadChunkBytes));
  }

  #firstAfter(from: number, end: number): RawRecord | undefined {
    for (let size = logReadChunkBytes; ; size *= 2) {
      const bytes = this.#bytes(from, Math.min(end, from + size));
      const first = bytes.indexOf(newline);
      const second = first < 0 ? -1 : bytes.indexOf(newline, first + 1);
      if (second >= 0) return { at: from + first + 1, bytes: bytes.subarray(first + 1, second) };
      if (from + size >= end || size > logRecordBytesMax) return undefined;
    }
  }

  #bytes(from: number, to: number): Buffer {
    const out = Buffer.allocUnsafe(to - from);
    let count = 0;
    while (count < out.length) {
      const got = readSync(this.#fd, out, count, out.length - count, from + count);
      if (got === 0) break;
      count += got;
    }
    return out.subarray(0, count);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function split(bytes: Buffer, at: number): { records: RawRecord[]; rest: Buffer } {
  const records: RawRecord[] = [];
  let from = 0;
  for (let to = bytes.indexOf(newline); to >= 0; to = bytes.indexOf(newline, from)) {
    records.push({ at: at + from, bytes: bytes.subarray(from, to) });
    from = to + 1;
  }
  return { records, rest: bytes.subarray(from) };
}

export function openIfAny(path: string): LogFile | undefined {
  try {
    return new LogFile(path);
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Of compressed files, for readers: each of its own. */
let copies = 0;

/** Also of a compressed one: it is read from a copy that goes with its descriptor. */
export async function openRotated(path: string): Promise<LogFile | undefined> {
  // It may be compressed in this moment.
  if (!path.endsWith('.gz'))
    return openIfAny(path) ?? (inodeOf(`${path}.gz`) === undefined ? undefined : openRotated(`${path}.gz`));
  copies += 1;
  const copy = `${path}.${copies}.read`;
  try {
    await pipeline(createReadStream(path), createGunzip(), createWriteStream(copy, { mode: 0o600 }));
    return openIfAny(copy);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  } finally {
    rmSync(copy, { force: true });
  }
}

/** In place of itself, and whole: a reader finds the one or the other. */
export async function compressFile(path: string): Promise<void> {
  const part = `${path}.gz.part`;
  try {
    await pipeline(createReadStream(path), createGzip({ level: 1 }), createWriteStream(part, { mode: 0o600 }));
    renameSync(part, `${path}.gz`);
    rmSync(path, { force: true });
  } finally {
    rmSync(part, { force: true });
  }
}

export function inodeOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.ino;
}

/**
 * A second name of the file that the monitor writes now: should it begin anew by itself (its own bound), what it wrote
 * before is still there.
 */
export function heldPath(path: string): string {
  return `${path}.held`;
}

/** The rotated file with that number, plain or compressed; the log itself for 0. */
export function rotatedPath(path: string, number: number): string {
  if (number === 0) return path;
  const name = `${path}.${number}`;
  return inodeOf(name) === undefined && inodeOf(`${name}.gz`) !== undefined ? `${name}.gz` : name;
}

/** A log's files that exist, oldest to newest, the one that is written last. */
export function logFiles(path: string): string[] {
  const out: string[] = [];
  for (let number = 1; number <= logRotatedFilesMax; number++) {
    const name = rotatedPath(path, number);
    if (inodeOf(name) === undefined) break;
    out.unshift(name);
  }
  const held = inodeOf(heldPath(path));
  if (held !== undefined && held !== inodeOf(path) && held !== (out.length === 0 ? undefined : inodeOf(out.at(-1)!)))
    out.push(heldPath(path));
  return [...out, path];
}

/** All files of a log. */
export function removeLog(path: string): void {
  for (const name of [...logFiles(path), heldPath(path)]) rmSync(name, { force: true });
}
