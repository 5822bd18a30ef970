/**
 * What a build's client sees of it: vertices (a step each), what they print, and counts of bytes, as responses of
 * `Control/Status`. Clients may come late and get all from the beginning, but for output beyond `logBytesMax`.
 */
import { createHash } from 'node:crypto';
import { onceAborted } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import { lineRanges } from '../llb/location.ts';
import type { SourceLocation } from '../llb/location.ts';
import type { VertexOutput } from '../llb/output.ts';
import type { Vertex } from '../llb/vertex.ts';
import { countIntervalMs, logBytesMax, stepLogBytesMax } from './limits.ts';
import { bytesIn, messagesIn, timestampOf } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';

/** One line of the client's display. */
export interface Line extends VertexOutput {
  readonly digest: string;
}

export class Progress {
  readonly #clock: Clock;
  readonly #ref: string;
  readonly #responses: Message[] = [];
  #logBytes = 0;
  #vertices = 0;
  #isOver = false;
  #wake: (() => void)[] = [];

  readonly #lines = { total: 0, completed: 0, cached: 0, warnings: 0 };

  constructor(ref: string, clock: Clock) {
    this.#ref = ref;
    this.#clock = clock;
  }

  /** What was told so far. */
  get responses(): readonly Message[] {
    return this.#responses;
  }

  /** Lines that began, ended and were cached; warnings. */
  get steps(): { total: number; completed: number; cached: number; warnings: number } {
    return { ...this.#lines };
  }

  #push(response: Message): void {
    if (this.#isOver) return;
    this.#responses.push(response);
    for (const wake of this.#wake.splice(0)) wake();
  }

  #now(): Message {
    return timestampOf(this.#clock.now());
  }

  /** A line that is no vertex of the graph. */
  begin(name: string): Line {
    const place = JSON.stringify([this.#ref, this.#vertices++, name]);
    return this.#line({ digest: `sha256:${createHash('sha256').update(place).digest('hex')}`, name, inputs: [] });
  }

  beginVertex({ digest, name, inputs }: Vertex): Line {
    return this.#line({ digest, name, inputs: inputs.map((edge) => edge.vertex.digest) });
  }

  #line(named: { digest: string; name: string; inputs: string[] }): Line {
    const { digest } = named;
    const about = { ...named, started: this.#now() };
    let isOver = false;
    let isCached = false;
    const counts = new Map<string, { started: Message; shownMs: number }>();
    const count: VertexOutput['count'] = (what, current, isDone = false) => {
      const nowMs = this.#clock.now();
      const before = counts.get(what);
      if (before !== undefined && !isDone && nowMs - before.shownMs < countIntervalMs) return;
      const timestamp = timestampOf(nowMs);
      const started = before?.started ?? timestamp;
      counts.set(what, { started, shownMs: nowMs });
      const name = what.split(' ', 1)[0];
      const status = { ID: what, vertex: digest, name, current, timestamp, started };
      this.#push({ statuses: [isDone ? { ...status, completed: timestamp } : status] });
    };
    let left = stepLogBytesMax;
    const print = (msg: Buffer): void =>
      this.#push({ logs: [{ vertex: digest, timestamp: this.#now(), stream: 1, msg }] });
    this.#lines.total++;
    this.#push({ vertexes: [about] });
    return {
      digest,
      count,
      cached: () => (isCached = true),
      started: () => {},
      ended: () => {},
      log: (bytes) => {
        if (left <= 0) return;
        const part = Buffer.from(bytes.subarray(0, left));
        left -= part.length;
        this.#logBytes += part.length;
        if (this.#logBytes > logBytesMax) this.#forgetLogs();
        print(part);
        if (left <= 0) print(Buffer.from(`\n[output clipped, log limit ${stepLogBytesMax >> 20}MiB reached]\n`));
      },
      event: ({ status, id, progressDetail }) => {
        const current = fieldOf(progressDetail, 'current');
        if (typeof id === 'string' && typeof current === 'number') count(`${String(status)} ${id}`, current);
      },
      end: (error) => {
        if (isOver) return;
        isOver = true;
        this.#lines.completed++;
        if (isCached) this.#lines.cached++;
        const message = error === undefined ? {} : { error: messageOf(error) };
        this.#push({ vertexes: [{ ...about, cached: isCached, completed: this.#now(), ...message }] });
      },
    };
  }

  /** The older half of what was printed, for those who come late. */
  #forgetLogs(): void {
    let left = this.#logBytes / 2;
    for (const [index, response] of this.#responses.entries()) {
      const [log] = messagesIn(response, 'logs');
      if (log === undefined || left <= 0) continue;
      const size = bytesIn(log, 'msg').length;
      left -= size;
      this.#logBytes -= size;
      this.#responses[index] = {};
    }
  }

  /** `vertex` is the digest of the step that it is about; clients pass over one that is about none. */
  warn(vertex: string, text: string, more?: { detail: string; url: string; location: SourceLocation }): void {
    const about =
      more === undefined
        ? {}
        : {
            detail: [Buffer.from(more.detail)],
            url: more.url,
            info: { ...more.location.text, definition: {} },
            ranges: lineRanges(more.location.ranges),
          };
    this.tell({ vertex, level: 1, short: Buffer.from(text), ...about });
  }

  /** A warning as a front end words it. */
  tell(warning: Message): void {
    this.#lines.warnings++;
    this.#push({ warnings: [warning] });
  }

  /** Nothing more comes. */
  close(): void {
    this.#isOver = true;
    for (const wake of this.#wake.splice(0)) wake();
  }

  async *follow(signal: AbortSignal): AsyncGenerator<Message> {
    for (let at = 0; ;) {
      const response = this.#responses[at];
      if (response !== undefined) {
        at++;
        yield response;
        continue;
      }
      if (this.#isOver || signal.aborted) return;
      await new Promise<void>((resolve) => {
        const forget = onceAborted(signal, resolve);
        this.#wake.push(() => {
          forget();
          resolve();
        });
      });
    }
  }
}
