/**
 * `POST /containers/ID/attach`: the raw connection, with what was logged before when asked for; `GET …/attach/ws`: the
 * same in binary messages of a WebSocket, where both outputs are one.
 */
import { ApiError } from '#base/errors.ts';
import { whenDrained, whenFinished } from '#base/streams.ts';
import { eventAttributes } from '#engine/container.ts';
import type { Duplex, Readable } from 'node:stream';
import type { DockerParts } from './context.ts';
import { parseDetachKeys, watchDetachKeys } from './detach.ts';
import { framedWriter, plainWriter } from './multiplex.ts';
import { queryFlag } from './route.ts';
import type { RouteContext } from './route.ts';
import { webSocketMessageBytesMax } from './server-limits.ts';

export async function attachContainer(parts: DockerParts, context: RouteContext): Promise<unknown> {
  return attach(parts, context, async (tty) => {
    const isMultiplexed = !tty && context.version[1] >= 42;
    const type = isMultiplexed ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream';
    const socket = await context.hijack(type);
    return { socket, isPlain: tty };
  });
}

export async function attachWebSocket(parts: DockerParts, context: RouteContext): Promise<unknown> {
  return attach(parts, context, async () => {
    const { createWebSocketStream, WebSocketServer } = await import('ws');
    const { socket, head } = context.upgrade();
    const server = new WebSocketServer({ noServer: true, maxPayload: webSocketMessageBytesMax });
    const { promise, resolve, reject } = Promise.withResolvers<Duplex>();
    socket.once('close', () => reject(new ApiError('BadRequest', 'the client went away')));
    server.handleUpgrade(context.request, socket, head, (client) => resolve(createWebSocketStream(client)));
    const stream = await promise;
    stream.on('error', () => undefined);
    return { socket: stream, isPlain: true };
  });
}

interface Attached {
  socket: Duplex;
  /** Outputs are not told apart. */
  isPlain: boolean;
}

async function attach(
  parts: DockerParts,
  context: RouteContext,
  open: (tty: boolean) => Promise<Attached>,
): Promise<unknown> {
  const { query } = context;
  const { engine } = parts;
  const container = engine.table.get(context.params['id']!);
  if (container.record.state === 'paused')
    throw new ApiError('Conflict', `container ${container.id} is paused, unpause the container before attach`);
  if (container.record.state === 'restarting')
    throw new ApiError('Conflict', `container ${container.id} is restarting, wait until the container is running`);
  const tty = container.record.spec.tty;
  const keys = parseDetachKeys(query.get('detachKeys') ?? '');
  const detached = new AbortController();
  const { socket, isPlain } = await open(tty);
  const stdout = isPlain ? plainWriter(socket) : framedWriter(socket, 1);
  const stderr = isPlain ? plainWriter(socket) : framedWriter(socket, 2);
  if (queryFlag(query, 'logs')) {
    for await (const line of engine.containers.logs(container.id, {
      stdout: queryFlag(query, 'stdout'),
      stderr: queryFlag(query, 'stderr'),
      follow: false,
    })) {
      const target = line.stream === 'stdout' ? stdout : stderr;
      if (!target.write(line.data)) await whenDrained(target);
    }
  }
  // Of one that does not run the next start is waited for: clients attach before they start, also for the second time.
  if (!queryFlag(query, 'stream')) {
    socket.end();
    return undefined;
  }
  const withStdin = queryFlag(query, 'stdin') && container.record.spec.openStdin;
  if (!withStdin) drain(socket);
  engine.events.emit({
    type: 'container',
    action: 'attach',
    id: container.id,
    attributes: eventAttributes(container),
    owner: container.record.spec.owner,
  });
  await engine.containers.attach(
    container.id,
    {
      ...(withStdin ? { stdin: tty ? watchDetachKeys(socket, keys, () => detached.abort()) : socket } : {}),
      ...(queryFlag(query, 'stdout') ? { stdout } : {}),
      ...(queryFlag(query, 'stderr') ? { stderr } : {}),
    },
    AbortSignal.any([context.signal, detached.signal]),
  );
  if (detached.signal.aborted)
    engine.events.emit({
      type: 'container',
      action: 'detach',
      id: container.id,
      attributes: eventAttributes(container),
      owner: container.record.spec.owner,
    });
  for (const output of [stdout, stderr]) output.end();
  await Promise.all([stdout, stderr].map(whenFinished));
  socket.end();
  return undefined;
}

function drain(stream: Readable): void {
  stream.resume();
  stream.on('error', () => undefined);
}
