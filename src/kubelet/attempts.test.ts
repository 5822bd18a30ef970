import type { Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerStatus } from '#engine/engine.ts';
import { attemptOf } from './attempts.ts';
import { labelRestartCount } from './pod-labels.ts';
import type { Memory } from './container-memory.ts';
import { planPod } from './pod-plan.ts';
import { podStatus } from './status.ts';
import { stored } from './stored.testing.ts';

const now = Date.parse('2026-01-01T00:00:00Z');
const status = (over: Partial<ContainerStatus>): ContainerStatus => ({
  id: 'c1',
  name: 'k8s_c',
  owner: 'kubelet',
  image: 'busybox',
  imageId: 'i',
  state: 'running',
  pid: 1,
  exitCode: undefined,
  oomKilled: false,
  error: '',
  createdAtMs: now,
  startedAtMs: now,
  finishedAtMs: 0,
  labels: {},
  restartCount: 0,
  logPath: '',
  resources: {},
  ...over,
});
const pod = (restartPolicy: string): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'web', namespace: 'default', uid: 'u' },
  spec: { containers: [{ name: 'main', image: 'busybox' }], restartPolicy },
});
const failed = (restartCount: number): ContainerStatus =>
  status({
    state: 'created',
    startedAtMs: 0,
    exitCode: 127,
    error: 'no such file or directory',
    labels: { [labelRestartCount]: String(restartCount) },
  });
const look = (policy: string, restartCount: number): { state: unknown; phase: string; start: number[] } => {
  const memory: Memory = new Map();
  const observed = new Map([['main', [attemptOf(failed(restartCount), '')]]]);
  const plan = planPod(pod(policy), observed, memory, now);
  const shown = podStatus({
    pod: pod(policy),
    observed,
    memory,
    plan,
    podIp: '',
    hostIp: '',
    nowMs: now,
    sandboxReady: true,
    nodeMemoryBytes: 2 ** 30,
    startedAtMs: now,
  });
  return {
    state: shown.containerStatuses?.[0]?.state,
    phase: shown.phase ?? '',
    start: plan.start.map((entry) => entry.restartCount),
  };
};

test('a container that cannot be started is over, and its Pod fails where nothing is to be tried again', () => {
  assert.deepEqual(look('Never', 0), {
    phase: 'Failed',
    start: [],
    state: {
      terminated: {
        exitCode: 128,
        reason: 'StartError',
        message: 'no such file or directory',
        startedAt: '1970-01-01T00:00:00Z',
        finishedAt: '2026-01-01T00:00:00Z',
        containerID: 'tiphys://c1',
      },
    },
  });
});

test('where it is to be tried again each try counts, with the back-off of every other end', () => {
  for (const policy of ['Always', 'OnFailure']) {
    assert.deepEqual(look(policy, 0).start, [1], 'at once the first time');
    const later = look(policy, 2);
    assert.deepEqual(later.start, []);
    assert.match(JSON.stringify(later.state), /CrashLoopBackOff.*back-off 20s/);
  }
});

test('a container that was only made is started yet; one that runs or has ended is what it is', () => {
  assert.equal(attemptOf(status({ state: 'created', startedAtMs: 0 }), '').state, 'created');
  assert.equal(attemptOf(status({ state: 'paused' }), '').state, 'running');
  const ended = attemptOf(status({ state: 'exited', exitCode: 3, finishedAtMs: now + 5 }), 'bye');
  assert.deepEqual([ended.state, ended.exitCode, ended.message, ended.reason], ['exited', 3, 'bye', undefined]);
});
