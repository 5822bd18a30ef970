import type { Pod } from '#api/core.v1.ts';
import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { TestJson } from '#base/testing.ts';
import { admitPod, demandOf, type NodeRoom, podDemandOf, sumOfDemands } from './admit.ts';
import { evictionMessage, rankForEviction } from './eviction.ts';
import { stored } from './stored.testing.ts';

const pod = (spec: TestJson): Pod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { ...stored, name: 'web', namespace: 'default', uid: 'u' },
  spec: { containers: [{ name: 'main' }], ...spec },
});
const asks = (requests: TestJson, extra: TestJson = {}): TestJson => ({ name: 'c', resources: { requests }, ...extra });
const room = (over: Partial<NodeRoom> = {}): NodeRoom => ({
  name: 'n',
  labels: { zone: 'a' },
  taints: [],
  pods: 10,
  allocatable: new Map([
    ['cpu', 4],
    ['memory', 1024],
    ['example.com/gpu', 2],
  ]),
  pressure: { disk: false, memory: false, pid: false },
  ...over,
});
const refusal = (subject: Pod, others: Pod[] = [], over: Partial<NodeRoom> = {}): string => {
  const found = admitPod(subject, podDemandOf(subject), sumOfDemands(others.map(podDemandOf)), room(over));
  return found === undefined ? 'none' : found.reason;
};

test('a Pod takes what its containers ask for together, or an init container beside the sidecars before it where that is more', () => {
  const subject = pod({
    containers: [asks({ cpu: '1', memory: '100' }), asks({ cpu: '500m' })],
    initContainers: [asks({ cpu: '1' }, { restartPolicy: 'Always' }), asks({ cpu: '2', memory: '300' })],
    overhead: { cpu: '100m' },
  });
  assert.deepEqual(
    [...demandOf(subject)],
    [
      ['cpu', 3.1],
      ['memory', 300],
    ],
  );
  assert.deepEqual(
    [...demandOf(pod({ containers: [{ name: 'c', resources: { limits: { cpu: '2' } } }] }))],
    [['cpu', 2]],
    'a limit alone is a request',
  );
});

test('what is short is said before where the Pod wants to be', () => {
  const big = pod({ containers: [asks({ cpu: '3' })], nodeSelector: { zone: 'b' } });
  assert.equal(refusal(big, [big]), 'OutOfcpu');
  assert.equal(refusal(big), 'NodeAffinity');
  assert.equal(
    refusal(pod({ containers: [asks({ memory: '2000', 'example.com/gpu': '3' })] })),
    'UnexpectedAdmissionError',
  );
  assert.equal(refusal(pod({}), Array(10).fill(pod({}))), 'OutOfpods');
  assert.equal(
    refusal(pod({ containers: [asks({ 'example.com/other': '3' })] })),
    'none',
    'what the node does not know is not its to count',
  );
});

test('affinity, ports and taints, where they are known', () => {
  const affinity = (matchExpressions: TestJson[]): TestJson => ({
    affinity: {
      nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions }] } },
    },
  });
  assert.equal(refusal(pod(affinity([{ key: 'zone', operator: 'In', values: ['a', 'b'] }]))), 'none');
  assert.equal(refusal(pod(affinity([{ key: 'zone', operator: 'NotIn', values: ['a'] }]))), 'NodeAffinity');
  assert.equal(refusal(pod(affinity([]))), 'NodeAffinity', 'a term without requirements matches nothing');
  assert.equal(refusal(pod({ nodeSelector: { zone: 'b' } }), [], { labels: undefined }), 'none');
  const port = pod({ containers: [{ name: 'c', ports: [{ containerPort: 80, hostPort: 80 }] }] });
  assert.equal(refusal(port, [port]), 'NodePorts');
  const taints = [{ key: 'k', value: 'v', effect: 'NoExecute' }];
  assert.equal(refusal(pod({}), [], { taints }), 'TaintToleration');
  assert.equal(refusal(pod({ tolerations: [{ key: 'k', value: 'w' }] }), [], { taints }), 'TaintToleration');
  for (const toleration of [
    { key: 'k', value: 'v' },
    { key: 'k', operator: 'Exists', effect: 'NoExecute', tolerationSeconds: 5 },
    { operator: 'Exists' },
  ])
    assert.equal(refusal(pod({ tolerations: [toleration] }), [], { taints }), 'none');
  assert.equal(
    refusal(pod({}), [], { taints: [{ key: 'k', effect: 'NoSchedule' }] }),
    'none',
    'that is for the scheduler',
  );
});

