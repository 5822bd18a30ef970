/** What a command may see of its client's secrets: values by id, and an SSH agent behind a socket. */
import { closeSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { whenSettled } from '#base/promises.ts';
import { agentConnectionsMax } from '../limits.ts';

export interface SecretSource {
  /** undefined: the client has none of this id. */
  get(id: string, signal: AbortSignal): Promise<Uint8Array | undefined>;
  /** Why there is no agent of this id; undefined: there is one. */
  whyNoAgent(id: string, signal: AbortSignal): Promise<string | undefined>;
  /** Joins the connection with the client's agent until one of them ends. */
  forwardAgent(id: string, socket: Socket, signal: AbortSignal): Promise<void>;
}

export function notForwarded(id: string): string {
  return `no SSH key ${JSON.stringify(id.slice(0, 200))} forwarded from the client`;
}

/** A client without a session, as of the classic API. */
export const noSecrets: SecretSource = {
  get: async () => undefined,
  whyNoAgent: async (id) => notForwarded(id),
  forwardAgent: async () => {
    throw new ApiError('BadRequest', 'no SSH agent forwarded from the client');
  },
};

/** Listens until the returned function is called, which also ends the connections. */
export async function listenForAgent(
  path: string,
  forward: (socket: Socket) => Promise<void>,
): Promise<() => Promise<void>> {
  const open = new Set<Socket>();
  // A program may say all it has to say and wait for the answer.
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
    socket.on('error', () => socket.destroy());
    // A connection that fails ends, which is all that its program can learn.
    void whenSettled(forward(socket)).then(() => socket.destroy());
  });
  server.maxConnections = agentConnectionsMax;
  // By way of the directory, since an address has no room for long paths.
  const directory = openSync(dirname(path), 'r');
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(`/proc/self/fd/${directory}/${basename(path)}`, resolve);
    });
  } catch (error) {
    closeSync(directory);
    throw error;
  }
  return async () => {
    for (const socket of open) socket.destroy();
    await new Promise<void>((resolve) => server.close(() => resolve()));
    closeSync(directory);
  };
}
