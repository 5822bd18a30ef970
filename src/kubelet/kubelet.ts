/**
 * The kubelet: registers the node, follows the Pods bound to it and gives each a worker (`pod-worker.ts`).
 *
 * It does not know the Docker façade, holds no state of its own on disk beyond volumes, and leaves containers running
 * when it ends. What it stands on is in `doors.ts`; idle, it renews a lease every 10 s and otherwise waits for watches
 * and engine events.
 */
import type { Node, Pod } from '#api/core.v1.ts';
import { messageOf } from '#base/thrown.ts';
import type { Timer } from '#os/clock.ts';
import { rfc3339 } from './status.ts';
import type { KubeletOptions, NodeReading, PodHost } from './doors.ts';
import type { Starved } from './eviction.ts';
import { createImageCollector } from './image-collection.ts';
import { createImageManager } from './images.ts';
import {
  imageGcIntervalMs,
  leaseRenewals,
  leaseSecondsDefault,
  evictionGraceMs,
  imagesReportDelayMs,
  nodeStatusIntervalMs,
  pressureCheckMs,
  projectedRefreshMs,
  storageAgeMsMax,
} from './limits.ts';
import { labelPodName, labelPodNamespace, labelPodUid, podFullName } from './pod-labels.ts';
import { NodePressure } from './node-pressure.ts';
import { NodeReporter } from './node-reporter.ts';
import { NodePlaces } from './node-room.ts';
import { allocatableOf, type Pressure } from './node-status.ts';
import { createPodApi } from './pod-api.ts';
import { isCritical, type PodDemand } from './admit.ts';
import { boundsStorage, exceededStorage, StorageGauge, type StorageReading } from './local-storage.ts';
import { amount } from './qos.ts';
import type { ResizePending } from './resize.ts';
import { type PodUse, podUseOf } from './pod-use.ts';
import { PodWorker } from './pod-worker.ts';
import { shutDownPods, type ShutdownOptions } from './shutdown.ts';

export interface Kubelet extends AsyncDisposable {
  /** Pods this node runs, for the server's `/pods` and for port-forward and exec. */
  pods(): Pod[];
  podByName(namespace: string, name: string): Pod | undefined;
  /** What the node has and has left, now. */
  reading(): Promise<NodeReading>;
  /** What the Pod has on the node's disk, at most a minute old; undefined where it is not here. */
  storage(uid: string): Promise<StorageReading | undefined>;
  /** What the node is short of, as its conditions say. */
  readonly pressure: Pressure;
  /** Resolves when the node is registered and its Pods are known. */
  ready: Promise<void>;
  /** Measures the node now. */
  look(): Promise<void>;
  /** Stops every Pod for good or until the next kubelet: see `shutdown.ts`. */
  shutDown(options: ShutdownOptions): Promise<void>;
}

// walk kubectl-apply 8/8: the node's kubelet sees the bound Pod and gives it a worker.
export function runKubelet(options: KubeletOptions): Kubelet {
  const kubelet = new NodeKubelet(options);
  kubelet.ready = kubelet.start();
  kubelet.ready.catch((error: unknown) => options.log.error('kubelet could not start', { error }));
  return kubelet;
}

class NodeKubelet implements Kubelet {
  readonly #options: KubeletOptions;
  readonly #workers = new Map<string, PodWorker>();
  readonly #stop = new AbortController();
  readonly #host: PodHost;
  readonly #places: NodePlaces;
  readonly #pressure: NodePressure<PodUse>;
  readonly #storage: StorageGauge;
  readonly #reporter: NodeReporter;
  readonly #cleanup = new DisposableStack();
  #imagesTimer: Timer | undefined;
  ready: Promise<void> = Promise.resolve();

