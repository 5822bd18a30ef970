/**
 * What a node measures of its Pods, containers and certificates: with the kubelet's names and meanings (Kubernetes
 * documentation, "Kubernetes Metrics Reference") where it has them. There is no lister of Pods' life cycles here (the
 * engine tells what happens), so there is no `kubelet_pleg_…`.
 */
import type { Pod } from '#api/core.v1.ts';
import type { Informer } from '#client/informer.ts';
import type { DockerEngine } from '#engine/create-engine.ts';
import type { ImageSource, PodPass } from '#kubelet/doors.ts';
import { labelContainerName, labelPodUid } from '#kubelet/pod-labels.ts';
import type { Metrics } from '#observe/metrics.ts';
import type { Clock } from '#os/clock.ts';
import type { ManagedCertificate } from './managed-certificate.ts';

/** Seconds, as the kubelet has them: of everything that happens once in a Pod's life. */
const startBounds = [
  0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600, 900, 1200, 1800, 2700, 3600,
];
/** Seconds: those that Prometheus' libraries take where nothing else is said. */
const passBounds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

export interface MeasuredNode {
  name: string;
  /** The Pods that are bound to the node. */
  pods: Pick<Informer<Pod>, 'addHandler'>;
  engine: {
    containers: Pick<DockerEngine['containers'], 'list'>;
    sandboxes: Pick<DockerEngine['sandboxes'], 'list'>;
  };
  clock: Clock;
}

/** `onPass` and `images` go to the kubelet, which tells by them what it does. */
export interface PodMeasure {
  onPass(operation: PodPass, durationMs: number): void;
  measureImages(images: ImageSource): ImageSource;
}

