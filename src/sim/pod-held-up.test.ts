/** What keeps a simulated Pod from running: images, a node that refuses it, what it needs and is not there. */
import type { PodSpec } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventsOf, podOf, runPod, stateOf, statusOf } from './pod-statuses.testing.ts';

test('an image that cannot be had shows ErrImagePull, then ImagePullBackOff, and comes in when it can', async () => {
  let fails = true;
  await using cluster = await runPod(podOf(), () => ({ imagePullFails: fails }));
  await cluster.advance('2s');
  assert.equal(stateOf(await statusOf(cluster)), 'waiting ErrImagePull: failed to pull image "app:1": not found');
  await cluster.advance('5s');
  const status = await statusOf(cluster);
  assert.equal(
    stateOf(status),
    'waiting ImagePullBackOff: Back-off pulling image "app:1": ErrImagePull: failed to pull image "app:1": not found',
  );
  assert.equal(status.phase, 'Pending');
  const events = await eventsOf(cluster);
  for (const event of [
    'Failed: Failed to pull image "app:1": not found',
    'Failed: Error: ErrImagePull',
    'BackOff: Back-off pulling image "app:1"',
    'Failed: Error: ImagePullBackOff',
  ])
    assert.ok(events.includes(event), event);
  fails = false;
  await cluster.advance('20s');
  assert.equal(stateOf(await statusOf(cluster)), 'running');
});

test('a name that is none and a policy that forbids to pull have reasons of their own', async () => {
  await using wrong = await runPod(podOf({ containers: [{ name: 'main', image: 'Not A Name' }] }));
  await wrong.advance('2s');
  assert.match(
    stateOf(await statusOf(wrong)),
    /^waiting InvalidImageName: Failed to apply default image tag "Not A Name": couldn't parse image name/,
  );
  await using never = await runPod(podOf({ containers: [{ name: 'main', image: 'app:1', imagePullPolicy: 'Never' }] }));
  await never.advance('2s');
  assert.equal(
    stateOf(await statusOf(never)),
    'waiting ErrImageNeverPull: Container image "app:1" is not present with pull policy of Never',
  );
});

test('a node refuses what it cannot take, in the order in which a kubelet looks', async () => {
  const nodes = [{ name: 'n', cpu: '2', memory: '1Gi', pods: 4, extended: { 'example.com/gpu': '1' } }];
  const requests = (list: Record<string, string>): Partial<PodSpec> => ({
    containers: [{ name: 'main', image: 'app:1', resources: { requests: list, limits: list } }],
  });
  await using cluster = await runPod(
    podOf({ nodeName: 'n', ...requests({ cpu: '1500m', 'example.com/gpu': '1' }) }),
    {},
    { nodes },
  );
  await cluster.advance('5s');
  const refused = async (name: string, spec: Partial<PodSpec>): Promise<string> => {
    await cluster.apply(podOf({ nodeName: 'n', ...spec }, { name }));
    await cluster.advance('1s');
    const status = await statusOf(cluster, name);
    assert.equal(status.containerStatuses, undefined);
    return `${status.phase} ${status.reason}: ${status.message}`;
  };
  assert.equal(
    await refused('gpu', requests({ 'example.com/gpu': '1' })),
    'Failed UnexpectedAdmissionError: Pod was rejected: Allocate failed due to requested number of devices unavailable for example.com/gpu. Requested: 1, Available: 0, which is unexpected',
  );
  assert.equal(
    await refused('cpu', requests({ cpu: '1' })),
    "Failed OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000",
  );
  assert.equal(
    await refused('elsewhere', { nodeSelector: { disk: 'ssd' } }),
    "Failed NodeAffinity: Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
  );
  assert.equal(
    await refused('both', { nodeSelector: { disk: 'ssd' }, ...requests({ cpu: '1' }) }),
    "Failed OutOfcpu: Pod was rejected: Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000",
  );
  await cluster.apply(
    podOf(
      { nodeName: 'n', containers: [{ name: 'main', image: 'app:1', ports: [{ containerPort: 80, hostPort: 80 }] }] },
      { name: 'port' },
    ),
  );
  await cluster.advance('1s');
  assert.equal(
    await refused('port-too', {
      containers: [{ name: 'main', image: 'app:1', ports: [{ containerPort: 80, hostPort: 80 }] }],
    }),
    "Failed NodePorts: Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
  );
  for (const name of ['third', 'fourth']) await cluster.apply(podOf({ nodeName: 'n' }, { name }));
  assert.equal(
    await refused('fifth', {}),
    "Failed OutOfpods: Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 4, capacity: 4",
  );
});

test('what a container needs and is not there holds it up, by name, until it comes', async () => {
  const env = [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'settings', key: 'a' } } }];
  await using cluster = await runPod(podOf({ containers: [{ name: 'main', image: 'app:1', env }] }));
  await cluster.advance('5s');
  assert.equal(stateOf(await statusOf(cluster)), 'waiting CreateContainerConfigError: configmap "settings" not found');
  await cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { a: '1' } });
  await cluster.advance('15s');
  assert.equal(stateOf(await statusOf(cluster)), 'running');
  await using mounts = await runPod(podOf({ volumes: [{ name: 'v', secret: { secretName: 'key' } }] }));
  await mounts.advance('5s');
  assert.equal(stateOf(await statusOf(mounts)), 'waiting ContainerCreating');
  assert.ok(
    (await eventsOf(mounts)).includes('FailedMount: MountVolume.SetUp failed for volume "v" : secret "key" not found'),
  );
});
