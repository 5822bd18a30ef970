import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { UserInfo } from '#base/api-request.ts';
import { createTestApi, podBody, pods } from './fixture.ts';
import type { TestApi } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};
const jane: UserInfo = { name: 'jane', groups: ['system:authenticated'] };
const rbac = '/apis/rbac.authorization.k8s.io/v1';
const role = (name: string, rules: unknown[]) => ({ metadata: { name }, rules });
const binding = (name: string, roleName: string, kind = 'Role', subject: unknown = { kind: 'User', name: 'jane' }) => ({
  metadata: { name },
  roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind, name: roleName },
  subjects: [subject],
});

describe('authorisation', () => {
  it(
    'allows what roles grant and words what it forbids',
    withApi(async (t) => {
      const refused = await t.call('GET', pods, undefined, { user: jane });
      assert.deepEqual(
        [refused.status, refused.body.message],
        [403, 'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default"'],
      );
      await t.make(
        `${rbac}/namespaces/default/roles`,
        role('reader', [{ verbs: ['list', 'get'], apiGroups: [''], resources: ['pods'] }]),
      );
      await t.make(`${rbac}/namespaces/default/rolebindings`, binding('r', 'reader'));
      assert.equal((await t.call('GET', pods, undefined, { user: jane })).status, 200);
      assert.equal((await t.call('GET', '/api/v1/pods', undefined, { user: jane })).status, 403);
      assert.equal((await t.call('DELETE', `${pods}/a`, undefined, { user: jane })).status, 403);
      await t.call('DELETE', `${rbac}/namespaces/default/rolebindings/r`);
      assert.equal((await t.call('GET', pods, undefined, { user: jane })).status, 403);
    }),
  );

  it(
    'lets nobody grant what they do not have',
    withApi(async (t) => {
      await t.make(
        `${rbac}/namespaces/default/roles`,
        role(
          'roles',
          [
            {
              verbs: ['*'],
              apiGroups: ['rbac.authorization.k8s.io'],
              resources: ['roles', 'rolebindings'],
              resourceNames: [],
            },
            { verbs: ['get'], apiGroups: [''], resources: ['pods'] },
          ].map((r, i) => (i === 0 ? { ...r, verbs: ['create', 'update', 'get'] } : r)),
        ),
      );
      await t.make(`${rbac}/namespaces/default/rolebindings`, binding('r', 'roles'));
      const more = await t.call(
        'POST',
        `${rbac}/namespaces/default/roles`,
        role('more', [{ verbs: ['delete'], apiGroups: [''], resources: ['pods'] }]),
        { user: jane },
      );
      assert.deepEqual(
        [
          more.status,
          /attempting to grant RBAC permissions not currently held:\n{APIGroups:\[""\], Resources:\["pods"\], Verbs:\["delete"\]}/.test(
            more.body.message,
          ),
        ],
        [403, true],
      );
      assert.equal(
        (
          await t.call(
            'POST',
            `${rbac}/namespaces/default/roles`,
            role('same', [{ verbs: ['get'], apiGroups: [''], resources: ['pods'] }]),
            { user: jane },
          )
        ).status,
        201,
      );
      assert.equal(
        (
          await t.call(
            'POST',
            `${rbac}/namespaces/default/rolebindings`,
            binding('up', 'cluster-admin', 'ClusterRole'),
            { user: jane },
          )
        ).status,
        403,
      );
    }),
  );

  it(
    'gives a kubelet its own node and what its Pods use, nothing else',
    withApi(async (t) => {
      const kubelet: UserInfo = { name: 'system:node:n1', groups: ['system:nodes', 'system:authenticated'] };
      await t.make('/api/v1/nodes', { metadata: { name: 'n1' } });
      await t.make('/api/v1/nodes', { metadata: { name: 'n2' } });
      for (const name of ['mine', 'other']) await t.make('/api/v1/namespaces/default/secrets', { metadata: { name } });
      await t.make(
        pods,
        podBody('a', { spec: { nodeName: 'n1', volumes: [{ name: 's', secret: { secretName: 'mine' } }] } }),
      );
      const as = { user: kubelet };
      assert.equal((await t.call('GET', '/api/v1/namespaces/default/secrets/mine', undefined, as)).status, 200);
      assert.equal((await t.call('GET', '/api/v1/namespaces/default/secrets/other', undefined, as)).status, 403);
      assert.equal((await t.call('GET', '/api/v1/namespaces/default/secrets', undefined, as)).status, 403);
      const node = (await t.call('GET', '/api/v1/nodes/n2', undefined, as)).body;
      assert.equal((await t.call('PUT', '/api/v1/nodes/n2/status', node, as)).status, 403);
      assert.equal(
        (
          await t.call(
            'PATCH',
            '/api/v1/nodes/n1/status',
            { status: { phase: 'Running' } },
            { ...as, headers: { 'content-type': 'application/merge-patch+json' } },
          )
        ).status,
        200,
      );
      assert.equal(
        (
          await t.call(
            'POST',
            '/api/v1/namespaces/default/serviceaccounts/default/token',
            { spec: { boundObjectRef: { kind: 'Pod', name: 'a' } } },
            as,
          )
        ).status,
        201,
      );
      assert.equal(
        (await t.call('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', { spec: {} }, as)).status,
        403,
      );
    }),
  );

  it(
    'answers access reviews',
    withApi(async (t) => {
      const review = await t.call('POST', '/apis/authorization.k8s.io/v1/subjectaccessreviews', {
        spec: { user: 'jane', resourceAttributes: { verb: 'get', resource: 'pods', namespace: 'default' } },
      });
      assert.equal(review.body.status.allowed, false);
      assert.equal(
        (
          await t.call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
            spec: { resourceAttributes: { verb: 'get', resource: 'pods' } },
          })
        ).body.status.allowed,
        true,
      );
      assert.equal(
        (await t.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, { user: jane })).body.status
          .userInfo.username,
        'jane',
      );
    }),
  );

  it(
    'impersonates for those who may',
    withApi(async (t) => {
      const headers = { 'impersonate-user': 'jane' };
      assert.equal((await t.call('GET', pods, undefined, { headers })).status, 403);
      assert.match(
        (await t.call('GET', pods, undefined, { headers, user: jane })).body.message,
        /cannot impersonate resource "users"/,
      );
    }),
  );

  it(
    'checks each part of an impersonation',
    withApi(async (t) => {
      const allow = async (name: string, rules: unknown[]): Promise<void> => {
        await t.make(`${rbac}/clusterroles`, role(name, rules));
        await t.make(`${rbac}/clusterrolebindings`, binding(name, name, 'ClusterRole'));
      };
      const who = async (headers: Record<string, string>) =>
        t.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, { headers, user: jane });
      const all = {
        'impersonate-user': 'joe',
        'impersonate-group': 'dev\nops,1',
        'impersonate-uid': 'u-1',
        'impersonate-extra-example.com%2fscopes': 'view\nedit',
        'impersonate-extra-reason': 'x',
      };
      const expectForbidden = async (resource: string): Promise<void> => {
        const answer = await who(all);
        assert.deepEqual(
          [answer.status, answer.body.message.includes(`cannot impersonate resource "${resource}"`)],
          [403, true],
          answer.text,
        );
      };
      await expectForbidden('users');
      await allow('users', [{ verbs: ['impersonate'], apiGroups: [''], resources: ['users'] }]);
      await expectForbidden('groups');
      await allow('groups', [
        { verbs: ['impersonate'], apiGroups: [''], resources: ['groups'], resourceNames: ['dev', 'ops,1'] },
      ]);
      await expectForbidden('userextras/example.com/scopes');
      await allow('some', [
        {
          verbs: ['impersonate'],
          apiGroups: ['authentication.k8s.io'],
          resources: ['userextras/example.com/scopes'],
          resourceNames: ['view'],
        },
      ]);
      await expectForbidden('userextras/example.com/scopes');
      await allow('extras', [
        {
          verbs: ['impersonate'],
          apiGroups: ['authentication.k8s.io'],
          resources: ['userextras/example.com/scopes', 'userextras/reason'],
        },
      ]);
      await expectForbidden('uids');
      await allow('uids', [
        { verbs: ['impersonate'], apiGroups: ['authentication.k8s.io'], resources: ['uids'], resourceNames: ['u-1'] },
      ]);
      const joe = (await who(all)).body.status.userInfo;
      assert.deepEqual(joe, {
        username: 'joe',
        uid: 'u-1',
        groups: ['dev', 'ops,1', 'system:authenticated'],
        extra: { 'example.com/scopes': ['view', 'edit'], reason: ['x'] },
      });
      for (const part of ['impersonate-group', 'impersonate-uid', 'impersonate-extra-x'])
        assert.match((await who({ [part]: 'a' })).body.message, /without impersonating a user/);
    }),
  );
});

