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

/** A thread with the calls that it has not answered. They are its own: another one is not held by what it left. */
class Calls {
  readonly worker: Worker;
  readonly #waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  constructor(name: string, ended: (calls: Calls) => void) {
    this.worker = new Worker(siblingUrl(import.meta.url, 'syscall.worker'), {
      name,
      execArgv: ['--no-warnings'],
      resourceLimits: workerMemory,
    });
    this.worker.unref();
    this.worker.on('message', (answer: Answer) => this.#answer(answer));
    const end = (error: Error): void => {
      ended(this);
      this.fail(error);
    };
    this.worker.on('error', end);
    this.worker.on('exit', () => end(new Error(`worker ${name} ended`)));
  }

  send(operation: string, argument: unknown): Promise<never> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.worker.ref();
      this.worker.postMessage({ id, operation, argument });
    });
  }

  #answer(answer: Answer): void {
    const entry = this.#waiting.get(answer.id);
    this.#waiting.delete(answer.id);
    if (this.#waiting.size === 0) this.worker.unref();
    if (answer.error === undefined) entry?.resolve(answer.result as never);
    else entry?.reject(revive(answer.error));
  }

  fail(error: Error): void {
    for (const entry of this.#waiting.values()) entry.reject(error);
    this.#waiting.clear();
    this.worker.unref();
  }
}

export function startSyscallWorker(name: string): SyscallWorker {
  let current: Calls | undefined;
  return {
    call(operation, argument) {
      current ??= new Calls(name, (ended) => {
        if (current === ended) current = undefined;
      });
      return current.send(operation, argument);
    },
    async close() {
      const ending = current;
      current = undefined;
      if (ending === undefined) return;
      // Seen: a thread that never heard of its end. It holds nothing, and must not hold the process.
      const { promise: waited, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, workerEndMs);
      await Promise.race([ending.worker.terminate(), waited]);
      clearTimeout(timer);
      ending.fail(new Error(`worker ${name} was closed`));
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
