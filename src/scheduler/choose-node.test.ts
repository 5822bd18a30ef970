import type { Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { chooseNode } from './choose-node.ts';
import { podInfoOf, podRequests } from './pod-info.ts';
import { planPreemption } from './preemption.ts';
import { antiAffinity, cacheOf, makeNode, makePod, outcome, podAffinity } from './testing.ts';

test('each filter keeps a Pod off with its own words', () => {
  const cases: [string, Node[], Pod[], Pod, string][] = [
    ['no nodes', [], [], makePod('p'), 'no nodes available to schedule pods'],
    [
      'cpu',
      [makeNode('a'), makeNode('b')],
      [],
      makePod('p', { requests: { cpu: '5' } }),
      '0/2 nodes are available: 2 Insufficient cpu.',
    ],
    [
      'cpu and memory',
      [makeNode('a')],
      [],
      makePod('p', { requests: { cpu: '5', memory: '9Gi' } }),
      '0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.',
    ],
    [
      'used',
      [makeNode('a')],
      [makePod('q', { node: 'a', requests: { cpu: '3' } })],
      makePod('p', { requests: { cpu: '1500m' } }),
      '0/1 nodes are available: 1 Insufficient cpu.',
    ],
    [
      'pods',
      [makeNode('a', { allocatable: { pods: '1' } })],
      [makePod('q', { node: 'a' })],
      makePod('p'),
      '0/1 nodes are available: 1 Too many pods.',
    ],
    [
      'extended',
      [makeNode('a')],
      [],
      makePod('p', { requests: { 'example.com/gpu': '1' } }),
      '0/1 nodes are available: 1 Insufficient example.com/gpu.',
    ],
    [
      'cordon',
      [makeNode('a', { unschedulable: true })],
      [],
      makePod('p'),
      '0/1 nodes are available: 1 node(s) were unschedulable.',
    ],
    [
      'taint',
      [makeNode('a', { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] })],
      [],
      makePod('p'),
      '0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.',
    ],
    [
      'tolerated',
      [makeNode('a', { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] })],
      [],
      makePod('p', { tolerations: [{ key: 'k', operator: 'Exists' }] }),
      'a',
    ],
    [
      'selector',
      [makeNode('a'), makeNode('b', { labels: { disk: 'ssd' } })],
      [],
      makePod('p', { nodeSelector: { disk: 'ssd' } }),
      'b',
    ],
    [
      'no selector match',
      [makeNode('a')],
      [],
      makePod('p', { nodeSelector: { disk: 'ssd' } }),
      "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    ],
    [
      'field',
      [makeNode('a'), makeNode('b')],
      [],
      makePod('p', {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] }],
            },
          },
        },
      }),
      'b',
    ],
    [
      'ports',
      [makeNode('a')],
      [makePod('q', { node: 'a', ports: [{ hostPort: 80 }] })],
      makePod('p', { ports: [{ hostPort: 80, hostIP: '127.0.0.1' }] }),
      "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
    ],
    [
      'other protocol',
      [makeNode('a')],
      [makePod('q', { node: 'a', ports: [{ hostPort: 80 }] })],
      makePod('p', { ports: [{ hostPort: 80, protocol: 'UDP' }] }),
      'a',
    ],
    [
      'anti-affinity',
      [makeNode('a'), makeNode('b')],
      [makePod('q', { node: 'a', labels: { app: 'a' } })],
      makePod('p', { affinity: antiAffinity('kubernetes.io/hostname') }),
      'b',
    ],
    [
      "others' anti-affinity",
      [makeNode('a')],
      [makePod('q', { node: 'a', affinity: antiAffinity('kubernetes.io/hostname') })],
      makePod('p', { labels: { app: 'a' } }),
      "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules.",
    ],
    [
      'affinity',
      [makeNode('a'), makeNode('b')],
      [makePod('q', { node: 'b', labels: { app: 'a' } })],
      makePod('p', { affinity: podAffinity('kubernetes.io/hostname') }),
      'b',
    ],
    [
      'affinity to nobody',
      [makeNode('a')],
      [],
      makePod('p', { affinity: podAffinity('kubernetes.io/hostname') }),
      "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
    ],
    [
      'affinity to itself',
      [makeNode('a')],
      [],
      makePod('p', { labels: { app: 'a' }, affinity: podAffinity('kubernetes.io/hostname') }),
      'a',
    ],
    [
      'other namespace',
      [makeNode('a')],
      [makePod('q', { node: 'a', namespace: 'x', labels: { app: 'a' } })],
      makePod('p', { affinity: antiAffinity('kubernetes.io/hostname') }),
      'a',
    ],
  ];
  for (const [name, nodes, pods, pod, expected] of cases)
    assert.equal(outcome(cacheOf(nodes, pods), pod), expected, name);
});

test('hard spreading bounds the skew and needs the label', () => {
  const spread = [
    {
      topologyKey: 'zone',
      maxSkew: 1,
      whenUnsatisfiable: 'DoNotSchedule',
      labelSelector: { matchLabels: { app: 'a' } },
    },
  ];
  const nodes = [makeNode('a', { labels: { zone: '1' } }), makeNode('b', { labels: { zone: '2' } }), makeNode('c')];
  const running = [makePod('q', { node: 'a', labels: { app: 'a' } })];
  assert.equal(
    outcome(cacheOf(nodes, running), makePod('p', { labels: { app: 'a' }, topologySpreadConstraints: spread })),
    'b',
  );
  const onlyA = makePod('p', {
    labels: { app: 'a' },
    topologySpreadConstraints: spread.map((s) => ({ ...s, nodeAffinityPolicy: 'Ignore' })),
    nodeSelector: { zone: '1' },
  });
  assert.equal(
    outcome(cacheOf(nodes, running), onlyA),
    "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints, 2 node(s) didn't match Pod's node affinity/selector.",
  );
});

