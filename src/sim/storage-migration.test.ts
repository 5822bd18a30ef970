import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StorageVersionMigration } from '#api/storagemigration.v1.ts';
import { createCluster, kindOf, kinds } from './testing.ts';

const gadgets = kindOf('example.com/v1', 'gadgets', 'Gadget');
const version = (name: string, storage: boolean): object => ({
  name,
  served: true,
  storage,
  schema: { openAPIV3Schema: { type: 'object', properties: { size: { type: 'integer' } } } },
});
const definition = (stored: string): object => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'gadgets.example.com' },
  spec: {
    group: 'example.com',
    scope: 'Namespaced',
    names: { plural: 'gadgets', singular: 'gadget', kind: 'Gadget', listKind: 'GadgetList' },
    versions: [version('v1', stored === 'v1'), version('v2', stored === 'v2')],
  },
});
const migration = (name: string, group: string, resource: string): object => ({
  apiVersion: 'storagemigration.k8s.io/v1',
  kind: 'StorageVersionMigration',
  metadata: { name },
  spec: { resource: { group, resource } },
});

test('a storage migration writes again what was stored in another version, once', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const { client } = cluster;
  const get = (name: string): Promise<StorageVersionMigration> => client.get(kinds.StorageVersionMigration, name);
  const isTrue = async (name: string, type: string): Promise<boolean> =>
    ((await get(name)).status?.conditions ?? []).some((each) => each.type === type && each.status === 'True');
  const revisionOf = async (name: string): Promise<string | undefined> =>
    (await client.get(gadgets, name, 'default')).metadata.resourceVersion;
  await cluster.apply(JSON.stringify(definition('v1')));
  await cluster.runUntil(async () => {
    const { status } = await client.get(kinds.CustomResourceDefinition, 'gadgets.example.com');
    return (status?.conditions ?? []).some(({ type, status: is }) => type === 'Established' && is === 'True');
  });
  for (const name of ['a', 'b'])
    await client.create(gadgets, {
      apiVersion: 'example.com/v1',
      kind: 'Gadget',
      metadata: { name, namespace: 'default' },
    });
  const before = await revisionOf('a');
  await cluster.apply(JSON.stringify(migration('nothing', 'example.com', 'gadgets')));
  await cluster.runUntil(() => isTrue('nothing', 'Succeeded'));
  assert.equal(await revisionOf('a'), before, 'it is stored as it should be');
  await cluster.apply(JSON.stringify(definition('v2')));
  await cluster.advance('2s');
  await cluster.apply(JSON.stringify(migration('all', 'example.com', 'gadgets')));
  await cluster.runUntil(() => isTrue('all', 'Succeeded'));
  assert.notEqual(await revisionOf('a'), before);
  const after = await revisionOf('b');
  await cluster.apply(JSON.stringify(migration('again', 'example.com', 'gadgets')));
  await cluster.runUntil(() => isTrue('again', 'Succeeded'));
  assert.equal(await revisionOf('b'), after);
  await assert.rejects(
    client.update(kinds.StorageVersionMigration, {
      ...(await get('all')),
      spec: { resource: { group: '', resource: 'pods' } },
    }),
    /spec: Invalid value: .*: field is immutable/,
  );
});

test('a storage migration of a resource that never comes fails after a minute', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  await cluster.apply(JSON.stringify(migration('lost', 'example.com', 'lost')));
  await cluster.advance('70s');
  const { status } = await cluster.client.get(kinds.StorageVersionMigration, 'lost');
  assert.deepEqual(
    (status?.conditions ?? []).map(({ type, status: is }) => [type, is]),
    [
      ['Running', 'False'],
      ['Failed', 'True'],
    ],
  );
});
