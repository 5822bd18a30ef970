import { test } from 'node:test';
import assert from 'node:assert/strict';
import { messageOf } from '#base/thrown.ts';
import { absentRoutes } from './absent.ts';
import { compileRoutes, matchRoute } from './match.ts';
import type { RouteContext } from './route.ts';

const routes = compileRoutes(absentRoutes());

async function answer(method: string, path: string): Promise<unknown> {
  const found = matchRoute(routes, method, path);
  assert.ok(found !== undefined, path);
  try {
    return await found.route.handle({ params: found.params, query: new URLSearchParams() } as unknown as RouteContext);
  } catch (error) {
    return [(error as { code: number }).code, messageOf(error)];
  }
}

test('without a swarm its commands are answered as dockerd does, and beginning one is refused in words', async () => {
  for (const path of ['/services', '/nodes', '/tasks', '/secrets/x', '/swarm'])
    assert.match(String(await answer('GET', path)), /^503,This node is not a swarm manager/);
  assert.deepEqual(await answer('POST', '/swarm/init'), [501, 'swarm mode is not supported by this engine']);
  assert.deepEqual(await answer('POST', '/swarm/leave'), [503, 'This node is not part of a swarm']);
});