test('under pressure only those are taken that do no more harm', () => {
  const memory = { pressure: { disk: false, memory: true, pid: false } };
  const both = { pressure: { disk: true, memory: true, pid: false } };
  const burstable = pod({ containers: [asks({ cpu: '1' })] });
  assert.equal(refusal(pod({}), [], memory), 'Evicted');
  assert.equal(refusal(burstable, [], memory), 'none');
  assert.equal(refusal(burstable, [], both), 'Evicted');
  assert.equal(
    refusal(pod({ tolerations: [{ key: 'node.kubernetes.io/memory-pressure', operator: 'Exists' }] }), [], memory),
    'none',
  );
  assert.equal(refusal(pod({ priority: 2_000_001_000 }), [], both), 'none');
  assert.equal(
    admitPod(pod({}), podDemandOf(pod({})), sumOfDemands([]), room(both))!.message,
    'Pod was rejected: The node had condition: [MemoryPressure DiskPressure]. ',
  );
});

test('who uses more than was asked for goes first, then by priority, then by how much; the critical stay', () => {
  const candidate = (
    name: string,
    usage: number,
    request: number,
    priority = 0,
  ): { name: string; pod: Pod; usage: number; request: number; containers: [] } => ({
    name,
    pod: pod({ priority }),
    usage,
    request,
    containers: [],
  });
  const ranked = rankForEviction([
    candidate('within', 50, 100),
    candidate('over', 150, 100),
    candidate('high', 900, 100, 10),
    candidate('far over', 300, 100),
    candidate('system', 900, 0, 2_000_000_000),
  ]);
  assert.deepEqual(
    ranked.map(({ name }) => name),
    ['far over', 'over', 'high', 'within'],
  );
  assert.equal(
    evictionMessage('memory', 100 * 2 ** 20, 2 ** 20, {
      ...ranked[0]!,
      containers: [
        { name: 'c', usage: 3 * 2 ** 20, request: 2 ** 20 },
        { name: 'd', usage: 1, request: 2 },
      ],
    }),
    'The node was low on resource: memory. Threshold quantity: 100Mi, available: 1024Ki. Container c was using 3072Ki, request is 1Mi, has larger consumption of memory. ',
  );
});

test('a Pod sets safe parameters of its own namespaces, and no others', () => {
  const sets = (name: string, spec: TestJson = {}): string =>
    refusal(pod({ securityContext: { sysctls: [{ name, value: '1' }] }, ...spec }));
  assert.deepEqual(
    ['net.ipv4.tcp_syncookies', 'net/ipv4/tcp_syncookies', 'kernel.shm_rmid_forced'].map((name) => sets(name)),
    ['none', 'none', 'none'],
  );
  for (const name of [
    'vm.swappiness',
    'kernel.core_pattern',
    'kernel.msgmax',
    'net.core.somaxconn',
    'net/ipv4/../../vm/swappiness',
    'Bad Name',
  ])
    assert.equal(sets(name), 'SysctlForbidden', name);
  assert.equal(sets('net.ipv4.tcp_syncookies', { hostNetwork: true }), 'SysctlForbidden');
  assert.equal(sets('kernel.shm_rmid_forced', { hostIPC: true }), 'SysctlForbidden');
});

test('a Pod of another operating system is refused before anything else is counted', () => {
  const windows = { containers: [asks({ cpu: '100' })] };
  assert.equal(refusal(pod({ ...windows, os: { name: 'windows' } })), 'PodOSNotSupported');
  assert.equal(
    refusal(pod({ ...windows, nodeSelector: { 'kubernetes.io/os': 'windows' } })),
    'PodOSSelectorNodeLabelDoesNotMatch',
  );
  assert.equal(refusal(pod({ os: { name: 'linux' }, nodeSelector: { 'kubernetes.io/os': 'linux' } })), 'NodeAffinity');
});

test('a Pod that names an AppArmor profile does not run where there is none', () => {
  const asks = pod({ containers: [{ name: 'c', securityContext: { appArmorProfile: { type: 'RuntimeDefault' } } }] });
  assert.equal(refusal(asks, [], { appArmor: false }), 'AppArmor');
  assert.equal(refusal(asks, [], { appArmor: true }), 'none');
  assert.equal(
    refusal(pod({ securityContext: { appArmorProfile: { type: 'Unconfined' } } }), [], { appArmor: false }),
    'none',
  );
  assert.equal(
    refusal(pod({ securityContext: { appArmorProfile: { type: 'Localhost', localhostProfile: 'mine' } } }), [], {
      appArmor: false,
    }),
    'AppArmor',
  );
});
