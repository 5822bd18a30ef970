/** What the platform serves beside the API is for one group alone. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestApi } from './fixture.ts';

test('a path of the platform is for its group, and for no administrator, impersonator or stranger', async () => {
  const bodies: unknown[] = [];
  const serve = async (body: unknown): Promise<object> => {
    bodies.push(body);
    return { secret: 1 };
  };
  await using t = await createTestApi({ platformPaths: new Map([['/tiphys/x', { group: 'joiners', serve }]]) });
  const joiner = { name: 'system:bootstrap:abcdef', groups: ['joiners', 'system:authenticated'] };
  const admin = { name: 'admin', groups: ['system:masters', 'system:authenticated'] };
  const ask = async (user: typeof admin | null, method = 'POST', headers = {}, body: unknown = { a: 1 }) => {
    const { status, text } = await t.call(method, '/tiphys/x', method === 'GET' ? undefined : body, { user, headers });
    assert.equal(text.includes('secret'), status === 200, text);
    return status;
  };
  assert.equal(await ask(joiner), 200);
  assert.deepEqual(bodies, [{ a: 1 }]);
  assert.equal(await ask(admin), 403);
  assert.equal(await ask(admin, 'POST', { 'impersonate-user': 'x', 'impersonate-group': 'joiners' }), 403);
  assert.equal(await ask(null), 403);
  assert.equal(await ask(joiner, 'GET'), 405);
  assert.equal(await ask(joiner, 'POST', {}, '{'), 400);
  assert.equal(bodies.length, 1);
});
