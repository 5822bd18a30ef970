import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createCluster, kinds, parseManifest } from './testing.ts';

test('manifests are read as kubectl reads them: modes are octal, yes is a truth, lists are taken apart', async () => {
  await using cluster = await createCluster({ nodes: 0 });
  const applied = await cluster.apply(`
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: settings}
  immutable: yes
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: default}
spec:
  containers: [{name: c, image: i}]
  volumes: [{name: settings, configMap: {name: settings, defaultMode: 0640}}]
`);
  assert.deepEqual(
    applied.map(({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`),
    ['ConfigMap default/settings', 'Pod default/web'],
  );
  assert.equal((await cluster.client.get(kinds.ConfigMap, 'settings', 'default')).immutable, true);
  const pod = await cluster.client.get(kinds.Pod, 'web', 'default');
  assert.equal(pod.spec.volumes?.find(({ name }) => name === 'settings')?.configMap?.defaultMode, 0o640);
});

test('what is no object with a name is refused, and nothing is applied', async () => {
  await using cluster = await createCluster({ nodes: 0 });
  const named = '{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}';
  for (const text of ['hello', '[]', '{kind: ConfigMap, metadata: {name: b}}', '{apiVersion: v1, kind: ConfigMap}'])
    await assert.rejects(
      cluster.apply(`${named}\n---\n${text}`),
      /apiVersion, kind or metadata\.name is missing/,
      text,
    );
  await assert.rejects(cluster.client.get(kinds.ConfigMap, 'a', 'default'), /not found/);
  assert.throws(() => parseManifest('{apiVersion: v1}'), /apiVersion, kind or metadata is missing/);
  assert.equal(parseManifest('{apiVersion: v1, kind: Pod, metadata: {generateName: p-}}').metadata.generateName, 'p-');
});
