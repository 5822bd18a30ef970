/** Longer lives of simulated Pods: sidecars to their end, a machine that restarts, scripts that hold a container up. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '#api/batch.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import type { Container, ContainerStatus, PodSpec, PodStatus } from '#api/core.v1.ts';
import type { Cluster } from './cluster.ts';
import type { PodScript } from './pod-script.ts';
import { podOf, statusOf as statusOfPod } from './pod-statuses.testing.ts';
import { copiedSecretType } from './references.ts';
import { createCluster, kinds } from './testing.ts';

async function clusterWith(
  spec: Partial<PodSpec>,
  script: (container: string, attempt: number) => PodScript,
): Promise<Cluster> {
  const cluster = await createCluster({
    nodes: 1,
    scripts: [{ script: ({ container, attempt }) => script(container, attempt) }],
  });
  await cluster.client.create(kinds.Pod, podOf(spec, { name: 'it', namespace: 'default' }));
  return cluster;
}

const statusOf = (cluster: Cluster): Promise<PodStatus> => statusOfPod(cluster, 'it');
function containerOf({ initContainerStatuses = [], containerStatuses = [] }: PodStatus, name: string): ContainerStatus {
  const found = [...initContainerStatuses, ...containerStatuses].find((each) => each.name === name);
  assert.ok(found, `no status of container ${name}`);
  return found;
}
const endOf = (status: PodStatus, name: string): number =>
  Date.parse(containerOf(status, name).state?.terminated?.finishedAt ?? '');

test('sidecars start in order before the containers and end after them, the last first', async () => {
  const sidecar = (name: string, more: Partial<Container> = {}): Container => ({
    name,
    image: `${name}:1`,
    restartPolicy: 'Always',
    ...more,
  });
  const spec = {
    restartPolicy: 'Never',
    initContainers: [
      sidecar('proxy', { startupProbe: { tcpSocket: { port: 1 }, periodSeconds: 1, failureThreshold: 30 } }),
      { name: 'prepare', image: 'q' },
      sidecar('logs'),
    ],
  };
  await using cluster = await clusterWith(spec, (name) =>
    name === 'main'
      ? { exitAfter: '20s' }
      : name === 'proxy'
        ? { startedAfter: '4s', stopAfter: '3s' }
        : { initAfter: '2s', stopAfter: '2s' },
  );
  await cluster.advance('3s');
  const early = await statusOf(cluster);
  assert.deepEqual(
    ['proxy', 'prepare', 'logs'].map((name) => Object.keys(containerOf(early, name).state ?? {})[0]),
    ['running', 'waiting', 'waiting'],
  );
  assert.equal(containerOf(early, 'proxy').started, false);
  await cluster.advance('7s');
  const running = await statusOf(cluster);
  assert.deepEqual(
    [
      running.phase,
      ...['proxy', 'prepare', 'logs'].map((name) => [
        containerOf(running, name).started,
        containerOf(running, name).ready,
      ]),
    ],
    ['Running', [true, true], [false, true], [true, true]],
  );
  await cluster.advance('30s');
  const ended = await statusOf(cluster);
  const end = (name: string): number => endOf(ended, name);
  assert.equal(ended.phase, 'Succeeded');
  assert.ok(end('main') < end('logs') && end('logs') < end('proxy'));
});

test('a sidecar that ends is started again while the Pod runs, whatever the policy of the Pod', async () => {
  await using cluster = await clusterWith(
    { restartPolicy: 'Never', initContainers: [{ name: 'proxy', image: 'p', restartPolicy: 'Always' }] },
    (name, attempt) => (name === 'proxy' && attempt === 0 ? { exitAfter: '5s', exitCode: 1 } : {}),
  );
  await cluster.advance('10s');
  const status = await statusOf(cluster);
  const { restartCount, ready, lastState } = containerOf(status, 'proxy');
  assert.deepEqual(
    [status.phase, restartCount, ready, lastState?.terminated?.exitCode, containerOf(status, 'main').restartCount],
    ['Running', 1, true, 1, 0],
  );
});

test('a machine that restarts gives its Pods new sandboxes; the runs it has lost ended with 255, Unknown', async () => {
  await using cluster = await clusterWith({}, () => ({}));
  await cluster.advance('5s');
  const before = await statusOf(cluster);
  cluster.nodes.kill('node-0');
  await cluster.advance('5s');
  cluster.nodes.boot('node-0');
  await cluster.advance('30s');
  const after = await statusOf(cluster);
  const { restartCount, ready, lastState, containerID } = containerOf(after, 'main');
  assert.deepEqual(
    [after.phase, restartCount, ready, lastState?.terminated?.exitCode, lastState?.terminated?.reason, after.startTime],
    ['Running', 1, true, 255, 'Unknown', before.startTime],
  );
  assert.notEqual(containerID, containerOf(before, 'main').containerID);
});

test('what a script says cannot be made waits in CreateContainerConfigError until the script says otherwise', async () => {
  let reason: string | undefined = 'secret "keys" not found';
  await using cluster = await clusterWith({}, () => (reason === undefined ? {} : { cannotCreate: reason }));
  await cluster.advance('30s');
  const status = await statusOf(cluster);
  assert.deepEqual(
    [status.phase, containerOf(status, 'main').state],
    ['Pending', { waiting: { reason: 'CreateContainerConfigError', message: 'secret "keys" not found' } }],
  );
  const events = (await cluster.client.list(kinds.Event, { namespace: 'default' })).items.map(
    (event) => `${event.reason}: ${event.message}`,
  );
  assert.ok(events.includes('Failed: Error: secret "keys" not found'), events.join('\n'));
  reason = undefined;
  await cluster.advance('15s');
  assert.equal((await statusOf(cluster)).phase, 'Running');
});

test('a volume waits for its ConfigMap and for each key that it names; a Secret copied without what it holds has every key', async () => {
  const volumes = [{ name: 'page', configMap: { name: 'page', items: [{ key: 'index', path: 'index.html' }] } }];
  const containers = [
    {
      name: 'main',
      image: 'app:1',
      env: [{ name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'copied', key: 'token' } } }],
    },
  ];
  await using cluster = await clusterWith({ volumes, containers }, () => ({}));
  const messages = async (reason: string): Promise<string[]> =>
    (await cluster.client.list(kinds.Event, { namespace: 'default' })).items
      .filter((event) => event.reason === reason)
      .map((event) => event.message ?? '');
  await cluster.advance('2s');
  await cluster.client.create(kinds.ConfigMap, {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'page', namespace: 'default' },
    data: { other: '' },
  });
  await cluster.advance('10s');
  assert.deepEqual(containerOf(await statusOf(cluster), 'main').state, { waiting: { reason: 'ContainerCreating' } });
  const prefix = 'MountVolume.SetUp failed for volume "page" : ';
  assert.deepEqual(
    [...new Set(await messages('FailedMount'))],
    [`${prefix}configmap "page" not found`, `${prefix}references non-existent config key: index`],
  );
  await cluster.client.patch(
    kinds.ConfigMap,
    { name: 'page', namespace: 'default' },
    { merge: { data: { index: 'hello' } } },
  );
  await cluster.advance('20s');
  assert.deepEqual(containerOf(await statusOf(cluster), 'main').state, {
    waiting: { reason: 'CreateContainerConfigError', message: 'secret "copied" not found' },
  });
  await cluster.client.create(kinds.Secret, {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'copied', namespace: 'default' },
    type: copiedSecretType,
  });
  await cluster.advance('15s');
  assert.equal((await statusOf(cluster)).phase, 'Running');
});

test('a Pod whose container is being killed, and hangs, still comes to its end by deadline, by eviction and by deletion', async () => {
  const hangs = { startAfter: '1s', livenessFailsAfter: '5s' };
  await using late = await clusterWith({ activeDeadlineSeconds: 10 }, () => hangs);
  await late.advance('20s');
  assert.equal((await statusOf(late)).phase, 'Running', 'the grace period of the probe is not over');
  await late.advance('20s');
  const failed = await statusOf(late);
  assert.deepEqual(
    [failed.phase, failed.reason, containerOf(failed, 'main').state?.terminated?.exitCode],
    ['Failed', 'DeadlineExceeded', 137],
  );
  assert.equal(endOf(failed, 'main') - Date.parse(failed.startTime ?? ''), 36_000, 'whoever asked first');
  await using starved = await clusterWith({}, () => hangs);
  await starved.advance('10s');
  starved.nodes.fillDisk('node-0');
  await starved.advance('11s');
  assert.equal((await statusOf(starved)).reason, 'Evicted');
  await using gone = await clusterWith({}, () => hangs);
  await gone.advance('10s');
  await gone.client.delete(kinds.Pod, 'it', 'default');
  await gone.advance('27s');
  assert.deepEqual((await gone.client.list(kinds.Pod, { namespace: 'default' })).items, []);
});

test('without a script the Pod of a Job does its work and ends; one that is to run on does', async () => {
  await using cluster = await createCluster({
    nodes: 1,
    scripts: [{ selector: 'run=on', script: { exitAfter: Infinity } }],
  });
  const job = (name: string, labels: Record<string, string>): Manifest<Job> => ({
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name, namespace: 'default' },
    spec: {
      completions: 2,
      template: { metadata: { labels }, spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i' }] } },
    },
  });
  for (const each of [job('done', {}), job('endless', { run: 'on' })]) await cluster.client.create(kinds.Job, each);
  await cluster.advance('1h');
  const { items } = await cluster.client.list(kinds.Job, { namespace: 'default' });
  assert.deepEqual(
    items.map(({ metadata, status }) => [metadata.name, status?.succeeded ?? 0, status?.active ?? 0]),
    [
      ['done', 2, 0],
      ['endless', 0, 1],
    ],
  );
});

test('a Pod that is told another image starts its container anew with it', async () => {
  await using cluster = await clusterWith({ restartPolicy: 'Never' }, () => ({ stopAfter: '2s' }));
  await cluster.advance('10s');
  await cluster.client.patch(
    kinds.Pod,
    { name: 'it', namespace: 'default' },
    { strategic: { spec: { containers: [{ name: 'main', image: 'app:2' }] } } },
  );
  await cluster.advance('1s');
  assert.equal((await statusOf(cluster)).containerStatuses?.[0]?.image, 'app:1');
  await using fork = cluster.fork();
  for (const each of [cluster, fork]) {
    await each.advance('10s');
    const status = await statusOf(each);
    const main = containerOf(status, 'main');
    assert.deepEqual(
      [status.phase, main.image, main.restartCount, main.ready, main.lastState?.terminated?.exitCode],
      ['Running', 'app:2', 1, true, 0],
    );
  }
  const { items } = await cluster.client.list(kinds.Event, { namespace: 'default', fieldSelector: 'reason=Killing' });
  assert.deepEqual(
    items.map(({ message }) => message),
    ['Container main definition changed, will be restarted'],
  );
});

test('a Pod stays Ready while its container is replaced by one of another image', async () => {
  await using cluster = await clusterWith({}, () => ({ pullAfter: '2s' }));
  await cluster.advance('10s');
  const { metadata } = await cluster.client.get(kinds.Pod, 'it', 'default');
  const seen: string[] = [];
  const stop = new AbortController();
  const watching = (async (): Promise<void> => {
    for await (const { object } of cluster.client.watch(kinds.Pod, {
      namespace: 'default',
      resourceVersion: metadata.resourceVersion,
      signal: stop.signal,
    })) {
      const { conditions = [], containerStatuses } = object.status ?? {};
      seen.push(`${containerStatuses?.[0]?.image} ${conditions.find(({ type }) => type === 'Ready')?.status}`);
    }
  })();
  await cluster.client.patch(
    kinds.Pod,
    { name: 'it', namespace: 'default' },
    { strategic: { spec: { containers: [{ name: 'main', image: 'app:2' }] } } },
  );
  await cluster.advance('10s');
  stop.abort();
  await watching;
  assert.deepEqual([...new Set(seen)], ['app:1 True', 'app:2 True']);
});
