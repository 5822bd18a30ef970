/**
 * What a build's client sees of it: vertices (a step each), what they print, and counts of bytes, as responses of
 * `Control/Status`. Clients may come late and get all from the beginning, but for output beyond `logBytesMax`.
 */
import { createHash } from 'node:crypto';
import { onceAborted } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import type { SourceLocation } from '../llb/location.ts';
import type { VertexOutput } from '../llb/output.ts';
import type { Vertex } from '../llb/vertex.ts';
import { logBytesMax } from './limits.ts';
import { bytesIn, messagesIn, timestampOf } from './messages.ts';
import type { Message } from './messages.ts';

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

  constructor(ref: string, clock: Clock) {
    this.#ref = ref;
    this.#clock = clock;
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
    const counts = new Map<string, Message>();
    const count: VertexOutput['count'] = (what, current, isDone = false) => {
      const first = counts.get(what) ?? this.#now();
      counts.set(what, first);
      const status = { ID: what, vertex: digest, name: what, current, timestamp: this.#now(), started: first };
      this.#push({ statuses: [isDone ? { ...status, completed: this.#now() } : status] });
    };
    this.#push({ vertexes: [about] });
    return {
      digest,
      count,
      cached: () => (isCached = true),
      started: () => {},
      ended: () => {},
      log: (bytes) => {
        this.#logBytes += bytes.length;
        if (this.#logBytes > logBytesMax) this.#forgetLogs();
        this.#push({ logs: [{ vertex: digest, timestamp: this.#now(), stream: 1, msg: Buffer.from(bytes) }] });
      },
      event: ({ status, id, progressDetail }) => {
        const current = fieldOf(progressDetail, 'current');
        if (typeof id === 'string' && typeof current === 'number') count(`${String(status)} ${id}`, current);
      },
      end: (error) => {
        if (isOver) return;
        isOver = true;
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
            info: { ...more.location.text },
            ranges: more.location.ranges.map(({ start, end }) => ({ start: { line: start }, end: { line: end } })),
          };
    this.#push({ warnings: [{ vertex, level: 1, short: Buffer.from(text), ...about }] });
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
