import { test } from 'node:test';
import assert from 'node:assert/strict';
import type { KubeObject } from '#base/objects.ts';
import { rehearse } from './rehearse.ts';
import type { Manifest, Rehearsal, WorkloadReport } from './types.ts';

const manifests = (...objects: KubeObject[]): Manifest[] => objects.map((object, index) => ({ object, origin: `manifest ${index + 1}` }));
const workload = (result: Rehearsal | undefined, kind: string, name: string): WorkloadReport => result!.workloads.find((report) => report.kind === kind && report.name === name)!;

const deployment = (name: string, replicas: number, pod: Record<string, unknown> = {}) => ({
  apiVersion: 'apps/v1', kind: 'Deployment', metadata: { name, namespace: 'default' },
  spec: { replicas, selector: { matchLabels: { app: name } }, template: { metadata: { labels: { app: name } }, spec: { containers: [{ name: 'main', image: 'x', ...pod }], topologySpreadConstraints: [{ maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'DoNotSchedule', labelSelector: { matchLabels: { app: name } } }] } } },
});
const budget = { apiVersion: 'policy/v1', kind: 'PodDisruptionBudget', metadata: { name: 'web', namespace: 'default' }, spec: { minAvailable: 2, selector: { matchLabels: { app: 'web' } } } };
const hour = 3_600_000;

test('a node that dies degrades what is spread over three, and makes a single Pod unavailable', async () => {
  const options = { manifests: manifests(deployment('web', 3), deployment('lonely', 1)), nodes: 3, faults: [{ kind: 'kill-node' as const, atMs: 600_000 }, { kind: 'kill-node' as const, atMs: 1_800_000 }], forMs: hour };
  const seeds = [1, 2, 3, 4];
  const results = await rehearse(options, seeds);
  const web = workload(results[0], 'Deployment', 'web');
  assert.ok(web.lowestReady >= 1 && web.belowSeconds > 300, JSON.stringify(web));
  assert.equal(web.downSeconds, 0);
  assert.ok(results.some((result) => workload(result, 'Deployment', 'lonely').downSeconds > 300), 'in one of the seeds the lonely Pod is hit');
  assert.deepEqual(await rehearse(options, seeds), results, 'the same seed tells the same story');
});

test('a drain waits for the disruption budget, and keeps it', async () => {
  const [result] = await rehearse({ manifests: manifests(deployment('web', 3), budget), nodes: 4, faults: [{ kind: 'drain', atMs: 600_000 }], forMs: hour }, [1]);
  assert.deepEqual(result!.budgets, [{ namespace: 'default', name: 'web', brokenSeconds: 0, refused: result!.budgets[0]!.refused }]);
  assert.equal(result!.workloads[0]!.lowestReady, 2);
  assert.equal(result!.workloads[0]!.verdict, 'degraded');
});

test('what can never run is named with the scheduler\'s reason', async () => {
  const [result] = await rehearse({ manifests: manifests(deployment('big', 1, { resources: { requests: { cpu: '1000' } } })), nodes: 2, faults: [], forMs: 60_000 }, [1]);
  assert.equal(result!.workloads[0]!.verdict, 'never ran');
  assert.match(result!.workloads[0]!.stuck[0]!.why, /0\/2 nodes are available: 2 Insufficient cpu/);
});
