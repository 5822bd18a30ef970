import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { OpenObject } from '#base/objects.ts';
import type { TestJson } from '#base/testing.ts';
import type { NamedObject } from '../manifests.ts';
import { rehearse } from './rehearse.ts';
import { runRehearsals } from './threads.ts';
import {
  type Fault,
  type Manifest,
  RehearsalError,
  type Rehearsal,
  type RehearseOptions,
  type WorkloadReport,
} from './types.ts';

const minute = 60_000;
const hour = 60 * minute;
const manifests = (...objects: NamedObject[]): Manifest[] =>
  objects.map((object, index) => ({ object, origin: `manifest ${index + 1}` }));
const workload = (result: Rehearsal | undefined, kind: string, name: string): WorkloadReport =>
  result!.workloads.find((report) => report.kind === kind && report.name === name)!;
const said = (result: Rehearsal | undefined, words: RegExp): number[] =>
  result!.timeline.filter(({ what }) => words.test(what)).map(({ atSeconds }) => atSeconds);
const kill = (atMs: number, more: Partial<Fault> = {}): Fault => ({ kind: 'kill-node', atMs, ...more });

const podSpec = (container: TestJson = {}, more: TestJson = {}): TestJson => ({
  containers: [{ name: 'main', image: 'x', ...container }],
  ...more,
});
const template = (name: string, spec: TestJson = podSpec(), annotations: Record<string, string> = {}): TestJson => ({
  metadata: { labels: { app: name }, annotations },
  spec,
});
const set = (kind: string, name: string, spec: TestJson, pod = template(name)): OpenObject & NamedObject => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name, namespace: 'default' },
  spec: { selector: { matchLabels: { app: name } }, template: pod, ...spec },
});
const spread = (name: string): TestJson => ({
  topologySpreadConstraints: [
    {
      maxSkew: 1,
      topologyKey: 'kubernetes.io/hostname',
      whenUnsatisfiable: 'DoNotSchedule',
      labelSelector: { matchLabels: { app: name } },
    },
  ],
});
const deployment = (name: string, replicas: number, container: TestJson = {}): OpenObject & NamedObject =>
  set('Deployment', name, { replicas }, template(name, podSpec(container, spread(name))));
const budget = (name: string, minAvailable: number): OpenObject & NamedObject => ({
  apiVersion: 'policy/v1',
  kind: 'PodDisruptionBudget',
  metadata: { name, namespace: 'default' },
  spec: { minAvailable, selector: { matchLabels: { app: name } } },
});
const pod = (
  name: string,
  spec: TestJson = podSpec(),
  annotations: Record<string, string> = {},
): OpenObject & NamedObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', annotations },
  spec,
});
const job = (name: string, spec: TestJson, annotations: Record<string, string>): OpenObject & NamedObject => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name, namespace: 'default' },
  spec: { ...spec, template: { metadata: { annotations }, spec: podSpec({}, { restartPolicy: 'Never' }) } },
});

async function one(objects: NamedObject[], faults: Fault[], more: Partial<RehearseOptions> = {}): Promise<Rehearsal> {
  const [result] = await rehearse({ manifests: manifests(...objects), nodes: 3, faults, forMs: hour, ...more }, [1]);
  return result!;
}

test('a node that dies degrades what is spread over three, and makes a single Pod unavailable', async () => {
  const options = {
    manifests: manifests(deployment('web', 3), deployment('lonely', 1)),
    nodes: 3,
    faults: [kill(10 * minute), kill(30 * minute)],
    forMs: hour,
  };
  const results = await rehearse(options, [1, 2, 3, 4]);
  const web = workload(results[0], 'Deployment', 'web');
  assert.ok(web.lowestReady >= 1 && web.belowSeconds > 300, JSON.stringify(web));
  assert.equal(web.downSeconds, 0);
  // Its node may be among the killed once, twice or never.
  const hits = results
    .map((result) => ({
      times: said(result, /^Deployment default\/lonely: 0 of 1 ready/).length,
      seconds: workload(result, 'Deployment', 'lonely').downSeconds,
    }))
    .filter(({ times }) => times > 0);
  assert.ok(
    hits.length > 0 && hits.every(({ times, seconds }) => seconds > 330 * times && seconds < 420 * times),
    'lost after 40 s, evicted 300 s later, made again elsewhere',
  );
});

