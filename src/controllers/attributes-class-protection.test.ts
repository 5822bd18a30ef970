/** In a whole cluster in virtual time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { createCluster } from '#sim/cluster.ts';

test('a VolumeAttributesClass stays while a claim names it, and then goes', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  await cluster.ready();
  const { client } = cluster;
  for (const name of ['used', 'unused'])
    await client.create(kinds.VolumeAttributesClass, {
      apiVersion: 'storage.k8s.io/v1',
      kind: 'VolumeAttributesClass',
      metadata: { name },
      driverName: 'csi.example.com',
      parameters: { speed: '1' },
    });
  await client.create(kinds.PersistentVolumeClaim, {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'c', namespace: 'default' },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Gi' } },
      volumeAttributesClassName: 'used',
    },
  });
  const isGone = (name: string) => (): Promise<boolean> =>
    client.get(kinds.VolumeAttributesClass, name).then(
      () => false,
      (error: unknown) => isReason(error, 'NotFound'),
    );
  for (const name of ['used', 'unused']) await client.delete(kinds.VolumeAttributesClass, name);
  await cluster.runUntil(isGone('unused'));
  assert.equal(await isGone('used')(), false);
  await client.delete(kinds.PersistentVolumeClaim, 'c', 'default');
  await cluster.runUntil(isGone('used'));
});
