/**
 * How events reach a log or a webhook: each before its answer (`blocking`), or together, by a bounded buffer that a
 * slow receiver never makes anybody wait for (`batch`). What does not fit is lost, counted and told.
 */
import { messageOf } from '#base/thrown.ts';
import type { Logger } from '#observe/log.ts';
import type { Counter, Family } from '#observe/metrics.ts';
import type { Clock, Timer } from '#os/clock.ts';
import { auditBufferBytesMax } from '../limits.ts';
import type { AuditBackend } from './auditor.ts';
import type { Event } from './event.ts';
import type { LogWriter } from './log-backend.ts';

export interface BatchOptions {
  /** Events that wait at most. */
  bufferSize: number;
  /** Events that are sent together at most. */
  sizeMax: number;
  waitMs: number;
  /** Batches a second, and how many at once after a pause; undefined: no bound. */
  throttle: { perSecond: number; burst: number } | undefined;
}

export const blockingLog = (writer: LogWriter, isStrict: boolean): AuditBackend => ({
  name: writer.name,
  isStrict,
  take: (event) => writer.write([event]),
  async [Symbol.asyncDispose]() {
    writer.close();
  },
});

export interface BatchBackendOptions {
  name: string;
  batch: BatchOptions;
  /** Rejects where they were not received; that is told, and they are lost. */
  send(events: readonly Event[]): Promise<void>;
  close?(): void;
  clock: Clock;
  log: Logger;
  errors: Family<Counter>;
}

export class BatchBackend implements AuditBackend {
  readonly isStrict = false;
  readonly name: string;
  readonly #options: BatchBackendOptions;
  #waiting: { event: Event; bytes: number }[] = [];
  #bytes = 0;
  #timer: Timer | undefined;
  #sending: Promise<void> | undefined;
  #tokens: number;
  #tokensAtMs: number;
  #isFull = false;

  constructor(options: BatchBackendOptions) {
    this.#options = options;
    this.name = options.name;
    this.#tokens = options.batch.throttle?.burst ?? 0;
    this.#tokensAtMs = options.clock.monotonic();
  }

  take(event: Event): boolean {
    const { batch, clock, log, errors } = this.#options;
    // Only what may be large is measured.
    const bytes = event.level === 'Metadata' ? 1_000 : JSON.stringify(event).length;
    if (this.#waiting.length >= batch.bufferSize || this.#bytes + bytes > auditBufferBytesMax) {
      errors.of(this.name).add();
      if (!this.#isFull) log.error('audit events are lost: the buffer is full', { plugin: this.name });
      this.#isFull = true;
      return false;
    }
    this.#isFull = false;
    this.#waiting.push({ event, bytes });
    this.#bytes += bytes;
    if (this.#waiting.length >= batch.sizeMax) void this.#flush();
    else this.#timer ??= clock.setTimer(batch.waitMs, () => void this.#flush(), { background: true });
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#tokens = Infinity;
    await this.#flush();
    await this.#flush();
    this.#options.close?.();
  }

  /** Sends until less than a batch waits. */
  #flush(): Promise<void> {
    this.#timer?.cancel();
    this.#timer = undefined;
    return (this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = undefined;
      const { clock, batch } = this.#options;
      if (this.#waiting.length > 0)
        this.#timer ??= clock.setTimer(batch.waitMs, () => void this.#flush(), { background: true });
    }));
  }

  async #sendAll(): Promise<void> {
    const { batch, send, log, errors } = this.#options;
    do {
      const together = this.#waiting.splice(0, batch.sizeMax);
      if (together.length === 0) return;
      for (const { bytes } of together) this.#bytes -= bytes;
      await this.#admit();
      try {
        await send(together.map(({ event }) => event));
      } catch (error) {
        errors.of(this.name).add(together.length);
        log.error('audit events were lost', { plugin: this.name, events: together.length, why: messageOf(error) });
      }
    } while (this.#waiting.length >= batch.sizeMax || this.#tokens === Infinity);
  }

  async #admit(): Promise<void> {
    const { batch, clock } = this.#options;
    const { throttle } = batch;
    if (throttle === undefined || this.#tokens === Infinity) return;
    const nowMs = clock.monotonic();
    const gained = ((nowMs - this.#tokensAtMs) * throttle.perSecond) / 1000;
    this.#tokens = Math.min(throttle.burst, this.#tokens + gained) - 1;
    this.#tokensAtMs = nowMs;
    if (this.#tokens < 0) await clock.sleep((-this.#tokens * 1000) / throttle.perSecond);
  }
}
