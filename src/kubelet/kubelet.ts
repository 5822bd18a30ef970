/**
 * The kubelet: registers the node, follows the Pods bound to it and gives each a worker (`pod-worker.ts`).
 *
 * It does not know the Docker façade, holds no state of its own on disk beyond volumes, and leaves containers running
 * when it ends. Idle, it renews a lease every 10 s and otherwise waits for watches and engine events.
 */
import type { TokenRequest } from '#api/authentication.v1.ts';
import { mkdir, readdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { isReason } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, referenceTo } from '#client/events.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import type { Engine, RegistryCredential } from '#engine/engine.ts';
import type { Mounts } from '#os/mount.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import type { Logger } from '#observe/log.ts';
import type { DnsSettings } from './container-spec.ts';
import { admitPod, type NodeRoom, type PodDemand, podDemandOf, sumOfDemands } from './admit.ts';
import { nextDiskPressure, type DiskPressure } from './disk-pressure.ts';
import { createImageCollector } from './image-collection.ts';
import { createImageManager } from './images.ts';
import {
  diskCheckMs,
  imageGcIntervalMs,
  leaseDurationSeconds,
  leaseRenewMs,
  nodeStatusIntervalMs,
  projectedRefreshMs,
  syncErrorRetryMs,
} from './limits.ts';
import { labelPodName, labelPodNamespace, labelPodUid, seccompDir, type KubeletPaths } from './names.ts';
import { allocatableOf, nodeObject, nodeStatus, type NodeFacts } from './node-status.ts';
import { createObjectCache } from './objects.ts';
import { PodWorker } from './pod-worker.ts';
import type { WorkerContext } from './worker-context.ts';
import { rfc3339 } from './status.ts';
import { matchCredentials } from './pull-secrets.ts';
import { shutDownPods, type ShutdownOptions } from './shutdown.ts';
import type { VolumeSources } from './volumes.ts';

export interface KubeletOptions {
  client: Client;
  informers: InformerFactory;
  /** Shared with the node's network part. */
  services: Informer;
  engine: Engine;
  mounts: Mounts;
  clock: Clock;
  random: Random;
  log: Logger;
  facts: NodeFacts;
  paths: KubeletPaths;
  /** Pods' cgroups lie below this one. */
  cgroupRoot: string;
  dns: DnsSettings;
}

export interface Kubelet extends AsyncDisposable {
  /** Pods this node runs, for the server's `/pods` and for port-forward and exec. */
  pods(): KubeObject[];
  podByName(namespace: string, name: string): KubeObject | undefined;
  /** Resolves when the node is registered and its Pods are known. */
  ready: Promise<void>;
  /** Stops every Pod for good or until the next kubelet: see `shutdown.ts`. */
  shutDown(options: ShutdownOptions): Promise<void>;
}

/** Retries what the API server could not take just now, for as long as the kubelet runs. */
async function persist<T>(
  clock: Clock,
  signal: AbortSignal,
  log: Logger,
  what: string,
  run: () => Promise<T>,
): Promise<T> {
  for (let delayMs = 100; ; delayMs = Math.min(delayMs * 2, syncErrorRetryMs)) {
    try {
      return await run();
    } catch (error) {
      if (
        signal.aborted ||
        isReason(error, 'NotFound', 'Conflict', 'Invalid', 'Forbidden', 'AlreadyExists', 'BadRequest')
      )
        throw error;
      log.debug(`${what} failed, trying again`, { error: messageOf(error) });
      await clock.sleep(delayMs, signal);
    }
  }
}

