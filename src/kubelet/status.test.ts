import type { Pod } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { TestJson } from '#base/testing.ts';
import { memoryOf, type Attempt, type Memory } from './container-memory.ts';
import { planPod } from './pod-plan.ts';
import { podStatus } from './status.ts';
import { stored } from './stored.testing.ts';
import { groupLimits } from './resize.ts';

const now = Date.parse('2026-01-01T00:00:00Z');
const pod: Pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'web', namespace: 'default', uid: 'u' },
  spec: { containers: [{ name: 'main', image: 'busybox' }], restartPolicy: 'Always' },
};
const attempt = (over: Partial<Attempt>): Attempt => ({
  id: 'c1',
  restartCount: 0,
  state: 'running',
  exitCode: 0,
  oomKilled: false,
  startedAtMs: now,
  finishedAtMs: now,
  imageId: 'sha256:1',
  image: 'busybox',
  message: '',
  limits: groupLimits({}),
  ...over,
});

function statusOf(subject: Pod, attempts: Attempt[], memory: Memory = new Map()): TestJson {
  const observed = new Map([['main', attempts]]);
  return podStatus({
    pod: subject,
    observed,
    memory,
    plan: planPod(subject, observed, memory, now),
    podIp: '10.244.0.2',
    hostIp: '10.0.0.1',
    nowMs: now,
    sandboxReady: true,
    nodeMemoryBytes: 2 ** 30,
    startedAtMs: now,
  });
}
const conditionOf = (status: TestJson, type: string): TestJson =>
  status.conditions.find((condition: TestJson) => condition.type === type);

test('a Pod is Running and Ready when its container runs and is ready', () => {
  const memory: Memory = new Map();
  Object.assign(memoryOf(memory, 'main'), { ready: true, started: true });
  const status = statusOf(pod, [attempt({})], memory);
  assert.equal(status.phase, 'Running');
  assert.equal(conditionOf(status, 'Ready').status, 'True');
  assert.equal(status.containerStatuses[0].containerID, 'tiphys://c1');
});

test('a container that waits for its back-off shows CrashLoopBackOff and how it ended last', () => {
  const memory: Memory = new Map();
  const status = statusOf(pod, [attempt({ state: 'exited', exitCode: 1, restartCount: 2 })], memory);
  assert.equal(status.containerStatuses[0].state.waiting.reason, 'CrashLoopBackOff');
  assert.equal(
    status.containerStatuses[0].state.waiting.message,
    'back-off 20s restarting failed container=main pod=web_default(u)',
  );
  assert.equal(status.containerStatuses[0].lastState.terminated.exitCode, 1);
  assert.equal(status.phase, 'Running');
  assert.equal(conditionOf(status, 'Ready').message, 'containers with unready status: [main]');
});

test('out of memory is the reason where the kernel killed it', () => {
  const status = statusOf({ ...pod, spec: { ...pod.spec, restartPolicy: 'Never' } }, [
    attempt({ state: 'exited', exitCode: 137, oomKilled: true }),
  ]);
  assert.equal(status.phase, 'Failed');
  assert.equal(status.containerStatuses[0].state.terminated.reason, 'OOMKilled');
});

test('conditions of others stay, and a condition keeps its time while it does not change', () => {
  const before = {
    ...pod,
    status: {
      conditions: [
        { type: 'DisruptionTarget', status: 'True' },
        { type: 'Initialized', status: 'True', lastTransitionTime: '2020-01-01T00:00:00Z' },
      ],
    },
  };
  const status = statusOf(before, [attempt({})]);
  assert.equal(conditionOf(status, 'DisruptionTarget').status, 'True');
  assert.equal(conditionOf(status, 'Initialized').lastTransitionTime, '2020-01-01T00:00:00Z');
});

test('an init container that is done is ready, a sidecar that has ended is not', () => {
  const subject: Pod = {
    ...pod,
    spec: {
      ...pod.spec,
      restartPolicy: 'Never',
      initContainers: [{ name: 'first' }, { name: 'side', restartPolicy: 'Always' }],
    },
  };
  const ended = (id: string): Attempt[] => [attempt({ id, state: 'exited' })];
  const observed = new Map([
    ['first', ended('f')],
    ['side', ended('s')],
    ['main', ended('m')],
  ]);
  const memory: Memory = new Map();
  const status = podStatus({
    pod: subject,
    observed,
    memory,
    plan: planPod(subject, observed, memory, now),
    podIp: '',
    hostIp: '',
    nowMs: now,
    sandboxReady: true,
    nodeMemoryBytes: 2 ** 30,
    startedAtMs: now,
  });
  assert.equal(status.phase, 'Succeeded');
  assert.deepEqual(
    status.initContainerStatuses?.map((entry) => entry.ready),
    [true, false],
  );
});
