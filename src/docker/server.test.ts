import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { silentLogger } from '#observe/log.ts';
import type { Route, RouteContext } from './route.ts';
import { createDockerServer } from './server.ts';

async function open(t: TestContext, routes: Route[]): Promise<string> {
  const home = mkdtempSync('/tmp/tiphys-docker-');
  const server = await createDockerServer({
    listen: [{ type: 'unix', path: `${home}/s` }],
    routes,
    log: silentLogger,
    serverVersion: '0',
  });
  t.after(async () => {
    await server.close();
    rmSync(home, { recursive: true, force: true });
  });
  return `${home}/s`;
}

test('requests of one connection leave nothing that listens to it', async (t) => {
  const counts: number[] = [];
  const sockets = new Set<unknown>();
  const handle = async (context: RouteContext): Promise<unknown> => {
    sockets.add(context.request.socket);
    counts.push(context.request.socket.listenerCount('close') + context.request.socket.listenerCount('error'));
    return {};
  };
  const socketPath = await open(t, [{ method: 'GET', path: '/x', handle }]);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  for (let at = 0; at < 20; at++) {
    await new Promise<void>((resolve, reject) => {
      request({ socketPath, path: '/x', agent }, (answer) => {
        answer.resume();
        answer.on('end', resolve);
      })
        .on('error', reject)
        .end();
    });
  }
  assert.equal(sockets.size, 1);
  assert.equal(Math.max(...counts), counts[0], counts.join(' '));
});

test('whoever leaves before the answer ends what is done for it', async (t) => {
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const handle = async (context: RouteContext): Promise<unknown> => {
    context.signal.addEventListener('abort', () => ended.resolve());
    begun.resolve();
    await ended.promise;
    return {};
  };
  const socketPath = await open(t, [{ method: 'GET', path: '/x', handle }]);
  const asked = request({ socketPath, path: '/x' });
  asked.on('error', () => undefined);
  asked.end();
  await begun.promise;
  asked.destroy();
  await ended.promise;
});

test('bodies are checked as dockerd checks them', async (t) => {
  const socketPath = await open(t, [{ method: 'POST', path: '/x', handle: (context) => context.json() }]);
  const post = (body: string | undefined, headers: Record<string, string>): Promise<string> =>
    new Promise((resolve, reject) => {
      const call = request({ socketPath, path: '/x', method: 'POST', headers }, (answer) => {
        let text = '';
        answer.on('data', (part: Buffer) => {
          text += part.toString();
        });
        answer.on('end', () => resolve(`${answer.statusCode} ${text.trim()}`));
      });
      call.on('error', reject);
      call.end(body);
    });
  const json = { 'content-type': 'application/json' };
  const length = { 'content-length': '0' };
  const cases: [string | undefined, Record<string, string>, RegExp][] = [
    ['{"a":1}', { 'content-type': 'application/json; charset=utf-8' }, /^200 {"a":1}$/],
    [undefined, length, /^200 {}$/],
    [undefined, { ...json, ...length }, /^200 {}$/],
    ['{}', {}, /^400 .*malformed Content-Type header \(\): mime: no media type/],
    ['{}', { 'content-type': 'text/plain' }, /^400 .*unsupported Content-Type header \(text\/plain\): must be/],
    [undefined, { 'content-type': 'text/plain', ...length }, /^400 .*unsupported Content-Type header/],
    [' \n', json, /^400 .*invalid JSON: got EOF while reading request body/],
    ['{"a":', json, /^400 .*invalid JSON: unexpected EOF/],
    ['{} {}', json, /^400 {"message":"unexpected content after JSON"}/],
    ['[]', json, /^400 .*cannot unmarshal array/],
    ['null', json, /^400 /],
  ];
  for (const [body, headers, expected] of cases)
    assert.match(await post(body, headers), expected, JSON.stringify(body));
});
