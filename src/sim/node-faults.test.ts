/** Faults of one node: its clock is off, its disk is full, its memory is used up, its pulls are slow. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Deployment } from '#api/apps.v1.ts';
import type { ContainerState, NodeCondition, Pod, PodSpec } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { podOf, statusOf } from './pod-statuses.testing.ts';
import { type Cluster, createCluster, kinds } from './testing.ts';

const startMs = Date.parse('2026-01-01T00:00:00Z');
const hourMs = 3_600_000;

const pod = (name: string, spec: Partial<PodSpec> = {}): Manifest<Pod> => podOf(spec, { name, labels: { name } });

const deployment = (name: string, replicas: number): Manifest<Deployment> => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  spec: {
    replicas,
    selector: { matchLabels: { app: name } },
    template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'main', image: 'app:1' }] } },
  },
});

async function conditionOf(cluster: Cluster, type: string, name = 'node-0'): Promise<NodeCondition | undefined> {
  return (await cluster.client.get(kinds.Node, name)).status?.conditions?.find((each) => each.type === type);
}
async function taintsOf(cluster: Cluster, name = 'node-0'): Promise<string[]> {
  const { spec } = await cluster.client.get(kinds.Node, name);
  return (spec.taints ?? []).map(({ key, effect }) => `${key}:${effect}`);
}
async function podsOf(cluster: Cluster): Promise<Pod[]> {
  return (await cluster.client.list(kinds.Pod, { namespace: 'default' })).items;
}

test('a clock that is off shows in what the node writes, and in nothing else', async () => {
  await using cluster = await createCluster({ nodes: 2, start: startMs, leases: true });
  cluster.nodes.skewClock('node-0', hourMs);
  cluster.nodes.skewClock('node-1', -hourMs);
  await cluster.apply([pod('ahead', { nodeName: 'node-0' }), pod('behind', { nodeName: 'node-1' })]);
  await cluster.advance('5m');
  for (const [name, sign] of [
    ['ahead', 1],
    ['behind', -1],
  ] as const) {
    const status = await statusOf(cluster, name);
    for (const text of [
      status.startTime,
      status.containerStatuses?.[0]?.state?.running?.startedAt,
      status.conditions?.find((each) => each.type === 'Ready')?.lastTransitionTime,
    ])
      assert.ok(Math.abs(Date.parse(text ?? '') - startMs - sign * hourMs) < 5_000, `${name}: ${text}`);
  }
  const { items } = await cluster.client.list(kinds.Lease, { namespace: 'kube-node-lease' });
  for (const lease of items)
    assert.ok(
      Math.abs(
        Date.parse(lease.spec.renewTime ?? '') - cluster.now - (lease.metadata.name === 'node-0' ? hourMs : -hourMs),
      ) <= 11_000,
      JSON.stringify(lease.spec),
    );
  for (const name of ['node-0', 'node-1'])
    assert.equal(
      (await conditionOf(cluster, 'Ready', name))?.status,
      'True',
      'the controller goes by when it hears of a Lease, not by what it says',
    );
  cluster.nodes.skewClock('node-0', 0);
  await cluster.advance('20s');
  const lease = await cluster.client.get(kinds.Lease, 'node-0', 'kube-node-lease');
  assert.ok(Math.abs(Date.parse(lease.spec.renewTime ?? '') - cluster.now) <= 11_000);
});

test('a clock that jumps back while a container waits does not make it wait for as long as the jump', async () => {
  let fails = true;
  await using cluster = await createCluster({
    nodes: 1,
    scripts: [
      { script: { startAfter: '1s' } },
      {
        selector: 'name=exits',
        script: ({ attempt }) => (attempt === 0 ? { startAfter: '1s', exitAfter: '2s', exitCode: 1 } : {}),
      },
      { selector: 'name=pulls', script: () => ({ startAfter: '1s', imagePullFails: fails }) },
    ],
  });
  await cluster.apply([pod('exits'), pod('pulls', { containers: [{ name: 'main', image: 'other:1' }] })]);
  await cluster.advance('3500ms');
  fails = false;
  cluster.nodes.skewClock('node-0', -hourMs);
  await cluster.advance('20s');
  for (const name of ['exits', 'pulls'])
    assert.equal((await statusOf(cluster, name)).containerStatuses?.[0]?.ready, true, name);
  assert.equal((await statusOf(cluster, 'exits')).containerStatuses?.[0]?.restartCount, 1);
});

test('a full disk: condition and taint, nothing new is taken, one Pod after the other is evicted, and five minutes after there is room all is well', async () => {
  await using cluster = await createCluster({ nodes: 2, start: startMs, scripts: [{ script: { startAfter: '1s' } }] });
  const critical = pod('critical', { nodeName: 'node-0', priorityClassName: 'system-node-critical' });
  await cluster.apply({ ...critical, metadata: { ...critical.metadata, namespace: 'kube-system' } });
  await cluster.apply(deployment('web', 6));
  await cluster.advance('10s');
  const there = async (): Promise<Pod[]> =>
    (await podsOf(cluster)).filter(({ spec, status }) => spec.nodeName === 'node-0' && status?.phase === 'Running');
  const before = (await there()).length;
  assert.equal(before, 3);
  cluster.nodes.fillDisk('node-0');
  await cluster.advance('1s');
  const condition = await conditionOf(cluster, 'DiskPressure');
  assert.deepEqual(
    [condition?.status, condition?.reason, condition?.message],
    ['True', 'KubeletHasDiskPressure', 'kubelet has disk pressure'],
  );
  assert.equal((await conditionOf(cluster, 'Ready'))?.status, 'True');
  assert.deepEqual(await taintsOf(cluster), ['node.kubernetes.io/disk-pressure:NoSchedule']);
  assert.deepEqual(cluster.nodes.get('node-0')?.pressure, { disk: true, memory: false, pid: false });
  await cluster.apply(pod('bold', { nodeName: 'node-0' }));
  await cluster.advance('1s');
  const bold = await statusOf(cluster, 'bold');
  assert.deepEqual(
    [bold.phase, bold.reason, bold.message],
    ['Failed', 'Evicted', 'Pod was rejected: The node had condition: [DiskPressure]. '],
  );
  await cluster.advance('9s');
  assert.equal((await there()).length, 2, 'one after ten seconds');
  await cluster.advance('30s');
  assert.equal((await there()).length, 0);
  const evicted = (await podsOf(cluster)).filter(
    ({ metadata, status }) => status?.reason === 'Evicted' && metadata.name !== 'bold',
  );
  assert.deepEqual(
    evicted.map(({ status }) => status?.message),
    Array(3).fill('The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 0. '),
  );
  for (const { status } of evicted) {
    assert.deepEqual([status?.phase, status?.containerStatuses?.[0]?.state?.terminated?.exitCode], ['Failed', 0]);
    assert.equal(status?.conditions?.find((each) => each.type === 'DisruptionTarget')?.reason, 'TerminationByKubelet');
  }
  assert.equal(
    (await cluster.client.get(kinds.Deployment, 'web', 'default')).status?.availableReplicas,
    6,
    'they run elsewhere',
  );
  assert.equal((await cluster.client.get(kinds.Pod, 'critical', 'kube-system')).status?.phase, 'Running');
  cluster.nodes.freeDisk('node-0');
  await cluster.advance('4m50s');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'True');
  await cluster.advance('11s');
  assert.deepEqual([(await conditionOf(cluster, 'DiskPressure'))?.status, await taintsOf(cluster)], ['False', []]);
  await cluster.apply(pod('later', { nodeName: 'node-0' }));
  await cluster.advance('2s');
  assert.equal((await statusOf(cluster, 'later')).phase, 'Running');
});

test('an image that is on its way when the disk fills does not arrive; it comes when there is room', async () => {
  await using cluster = await createCluster({
    nodes: 1,
    scripts: [{ script: { startAfter: '1s', pullAfter: '20s' } }],
  });
  // Critical: else it would be evicted.
  const object = pod('web', { nodeName: 'node-0', priorityClassName: 'system-node-critical' });
  await cluster.apply({ ...object, metadata: { ...object.metadata, namespace: 'kube-system' } });
  const state = async (): Promise<ContainerState | undefined> =>
    (await cluster.client.get(kinds.Pod, 'web', 'kube-system')).status?.containerStatuses?.[0]?.state;
  await cluster.advance('5s');
  cluster.nodes.fillDisk('node-0');
  await cluster.advance('17s');
  assert.deepEqual((await state())?.waiting, {
    reason: 'ErrImagePull',
    message: 'failed to pull image "app:1": write /var/lib/tiphys: no space left on device',
  });
  await cluster.advance('3s');
  assert.equal((await state())?.waiting?.reason, 'ImagePullBackOff');
  cluster.nodes.freeDisk('node-0');
  await cluster.advance('1m');
  assert.ok((await state())?.running);
});

test('memory that is used up: BestEffort Pods are refused, those that use more than they asked for go first, by priority', async () => {
  const scripts = [{ script: { startAfter: '1s', memory: () => 100 * 1024 * 1024 } }];
  await using cluster = await createCluster({ nodes: 1, scripts });
  const requests = (memory: string): Partial<PodSpec> => ({
    containers: [{ name: 'main', image: 'app:1', resources: { requests: { memory } } }],
  });
  await cluster.apply({
    apiVersion: 'scheduling.k8s.io/v1',
    kind: 'PriorityClass',
    metadata: { name: 'high' },
    value: 1000,
  });
  await cluster.apply([
    pod('within', requests('200Mi')),
    pod('over', requests('50Mi')),
    pod('over-high', { ...requests('50Mi'), priorityClassName: 'high' }),
    pod('effort'),
  ]);
  await cluster.advance('5s');
  cluster.nodes.pressMemory('node-0');
  await cluster.apply([
    pod('new-effort', { nodeName: 'node-0' }),
    pod('new-burstable', { nodeName: 'node-0', ...requests('1Mi') }),
  ]);
  await cluster.advance('2s');
  assert.equal(
    (await statusOf(cluster, 'new-effort')).message,
    'Pod was rejected: The node had condition: [MemoryPressure]. ',
  );
  assert.equal((await statusOf(cluster, 'new-burstable')).phase, 'Running');
  assert.deepEqual(await taintsOf(cluster), ['node.kubernetes.io/memory-pressure:NoSchedule']);
  const order: string[] = [];
  for (let i = 0; i < 6; i++) {
    await cluster.advance('10s');
    for (const { metadata, status } of await podsOf(cluster))
      if (status?.reason === 'Evicted' && metadata.name !== 'new-effort' && !order.includes(metadata.name))
        order.push(metadata.name);
  }
  assert.deepEqual(order, ['effort', 'new-burstable', 'over', 'over-high', 'within']);
  assert.equal(
    (await statusOf(cluster, 'over')).message,
    'The node was low on resource: memory. Threshold quantity: 100Mi, available: 0. Container main was using 102400Ki, request is 50Mi, has larger consumption of memory. ',
  );
});

test('slow pulls hold up what is pulled from then on, once for each image and node', async () => {
  await using cluster = await createCluster({ nodes: 2, scripts: [{ script: { startAfter: '1s', pullAfter: '2s' } }] });
  cluster.nodes.slowPulls('node-0', '1m');
  await cluster.apply([pod('slow', { nodeName: 'node-0' }), pod('quick', { nodeName: 'node-1' })]);
  await cluster.advance('30s');
  await cluster.apply(pod('joins', { nodeName: 'node-0' }));
  const ready = async (name: string): Promise<boolean | undefined> =>
    (await statusOf(cluster, name)).containerStatuses?.[0]?.ready;
  assert.deepEqual([await ready('slow'), await ready('quick')], [false, true]);
  assert.deepEqual((await statusOf(cluster, 'slow')).containerStatuses?.[0]?.state, {
    waiting: { reason: 'ContainerCreating' },
  });
  await cluster.advance('34s');
  assert.deepEqual([await ready('slow'), await ready('joins')], [true, true], 'both by the one pull');
  await cluster.apply(pod('again', { nodeName: 'node-0' }));
  await cluster.advance('2s');
  assert.equal(await ready('again'), true, 'the image is there');
  cluster.nodes.slowPulls('node-0', 0);
  await cluster.apply(pod('other', { nodeName: 'node-0', containers: [{ name: 'main', image: 'other:1' }] }));
  await cluster.advance('4s');
  assert.equal(await ready('other'), true);
});

test('a fork keeps the faults of its nodes, and heals them by itself', async () => {
  await using cluster = await createCluster({ nodes: 1, start: startMs });
  cluster.nodes.fillDisk('node-0');
  cluster.nodes.slowPulls('node-0', '10s');
  cluster.nodes.skewClock('node-0', hourMs);
  await cluster.advance('5s');
  await using fork = cluster.fork();
  await fork.advance('1s');
  assert.deepEqual(fork.nodes.get('node-0')?.pressure, { disk: true, memory: false, pid: false });
  fork.nodes.freeDisk('node-0');
  await fork.advance('6m');
  assert.equal((await conditionOf(fork, 'DiskPressure'))?.status, 'False');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'True');
  await fork.apply(pod('web'));
  await fork.advance('5s');
  const status = await statusOf(fork, 'web');
  assert.equal(status.containerStatuses?.[0]?.ready, false, 'the pull is slow');
  assert.ok(Math.abs(Date.parse(status.startTime ?? '') - fork.now - hourMs) < 10_000);
});

test('a node that loses its power while its disk is full says so again when it is back', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  cluster.nodes.fillDisk('node-0');
  await cluster.advance('1s');
  cluster.nodes.kill('node-0');
  await cluster.advance('2m');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'Unknown');
  cluster.nodes.boot('node-0');
  await cluster.advance('10s');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'True');
  cluster.nodes.kill('node-0');
  cluster.nodes.freeDisk('node-0');
  await cluster.advance('10m');
  cluster.nodes.boot('node-0');
  await cluster.advance('10s');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'False');
});

test('faults of a node that is not there, and times that are none, are refused', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  for (const method of ['fillDisk', 'freeDisk', 'pressMemory', 'easeMemory'] as const)
    assert.throws(() => cluster.nodes[method]('nowhere'), /no simulated node "nowhere"/);
  assert.throws(() => cluster.nodes.skewClock('nowhere', 1), /no simulated node "nowhere"/);
  assert.throws(() => cluster.nodes.skewClock('node-0', Number.NaN), /not a number of milliseconds/);
  assert.throws(() => cluster.nodes.slowPulls('node-0', -1), /a pull cannot take -1 ms longer/);
  assert.throws(() => cluster.nodes.slowPulls('node-0', 'soon'), /not a duration/);
  cluster.nodes.freeDisk('node-0');
  cluster.nodes.fillDisk('node-0');
  cluster.nodes.fillDisk('node-0');
  await cluster.advance('1s');
  assert.equal((await conditionOf(cluster, 'DiskPressure'))?.status, 'True');
});

test('the same seed under these faults gives the same history to the byte', async () => {
  const run = async (): Promise<string> => {
    await using cluster = await createCluster({ nodes: 3, seed: 5, hash: true });
    await cluster.apply(deployment('web', 9));
    await cluster.advance('5s');
    cluster.nodes.fillDisk('node-0');
    cluster.nodes.skewClock('node-1', -90_000);
    cluster.nodes.slowPulls('node-2', '3s');
    await cluster.advance('1m');
    cluster.nodes.freeDisk('node-0');
    await cluster.advance('6m');
    return cluster.hash;
  };
  assert.equal(await run(), await run());
});
