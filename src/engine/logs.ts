/**
 * Reading a container's log, over all its files. Lines are what is counted: a record with tag `P` is a piece of one.
 * The last lines are looked for from the end and times by halving, so that what is asked for decides the work and not
 * the log's size; after each chunk other work of the process has its turn. Follows by inotify, over rotation, until the
 * container has ended and all is read.
 */
import { dirname } from 'node:path';
import { formatNanoseconds } from '#base/timestamp.ts';
import { watchPath } from '#os/files.ts';
import { giveWay } from '#os/turn.ts';
import type { LogLine, LogOptions } from './engine.ts';
import { headOf, inodeOf, logFiles, openRotated, parseLogLine, timeOf } from './log-file.ts';
import type { LogFile, RawRecord } from './log-file.ts';
import { logLookBackBytesMax } from './limits.ts';

export interface LogSource {
  path: string;
  isRunning(): boolean;
  /** Calls back once when it ends. */ onExit(listener: () => void): () => void;
}

type StreamName = LogLine['stream'];
interface Place {
  file: number;
  at: number;
}
interface Part {
  file: LogFile;
  start: number;
  end: number;
}

/** What is asked for, as texts that compare as times do. */
class Wanted {
  readonly #options: LogOptions;
  readonly since: string | undefined;
  readonly until: string | undefined;

  constructor(options: LogOptions) {
    this.#options = options;
    this.since = options.sinceNs === undefined ? undefined : formatNanoseconds(options.sinceNs);
    this.until = options.untilNs === undefined ? undefined : formatNanoseconds(options.untilNs);
  }

  stream(stream: StreamName): boolean {
    return this.#options[stream];
  }
  isTooOld(time: string): boolean {
    return this.since !== undefined && time < this.since;
  }
  isTooNew(time: string): boolean {
    return this.until !== undefined && time > this.until;
  }
}

/** Whole lines by the time of their first piece. */
class LineFilter {
  readonly #wanted: Wanted;
  /** Of a line whose rest may follow: whether it is wanted. */
  readonly #open: Record<StreamName, boolean | undefined> = { stdout: undefined, stderr: undefined };
  #bytesAfter = 0;

  constructor(wanted: Wanted) {
    this.#wanted = wanted;
  }

