/**
 * Reading the log that conmon writes: lines `TIME STREAM TAG text` (the k8s-file format, which is CRI's), where tag `P` marks a part of a line. Follows
 * by inotify, over rotation (the old file is read to its end before the new one), until the container has ended and all is read.
 */
import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { watchPath } from '#os/files.ts';
import { dirname } from 'node:path';
import type { LogLine, LogOptions } from './engine.ts';
import { logLineBytesMax, logReadChunkBytes } from './limits.ts';

export interface LogSource { path: string; isRunning(): boolean; /** Calls back once when it ends. */ onExit(listener: () => void): () => void }

/** One line of the file without its newline; undefined when it is none of ours. */
export function parseLogLine(line: Buffer): LogLine | undefined {
  const first = line.indexOf(0x20);
  const second = line.indexOf(0x20, first + 1);
  const third = line.indexOf(0x20, second + 1);
  if (first < 0 || second < 0 || third < 0) return undefined;
  const stream = line.toString('latin1', first + 1, second);
  if (stream !== 'stdout' && stream !== 'stderr') return undefined;
  const partial = line[second + 1] === 0x50;
  const text = line.subarray(third + 1);
  return { stream, timestamp: normaliseTime(line.toString('latin1', 0, first)), partial, data: partial ? Buffer.from(text) : Buffer.concat([text, Buffer.from('\n')]) };
}

/** conmon writes its local offset; readers want UTC with nine digits. */
export function normaliseTime(text: string): string {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)$/.exec(text);
  if (match === null) return text;
  const [, seconds = '', fraction = '', zone = 'Z'] = match;
  const digits = fraction.padEnd(9, '0').slice(0, 9);
  if (zone === 'Z' || /^[+-]00:?00$/.test(zone)) return `${seconds}.${digits}Z`;
  return `${new Date(Date.parse(`${seconds}${zone}`)).toISOString().slice(0, 19)}.${digits}Z`;
}

class LogFile {
  readonly #fd: number;
  readonly inode: number;
  #position: number;
  #left: Buffer = Buffer.alloc(0);

  constructor(path: string, from = 0) {
    this.#fd = openSync(path, 'r');
    this.inode = fstatSync(this.#fd).ino;
    this.#position = from;
  }

  /** Whole lines from here on, at most a chunk's worth; empty at the end of what is written. */
  read(): Buffer[] {
    const chunk = Buffer.allocUnsafe(logReadChunkBytes);
    const count = readSync(this.#fd, chunk, 0, chunk.length, this.#position);
    if (count === 0) { if (fstatSync(this.#fd).size < this.#position) { this.#position = 0; this.#left = Buffer.alloc(0); } return []; }
    this.#position += count;
    const bytes = Buffer.concat([this.#left, chunk.subarray(0, count)]);
    const lines: Buffer[] = [];
    let from = 0;
    for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, from)) { lines.push(bytes.subarray(from, at)); from = at + 1; }
    this.#left = Buffer.from(bytes.subarray(from));
    if (this.#left.length > logLineBytesMax) this.#left = Buffer.alloc(0);
    return lines.length > 0 ? lines : this.read();
  }

  close(): void { closeSync(this.#fd); }
}

/** Rotated files first, oldest to newest, then the file itself. */
function existing(path: string): string[] {
  const out: string[] = [];
  for (let number = 1; ; number++) {
    try { statSync(`${path}.${number}`); } catch { break; }
    out.unshift(`${path}.${number}`);
  }
  return [...out, path];
}

export async function* readLogs(source: LogSource, options: LogOptions): AsyncGenerator<LogLine> {
  const wanted = (line: LogLine): boolean => {
    if (!(line.stream === 'stdout' ? options.stdout : options.stderr)) return false;
    const time = options.sinceMs === undefined && options.untilMs === undefined ? 0 : Date.parse(line.timestamp);
    return (options.sinceMs === undefined || time >= options.sinceMs) && (options.untilMs === undefined || time <= options.untilMs);
  };
  const change = watchForChange(source, options);
  let current: LogFile | undefined;
  try {
    const tail: LogLine[] = [];
    const keep = options.tailLines;
    for (const path of existing(source.path)) {
      current?.close();
      current = tryOpen(path);
      for (let lines = current?.read() ?? []; lines.length > 0; lines = current!.read()) {
        for (const raw of lines) {
          const line = parseLogLine(raw);
          if (line === undefined || !wanted(line)) continue;
          if (keep === undefined) { yield line; continue; }
          tail.push(line);
          if (tail.length > keep * 2 + 64) tail.splice(0, tail.length - keep);
        }
        if (options.signal?.aborted === true) return;
      }
    }
    if (keep !== undefined && keep > 0) yield* tail.slice(-keep);
    while (options.follow && options.signal?.aborted !== true) {
      const ended = !source.isRunning();
      current ??= tryOpen(source.path);
      let some = false;
      for (let lines = current?.read() ?? []; lines.length > 0; lines = current!.read()) {
        some = true;
        for (const raw of lines) { const line = parseLogLine(raw); if (line !== undefined && wanted(line)) yield line; }
      }
      const rotated = current !== undefined && inodeOf(source.path) !== current.inode;
      if (rotated && inodeOf(source.path) !== undefined) { current!.close(); current = tryOpen(source.path); continue; }
      if (ended && !some) return;
      if (!some) await change.wait();
    }
  } finally { current?.close(); change.close(); }
}

function tryOpen(path: string): LogFile | undefined {
  try { return new LogFile(path); } catch (error) { if ((error as { code?: string }).code === 'ENOENT') return undefined; throw error; }
}

function inodeOf(path: string): number | undefined { return statSync(path, { throwIfNoEntry: false })?.ino; }

/** A change counts from the moment the watch is there, so nothing between two reads is missed. */
function watchForChange(source: LogSource, options: LogOptions): { wait(): Promise<void>; close(): void } {
  if (!options.follow) return { wait: () => Promise.resolve(), close: () => undefined };
  let changed = false;
  let wake: (() => void) | undefined;
  const poke = (): void => { changed = true; wake?.(); };
  const watcher = watchPath(dirname(source.path), poke);
  const forget = source.onExit(poke);
  options.signal?.addEventListener('abort', poke, { once: true });
  return {
    async wait() {
      if (!changed) await new Promise<void>((resolve) => { wake = resolve; });
      wake = undefined;
      changed = false;
    },
    close() { watcher.close(); forget(); options.signal?.removeEventListener('abort', poke); },
  };
}
