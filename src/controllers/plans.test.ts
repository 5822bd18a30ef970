import type { ControllerRevision, DaemonSet, ReplicaSet, StatefulSet } from '#api/apps.v1.ts';
import type { HorizontalPodAutoscaler } from '#api/autoscaling.v2.ts';
import type { Node, PersistentVolume, PersistentVolumeClaim, Pod, ResourceQuota, Service } from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { ClusterRole } from '#api/rbac.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { planAggregation } from './clusterrole-aggregation.ts';
import { nodeSuits, planDaemonSet } from './daemonset.ts';
import { planBudget } from './disruption.ts';
import { planEndpointSlices } from './endpointslice.ts';
import { planCollection } from './garbage-collector.ts';
import { planClaim } from './claim-plan.ts';
import { emptyMemory, stabilize } from './hpa-behavior.ts';
import { planResourceMetric } from './hpa-metrics.ts';
import { evictionDelayMs, planNode } from './node-lifecycle.ts';
import { planReplicaSet } from './replicaset.ts';
import { planQuotaUsage } from './resource-quota.ts';
import { planStatefulSet } from './statefulset.ts';

const now = Date.parse('2026-01-01T01:00:00Z');

function pod(name: string, extra: TestJson = {}): Pod {
  const ready = extra.ready !== false;
  return sampleOf(kinds.Pod, {
    metadata: {
      name,
      namespace: 'n',
      uid: name,
      creationTimestamp: '2026-01-01T00:00:00Z',
      labels: { app: 'a', ...extra.labels },
      ...(extra.deleting === true ? { deletionTimestamp: '2026-01-01T00:59:00Z' } : {}),
      ...(extra.annotations === undefined ? {} : { annotations: extra.annotations }),
    },
    spec: {
      containers: [{ name: 'c', resources: { requests: extra.requests ?? {} } }],
      ...(extra.node === undefined ? {} : { nodeName: extra.node }),
      ...extra.spec,
    },
    status: {
      phase: extra.phase ?? 'Running',
      ...(extra.ip === undefined ? {} : { podIP: extra.ip }),
      conditions: [{ type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: '2026-01-01T00:30:00Z' }],
    },
  });
}

test('a ReplicaSet deletes what hurts least first', () => {
  const set: ReplicaSet = sampleOf(kinds.ReplicaSet, {
    metadata: { name: 'r', namespace: 'n', uid: 'r' },
    spec: { replicas: 1, selector: { matchLabels: { app: 'a' } }, template: {} },
  });
  const owned = [
    pod('ready', { node: 'x' }),
    pod('unready', { node: 'x', ready: false }),
    pod('unplaced', { phase: 'Pending', ready: false }),
    pod('cheap', { node: 'x', annotations: { 'controller.kubernetes.io/pod-deletion-cost': '-5' } }),
  ];
  assert.deepEqual(
    planReplicaSet({ replicaSet: set, owned, orphans: [] }, now).delete.map(({ metadata }) => metadata.name),
    ['unplaced', 'unready', 'cheap'],
  );
  assert.equal(
    planReplicaSet({ replicaSet: set, owned: [pod('x', { deleting: true })], orphans: [pod('orphan')] }, now).adopt
      .length,
    1,
  );
  assert.equal(planReplicaSet({ replicaSet: set, owned: [], orphans: [] }, now).create, 1);
  assert.equal(
    planReplicaSet({ replicaSet: set, owned: [pod('x', { labels: { app: 'b' } })], orphans: [] }, now).release.length,
    1,
  );
});

function set(replicas: number, extra: TestJson = {}): StatefulSet {
  return sampleOf(kinds.StatefulSet, {
    metadata: { name: 's', namespace: 'n', uid: 's' },
    spec: { replicas, selector: { matchLabels: { app: 'a' } }, template: {}, ...extra },
    status: {},
  });
}
const revision = (name: string): ControllerRevision => sampleOf(kinds.ControllerRevision, { metadata: { name } });
const of = (name: string, hash = 'r1', extra: TestJson = {}): Pod =>
  pod(name, { labels: { 'controller-revision-hash': hash }, ...extra });