describe('authentication', () => {
  const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` }, user: null });
  const ask = (t: TestApi, body: unknown) =>
    t.call('POST', '/api/v1/namespaces/default/serviceaccounts/default/token', body);

  it(
    'knows a ServiceAccount by its token until it expires',
    withApi(async (t) => {
      const { token, expirationTimestamp } = (await ask(t, { spec: { expirationSeconds: 600 } })).body.status;
      assert.equal(expirationTimestamp, '2030-01-01T00:10:00Z');
      const who = await t.call('POST', '/apis/authentication.k8s.io/v1/selfsubjectreviews', {}, bearer(token));
      assert.deepEqual(
        [who.body.status.userInfo.username, who.body.status.userInfo.groups],
        [
          'system:serviceaccount:default:default',
          ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
        ],
      );
      t.clock.advance(600_000);
      assert.equal((await t.call('GET', pods, undefined, bearer(token))).status, 401);
    }),
  );

  it(
    'refuses a token whose Pod or account is gone, of another audience, or forged',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      const bound = (await ask(t, { spec: { boundObjectRef: { kind: 'Pod', name: 'a', apiVersion: 'v1' } } })).body
        .status.token as string;
      assert.equal((await t.call('GET', '/api', undefined, bearer(bound))).status, 200);
      await t.call('DELETE', `${pods}/a`);
      assert.equal((await t.call('GET', '/api', undefined, bearer(bound))).status, 401);
      const other = (await ask(t, { spec: { audiences: ['vault'] } })).body.status.token as string;
      assert.equal((await t.call('GET', '/api', undefined, bearer(other))).status, 401);
      const review = await t.call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', {
        spec: { token: other, audiences: ['vault'] },
      });
      assert.deepEqual([review.body.status.authenticated, review.body.status.audiences], [true, ['vault']]);
      const good = (await ask(t, { spec: {} })).body.status.token as string;
      const [head, , signature] = good.split('.');
      const forged = `${head}.${Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(good.split('.')[1]!, 'base64url').toString()), sub: 'system:admin' })).toString('base64url')}.${signature}`;
      assert.equal((await t.call('GET', '/api', undefined, bearer(forged))).status, 401);
      await t.call('DELETE', '/api/v1/namespaces/default/serviceaccounts/default');
      assert.equal((await t.call('GET', '/api', undefined, bearer(good))).status, 401);
    }),
  );

  it(
    'lets nobody in without credentials but to health and version',
    withApi(async (t) => {
      assert.equal((await t.call('GET', '/healthz', undefined, { user: null })).text, 'ok');
      assert.equal((await t.call('GET', '/version', undefined, { user: null })).body.gitVersion, 'v1.37.2');
      assert.equal((await t.call('GET', pods, undefined, { user: null })).status, 403);
      assert.equal((await t.call('GET', '/metrics', undefined, { user: null })).status, 403);
    }),
  );
});
