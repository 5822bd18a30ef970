/**
 * Sends one container's log to the receiver of its driver. The log's file is the queue: lines are read from it, sent
 * one after the other, and how far that went is kept beside it (`container.log.sent`), so that what a receiver, or this
 * engine, was away for is sent later. The container never waits; what the file no longer holds when the receiver comes
 * back is lost, as its bound says. A line may arrive twice where the engine was killed between sending and noting.
 *
 *   runs while the container does, and after that until everything was sent or the container is gone
 *   away  tried again after `logRetryMs`, doubled up to `logRetryMsMax`
 */
import { rmSync } from 'node:fs';
import { awaitedLater, whenSettled } from '#base/promises.ts';
import { parseRfc3339 } from '#base/timestamp.ts';
import { fieldOf, textOf } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import { readIfExists, writeFileAtomic } from '#os/files.ts';
import { pause, type Clock } from '#os/clock.ts';
import type { LogLine } from '../engine.ts';
import {
  logFlushAwayMsMax,
  logFlushMsMax,
  logMessageBytesMax,
  logPlaceMs,
  logRetryMs,
  logRetryMsMax,
} from '../limits.ts';
import { readLogs, type LogSource } from '../logs.ts';
import type { LogRecord, LogSink } from './sink.ts';

/** The last record that was sent: its time, and how many of that time were. */
interface Place {
  time: string;
  count: number;
}

export interface ForwarderOptions {
  source: LogSource;
  clock: Clock;
  log: Logger;
  open(): Promise<LogSink>;
  /** Of pieces of one line. */
  newId(): string;
  /** All is sent, or it was stopped. */
  onEnd(): void;
}

function placePath(path: string): string {
  return `${path}.sent`;
}

export class LogForwarder {
  readonly #options: ForwarderOptions;
  readonly #stopping = new AbortController();
  readonly #running: Promise<void>;
  readonly #pieces: Record<LogLine['stream'], Pieces>;
  #sink: LogSink | undefined;
  #place: Place;
  #placeNotedAtMs = -Infinity;
  #isAway = false;
  #complained = '';

  /** `sink`: opened already, when the container was started. */
  constructor(options: ForwarderOptions, sink?: LogSink) {
    this.#options = options;
    this.#sink = sink;
    this.#place = readPlace(options.source.path);
    this.#pieces = { stdout: new Pieces(options.newId), stderr: new Pieces(options.newId) };
    this.#running = this.#run()
      .catch((error: unknown) => options.log.error('sending a log', { error }))
      .finally(() => options.onEnd());
  }