// walk kubectl-apply 8/8: the node's kubelet sees the bound Pod and gives it a worker.
export async function runKubelet(options: KubeletOptions): Promise<Kubelet> {
  const { client, engine, mounts, clock, log, facts, paths } = options;
  const stop = new AbortController();
  const workers = new Map<string, PodWorker>();
  const recorder = createEventRecorder({ client, clock, log, component: 'kubelet', host: facts.name });
  const objects = createObjectCache({
    client,
    clock,
    log,
    onChange: (holders) => {
      for (const uid of holders) workers.get(uid)?.refreshVolumes();
    },
  });
  const { services } = options;
  await Promise.all([
    mkdir(paths.podsDir, { recursive: true, mode: 0o700 }),
    mkdir(paths.secretsDir, { recursive: true, mode: 0o700 }),
    mkdir(paths.logsDir, { recursive: true, mode: 0o700 }),
    mkdir(seccompDir(paths), { recursive: true, mode: 0o700 }),
  ]);
  if (!(await isMountPoint(mounts, paths.secretsDir)))
    await mounts
      .mountTmpfs(paths.secretsDir, { sizeBytes: 256 * 1024 * 1024, mode: 0o700 })
      .catch((error: unknown) => log.warn('secrets are kept on disk: no tmpfs', { error }));

  const context: WorkerContext = {
    client,
    engine,
    clock,
    random: options.random,
    log: log.child('kubelet'),
    paths,
    hostIp: facts.hostIp,
    nodeMemoryBytes: facts.memoryBytes,
    cgroupRoot: options.cgroupRoot,
    nodeAllocatable: allocatableOf(facts),
    dns: options.dns,
    images: createImageManager({ engine, clock, credentials: (pod, image) => pullCredentials(pod, image) }),
    volumeSources: (holder) => volumeSources(holder),
    services: () => services.list(),
    eventsFor: (pod) => ({
      event: (type, reason, message, container) => {
        const init = (pod.spec.initContainers ?? []).some((entry: Json) => entry.name === container);
        recorder.event(
          referenceTo(
            pod,
            container === undefined ? undefined : `spec.${init ? 'initContainers' : 'containers'}{${container}}`,
          ),
          type,
          reason,
          message,
        );
      },
    }),
    writeStatus: (pod, status) => writeStatus(pod, status),
    confirmDeleted: (pod) => confirmDeleted(pod),
    onGone: (uid) => {
      workers.delete(uid);
      objects.release(uid);
    },
  };

  const volumeSources = (holder: string): VolumeSources => ({
    configMap: (namespace, name) => objects.get('ConfigMap', namespace, name, holder),
    secret: (namespace, name) => objects.get('Secret', namespace, name, holder),
    claim: (namespace, name) => client.get(kinds.PersistentVolumeClaim, name, namespace).catch(orUndefined),
    persistentVolume: (name) => client.get(kinds.PersistentVolume, name).catch(orUndefined),
    async token(pod, audience, expirationSeconds) {
      const path = `/api/v1/namespaces/${pod.metadata.namespace}/serviceaccounts/${pod.spec.serviceAccountName ?? 'default'}/token`;
      const { status } = await client.raw<TokenRequest>('POST', path, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenRequest',
        spec: {
          ...(audience === undefined || audience === '' ? {} : { audiences: [audience] }),
          expirationSeconds,
          boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: pod.metadata.name, uid: pod.metadata.uid },
        },
      });
      return { token: status?.token ?? '', expiresAtMs: Date.parse(status?.expirationTimestamp ?? '') };
    },
    mountTmpfs: (path, sizeBytes) =>
      mounts.mountTmpfs(path, { ...(sizeBytes === undefined ? {} : { sizeBytes }), mode: 0o1777 }),
    unmount: (path) => mounts.unmount(path),
    isMounted: (path) => isMountPoint(mounts, path),
  });

  const pullCredentials = async (pod: KubeObject, image: string): Promise<RegistryCredential[]> => {
    const found: RegistryCredential[] = [];
    for (const reference of pod.spec.imagePullSecrets ?? []) {
      const secret = await objects
        .get('Secret', pod.metadata.namespace!, reference.name, pod.metadata.uid!)
        .catch(() => undefined);
      if (secret !== undefined) found.push(...matchCredentials(secret, image));
    }
    return found;
  };

  const writeStatus = async (pod: KubeObject, status: Json): Promise<KubeObject | undefined> => {
    try {
      return await persist(clock, stop.signal, log, 'status', () =>
        client.patch(
          kinds.Pod,
          pod.metadata.name!,
          pod.metadata.namespace,
          'strategic',
          { metadata: { uid: pod.metadata.uid }, status: replacingAddresses(status) },
          { subresource: 'status' },
        ),
      );
    } catch (error) {
      if (isReason(error, 'NotFound', 'Conflict')) return undefined;
      throw error;
    }
  };

  const confirmDeleted = async (pod: KubeObject): Promise<void> => {
    try {
      await persist(clock, stop.signal, log, 'deletion', () =>
        client.delete(kinds.Pod, pod.metadata.name!, pod.metadata.namespace, {
          gracePeriodSeconds: 0,
          preconditions: { uid: pod.metadata.uid! },
        }),
      );
    } catch (error) {
      if (!isReason(error, 'NotFound', 'Conflict')) throw error;
    }
  };

  const pods = options.informers.informer(kinds.Pod, { fieldSelector: `spec.nodeName=${facts.name}` });
  const { cpu, memory, ephemeralStorage } = allocatableOf(facts);
  const pressure = { disk: false, memory: false };
  // Labels and taints can be added by anybody: the scheduler knows them, this kubelet does not follow its Node object.
  const room: NodeRoom = {
    name: facts.name,
    labels: undefined,
    taints: undefined,
    pods: facts.podsMax,
    allocatable: new Map([
      ['cpu', cpu],
      ['memory', memory],
      ['ephemeral-storage', ephemeralStorage],
    ]),
    pressure,
    appArmor: facts.appArmor,
  };
  /** What Pods that have not ended take, but for one. */
  const taken = (uid: string): PodDemand =>
    sumOfDemands(
      [...workers.values()]
        .filter(
          (worker) =>
            worker.uid !== uid && worker.pod.status?.phase !== 'Succeeded' && worker.pod.status?.phase !== 'Failed',
        )
        .map((worker) => podDemandOf(worker.pod)),
    );
  const onPod = (pod: KubeObject): void => {
    const uid = pod.metadata.uid!;
    const known = workers.get(uid);
    if (known !== undefined) {
      known.update(pod);
      return;
    }
    const worker = new PodWorker(pod, context);
    workers.set(uid, worker);
    const refusal = pod.status?.startTime === undefined ? admitPod(pod, podDemandOf(pod), taken(uid), room) : undefined;
    if (refusal !== undefined) {
      context.eventsFor(pod).event('Warning', refusal.reason, refusal.message);
      worker.refuse(refusal.reason, refusal.message);
    } else {
      worker.wake();
    }
  };
  const unsubscribe = engine.onEvent((event) => {
    if (event.type !== 'container' || event.owner !== 'kubelet') return;
    if (event.action !== 'die' && event.action !== 'oom') return;
    const uid = event.attributes[labelPodUid] ?? engine.containers.status(event.id)?.labels[labelPodUid];
    if (uid !== undefined) workers.get(uid)?.wake();
  });

  await persist(clock, stop.signal, log, 'node registration', () => registerNode(client, facts, engine, clock));
  const self = { apiVersion: 'v1', kind: 'Node', name: facts.name, uid: facts.name };
  const timers = startHeartbeats({
    client,
    clock,
    log,
    facts,
    engine,
    pressure,
    dataDir: paths.podsDir,
    signal: stop.signal,
    warn: (reason, message) => recorder.event(self, 'Warning', reason, message),
    note: (reason, message) => recorder.event(self, 'Normal', reason, message),
    onRefresh: () => {
      for (const worker of workers.values()) worker.refreshVolumes();
    },
  });
  const ready = (async () => {
    pods.start();
    await Promise.all([services.synced, pods.synced]);
    pods.addHandler({ added: onPod, updated: onPod, deleted: (pod) => workers.get(pod.metadata.uid)?.removed() });
    await removeOrphans(context, new Set(pods.list().map((pod) => pod.metadata.uid)), workers, paths);
  })();
  ready.catch((error: unknown) => log.error('kubelet could not start', { error }));

  return {
    pods: () => [...workers.values()].map((worker) => worker.pod),
    podByName: (namespace, name) =>
      [...workers.values()]
        .map((worker) => worker.pod)
        .find(
          (pod) =>
            pod.metadata.namespace === namespace &&
            pod.metadata.name === name &&
            pod.metadata.deletionTimestamp === undefined,
        ) ??
      [...workers.values()]
        .map((worker) => worker.pod)
        .find((pod) => pod.metadata.namespace === namespace && pod.metadata.name === name),
    ready,
    shutDown: (wanted) =>
      shutDownPods({ client, clock, log, nodeName: facts.name, workers: () => [...workers.values()] }, wanted),
    async [Symbol.asyncDispose]() {
      stop.abort();
      unsubscribe();
      for (const timer of timers()) timer.cancel();
      for (const worker of workers.values()) worker.close();
      objects.close();
      await recorder.flush().catch(() => {});
    },
  };
}

