/**
 * The log of one run of a simulated container. What a script says it will print is kept as a plan and turned into lines
 * when somebody reads: no timer runs for a log that nobody follows, however long the container lives. What is typed to
 * it (`print`) is kept as it comes. Times are milliseconds of the cluster's clock; the node's own, which may be off, is
 * what lines are stamped with.
 */
import type { Clock } from '#os/clock.ts';
import { type Duration, durationMs } from './duration.ts';
import { logLinesMax } from './limits.ts';

/**
 * One line, or the same line again and again: `{ text: 'alive', after: '5s', every: '1m' }`. Times count from the
 * container's start.
 */
export interface LogEntry {
  /** A function is given the time of its line, in milliseconds since 1970, and must answer the same each time. */
  text: string | ((atMs: number) => string);
  after?: Duration;
  every?: Duration;
  stream?: 'stdout' | 'stderr';
}

export interface PrintedLine {
  atMs: number;
  /** Without its newline. */ text: string;
  stream: 'stdout' | 'stderr';
  /** No newline has come yet. */ isPartial: boolean;
}
interface Planned {
  firstMs: number;
  everyMs: number | undefined;
  text: string | ((atMs: number) => string);
  stream: 'stdout' | 'stderr';
}
/** What a reader has had: planned lines up to a moment, printed ones by number. */
export interface LogPosition {
  untilMs: number;
  printed: number;
}

export const logStart: LogPosition = Object.freeze({ untilMs: -Infinity, printed: 0 });
/** A line as bytes of the container's output. */
export function printedBytes({ text, isPartial }: PrintedLine): string {
  return isPartial ? text : `${text}\n`;
}

/**
 * The last `count` lines: pieces of one (what was printed without its newline, and the rest) are counted as one and
 * stay together.
 */
export function lastLines(lines: readonly PrintedLine[], count: number): PrintedLine[] {
  const begin = { stdout: lines.length, stderr: lines.length };
  const open = { stdout: false, stderr: false };
  const touched = { stdout: false, stderr: false };
  let counted = 0;
  for (let at = lines.length - 1; at >= 0; at--) {
    const line = lines[at];
    if (line === undefined) break;
    const { stream, isPartial } = line;
    const endsAnother = !isPartial || !touched[stream];
    touched[stream] = true;
    if (endsAnother) {
      open[stream] = counted < count;
      if (!open[stream] && !open.stdout && !open.stderr) break;
      if (open[stream]) counted++;
    }
    if (open[stream]) begin[stream] = at;
  }
  return lines.filter(({ stream }, at) => at >= begin[stream]);
}

const nothingPlanned: readonly Planned[] = Object.freeze([]);

function planned(entry: string | LogEntry, beganMs: number): Planned {
  const { text, after = 0, every, stream = 'stdout' } = typeof entry === 'string' ? { text: entry } : entry;
  const everyMs = every === undefined ? undefined : durationMs(every);
  if (everyMs !== undefined && !(everyMs >= 1)) throw new Error(`a line of a log cannot come every ${everyMs} ms`);
  return { firstMs: beganMs + durationMs(after), everyMs, text, stream };
}

/** Bytes as a process writes them become lines; what follows the last newline is a part of one. */
function splitLines(atMs: number, written: string, stream: 'stdout' | 'stderr'): PrintedLine[] {
  const pieces = written.split('\n');
  const rest = pieces.pop() ?? '';
  const lines: PrintedLine[] = pieces.map((text) => ({ atMs, text, stream, isPartial: false }));
  return rest === '' ? lines : [...lines, { atMs, text: rest, stream, isPartial: true }];
}

export class ContainerLog {
  readonly #plan: readonly Planned[];
  readonly #printed: PrintedLine[] = [];
  /** Printed lines that are no longer kept. */
  #forgotten = 0;
  #endMs: number | undefined;
  #listeners: Set<() => void> | undefined;
  /** What to add to the cluster's clock for the node's. */
  readonly skewMs: number;

  constructor(entries: Iterable<string | LogEntry>, beganMs: number, skewMs: number) {
    const plan = [...entries].map((entry) => planned(entry, beganMs));
    this.#plan = plan.length === 0 ? nothingPlanned : plan;
    this.skewMs = skewMs;
  }

  get hasEnded(): boolean {
    return this.#endMs !== undefined;
  }

