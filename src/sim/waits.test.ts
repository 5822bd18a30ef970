/**
 * What a Pod's kubelet waits for, and what ends the wait: a deletion, a shorter grace period, a deadline, an eviction,
 * another image. And what it says while others say otherwise, or while nobody hears it.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Manifest } from '#api/manifest.ts';
import type { Lifecycle, Pod, PodSpec, PodStatus } from '#api/core.v1.ts';
import { podOf, statusOf as statusOfPod } from './pod-statuses.testing.ts';
import { type Cluster, createCluster, kinds, type PodScript } from './testing.ts';

async function run(spec: Partial<PodSpec>, script: PodScript = {}): Promise<Cluster> {
  const cluster = await createCluster({ nodes: 1, scripts: [{ script: { startAfter: '1s', ...script } }] });
  await cluster.apply(podOf(spec, { name: 'it' }));
  return cluster;
}

const statusOf = (cluster: Cluster): Promise<PodStatus> => statusOfPod(cluster, 'it');

/** Seconds from the deletion until the Pod is gone. */
async function secondsToGo(cluster: Cluster, gracePeriodSeconds?: number): Promise<number> {
  await cluster.client.delete(
    kinds.Pod,
    'it',
    'default',
    gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds },
  );
  const ms = await cluster.runUntil(
    async () => (await cluster.client.list(kinds.Pod, { namespace: 'default' })).items.length === 0,
  );
  return ms / 1000;
}

const long = { terminationGracePeriodSeconds: 7200 };
const hooked = (hooks: Lifecycle, more: Partial<PodSpec> = {}): Partial<PodSpec> => ({
  containers: [{ name: 'main', image: 'app:1', lifecycle: hooks }],
  ...more,
});

test('a Pod that is deleted while its sandbox is made, or its image pulled, goes at once', async () => {
  await using making = await run({}, { startAfter: '10m' });
  await making.advance('5s');
  assert.ok((await secondsToGo(making)) < 1);
  await using pulling = await run({}, { pullAfter: '10m' });
  await pulling.advance('5s');
  assert.ok((await secondsToGo(pulling)) < 1);
});

test('a Pod that is deleted while its postStart hook runs stops within its grace period', async () => {
  await using cluster = await run(hooked({ postStart: { sleep: { seconds: 3600 } } }, long), { stopAfter: '2s' });
  await cluster.advance('5s');
  const status = (await statusOf(cluster)).containerStatuses?.[0];
  assert.deepEqual([status?.started, status?.ready], [false, false]);
  const seconds = await secondsToGo(cluster, 30);
  assert.ok(seconds >= 2 && seconds < 3, `${seconds}`);
});

test('a grace period that is shortened counts, for a container that is told to stop and for one in its hook', async () => {
  const cases: [Partial<PodSpec>, number][] = [
    [long, 5],
    [hooked({ preStop: { sleep: { seconds: 3600 } } }, long), 5],
    [long, 0],
  ];
  for (const [spec, grace] of cases) {
    await using cluster = await run(spec, { stopAfter: '1h' });
    await cluster.advance('5s');
    await cluster.client.delete(kinds.Pod, 'it', 'default');
    await cluster.advance('60s');
    const seconds = await secondsToGo(cluster, grace);
    assert.ok(seconds >= grace && seconds < grace + 1, `${seconds}`);
  }
});

test('a deadline ends a Pod that pulls, and one that is in its hook', async () => {
  const pulling = await run({ activeDeadlineSeconds: 20 }, { pullAfter: '10m' });
  const waiting = await run(
    hooked({ postStart: { sleep: { seconds: 3600 } } }, { ...long, activeDeadlineSeconds: 20 }),
  );
  for (const made of [pulling, waiting]) {
    await using cluster = made;
    await cluster.advance('25s');
    const { phase, reason } = await statusOf(cluster);
    assert.deepEqual([phase, reason], ['Failed', 'DeadlineExceeded']);
  }
});

test('an eviction ends a Pod that is in its hook', async () => {
  await using cluster = await run(hooked({ postStart: { sleep: { seconds: 3600 } } }, long));
  await cluster.advance('5s');
  cluster.nodes.pressMemory('node-0');
  await cluster.advance('2s');
  assert.equal((await statusOf(cluster)).reason, 'Evicted');
});

test('a Pod that is told another image while the first one is pulled starts with that', async () => {
  await using cluster = await createCluster({
    nodes: [{ name: 'n', images: ['quick:1'] }],
    scripts: [{ script: { startAfter: '1s', pullAfter: '1h' } }],
  });
  const pod = (image: string): Manifest<Pod> => podOf({ containers: [{ name: 'main', image }] }, { name: 'it' });
  await cluster.apply(pod('slow:1'));
  await cluster.advance('10s');
  await cluster.apply(pod('quick:1'));
  await cluster.advance('2s');
  const { phase, containerStatuses } = await statusOf(cluster);
  assert.deepEqual([phase, containerStatuses?.[0]?.image], ['Running', 'quick:1']);
});

test('what somebody else says of a Pod is put right, also twice within one second', async () => {
  await using cluster = await run({});
  await cluster.advance('5s');
  for (let round = 0; round < 3; round++) {
    await cluster.client.patch(
      kinds.Pod,
      { name: 'it', namespace: 'default' },
      { strategic: { status: { conditions: [{ type: 'Ready', status: 'False' }] } } },
      { subresource: 'status' },
    );
    await cluster.settle();
    const ready = (await statusOf(cluster)).conditions?.find((each) => each.type === 'Ready');
    assert.equal(ready?.status, 'True', `round ${round}`);
  }
});

test('containers of a node that nobody hears are started again; what has happened is told when it is back', async () => {
  await using cluster = await run({}, { exitAfter: '5s', exitCode: 1 });
  await cluster.advance('3s');
  cluster.nodes.partition('node-0');
  await cluster.advance('30s');
  assert.equal((await statusOf(cluster)).containerStatuses?.[0]?.restartCount, 0);
  cluster.nodes.heal('node-0');
  await cluster.advance('3s');
  assert.equal((await statusOf(cluster)).containerStatuses?.[0]?.restartCount, 2);
});
