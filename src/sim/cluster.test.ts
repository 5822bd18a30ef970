import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DeploymentStatus } from '#api/apps.v1.ts';
import type { Container, Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import { ApiError } from '#base/errors.ts';
import type { WatchEvent } from '#base/objects.ts';
import { fieldOf } from '#base/unknown.ts';
import { createCluster, kinds } from './testing.ts';

const deployment = (name: string, replicas: number, extra: Partial<Container> = {}): string =>
  JSON.stringify({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'c', image: 'app:1', ...extra }] },
      },
    },
  });

test('a Deployment becomes available, rolls out, and its Service follows', async () => {
  await using cluster = await createCluster({ nodes: 3 });
  await cluster.apply(deployment('web', 4));
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80 }] },
  });
  const status = async (): Promise<Partial<DeploymentStatus>> =>
    (await cluster.client.get(kinds.Deployment, 'web', 'default')).status ?? {};
  await cluster.runUntil(async () => (await status()).availableReplicas === 4);
  let least = 4;
  await cluster.client.patch(
    kinds.Deployment,
    { name: 'web', namespace: 'default' },
    { strategic: { spec: { template: { spec: { containers: [{ name: 'c', image: 'app:2' }] } } } } },
  );
  await cluster.runUntil(async () => {
    const now = await status();
    least = Math.min(least, now.availableReplicas ?? 0);
    return now.updatedReplicas === 4 && now.replicas === 4 && now.availableReplicas === 4;
  });
  assert.ok(least >= 3, `only ${least} were available`);
  await cluster.advance('1s');
  const slices = await cluster.client.list(kinds.EndpointSlice, {
    namespace: 'default',
    labelSelector: 'kubernetes.io/service-name=web',
  });
  assert.equal(
    slices.items.flatMap(({ endpoints = [] }) => endpoints).filter(({ conditions }) => conditions?.ready).length,
    4,
  );
});

test('every Pod of a Deployment finds its node, whichever number is asked for', async () => {
  for (let replicas = 3; replicas <= 40; replicas += 3) {
    await using cluster = await createCluster({ nodes: 1, managedFields: false });
    await cluster.apply(deployment('web', 2));
    await cluster.advance('5s');
    await cluster.client.patch(
      kinds.Deployment,
      { name: 'web', namespace: 'default' },
      { merge: { spec: { replicas } } },
    );
    await cluster.advance('5s');
    assert.equal((await cluster.client.get(kinds.Deployment, 'web', 'default')).status?.readyReplicas, replicas);
  }
});

test('a Pod whose binding nobody answered keeps its place until it is known', async () => {
  await using cluster = await createCluster({ nodes: [{ name: 'only', cpu: '1' }] });
  const { scheduler, controllers } = cluster.networks;
  const send = scheduler.send.bind(scheduler);
  let lost = 0;
  scheduler.send = async (request) => {
    const answer = await send(request);
    if (!request.path.endsWith('/binding') || lost++ > 0) return answer;
    throw new ApiError('ServiceUnavailable', 'the answer is lost');
  };
  // Nor does a watch tell: what happens comes to the scheduler minutes later.
  const watch = controllers.watch.bind(controllers);
  controllers.watch = (request) => {
    const events = watch(request)[Symbol.asyncIterator]();
    const next = async (): Promise<IteratorResult<WatchEvent[]>> => {
      const result = await events.next();
      if (result.done !== true && result.value.some(({ object }) => fieldOf(object, 'spec', 'nodeName') !== undefined))
        await cluster.clock.sleep(120_000);
      return result;
    };
    return { [Symbol.asyncIterator]: () => ({ next, return: () => events.return!() }) };
  };
  controllers.breakWatches();
  await cluster.advance('5s');
  // The controllers tell of Pods that they make themselves.
  for (const name of ['one', 'two']) {
    await cluster.apply(deployment(name, 1, { resources: { requests: { cpu: '600m' } } }));
    await cluster.advance(200);
  }
  await cluster.advance('1m');
  const { items } = await cluster.client.list(kinds.Pod, { namespace: 'default' });
  assert.equal(lost > 0, true);
  assert.equal(items.filter(({ spec }) => spec.nodeName !== undefined).length, 1);
  await cluster.advance('10m');
  assert.equal(cluster.scheduler!.isIdle(), true);
});

