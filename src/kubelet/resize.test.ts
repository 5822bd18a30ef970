import type { Container, Pod } from '#api/core.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { podDemandOf, resizeRefusal } from './admit.ts';
import { memoryOf, type Memory } from './container-memory.ts';
import { NodePlaces } from './node-room.ts';
import { planPod } from './pod-plan.ts';
import { containerResources } from './qos.ts';
import {
  allocatedPod,
  firstAllocation,
  groupLimits,
  isAllocated,
  needsRestart,
  reportedResources,
  wantedAllocation,
  widerLimits,
} from './resize.ts';
import { podStatus } from './status.ts';
import { stored } from './stored.testing.ts';

const nowMs = Date.parse('2026-01-01T00:00:00Z');
const nodeMemoryBytes = 2 ** 30;
const pod = (containers: Container[], status: Pod['status'] = {}): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'p' },
  spec: { containers, restartPolicy: 'Always' },
  status,
});
const main = (requests: Record<string, string>, limits?: Record<string, string>): Container => ({
  name: 'main',
  image: 'i',
  resources: { requests, ...(limits === undefined ? {} : { limits }) },
});

test('a Pod has what was allocated to it until what it asks for is allocated too', () => {
  const small = pod([main({ cpu: '100m' })]);
  const large = pod([main({ cpu: '200m' })]);
  const allocation = wantedAllocation(small);
  assert.equal(allocatedPod(small, allocation), small);
  assert.equal(isAllocated(pod([main({ cpu: '0.1' })]), allocation), true, 'amounts are compared, not words');
  assert.equal(isAllocated(large, allocation), false);
  assert.deepEqual(allocatedPod(large, allocation).spec, small.spec);
});

test('a new kubelet takes what was allocated from the status', () => {
  const had = pod([main({ cpu: '200m' }, { cpu: '2' })], {
    containerStatuses: [
      {
        name: 'main',
        image: 'i',
        imageID: '',
        ready: true,
        restartCount: 0,
        allocatedResources: { cpu: '100m' },
        resources: { requests: { cpu: '50m' }, limits: { cpu: '1' } },
      },
    ],
  });
  assert.deepEqual(firstAllocation(had).get('main'), { requests: { cpu: '100m' }, limits: { cpu: '1' } });
  assert.equal(isAllocated(had, firstAllocation(had)), false);
});

test('a resize is infeasible where the node never has as much, deferred where others have it now', () => {
  const allocatable = new Map([
    ['cpu', 4],
    ['memory', 100],
  ]);
  const demand = (cpu: string, memory = '1') => podDemandOf(pod([main({ cpu, memory })]));
  assert.equal(resizeRefusal(demand('2'), demand('2'), allocatable), undefined);
  assert.deepEqual(resizeRefusal(demand('5'), demand('2'), allocatable), {
    reason: 'Infeasible',
    message: "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000",
  });
  assert.deepEqual(resizeRefusal(demand('3'), demand('2'), allocatable), {
    reason: 'Deferred',
    message: "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000",
  });
  assert.equal(resizeRefusal(demand('3', '101'), demand('2'), allocatable)?.reason, 'Infeasible');
});

test('what a resize gives back is there for others, and its own place does not count against it', () => {
  const places = new NodePlaces({
    name: 'n',
    allocatable: { cpu: '4', memory: '100', pods: '10' },
  } as unknown as ConstructorParameters<typeof NodePlaces>[0]);
  const placed = (cpu: string) => {
    const subject = pod([main({ cpu })]);
    return { pod: subject, demand: podDemandOf(subject), isFinished: false };
  };
  const [a, b] = [placed('2'), placed('1')];
  places.hold(a);
  places.hold(b);
  const ask = (cpu: string) => podDemandOf(pod([main({ cpu })]));
  assert.equal(places.resize(a, ask('4'))?.reason, 'Deferred');
  assert.equal(places.resize(a, ask('3')), undefined);
  assert.equal(places.resize(b, ask('2'))?.reason, 'Deferred');
  assert.equal(places.resize(a, ask('1')), undefined);
  assert.equal(places.resize(b, ask('3')), undefined);
});

