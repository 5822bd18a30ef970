/** Whose Pods a Job's are: by its selector, also when somebody changes them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds } from './testing.ts';

test('a Job takes a Pod back that it lost, lets one go that is no longer its own, and makes another', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  await cluster.apply({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'work' },
    spec: {
      parallelism: 2,
      completions: 2,
      template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'app:1' }] } },
    },
  });
  const job = await cluster.client.get(kinds.Job, 'work', 'default');
  const pods = async () => (await cluster.client.list(kinds.Pod, { namespace: 'default' })).items;
  const owned = async (): Promise<string[]> =>
    (await pods())
      .filter(({ metadata }) => metadata.ownerReferences?.some(({ uid }) => uid === job.metadata.uid) === true)
      .map(({ metadata }) => metadata.name)
      .sort();
  await cluster.runUntil(async () => (await pods()).filter(({ status }) => status?.phase === 'Running').length === 2);
  const before = await owned();
  const [name = ''] = before;
  const ref = { name, namespace: 'default' };
  await cluster.client.patch(kinds.Pod, ref, { merge: { metadata: { ownerReferences: null } } });
  await cluster.runUntil(async () => (await owned()).includes(name));
  assert.deepEqual(await owned(), before);
  await cluster.client.patch(kinds.Pod, ref, { merge: { metadata: { labels: null } } });
  await cluster.runUntil(async () => (await owned()).length === 2 && !(await owned()).includes(name));
  const left = await cluster.client.get(kinds.Pod, name, 'default');
  assert.equal(left.metadata.deletionTimestamp, undefined);
  assert.equal(left.metadata.finalizers, undefined);
});
