import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigMap } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { isReason } from '#base/errors.ts';
import { awaitedLater } from '#base/promises.ts';
import { kinds } from '#base/kinds.ts';
import { Cluster } from './cluster.ts';

const configMap = (name: string): Manifest<ConfigMap> => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, namespace: 'default' },
});

/** Lets time pass until the promise is settled. */
async function during<T>(cluster: Cluster, work: Promise<T>): Promise<T> {
  let done = false;
  const watched = work.finally(() => {
    done = true;
  });
  void awaitedLater(watched);
  while (!done) await cluster.advance(1);
  return watched;
}

const namesOf = async (cluster: Cluster): Promise<string[]> =>
  (await cluster.client.list(kinds.ConfigMap, { namespace: 'default' })).items
    .map(({ metadata }) => metadata.name)
    .filter((name) => name !== 'kube-root-ca.crt');

test('what was acknowledged outlives a power loss; what was under way is there or not, and its client knows that it does not know', async () => {
  for (let seed = 1; seed <= 10; seed++) {
    await using cluster = new Cluster({ seed, disk: true });
    await cluster.ready();
    await during(cluster, cluster.client.create(kinds.ConfigMap, configMap('kept')));
    const open = cluster.client.create(kinds.ConfigMap, configMap('open'));
    const outcome = open.then(
      () => 'done',
      (error: unknown) => (isReason(error, 'ServiceUnavailable') ? 'unknown' : String(error)),
    );
    await cluster.losePower('3s');
    assert.equal(await outcome, 'unknown');
    await assert.rejects(cluster.client.get(kinds.ConfigMap, 'kept', 'default'), (error) =>
      isReason(error, 'ServiceUnavailable'),
    );
    await cluster.advance('10s');
    const names = await namesOf(cluster);
    assert.ok(names.includes('kept'), `seed ${seed}`);
    assert.deepEqual(
      names.filter((name) => name !== 'open'),
      ['kept'],
    );
    await during(cluster, cluster.client.create(kinds.ConfigMap, configMap('after')));
    assert.ok((await namesOf(cluster)).includes('after'));
  }
});

test('a disk that says "synced" too early loses acknowledged writes: the loss is real', async () => {
  await using cluster = new Cluster({ disk: true });
  await cluster.ready();
  cluster.disk!.lies = true;
  await during(cluster, cluster.client.create(kinds.ConfigMap, configMap('lost')));
  await cluster.losePower('1s');
  await cluster.advance('5s');
  assert.deepEqual(await namesOf(cluster), []);
});

test('a full store refuses writes, keeps what it has and takes writes again when there is room', async () => {
  await using cluster = new Cluster({ disk: true });
  await cluster.ready();
  await during(cluster, cluster.client.create(kinds.ConfigMap, configMap('kept')));
  cluster.disk!.isFull = true;
  await assert.rejects(
    during(cluster, cluster.client.create(kinds.ConfigMap, configMap('refused'))),
    /the store could not write: database or disk is full/,
  );
  assert.deepEqual(await namesOf(cluster), ['kept']);
  cluster.disk!.isFull = false;
  await during(cluster, cluster.client.create(kinds.ConfigMap, configMap('taken')));
  assert.deepEqual((await namesOf(cluster)).sort(), ['kept', 'taken']);
});