/** Lists of addresses merge by address: a Pod whose sandbox was made anew would keep the old one beside the new. */
function replacingAddresses(status: Json): Json {
  const replaced = (list: Json[] | undefined): Json[] => [...(list ?? []), { $patch: 'replace' }];
  return { ...status, podIPs: replaced(status.podIPs), hostIPs: replaced(status.hostIPs) };
}

function orUndefined(error: unknown): undefined {
  if (isReason(error, 'NotFound')) return undefined;
  throw error;
}

async function isMountPoint(mounts: Mounts, path: string): Promise<boolean> {
  return (await mounts.listBelow(path)).some((entry) => entry.target === path);
}

async function registerNode(client: Client, facts: NodeFacts, engine: Engine, clock: Clock): Promise<void> {
  const wanted = nodeObject(facts);
  let node: KubeObject;
  try {
    node = await client.create(kinds.Node, wanted);
  } catch (error) {
    if (!isReason(error, 'AlreadyExists')) throw error;
    node = await client.patch(kinds.Node, facts.name, undefined, 'strategic', {
      metadata: { labels: wanted.metadata.labels },
      spec: { podCIDR: facts.podCidr, podCIDRs: [facts.podCidr] },
    });
  }
  await reportNode(client, facts, engine, clock, node, false);
}