test('Pods go where most is free, and those of one owner go apart', () => {
  const nodes = [makeNode('a'), makeNode('b')];
  assert.equal(outcome(cacheOf(nodes, [makePod('q', { node: 'a', requests: { cpu: '2' } })]), makePod('p')), 'b');
  const owned = (name: string, node?: string): Pod => {
    const pod = makePod(name, node === undefined ? {} : { node });
    pod.metadata.ownerReferences = [
      { apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'r', uid: 'r', controller: true },
    ];
    return pod;
  };
  assert.equal(outcome(cacheOf(nodes, [owned('q', 'b')]), owned('p')), 'a');
});

test('claims decide where a Pod can go', () => {
  const claim = (spec: TestJson, annotations = {}): PersistentVolumeClaim =>
    sampleOf(kinds.PersistentVolumeClaim, {
      metadata: { name: 'c', namespace: 'default', uid: 'c', annotations },
      spec,
      status: {},
    });
  const volume = (name: string, node: string): PersistentVolume =>
    sampleOf(kinds.PersistentVolume, {
      metadata: { name },
      status: { phase: 'Available' },
      spec: {
        storageClassName: 'local',
        capacity: { storage: '1Gi' },
        accessModes: ['ReadWriteOnce'],
        nodeAffinity: {
          required: {
            nodeSelectorTerms: [
              { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] },
            ],
          },
        },
      },
    });
  const classOf = (provisioner: string, volumeBindingMode: string): StorageClass =>
    sampleOf(kinds.StorageClass, { metadata: { name: 'local' }, provisioner, volumeBindingMode });
  const wanted = {
    storageClassName: 'local',
    accessModes: ['ReadWriteOnce'],
    resources: { requests: { storage: '1Gi' } },
  };
  const pod = makePod('p', { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'c' } }] });
  const nodes = [makeNode('a'), makeNode('b')];
  assert.equal(outcome(cacheOf(nodes), pod), '0/2 nodes are available: persistentvolumeclaim "c" not found.');
  assert.equal(
    outcome(cacheOf(nodes, [], { claims: [claim(wanted)], classes: [classOf('x', 'Immediate')] }), pod),
    '0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims.',
  );
  const waiting = {
    claims: [claim(wanted)],
    classes: [classOf('kubernetes.io/no-provisioner', 'WaitForFirstConsumer')],
  };
  assert.equal(outcome(cacheOf(nodes, [], { ...waiting, volumes: [volume('v', 'b')] }), pod), 'b');
  assert.equal(
    outcome(cacheOf(nodes, [], waiting), pod),
    "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind.",
  );
  const bound = {
    claims: [claim({ ...wanted, volumeName: 'v' }, { 'pv.kubernetes.io/bind-completed': 'yes' })],
    volumes: [volume('v', 'b')],
  };
  assert.equal(outcome(cacheOf(nodes, [], bound), pod), 'b');
  assert.equal(
    outcome(cacheOf([makeNode('a')], [], bound), pod),
    '0/1 nodes are available: 1 node(s) had volume node affinity conflict.',
  );
});

test('preemption takes the fewest of the least important and honours budgets where it can', () => {
  const nodes = [makeNode('a'), makeNode('b')];
  const pods = [
    makePod('a1', { node: 'a', requests: { cpu: '2' }, priority: 5 }),
    makePod('a2', { node: 'a', requests: { cpu: '2' }, priority: 1, labels: { app: 'a' } }),
    makePod('b1', { node: 'b', requests: { cpu: '4' }, priority: 5 }),
  ];
  const cache = cacheOf(nodes, pods);
  const info = podInfoOf(makePod('p', { requests: { cpu: '2' }, priority: 10 }));
  const decision = chooseNode(info, cache, 0, new SimRandom(1));
  assert.equal(decision.type, 'unschedulable');
  if (decision.type !== 'unschedulable') return;
  const plan = planPreemption(info, decision, cache, []);
  assert.deepEqual(plan.type === 'preempt' ? [plan.victims.node, plan.victims.pods.map((p) => p.key)] : plan, [
    'a',
    ['default/a2'],
  ]);
  const budget: PodDisruptionBudget = sampleOf(kinds.PodDisruptionBudget, {
    metadata: { name: 'b', namespace: 'default' },
    spec: { selector: { matchLabels: { app: 'a' } } },
    status: { disruptionsAllowed: 0 },
  });
  const careful = planPreemption(info, decision, cache, [budget]);
  assert.deepEqual(careful.type === 'preempt' ? [careful.victims.node, careful.victims.budgetViolations] : careful, [
    'a',
    0,
  ]);
  const low = podInfoOf(makePod('p', { requests: { cpu: '2' } }));
  assert.deepEqual(planPreemption(low, decision, cache, []), {
    type: 'none',
    message: '0/2 nodes are available: 2 No preemption victims found for incoming pod.',
  });
});

test('requests count init containers, sidecars and overhead as they run', () => {
  const container = (cpu: string, extra = {}): TestJson => ({ resources: { requests: { cpu } }, ...extra });
  assert.equal(podRequests({ containers: [container('100m'), container('200m')] }).cpu, 300);
  assert.equal(podRequests({ containers: [container('100m')], initContainers: [container('500m')] }).cpu, 500);
  assert.equal(
    podRequests({
      containers: [container('100m')],
      initContainers: [container('50m', { restartPolicy: 'Always' }), container('500m')],
    }).cpu,
    550,
  );
  assert.equal(
    podRequests({
      containers: [container('600m')],
      initContainers: [container('50m', { restartPolicy: 'Always' })],
      overhead: { cpu: '10m' },
    }).cpu,
    660,
  );
});
