import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { IpFamily } from '#base/ip.ts';
import { realClock } from '#os/clock.real.ts';
import { linuxPortHolder, type HeldPort } from '#os/ports.ts';
import { startRelay, type Relay } from './port-relay.ts';

/** A relay on some free port of `::1`, or of 127.0.0.1. */
function relayTo(
  target: { ip: string; port: number; protocol: 'tcp' | 'udp' },
  near: IpFamily = 'IPv6',
): { relay: Relay; port: number } {
  for (let port = 42_000; port < 43_000; port++) {
    const address = near === 'IPv6' ? '::1' : '127.0.0.1';
    const held: HeldPort | { code: string } = linuxPortHolder.hold(address, port, target.protocol);
    if (!('code' in held) && held.fd !== undefined)
      return { relay: startRelay(held.fd, { ...target, near }, realClock), port };
  }
  throw new Error('no port is free');
}

function freed(port: number, protocol: 'tcp' | 'udp'): boolean {
  const held = linuxPortHolder.hold('::1', port, protocol);
  if ('code' in held) return false;
  held.release();
  return true;
}

test('a connection is carried to an address of version 4, each side ends for itself, and the port is free at once', async () => {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on('data', (part: Buffer) => parts.push(part));
    // Only when the other side has ended.
    socket.on('end', () => socket.end(`${Buffer.concat(parts).length} ${socket.remoteFamily}`));
  });
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  const { relay, port } = relayTo({ ip: '127.0.0.1', port: (server.address() as AddressInfo).port, protocol: 'tcp' });
  try {
    const heard = await new Promise<string>((resolve, reject) => {
      const socket = connect({ port, host: '::1', allowHalfOpen: true });
      let text = '';
      socket.on('data', (part: Buffer) => (text += part.toString()));
      socket.on('end', () => resolve(text));
      socket.on('error', reject);
      socket.end(Buffer.alloc(3_000_000, 7));
    });
    assert.equal(heard, '3000000 IPv4');
    const idle = connect(port, '::1');
    await new Promise((done) => idle.once('connect', done));
    relay.close();
    await new Promise((done) => idle.once('close', done));
    assert.ok(freed(port, 'tcp'));
  } finally {
    relay.close();
    server.close();
  }
});

test('a target that is not there ends the connection', async () => {
  const { relay, port } = relayTo({ ip: '127.0.0.1', port: 1, protocol: 'tcp' });
  const socket = connect(port, '::1');
  socket.on('error', () => {});
  await new Promise((done) => socket.once('close', done));
  relay.close();
});

test('datagrams find their way back to each sender', async () => {
  const server = createSocket('udp4');
  server.on('message', (message, from) => server.send(`got ${message.toString()}`, from.port, from.address));
  await new Promise<void>((done) => {
    server.bind(0, '127.0.0.1', done);
  });
  const { relay, port } = relayTo({ ip: '127.0.0.1', port: server.address().port, protocol: 'udp' });
  const ask = (text: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = createSocket('udp6');
      socket.on('message', (message) => {
        socket.close();
        resolve(message.toString());
      });
      socket.send(text, port, '::1');
    });
  try {
    assert.deepEqual(await Promise.all(['a', 'b', 'c'].map(ask)), ['got a', 'got b', 'got c']);
  } finally {
    relay.close();
    server.close();
  }
  assert.ok(freed(port, 'udp'));
});

test('where there are no rules, connections and datagrams of version 4 are carried, too', async () => {
  const server = createServer((socket) => socket.pipe(socket));
  await new Promise<void>((done) => {
    server.listen(0, '127.0.0.1', done);
  });
  const echo = createSocket('udp4');
  echo.on('message', (message, from) => echo.send(message, from.port, from.address));
  await new Promise<void>((done) => {
    echo.bind(0, '127.0.0.1', done);
  });
  const ip = '127.0.0.1';
  const streams = relayTo({ ip, port: (server.address() as AddressInfo).port, protocol: 'tcp' }, 'IPv4');
  const datagrams = relayTo({ ip, port: echo.address().port, protocol: 'udp' }, 'IPv4');
  const client = createSocket('udp4');
  const socket = connect(streams.port, ip);
  try {
    socket.end('by stream');
    const [part] = (await once(socket, 'data')) as [Buffer];
    assert.equal(part.toString(), 'by stream');
    client.send('by datagram', datagrams.port, ip);
    const [message] = (await once(client, 'message')) as [Buffer];
    assert.equal(message.toString(), 'by datagram');
  } finally {
    socket.destroy();
    client.close();
    streams.relay.close();
    datagrams.relay.close();
    echo.close();
    server.close();
  }
});
