/** Bootstrap tokens: who is let in, for how long, as whom. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTestApi, type TestApi } from '../fixture.ts';

const token = 'abcdef.0123456789abcdef';
const secret = (data: Record<string, string> = {}): object => ({
  metadata: { name: 'bootstrap-token-abcdef' },
  type: 'bootstrap.kubernetes.io/token',
  stringData: {
    'token-id': 'abcdef',
    'token-secret': '0123456789abcdef',
    'usage-bootstrap-authentication': 'true',
    'auth-extra-groups': 'system:bootstrappers:a,system:masters',
    ...data,
  },
});

async function whoIs(api: TestApi, bearer = token): Promise<unknown> {
  const headers = { authorization: `Bearer ${bearer}` };
  const path = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
  const answer = await api.call('POST', path, {}, { user: null, headers });
  return answer.status === 201 ? answer.body.status.userInfo : answer.status;
}

test('a token is its Secret: who shows it is a bootstrapper, and of no group but those', async () => {
  await using api = await createTestApi();
  assert.equal(await whoIs(api), 401);
  await api.make('/api/v1/namespaces/kube-system/secrets', secret());
  assert.deepEqual(await whoIs(api), {
    username: 'system:bootstrap:abcdef',
    groups: ['system:bootstrappers', 'system:bootstrappers:a', 'system:authenticated'],
  });
  assert.equal(await whoIs(api, 'abcdef.0123456789abcdee'), 401);
  assert.equal(await whoIs(api, 'abcdee.0123456789abcdef'), 401);
  await api.call('DELETE', '/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef');
  assert.equal(await whoIs(api), 401);
});

test('a token ends at its expiration, and one that is not for this or has no readable end is none', async () => {
  await using api = await createTestApi();
  const at = (ms: number): string => new Date(api.clock.now() + ms).toISOString();
  const path = '/api/v1/namespaces/kube-system/secrets';
  await api.make(path, secret({ expiration: at(60_000) }));
  assert.notEqual(await whoIs(api), 401);
  api.clock.advance(60_000);
  assert.equal(await whoIs(api), 401);
  const wrong: Record<string, string>[] = [
    { expiration: 'soon' },
    { 'usage-bootstrap-authentication': 'false' },
    { 'token-id': 'other1' },
  ];
  for (const data of wrong) {
    await api.call('DELETE', `${path}/bootstrap-token-abcdef`);
    await api.make(path, secret(data));
    assert.equal(await whoIs(api), 401, JSON.stringify(data));
  }
});