test('a container starts anew where the policy of a resource that changes says so, and no other', () => {
  const container: Container = {
    ...main({ cpu: '1', memory: '8' }),
    resizePolicy: [
      { resourceName: 'cpu', restartPolicy: 'NotRequired' },
      { resourceName: 'memory', restartPolicy: 'RestartContainer' },
    ],
  };
  const has = groupLimits({ cpuShares: 1024, memoryLimitBytes: 10 });
  assert.equal(needsRestart(container, has, { ...has, cpuShares: 512, cpuQuotaUs: 1000 }), false);
  assert.equal(needsRestart(container, has, { ...has, memoryLimitBytes: 11 }), true);
  assert.equal(needsRestart(main({}), has, { ...has, memoryLimitBytes: 11 }), false);
});

test('while containers change, the group around them is as wide as both need', () => {
  const limited = groupLimits({ cpuShares: 10, cpuQuotaUs: 500, memoryLimitBytes: 100 });
  const other = groupLimits({ cpuShares: 20, cpuQuotaUs: 400, memoryLimitBytes: 200 });
  assert.deepEqual(widerLimits(limited, other), { ...limited, cpuShares: 20, memoryLimitBytes: 200 });
  assert.equal(widerLimits(limited, groupLimits({})).memoryLimitBytes, -1);
});

test('a resize that asks for a restart ends the attempt, and the next one follows without a back-off', () => {
  const subject = pod([main({ cpu: '1' })]);
  const memory: Memory = new Map();
  memoryOf(memory, 'main').resized = 'old';
  const attempt = {
    id: 'old',
    restartCount: 3,
    state: 'running' as const,
    exitCode: 0,
    oomKilled: false,
    startedAtMs: nowMs - 1000,
    finishedAtMs: nowMs,
    imageId: '',
    image: 'i',
    message: '',
    limits: groupLimits({}),
  };
  const plan = planPod(subject, new Map([['main', [attempt]]]), memory, nowMs);
  assert.deepEqual(plan.kill, [{ name: 'main', id: 'old', message: 'Container main resize requires restart' }]);
  const next = planPod(subject, new Map([['main', [{ ...attempt, state: 'exited', exitCode: 137 }]]]), memory, nowMs);
  assert.deepEqual(
    next.start.map(({ restartCount }) => restartCount),
    [4],
  );
});

test('the status tells what is allocated, what the container has, and where the resize stands', () => {
  const subject = pod([main({ cpu: '200m', memory: '50' }, { cpu: '400m', memory: '100' })]);
  const container = subject.spec.containers[0]!;
  const wanted = groupLimits(containerResources(subject, container, nodeMemoryBytes));
  assert.equal(reportedResources(container, { has: wanted, wanted }), container.resources);
  const has = { ...wanted, cpuShares: 102, cpuQuotaUs: 10_000 };
  const status = podStatus({
    pod: subject,
    observed: new Map([
      [
        'main',
        [
          {
            id: 'c',
            restartCount: 0,
            state: 'running',
            exitCode: 0,
            oomKilled: false,
            startedAtMs: nowMs,
            finishedAtMs: 0,
            imageId: '',
            image: 'i',
            message: '',
            limits: has,
          },
        ],
      ],
    ]),
    memory: new Map(),
    plan: undefined,
    podIp: '',
    hostIp: '',
    nowMs,
    sandboxReady: true,
    startedAtMs: nowMs,
    nodeMemoryBytes,
    resize: { pending: { reason: 'Deferred', message: 'no room' }, progress: { error: '' } },
  });
  const [shown] = status.containerStatuses!;
  assert.deepEqual(shown!.allocatedResources, { cpu: '200m', memory: '50' });
  assert.deepEqual(shown!.resources, {
    requests: { cpu: '100m', memory: '50' },
    limits: { cpu: '100m', memory: '100' },
  });
  const conditions = (status.conditions ?? []).filter(({ type }) => type.startsWith('PodResize'));
  assert.deepEqual(
    conditions.map(({ type, status: holds, reason, message }) => [type, holds, reason, message]),
    [
      ['PodResizePending', 'True', 'Deferred', 'no room'],
      ['PodResizeInProgress', 'True', undefined, undefined],
    ],
  );
});
