import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TestApi } from './fixture.ts';
import { createTestApi, podBody, pods } from './fixture.ts';

const withApi = (run: (t: TestApi) => Promise<void>) => async (): Promise<void> => {
  await using t = await createTestApi();
  await run(t);
};

describe('delete', () => {
  it(
    'waits for a running Pod as long as its grace period says',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { spec: { nodeName: 'n1' } }));
      const marked = await t.call('DELETE', `${pods}/a`);
      assert.deepEqual(
        [marked.body.metadata.deletionGracePeriodSeconds, marked.body.metadata.deletionTimestamp],
        [30, '2030-01-01T00:00:30Z'],
      );
      const shorter = await t.call('DELETE', `${pods}/a`, { gracePeriodSeconds: 5 });
      assert.deepEqual(
        [shorter.body.metadata.deletionGracePeriodSeconds, shorter.body.metadata.deletionTimestamp],
        [5, '2030-01-01T00:00:05Z'],
      );
      await t.call('DELETE', `${pods}/a?gracePeriodSeconds=0`);
      assert.equal((await t.call('GET', `${pods}/a`)).status, 404);
    }),
  );

  it(
    'keeps an object until its last finalizer is gone',
    withApi(async (t) => {
      await t.make(pods, podBody('a', { metadata: { finalizers: ['example.com/hold'] } }));
      assert.equal((await t.call('DELETE', `${pods}/a`)).status, 200);
      assert.notEqual((await t.call('GET', `${pods}/a`)).body.metadata.deletionTimestamp, undefined);
      const added = await t.call(
        'PATCH',
        `${pods}/a`,
        { metadata: { finalizers: ['example.com/hold', 'example.com/more'] } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.equal(added.status, 422);
      await t.call(
        'PATCH',
        `${pods}/a`,
        { metadata: { finalizers: null } },
        { headers: { 'content-type': 'application/merge-patch+json' } },
      );
      assert.equal((await t.call('GET', `${pods}/a`)).status, 404);
    }),
  );

  it(
    'takes preconditions and propagation',
    withApi(async (t) => {
      const pod = await t.make(pods, podBody('a'));
      const wrong = await t.call('DELETE', `${pods}/a`, { preconditions: { uid: 'x' } });
      assert.deepEqual(
        [wrong.status, wrong.body.message],
        [
          409,
          `Operation cannot be fulfilled on pods "a": Precondition failed: UID in precondition: x, UID in object meta: ${pod.metadata.uid}`,
        ],
      );
      const foreground = await t.call('DELETE', `${pods}/a`, { propagationPolicy: 'Foreground' });
      assert.deepEqual(foreground.body.metadata.finalizers, ['foregroundDeletion']);
    }),
  );

  it(
    'deletes what a selector matches',
    withApi(async (t) => {
      for (const name of ['a', 'b']) await t.make(pods, podBody(name));
      await t.call('DELETE', `${pods}?labelSelector=app%3Da`);
      assert.deepEqual(
        (await t.call('GET', pods)).body.items.map((p: { metadata: { name: string } }) => p.metadata.name),
        ['b'],
      );
    }),
  );

  it(
    'ends a Namespace when its finalizer is taken, and lets nothing new in meanwhile',
    withApi(async (t) => {
      await t.make('/api/v1/namespaces', { metadata: { name: 'x' } });
      assert.equal((await t.call('DELETE', '/api/v1/namespaces/x')).body.status.phase, 'Terminating');
      const refused = await t.call('POST', '/api/v1/namespaces/x/configmaps', { metadata: { name: 'c' } });
      assert.deepEqual([refused.status, refused.body.details.causes[0].reason], [403, 'NamespaceTerminating']);
      const namespace = (await t.call('GET', '/api/v1/namespaces/x')).body;
      await t.call('PUT', '/api/v1/namespaces/x/finalize', { ...namespace, spec: { finalizers: [] } });
      assert.equal((await t.call('GET', '/api/v1/namespaces/x')).status, 404);
      assert.equal((await t.call('DELETE', '/api/v1/namespaces/default')).status, 403);
    }),
  );
});

describe('a delete', () => {
  it(
    'gives up when others are always faster',
    withApi(async (t) => {
      await t.make(pods, podBody('a'));
      const { store } = t.api.server;
      let tries = 0;
      store.txn = async () => {
        tries++;
        return { succeeded: false, revision: 0, current: [] };
      };
      const answer = await t.call('DELETE', `${pods}/a`);
      assert.deepEqual([answer.status, answer.body.reason, tries < 200], [409, 'Conflict', true]);
    }),
  );
});
