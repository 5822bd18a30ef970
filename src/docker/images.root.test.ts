/** Which images stay, which go, and which one a text means. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileGlob } from './image-filters.ts';
import { makeSite, makeStore, root } from './testing.ts';

test('what a Pod leases is neither removed nor pruned, by whatever force', async (t) => {
  const store = await makeStore(t);
  const record = await store.images.import(root('eight'), { name: 'pod-image' });
  await store.images.lease('kubelet', record.id, 'pod/1');
  await assert.rejects(store.images.remove('pod-image', { force: true, owner: 'docker' }), /cannot be forced/);
  await assert.rejects(store.images.remove(record.id, { force: true, owner: 'docker' }), /cannot be forced/);
  assert.deepEqual((await store.images.prune({ all: true, labels: () => true })).deleted, []);
  await store.images.releaseLease('kubelet', 'pod/1');
  assert.equal((await store.images.prune({ all: true, labels: () => true })).deleted.length, 2);
});

test('leases are given up by who holds them, of every owner', async (t) => {
  const store = await makeStore(t);
  const record = await store.images.import(root('leases'), { name: 'leased' });
  const leases = (): string[] => store.records.leasesOf(record.id).map(({ owner, holder }) => `${owner} ${holder}`);
  await store.images.lease('docker', record.id, 'container/a', { sync: false });
  await store.images.lease('kubelet', record.id, 'container/b');
  await store.images.lease('kubelet', record.id, 'pod/c');
  await store.images.releaseLeases((holder) => holder.startsWith('container/') && holder !== 'container/a');
  assert.deepEqual(leases(), ['docker container/a', 'kubelet pod/c']);
  await store.images.releaseLease('docker', 'container/a', { sync: false });
  assert.deepEqual(leases(), ['kubelet pod/c']);
});

test('the kubelet may collect what it alone brought, and nothing that a Pod leases or a user named', async (t) => {
  const site = await makeSite(t);
  for (const name of ['only', 'leased', 'named', 'wanted']) await site.images.import(root(`collect ${name}`), { name });
  const node = await makeStore(t, {
    platformRegistry: site.platform,
  });
  const own = await node.images.import(root('collect own'), { name: 'own' });
  const ids = new Map<string, string>();
  for (const name of ['only', 'leased', 'named', 'wanted'])
    ids.set(name, (await node.images.pull(name, { owner: 'kubelet' })).id);
  await node.images.lease('kubelet', ids.get('leased')!, 'pod/c');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/a');
  await node.images.lease('kubelet', ids.get('only')!, 'gone/b');
  await node.images.tag('named', 'mine:1');
  await node.images.pull('wanted');
  const collectable = (): string[] =>
    node.images
      .list()
      .filter((image) => image.isCollectable)
      .map((image) => image.id);
  assert.deepEqual(collectable(), []);
  await node.images.releaseLease('kubelet', 'gone');
  assert.deepEqual(collectable(), [ids.get('only')]);
  await node.images.remove(ids.get('only')!, { owner: 'kubelet' });
  assert.deepEqual(
    node.images
      .list()
      .map((image) => image.id)
      .toSorted(),
    [own.id, ...['leased', 'named', 'wanted'].map((name) => ids.get(name)!)].toSorted(),
  );
});

test('a letter is a name where a name is meant, and the beginning of an id where docker takes one', async (t) => {
  const store = await makeStore(t);
  const record = await store.images.import(root('prefix'), { name: 'named' });
  const letter = record.id.slice(7, 8);
  assert.equal(store.images.find(letter)?.id, record.id);
  assert.deepEqual(
    [
      store.images.find(letter, { isWhole: true }),
      store.images.find(record.id.slice(7), { isWhole: true })?.id,
      store.images.find('named', { isWhole: true })?.id,
    ],
    [undefined, record.id, record.id],
  );
});

test('a repository is saved with all its tags; no tag looks like a digest', async (t) => {
  const store = await makeStore(t);
  for (const name of ['repo:a', 'repo:b', 'other:c']) await store.images.import(root(name), { name });
  const parts: Uint8Array[] = [];
  for await (const part of await store.images.save(['repo'])) parts.push(part);
  const text = Buffer.concat(parts).toString('latin1');
  assert.match(text, /"RepoTags":\["repo:a"\].*"RepoTags":\["repo:b"\]/s);
  assert.doesNotMatch(text, /other:c/);
  await assert.rejects(store.images.tag('repo:a', 'sha256:b'), /ambiguous tag using digest algorithm as name/);
});

test('a pattern of references is of the familiar name or of the whole one', () => {
  for (const pattern of ['repo', 'repo:*', 'docker.io/library/repo', 'docker.io/library/repo:*', 'docker.io/*/repo'])
    assert.equal(compileGlob(pattern)('repo:a'), true, pattern);
  for (const pattern of ['rep', 'library/repo', 'docker.io/repo']) assert.equal(compileGlob(pattern)('repo:a'), false);
});