export function measurePods(metrics: Metrics, node: MeasuredNode): PodMeasure {
  const { name, engine } = node;
  metrics
    .gauge({ name: 'kubelet_node_name', help: "The node's name. The count is always 1.", labels: ['node'] })
    .of(name).value = 1;
  metrics.gauge({ name: 'kubelet_running_pods', help: 'Number of pods that have a running pod sandbox' }, (family) => {
    family.of().value = engine.sandboxes.list().filter(({ ready }) => ready).length;
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
  const passes = metrics.histogram(
    {
      name: 'kubelet_pod_worker_duration_seconds',
      help: 'Duration in seconds to sync a single pod. Broken down by operation type: create, update, sync, or kill',
      labels: ['operation_type'],
    },
    passBounds,
  );
  measureRuns(metrics, node);
  const pulls = new PullTimes(node.clock);
  measureStarts(metrics, node, pulls);
  return {
    onPass: (operation, durationMs) => passes.of(operation).observe(durationMs / 1000),
    measureImages: (images) => pulls.measure(images),
  };
}

/** From when the node first sees a Pod until it sees it run; Pods that ran before this process are no part of it. */
function measureRuns(metrics: Metrics, { pods, clock }: MeasuredNode): void {
  const seconds = metrics.histogram(
    {
      name: 'kubelet_pod_start_duration_seconds',
      help: 'Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run',
    },
    startBounds,
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

/** How long each Pod has waited for images: pulls at the same time count once. */
class PullTimes {
  readonly #clock: Clock;
  readonly #byPod = new Map<string, { pulling: number; sinceMs: number; totalMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  totalMs(uid: string): number {
    return this.#byPod.get(uid)?.totalMs ?? 0;
  }

  forget(uid: string): void {
    this.#byPod.delete(uid);
  }

  measure(images: ImageSource): ImageSource {
    return {
      ...images,
      pull: async (pod, container, signal) => {
        const { uid } = pod.metadata;
        const times = this.#byPod.get(uid) ?? { pulling: 0, sinceMs: 0, totalMs: 0 };
        this.#byPod.set(uid, times);
        if (times.pulling++ === 0) times.sinceMs = this.#clock.monotonic();
        try {
          return await images.pull(pod, container, signal);
        } finally {
          if (--times.pulling === 0) times.totalMs += this.#clock.monotonic() - times.sinceMs;
        }
      },
    };
  }
}

/**
 * The service level indicator "Pod startup latency" of SIG Scalability: from a Pod's creation until all its containers
 * are seen to have started. Without the pulls of its images and the runs of its init containers, of Pods that could be
 * scheduled at once and mount nothing but what the node makes for them; and, as `…_total_…`, with all of that.
 */
function measureStarts(metrics: Metrics, { pods, engine, clock }: MeasuredNode, pulls: PullTimes): void {
  const sli = metrics.histogram(
    {
      name: 'kubelet_pod_start_sli_duration_seconds',
      help: "Seconds from a Pod's creation until all its containers were seen started, without pulls and init containers",
    },
    startBounds,
  );
  const total = metrics.histogram(
    {
      name: 'kubelet_pod_start_total_duration_seconds',
      help: "Seconds from a Pod's creation until all its containers were seen started, pulls and init containers included",
    },
    startBounds,
  );
  const first = metrics.gauge({
    name: 'kubelet_first_network_pod_start_sli_duration_seconds',
    help: 'Seconds that the first Pod with a network took to start, without pulls and init containers',
  });
  /** Pods that this process has seen before they started, until they have. */
  const awaited = new Set<string>();
  let isFirst = true;
  const forget = (uid: string): void => {
    awaited.delete(uid);
    pulls.forget(uid);
  };
  const see = (pod: Pod): void => {
    const { uid, creationTimestamp } = pod.metadata;
    if (!awaited.has(uid)) return;
    const isOver = pod.status?.phase === 'Failed' || pod.status?.phase === 'Succeeded';
    if (isOver || isUnschedulable(pod)) forget(uid);
    else if (hasStarted(pod)) {
      const ms = clock.now() - Date.parse(creationTimestamp);
      const startMs = ms - pulls.totalMs(uid) - initMsOf(pod, engine);
      total.of().observe(ms / 1000);
      if (!isStateful(pod)) {
        sli.of().observe(startMs / 1000);
        if (isFirst && pod.spec.hostNetwork !== true) {
          first.of().value = startMs / 1000;
          isFirst = false;
        }
      }
      forget(uid);
    }
  };
  pods.addHandler({
    added: (pod) => {
      if (pod.status?.startTime === undefined && !isUnschedulable(pod)) awaited.add(pod.metadata.uid);
      see(pod);
    },
    updated: see,
    deleted: ({ metadata }) => forget(metadata.uid),
  });
}

function isUnschedulable({ status }: Pod): boolean {
  return (status?.conditions ?? []).some((each) => each.type === 'PodScheduled' && each.status === 'False');
}

function hasStarted({ spec, status }: Pod): boolean {
  const statuses = status?.containerStatuses ?? [];
  return statuses.length === spec.containers.length && statuses.every(({ state }) => state?.running !== undefined);
}

/**
 * Mounts something else than Secrets, ConfigMaps, fields of its own and empty directories. A projected volume is made
 * of these and of tokens, and most Pods have one: it is none of the others.
 */
function isStateful({ spec }: Pod): boolean {
  return (spec.volumes ?? []).some(
    ({ secret, configMap, downwardAPI, emptyDir, projected }) =>
      (secret ?? configMap ?? downwardAPI ?? emptyDir ?? projected) === undefined,
  );
}

/** How long its init containers ran, each of their attempts; those that stay beside the others are none. */
function initMsOf({ metadata, spec }: Pod, engine: MeasuredNode['engine']): number {
  const names = new Set(
    (spec.initContainers ?? []).flatMap(({ name, restartPolicy }) => (restartPolicy === 'Always' ? [] : [name])),
  );
  if (names.size === 0) return 0;
  return engine.containers
    .list({ owner: 'kubelet', labels: { [labelPodUid]: metadata.uid } })
    .filter(({ labels, state }) => state === 'exited' && names.has(labels[labelContainerName] ?? ''))
    .reduce((sum, { startedAtMs, finishedAtMs }) => sum + Math.max(0, finishedAtMs - startedAtMs), 0);
}

/** How long the kubelet's certificates still hold, and how often they could not be renewed. */
export function measureCertificates(
  metrics: Metrics,
  { client, serving, clock }: { client: ManagedCertificate; serving: ManagedCertificate; clock: Clock },
): void {
  const ttlSeconds = ({ endsAtMs }: ManagedCertificate): number =>
    endsAtMs === undefined ? Infinity : (endsAtMs - clock.now()) / 1000;
  metrics.gauge(
    {
      name: 'kubelet_certificate_manager_client_ttl_seconds',
      help: 'Seconds until the client certificate ends, negative once it has; +Inf without one',
    },
    (family) => (family.of().value = Math.floor(ttlSeconds(client))),
  );
  metrics.gauge(
    {
      name: 'kubelet_certificate_manager_server_ttl_seconds',
      help: 'Seconds until the serving certificate ends, negative once it has; +Inf without one',
    },
    (family) => (family.of().value = Math.floor(ttlSeconds(serving))),
  );
  metrics.counter(
    {
      name: 'kubelet_certificate_manager_client_expiration_renew_errors',
      help: 'Counter of certificate renewal errors.',
    },
    (family) => (family.of().value = client.renewalErrors),
  );
  metrics.counter(
    { name: 'kubelet_server_expiration_renew_errors', help: 'Counter of certificate renewal errors.' },
    (family) => (family.of().value = serving.renewalErrors),
  );
}
