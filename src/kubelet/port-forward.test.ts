import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect, createServer as createTcpServer } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { acceptPortForward } from './port-forward.ts';

/**
 * What a client of `v4.channel.k8s.io` gets on each channel until the WebSocket is closed, with servers behind its
 * ports.
 */
async function forwarded(
  servers: ((socket: Socket) => void)[],
  onOpen: (ws: WebSocket) => void = () => {},
): Promise<{ channels: Map<number, string>; code: number }> {
  const behind = await Promise.all(
    servers.map(
      (serve) =>
        new Promise<ReturnType<typeof createTcpServer>>((done) => {
          const server = createTcpServer({ allowHalfOpen: true }, serve).listen(0, '127.0.0.1', () => done(server));
        }),
    ),
  );
  const ports = behind.map((server) => (server.address() as AddressInfo).port);
  const front = createServer().listen(0, '127.0.0.1');
  await new Promise((done) => {
    front.once('listening', done);
  });
  front.on('upgrade', (request, socket, head) => {
    void acceptPortForward(
      { request, socket, head },
      ports,
      (port) =>
        new Promise((resolve, reject) => {
          const made = connect({ port, host: '127.0.0.1', allowHalfOpen: true }, () => resolve(made));
          made.on('error', reject);
        }),
      'web',
    );
  });
  try {
    const ws = new WebSocket(`ws://127.0.0.1:${(front.address() as AddressInfo).port}/`, 'v4.channel.k8s.io');
    const channels = new Map<number, string>();
    ws.on('open', () => onOpen(ws));
    ws.on('message', (message: Buffer) =>
      channels.set(message[0]!, (channels.get(message[0]!) ?? '') + message.subarray(1).toString('latin1')),
    );
    const code = await new Promise<number>((resolve, reject) => {
      ws.on('close', resolve);
      ws.on('error', reject);
    });
    return { channels, code };
  } finally {
    front.close();
    for (const server of behind) server.close();
  }
}

test('a client of the older WebSocket form gets the data, then the end', async () => {
  const { channels, code } = await forwarded([
    (socket) => {
      socket.on('error', () => {});
      socket.end('HTTP/1.0 200 OK\r\n\r\nbody');
    },
  ]);
  assert.equal(code, 1000);
  assert.match(channels.get(0)!.slice(2), /body$/);
});

test('with several ports the end comes when the last connection has ended', async () => {
  const late: Socket[] = [];
  const { channels } = await forwarded([
    (socket) => {
      socket.on('error', () => {});
      socket.end('first');
      socket.on('close', () => {
        for (const other of late) other.end('second');
      });
    },
    (socket) => {
      socket.on('error', () => {});
      late.push(socket);
    },
  ]);
  assert.equal(channels.get(0)!.slice(2), 'first');
  assert.equal(channels.get(2)!.slice(2), 'second');
});

test('what a client sends arrives whole, however slowly it is taken', async () => {
  const size = 8 * 1024 * 1024;
  let received = 0;
  const { channels } = await forwarded(
    [
      (socket) => {
        socket.on('error', () => {});
        socket.on('data', (part: Buffer) => {
          received += part.length;
          socket.pause();
          setImmediate(() => socket.resume());
          if (received === size) socket.end('all');
        });
      },
    ],
    (ws) => {
      for (let sent = 0; sent < size; sent += 65_536) ws.send(Buffer.concat([Buffer.from([0]), Buffer.alloc(65_536)]));
    },
  );
  assert.equal(received, size);
  assert.equal(channels.get(0)!.slice(2), 'all');
});
