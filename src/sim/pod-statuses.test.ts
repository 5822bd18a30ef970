/**
 * What `kubectl describe pod` shows of a simulated Pod in each situation a user knows: the words of the kubelet, and
 * when they come.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TestJson } from '#base/testing.ts';
import { type Cluster, type ClusterOptions, createCluster, kinds, type PodScript } from './testing.ts';

const startMs = Date.parse('2026-01-01T00:00:00Z');
const uid = /\(\w{8}(-\w{4}){3}-\w{12}\)/;

function pod(spec: TestJson = {}, metadata: TestJson = {}): TestJson {
  const { containers = [{ name: 'main', image: 'app:1' }], ...rest } = spec;
  return { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'web', ...metadata }, spec: { containers, ...rest } };
}

/** A cluster of one node with this Pod; `startAfter` is a second where the script does not say. */
async function run(
  object: TestJson,
  script: PodScript | ((container: string, attempt: number) => PodScript) = {},
  options: ClusterOptions = {},
): Promise<Cluster> {
  const of = typeof script === 'function' ? script : (): PodScript => script;
  const cluster = await createCluster({
    nodes: 1,
    start: startMs,
    scripts: [{ script: ({ container, attempt }) => ({ startAfter: '1s', ...of(container, attempt) }) }],
    ...options,
  });
  try {
    await cluster.apply(object);
  } catch (error) {
    await cluster[Symbol.asyncDispose]();
    throw error;
  }
  return cluster;
}

async function statusOf(cluster: Cluster, name = 'web'): Promise<TestJson> {
  return (await cluster.client.get(kinds.Pod, name, 'default'))['status'];
}

/** A container's state in one line: `running`, `waiting CrashLoopBackOff: message`, `terminated Error 1`. */
function stateOf(status: TestJson, name = 'main', key: 'state' | 'lastState' = 'state'): string {
  const found = [
    ...(status.initContainerStatuses ?? []),
    ...(status.containerStatuses ?? []),
    ...(status.ephemeralContainerStatuses ?? []),
  ].find((each) => each.name === name);
  const { running, waiting, terminated } = found?.[key] ?? {};
  if (running !== undefined) return 'running';
  if (waiting !== undefined)
    return `waiting ${waiting.reason}${waiting.message === undefined ? '' : `: ${waiting.message.replace(uid, '(uid)')}`}`;
  return terminated === undefined
    ? 'none'
    : `terminated ${terminated.reason} ${terminated.exitCode}${terminated.message === undefined ? '' : `: ${terminated.message}`}`;
}

/** `True`, or `False Reason: message`. */
function conditionOf(status: TestJson, type: string): string {
  const found = status.conditions.find((each: TestJson) => each.type === type);
  if (found === undefined) return 'none';
  return [
    found.status,
    ...(found.reason === undefined
      ? []
      : [`${found.reason}${found.message === undefined ? '' : `: ${found.message}`}`]),
  ].join(' ');
}

async function eventsOf(cluster: Cluster): Promise<string[]> {
  await cluster.advance('1s');
  const { items } = await cluster.client.list(kinds.Event, { namespace: 'default' });
  return items
    .filter((event) => event['involvedObject'].kind === 'Pod')
    .map((event) => `${event['reason']}: ${String(event['message']).replace(uid, '(uid)')}`);
}

/** How each state of a container followed the one before, and when it began, in seconds. Looks each half second. */
async function history(cluster: Cluster, seconds: number, of: (status: TestJson) => string): Promise<string[]> {
  const seen: string[] = [];
  const from = cluster.now;
  while (cluster.now - from < seconds * 1000) {
    const what = of(await statusOf(cluster));
    if (!seen.at(-1)?.endsWith(` ${what}`)) seen.push(`${(cluster.now - from) / 1000}s ${what}`);
    await cluster.advance(500);
  }
  return seen;
}