  /** Resolves when all is sent; where nobody takes it, after a while. The container is about to go. */
  async flush(): Promise<void> {
    const { clock } = this.#options;
    const limit = new AbortController();
    const begunMs = clock.monotonic();
    const done = this.#running.finally(() => limit.abort());
    while (!limit.signal.aborted) {
      const tookMs = clock.monotonic() - begunMs;
      if (tookMs > logFlushMsMax || (this.#isAway && tookMs > logFlushAwayMsMax)) break;
      await pause(clock, logRetryMs, limit.signal);
    }
    this.stop();
    await done;
  }

  /** Nothing more is sent; what was not is sent by the next forwarder of this log. */
  stop(): void {
    this.#stopping.abort(new Error('the log is no longer sent'));
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const since = parseRfc3339(this.#place.time);
    let skip = since === undefined ? 0 : this.#place.count;
    const lines = readLogs(this.#options.source, {
      stdout: true,
      stderr: true,
      follow: true,
      signal,
      ...(since === undefined ? {} : { sinceNs: since }),
    });
    try {
      for await (const line of lines) {
        if (line.timestamp === this.#place.time && skip > 0) {
          skip -= 1;
          continue;
        }
        for (const record of this.#pieces[line.stream].add(line)) if (!(await this.#send(record))) return;
        this.#note(line);
      }
    } finally {
      this.#writePlace();
      await whenSettled(this.#sink?.close());
      this.#sink = undefined;
    }
  }

  /** False when it was told to stop. */
  async #send(record: LogRecord): Promise<boolean> {
    const { signal } = this.#stopping;
    for (let delayMs = logRetryMs; !signal.aborted; delayMs = Math.min(delayMs * 2, logRetryMsMax)) {
      try {
        this.#sink ??= await this.#options.open();
        await untilAborted(this.#sink.write(record), signal);
        this.#isAway = false;
        this.#complained = '';
        return true;
      } catch (error) {
        if (signal.aborted) return false;
        this.#isAway = true;
        void whenSettled(this.#sink?.close());
        this.#sink = undefined;
        const reason = messageOf(error);
        if (reason !== this.#complained)
          this.#options.log.warn('nobody takes the log of a container', { error: reason });
        this.#complained = reason;
        await pause(this.#options.clock, delayMs, signal);
      }
    }
    return false;
  }

  #note(line: LogLine): void {
    if (line.timestamp === this.#place.time) this.#place.count += 1;
    else this.#place = { time: line.timestamp, count: 1 };
    const now = this.#options.clock.monotonic();
    if (now - this.#placeNotedAtMs < logPlaceMs) return;
    this.#placeNotedAtMs = now;
    this.#writePlace();
  }

  #writePlace(): void {
    // A line of which only the beginning was sent is sent again from there.
    if (this.#pieces.stdout.isOpen || this.#pieces.stderr.isOpen) return;
    try {
      writeFileAtomic(placePath(this.#options.source.path), JSON.stringify(this.#place), { mode: 0o600 });
    } catch {
      /* a full disk, or the container is gone: at worst lines are sent twice */
    }
  }
}

function readPlace(path: string): Place {
  try {
    const kept: unknown = JSON.parse(readIfExists(placePath(path)) ?? '{}');
    return { time: textOf(kept, 'time') ?? '', count: Number(fieldOf(kept, 'count') ?? 0) };
  } catch {
    rmSync(placePath(path), { force: true });
    return { time: '', count: 0 };
  }
}

async function untilAborted(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  void awaitedLater(promise);
  void awaitedLater(work);
  const abort = (): void => reject(new Error('stopped'));
  signal.addEventListener('abort', abort, { once: true });
  try {
    await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Lines of what the monitor wrote in pieces; one that is longer than a message goes on in further ones. */
class Pieces {
  readonly #newId: () => string;
  #held: Buffer[] = [];
  #bytes = 0;
  #id = '';
  #ordinal = 0;

  constructor(newId: () => string) {
    this.#newId = newId;
  }

  /** The beginning of a line is here or was sent, and its end is not. */
  get isOpen(): boolean {
    return this.#bytes > 0 || this.#id !== '';
  }

  *add(line: LogLine): Generator<LogRecord> {
    const data = Buffer.from(line.data);
    const text = line.partial || data.at(-1) !== 0x0a ? data : data.subarray(0, -1);
    this.#held.push(text);
    this.#bytes += text.length;
    while (this.#bytes > logMessageBytesMax) yield this.#cut(line, logMessageBytesMax, false);
    if (line.partial) return;
    yield this.#cut(line, this.#bytes, true);
    this.#id = '';
    this.#ordinal = 0;
  }

  #cut({ stream, timestamp }: LogLine, bytes: number, isLast: boolean): LogRecord {
    const all = Buffer.concat(this.#held);
    const data = all.subarray(0, bytes);
    this.#held = [all.subarray(bytes)];
    this.#bytes = all.length - bytes;
    if (isLast && this.#id === '') return { stream, timestamp, data };
    if (this.#id === '') this.#id = this.#newId();
    this.#ordinal += 1;
    return { stream, timestamp, data, partial: { id: this.#id, ordinal: this.#ordinal, isLast } };
  }
}
