/**
 * Port-forward: pairs of a data and an error stream, each a TCP connection made inside the Pod's network namespace.
 * Over SPDY directly, or SPDY inside WebSocket messages (`SPDY/3.1+portforward.k8s.io`), or the older
 * one-channel-pair-a-port WebSocket form.
 */
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { onceClosed, whenDrained } from '#base/streams.ts';
import { SpdyConnection, type SpdyStream } from '#base/spdy.ts';
import { messageOf } from '#base/thrown.ts';
import { acceptSpdy, acceptWebSocket, isWebSocket, type Upgrade } from './remote-command.ts';

export type Dial = (port: number) => Promise<Duplex>;

/** One connection to forward. */
interface StreamPair {
  data: SpdyStream;
  error: SpdyStream | undefined;
  port: number;
}

function forward({ data, error, port }: StreamPair, dial: Dial, podName: string): void {
  dial(port).then(
    (connection) => {
      connection.on('error', (problem: Error) => {
        error?.end(`error forwarding port ${port} to pod ${podName}: ${messageOf(problem)}`);
        data.destroy();
      });
      data.on('error', () => connection.destroy());
      // The client may have gone while the connection was made.
      onceClosed(data, () => connection.destroy());
      data.pipe(connection);
      connection.pipe(data);
      // Also of one that was cut off without an end of its own: the client would wait for ever.
      connection.on('close', () => {
        for (const stream of [data, error]) if (stream?.writableEnded === false && !stream.destroyed) stream.end();
      });
    },
    (problem: unknown) => {
      error?.end(
        `error forwarding port ${port} to pod ${podName}, uid : failed to connect to localhost:${port} inside namespace "${podName}": ${messageOf(problem)}`,
      );
      data.end();
    },
  );
}

/** Pairs streams by `requestid`. */
function pairing(dial: Dial, podName: string): (stream: SpdyStream) => void {
  const errors = new Map<string, SpdyStream>();
  return (stream) => {
    const id = stream.headers['requestid'] ?? stream.headers['port'] ?? '';
    if (stream.headers['streamtype'] === 'error') {
      errors.set(id, stream);
      stream.resume();
      stream.on('close', () => {
        if (errors.get(id) === stream) errors.delete(id);
      });
      return;
    }
    const error = errors.get(id);
    errors.delete(id);
    forward({ data: stream, error, port: Number(stream.headers['port']) }, dial, podName);
  };
}

export async function acceptPortForward(upgrade: Upgrade, ports: number[], dial: Dial, podName: string): Promise<void> {
  if (!isWebSocket(upgrade.request)) {
    acceptSpdy(upgrade, ['portforward.k8s.io'], pairing(dial, podName));
    return;
  }
  const ws = await acceptWebSocket(upgrade);
  ws.on('error', () => ws.terminate());
  if (ws.protocol === 'SPDY/3.1+portforward.k8s.io') {
    let drain: () => void = () => {};
    const connection = new SpdyConnection(
      {
        send: (bytes) => {
          if (ws.readyState === ws.OPEN)
            ws.send(bytes, { binary: true }, () => {
              if (ws.bufferedAmount === 0) drain();
            });
          return ws.bufferedAmount < 1024 * 1024;
        },
        onDrain: (run) => {
          drain = run;
        },
        pause: () => ws.pause(),
        resume: () => ws.resume(),
        close: () => ws.close(),
      },
      pairing(dial, podName),
    );
    ws.on('message', (message: Buffer) => connection.receive(Buffer.from(message)));
    ws.on('close', () => connection.close());
    return;
  }
  await forwardChannels(ws, ports, dial);
}

/**
 * `v4.channel.k8s.io`: channel 2n is the data of the n-th port, 2n + 1 its errors; each begins with the port,
 * little-endian. There is no message for the end of one connection: the client learns of it when the last one has ended
 * and the WebSocket is closed. Who does not read is not written to.
 */
async function forwardChannels(ws: WebSocket, ports: number[], dial: Dial): Promise<void> {
  let open = ports.length;
  const ended = (): void => {
    if (--open === 0) ws.close(1000);
  };
  const connections: (Duplex | undefined)[] = [];
  const waiting = new Set<number>();
  ws.on('close', () => {
    for (const connection of connections) connection?.destroy();
  });
  ws.on('message', (message: Buffer) => {
    const index = message[0]! / 2;
    const connection = connections[index];
    if (
      connection === undefined ||
      connection.writableEnded ||
      connection.destroyed ||
      connection.write(message.subarray(1))
    )
      return;
    waiting.add(index);
    ws.pause();
    void whenDrained(connection).then(() => {
      if (waiting.delete(index) && waiting.size === 0) ws.resume();
    });
  });
  for (const [index, port] of ports.entries()) {
    const note = Buffer.alloc(3);
    note.writeUInt16LE(port, 1);
    for (const channel of [index * 2, index * 2 + 1]) {
      note[0] = channel;
      ws.send(Buffer.from(note));
    }
    const connection = await dial(port).catch((problem: unknown) => {
      ws.send(Buffer.concat([Buffer.from([index * 2 + 1]), Buffer.from(messageOf(problem))]));
      return undefined;
    });
    if (connection === undefined) {
      ended();
      continue;
    }
    connections[index] = connection;
    if (ws.readyState !== ws.OPEN) {
      connection.destroy();
      continue;
    }
    connection.on('error', () => {});
    connection.on('data', (chunk: Buffer) => {
      connection.pause();
      ws.send(Buffer.concat([Buffer.from([index * 2]), chunk]), () => connection.resume());
    });
    // Its end comes before "close", for which it would wait until the client ends its half; the client has no way to.
    connection.once('end', () => connection.end());
    connection.once('close', ended);
  }
}