test('a Pod goes from ContainerCreating to ready, and each condition says so', async () => {
  await using cluster = await run(pod(), { pullAfter: '5s', readyAfter: '3s' });
  await cluster.advance(500);
  const creating = await statusOf(cluster);
  assert.equal(creating.phase, 'Pending');
  assert.equal(stateOf(creating), 'waiting ContainerCreating');
  assert.equal(conditionOf(creating, 'PodReadyToStartContainers'), 'False');
  assert.equal(conditionOf(creating, 'Initialized'), 'True');
  assert.equal(conditionOf(creating, 'Ready'), 'False ContainersNotReady: containers with unready status: [main]');
  assert.equal(creating.podIP, undefined);
  await cluster.advance(2_500);
  const pulling = await statusOf(cluster);
  assert.equal(stateOf(pulling), 'waiting ContainerCreating');
  assert.equal(conditionOf(pulling, 'PodReadyToStartContainers'), 'True');
  assert.match(pulling.podIP, /^10\./);
  await cluster.advance('5s');
  const started = await statusOf(cluster);
  assert.equal(started.phase, 'Running');
  assert.equal(
    conditionOf(started, 'ContainersReady'),
    'False ContainersNotReady: containers with unready status: [main]',
  );
  await cluster.advance('3s');
  const ready = await statusOf(cluster);
  assert.deepEqual(
    ['Initialized', 'Ready', 'ContainersReady', 'PodScheduled'].map((type) => conditionOf(ready, type)),
    ['True', 'True', 'True', 'True'],
  );
  assert.equal(ready.containerStatuses[0].started, true);
  assert.deepEqual((await eventsOf(cluster)).slice(1), [
    'Pulling: Pulling image "app:1"',
    'Pulled: Successfully pulled image "app:1" in 5.000s (5.000s including waiting). Image size: 100000000 bytes.',
    'Created: Container created',
    'Started: Container started',
  ]);
});

test('a container that fails again and again waits in CrashLoopBackOff, each time twice as long up to five minutes', async () => {
  await using cluster = await run(pod(), { exitAfter: '1s', exitCode: 3 });
  const starts = (
    await history(
      cluster,
      1_500,
      (status) => `${status.containerStatuses?.[0].restartCount} ${stateOf(status).slice(0, 7)}`,
    )
  ).filter((line) => line.endsWith('running'));
  const seconds = starts.map((line) => parseFloat(line));
  const pauses = seconds.slice(1).map((at, i) => Math.round(at - seconds[i]!));
  assert.deepEqual(pauses, [2, 11, 21, 41, 81, 161, 301, 301, 301]);
  const status = await statusOf(cluster);
  assert.equal(status.phase, 'Running');
  assert.equal(
    stateOf(status),
    'waiting CrashLoopBackOff: back-off 5m0s restarting failed container=main pod=web_default(uid)',
  );
  assert.equal(stateOf(status, 'main', 'lastState'), 'terminated Error 3');
  assert.equal(conditionOf(status, 'Ready'), 'False ContainersNotReady: containers with unready status: [main]');
  assert.ok(
    (await eventsOf(cluster)).includes('BackOff: Back-off restarting failed container main in pod web_default(uid)'),
  );
});

test('ten minutes of running begin the back-off anew', async () => {
  await using cluster = await run(pod(), (_container, attempt) => ({
    exitCode: 1,
    exitAfter: attempt < 4 ? '1s' : '11m',
  }));
  await cluster.advance('14m');
  assert.equal((await statusOf(cluster)).containerStatuses[0].restartCount, 5, 'the fifth restart comes at once');
});

test('an image that cannot be had shows ErrImagePull, then ImagePullBackOff, and comes in when it can', async () => {
  let fails = true;
  await using cluster = await run(pod(), () => ({ imagePullFails: fails }));
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
  await using wrong = await run(pod({ containers: [{ name: 'main', image: 'Not A Name' }] }));
  await wrong.advance('2s');
  assert.match(
    stateOf(await statusOf(wrong)),
    /^waiting InvalidImageName: Failed to apply default image tag "Not A Name": couldn't parse image name/,
  );
  await using never = await run(pod({ containers: [{ name: 'main', image: 'app:1', imagePullPolicy: 'Never' }] }));
  await never.advance('2s');
  assert.equal(
    stateOf(await statusOf(never)),
    'waiting ErrImageNeverPull: Container image "app:1" is not present with pull policy of Never',
  );
});

test('a leak ends at the limit: OOMKilled, 137, and back again', async () => {
  await using cluster = await run(
    pod({ containers: [{ name: 'main', image: 'app:1', resources: { limits: { memory: '100Mi' } } }] }),
    { leakBytesPerSecond: 10 * 1024 * 1024 },
  );
  await cluster.advance('11500ms');
  assert.equal(stateOf(await statusOf(cluster)), 'terminated OOMKilled 137');
  await cluster.advance('2s');
  const status = await statusOf(cluster);
  assert.equal(stateOf(status), 'running');
  assert.equal(stateOf(status, 'main', 'lastState'), 'terminated OOMKilled 137');
  assert.equal(status.containerStatuses[0].restartCount, 1);
});

