import type { Deployment, ReplicaSet } from '#api/apps.v1.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sampleOf, type TestJson } from '#base/testing.ts';
import { kinds } from '#base/kinds.ts';
import { planDeployment } from './deployment.ts';
import { planRolling, rollingBounds } from './deployment-rolling.ts';
import { planDeploymentStatus } from './deployment-status.ts';

const template = (image: string): TestJson => ({
  metadata: { labels: { app: 'a' } },
  spec: { containers: [{ name: 'c', image }] },
});

function deployment(replicas: number, extra: TestJson = {}, image = 'v2'): Deployment {
  return sampleOf(kinds.Deployment, {
    metadata: { name: 'd', namespace: 'n', uid: 'd', generation: 2 },
    spec: { replicas, selector: { matchLabels: { app: 'a' } }, template: template(image), ...extra },
    status: {},
  });
}

let made = 0;
function replicaSet(
  name: string,
  replicas: number,
  available: number,
  image: string,
  annotations: Record<string, string> = {},
): ReplicaSet {
  const labelled = { ...template(image), metadata: { labels: { app: 'a', 'pod-template-hash': name } } };
  return sampleOf(kinds.ReplicaSet, {
    metadata: {
      name,
      namespace: 'n',
      uid: name,
      generation: 1,
      creationTimestamp: `2026-01-01T00:00:0${made++ % 10}Z`,
      annotations,
    },
    spec: { replicas, template: labelled },
    status: { replicas, readyReplicas: available, availableReplicas: available, observedGeneration: 1 },
  });
}

test('surge rounds up, unavailability down, and one may go when both are zero', () => {
  assert.deepEqual(rollingBounds(deployment(10)), { maxSurge: 3, maxUnavailable: 2 });
  assert.deepEqual(rollingBounds(deployment(1)), { maxSurge: 1, maxUnavailable: 0 });
  assert.deepEqual(
    rollingBounds(deployment(4, { strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: '10%' } } })),
    { maxSurge: 0, maxUnavailable: 1 },
  );
});

test('each step of a rolling update keeps both bounds', () => {
  const cases: [number, TestJson, [number, number], [number, number], [string, number][]][] = [
    // replicas, strategy, new [size, available], old [size, available], expected steps
    [4, { maxSurge: 1, maxUnavailable: 0 }, [0, 0], [4, 4], [['new', 1]]],
    [4, { maxSurge: 1, maxUnavailable: 0 }, [1, 0], [4, 4], []],
    [4, { maxSurge: 1, maxUnavailable: 0 }, [1, 1], [4, 4], [['old', 3]]],
    [4, { maxSurge: 0, maxUnavailable: 2 }, [0, 0], [4, 4], [['old', 2]]],
    [4, { maxSurge: 0, maxUnavailable: 2 }, [0, 0], [2, 2], [['new', 2]]],
    [4, { maxSurge: 1, maxUnavailable: 1 }, [2, 2], [3, 1], [['old', 1]]],
    [2, { maxSurge: 1, maxUnavailable: 0 }, [5, 5], [0, 0], [['new', 2]]],
    // The old status still counts a Pod that is on its way out.
    [4, { maxSurge: 2, maxUnavailable: 0 }, [4, 3], [2, 3], [['old', 1]]],
  ];
  for (const [replicas, rollingUpdate, fresh, old, expected] of cases) {
    const steps = planRolling(
      deployment(replicas, { strategy: { type: 'RollingUpdate', rollingUpdate } }),
      replicaSet('new', ...fresh, 'v2'),
      [replicaSet('old', ...old, 'v1')],
    );
    assert.deepEqual(
      steps.map((step) => [step.replicaSet.metadata.name, step.replicas]),
      expected,
      JSON.stringify([rollingUpdate, fresh, old]),
    );
  }
});

test('a new template makes a ReplicaSet with the next revision, and a known one takes its old back', () => {
  const old = replicaSet('old', 2, 2, 'v1', {
    'deployment.kubernetes.io/revision': '3',
    'deployment.kubernetes.io/desired-replicas': '2',
  });
  const plan = planDeployment({ deployment: deployment(2), replicaSets: [old], oldPodsRunning: false });
  assert.equal(plan.create?.metadata.annotations?.['deployment.kubernetes.io/revision'], '4');
  assert.equal(plan.create?.['spec'].replicas, 1);
  const back = planDeployment({
    deployment: deployment(2, {}, 'v1'),
    replicaSets: [old, replicaSet('new', 0, 0, 'v2', { 'deployment.kubernetes.io/revision': '4' })],
    oldPodsRunning: false,
  });
  assert.equal(back.create, undefined);
  assert.equal(back.revision, '5');
  assert.equal(back.annotate[0]?.annotations['deployment.kubernetes.io/revision-history'], '3');
});

