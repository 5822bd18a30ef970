/**
 * Workers for layer work (`layer-worker.ts`). A worker that has finished waits a little for the next job, because
 * starting one costs more than copying a file; then it ends, so that an idle node holds no memory for it. A job that is
 * aborted takes its worker with it.
 */
import { Worker } from 'node:worker_threads';
import { ApiError } from '#base/errors.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { LayerJob, LayerJobResult } from './layer-worker.ts';
import { layerWorkerIdleMs } from './limits.ts';

type Answer = { result: LayerJobResult } | { error: { message: string; code?: string; name: string } };

export class LayerPool {
  readonly #clock: Clock;
  readonly #idle = new Map<Worker, Timer>();
  #closed = false;
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  #take(): Worker {
    const next = this.#idle.entries().next().value;
    if (next === undefined)
      return new Worker(
        new URL(import.meta.url.endsWith('.js') ? './layer-worker.js' : './layer-worker.ts', import.meta.url),
      );
    const [worker, timer] = next;
    timer.cancel();
    this.#idle.delete(worker);
    worker.ref();
    return worker;
  }

  #give(worker: Worker): void {
    if (this.#closed) {
      void worker.terminate();
      return;
    }
    worker.unref();
    this.#idle.set(
      worker,
      this.#clock.setTimer(
        layerWorkerIdleMs,
        () => {
          this.#idle.delete(worker);
          void worker.terminate();
        },
        { background: true },
      ),
    );
  }

  run(job: LayerJob, signal?: AbortSignal): Promise<LayerJobResult> {
    signal?.throwIfAborted();
    const worker = this.#take();
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        signal?.removeEventListener('abort', onAbort);
        worker.off('message', onMessage);
        worker.off('error', onError);
        worker.off('exit', onExit);
      };
      const onAbort = (): void => {
        settle();
        worker.terminate().then(() => reject(signal!.reason), reject);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const onMessage = (answer: Answer): void => {
        settle();
        this.#give(worker);
        if ('result' in answer) resolve(answer.result);
        else reject(toError(answer.error));
      };
      const onError = (error: unknown): void => {
        settle();
        reject(error);
      };
      const onExit = (): void => {
        settle();
        reject(new Error('the layer worker ended early'));
      };
      worker.on('message', onMessage);
      worker.on('error', onError);
      worker.on('exit', onExit);
      worker.postMessage(job);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const timer of this.#idle.values()) timer.cancel();
    await Promise.all([...this.#idle.keys()].map((worker) => worker.terminate()));
    this.#idle.clear();
  }
}

/** Errors of bad input are the caller's to show; the rest keeps its code (`ENOSPC`). */
function toError(from: { message: string; code?: string; name: string }): Error {
  if (from.name === 'TarError' || from.name === 'ApiError')
    return new ApiError(from.code === 'NotFound' ? 'NotFound' : 'BadRequest', from.message);
  if (from.code?.startsWith('Z_') === true || from.code?.startsWith('ZSTD_') === true)
    return new ApiError('BadRequest', `failed to decompress: ${from.message}`);
  return Object.assign(new Error(from.message), { code: from.code });
}
