/** What a node's metrics say of its Pods, by what they mean upstream. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod, PodSpec, PodStatus } from '#api/core.v1.ts';
import { sampleOf } from '#base/testing.ts';
import type { InformerHandler } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { ImageSource } from '#kubelet/doors.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import { Metrics } from '#observe/metrics.ts';
import { SimClock } from '#os/clock.sim.ts';
import { measurePods, type MeasuredNode, type PodMeasure } from './pod-metrics.ts';

type Containers = ReturnType<MeasuredNode['engine']['containers']['list']>;

class Bench {
  readonly clock = new SimClock(Date.parse('2026-01-01T00:00:00Z'));
  readonly metrics = new Metrics();
  readonly measure: PodMeasure;
  readonly #handlers: InformerHandler<Pod>[] = [];
  /** What the engine has: the fields that are read. */
  containers: object[] = [];
  sandboxes: object[] = [];

  constructor() {
    const listOf = (filter: { labels?: Record<string, string> } = {}): Containers =>
      (this.containers as Containers).filter(({ labels }) =>
        Object.entries(filter.labels ?? {}).every(([key, value]) => labels[key] === value),
      );
    this.measure = measurePods(this.metrics, {
      name: 'a',
      clock: this.clock,
      pods: {
        addHandler: (handler) => {
          this.#handlers.push(handler);
          return { remove: () => undefined };
        },
      },
      engine: {
        containers: { list: listOf },
        sandboxes: { list: () => this.sandboxes as never },
      },
    });
  }

  pod(name: string, spec: Partial<PodSpec> = {}, status: PodStatus = {}): Pod {
    return sampleOf(kinds.Pod, {
      metadata: { name, namespace: 'default', uid: name, creationTimestamp: '2026-01-01T00:00:00Z' },
      spec: { containers: [{ name: 'c' }], ...spec },
      status,
    });
  }

  add(pod: Pod): void {
    for (const handler of this.#handlers) handler.added?.(pod);
  }
  update(pod: Pod, status: PodStatus): void {
    for (const handler of this.#handlers) handler.updated?.({ ...pod, status }, pod);
  }

  async read(name: string): Promise<string> {
    const { body } = await exposeMetrics(this.metrics);
    const line = String(body)
      .split('\n')
      .find((each) => each.startsWith(`${name} `));
    return line?.slice(name.length + 1) ?? 'none';
  }
}

const running: PodStatus = {
  phase: 'Running',
  startTime: '2026-01-01T00:00:01Z',
  containerStatuses: [
    {
      name: 'c',
      image: '',
      imageID: '',
      ready: true,
      restartCount: 0,
      state: { running: { startedAt: '2026-01-01T00:00:09Z' } },
    },
  ],
};
const sli = 'kubelet_pod_start_sli_duration_seconds';
const total = 'kubelet_pod_start_total_duration_seconds';

test('the start of a Pod is measured from its creation, without its pulls and its init containers', async () => {
  const bench = new Bench();
  const pod = bench.pod('p', {
    initContainers: [{ name: 'i' }, { name: 'side', restartPolicy: 'Always' }],
    volumes: [
      { name: 'kube-api-access', projected: { sources: [{ serviceAccountToken: { path: 'token' } }] } },
      { name: 'scratch', emptyDir: {} },
    ],
  });
  await bench.clock.advance(1000);
  bench.add(pod);
  const pull: ImageSource['pull'] = async () => {
    await bench.clock.sleep(3000);
    return {} as never;
  };
  const images = bench.measure.measureImages({ find: () => undefined, pull });
  const pulls = [0, 1].map(() => images.pull(pod, { name: 'c' }, new AbortController().signal));
  await bench.clock.advance(3000);
  await Promise.all(pulls);
  const now = bench.clock.now();
  const labels = (name: string) => ({ 'io.kubernetes.pod.uid': 'p', 'io.kubernetes.container.name': name });
  bench.containers = [
    { owner: 'kubelet', state: 'exited', labels: labels('i'), startedAtMs: now, finishedAtMs: now + 500 },
    { owner: 'kubelet', state: 'exited', labels: labels('i'), startedAtMs: now + 500, finishedAtMs: now + 2000 },
    { owner: 'kubelet', state: 'running', labels: labels('side'), startedAtMs: now, finishedAtMs: 0 },
  ];
  await bench.clock.advance(4000);
  bench.update(pod, { phase: 'Pending', startTime: '2026-01-01T00:00:01Z' });
  assert.equal(await bench.read(`${total}_count`), 'none');
  await bench.clock.advance(1000);
  bench.update(pod, running);
  bench.update(pod, running);
  assert.deepEqual(
    [await bench.read(`${total}_sum`), await bench.read(`${total}_count`), await bench.read(`${sli}_sum`)],
    ['9', '1', '4'],
    '9 s, of which 3 for two pulls at once and 2 for the init container',
  );
  assert.equal(await bench.read('kubelet_first_network_pod_start_sli_duration_seconds'), '4');
});

test('Pods that had to wait for a place, that mount more, or that ran before are left out', async () => {
  const bench = new Bench();
  const unschedulable = bench.pod('waits', {}, { conditions: [{ type: 'PodScheduled', status: 'False' }] });
  const stateful = bench.pod('mounts', { volumes: [{ name: 'v', hostPath: { path: '/x' } }] });
  const before = bench.pod('before', {}, { startTime: '2025-12-31T00:00:00Z' });
  const ended = bench.pod('ended');
  for (const pod of [unschedulable, stateful, before, ended]) bench.add(pod);
  await bench.clock.advance(2000);
  bench.update(ended, { phase: 'Succeeded' });
  for (const pod of [unschedulable, stateful, before, ended]) bench.update(pod, running);
  assert.deepEqual(
    [await bench.read(`${sli}_count`), await bench.read(`${total}_count`)],
    ['none', '1'],
    'only the stateful one counts, and only as a whole',
  );
});

test('running Pods are those with a running sandbox; passes are told by what they were for', async () => {
  const bench = new Bench();
  bench.sandboxes = [{ ready: true }, { ready: true }, { ready: false }];
  bench.containers = [
    { owner: 'kubelet', state: 'running', labels: {} },
    { owner: 'kubelet', state: 'exited', labels: {} },
    { owner: 'docker', state: 'running', labels: {} },
  ];
  bench.measure.onPass('create', 250);
  assert.deepEqual(
    [
      await bench.read('kubelet_running_pods'),
      await bench.read('kubelet_running_containers{container_state="running"}'),
      await bench.read('kubelet_running_containers{container_state="exited"}'),
      await bench.read('kubelet_node_name{node="a"}'),
      await bench.read('kubelet_pod_worker_duration_seconds_sum{operation_type="create"}'),
    ],
    ['2', '1', '1', '1', '0.25'],
  );
});
