/**
 * `Poll` by one worker (poll.worker.ts). Commands go by message and an eventfd that wakes the worker out of epoll_wait.
 */
import { Worker } from 'node:worker_threads';
import { awaitedLater } from '#base/promises.ts';
import { call, tryCall } from './libc.linux.ts';
import type { AttachSocket, Poll } from './poll.ts';
import { siblingUrl, workerMemory } from './worker-call.linux.ts';

export type PollCommand =
  | { op: 'watch'; id: number; pid: number }
  | { op: 'attach'; id: number; path: string }
  | { op: 'terminal'; id: number; path: string }
  | { op: 'write'; id: number; bytes: Uint8Array; ticket: number }
  | { op: 'shutdown'; id: number }
  | { op: 'close'; id: number }
  | { op: 'finish'; id: number }
  | { op: 'ack'; id: number; bytes: number }
  | { op: 'stop' };
export type PollEvent =
  | { kind: 'exit'; id: number }
  | { kind: 'ready'; id: number }
  | { kind: 'error'; id: number; code: string; message: string }
  | { kind: 'packet'; id: number; bytes: Uint8Array }
  | { kind: 'end'; id: number }
  | { kind: 'written'; id: number; ticket: number; error?: string }
  | { kind: 'descriptor'; id: number; fd: number };

export function createPoll(): Poll {
  const wake = call('eventfd', 'eventfd', 0, 0x80800);
  const listeners = new Map<number, (event: PollEvent) => void>();
  const one = Buffer.alloc(8);
  one.writeUInt32LE(1);
  let nextId = 1;
  let stopped = false;
  const worker = new Worker(siblingUrl(import.meta.url, 'poll.worker'), {
    name: 'poll',
    workerData: { wake },
    execArgv: ['--no-warnings'],
    resourceLimits: workerMemory,
  });
  worker.on('message', (events: PollEvent[]) => {
    for (const event of events) listeners.get(event.id)?.(event);
  });
  worker.unref();
  const send = (command: PollCommand): void => {
    if (stopped) return;
    worker.postMessage(command);
    tryCall('write', wake, one, 8);
  };
  const stop = (): void => {
    send({ op: 'stop' });
    stopped = true;
  };
  // A worker asleep in a system call would hold up the end of the process.
  process.once('exit', stop);
  return {
    waitExit(pid) {
      const id = nextId++;
      return new Promise((resolve) => {
        listeners.set(id, () => {
          listeners.delete(id);
          resolve();
        });
        send({ op: 'watch', id, pid });
      });
    },
    connectAttach: (path) => connectAttach(path, nextId++, listeners, send),
    async receiveTerminal(path) {
      const id = nextId++;
      const ready = Promise.withResolvers<void>();
      const descriptor = Promise.withResolvers<number>();
      void awaitedLater(descriptor.promise);
      listeners.set(id, (event) => {
        if (event.kind === 'ready') ready.resolve();
        if (event.kind === 'descriptor') {
          listeners.delete(id);
          descriptor.resolve(event.fd);
        }
        if (event.kind === 'error') {
          listeners.delete(id);
          ready.reject(failure(event));
          descriptor.reject(failure(event));
        }
      });
      send({ op: 'terminal', id, path });
      await ready.promise;
      return { descriptor: descriptor.promise, finish: () => send({ op: 'finish', id }) };
    },
    close() {
      process.removeListener('exit', stop);
      stop();
    },
  };
}

function failure(event: { code: string; message: string }): Error {
  return Object.assign(new Error(event.message), { code: event.code });
}

function connectAttach(
  path: string,
  id: number,
  listeners: Map<number, (event: PollEvent) => void>,
  send: (command: PollCommand) => void,
): Promise<AttachSocket> {
  const written = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  let ticket = 1;
  let ended = false;
  const end = (): void => {
    if (ended) return;
    ended = true;
    listeners.delete(id);
    for (const entry of written.values()) entry.reject(new Error('the container has ended'));
    written.clear();
    send({ op: 'close', id });
  };
  const socket: AttachSocket = {
    onPacket: () => undefined,
    onEnd: () => undefined,
    write(bytes) {
      if (ended) return Promise.reject(new Error('the container has ended'));
      const mine = ticket++;
      return new Promise((resolve, reject) => {
        written.set(mine, { resolve, reject });
        send({ op: 'write', id, bytes, ticket: mine });
      });
    },
    shutdown: () => {
      if (!ended) send({ op: 'shutdown', id });
    },
    close: end,
  };
  return new Promise((resolve, reject) => {
    listeners.set(id, (event) => {
      if (event.kind === 'ready') resolve(socket);
      else if (event.kind === 'error') {
        listeners.delete(id);
        reject(failure(event));
      } else if (event.kind === 'packet') {
        const bytes = event.bytes.length;
        socket.onPacket(Buffer.from(event.bytes.buffer, event.bytes.byteOffset, bytes), () => {
          if (!ended) send({ op: 'ack', id, bytes });
        });
      } else if (event.kind === 'written') {
        const entry = written.get(event.ticket);
        written.delete(event.ticket);
        if (event.error === undefined) entry?.resolve();
        else entry?.reject(new Error(event.error));
      } else if (event.kind === 'end') {
        const tell = socket.onEnd;
        end();
        tell();
      }
    });
    send({ op: 'attach', id, path });
  });
}
