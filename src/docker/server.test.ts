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
