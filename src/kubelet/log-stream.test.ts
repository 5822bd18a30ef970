import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import { WebSocket } from 'ws';
import { sendMessages } from './log-stream.ts';
import { acceptWebSocket } from './remote-command.ts';

/** What a client of the protocol gets of three chunks, and the code with which it ends. */
async function receive(protocol: string): Promise<{ messages: (string | Buffer)[]; code: number }> {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('one\n');
    await Promise.resolve();
    yield Buffer.from([0xff, 0x00]);
  }
  const server = createServer();
  server.on('upgrade', (request, socket, head) => {
    void acceptWebSocket({ request, socket, head }).then((ws) => sendMessages(ws, chunks()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const { port } = server.address() as { port: number };
    const client = new WebSocket(`ws://127.0.0.1:${port}/`, protocol === '' ? [] : [protocol]);
    const messages: (string | Buffer)[] = [];
    client.on('message', (data: Buffer, isBinary) => messages.push(isBinary ? data : data.toString()));
    const code = await new Promise<number>((resolve, reject) => {
      client.on('close', resolve);
      client.on('error', reject);
    });
    return { messages, code };
  } finally {
    server.close();
  }
}

test('a log over a WebSocket comes in messages, as bytes or as text of base64, and ends with a close', async () => {
  const bytes = { messages: [Buffer.from('one\n'), Buffer.from([0xff, 0x00])], code: 1000 };
  assert.deepEqual(await receive('binary.k8s.io'), bytes);
  assert.deepEqual(await receive(''), bytes);
  assert.deepEqual(await receive('base64.binary.k8s.io'), { messages: ['b25lCg==', '/wA='], code: 1000 });
});