  constructor(options: KubeletOptions) {
    this.#options = options;
    const { client, clock, engine, facts, log, gauge } = options;
    this.#places = new NodePlaces(facts);
    this.#storage = new StorageGauge(options);
    const api = createPodApi(options);
    const allocatable = allocatableOf(facts);
    this.#host = {
      ...options,
      log: log.child('kubelet'),
      images: createImageManager({ source: options.images, clock, tell: api.tell }),
      api,
      hostIp: facts.hostIp,
      memoryBytes: amount(facts.capacity['memory']) ?? 0,
      allocatable,
      onGone: (uid) => this.#forget(uid),
      takeResize: (uid, demand) => this.#resize(uid, demand),
    };
    this.#reporter = new NodeReporter({
      client,
      clock,
      engine,
      facts,
      leaseSeconds: options.leaseSeconds,
      signal: this.#stop.signal,
      pressure: () => this.pressure,
    });
    this.#pressure = new NodePressure({
      clock,
      log,
      gauge,
      report: () => this.#reportPressure(),
      reclaimDisk: () => this.#reclaimDisk(),
      candidates: (resource) => this.#candidates(resource),
      evict: ({ worker }, message) => worker.evict({ reason: 'Evicted', message, disrupted: true }, evictionGraceMs),
    });
  }

  get pressure(): Pressure {
    return this.#pressure.conditions;
  }
  look(): Promise<void> {
    return this.#pressure.look();
  }
  pods(): Pod[] {
    return [...this.#workers.values()].map((worker) => worker.pod);
  }
  podByName(namespace: string, name: string): Pod | undefined {
    const named = this.pods().filter(({ metadata }) => metadata.namespace === namespace && metadata.name === name);
    return named.find(({ metadata }) => metadata.deletionTimestamp === undefined) ?? named[0];
  }

  reading(): Promise<NodeReading> {
    return this.#options.gauge.read();
  }
  async storage(uid: string): Promise<StorageReading | undefined> {
    const worker = this.#workers.get(uid);
    return worker === undefined ? undefined : this.#storage.read(worker, storageAgeMsMax);
  }

  async start(): Promise<void> {
    const { files, engine, self } = this.#options;
    await files.open();
    files.onChange((uids) => {
      for (const uid of uids) this.#workers.get(uid)?.refreshVolumes();
    });
    const unsubscribe = engine.onEvent((event) => {
      if (event.type === 'image') this.#reportImages();
      if (event.type !== 'container' || event.owner !== 'kubelet') return;
      if (event.action !== 'die' && event.action !== 'oom') return;
      const uid = event.attributes[labelPodUid] ?? engine.containers.status(event.id)?.labels[labelPodUid];
      if (uid !== undefined) this.#workers.get(uid)?.wake();
    });
    this.#cleanup.defer(unsubscribe);
    await this.#reporter.register((node) => this.#pressure.resume(node.status?.conditions));
    if (this.#stop.signal.aborted) return;
    self.start();
    const seeSelf = (node: Node): void => this.#reporter.see(node);
    const following = self.addHandler({ added: seeSelf, updated: seeSelf });
    this.#cleanup.defer(() => following.remove());
    this.#beginRounds();
    await this.#followPods();
  }

  async #followPods(): Promise<void> {
    const { pods, services, self } = this.#options;
    pods.start();
    await Promise.all([services.synced, pods.synced, self.synced]);
    if (this.#stop.signal.aborted) return;
    const see = (pod: Pod): void => this.#see(pod);
    const following = pods.addHandler({
      added: see,
      updated: see,
      deleted: (pod) => this.#workers.get(pod.metadata.uid)?.removed(),
    });
    this.#cleanup.defer(() => following.remove());
    await this.#removeOrphans(new Set(pods.list().map((pod) => pod.metadata.uid)));
  }

  #see(pod: Pod): void {
    const uid = pod.metadata.uid;
    const known = this.#workers.get(uid);
    if (known !== undefined) {
      known.update(pod);
      return;
    }
    const worker = new PodWorker(pod, this.#host);
    const isNew = pod.status?.startTime === undefined && pod.metadata.deletionTimestamp === undefined;
    const refusal = isNew ? this.#places.refusalOf(worker, this.#reporter.self, this.#pressure.refusing) : undefined;
    this.#workers.set(uid, worker);
    this.#places.hold(worker);
    if (refusal === undefined) worker.wake();
    else worker.refuse(refusal);
  }

  #forget(uid: string): void {
    const worker = this.#workers.get(uid);
    if (worker !== undefined) this.#places.release(worker);
    this.#workers.delete(uid);
    this.#wakeDeferred();
  }

  #resize(uid: string, demand: PodDemand): ResizePending | undefined {
    const worker = this.#workers.get(uid);
    if (worker === undefined) return undefined;
    const pending = this.#places.resize(worker, demand);
    if (pending === undefined) this.#wakeDeferred();
    return pending;
  }

  /** Other nodes find images by what the status says. Those that come together are told together. */
  #reportImages(): void {
    this.#imagesTimer ??= this.#options.clock.setTimer(
      imagesReportDelayMs,
      () => {
        this.#imagesTimer = undefined;
        if (!this.#stop.signal.aborted) void this.#reporter.report();
      },
      { background: true },
    );
  }

  /** Room may have come free for those that wait for it. */
  #wakeDeferred(): void {
    for (const worker of this.#workers.values()) if (worker.isDeferred) worker.wake();
  }

  /** Lease, node status, pressure, images and volumes, each in its own rhythm. */
  #beginRounds(): void {
    const { rhythm, engine, log, gauge, recorder, facts, leaseSeconds = leaseSecondsDefault } = this.#options;
    const collector = createImageCollector(engine, log);
    const rounds = [
      rhythm.every('lease', (leaseSeconds * 1000) / leaseRenewals, () => this.#reporter.renewLease()),
      rhythm.every('node status', nodeStatusIntervalMs, () => this.#reporter.report()),
      rhythm.every('pressure', pressureCheckMs, async () => {
        await this.#pressure.look();
        await this.#holdToStorage();
      }),
      rhythm.every('image collection', imageGcIntervalMs, async () => {
        const { nodefs, imagefs = nodefs } = await gauge.read();
        const warning = await collector.collect({
          totalBytes: imagefs.capacityBytes,
          availableBytes: imagefs.availableBytes,
        });
        const self = { apiVersion: 'v1', kind: 'Node', name: facts.name, uid: facts.name };
        if (warning !== undefined) recorder?.event(self, 'Warning', 'FreeDiskSpaceFailed', warning);
      }),
      rhythm.every('volume refresh', projectedRefreshMs, async () => {
        for (const worker of this.#workers.values()) worker.refreshVolumes();
      }),
    ];
    for (const round of rounds) this.#cleanup.defer(() => round.cancel());
  }

  async #reportPressure(): Promise<void> {
    const { recorder, facts } = this.#options;
    const before = this.#reporter.self?.status?.conditions;
    const { disk, memory, pid } = this.pressure;
    await this.#reporter.report();
    const reasons: [string, boolean, string, string][] = [
      ['MemoryPressure', memory, 'NodeHasInsufficientMemory', 'NodeHasSufficientMemory'],
      ['DiskPressure', disk, 'NodeHasDiskPressure', 'NodeHasNoDiskPressure'],
      ['PIDPressure', pid, 'NodeHasInsufficientPID', 'NodeHasSufficientPID'],
    ];
    const self = { apiVersion: 'v1', kind: 'Node', name: facts.name, uid: facts.name };
    for (const [type, holds, short, enough] of reasons) {
      const was = before?.find((each) => each.type === type)?.status === 'True';
      const reason = holds ? short : enough;
      if (was !== holds) recorder?.event(self, 'Normal', reason, `Node ${facts.name} status is now: ${reason}`);
    }
  }

  /** Containers that have ended but for the last of each, then images that nothing needs. */
  async #reclaimDisk(): Promise<void> {
    const { engine, log } = this.#options;
    const running = new Set<string>();
    for (const { pod, isFinished } of this.#workers.values()) if (!isFinished) running.add(pod.metadata.uid);
    for (const { id, state, labels } of engine.containers.list({ owner: 'kubelet' }))
      if (state === 'exited' && !running.has(labels[labelPodUid] ?? ''))
        await engine.containers
          .remove(id, { force: true })
          .catch((error: unknown) => log.debug('a dead container stays', { id, error: messageOf(error) }));
    for (const image of engine.images.list())
      if (image.isCollectable)
        await engine.images
          .remove(image.id, { owner: 'kubelet' })
          .catch((error: unknown) => log.debug('image stays', { image: image.id, error: messageOf(error) }));
  }

  /** Those that set themselves bounds of disk, and exceed them, are evicted. */
  async #holdToStorage(): Promise<void> {
    const { log } = this.#options;
    const bounded = [...this.#workers.values()].filter(
      ({ pod, isFinished, isEnding }) => !isFinished && !isEnding && !isCritical(pod) && boundsStorage(pod),
    );
    if (bounded.length === 0) return;
    const { imagefs } = await this.reading();
    for (const worker of bounded) {
      const reading = await this.#storage.read(worker, 0);
      const message = exceededStorage(worker.pod, reading, imagefs !== undefined);
      if (message === undefined) continue;
      log.info('a Pod exceeds its bounds of disk', { pod: podFullName(worker.pod), message });
      worker.evict({ reason: 'Evicted', message }, evictionGraceMs);
    }
  }

  async #candidates(resource: Starved): Promise<PodUse[]> {
    const { engine } = this.#options;
    const storage = this.#storage;
    const workers = [...this.#workers.values()].filter(({ isFinished, isEnding }) => !isFinished && !isEnding);
    return Promise.all(workers.map((worker) => podUseOf(worker, resource, { engine, storage })));
  }

  // walk node-dies 5/5: a node that comes back ends the containers of Pods that went meanwhile.
  /** Containers, sandboxes and files of Pods that went away while no kubelet ran. */
  async #removeOrphans(known: ReadonlySet<string>): Promise<void> {
    const { engine, files, clock } = this.#options;
    const orphans = new Map<string, { namespace: string; name: string }>();
    const note = (labels: Record<string, string>): void => {
      const uid = labels[labelPodUid];
      if (uid !== undefined && !known.has(uid))
        orphans.set(uid, { namespace: labels[labelPodNamespace] ?? '', name: labels[labelPodName] ?? '' });
    };
    for (const container of engine.containers.list({ owner: 'kubelet' })) note(container.labels);
    for (const sandbox of engine.sandboxes.list()) note(sandbox.labels);
    for (const uid of await files.podsWithFiles())
      if (!known.has(uid) && !orphans.has(uid)) orphans.set(uid, { namespace: '', name: uid });
    for (const [uid, { namespace, name }] of orphans) {
      if (this.#workers.has(uid)) continue;
      const metadata = {
        namespace,
        name,
        uid,
        deletionTimestamp: rfc3339(clock.now()),
        deletionGracePeriodSeconds: 30,
        creationTimestamp: rfc3339(clock.now()),
        resourceVersion: '0',
      };
      const pod: Pod = { apiVersion: 'v1', kind: 'Pod', metadata, spec: { containers: [] }, status: {} };
      const worker = new PodWorker(pod, this.#host);
      this.#workers.set(uid, worker);
      worker.removed();
    }
  }

  shutDown(wanted: ShutdownOptions): Promise<void> {
    const { client, clock, log, facts } = this.#options;
    return shutDownPods(
      { client, clock, log, nodeName: facts.name, workers: () => [...this.#workers.values()] },
      wanted,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    this.#cleanup.dispose();
    this.#pressure.close();
    for (const worker of this.#workers.values()) worker.close();
    this.#options.files.close();
    // Nobody waits for events that can no longer be written.
    await this.#options.recorder?.flush().catch(() => {});
  }
}
