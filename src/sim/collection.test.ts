/**
 * The garbage collector behind a network that hides or delays things from it: it takes nothing early and leaves nothing
 * behind.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '#base/errors.ts';
import type { WatchEvent } from '#base/objects.ts';
import { createCluster, kinds } from './testing.ts';

test('what an owner left behind goes once its kind can be looked for', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const {
    client,
    networks: { controllers },
  } = cluster;
  const send = controllers.send.bind(controllers);
  let isHidden = true;
  controllers.send = (request) =>
    isHidden && request.path === '/apis/apps/v1'
      ? Promise.reject(new ApiError('ServiceUnavailable', 'not now'))
      : send(request);
  await cluster.restartControllers();
  const ownerReferences = [{ apiVersion: 'apps/v1', kind: 'Deployment', name: 'gone', uid: 'gone' }];
  await client.create(kinds.ConfigMap, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'left', namespace: 'default', ownerReferences },
  });
  const names = async (): Promise<string[]> =>
    (await client.list(kinds.ConfigMap, { namespace: 'default' })).items.map(({ metadata }) => metadata.name);
  await cluster.advance('1m');
  assert.ok((await names()).includes('left'), 'nobody knows whether the owner is there');
  isHidden = false;
  await cluster.advance('1m');
  assert.ok(!(await names()).includes('left'));
});

test('an owner that was to go in the foreground and is told to orphan keeps its dependents, though the collector has not heard of it', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const {
    client,
    networks: { controllers },
  } = cluster;
  const [send, watch] = [controllers.send.bind(controllers), controllers.watch.bind(controllers)];
  let mayDelete = false;
  controllers.send = (request) =>
    !mayDelete && request.method === 'DELETE'
      ? Promise.reject(new ApiError('ServiceUnavailable', 'not now'))
      : send(request);
  controllers.watch = (request) => {
    const events = watch(request)[Symbol.asyncIterator]();
    const next = async (): Promise<IteratorResult<WatchEvent[]>> => {
      const result = await events.next();
      if (
        result.done !== true &&
        result.value.some(({ object }) => object.metadata.finalizers?.includes('orphan') === true)
      )
        await cluster.clock.sleep(120_000);
      return result;
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: () => events.return!() }) };
  };
  controllers.breakWatches();
  await cluster.advance('1m');
  await client.create(kinds.Deployment, {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'default' },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'c', image: 'app:1' }] } },
    },
  });
  await cluster.advance('5s');
  await client.delete(kinds.Deployment, 'web', 'default', { propagationPolicy: 'Foreground' });
  await cluster.advance('5s');
  await client.delete(kinds.Deployment, 'web', 'default', { propagationPolicy: 'Orphan' });
  mayDelete = true;
  await cluster.advance('5m');
  const { items } = await client.list(kinds.ReplicaSet, { namespace: 'default' });
  assert.deepEqual(
    items.map(({ metadata: { deletionTimestamp, ownerReferences = [] } }) => [
      deletionTimestamp,
      ownerReferences.length,
    ]),
    [[undefined, 0]],
  );
  assert.equal((await client.list(kinds.Deployment, { namespace: 'default' })).items.length, 0);
});

test('owners in a circle do not wait for each other for ever', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const { client } = cluster;
  const names = ['a', 'b', 'c'];
  const uids = new Map<string, string>();
  for (const name of names) {
    const made = await client.create(kinds.ConfigMap, {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, namespace: 'default' },
    });
    uids.set(name, made.metadata.uid);
  }
  for (const [at, name] of names.entries()) {
    const owner = names[(at + 2) % 3] ?? '';
    const reference = { apiVersion: 'v1', kind: 'ConfigMap', name: owner, uid: uids.get(owner) ?? '' };
    await client.patch(
      kinds.ConfigMap,
      { name, namespace: 'default' },
      { merge: { metadata: { ownerReferences: [{ ...reference, controller: true, blockOwnerDeletion: true }] } } },
    );
  }
  await cluster.advance('5s');
  await client.delete(kinds.ConfigMap, 'a', 'default', { propagationPolicy: 'Foreground' });
  await cluster.advance('1m');
  const left = (await client.list(kinds.ConfigMap, { namespace: 'default' })).items.map(
    ({ metadata }) => metadata.name,
  );
  assert.deepEqual(
    left.filter((name) => names.includes(name)),
    [],
  );
});
