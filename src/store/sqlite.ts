/**
 * The SQLite backend: a log store whose writer (`sqlite-writer.ts`) is a worker, because a synced commit takes
 * milliseconds in which the event loop must not stand still.
 */
import { Worker } from 'node:worker_threads';
import type { FromWriter, LoadedRow, ToWriter, WriterOptions } from './log-messages.ts';
import { type LogStoreOptions, LogStore, type LogWriter } from './log-store.ts';

export interface SqliteOptions extends LogStoreOptions {
  path: string;
  /** For tests of durability alone. */ synchronous?: 'FULL' | 'OFF';
}

class SqliteWriter implements LogWriter {
  readonly #worker: Worker;
  #answered: ((answer: FromWriter) => void) | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.on('message', (answer: FromWriter) => this.#answer(answer));
    worker.on('error', (error: Error) => this.#answer({ type: 'failed', message: error.message }));
    worker.unref();
  }

  send(message: ToWriter, answered: (answer: FromWriter) => void): void {
    this.#answered = answered;
    this.#worker.ref();
    this.#worker.postMessage(message);
  }

  #answer(answer: FromWriter): void {
    const answered = this.#answered;
    this.#answered = undefined;
    answered?.(answer);
    // Only what is under way keeps the process.
    if (this.#answered === undefined) this.#worker.unref();
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#worker.once('exit', () => resolve());
      this.send({ type: 'close' }, () => resolve());
    });
    await this.#worker.terminate();
  }
}

/**
 * Opens or makes the file; resolves when all of it is in memory. Rejects when another process holds it or its format is
 * newer.
 */
export async function openSqliteStore(options: SqliteOptions): Promise<LogStore> {
  const workerData: WriterOptions = { path: options.path, synchronous: options.synchronous ?? 'FULL' };
  const writer = new Worker(
    new URL(import.meta.url.endsWith('.ts') ? './sqlite-writer.ts' : './sqlite-writer.js', import.meta.url),
    { workerData },
  );
  const rows: LoadedRow[] = [];
  const ready = await new Promise<Extract<FromWriter, { type: 'ready' }>>((resolve, reject) => {
    writer.once('error', (error: Error) =>
      reject(
        new Error(
          `cannot open ${options.path}: ${/locked/.test(error.message) ? 'another process holds it' : error.message}`,
        ),
      ),
    );
    const onMessage = (message: FromWriter): void => {
      if (message.type === 'rows') for (const row of message.rows) rows.push(row);
      else if (message.type === 'ready') {
        writer.off('message', onMessage);
        writer.removeAllListeners('error');
        resolve(message);
      }
    };
    writer.on('message', onMessage);
  });
  return new LogStore(new SqliteWriter(writer), { rows, ...ready }, { vacuums: true, ...options });
}
