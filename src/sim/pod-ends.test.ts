/** How a simulated Pod ends: by itself, by its limits, by its deadline, or because it is told to. */
import type { Pod } from '#api/core.v1.ts';
import type { Manifest } from '#api/manifest.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { restartsOf, conditionOf, podOf, runPod, stateOf, statusOf } from './pod-statuses.testing.ts';
import { kinds, type PodScript } from './testing.ts';

test('a leak ends at the limit: OOMKilled, 137, and back again', async () => {
  await using cluster = await runPod(
    podOf({ containers: [{ name: 'main', image: 'app:1', resources: { limits: { memory: '100Mi' } } }] }),
    { leakBytesPerSecond: 10 * 1024 * 1024 },
  );
  await cluster.advance('11500ms');
  assert.equal(stateOf(await statusOf(cluster)), 'terminated OOMKilled 137');
  await cluster.advance('2s');
  const status = await statusOf(cluster);
  assert.equal(stateOf(status), 'running');
  assert.equal(stateOf(status, 'main', 'lastState'), 'terminated OOMKilled 137');
  assert.equal(restartsOf(status), 1);
});

test('a leak without a limit uses up the node: the Pod is evicted, not its neighbour', async () => {
  await using cluster = await runPod(
    podOf({}, { labels: { app: 'leak' } }),
    {},
    {
      nodes: [{ name: 'n', memory: '1Gi' }],
      scripts: [
        { script: { startAfter: '1s' } },
        { selector: 'app=leak', script: { leakBytesPerSecond: 16 * 1024 * 1024 } },
      ],
    },
  );
  await cluster.apply(podOf({}, { name: 'other' }));
  await cluster.advance('70s');
  const status = await statusOf(cluster);
  assert.equal(status.phase, 'Failed');
  assert.equal(status.reason, 'Evicted');
  assert.equal(
    status.message,
    'The node was low on resource: memory. Threshold quantity: 100Mi, available: 0. Container main was using 1048576Ki, request is 0, has larger consumption of memory. ',
  );
  assert.equal(conditionOf(status, 'DisruptionTarget'), `True TerminationByKubelet: ${status.message}`);
  assert.equal(stateOf(status), 'terminated Completed 0');
  assert.equal((await statusOf(cluster, 'other')).phase, 'Running');
});

test('what ends well is Completed, what fails is Error, and both say their last words', async () => {
  await using done = await runPod(podOf({ restartPolicy: 'Never' }), {
    exitAfter: '2s',
    terminationMessage: 'all said',
  });
  await done.advance('5s');
  const status = await statusOf(done);
  assert.equal(status.phase, 'Succeeded');
  assert.equal(stateOf(status), 'terminated Completed 0: all said');
  assert.equal(conditionOf(status, 'Ready'), 'False PodCompleted');
  assert.equal(conditionOf(status, 'Initialized'), 'True PodCompleted');
  assert.equal(conditionOf(status, 'PodReadyToStartContainers'), 'False');
  await using failed = await runPod(
    podOf({
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

/** How and after how many seconds the container of a deleted Pod has ended; a finalizer keeps the object to be read. */
async function goes(object: Manifest<Pod>, script: PodScript, gracePeriodSeconds?: number): Promise<string> {
  object.metadata.finalizers = ['example.com/kept'];
  await using cluster = await runPod(object, script);
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
  const hook = (seconds: number): Manifest<Pod> =>
    podOf({
      terminationGracePeriodSeconds: 10,
      containers: [{ name: 'main', image: 'app:1', lifecycle: { preStop: { sleep: { seconds } } } }],
    });
  assert.deepEqual(await goes(podOf(), { stopAfter: '3s' }), '3s terminated Completed 0 Succeeded');
  assert.deepEqual(await goes(podOf(), { stopAfter: '1h' }), '30s terminated Error 137 Failed');
  assert.deepEqual(await goes(podOf(), { stopAfter: '1h' }, 7), '7s terminated Error 137 Failed');
  assert.deepEqual(await goes(hook(4), { stopAfter: '2s', stopExitCode: 143 }), '6s terminated Error 143 Failed');
  assert.deepEqual(
    await goes(hook(9), { stopAfter: '4s' }),
    '11s terminated Error 137 Failed',
    'two seconds are left for the signal at least',
  );
});

test('a Pod that runs past its deadline fails, whether its containers have started or not', async () => {
  await using cluster = await runPod(podOf({ activeDeadlineSeconds: 20, restartPolicy: 'Never' }), { stopAfter: '2s' });
  await cluster.advance('30s');
  const status = await statusOf(cluster);
  assert.deepEqual(
    [status.phase, status.reason, status.message],
    ['Failed', 'DeadlineExceeded', 'Pod was active on the node longer than the specified deadline'],
  );
  assert.equal(stateOf(status), 'terminated Completed 0');
  await using waiting = await runPod(podOf({ activeDeadlineSeconds: 20 }), { imagePullFails: true });
  await waiting.advance('30s');
  const never = await statusOf(waiting);
  assert.deepEqual([never.phase, never.reason], ['Failed', 'DeadlineExceeded']);
  assert.equal(
    stateOf(never),
    'terminated ContainerStatusUnknown 137: The container could not be located when the pod was terminated',
  );
});