test('a leak without a limit uses up the node: the Pod is evicted, not its neighbour', async () => {
  await using cluster = await run(
    pod({}, { labels: { app: 'leak' } }),
    {},
    {
      nodes: [{ name: 'n', memory: '1Gi' }],
      scripts: [
        { script: { startAfter: '1s' } },
        { selector: 'app=leak', script: { leakBytesPerSecond: 16 * 1024 * 1024 } },
      ],
    },
  );
  await cluster.apply(pod({}, { name: 'other' }));
  await cluster.advance('70s');
  const status = await statusOf(cluster);
  assert.equal(status.phase, 'Failed');
  assert.equal(status.reason, 'Evicted');
  assert.equal(
    status.message,
    'The node was low on resource: memory. Threshold quantity: 100Mi, available: 0. Container main was using 1048576Ki, request is 0, has larger consumption of memory. ',
  );
  assert.equal(conditionOf(status, 'DisruptionTarget'), `True TerminationByKubelet: ${status.message}`);
  assert.equal(stateOf(status), 'terminated Error 137');
  assert.equal((await statusOf(cluster, 'other')).phase, 'Running');
});

test('what ends well is Completed, what fails is Error, and both say their last words', async () => {
  await using done = await run(pod({ restartPolicy: 'Never' }), { exitAfter: '2s', terminationMessage: 'all said' });
  await done.advance('5s');
  const status = await statusOf(done);
  assert.equal(status.phase, 'Succeeded');
  assert.equal(stateOf(status), 'terminated Completed 0: all said');
  assert.equal(conditionOf(status, 'Ready'), 'False PodCompleted');
  assert.equal(conditionOf(status, 'Initialized'), 'True PodCompleted');
  assert.equal(conditionOf(status, 'PodReadyToStartContainers'), 'False');
  await using failed = await run(
    pod({
      restartPolicy: 'Never',
      containers: [{ name: 'main', image: 'app:1', terminationMessagePolicy: 'FallbackToLogsOnError' }],
    }),
    { exitAfter: '2s', exitCode: 9, logs: ['no database'] },
  );
  await failed.advance('5s');
  const broken = await statusOf(failed);
  assert.equal(broken.phase, 'Failed');
  assert.equal(stateOf(broken), 'terminated Error 9: no database\n');
  assert.equal(conditionOf(broken, 'Ready'), 'False PodFailed');
});

test('init containers run in order, a sidecar among them lives on, and the Pod is done when its main container is', async () => {
  const object = pod({
    restartPolicy: 'Never',
    initContainers: [
      { name: 'first', image: 'app:1' },
      { name: 'side', image: 'app:1', restartPolicy: 'Always' },
      { name: 'second', image: 'app:1' },
    ],
  });
  await using cluster = await run(object, (container) =>
    container === 'main'
      ? { exitAfter: '5s' }
      : container === 'side'
        ? { readyAfter: '1s', stopExitCode: 0 }
        : { initAfter: '4s' },
  );
  await cluster.advance('3s');
  const first = await statusOf(cluster);
  assert.deepEqual(
    ['first', 'side', 'second', 'main'].map((name) => stateOf(first, name)),
    ['running', 'waiting PodInitializing', 'waiting PodInitializing', 'waiting PodInitializing'],
  );
  assert.equal(
    conditionOf(first, 'Initialized'),
    'False ContainersNotInitialized: containers with incomplete status: [first side second]',
  );
  await cluster.advance('4s');
  const second = await statusOf(cluster);
  assert.deepEqual(
    ['first', 'side', 'second', 'main'].map((name) => stateOf(second, name)),
    ['terminated Completed 0', 'running', 'running', 'waiting PodInitializing'],
  );
  assert.equal(second.phase, 'Pending');
  await cluster.advance('5s');
  const running = await statusOf(cluster);
  assert.deepEqual(
    [running.phase, stateOf(running), conditionOf(running, 'Initialized'), conditionOf(running, 'Ready')],
    ['Running', 'running', 'True', 'True'],
  );
  await cluster.advance('8s');
  const done = await statusOf(cluster);
  assert.deepEqual(
    [done.phase, stateOf(done), stateOf(done, 'side')],
    ['Succeeded', 'terminated Completed 0', 'terminated Completed 0'],
  );
});