test('a StatefulSet goes in order up and down, and updates from the top', () => {
  const plan = (object: StatefulSet, pods: Pod[], update = 'r1'): TestJson => {
    const { create, delete: gone } = planStatefulSet(
      { set: object, pods, currentRevision: revision('r1'), updateRevision: revision(update) },
      now,
    );
    return [
      create.map(({ ordinal, revision: used }) => `${ordinal}@${used.metadata.name}`),
      gone.map(({ pod: which, reason }) => `${which.metadata.name} ${reason}`),
    ];
  };
  assert.deepEqual(plan(set(3), []), [['0@r1'], []]);
  assert.deepEqual(plan(set(3), [of('s-0', 'r1', { ready: false })]), [[], []]);
  assert.deepEqual(plan(set(3), [of('s-0')]), [['1@r1'], []]);
  assert.deepEqual(plan(set(3, { podManagementPolicy: 'Parallel' }), []), [['0@r1', '1@r1', '2@r1'], []]);
  assert.deepEqual(plan(set(1), [of('s-0'), of('s-1'), of('s-2')]), [[], ['s-2 scale']]);
  assert.deepEqual(plan(set(1), [of('s-0'), of('s-1'), of('s-2', 'r1', { deleting: true })]), [[], []]);
  const unready = (name: string): Pod => of(name, 'r1', { ready: false });
  // What is not well holds the scaling up, but for the one that all others would wait for.
  assert.deepEqual(plan(set(0), ['s-0', 's-1', 's-2'].map(unready)), [[], []]);
  assert.deepEqual(plan(set(0), [of('s-0'), unready('s-1'), of('s-2')]), [[], ['s-2 scale']]);
  assert.deepEqual(plan(set(0), [of('s-0'), of('s-1'), unready('s-2')]), [[], ['s-2 scale']]);
  assert.deepEqual(plan(set(2), [of('s-0'), of('s-1')], 'r2'), [[], ['s-1 update']]);
  assert.deepEqual(plan(set(2), [of('s-0'), of('s-1', 'r2', { ready: false })], 'r2'), [[], []]);
  assert.deepEqual(
    plan(
      set(2, { updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 2 } } }),
      [of('s-0'), of('s-1')],
      'r2',
    ),
    [[], []],
  );
  // In parallel too one at a time: the one that is being made again is down.
  assert.deepEqual(plan(set(3, { podManagementPolicy: 'Parallel' }), [of('s-0'), of('s-1')], 'r2'), [['2@r2'], []]);
  assert.deepEqual(plan(set(3, { podManagementPolicy: 'Parallel' }), [of('s-0'), of('s-1'), of('s-2', 'r2')], 'r2'), [
    [],
    ['s-1 update'],
  ]);
  assert.deepEqual(plan(set(2, { updateStrategy: { type: 'OnDelete' } }), [of('s-0'), of('s-1')], 'r2'), [[], []]);
  assert.deepEqual(plan(set(2), [of('s-0', 'r1', { phase: 'Failed' }), of('s-1')]), [[], ['s-0 failed']]);
  assert.deepEqual(plan(set(2, { ordinals: { start: 5 } }), []), [['5@r1'], []]);
});

const node = (name: string, extra: TestJson = {}): Node =>
  sampleOf(kinds.Node, {
    metadata: { name, labels: extra.labels ?? {} },
    spec: { taints: extra.taints },
    status: { conditions: [{ type: 'Ready', status: extra.ready ?? 'True' }], ...extra.status },
  });

