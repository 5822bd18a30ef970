import { test } from 'node:test';
import assert from 'node:assert/strict';
import { connect, createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { linuxPortHolder } from './ports.ts';

test('a port that another program listens on, or that is held, is in use', { timeout: 10_000 }, async () => {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  assert.deepEqual(linuxPortHolder.hold('127.0.0.1', port, 'tcp'), { code: 'EADDRINUSE' });
  server.close();
  await once(server, 'close');
  const held = linuxPortHolder.hold('127.0.0.1', port, 'tcp');
  assert.ok('release' in held);
  assert.deepEqual(linuxPortHolder.hold('127.0.0.1', port, 'tcp'), { code: 'EADDRINUSE' });
  held.release();
});

test('a port on which only closed connections linger is free', { timeout: 10_000 }, async () => {
  const server = createServer((socket) => socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const client = connect(port, '127.0.0.1');
  client.resume();
  await once(client, 'close');
  server.close();
  await once(server, 'close');
  const held = linuxPortHolder.hold('127.0.0.1', port, 'tcp');
  assert.ok('release' in held);
  held.release();
});