test('a seed tells the same story alone, among others and in whichever thread', async () => {
  const options = {
    manifests: manifests(
      deployment('web', 2),
      job('load', { completions: 3 }, { 'rehearse.tiphys.io/run-for': '12m', 'rehearse.tiphys.io/fails': '30%' }),
    ),
    nodes: 4,
    faults: [kill(5 * minute, { latestMs: 40 * minute, forMs: 10 * minute })],
    forMs: hour,
  };
  const seeds = [1, 2, 3, 4, 5, 6, 7, 8, 9];
  const { rehearsals } = await runRehearsals(options, seeds, 2);
  assert.deepEqual(
    rehearsals.map(({ seed }) => seed),
    seeds,
  );
  assert.ok(new Set(rehearsals.map(({ timeline }) => JSON.stringify(timeline))).size > 4, 'seeds differ');
  for (const seed of [2, 7, 9]) assert.deepEqual((await rehearse(options, [seed]))[0], rehearsals[seed - 1]);
});

test('a drain waits for the disruption budget, and keeps it', async () => {
  const result = await one([deployment('web', 3), budget('web', 2)], [{ kind: 'drain', atMs: 10 * minute }], {
    nodes: 4,
  });
  assert.deepEqual(
    result.budgets.map(({ name, brokenSeconds }) => [name, brokenSeconds]),
    [['web', 0]],
  );
  assert.equal(workload(result, 'Deployment', 'web').lowestReady, 2);
  assert.equal(workload(result, 'Deployment', 'web').verdict, 'degraded');
  assert.equal(result.drains[0]!.verdict, 'done');
});

test('a budget that allows nothing blocks a drain, and is named', async () => {
  const result = await one([deployment('web', 1), budget('web', 1)], [{ kind: 'drain', atMs: 10 * minute }], {
    nodes: 1,
  });
  assert.equal(result.drains[0]!.verdict, 'blocked');
  assert.equal(result.drains[0]!.left.length, 1);
  assert.ok(result.budgets[0]!.refused > 1);
  assert.equal(said(result, /must stay for now, by disruption budget default\/web/).length, 1);
});

test('a dead node undercuts a budget, which no eviction can', async () => {
  const result = await one(
    [deployment('web', 2), budget('web', 2)],
    [
      kill(10 * minute, { target: 'node-0' }),
      kill(10 * minute, { target: 'node-1' }),
      kill(10 * minute, { target: 'node-2' }),
    ],
  );
  assert.ok(result.budgets[0]!.brokenSeconds >= 49 * 60);
  assert.equal(workload(result, 'Deployment', 'web').verdict, 'not whole at the end');
});

test('what can never run is named with its reason: no room, no Secret, no ConfigMap for a volume, a quota', async () => {
  const nothing = {
    apiVersion: 'v1',
    kind: 'ResourceQuota',
    metadata: { name: 'none', namespace: 'shut' },
    spec: { hard: { pods: '0' } },
  };
  const shut = { ...deployment('shut', 1), metadata: { name: 'shut', namespace: 'shut' } };
  const result = await one(
    [
      deployment('big', 1, { resources: { requests: { cpu: '1000' } } }),
      deployment('keyless', 1, { envFrom: [{ secretRef: { name: 'key' } }] }),
      set(
        'Deployment',
        'page',
        { replicas: 1 },
        template('page', podSpec({}, { volumes: [{ name: 'page', configMap: { name: 'page' } }] })),
      ),
      nothing,
      shut,
    ],
    [],
    { nodes: 2, forMs: minute },
  );
  const whyOf = (name: string): string => {
    const report = workload(result, 'Deployment', name);
    assert.equal(report.verdict, 'never ran');
    return report.stuck.map(({ why }) => why).join();
  };
  assert.match(whyOf('big'), /0\/2 nodes are available: 2 Insufficient cpu/);
  assert.match(whyOf('keyless'), /CreateContainerConfigError: secret "key" not found/);
  assert.match(whyOf('page'), /ContainerCreating: configmap "page" not found/);
  assert.match(whyOf('shut'), /exceeded quota: none/);
});

test('a StatefulSet waits for its dead node; one that comes back makes it whole', async () => {
  const lost = await one([set('StatefulSet', 'db', { serviceName: 'db', replicas: 1 })], [kill(10 * minute)]);
  assert.equal(workload(lost, 'StatefulSet', 'db').verdict, 'not whole at the end');
  assert.match(workload(lost, 'StatefulSet', 'db').stuck[0]!.why, /never makes a second Pod of one name/);
  const back = await one(
    [set('StatefulSet', 'db', { serviceName: 'db', replicas: 1 })],
    [kill(10 * minute, { forMs: 15 * minute })],
  );
  assert.equal(workload(back, 'StatefulSet', 'db').verdict, 'unavailable');
  assert.ok(
    workload(back, 'StatefulSet', 'db').downSeconds >= 900 && workload(back, 'StatefulSet', 'db').downSeconds < 960,
  );
});

