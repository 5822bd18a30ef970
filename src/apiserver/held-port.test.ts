/** Connections that come before there is a server for them. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import { test } from 'node:test';
import { realClock } from '#os/clock.real.ts';
import { HeldPort } from './held-port.ts';

const answerOf = async (port: number): Promise<string> => (await fetch(`http://127.0.0.1:${port}/`)).text();

test('connections wait until there is a server, which closes the port', async () => {
  await using held = await HeldPort.open({ host: '127.0.0.1', port: 0 });
  const { port } = held;
  const early = answerOf(port);
  const server = createServer((_request, response) => response.end('here'));
  await held.handTo(server);
  assert.equal(await early, 'here');
  assert.equal(await answerOf(port), 'here', 'and those that come later');
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
  await assert.rejects(answerOf(port));
});

test('where nobody takes them they end', async () => {
  const held = await HeldPort.open({ host: '127.0.0.1', port: 0 });
  const socket = connect(held.port, '127.0.0.1');
  const ended = new Promise((done) => socket.on('error', () => undefined).once('close', done));
  await new Promise((done) => socket.once('connect', done));
  await held[Symbol.asyncDispose]();
  await ended;
});

test('a port that another process holds is taken as soon as that lets go of it, where that is wanted', async () => {
  const first = await HeldPort.open({ host: '127.0.0.1', port: 0 });
  const where = { host: '127.0.0.1', port: first.port };
  await assert.rejects(HeldPort.open(where), /EADDRINUSE/);
  const second = HeldPort.open({ ...where, retry: { clock: realClock, stepMs: 1 } });
  await first[Symbol.asyncDispose]();
  await using held = await second;
  assert.equal(held.port, where.port);
});
