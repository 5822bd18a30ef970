/** What those who are attached see at the end of a run: the output ends when the run's record does, and is whole. */
import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import type { AttachSocket, Poll } from '#os/poll.ts';
import { AttachHub } from './attach.ts';

function openHub(): { hub: AttachHub; socket: AttachSocket; closed: () => boolean } {
  let isClosed = false;
  const socket: AttachSocket = {
    onPacket: () => undefined,
    onEnd: () => undefined,
    write: async () => undefined,
    shutdown: () => undefined,
    close: () => {
      isClosed = true;
    },
  };
  const poll = { connectAttach: async () => socket } as unknown as Poll;
  return { hub: new AttachHub(poll, { stdinOnce: false }), socket, closed: () => isClosed };
}

function attachTo(hub: AttachHub): { stdout: PassThrough; left: () => Promise<boolean> } {
  const stdout = new PassThrough();
  let hasLeft = false;
  void hub.attach({ stdout }).then(() => {
    hasLeft = true;
  });
  return { stdout, left: () => new Promise((resolve) => setImmediate(() => resolve(hasLeft))) };
}

const packet = (text: string): Buffer => Buffer.from(`\u0002${text}`);

test('the end of the output alone ends no client: the exit code is not known yet', async () => {
  const { hub, socket } = openHub();
  const client = attachTo(hub);
  await hub.connect('/attach');
  socket.onEnd();
  assert.equal(await client.left(), false);
  hub.end();
  assert.equal(await client.left(), true);
});

test('what is still on its way when the run is over is delivered', async () => {
  const { hub, socket, closed } = openHub();
  const client = attachTo(hub);
  await hub.connect('/attach');
  hub.end();
  assert.equal(await client.left(), false);
  assert.equal(closed(), false);
  socket.onPacket(packet('last words'), () => undefined);
  socket.onEnd();
  assert.equal(await client.left(), true);
  assert.equal(String(client.stdout.read()), 'last words');
});

test('a start that fails ends those who wait, and the next one is connected to', async () => {
  const { hub, socket, closed } = openHub();
  const first = attachTo(hub);
  await hub.connect('/attach');
  hub.fail();
  assert.equal(await first.left(), true);
  assert.equal(closed(), true);
  const second = attachTo(hub);
  await hub.connect('/attach');
  socket.onPacket(packet('x'), () => undefined);
  assert.equal(String(second.stdout.read()), 'x');
});
