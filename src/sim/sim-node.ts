/**
 * One simulated node: registers itself, renews its Lease, admits and runs its Pods by script, writes their status, and evicts them when it
 * runs short. A node that is down or cut off does not act on what it would have seen, and catches up when it is back.
 */
import { isReason } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { microTimestamp } from '#base/timestamp.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import { type Informer, type InformerFactory, keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { conditionOf } from '#controllers/pods.ts';
import { admitPod, type PodDemand, sumOfDemands } from '#kubelet/admit.ts';
import { evictionMessage, rankForEviction, type Starved } from '#kubelet/eviction.ts';
import { evictionIntervalMs, leaseDurationSeconds, leaseRenewMs, pressureTransitionMs } from '#kubelet/limits.ts';
import { nodeConditions, type Pressure } from '#kubelet/node-status.ts';
import { amount } from '#kubelet/qos.ts';
import type { Refusal } from '#kubelet/status.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import { type Duration, durationMs } from './duration.ts';
import { diskBytes, memoryThresholdBytes } from './limits.ts';
import { imageSizeBytes, NodeImages } from './node-images.ts';
import type { Scripts } from './pod-script.ts';
import type { References } from './references.ts';
import { SimPod } from './sim-pod.ts';

export interface NodeOptions {
  name?: string;
  labels?: Record<string, string>;
  zone?: string;
  cpu?: string;
  memory?: string;
  pods?: number;
  taints?: { key: string; value?: string; effect: string }[];
  extended?: Record<string, string>;
  /** Images that need not be pulled. */
  images?: string[];
  /** Every image pull takes this long more. */
  pullDelay?: Duration;
  /** How far this node's clock is off. */
  clockSkew?: Duration;
}

/** What a copy of a node starts from: its options and the faults it is under. */
export interface NodeSnapshot extends NodeOptions { isDown?: boolean; isCut?: boolean; starved?: readonly Starved[]; pressure?: Pressure }

export interface SimNodeState { readonly name: string; readonly isUp: boolean; readonly isConnected: boolean; readonly pods: readonly string[]; /** What it is short of, as its conditions say. */ readonly pressure: Pressure }

export interface NodeDependencies { client: Client; clock: Clock; random: Random; log: Logger; scripts: Scripts; informers: InformerFactory; /** Events of kubelets; off for scale runs. */ events: boolean; /** Leases are written always, not only when something is wrong. */ writesLeases: boolean }

/** What a node needs of its fleet. */
export interface Fleet {
  readonly deps: NodeDependencies;
  readonly pods: Informer;
  readonly references: References;
  readonly isQuiet: boolean;
  readonly isStopped: boolean;
  tellHeartbeat(node: string, agoMs: number): void;
}

export class SimNode implements SimNodeState {
  readonly name: string;
  readonly index: number;
  readonly hostIp: string;
  readonly options: NodeOptions;
  readonly running = new Map<string, SimPod>();
  readonly images: NodeImages;
  readonly #fleet: Fleet;
  readonly #amounts: Record<string, string>;
  readonly #allocatable: Map<string, number>;
  readonly #recorder: EventRecorder | undefined;
  isUp = true;
  isConnected = true;
  skewMs: number;
  pullDelayMs: number;
  /** What it is short of right now, and what its conditions say, which is longer. */
  readonly starved = new Set<Starved>();
  pressure: Pressure = { disk: false, memory: false };
  readonly #pressureTimers = new Map<Starved, Timer>();
  #evictionTimer: Timer | undefined;
  #leaseTimer: Timer | undefined;
  /** When in each period the Lease falls due. */
  #phaseMs = 0;
  #wasBeating = false;
  #nextIp = 1;
  #reporting = false;
  /** What all of `running` would take together, ended Pods included: enough to see that there is room. */
  #taken: PodDemand = { pods: 0, resources: new Map(), hostPorts: [] };
  readonly #ips = new Set<string>();
  readonly #dirty = new Set<SimPod>();
  readonly #gone = new Set<SimPod>();
  readonly #writing = new Set<SimPod>();