async function reportNode(
  client: Client,
  facts: NodeFacts,
  engine: Engine,
  clock: Clock,
  node: KubeObject | undefined,
  diskPressure: boolean,
): Promise<void> {
  const images = engine.images
    .list()
    .map((image) => ({ names: [...image.names, ...image.digests], sizeBytes: image.sizeBytes }))
    .filter((image) => image.names.length > 0);
  await client.patch(
    kinds.Node,
    facts.name,
    undefined,
    'strategic',
    { status: nodeStatus(facts, images, node?.status, clock.now(), diskPressure) },
    { subresource: 'status' },
  );
}

interface HeartbeatOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  facts: NodeFacts;
  engine: Engine;
  dataDir: string;
  /** What the node is short of, as it is told to Pods that come. */ pressure: { disk: boolean; memory: boolean };
  signal: AbortSignal;
  onRefresh(): void;
  warn(reason: string, message: string): void;
  note(reason: string, message: string): void;
}

// walk node-dies 1/5: a living kubelet renews its lease every ten seconds.
/** Lease every 10 s, node status every 5 min, tokens looked at every minute. Returns the timers that stand now. */
function startHeartbeats(options: HeartbeatOptions): () => Timer[] {
  const { client, clock, log, facts, signal } = options;
  const timers = new Map<string, Timer>();
  const every = (name: string, periodMs: number, run: () => Promise<void> | void): void => {
    const tick = (): void => {
      void Promise.resolve(run())
        .catch((error: unknown) => log.debug(`${name} failed`, { error: messageOf(error) }))
        .finally(() => {
          if (!signal.aborted) timers.set(name, clock.setTimer(periodMs, tick, { background: true }));
        });
    };
    timers.set(name, clock.setTimer(0, tick, { background: true }));
  };
  let renewedMs = clock.monotonic();
  every('lease', leaseRenewMs, async () => {
    const spec = {
      holderIdentity: facts.name,
      leaseDurationSeconds,
      renewTime: new Date(clock.now()).toISOString().replace('Z', '000Z'),
    };
    try {
      await client.patch(kinds.Lease, facts.name, 'kube-node-lease', 'merge', { spec });
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
      await client.create(kinds.Lease, {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: facts.name, namespace: 'kube-node-lease' },
        spec,
      });
    }
    // Out of touch for so long that the node was taken for lost: say at once that it is ready again.
    if (clock.monotonic() - renewedMs > leaseDurationSeconds * 1000)
      await reportNode(
        client,
        facts,
        options.engine,
        clock,
        await client.get(kinds.Node, facts.name),
        options.pressure.disk,
      );
    renewedMs = clock.monotonic();
  });
  let first = true;
  every('node status', nodeStatusIntervalMs, async () => {
    if (first) {
      first = false;
      return;
    }
    await reportNode(
      client,
      facts,
      options.engine,
      clock,
      await client.get(kinds.Node, facts.name),
      options.pressure.disk,
    );
  });
  let told = false;
  let disk: DiskPressure = { isUnder: false, lastSignMs: undefined };
  every('disk', diskCheckMs, async () => {
    disk = nextDiskPressure(disk, await statfs(options.dataDir), clock.monotonic());
    if (!disk.isUnder) options.pressure.disk = false;
    if (disk.isUnder === told) return;
    // Tried again while the API server cannot write. Until it knows, Pods are not refused: they would come here, be
    // refused and be lost, instead of waiting.
    await reportNode(client, facts, options.engine, clock, await client.get(kinds.Node, facts.name), disk.isUnder);
    told = disk.isUnder;
    options.pressure.disk = disk.isUnder;
    options.note(
      disk.isUnder ? 'NodeHasDiskPressure' : 'NodeHasNoDiskPressure',
      `Node ${facts.name} status is now: ${disk.isUnder ? 'NodeHasDiskPressure' : 'NodeHasNoDiskPressure'}`,
    );
  });
  const collector = createImageCollector(options.engine, log);
  every('image collection', imageGcIntervalMs, async () => {
    const disk = await statfs(options.dataDir);
    const warning = await collector.collect({
      totalBytes: disk.blocks * disk.bsize,
      availableBytes: disk.bavail * disk.bsize,
    });
    if (warning !== undefined) options.warn('FreeDiskSpaceFailed', warning);
  });
  every('volume refresh', projectedRefreshMs, () => options.onRefresh());
  return () => [...timers.values()];
}

