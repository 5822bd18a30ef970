/**
 * What a build's client sees of it: vertices (a step each), what they print, and counts of bytes, as responses of
 * `Control/Status`. Clients may come late and get all from the beginning, but for output beyond `logBytesMax`.
 */
import { createHash } from 'node:crypto';
import { onceAborted } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import { BuildStepError } from '../dockerfile/stage.ts';
import type { BuildOutput, StageAbout, StageOutput } from '../output.ts';
import { logBytesMax } from './limits.ts';
import { bytesIn, messagesIn, timestampOf } from './messages.ts';
import type { Message } from './messages.ts';

/** One line of the client's display. */
export interface Vertex {
  readonly digest: string;
  /** A count that grows, `transferring context`. */
  count(name: string, current: number, isDone?: boolean): void;
  log(bytes: Uint8Array): void;
  /** Idempotent. */
  end(outcome?: { isCached?: boolean; error?: unknown }): void;
}

/** What failed, in BuildKit's words. */
export function wordFailure(error: unknown): string {
  return error instanceof BuildStepError
    ? `process ${JSON.stringify(error.command)} did not complete successfully: exit code: ${error.exitCode}`
    : messageOf(error);
}

export class Progress implements BuildOutput {
  readonly #clock: Clock;
  readonly #ref: string;
  readonly #responses: Message[] = [];
  #logBytes = 0;
  #vertices = 0;
  #isOver = false;
  #wake: (() => void)[] = [];
  /** As the client names them; a single stage without a name is not named. */
  stages = 1;

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

  begin(name: string, inputs: string[] = []): Vertex {
    const place = JSON.stringify([this.#ref, this.#vertices++, name]);
    const digest = `sha256:${createHash('sha256').update(place).digest('hex')}`;
    const started = this.#now();
    const about = { digest, name, inputs, started };
    let isOver = false;
    const counts = new Map<string, Message>();
    this.#push({ vertexes: [about] });
    return {
      digest,
      count: (what, current, isDone = false) => {
        const first = counts.get(what) ?? this.#now();
        counts.set(what, first);
        const at = this.#now();
        const status = { ID: what, vertex: digest, name: what, current, timestamp: at, started: first };
        this.#push({ statuses: [isDone ? { ...status, completed: at } : status] });
      },
      log: (bytes) => {
        this.#logBytes += bytes.length;
        if (this.#logBytes > logBytesMax) this.#forgetLogs();
        this.#push({ logs: [{ vertex: digest, timestamp: this.#now(), stream: 1, msg: Buffer.from(bytes) }] });
      },
      end: ({ isCached = false, error } = {}) => {
        if (isOver) return;
        isOver = true;
        const message = error === undefined ? {} : { error: wordFailure(error) };
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
  warn(vertex: string, text: string): void {
    this.#push({ warnings: [{ vertex, level: 1, short: Buffer.from(text) }] });
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

  /** Steps that make a layer are vertices, `[build 2/4] RUN make`; the others change words only. */
  stage(about: StageAbout): StageOutput {
    const isShown = (keyword: string): boolean => ['FROM', 'RUN', 'COPY', 'ADD', 'WORKDIR'].includes(keyword);
    const total = 1 + about.instructions.filter(({ keyword }) => isShown(keyword)).length;
    const label = about.name ?? (this.stages > 1 ? `stage-${about.index}` : '');
    let number = 0;
    let vertex: Vertex | undefined;
    let before: string[] = [];
    const end = (outcome: { isCached?: boolean; error?: unknown }): void => {
      vertex?.end(outcome);
      vertex = undefined;
    };
    return {
      begin: (keyword, text) => {
        end({});
        if (!isShown(keyword)) return;
        const place = `${label === '' ? '' : `${label} `}${++number}/${total}`;
        vertex = this.begin(`[${place}] ${keyword === 'FROM' ? `FROM ${about.base}` : text}`, before);
        before = [vertex.digest];
      },
      cached: () => end({ isCached: true }),
      started: () => {},
      ended: () => {},
      log: (bytes) => vertex?.log(bytes),
      triggers: () => {},
      end: () => end({}),
      event: ({ status, id, progressDetail }) => {
        const current = fieldOf(progressDetail, 'current');
        if (typeof id === 'string' && typeof current === 'number') vertex?.count(`${String(status)} ${id}`, current);
      },
      fail: (error) => end({ error }),
      finish: () => end({}),
    };
  }
}
