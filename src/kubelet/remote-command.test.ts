import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { realClock } from '#os/clock.real.ts';
import { acceptRemoteCommand, failureStatus } from './remote-command.ts';

test('output and status wait until the client has shown that it reads, and keep their order', async () => {
  const front = createServer().listen(0, '127.0.0.1');
  try {
    await once(front, 'listening');
    front.on('upgrade', (request, socket, head) => {
      const wanted = { stdin: false, stdout: true, stderr: true, tty: false };
      void acceptRemoteCommand({ request, socket, head }, wanted, realClock).then(({ streams, finish }) => {
        streams.stdout!.write('out');
        finish(failureStatus('no such program'));
      });
    });
    const { port } = front.address() as AddressInfo;
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, 'v5.channel.k8s.io', { autoPong: false });
    const seen: string[] = [];
    ws.on('message', (data: Buffer) => seen.push(`${data[0]} ${data.subarray(1).toString()}`));
    await once(ws, 'ping', { signal: AbortSignal.timeout(60_000) });
    // A second ping and its answer pass after all that was sent before them.
    ws.ping();
    await once(ws, 'pong');
    assert.deepEqual(seen, []);
    ws.pong();
    await once(ws, 'close');
    assert.deepEqual(seen, ['1 out', `3 ${JSON.stringify(failureStatus('no such program'))}`]);
  } finally {
    front.close();
  }
});