test('a DaemonSet wants no Pod on a dead node, and has one again when it is back', async () => {
  const result = await one(
    [set('DaemonSet', 'agent', {})],
    [kill(10 * minute, { target: 'node-1', forMs: 10 * minute })],
  );
  const { wanted, lowestReady, downSeconds, belowSeconds, restarts } = workload(result, 'DaemonSet', 'agent');
  assert.deepEqual(
    { wanted, lowestReady, downSeconds, restarts },
    { wanted: 3, lowestReady: 2, downSeconds: 0, restarts: 1 },
  );
  assert.ok(belowSeconds < 60);
});

test('Pods and ReplicaSets of nobody: the set makes Pods again, nothing makes a Pod again', async () => {
  const single = pod('single');
  const once = pod('once', podSpec({}, { restartPolicy: 'Never' }), { 'rehearse.tiphys.io/run-for': '30m' });
  const result = await one(
    [single, once, set('ReplicaSet', 'cache', { replicas: 1 })],
    [kill(10 * minute, { forMs: 20 * minute })],
    { nodes: 1 },
  );
  assert.equal(workload(result, 'Pod', 'single').verdict, 'lost');
  assert.equal(workload(result, 'ReplicaSet', 'cache').verdict, 'unavailable');
  assert.deepEqual(
    result.jobs.map(({ kind, name, verdict }) => [kind, name, verdict]),
    [['Pod', 'once', 'lost']],
    'however it ended when its node came back',
  );
  assert.equal(said(result, /^Pod default\/once .*nothing makes it again/).length, 1);
});

test('Jobs: done, done after failures, failed at the limit, stuck', async () => {
  const result = await one(
    [
      job('good', {}, { 'rehearse.tiphys.io/run-for': '5m' }),
      job('bad', { backoffLimit: 1 }, { 'rehearse.tiphys.io/fails': '100%' }),
      job('endless', {}, { 'rehearse.tiphys.io/run-for': '5h' }),
      job('hit', {}, { 'rehearse.tiphys.io/run-for': '20m' }),
      {
        ...job('stuck', {}, {}),
        spec: { template: { spec: podSpec({ resources: { requests: { cpu: '99' } } }, { restartPolicy: 'Never' }) } },
      },
    ],
    [kill(8 * minute, { target: 'node-0' }), kill(8 * minute, { target: 'node-1' })],
  );
  const verdicts = Object.fromEntries(result.jobs.map(({ name, verdict }) => [name, verdict]));
  assert.deepEqual(
    { ...verdicts, hit: '' },
    { good: 'done', bad: 'failed', endless: 'running', hit: '', stuck: 'stuck' },
  );
  assert.ok(['done', 'done after failures'].includes(verdicts['hit']!), JSON.stringify([result.jobs, result.timeline]));
  assert.match(result.jobs.find(({ name }) => name === 'bad')!.why!, /BackoffLimitExceeded/);
  assert.match(result.jobs.find(({ name }) => name === 'stuck')!.why!, /Insufficient cpu/);
});

test('a CronJob that forbids overlap misses runs while one is held up by a dead node', async () => {
  const cronJob = {
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: 'report', namespace: 'default' },
    spec: {
      schedule: '*/5 * * * *',
      concurrencyPolicy: 'Forbid',
      jobTemplate: {
        spec: {
          template: {
            metadata: { annotations: { 'rehearse.tiphys.io/run-for': '3m' } },
            spec: podSpec({}, { restartPolicy: 'Never' }),
          },
        },
      },
    },
  };
  const calm = (await one([cronJob], [])).cronJobs[0]!;
  assert.deepEqual(
    [calm.due, calm.missed.length, calm.failed, calm.verdict],
    [11, 0, 0, 'ok'],
    'the hour ends a moment after the twelfth: that one is not waited for',
  );
  const held = (await one([cronJob], [kill(11 * minute, { forMs: 20 * minute })], { nodes: 1 })).cronJobs[0]!;
  assert.equal(held.verdict, 'missed runs');
  assert.match(held.missed[0]!.why, /concurrencyPolicy Forbid/);
});

