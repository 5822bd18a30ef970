import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { test } from 'node:test';
import { call, withUnixAddress } from './libc.linux.ts';
import { openUnixDatagram } from './unix-datagram.linux.ts';

test('a datagram arrives whole; a receiver that does not read is told, and one that is gone too', (t) => {
  const home = mkdtempSync('/tmp/tiphys-datagram-');
  t.after(() => rmSync(home, { recursive: true }));
  const path = `${home}/s`;
  assert.throws(() => openUnixDatagram(path), { code: 'ENOENT' });
  const receiver = call('socket', '', 1, 2, 0);
  withUnixAddress(path, (address) => call('bind', path, receiver, address, address.length));
  const socket = openUnixDatagram(path);
  t.after(() => socket.close());
  assert.equal(socket.send(Buffer.from('READY=1\n')), 'sent');
  const into = Buffer.alloc(100);
  assert.equal(into.toString('utf8', 0, call('recv', '', receiver, into, into.length, 0)), 'READY=1\n');
  let count = 0;
  while (socket.send(Buffer.from('x')) === 'sent') assert.ok(count++ < 1_000_000);
  assert.equal(socket.send(Buffer.from('x')), 'full');
  call('close', '', receiver);
  assert.equal(socket.send(Buffer.from('x')), 'gone');
});