test('an init container that fails is tried again by its policy, or fails the Pod', async () => {
  await using again = await run(pod({ initContainers: [{ name: 'setup', image: 'app:1' }] }), (container, attempt) =>
    container === 'setup' && attempt < 2 ? { initExitCode: 1 } : {},
  );
  await again.advance('5s');
  const waiting = await statusOf(again);
  assert.equal(
    stateOf(waiting, 'setup'),
    'waiting CrashLoopBackOff: back-off 10s restarting failed container=setup pod=web_default(uid)',
  );
  assert.equal(waiting.phase, 'Pending');
  await again.advance('10s');
  assert.equal((await statusOf(again)).phase, 'Running');
  await using never = await run(pod({ restartPolicy: 'Never', initContainers: [{ name: 'setup', image: 'app:1' }] }), {
    initExitCode: 7,
  });
  await never.advance('5s');
  const failed = await statusOf(never);
  assert.deepEqual(
    [failed.phase, stateOf(failed, 'setup'), stateOf(failed)],
    ['Failed', 'terminated Error 7', 'waiting PodInitializing'],
  );
});

test('probes: the startup probe holds the others back, readiness comes and goes, liveness restarts', async () => {
  const probe = { httpGet: { path: '/', port: 80 }, periodSeconds: 5 };
  const containers = [
    {
      name: 'main',
      image: 'app:1',
      startupProbe: { ...probe, failureThreshold: 6 },
      readinessProbe: { ...probe, failureThreshold: 2 },
      livenessProbe: { ...probe, failureThreshold: 3, terminationGracePeriodSeconds: 4 },
    },
  ];
  await using cluster = await run(pod({ containers }), (_container, attempt) =>
    attempt === 0 ? { startedAfter: '12s', readinessFailsAfter: '40s', livenessFailsAfter: '60s' } : {},
  );
  const seen = await history(cluster, 90, (status) => {
    const { started, ready, restartCount } = status.containerStatuses?.[0] ?? {};
    return `started=${started} ready=${ready} restarts=${restartCount}`;
  });
  assert.deepEqual(seen.slice(-4), [
    '16s started=true ready=true restarts=0',
    '46s started=true ready=false restarts=0',
    '75s started=false ready=false restarts=0',
    '76s started=true ready=true restarts=1',
  ]);
  assert.equal(stateOf(await statusOf(cluster), 'main', 'lastState'), 'terminated Error 137');
  const events = await eventsOf(cluster);
  for (const event of [
    'Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 500',
    'Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500',
    'Killing: Container main failed liveness probe, will be restarted',
  ])
    assert.ok(events.includes(event), event);
});

test('a startup probe that never holds kills the container', async () => {
  await using cluster = await run(
    pod({
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'main',
          image: 'app:1',
          startupProbe: { tcpSocket: { port: 80 }, periodSeconds: 2, failureThreshold: 5 },
        },
      ],
    }),
    { startedAfter: '1h' },
  );
  await cluster.advance('14s');
  const status = await statusOf(cluster);
  assert.equal(stateOf(status, 'main', 'lastState'), 'terminated Error 137');
  assert.equal(status.containerStatuses[0].restartCount, 1);
  assert.ok((await eventsOf(cluster)).includes('Killing: Container main failed startup probe, will be restarted'));
});

/** How and after how many seconds the container of a deleted Pod has ended; a finalizer keeps the object to be read. */
async function goes(object: TestJson, script: PodScript, gracePeriodSeconds?: number): Promise<string> {
  object.metadata.finalizers = ['example.com/kept'];
  await using cluster = await run(object, script);
  await cluster.advance('5s');
  await cluster.client.delete(
    kinds.Pod,
    'web',
    'default',
    gracePeriodSeconds === undefined ? {} : { gracePeriodSeconds },
  );
  const ms = await cluster.runUntil(async () => stateOf(await statusOf(cluster)) !== 'running', { every: '500ms' });
  const status = await statusOf(cluster);
  return `${ms / 1000}s ${stateOf(status)} ${status.phase}`;
}