test('a roll-out whose image never becomes ready does not end; the old Pods go on', async () => {
  const next = set(
    'Deployment',
    'web',
    { replicas: 2, progressDeadlineSeconds: 600 },
    template('web', podSpec({ image: 'y' }), { 'rehearse.tiphys.io/ready-after': '9h' }),
  );
  const [result] = await rehearse(
    {
      manifests: manifests(deployment('web', 2)),
      nodes: 3,
      faults: [],
      changes: [{ atMs: 5 * minute, label: 'next', manifests: manifests(next) }],
      forMs: hour,
    },
    [1],
  );
  assert.deepEqual(
    result!.rollouts.map(({ verdict, startedSeconds }) => [verdict, startedSeconds]),
    [['unfinished', 300]],
  );
  assert.ok(workload(result, 'Deployment', 'web').lowestReady >= 1);
});

test('while the API server is out of reach Pods go on; a node that dies meanwhile is noticed after', async () => {
  const result = await one([deployment('web', 1)], [{ kind: 'api-down', atMs: 10 * minute, forMs: 10 * minute }]);
  assert.equal(workload(result, 'Deployment', 'web').verdict, 'ok');
  const both = await one(
    [deployment('web', 1)],
    [{ kind: 'api-down', atMs: 10 * minute, forMs: 20 * minute }, kill(11 * minute)],
  );
  assert.ok(workload(both, 'Deployment', 'web').downSeconds > 19 * 60);
});

test('slow pulls delay Pods only where their image is not', async () => {
  const objects = [deployment('web', 1)];
  const fast = workload(await one(objects, [kill(10 * minute)]), 'Deployment', 'web').downSeconds;
  const slow = workload(
    await one(objects, [kill(10 * minute)], { slowPullMs: 4 * minute }),
    'Deployment',
    'web',
  ).downSeconds;
  assert.ok(slow - fast >= 239 && slow - fast <= 242, `${fast} ${slow}`);
});

test('what is refused is named with where it comes from, and nothing is rehearsed', async () => {
  const fails = (objects: NamedObject[], words: RegExp, more: Partial<RehearseOptions> = {}): Promise<void> =>
    assert.rejects(one(objects, [], more), (error) => error instanceof RehearsalError && words.test(error.message));
  await fails(
    [deployment('web', 1), { apiVersion: 'example.org/v1', kind: 'Ship', metadata: { name: 'a' } }],
    /^manifest 2: no matches for kind "Ship" in version "example.org\/v1" \(is its CustomResourceDefinition among/,
  );
  await fails(
    [{ ...deployment('web', 1), apiVersion: 'apps/v7' }],
    /no matches for kind "Deployment" in version "apps\/v7" \(there is apps\/v1\)/,
  );
  await fails(
    [set('Deployment', 'web', { replica: 2 })],
    /^manifest 1: Deployment default\/web: .*\.spec\.replica: field not declared/s,
  );
  await fails([set('Deployment', 'web', { replicas: -1 })], /spec\.replicas/);
  await fails([pod('a', podSpec(), { 'rehearse.tiphys.io/run-for': 'long' })], /manifest 1: Pod a: .*"long"/);
  await fails(
    [pod('a', podSpec(), { 'rehearse.tiphys.io/run-fro': '5m' })],
    /there is no annotation rehearse\.tiphys\.io\/run-fro/,
  );
  await fails([deployment('web', 1)], /--kill-node: there is no node node-7 \(there are node-0, node-1, node-2\)/, {
    faults: [kill(minute, { target: 'node-7' })],
  });
  await fails(
    [deployment('web', 1)],
    /^manifest 1: Nothing x: no matches for kind|^manifest 1: no matches for kind "Nothing"/,
    {
      changes: [
        {
          atMs: minute,
          label: 'next',
          manifests: manifests({ apiVersion: 'v1', kind: 'Nothing', metadata: { name: 'x' } }),
        },
      ],
    },
  );
});

test('custom resources are accepted with their definition among the manifests, in any order', async () => {
  const definition = {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'ships.example.org' },
    spec: {
      group: 'example.org',
      scope: 'Namespaced',
      names: { plural: 'ships', singular: 'ship', kind: 'Ship' },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: {
            openAPIV3Schema: {
              type: 'object',
              properties: { spec: { type: 'object', properties: { masts: { type: 'integer' } } } },
            },
          },
        },
      ],
    },
  };
  const ship = (masts: unknown): OpenObject & NamedObject => ({
    apiVersion: 'example.org/v1',
    kind: 'Ship',
    metadata: { name: 'argo', namespace: 'harbour' },
    spec: { masts },
  });
  await one([ship(3), definition], [], { forMs: minute });
  await assert.rejects(one([ship('three'), definition], [], { forMs: minute }), /manifest 1: Ship harbour\/argo: /);
});
