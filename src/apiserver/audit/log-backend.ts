/** Events as lines of a file, or of standard output (Kubernetes, "Auditing", "Log backend"). */
import { messageOf } from '#base/thrown.ts';
import type { Counter, Family } from '#observe/metrics.ts';
import type { Logger } from '#observe/log.ts';
import { legacyLine, type Event } from './event.ts';

/** Where lines go; throws where they cannot. */
export interface LineSink {
  write(lines: string): void;
  close(): void;
}

export interface LogBackendOptions {
  sink: LineSink;
  format: 'json' | 'legacy';
  log: Logger;
  errors: Family<Counter>;
}

/** Writes at once. */
export class LogWriter {
  readonly name = 'log';
  readonly #options: LogBackendOptions;
  #isFailing = false;

  constructor(options: LogBackendOptions) {
    this.#options = options;
  }

  /** Whether they were written. A failure is told once, until writing succeeds again. */
  write(events: readonly Event[]): boolean {
    const { sink, format, log, errors } = this.#options;
    const lines = events.map((event) => `${format === 'json' ? JSON.stringify(event) : legacyLine(event)}\n`).join('');
    try {
      sink.write(lines);
      this.#isFailing = false;
      return true;
    } catch (error) {
      errors.of(this.name).add(events.length);
      if (!this.#isFailing) log.error('audit events were lost', { plugin: this.name, why: messageOf(error) });
      this.#isFailing = true;
      return false;
    }
  }

  close(): void {
    this.#options.sink.close();
  }
}