  take(line: LogLine): 'take' | 'skip' | 'stop' {
    const { stream, timestamp, partial } = line;
    const known = this.#open[stream];
    const isNew = known === undefined;
    const tooNew = this.#wanted.isTooNew(timestamp);
    const takes = known ?? (this.#wanted.stream(stream) && !tooNew && !this.#wanted.isTooOld(timestamp));
    this.#open[stream] = partial ? takes : undefined;
    if (tooNew) {
      // Lines that began in time are waited for, but not without end.
      this.#bytesAfter += line.data.length;
      const waits = this.#open.stdout === true || this.#open.stderr === true;
      if ((!waits && (isNew || !takes)) || this.#bytesAfter > logLookBackBytesMax) return 'stop';
    }
    return takes ? 'take' : 'skip';
  }
}

export async function* readLogs(source: LogSource, options: LogOptions): AsyncGenerator<LogLine> {
  const wanted = new Wanted(options);
  const change = watchForChange(source, options);
  const isGone = (): boolean => options.signal?.aborted === true;
  const parts = await openParts(source.path, wanted);
  const seen = new Seen();
  const filter = new LineFilter(wanted);
  try {
    const begin =
      options.tailLines === undefined ? undefined : await findTail(parts, options.tailLines, wanted, isGone);
    let index = begin === undefined ? 0 : Math.min(begin.stdout.file, begin.stderr.file);
    for (; index < parts.length; index++) {
      const { file, start, end } = parts[index]!;
      const from =
        begin === undefined
          ? start
          : Math.min(
              ...Object.values(begin).map((place) =>
                place.file === index ? place.at : place.file < index ? start : end,
              ),
            );
      file.seek(from);
      for (let records = file.read(end); records.length > 0; records = file.read(end)) {
        for (const { at, bytes } of records) {
          const line = parseLogLine(bytes);
          if (line === undefined) continue;
          seen.note(line);
          if (begin !== undefined && isBefore({ file: index, at }, begin[line.stream])) continue;
          const verdict = filter.take(line);
          if (verdict === 'stop') return;
          if (verdict === 'take') yield line;
        }
        await giveWay();
        if (isGone()) return;
      }
    }
    if (!options.follow) return;
    const last = parts.pop();
    yield* follow(source, { filter, change, isGone, seen, current: last?.file });
  } finally {
    for (const { file } of parts) file.close();
    change.close();
  }
}

/** The files as they are now, each from a place before which nothing that is wanted lies. */
async function openParts(path: string, wanted: Wanted): Promise<Part[]> {
  const parts: Part[] = [];
  for (const name of logFiles(path)) {
    const file = await openRotated(name);
    if (file === undefined) continue;
    const end = file.size;
    parts.push({ file, start: wanted.since === undefined ? 0 : Math.min(end, file.placeOf(wanted.since)), end });
  }
  return parts;
}

function isBefore(a: Place, b: Place): boolean {
  return a.file < b.file || (a.file === b.file && a.at < b.at);
}

/**
 * Where the last `count` lines begin, for each stream. Goes back from the end; a line ends with its `F` record (or is
 * still open, at the end), and all `P` records of its stream before that, back to the `F` of the line before, are its
 * own, though records of the other stream lie in between.
 */
async function findTail(
  parts: Part[],
  count: number,
  wanted: Wanted,
  isGone: () => boolean,
): Promise<Record<StreamName, Place>> {
  const last = parts.at(-1);
  const end: Place =
    last === undefined ? { file: 0, at: 0 } : { file: parts.length - 1, at: last.file.lastEnd(last.end) };
  const search = new TailSearch(count, end);
  if (count === 0) return search.begin;
  for (let index = parts.length - 1; index >= 0; index--) {
    const { file, start, end: size } = parts[index]!;
    for (const records of file.backward(file.lastEnd(size), start)) {
      for (let at = records.length - 1; at >= 0; at--)
        if (search.take(records[at]!, index, wanted)) return search.begin;
      await giveWay();
      if (isGone()) return search.begin;
    }
  }
  return search.begin;
}

class TailSearch {
  readonly #count: number;
  readonly begin: Record<StreamName, Place>;
  /** Of a counted line earlier pieces may still come. */
  readonly #open: Record<StreamName, boolean> = { stdout: false, stderr: false };
  readonly #touched: Record<StreamName, boolean> = { stdout: false, stderr: false };
  #lines = 0;
  #lookedBackBytes = 0;

  constructor(count: number, end: Place) {
    this.#count = count;
    this.begin = { stdout: end, stderr: end };
  }

  /** True when nothing before it matters. */
  take(record: RawRecord, file: number, wanted: Wanted): boolean {
    if (this.#lines === this.#count) {
      this.#lookedBackBytes += record.bytes.length;
      if (this.#lookedBackBytes > logLookBackBytesMax) return true;
    }
    const head = headOf(record.bytes);
    if (head === undefined || !wanted.stream(head.stream)) return false;
    if (wanted.since !== undefined || wanted.until !== undefined) {
      const time = timeOf(record.bytes);
      if (wanted.isTooNew(time)) return false;
      if (wanted.isTooOld(time)) {
        // The beginning of a line that was counted: the line is too old, as the filter will find.
        if (head.partial && this.#open[head.stream]) this.begin[head.stream] = { file, at: record.at };
        return false;
      }
    }
    const { stream, partial } = head;
    const endsAnother = !partial || !this.#touched[stream];
    this.#touched[stream] = true;
    if (!endsAnother) {
      if (this.#open[stream]) this.begin[stream] = { file, at: record.at };
      return false;
    }
    if (this.#lines < this.#count) {
      this.#lines++;
      this.#open[stream] = true;
      this.begin[stream] = { file, at: record.at };
      return false;
    }
    this.#open[stream] = false;
    return !this.#open.stdout && !this.#open.stderr;
  }
}

/**
 * Up to which record a reader has come, for when the file it reads is no longer among the log's: a time, and how many
 * records of that time it had.
 */
class Seen {
  time = '';
  #count = 0;
  #skipped = 0;

  note(line: LogLine): void {
    if (line.timestamp === this.time) this.#count++;
    else {
      this.time = line.timestamp;
      this.#count = 1;
    }
  }

  startOver(): void {
    this.#skipped = 0;
  }

  has(line: LogLine): boolean {
    if (line.timestamp < this.time) return true;
    return line.timestamp === this.time && this.#skipped++ < this.#count;
  }
}

interface Following {
  filter: LineFilter;
  change: Change;
  isGone: () => boolean;
  seen: Seen;
  current: LogFile | undefined;
}

async function* follow(source: LogSource, state: Following): AsyncGenerator<LogLine> {
  const { filter, change, isGone, seen } = state;
  let current = state.current;
  /** The rest of the file is known by `seen` and not by its place. */
  let resuming = false;
  /** Names of files that come before the one that is written now, oldest first. */
  let queue: string[] = [];
  try {
    while (!isGone()) {
      const ended = !source.isRunning();
      current ??= await openRotated(queue.shift() ?? source.path);
      let some = false;
      for (let records = current?.read() ?? []; records.length > 0; records = current!.read()) {
        some = true;
        for (const { bytes } of records) {
          const line = parseLogLine(bytes);
          if (line === undefined || (resuming && seen.has(line))) continue;
          resuming = false;
          seen.note(line);
          const verdict = filter.take(line);
          if (verdict === 'stop') return;
          if (verdict === 'take') yield line;
        }
        await giveWay();
        if (isGone()) return;
      }
      if (current !== undefined && inodeOf(source.path) !== current.inode && inodeOf(source.path) !== undefined) {
        const names = logFiles(source.path);
        const here = names.findIndex((name) => inodeOf(name) === current!.inode);
        if (here < 0) {
          resuming = true;
          seen.startOver();
        }
        queue = names.slice(here + 1);
        current.close();
        current = undefined;
        continue;
      }
      if (ended && !some) return;
      if (!some) await change.wait();
    }
  } finally {
    current?.close();
  }
}

interface Change {
  wait(): Promise<void>;
  close(): void;
}

/** A change counts from the moment the watch is there, so nothing between two reads is missed. */
function watchForChange(source: LogSource, options: LogOptions): Change {
  if (!options.follow) return { wait: () => Promise.resolve(), close: () => undefined };
  let changed = false;
  let wake: (() => void) | undefined;
  const poke = (): void => {
    changed = true;
    wake?.();
  };
  const watcher = watchPath(dirname(source.path), poke);
  const forget = source.onExit(poke);
  options.signal?.addEventListener('abort', poke, { once: true });
  return {
    async wait() {
      if (!changed)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      wake = undefined;
      changed = false;
    },
    close() {
      watcher.close();
      forget();
      options.signal?.removeEventListener('abort', poke);
    },
  };
}