  /** The container writes `text`, newlines included. */
  print(text: string, stream: 'stdout' | 'stderr', nowMs: number): void {
    if (this.hasEnded || text === '') return;
    this.#printed.push(...splitLines(nowMs, text, stream));
    const tooMany = this.#printed.length - logLinesMax;
    if (tooMany > 0) {
      this.#printed.splice(0, tooMany);
      this.#forgotten += tooMany;
    }
    this.#tell();
  }

  /** The container has ended: nothing follows. */
  end(nowMs: number): void {
    if (this.hasEnded) return;
    this.#endMs = nowMs;
    this.#tell();
    this.#listeners = undefined;
  }

  /** Calls back after each `print` and at the end, until the answer is called. */
  onChange(listener: () => void): () => void {
    if (this.hasEnded) return () => undefined;
    const listeners = (this.#listeners ??= new Set());
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
    };
  }

  /** Calls back once, when the container ends; at once if it has. */
  onEnd(listener: () => void): () => void {
    if (this.hasEnded) {
      listener();
      return () => undefined;
    }
    const stop = this.onChange(() => {
      if (this.hasEnded) {
        stop();
        listener();
      }
    });
    return stop;
  }

  #tell(): void {
    for (const listener of [...(this.#listeners ?? [])]) listener();
  }

  /** What came after `position` and by now, in order; at most the newest `logLinesMax`. */
  read(position: LogPosition, nowMs: number): { lines: PrintedLine[]; position: LogPosition } {
    const untilMs = Math.min(nowMs, this.#endMs ?? nowMs);
    const lines = this.#plan.flatMap((entry) => [...this.#due(entry, position.untilMs, untilMs)]);
    lines.push(...this.#printed.slice(Math.max(0, position.printed - this.#forgotten)));
    if (this.#plan.length > 1 || this.#printed.length > 0) lines.sort((a, b) => a.atMs - b.atMs);
    return {
      lines: lines.slice(-logLinesMax),
      position: { untilMs: Math.max(untilMs, position.untilMs), printed: this.#forgotten + this.#printed.length },
    };
  }

  /** Lines of one entry after `fromMs` and up to `untilMs`. */
  *#due({ firstMs, everyMs, text, stream }: Planned, fromMs: number, untilMs: number): Generator<PrintedLine> {
    if (firstMs > untilMs) return;
    const last = everyMs === undefined ? 0 : Math.floor((untilMs - firstMs) / everyMs);
    const passed = fromMs < firstMs ? -1 : everyMs === undefined ? 0 : Math.floor((fromMs - firstMs) / everyMs);
    for (let count = Math.max(passed + 1, last + 1 - logLinesMax); count <= last; count++) {
      const atMs = firstMs + count * (everyMs ?? 0);
      yield* splitLines(atMs, `${typeof text === 'string' ? text : text(atMs)}\n`, stream);
    }
  }

  /** When the next planned line after `position` comes; undefined when none does. */
  nextMs({ untilMs }: LogPosition): number | undefined {
    let next = Infinity;
    for (const { firstMs, everyMs } of this.#plan) {
      if (untilMs < firstMs) next = Math.min(next, firstMs);
      else if (everyMs !== undefined)
        next = Math.min(next, firstMs + (Math.floor((untilMs - firstMs) / everyMs) + 1) * everyMs);
    }
    return next > (this.#endMs ?? Infinity) || next === Infinity ? undefined : next;
  }

  /** Everything after `position`, now and as it comes, until the container has ended or `signal` aborts. */
  async *follow(position: LogPosition, clock: Clock, signal?: AbortSignal): AsyncGenerator<PrintedLine> {
    for (let at = position; signal?.aborted !== true;) {
      const found = this.read(at, clock.now());
      at = found.position;
      yield* found.lines;
      // The reader may have been slow: what came meanwhile is read before anything is waited for.
      if (this.read(at, clock.now()).lines.length > 0) continue;
      if (this.hasEnded) return;
      await this.#change(at, clock, signal);
    }
  }

  /** Resolves when there may be more to read. */
  #change(position: LogPosition, clock: Clock, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const nextMs = this.nextMs(position);
      const finish = (): void => {
        stop();
        timer?.cancel();
        signal?.removeEventListener('abort', finish);
        resolve();
      };
      const timer = nextMs === undefined ? undefined : clock.setTimer(nextMs - clock.now(), finish);
      const stop = this.onChange(finish);
      signal?.addEventListener('abort', finish, { once: true });
    });
  }
}