  constructor(fleet: Fleet, index: number, { isDown: _down, isCut: _cut, starved = [], pressure, ...options }: NodeSnapshot) {
    this.#fleet = fleet;
    this.index = index;
    this.options = options;
    this.name = options.name ?? `node-${index}`;
    this.hostIp = `172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
    this.skewMs = durationMs(options.clockSkew ?? 0);
    this.pullDelayMs = durationMs(options.pullDelay ?? 0);
    this.images = new NodeImages(options.images ?? []);
    const { cpu = '8', memory = '32Gi', pods = 110, extended } = options;
    this.#amounts = { cpu, memory, pods: String(pods), 'ephemeral-storage': String(diskBytes), ...extended };
    this.#allocatable = new Map(Object.entries(this.#amounts).map(([name, value]) => [name, amount(value) ?? 0]));
    this.#recorder = fleet.deps.events ? createEventRecorder({ ...fleet.deps, component: 'kubelet', host: this.name }) : undefined;
    if (pressure !== undefined) this.pressure = pressure;
    for (const resource of starved) this.starved.add(resource);
  }

  get pods(): readonly string[] { return [...this.running.keys()]; }
  get #acts(): boolean { return this.isUp && this.isConnected && !this.#fleet.isStopped; }
  #now(): number { return this.#fleet.deps.clock.now() + this.skewMs; }

  /** As its copy would have to start. */
  snapshot(): NodeSnapshot {
    return { ...this.options, name: this.name, clockSkew: this.skewMs, pullDelay: this.pullDelayMs, images: this.images.names(this.#fleet.deps.clock.now()), isDown: !this.isUp, isCut: !this.isConnected, starved: [...this.starved], pressure: this.pressure };
  }

  // ---- the Node and its Lease ---------------------------------------------------------------------------------

  async register(): Promise<void> {
    const { client } = this.#fleet.deps;
    const { labels, zone, taints, images } = this.options;
    const node: KubeObject = {
      apiVersion: 'v1', kind: 'Node',
      metadata: { name: this.name, labels: { 'kubernetes.io/hostname': this.name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'amd64', ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }), ...labels } },
      spec: { podCIDR: `10.${64 + (this.index >> 8)}.${this.index & 255}.0/24`, ...(taints === undefined ? {} : { taints }) },
      status: {
        capacity: this.#amounts, allocatable: this.#amounts, conditions: nodeConditions(undefined, this.#now(), this.pressure), addresses: [{ type: 'InternalIP', address: this.hostIp }, { type: 'Hostname', address: this.name }],
        nodeInfo: { kubeletVersion: 'v1.37.2', osImage: 'simulated', operatingSystem: 'linux', architecture: 'amd64', kernelVersion: 'sim', containerRuntimeVersion: 'sim://1', bootID: '', machineID: '', systemUUID: '', kubeProxyVersion: '' },
        ...(images === undefined ? {} : { images: images.map((name) => ({ names: [name], sizeBytes: imageSizeBytes })) }),
      },
    };
    try {
      await client.create(kinds.Node, node);
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
      await this.#writeConditions();
    }
    await this.#renew();
  }

  beginHeartbeats(): void {
    const { clock } = this.#fleet.deps;
    // Leases of many nodes must not fall due at one instant.
    this.#phaseMs = (clock.monotonic() + Math.floor(this.#fleet.deps.random.float() * leaseRenewMs)) % leaseRenewMs;
    this.heartbeatsChanged();
    if (this.starved.size > 0) this.#watchPressure();
    this.#endPressureLater();
  }

  get isBeating(): boolean { return this.#acts && this.#fleet.isQuiet; }

  /** Starts or ends writing Leases: where nothing is wrong, they are renewed in thought only. */
  heartbeatsChanged(): void {
    const agoMs = (((this.#fleet.deps.clock.monotonic() - this.#phaseMs) % leaseRenewMs) + leaseRenewMs) % leaseRenewMs;
    this.#leaseTimer?.cancel();
    this.#leaseTimer = this.#fleet.isQuiet ? undefined : this.#fleet.deps.clock.setTimer(leaseRenewMs - agoMs, () => this.#onLease());
    if (this.#wasBeating && !this.isBeating) this.#fleet.tellHeartbeat(this.name, agoMs);
    this.#wasBeating = this.isBeating;
  }

  #onLease(): void {
    this.#leaseTimer = this.#fleet.deps.clock.setTimer(leaseRenewMs, () => this.#onLease());
    if (this.#acts) void this.#renew().catch(() => undefined);
  }

  async #renew(): Promise<void> {
    const { client } = this.#fleet.deps;
    const spec = { holderIdentity: this.name, leaseDurationSeconds, renewTime: microTimestamp(this.#now()) };
    const lease: KubeObject = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: this.name, namespace: 'kube-node-lease' }, spec };
    try {
      await client.update(kinds.Lease, lease);
    } catch (error) {
      if (isReason(error, 'NotFound')) await client.create(kinds.Lease, lease).catch(() => undefined);
    }
  }

  #self(): KubeObject | undefined { return this.#fleet.deps.informers.informer(kinds.Node).get(this.name); }

  async #writeConditions(): Promise<void> {
    await this.#fleet.deps.client.patch(kinds.Node, this.name, undefined, 'strategic', { status: { conditions: nodeConditions(this.#self()?.['status'], this.#now(), this.pressure) } }, { subresource: 'status' });
  }

  /** The node's own object says something of it that is not so: that it is lost, or that it has room. */
  seeSelf(node: KubeObject): void {
    if (!this.#acts || this.#reporting) return;
    const says = (type: string, holds: boolean): boolean => conditionOf(node, type)?.status === (holds ? 'True' : 'False');
    if (says('Ready', true) && says('DiskPressure', this.pressure.disk) && says('MemoryPressure', this.pressure.memory)) return;
    this.#reporting = true;
    const { clock } = this.#fleet.deps;
    void (async () => {
      for (;;) {
        try {
          await this.#renew();
          await this.#writeConditions();
          return;
        } catch (error) {
          if (isReason(error, 'NotFound') || !this.#acts) return;
          await clock.sleep(2_000);
        }
      }
    })().finally(() => { this.#reporting = false; });
  }

  #report(): void {
    const self = this.#self();
    if (self !== undefined) this.seeSelf(self);
  }

  // ---- Pods ---------------------------------------------------------------------------------------------------

  /** A Pod of this node was added or changed. */
  see(pod: KubeObject): void {
    if (!this.#acts) return;
    const key = keyOf(pod);
    const held = this.running.get(key);
    if (held !== undefined && held.pod.metadata.uid === pod.metadata.uid) {
      held.update(pod);
      // Somebody else marked it not ready (this node was thought lost), or a readiness gate changed.
      if (held.pod === pod && held.disagreesWith(pod)) this.#onChanged(held);
      return;
    }
    if (held !== undefined) this.#drop(key, held);
    const made = this.#makePod(pod);
    const refusal = pod['status']?.startTime === undefined && pod.metadata.deletionTimestamp === undefined ? this.#admit(made) : undefined;
    this.#hold(key, made);
    if (refusal === undefined) made.start();
    else made.refuse(refusal);
  }

  #makePod(pod: KubeObject): SimPod {
    const { clock, random, scripts } = this.#fleet.deps;
    const of = (name: string): number => this.#allocatable.get(name)!;
    return new SimPod(pod, {
      clock, random, scripts, recorder: this.#recorder, references: this.#fleet.references, images: this.images, hostIp: this.hostIp, allocatable: { cpu: of('cpu'), memory: of('memory'), ephemeralStorage: of('ephemeral-storage') },
      skewMs: () => this.skewMs, pullDelayMs: () => this.pullDelayMs, allocateIp: () => this.#allocateIp(),
      changed: (which) => { this.#onChanged(which); }, stopped: (which) => { this.#gone.add(which); this.#flush(which); }, starved: () => { this.#onStarved(); },
    });
  }

  #hold(key: string, pod: SimPod): void {
    this.running.set(key, pod);
    this.#ips.add(pod.ip);
    this.#count(pod.demand, 1);
  }

  #drop(key: string, pod: SimPod): void {
    pod.dispose();
    this.running.delete(key);
    this.#ips.delete(pod.ip);
    this.#count(pod.demand, -1);
  }

  #count({ resources, hostPorts }: PodDemand, sign: 1 | -1): void {
    const total = this.#taken.resources as Map<string, number>;
    for (const [name, value] of resources) total.set(name, (total.get(name) ?? 0) + sign * value);
    const ports = [...this.#taken.hostPorts];
    for (const port of hostPorts) if (sign === 1) ports.push(port); else ports.splice(ports.indexOf(port), 1);
    this.#taken = { pods: this.#taken.pods + sign, resources: total, hostPorts: ports };
  }

  /** Why the Pod may not run here; undefined when it may. */
  #admit(pod: SimPod): Refusal | undefined {
    const room = { name: this.name, labels: this.#self()?.metadata.labels ?? {}, pods: this.#allocatable.get('pods')!, allocatable: this.#allocatable, pressure: this.pressure };
    if (admitPod(pod.pod, pod.demand, this.#taken, room) === undefined) return undefined;
    return admitPod(pod.pod, pod.demand, sumOfDemands([...this.running.values()].filter(({ isFinished }) => !isFinished).map(({ demand }) => demand)), room);
  }

  unsee(pod: KubeObject): void {
    if (!this.#acts) return;
    const key = keyOf(pod);
    const held = this.running.get(key);
    if (held === undefined || held.pod.metadata.uid !== pod.metadata.uid) return;
    this.#drop(key, held);
  }

  #allocateIp(): string {
    for (;;) {
      const host = this.#nextIp;
      this.#nextIp = (this.#nextIp % 254) + 1;
      const ip = `10.${64 + (this.index >> 8)}.${this.index & 255}.${host}`;
      if (this.#ips.has(ip)) continue;
      this.#ips.add(ip);
      return ip;
    }
  }

  #onChanged(which: SimPod): void {
    this.#dirty.add(which);
    this.#flush(which);
  }

  /** Writes a Pod's status; one write at a time per Pod, the newest state each. */
  #flush(which: SimPod): void {
    if (this.#writing.has(which) || !this.#acts) return;
    this.#writing.add(which);
    void this.#write(which);
  }

  async #write(which: SimPod): Promise<void> {
    // What changes on one turn is one write.
    await undefined;
    try {
      await this.#writeAll(which);
    } finally {
      this.#writing.delete(which);
      // What changed while this came to its end.
      if ((this.#dirty.has(which) || this.#gone.has(which)) && this.#acts) this.#flush(which);
    }
  }

  async #writeAll(which: SimPod): Promise<void> {
    const { client, clock, log } = this.#fleet.deps;
    while ((this.#dirty.has(which) || this.#gone.has(which)) && this.#acts) {
      this.#dirty.delete(which);
      const isGone = this.#gone.has(which);
      const { name, namespace, uid, resourceVersion } = which.pod.metadata;
      try {
        // Conditions of others are kept as this Pod's newest known version has them, so it must be the newest.
        which.update(await client.update(kinds.Pod, { apiVersion: 'v1', kind: 'Pod', metadata: { name: name!, namespace: namespace!, uid: uid!, resourceVersion: resourceVersion! }, status: which.status() }, { subresource: 'status' }));
        if (!isGone) continue;
        await client.delete(kinds.Pod, name!, namespace, { gracePeriodSeconds: 0, preconditions: { uid: uid! } });
        this.#gone.delete(which);
      } catch (error) {
        if (isReason(error, 'NotFound')) { this.#gone.delete(which); return; }
        this.#dirty.add(which);
        if (isReason(error, 'Conflict') && (await this.#catchUpWith(which))) continue;
        if (!isReason(error, 'ServiceUnavailable', 'Timeout', 'ServerTimeout', 'Conflict')) log.warn('pod status not written', { pod: keyOf(which.pod), error });
        await clock.sleep(1_000);
      }
    }
  }

  /** Reads a Pod that changed before the node could write. False when that cannot be done now. */
  async #catchUpWith(which: SimPod): Promise<boolean> {
    const { name, namespace, uid } = which.pod.metadata;
    try {
      const current = await this.#fleet.deps.client.get(kinds.Pod, name!, namespace);
      if (current.metadata.uid === uid) { which.update(current); return true; }
    } catch (error) {
      if (!isReason(error, 'NotFound')) return false;
    }
    this.#dirty.delete(which);
    this.#gone.delete(which);
    return true;
  }

  // ---- faults -------------------------------------------------------------------------------------------------

  /** Power off: no lease, no reports, containers gone. */
  down(): void {
    this.isUp = false;
    this.images.forgetPulls(this.#fleet.deps.clock.now());
    this.heartbeatsChanged();
    for (const pod of this.running.values()) pod.suspend();
  }

  up(): void {
    if (this.isUp) return;
    this.isUp = true;
    this.#returned();
    for (const pod of this.running.values()) pod.reboot();
    this.#catchUp();
  }

  cut(): void {
    this.isConnected = false;
    this.heartbeatsChanged();
  }

  heal(): void {
    if (this.isConnected) return;
    this.isConnected = true;
    this.#returned();
    this.#catchUp();
  }

  #returned(): void {
    this.heartbeatsChanged();
    // The first sign of life is a written one.
    if (this.isBeating) void this.#renew().catch(() => undefined);
  }

  /** Back in touch: reports itself, drops Pods that are gone, takes up new ones, writes what changed meanwhile. */
  #catchUp(): void {
    if (!this.#acts) return;
    this.#report();
    const present = new Map([...this.#fleet.pods.by('node', this.name)].map((pod) => [keyOf(pod), pod]));
    for (const [key, held] of [...this.running]) {
      if (present.get(key)?.metadata.uid === held.pod.metadata.uid) continue;
      this.#drop(key, held);
    }
    for (const pod of present.values()) this.see(pod);
    for (const held of this.running.values()) this.#onChanged(held);
  }

  // ---- pressure -----------------------------------------------------------------------------------------------

  /** The node runs short of something until `relieve`: it says so, refuses new Pods and evicts one Pod after the other. */
  starve(resource: Starved): void {
    if (this.starved.has(resource)) return;
    this.starved.add(resource);
    this.#setPressure(resource, true);
    if (resource === 'ephemeral-storage') this.images.keepOnly(new Set([...this.running.values()].filter(({ isFinished }) => !isFinished).flatMap((pod) => pod.images())));
    this.#watchPressure();
  }

  relieve(resource: Starved): void {
    this.starved.delete(resource);
    this.#endPressureLater();
  }

  #setPressure(resource: Starved, holds: boolean): void {
    this.pressure = resource === 'memory' ? { ...this.pressure, memory: holds } : { ...this.pressure, disk: holds };
    this.#pressureTimers.get(resource)?.cancel();
    this.#pressureTimers.delete(resource);
    this.#report();
  }

  /** Conditions fall back only after a while without a sign of what they say. */
  #endPressureLater(): void {
    for (const [resource, holds] of [['memory', this.pressure.memory], ['ephemeral-storage', this.pressure.disk]] as const) {
      if (!holds || this.starved.has(resource) || this.#pressureTimers.has(resource)) continue;
      this.#pressureTimers.set(resource, this.#fleet.deps.clock.setTimer(pressureTransitionMs, () => this.#setPressure(resource, false)));
    }
  }

  #watchPressure(): void {
    this.#evictionTimer?.cancel();
    this.#evictionTimer = this.#fleet.deps.clock.setTimer(evictionIntervalMs, () => {
      if (this.starved.size === 0) return;
      // Memory first, as the kubelet looks at it first.
      if (this.isUp) this.#evictOne(this.starved.has('memory') ? 'memory' : 'ephemeral-storage');
      this.#watchPressure();
    });
  }

  /** A leak has come to its end: the first to be evicted goes at once, and the node has memory again. */
  #onStarved(): void {
    this.#setPressure('memory', true);
    this.#evictOne('memory');
    this.#endPressureLater();
  }

  #evictOne(resource: Starved): void {
    const candidates = [...this.running.values()].filter((pod) => !pod.isFinished && !pod.isStopping).map((which) => {
      const containers = resource === 'memory' ? which.memoryUse() : [];
      const sum = (of: (each: { usage: number; request: number }) => number): number => containers.reduce((total, each) => total + of(each), 0);
      return { which, pod: which.pod, usage: sum(({ usage }) => usage), request: resource === 'memory' ? sum(({ request }) => request) : (which.demand.resources.get(resource) ?? 0), containers };
    });
    const first = rankForEviction(candidates)[0];
    if (first === undefined) return;
    const message = resource === 'memory' ? evictionMessage(resource, memoryThresholdBytes, 0, first) : evictionMessage(resource, diskBytes / 10, 0, first);
    this.#recorder?.event(first.pod, 'Warning', 'Evicted', message);
    first.which.fail({ reason: 'Evicted', message, disrupted: true }, 0);
  }

  stop(): void {
    for (const timer of [this.#leaseTimer, this.#evictionTimer, ...this.#pressureTimers.values()]) timer?.cancel();
    for (const pod of this.running.values()) pod.dispose();
  }
}