test('a Pod that takes the name of one that the scheduler has in hand is placed in its turn', async () => {
  const pod = (extra: Partial<Container> = {}): Manifest<Pod> => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'default' },
    spec: { containers: [{ name: 'c', image: 'i', ...extra }] },
  });
  const lost = new ApiError('ServiceUnavailable', 'the answer is lost');
  for (const [what, first, answers] of [
    ['/binding', pod(), true],
    ['/binding', pod(), false],
    ['/status', pod({ resources: { requests: { cpu: '1k' } } }), true],
  ] as const) {
    await using cluster = await createCluster({ nodes: 1 });
    const {
      client,
      clock,
      networks: { scheduler },
    } = cluster;
    const send = scheduler.send.bind(scheduler);
    let count = 0;
    scheduler.send = async (request) => {
      if (!request.path.endsWith(what) || count++ > 0) return send(request);
      const answer = await send(request);
      await client.delete(kinds.Pod, 'p', 'default', { gracePeriodSeconds: 0 });
      await client.create(kinds.Pod, pod());
      await clock.sleep(1_000);
      if (!answers) throw lost;
      return answer;
    };
    await client.create(kinds.Pod, first);
    await cluster.advance('1m');
    assert.ok(count > 0);
    assert.equal((await client.get(kinds.Pod, 'p', 'default')).spec.nodeName, 'node-0', `${what} ${answers}`);
  }
});

test('a day of a CronJob passes in a moment, in its time zone and over a daylight-saving change', async () => {
  // Berlin goes from 02:00 to 03:00 on 29 March 2026: 02:30 does not exist that day.
  await using cluster = await createCluster({
    nodes: 1,
    start: '2026-03-27T12:00:00Z',
    scripts: [{ selector: 'job=nightly', script: { exitAfter: '30s' } }],
  });
  await cluster.apply({
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: 'nightly' },
    spec: {
      schedule: '15 4 * * *',
      timeZone: 'Europe/Berlin',
      successfulJobsHistoryLimit: 10,
      jobTemplate: {
        spec: {
          template: {
            metadata: { labels: { job: 'nightly' } },
            spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'b' }] },
          },
        },
      },
    },
  });
  await cluster.advance('3d');
  const jobs = await cluster.client.list(kinds.Job, { namespace: 'default' });
  assert.deepEqual(
    jobs.items.map(({ metadata }) => metadata.annotations?.['batch.kubernetes.io/cronjob-scheduled-timestamp']),
    ['2026-03-28T04:15:00+01:00', '2026-03-29T04:15:00+02:00', '2026-03-30T04:15:00+02:00'],
  );
  assert.deepEqual(
    jobs.items.map(({ status }) => status?.succeeded),
    [1, 1, 1],
  );
});

test('a fork goes on by itself, and so does what it was forked from', async () => {
  await using cluster = await createCluster({ nodes: 2 });
  await cluster.apply(deployment('web', 2));
  await cluster.advance('5s');
  await using fork = cluster.fork();
  await fork.client.patch(
    kinds.Deployment,
    { name: 'web', namespace: 'default' },
    { merge: { spec: { replicas: 5 } } },
  );
  await fork.advance('10s');
  assert.equal((await fork.client.list(kinds.Pod, { namespace: 'default' })).items.length, 5);
  assert.equal((await cluster.client.list(kinds.Pod, { namespace: 'default' })).items.length, 2);
  assert.equal(fork.now - cluster.now, 10_000);
});

test('Pods of a lost node are replaced after their toleration, and the lost ones go when it is back', async () => {
  await using cluster = await createCluster({ nodes: 3 });
  await cluster.apply(deployment('web', 3));
  await cluster.advance('5s');
  cluster.nodes.kill('node-0');
  await cluster.advance('2m');
  assert.equal(
    (await cluster.client.get(kinds.Node, 'node-0')).status?.conditions?.find(({ type }) => type === 'Ready')?.status,
    'Unknown',
  );
  await cluster.advance('5m');
  assert.equal((await cluster.client.get(kinds.Deployment, 'web', 'default')).status?.availableReplicas, 3);
  cluster.nodes.boot('node-0');
  await cluster.advance('1m');
  const pods = await cluster.client.list(kinds.Pod, { namespace: 'default' });
  assert.equal(pods.items.length, 3);
  assert.ok(pods.items.every(({ metadata }) => metadata.deletionTimestamp === undefined));
});