test('revisions are 64-bit integers, and their history has an end', () => {
  const revisionAfter = (revision: string): string | undefined => {
    const old = replicaSet('old', 2, 2, 'v1', { 'deployment.kubernetes.io/revision': revision });
    return planDeployment({ deployment: deployment(2), replicaSets: [old], oldPodsRunning: false }).revision;
  };
  assert.equal(revisionAfter('3546343826724305832'), '3546343826724305833');
  for (const text of ['x', '1.5', '9223372036854775808', '', '-7']) assert.equal(revisionAfter(text), '1', text);
  const history = Array.from({ length: 500 }, (_unused, i) => 1000 + i).join(',');
  const known = replicaSet('new', 0, 0, 'v1', {
    'deployment.kubernetes.io/revision': '9007199254740993',
    'deployment.kubernetes.io/revision-history': history,
  });
  const other = replicaSet('old', 2, 2, 'v2', { 'deployment.kubernetes.io/revision': '9007199254740993' });
  const plan = planDeployment({
    deployment: deployment(2, {}, 'v1'),
    replicaSets: [known, other],
    oldPodsRunning: false,
  });
  assert.equal(plan.revision, '9007199254740994');
  const kept = plan.annotate[0]?.annotations['deployment.kubernetes.io/revision-history'] ?? '';
  assert.ok(kept.length <= 2000 && kept.endsWith(',1499,9007199254740993'), kept);
});

test('Recreate waits for the last old Pod', () => {
  const recreate = deployment(2, { strategy: { type: 'Recreate' } });
  assert.deepEqual(
    planDeployment({
      deployment: recreate,
      replicaSets: [replicaSet('old', 2, 2, 'v1')],
      oldPodsRunning: true,
    }).scale.map(({ replicas }) => replicas),
    [0],
  );
  assert.equal(
    planDeployment({ deployment: recreate, replicaSets: [replicaSet('old', 0, 0, 'v1')], oldPodsRunning: true }).create,
    undefined,
  );
  assert.equal(
    planDeployment({ deployment: recreate, replicaSets: [replicaSet('old', 0, 0, 'v1')], oldPodsRunning: false })
      .create?.['spec'].replicas,
    2,
  );
});

test('scaling in the middle of a rollout is shared in proportion', () => {
  const annotations = {
    'deployment.kubernetes.io/desired-replicas': '10',
    'deployment.kubernetes.io/max-replicas': '13',
  };
  const plan = planDeployment({
    deployment: deployment(15, { strategy: { rollingUpdate: { maxSurge: 3, maxUnavailable: 2 } } }),
    replicaSets: [replicaSet('old', 8, 8, 'v1', annotations), replicaSet('new', 5, 5, 'v2', annotations)],
    oldPodsRunning: false,
  });
  assert.deepEqual(
    plan.scale.map((step) => [step.replicaSet.metadata.name, step.replicas]),
    [
      ['old', 11],
      ['new', 7],
    ],
  );
});

test('a paused Deployment makes no new ReplicaSet', () => {
  const plan = planDeployment({
    deployment: deployment(2, { paused: true }),
    replicaSets: [replicaSet('old', 2, 2, 'v1', { 'deployment.kubernetes.io/desired-replicas': '2' })],
    oldPodsRunning: false,
  });
  assert.equal(plan.create, undefined);
  assert.deepEqual(plan.scale, []);
});

test('old ReplicaSets go beyond the history limit only when the rollout is done', () => {
  const old = ['a', 'b', 'c'].map((name, at) =>
    replicaSet(name, 0, 0, `old${at}`, { 'deployment.kubernetes.io/revision': String(at + 1) }),
  );
  const limited = deployment(1, { revisionHistoryLimit: 1 });
  assert.deepEqual(
    planDeployment({
      deployment: limited,
      replicaSets: [...old, replicaSet('new', 1, 1, 'v2')],
      oldPodsRunning: false,
    }).delete.map(({ metadata }) => metadata.name),
    ['a', 'b'],
  );
  assert.deepEqual(
    planDeployment({ deployment: limited, replicaSets: [...old, replicaSet('new', 1, 0, 'v2')], oldPodsRunning: false })
      .delete,
    [],
  );
});

test('the deadline passes when nothing moves, and completion is final', () => {
  const at = Date.parse('2026-01-01T01:00:00Z');
  const held = [
    {
      type: 'Progressing',
      status: 'True',
      reason: 'ReplicaSetUpdated',
      message: 'x',
      lastUpdateTime: '2026-01-01T00:40:00Z',
      lastTransitionTime: '2026-01-01T00:40:00Z',
    },
  ];
  const stuck = {
    ...deployment(2, { progressDeadlineSeconds: 600 }),
    status: { replicas: 2, updatedReplicas: 2, conditions: held },
  };
  const conditionOf = (conditions: TestJson[], type: string): TestJson =>
    conditions.find((condition) => condition.type === type);
  const newest = replicaSet('new', 2, 0, 'v2');
  const late = planDeploymentStatus({ deployment: stuck, all: [newest], newest }, at);
  assert.equal(conditionOf(late.status['conditions'] as TestJson[], 'Progressing').reason, 'ProgressDeadlineExceeded');
  assert.equal(conditionOf(late.status['conditions'] as TestJson[], 'Available').status, 'False');
  const ready = replicaSet('new', 2, 2, 'v2');
  const done = planDeploymentStatus(
    { deployment: { ...stuck, status: { ...stuck.status, observedGeneration: 2 } }, all: [ready], newest: ready },
    at,
  );
  assert.equal(
    conditionOf(done.status['conditions'] as TestJson[], 'Progressing').message,
    'ReplicaSet "new" has successfully progressed.',
  );
});
