/**
 * What a node measures of its Pods and containers: with the kubelet's names (Kubernetes documentation, "Kubernetes
 * Metrics Reference") where it has them.
 */
import type { Pod } from '#api/core.v1.ts';
import type { Informer } from '#client/informer.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';

export interface MeasuredNode {
  name: string;
  /** The Pods that are bound to the node. */
  pods: Informer<Pod>;
  engine: Pick<DockerEngine, 'containers'>;
  clock: Clock;
}

export function measurePods(metrics: Metrics, { name, pods, engine, clock }: MeasuredNode): void {
  measureStarts(metrics, pods, clock);
  metrics
    .gauge({ name: 'kubelet_node_name', help: "The node's name. The count is always 1.", labels: ['node'] })
    .of(name).value = 1;
  metrics.gauge({ name: 'kubelet_running_pods', help: 'Number of pods that have a running pod sandbox' }, (family) => {
    family.of().value = pods.list().filter(({ status }) => status?.phase === 'Running').length;
  });
  const labels = ['container_state'];
  metrics.gauge(
    { name: 'kubelet_running_containers', help: 'Number of containers of Pods, by their state', labels },
    (family) => {
      family.clear();
      for (const { owner, state } of engine.containers.list()) if (owner === 'kubelet') family.of(state).value++;
    },
  );
  metrics.gauge(
    { name: 'tiphys_containers', help: 'Number of containers, by owner and state', labels: ['owner', 'state'] },
    (family) => {
      family.clear();
      for (const { owner, state } of engine.containers.list()) family.of(owner, state).value++;
    },
  );
}

/** From when the node first sees a Pod until it sees it run; Pods that ran before this process are no part of it. */
function measureStarts(metrics: Metrics, pods: Informer<Pod>, clock: Clock): void {
  const seconds = metrics.histogram(
    {
      name: 'kubelet_pod_start_duration_seconds',
      help: 'Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run',
    },
    [0.1, 0.25, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800],
  );
  const seenMs = new Map<string, number>();
  pods.addHandler({
    added: ({ metadata, status }) => {
      if (status?.phase === undefined || status.phase === 'Pending') seenMs.set(metadata.uid, clock.monotonic());
    },
    updated: ({ metadata, status }) => {
      const atMs = seenMs.get(metadata.uid);
      if (atMs === undefined || status?.phase === undefined || status.phase === 'Pending') return;
      seenMs.delete(metadata.uid);
      if (status.phase === 'Running') seconds.of().observe((clock.monotonic() - atMs) / 1000);
    },
    deleted: ({ metadata }) => seenMs.delete(metadata.uid),
  });
}