// walk node-dies 5/5: a node that comes back ends the containers of Pods that went meanwhile.
/** Containers, sandboxes and files of Pods that went away while no kubelet ran. */
async function removeOrphans(
  context: WorkerContext,
  known: Set<string>,
  workers: Map<string, PodWorker>,
  paths: KubeletPaths,
): Promise<void> {
  const orphans = new Map<string, { namespace: string; name: string }>();
  const note = (labels: Record<string, string>): void => {
    const uid = labels[labelPodUid];
    if (uid !== undefined && !known.has(uid))
      orphans.set(uid, { namespace: labels[labelPodNamespace] ?? '', name: labels[labelPodName] ?? '' });
  };
  for (const container of context.engine.containers.list({ owner: 'kubelet' })) note(container.labels);
  for (const sandbox of context.engine.sandboxes.list()) note(sandbox.labels);
  for (const uid of await readdir(paths.podsDir).catch(() => [] as string[]))
    if (!known.has(uid) && !orphans.has(uid)) orphans.set(uid, { namespace: '', name: uid });
  for (const [uid, { namespace, name }] of orphans) {
    if (workers.has(uid)) continue;
    const pod: KubeObject = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        namespace,
        name,
        uid,
        deletionTimestamp: rfc3339(context.clock.now()),
        deletionGracePeriodSeconds: 30,
      },
      spec: { containers: [] },
      status: {},
    };
    const worker = new PodWorker(pod, context);
    workers.set(uid, worker);
    worker.removed();
  }
}

/** Paths of a kubelet below a data and a run directory. */
export function kubeletPaths(dataDir: string, runDir: string): KubeletPaths {
  return { podsDir: join(dataDir, 'pods'), secretsDir: join(runDir, 'secrets'), logsDir: join(dataDir, 'pod-logs') };
}