test('a Pod stops within its grace period: by itself, after its hook, or killed at the end', async () => {
  const hook = (seconds: number): TestJson =>
    pod({
      terminationGracePeriodSeconds: 10,
      containers: [{ name: 'main', image: 'app:1', lifecycle: { preStop: { sleep: { seconds } } } }],
    });
  assert.deepEqual(await goes(pod(), { stopAfter: '3s' }), '3s terminated Completed 0 Succeeded');
  assert.deepEqual(await goes(pod(), { stopAfter: '1h' }), '30s terminated Error 137 Failed');
  assert.deepEqual(await goes(pod(), { stopAfter: '1h' }, 7), '7s terminated Error 137 Failed');
  assert.deepEqual(await goes(hook(4), { stopAfter: '2s', stopExitCode: 143 }), '6s terminated Error 143 Failed');
  assert.deepEqual(
    await goes(hook(9), { stopAfter: '4s' }),
    '11s terminated Error 137 Failed',
    'two seconds are left for the signal at least',
  );
});

test('a Pod that runs past its deadline fails, whether its containers have started or not', async () => {
  await using cluster = await run(pod({ activeDeadlineSeconds: 20, restartPolicy: 'Never' }), { stopAfter: '2s' });
  await cluster.advance('30s');
  const status = await statusOf(cluster);
  assert.deepEqual(
    [status.phase, status.reason, status.message],
    ['Failed', 'DeadlineExceeded', 'Pod was active on the node longer than the specified deadline'],
  );
  assert.equal(stateOf(status), 'terminated Completed 0');
  await using waiting = await run(pod({ activeDeadlineSeconds: 20 }), { imagePullFails: true });
  await waiting.advance('30s');
  const never = await statusOf(waiting);
  assert.deepEqual([never.phase, never.reason], ['Failed', 'DeadlineExceeded']);
  assert.equal(
    stateOf(never),
    'terminated ContainerStatusUnknown 137: The container could not be located when the pod was terminated',
  );
});

test('a node refuses what it cannot take, in the order in which a kubelet looks', async () => {
  const nodes = [{ name: 'n', cpu: '2', memory: '1Gi', pods: 4, extended: { 'example.com/gpu': '1' } }];
  const requests = (list: TestJson): TestJson => ({
    containers: [{ name: 'main', image: 'app:1', resources: { requests: list, limits: list } }],
  });
  await using cluster = await run(
    pod({ nodeName: 'n', ...requests({ cpu: '1500m', 'example.com/gpu': '1' }) }),
    {},
    { nodes },
  );
  await cluster.advance('5s');
  const refused = async (name: string, spec: TestJson): Promise<string> => {
    await cluster.apply(pod({ nodeName: 'n', ...spec }, { name }));
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
    pod(
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
  for (const name of ['third', 'fourth']) await cluster.apply(pod({ nodeName: 'n' }, { name }));
  assert.equal(
    await refused('fifth', {}),
    "Failed OutOfpods: Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 4, capacity: 4",
  );
});

test('what a container needs and is not there holds it up, by name, until it comes', async () => {
  const env = [{ name: 'A', valueFrom: { configMapKeyRef: { name: 'settings', key: 'a' } } }];
  await using cluster = await run(pod({ containers: [{ name: 'main', image: 'app:1', env }] }));
  await cluster.advance('5s');
  assert.equal(stateOf(await statusOf(cluster)), 'waiting CreateContainerConfigError: configmap "settings" not found');
  await cluster.apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { a: '1' } });
  await cluster.advance('15s');
  assert.equal(stateOf(await statusOf(cluster)), 'running');
  await using mounts = await run(pod({ volumes: [{ name: 'v', secret: { secretName: 'key' } }] }));
  await mounts.advance('5s');
  assert.equal(stateOf(await statusOf(mounts)), 'waiting ContainerCreating');
  assert.ok(
    (await eventsOf(mounts)).includes('FailedMount: MountVolume.SetUp failed for volume "v" : secret "key" not found'),
  );
});

test('a forked cluster goes on where a Pod was: its back-off, its readiness, its last words', async () => {
  await using cluster = await run(pod(), { exitAfter: '1s', exitCode: 3 });
  await cluster.advance('20s');
  await using fork = cluster.fork();
  assert.deepEqual(await statusOf(fork), await statusOf(cluster));
  await cluster.advance('2m');
  await fork.advance('2m');
  const shown = (status: TestJson): string[] => [
    String(status.containerStatuses[0].restartCount),
    stateOf(status),
    stateOf(status, 'main', 'lastState'),
  ];
  assert.deepEqual(shown(await statusOf(fork)), shown(await statusOf(cluster)));
});