test('a DaemonSet has one Pod on each node that suits it', () => {
  const daemon: DaemonSet = sampleOf(kinds.DaemonSet, {
    metadata: { name: 'd', namespace: 'n', uid: 'd' },
    spec: { selector: { matchLabels: { app: 'a' } }, template: { spec: { containers: [] } } },
    status: {},
  });
  const tainted = node('b', { taints: [{ key: 'k', effect: 'NoSchedule' }] });
  assert.deepEqual(nodeSuits(daemon, tainted), { run: false, stay: true });
  assert.deepEqual(
    nodeSuits(daemon, node('c', { taints: [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute' }] })),
    { run: true, stay: true },
  );
  const plan = planDaemonSet(
    { set: daemon, nodes: [node('a'), tainted, node('c')], pods: [of('x', 'h', { node: 'c' })], hash: 'h' },
    now,
  );
  assert.deepEqual(
    [plan.create, plan.delete.length, plan.status['desiredNumberScheduled'], plan.status['numberReady']],
    [['a'], 0, 2, 1],
  );
  const failed = { ...of('f', 'h', { node: 'a' }), status: { phase: 'Failed', reason: 'Evicted' } };
  const waiting = planDaemonSet(
    { set: daemon, nodes: [node('a')], pods: [failed], hash: 'h', failedWaitMs: () => 700 },
    now,
  );
  assert.deepEqual(
    [waiting.create, waiting.delete, waiting.requeueAfterMs],
    [[], [], 700],
    'a node that refuses Pods is not offered the next one at once',
  );
  assert.deepEqual(
    planDaemonSet(
      { set: daemon, nodes: [node('a')], pods: [failed], hash: 'h', failedWaitMs: () => 0 },
      now,
    ).delete.map(({ reason }) => reason),
    ['failed'],
  );
  const update = planDaemonSet(
    {
      set: daemon,
      nodes: [node('a'), node('c')],
      pods: [of('x', 'old', { node: 'a' }), of('y', 'old', { node: 'c' })],
      hash: 'h',
    },
    now,
  );
  assert.deepEqual(
    update.delete.map(({ reason }) => reason),
    ['update'],
  );
});

test('endpoints that take connections say for whom they are, where their Service wants them near', () => {
  const hintsOf = (trafficDistribution?: string): unknown[] => {
    const service: Service = sampleOf(kinds.Service, {
      metadata: { name: 's', namespace: 'n', uid: 's' },
      spec: {
        selector: { app: 'a' },
        ports: [{ port: 80 }],
        ...(trafficDistribution === undefined ? {} : { trafficDistribution }),
      },
    });
    const pods = [pod('a', { ip: '10.0.0.1', node: 'x' }), pod('b', { ip: '10.0.0.2', node: 'y', ready: false })];
    const { create } = planEndpointSlices({ service, pods, slices: [], nodeZone: (node) => `zone-${node}` });
    return (create[0]?.endpoints ?? []).map(({ hints }) => hints);
  };
  const zone = { forZones: [{ name: 'zone-x' }] };
  assert.deepEqual(hintsOf(), [undefined, undefined]);
  assert.deepEqual(hintsOf('PreferSameZone'), [zone, undefined]);
  assert.deepEqual(hintsOf('PreferClose'), [zone, undefined]);
  assert.deepEqual(hintsOf('PreferSameNode'), [{ ...zone, forNodes: [{ name: 'x' }] }, undefined]);
});

test('slices name ready Pods and change as little as they can', () => {
  const service: Service = sampleOf(kinds.Service, {
    metadata: { name: 's', namespace: 'n', uid: 's' },
    spec: { selector: { app: 'a' }, ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
  });
  const input = (pods: Pod[], slices: EndpointSlice[] = []): TestJson =>
    planEndpointSlices({ service, pods, slices, nodeZone: () => undefined });
  const first = input([pod('a', { ip: '10.0.0.1' }), pod('b', { ip: '10.0.0.2', ready: false }), pod('c')]);
  assert.deepEqual(
    first.create[0].endpoints.map((e: TestJson) => [e.addresses[0], e.conditions.ready]),
    [
      ['10.0.0.1', true],
      ['10.0.0.2', false],
    ],
  );
  assert.deepEqual(first.create[0].ports, [{ name: 'http', port: 8080, protocol: 'TCP' }]);
  const held = { ...first.create[0], metadata: { ...first.create[0].metadata, name: 's-1' } };
  const same = input([pod('a', { ip: '10.0.0.1' }), pod('b', { ip: '10.0.0.2', ready: false })], [held]);
  assert.deepEqual([same.create.length, same.update.length, same.delete.length], [0, 0, 0]);
  const leaving = input([pod('a', { ip: '10.0.0.1', deleting: true })], [held]);
  assert.deepEqual(leaving.update[0].endpoints[0].conditions, { ready: false, serving: true, terminating: true });
  const many = input(Array.from({ length: 150 }, (_, i) => pod(`p${i}`, { ip: `10.0.1.${i}` })));
  assert.deepEqual(
    many.create.map((slice: TestJson) => slice.endpoints.length),
    [100, 50],
  );
});

test('an object is collected when all its owners are gone, and only then', () => {
  const free = { finalizers: [], dependents: 'none' as const };
  assert.deepEqual(planCollection(free, [{ uid: 'a', state: 'dangling' }]), {
    type: 'delete',
    propagationPolicy: 'Background',
  });
  assert.deepEqual(
    planCollection(free, [
      { uid: 'a', state: 'dangling' },
      { uid: 'b', state: 'solid' },
    ]),
    { type: 'dropOwners', uids: ['a'] },
  );
  assert.deepEqual(planCollection(free, [{ uid: 'a', state: 'solid' }]), { type: 'none' });
  assert.deepEqual(planCollection({ finalizers: [], dependents: 'some' }, [{ uid: 'a', state: 'waiting' }]), {
    type: 'delete',
    propagationPolicy: 'Foreground',
  });
  assert.deepEqual(planCollection({ finalizers: [], dependents: 'waiting' }, [{ uid: 'a', state: 'waiting' }]), {
    type: 'delete',
    propagationPolicy: 'Foreground',
    unblocks: true,
  });
  assert.deepEqual(planCollection({ finalizers: ['orphan'], dependents: 'some' }, [{ uid: 'a', state: 'dangling' }]), {
    type: 'delete',
    propagationPolicy: 'Orphan',
  });
});

test('a silent node becomes unknown and tainted, and Pods leave when their toleration ends', () => {
  const plan = planNode(node('a'), true, now);
  assert.equal(plan.conditions?.find(({ type }) => type === 'Ready')?.reason, 'NodeStatusUnknown');
  assert.deepEqual(
    plan.taints?.map(({ key, effect }) => `${key} ${effect}`),
    ['node.kubernetes.io/unreachable NoSchedule', 'node.kubernetes.io/unreachable NoExecute'],
  );
  assert.deepEqual(planNode(node('a'), false, now).taints, undefined);
  const taints = [{ key: 'node.kubernetes.io/unreachable', effect: 'NoExecute', timeAdded: '2026-01-01T00:59:00Z' }];
  assert.equal(evictionDelayMs(pod('p'), taints, now), 0);
  assert.equal(
    evictionDelayMs(
      pod('p', {
        spec: {
          tolerations: [
            { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 300 },
          ],
        },
      }),
      taints,
      now,
    ),
    240_000,
  );
  assert.equal(evictionDelayMs(pod('p', { spec: { tolerations: [{ operator: 'Exists' }] } }), taints, now), undefined);
});

test('claims bind the smallest volume that fits, wait for their consumer, or are provisioned', () => {
  const claim = (extra: TestJson = {}, annotations = {}): PersistentVolumeClaim =>
    sampleOf(kinds.PersistentVolumeClaim, {
      metadata: { name: 'c', namespace: 'n', uid: 'c', annotations },
      spec: {
        storageClassName: 'x',
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '5Gi' } },
        ...extra,
      },
    });
  const volume = (name: string, size: string): PersistentVolume =>
    sampleOf(kinds.PersistentVolume, {
      metadata: { name },
      spec: { storageClassName: 'x', accessModes: ['ReadWriteOnce'], capacity: { storage: size } },
    });
  const classOf = (provisioner: string, mode: string) => (): StorageClass =>
    sampleOf(kinds.StorageClass, { metadata: { name: 'x' }, provisioner, volumeBindingMode: mode });
  const bound = planClaim(
    claim(),
    [volume('big', '50Gi'), volume('fit', '5Gi'), volume('small', '1Gi')],
    () => undefined,
  );
  assert.equal(bound.type === 'bind' ? bound.volume.metadata.name : bound.type, 'fit');
  const waits = planClaim(claim(), [volume('fit', '5Gi')], classOf('tiphys.io/local-path', 'WaitForFirstConsumer'));
  assert.equal(waits.type === 'wait' ? waits.event?.reason : waits.type, 'WaitForFirstConsumer');
  assert.equal(
    planClaim(
      claim({}, { 'volume.kubernetes.io/selected-node': 'a' }),
      [],
      classOf('tiphys.io/local-path', 'WaitForFirstConsumer'),
    ).type,
    'provision',
  );
  // A directory of a node is neither a block device nor a copy: nobody gets an empty one in place of either.
  const snapshot = { apiGroup: 'snapshot.storage.k8s.io', kind: 'VolumeSnapshot', name: 's' };
  for (const [extra, why] of [
    [{ volumeMode: 'Block' }, /does not support block volume provisioning$/],
    [{ dataSource: snapshot, dataSourceRef: snapshot }, /Only CSI plugin can provision a claim with a datasource$/],
  ] as const) {
    const refused = planClaim(
      claim(extra, { 'volume.kubernetes.io/selected-node': 'a' }),
      [],
      classOf('tiphys.io/local-path', 'WaitForFirstConsumer'),
    );
    assert.equal(refused.type, 'wait');
    assert.match(refused.type === 'wait' ? (refused.event?.message ?? '') : '', why);
  }
});

test('a budget allows what is healthy beyond what it wants', () => {
  const budget = (spec: TestJson): PodDisruptionBudget =>
    sampleOf(kinds.PodDisruptionBudget, { metadata: { name: 'b', namespace: 'n', generation: 1 }, spec });
  const allowed = (spec: TestJson, pods: Pod[], wanted: number | string): number | undefined =>
    planBudget({ budget: budget(spec), pods, wanted }, now).status.disruptionsAllowed;
  const three = [pod('a'), pod('b'), pod('c')];
  assert.equal(allowed({ minAvailable: 2 }, three, 3), 1);
  assert.equal(allowed({ minAvailable: '50%' }, three, 3), 1);
  assert.equal(allowed({ maxUnavailable: 1 }, [pod('a'), pod('b', { ready: false }), pod('c')], 3), 0);
  assert.equal(allowed({ maxUnavailable: 1 }, three, 'found no controllers'), 0);
});

test('an autoscaler computes, tolerates, damps and limits', () => {
  const pods = [pod('a', { requests: { cpu: '100m' } }), pod('b', { requests: { cpu: '100m' } })];
  const usages = (
    cpu: number[],
  ): Map<string, { timestampMs: number; containers: Record<string, Record<string, number>> }> =>
    new Map(cpu.map((value, i) => [['a', 'b'][i]!, { timestampMs: now, containers: { c: { cpu: value } } }]));
  const wanted = (cpu: number[]): TestJson =>
    planResourceMetric({
      pods,
      usages: usages(cpu),
      resource: 'cpu',
      target: { type: 'Utilization', averageUtilization: 50 },
      currentReplicas: 2,
      nowMs: now,
    });
  assert.equal(wanted([100, 100]).replicas, 4);
  assert.equal(wanted([52, 50]).replicas, 2);
  assert.equal(wanted([10, 10]).replicas, 1);
  assert.equal(wanted([200]).replicas, 4);
  const hpa: HorizontalPodAutoscaler = sampleOf(kinds.HorizontalPodAutoscaler, {
    metadata: { name: 'h' },
    spec: { minReplicas: 1, maxReplicas: 20 },
  });
  const up = stabilize({ hpa, current: 2, raw: 15, before: emptyMemory(), nowMs: now });
  assert.deepEqual([up.replicas, up.limited.reason], [6, 'ScaleUpLimit']);
  const down = stabilize({ hpa, current: 6, raw: 1, before: up.memory, nowMs: now + 15_000 });
  assert.deepEqual([down.replicas, down.ableToScale.reason], [6, 'ScaleDownStabilized']);
  assert.equal(stabilize({ hpa, current: 6, raw: 1, before: down.memory, nowMs: now + 400_000 }).replicas, 1);
});

test('quotas count what is used, by scope', () => {
  const quota: ResourceQuota = sampleOf(kinds.ResourceQuota, {
    metadata: { name: 'q', namespace: 'n' },
    spec: { hard: { pods: '5', 'requests.cpu': '1', 'count/configmaps': '3' } },
  });
  const observed = {
    pods: () => [
      pod('a', { requests: { cpu: '300m' } }),
      pod('b', { requests: { cpu: '200m' } }),
      pod('c', { phase: 'Succeeded' }),
    ],
    services: () => [],
    claims: () => [],
    count: (resource: string) => (resource === 'configmaps' ? 1 : undefined),
  };
  assert.deepEqual(planQuotaUsage(quota, observed), { pods: '2', 'requests.cpu': '500m', 'count/configmaps': '1' });
});

test('an aggregated role is the union of what its selectors match', () => {
  const role = (name: string, labels: Record<string, string>, extra: TestJson): ClusterRole =>
    sampleOf(kinds.ClusterRole, { metadata: { name, labels }, ...extra });
  const top = role('admin', {}, { aggregationRule: { clusterRoleSelectors: [{ matchLabels: { to: 'admin' } }] } });
  const rule = { apiGroups: [''], resources: ['pods'], verbs: ['get'] };
  assert.deepEqual(
    planAggregation(top, [
      top,
      role('a', { to: 'admin' }, { rules: [rule] }),
      role('b', { to: 'admin' }, { rules: [rule] }),
      role('c', {}, { rules: [{ ...rule, verbs: ['delete'] }] }),
    ]),
    [rule],
  );
  assert.equal(planAggregation(role('plain', {}, {}), []), undefined);
});
