/** What `kubectl describe pod` shows of a simulated Pod that starts, fails and goes on, and when it comes. */
import type { PodStatus } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  restartsOf,
  conditionOf,
  eventsOf,
  historyOf,
  podOf,
  runPod,
  stateOf,
  statusOf,
} from './pod-statuses.testing.ts';

test('a Pod goes from ContainerCreating to ready, and each condition says so', async () => {
  await using cluster = await runPod(podOf(), { pullAfter: '5s', readyAfter: '3s' });
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
  assert.match(pulling.podIP ?? '', /^10\./);
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
  assert.equal(ready.containerStatuses?.[0]?.started, true);
  assert.deepEqual((await eventsOf(cluster)).slice(1), [
    'Pulling: Pulling image "app:1"',
    'Pulled: Successfully pulled image "app:1" in 5.000s (5.000s including waiting). Image size: 100000000 bytes.',
    'Created: Container created',
    'Started: Container started',
  ]);
});

test('a container that fails again and again waits in CrashLoopBackOff, each time twice as long up to five minutes', async () => {
  await using cluster = await runPod(podOf(), { exitAfter: '1s', exitCode: 3 });
  const starts = (
    await historyOf(cluster, 1_500, (status) => `${restartsOf(status)} ${stateOf(status).slice(0, 7)}`)
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
  await using cluster = await runPod(podOf(), (_container, attempt) => ({
    exitCode: 1,
    exitAfter: attempt < 4 ? '1s' : '11m',
  }));
  await cluster.advance('14m');
  assert.equal(restartsOf(await statusOf(cluster)), 5, 'the fifth restart comes at once');
});

test('init containers run in order, a sidecar among them lives on, and the Pod is done when its main container is', async () => {
  const object = podOf({
    restartPolicy: 'Never',
    initContainers: [
      { name: 'first', image: 'app:1' },
      { name: 'side', image: 'app:1', restartPolicy: 'Always' },
      { name: 'second', image: 'app:1' },
    ],
  });
  await using cluster = await runPod(object, (container) =>
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
  await using again = await runPod(
    podOf({ initContainers: [{ name: 'setup', image: 'app:1' }] }),
    (container, attempt) => (container === 'setup' && attempt < 2 ? { initExitCode: 1 } : {}),
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
  await using never = await runPod(
    podOf({ restartPolicy: 'Never', initContainers: [{ name: 'setup', image: 'app:1' }] }),
    {
      initExitCode: 7,
    },
  );
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
  await using cluster = await runPod(podOf({ containers }), (_container, attempt) =>
    attempt === 0 ? { startedAfter: '12s', readinessFailsAfter: '40s', livenessFailsAfter: '60s' } : {},
  );
  const seen = await historyOf(cluster, 90, (status) => {
    const { started, ready, restartCount } = status.containerStatuses?.[0] ?? {};
    return `started=${started} ready=${ready} restarts=${restartCount}`;
  });
  // What a probe has killed is told when it runs again.
  assert.deepEqual(seen.slice(-3), [
    '16s started=true ready=true restarts=0',
    '46s started=true ready=false restarts=0',
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
  await using cluster = await runPod(
    podOf({
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
  assert.equal(restartsOf(status), 1);
  assert.ok((await eventsOf(cluster)).includes('Killing: Container main failed startup probe, will be restarted'));
});

test('a forked cluster goes on where a Pod was: its back-off, its readiness, its last words', async () => {
  await using cluster = await runPod(podOf(), { exitAfter: '1s', exitCode: 3 });
  await cluster.advance('20s');
  await using fork = cluster.fork();
  assert.deepEqual(await statusOf(fork), await statusOf(cluster));
  await cluster.advance('2m');
  await fork.advance('2m');
  const shown = (status: PodStatus): string[] => [
    String(restartsOf(status)),
    stateOf(status),
    stateOf(status, 'main', 'lastState'),
  ];
  assert.deepEqual(shown(await statusOf(fork)), shown(await statusOf(cluster)));
});
