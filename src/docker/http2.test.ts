/** Connections that speak HTTP/2 from the first byte share the socket with all others. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import { createDockerServer } from './server.ts';

const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

test('what begins as HTTP/2 is given away with all its bytes, however they come; the rest is HTTP/1', async (t) => {
  const home = mkdtempSync('/tmp/tiphys-docker-');
  const server = await createDockerServer({
    listen: [{ type: 'unix', path: `${home}/s` }],
    routes: [{ method: 'GET', path: '/x', handle: async () => ({ ok: true }) }],
    log: silentLogger,
    serverVersion: '0',
    // All that came, back.
    serveHttp2: (socket) => void socket.pipe(socket),
  });
  t.after(async () => {
    await server.close();
    rmSync(home, { recursive: true, force: true });
  });
  const talk = async (parts: string[], enough: (text: string) => boolean): Promise<string> => {
    const socket = connect(`${home}/s`);
    await once(socket, 'connect');
    let text = '';
    const heard = new Promise<void>((resolve) =>
      socket.on('data', (data) => {
        text += data;
        if (enough(text)) resolve();
      }),
    );
    for (const part of parts) await new Promise((resolve) => socket.write(part, resolve));
    await heard;
    socket.destroy();
    return text;
  };
  const all = `${preface}more`;
  for (const parts of [[all], [...all], ['PRI * HT', 'TP/2.0\r\n\r\nSM\r\n\r\nmore']])
    assert.equal(await talk(parts, (text) => text.length >= all.length), all);
  const request = 'GET /x HTTP/1.1\r\nHost: x\r\n\r\n';
  for (const parts of [[request], [...request]])
    assert.match(await talk(parts, (text) => text.includes('}')), /^HTTP\/1.1 200 OK\r\n[^]*\{"ok":true\}/);
  assert.match(await talk(['PRI * X\r\n\r\n'], (text) => text.includes('\r\n\r\n')), /^HTTP\/1.1 400 /);
});