test('an autoscaler follows load up at once and down after its window', async () => {
  let load = 100;
  await using cluster = await createCluster({
    nodes: 3,
    scripts: [{ selector: 'app=web', script: { cpu: () => load } }],
  });
  await cluster.apply(deployment('web', 2, { resources: { requests: { cpu: '200m' } } }));
  await cluster.apply({
    apiVersion: 'autoscaling/v2',
    kind: 'HorizontalPodAutoscaler',
    metadata: { name: 'web' },
    spec: {
      scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
      minReplicas: 2,
      maxReplicas: 8,
      metrics: [
        { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } } },
      ],
    },
  });
  const replicas = async () => (await cluster.client.get(kinds.Deployment, 'web', 'default')).spec.replicas;
  await cluster.advance('2m');
  assert.equal(await replicas(), 2);
  load = 200;
  await cluster.advance('90s');
  assert.equal(await replicas(), 8);
  load = 20;
  await cluster.advance('4m');
  assert.equal(await replicas(), 8);
  await cluster.advance('3m');
  assert.equal(await replicas(), 2);
});

test('a StatefulSet keeps order, claims and identities, and a bad revision stops at the first Pod', async () => {
  await using cluster = await createCluster({
    nodes: 3,
    scripts: [
      {
        selector: 'app=db',
        script: ({ pod }) =>
          pod.spec.containers[0]?.image === 'db:bad'
            ? { exitAfter: '1s', exitCode: 1, readyAfter: '1m' }
            : { readyAfter: '2s' },
      },
    ],
  });
  await cluster.apply({
    apiVersion: 'apps/v1',
    kind: 'StatefulSet',
    metadata: { name: 'db' },
    spec: {
      replicas: 3,
      serviceName: 'db',
      selector: { matchLabels: { app: 'db' } },
      template: { metadata: { labels: { app: 'db' } }, spec: { containers: [{ name: 'c', image: 'db:1' }] } },
      volumeClaimTemplates: [
        {
          metadata: { name: 'data' },
          spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
        },
      ],
    },
  });
  await cluster.advance('30s');
  const pods = async (): Promise<Pod[]> => (await cluster.client.list(kinds.Pod, { namespace: 'default' })).items;
  assert.deepEqual(
    (await pods()).map(({ metadata, status }) => `${metadata.name} ${status?.phase}`),
    ['db-0 Running', 'db-1 Running', 'db-2 Running'],
  );
  assert.equal(
    (await cluster.client.list(kinds.PersistentVolumeClaim, { namespace: 'default' })).items.filter(
      ({ status }) => status?.phase === 'Bound',
    ).length,
    3,
  );
  await cluster.client.patch(
    kinds.StatefulSet,
    { name: 'db', namespace: 'default' },
    { strategic: { spec: { template: { spec: { containers: [{ name: 'c', image: 'db:bad' }] } } } } },
  );
  await cluster.advance('10m');
  assert.deepEqual(
    (await pods()).map(({ spec }) => spec.containers[0]?.image),
    ['db:1', 'db:1', 'db:bad'],
  );
  const [, , bad] = await pods();
  assert.equal(bad?.status?.containerStatuses?.[0]?.state?.waiting?.reason, 'CrashLoopBackOff');
});

test('the same seed gives the same history to the byte', async () => {
  const run = async (seed: number): Promise<string> => {
    await using cluster = await createCluster({ nodes: 3, seed, hash: true });
    await cluster.apply(deployment('web', 5));
    await cluster.advance('1m');
    return cluster.hash;
  };
  assert.equal(await run(1), await run(1));
  assert.notEqual(await run(1), await run(2));
});

test('a claim and its volume stay while a Pod uses them, and go with it', async () => {
  await using cluster = await createCluster({ nodes: 1 });
  const { client } = cluster;
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'data' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  });
  const podOf = (name: string): Manifest<Pod> => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name },
    spec: {
      containers: [{ name: 'c', image: 'app:1', volumeMounts: [{ name: 'd', mountPath: '/d' }] }],
      volumes: [{ name: 'd', persistentVolumeClaim: { claimName: 'data' } }],
    },
  });
  await cluster.apply(podOf('user'));
  await cluster.runUntil(async () => (await client.get(kinds.Pod, 'user', 'default')).status?.phase === 'Running');
  await client.delete(kinds.PersistentVolumeClaim, 'data', 'default');
  await cluster.apply(podOf('late'));
  await cluster.advance('60s');
  const claim = await client.get(kinds.PersistentVolumeClaim, 'data', 'default');
  assert.ok(claim.metadata.deletionTimestamp !== undefined && claim.status?.phase === 'Bound');
  assert.equal((await client.list(kinds.PersistentVolume, {})).items.length, 1);
  assert.equal((await client.get(kinds.Pod, 'late', 'default')).spec.nodeName, undefined);
  await client.delete(kinds.Pod, 'user', 'default');
  await cluster.runUntil(
    async () =>
      (await client.list(kinds.PersistentVolumeClaim, {})).items.length === 0 &&
      (await client.list(kinds.PersistentVolume, {})).items.length === 0,
  );
});
