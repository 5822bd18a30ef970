/**
 * A worker thread with a table of synchronous operations, and the client that calls it. System calls that block, change
 * the thread's namespaces or its working directory run there. Calls are answered in order; one worker runs one at a
 * time.
 *
 * libuv's pool threads inherit the namespace of the thread that first queued work, so operations in a worker use
 * synchronous calls only.
 */
import { Worker } from 'node:worker_threads';
import { SystemError } from './libc.linux.ts';
import type { SyscallOperations } from './syscall.worker.ts';

const workerEndMs = 2_000;

interface Answer {
  id: number;
  result?: unknown;
  error?: { message: string; code?: string; errno?: number; syscall?: string; detail?: string };
}

/** These threads hold next to nothing: a small heap keeps an idle node small. */
export const workerMemory = { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 48 };

export interface SyscallWorker {
  call<K extends keyof SyscallOperations>(
    name: K,
    argument: Parameters<SyscallOperations[K]>[0],
  ): Promise<ReturnType<SyscallOperations[K]>>;
  close(): Promise<void>;
}

/** The name of a sibling module as this build names it: `.ts` in the tree, `.js` when packed. */
export function siblingUrl(base: string, name: string): URL {
  return new URL(`./${name}${base.endsWith('.ts') ? '.ts' : '.js'}`, base);
}

export function startSyscallWorker(name: string): SyscallWorker {
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let worker: Worker | undefined;
  let nextId = 1;
  /** What a worker that was closed leaves is not the next one's to lose. */
  const failAll = (ended: Worker, error: Error): void => {
    if (worker !== undefined && worker !== ended) return;
    for (const entry of waiting.values()) entry.reject(error);
    waiting.clear();
    worker = undefined;
  };
  const start = (): Worker => {
    const started = new Worker(siblingUrl(import.meta.url, 'syscall.worker'), {
      name,
      execArgv: ['--no-warnings'],
      resourceLimits: workerMemory,
    });
    started.unref();
    started.on('message', (answer: Answer) => {
      const entry = waiting.get(answer.id);
      waiting.delete(answer.id);
      if (waiting.size === 0) started.unref();
      if (entry === undefined) return;
      if (answer.error === undefined) entry.resolve(answer.result as never);
      else entry.reject(revive(answer.error));
    });
    started.on('error', (error: Error) => failAll(started, error));
    started.on('exit', () => failAll(started, new Error(`worker ${name} ended`)));
    return started;
  };
  return {
    call(operation, argument) {
      worker ??= start();
      const id = nextId++;
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve: resolve, reject });
        worker!.ref();
        worker!.postMessage({ id, operation, argument });
      });
    },
    async close() {
      const ending = worker;
      worker = undefined;
      if (ending === undefined) return;
      // Seen: a thread that never heard of its end. It holds nothing, and must not hold the process.
      const { promise: waited, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, workerEndMs);
      await Promise.race([ending.terminate(), waited]);
      clearTimeout(timer);
      ending.unref();
    },
  };
}

function revive(error: NonNullable<Answer['error']>): Error {
  if (error.errno !== undefined && error.syscall !== undefined)
    return new SystemError(error.syscall, error.errno, error.detail ?? '');
  const out = new Error(error.message);
  if (error.code !== undefined) Object.assign(out, { code: error.code });
  return out;
}
