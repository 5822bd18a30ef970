/**
 * The simulated nodes: each registers itself, renews its lease, runs its Pods by script and reports usage. One informer serves all of
 * them; a node that is down or cut off simply does not act on what it would have seen, and catches up when it is back.
 */
import { isReason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { microTimestamp, timestamp } from '#base/timestamp.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import { indexes, type Informer, InformerFactory, keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import { conditionOf } from '#controllers/pods.ts';
import type { Heartbeats } from '#controllers/node-lifecycle.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import { type Duration, durationMs } from './duration.ts';
import { leaseRenewMs } from './limits.ts';
import type { Scripts } from './pod-script.ts';
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
  images?: string[];
  /** How far this node's clock is off. */
  clockSkew?: Duration;
}

export interface SimNodeState { readonly name: string; readonly isUp: boolean; readonly isConnected: boolean; readonly pods: readonly string[] }

interface Dependencies { client: Client; clock: Clock; random: Random; log: Logger; scripts: Scripts; informers: InformerFactory; /** Events of kubelets; off for scale runs. */ events: boolean; /** Leases are written always, not only when something is wrong. */ writesLeases: boolean }

const silentRecorder: EventRecorder = { event() {}, flush: async () => undefined };

class SimNode implements SimNodeState {
  readonly name: string;
  readonly index: number;
  readonly hostIp: string;
  readonly options: NodeOptions;
  readonly running = new Map<string, SimPod>();
  readonly #fleet: SimNodes;
  isUp = true;
  isConnected = true;
  #leaseTimer: Timer | undefined;
  /** When in each period the Lease falls due. */
  #phaseMs = 0;
  #wasBeating = false;
  #nextIp = 1;
  #reporting = false;
  readonly #dirty = new Set<SimPod>();
  readonly #gone = new Set<SimPod>();
  readonly #writing = new Set<SimPod>();
  readonly recorder: EventRecorder;

  constructor(fleet: SimNodes, index: number, options: NodeOptions) {
    this.#fleet = fleet;
    this.index = index;
    this.options = options;
    this.name = options.name ?? `node-${index}`;
    this.hostIp = `172.${16 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;
    this.recorder = fleet.deps.events ? createEventRecorder({ ...fleet.deps, component: 'kubelet', host: this.name }) : silentRecorder;
  }

  get pods(): readonly string[] { return [...this.running.keys()]; }
  get #acts(): boolean { return this.isUp && this.isConnected && !this.#fleet.isStopped; }

  async register(): Promise<void> {
    const { client, clock } = this.#fleet.deps;
    const { labels, zone, cpu = '8', memory = '32Gi', pods = 110, taints, extended, images } = this.options;
    const amounts = { cpu, memory, pods: String(pods), 'ephemeral-storage': '100Gi', ...extended };
    const node: KubeObject = {
      apiVersion: 'v1', kind: 'Node',
      metadata: { name: this.name, labels: { 'kubernetes.io/hostname': this.name, 'kubernetes.io/os': 'linux', 'kubernetes.io/arch': 'amd64', ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }), ...labels } },
      spec: { podCIDR: `10.${64 + (this.index >> 8)}.${this.index & 255}.0/24`, ...(taints === undefined ? {} : { taints }) },
      status: {
        capacity: amounts, allocatable: amounts, conditions: this.#conditions(), addresses: [{ type: 'InternalIP', address: this.hostIp }, { type: 'Hostname', address: this.name }],
        nodeInfo: { kubeletVersion: 'v1.37.2', osImage: 'simulated', operatingSystem: 'linux', architecture: 'amd64', kernelVersion: 'sim', containerRuntimeVersion: 'sim://1', bootID: '', machineID: '', systemUUID: '', kubeProxyVersion: '' },
        ...(images === undefined ? {} : { images: images.map((name) => ({ names: [name], sizeBytes: 100_000_000 })) }),
      },
    };
    try {
      await client.create(kinds.Node, node);
    } catch (error) {
      if (!isReason(error, 'AlreadyExists')) throw error;
      await client.patch(kinds.Node, this.name, undefined, 'strategic', { status: { conditions: this.#conditions() } }, { subresource: 'status' });
    }
    await this.#renew();
    // Leases of many nodes must not fall due at one instant.
    this.#phaseMs = (clock.monotonic() + Math.floor(this.#fleet.deps.random.float() * leaseRenewMs)) % leaseRenewMs;
    this.heartbeatsChanged();
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

  #conditions(): unknown[] {
    const at = timestamp(this.#now());
    const condition = (type: string, status: string, reason: string, message: string): unknown => ({ type, status, reason, message, lastHeartbeatTime: at, lastTransitionTime: at });
    return [
      condition('MemoryPressure', 'False', 'KubeletHasSufficientMemory', 'kubelet has sufficient memory available'), condition('DiskPressure', 'False', 'KubeletHasNoDiskPressure', 'kubelet has no disk pressure'),
      condition('PIDPressure', 'False', 'KubeletHasSufficientPID', 'kubelet has sufficient PID available'), condition('Ready', 'True', 'KubeletReady', 'kubelet is posting ready status'),
    ];
  }

  #now(): number { return this.#fleet.deps.clock.now() + durationMs(this.options.clockSkew ?? 0); }

  #onLease(): void {
    this.#leaseTimer = this.#fleet.deps.clock.setTimer(leaseRenewMs, () => this.#onLease());
    if (this.#acts) void this.#renew().catch(() => undefined);
  }

  async #renew(): Promise<void> {
    const { client } = this.#fleet.deps;
    const spec = { holderIdentity: this.name, leaseDurationSeconds: 40, renewTime: microTimestamp(this.#now()) };
    const lease: KubeObject = { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: this.name, namespace: 'kube-node-lease' }, spec };
    try {
      await client.update(kinds.Lease, lease);
    } catch (error) {
      if (isReason(error, 'NotFound')) await client.create(kinds.Lease, lease).catch(() => undefined);
    }
  }

  /** A Pod of this node was added or changed. */
  see(pod: KubeObject): void {
    if (!this.#acts) return;
    const key = keyOf(pod);
    const held = this.running.get(key);
    if (held !== undefined && held.pod.metadata.uid === pod.metadata.uid) {
      held.update(pod);
      // Somebody else marked it not ready (this node was thought lost): the kubelet knows better.
      if (conditionOf(pod, 'Ready')?.status === 'False' && held.isReady && pod.metadata.deletionTimestamp === undefined) { this.#dirty.add(held); this.#flush(held); }
      return;
    }
    held?.dispose();
    const made = new SimPod(pod, {
      ...this.#fleet.deps, recorder: this.recorder, hostIp: this.hostIp, allocateIp: () => this.#allocateIp(),
      changed: (which) => { this.#dirty.add(which); this.#flush(which); }, stopped: (which) => { this.#gone.add(which); this.#flush(which); },
    });
    this.running.set(key, made);
    made.start();
  }

  /** The node's own object says that it is lost, which it is not. */
  seeSelf(node: KubeObject): void {
    if (!this.#acts || conditionOf(node, 'Ready')?.status === 'True' || this.#reporting) return;
    this.#reporting = true;
    const { client, clock } = this.#fleet.deps;
    void (async () => {
      for (;;) {
        try {
          await this.#renew();
          await client.patch(kinds.Node, this.name, undefined, 'strategic', { status: { conditions: this.#conditions() } }, { subresource: 'status' });
          return;
        } catch (error) {
          if (isReason(error, 'NotFound') || !this.#acts) return;
          await clock.sleep(2_000);
        }
      }
    })().finally(() => { this.#reporting = false; });
  }

  unsee(pod: KubeObject): void {
    if (!this.#acts) return;
    const key = keyOf(pod);
    const held = this.running.get(key);
    if (held === undefined || held.pod.metadata.uid !== pod.metadata.uid) return;
    held.dispose();
    this.running.delete(key);
  }

  #allocateIp(): string {
    for (;;) {
      const host = this.#nextIp;
      this.#nextIp = (this.#nextIp % 254) + 1;
      const ip = `10.${64 + (this.index >> 8)}.${this.index & 255}.${host}`;
      if (!this.#isInUse(ip)) return ip;
    }
  }

  #isInUse(ip: string): boolean {
    for (const pod of this.running.values()) if (pod.ip === ip) return true;
    return false;
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
      const wasDirty = this.#dirty.delete(which);
      const isGone = this.#gone.has(which);
      const { name, namespace, uid } = which.pod.metadata;
      try {
        if (wasDirty || isGone) {
          const current = this.#fleet.pods.get(keyOf(which.pod));
          if (current !== undefined && current.metadata.uid === uid) which.pod = current;
          await client.update(kinds.Pod, { apiVersion: 'v1', kind: 'Pod', metadata: { name: name!, namespace: namespace!, uid: uid! }, status: which.status() }, { subresource: 'status' });
        }
        if (isGone) {
          await client.delete(kinds.Pod, name!, namespace, { gracePeriodSeconds: 0, preconditions: { uid: uid! } });
          this.#gone.delete(which);
        }
      } catch (error) {
        if (isReason(error, 'NotFound', 'Conflict')) { this.#gone.delete(which); return; }
        if (!isReason(error, 'ServiceUnavailable', 'Timeout', 'ServerTimeout')) log.warn('pod status not written', { pod: keyOf(which.pod), error });
        this.#dirty.add(which);
        await clock.sleep(1_000);
      }
    }
  }

  /** Power off: no lease, no reports, containers gone. */
  down(): void {
    this.isUp = false;
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
    const self = this.#fleet.deps.informers.informer(kinds.Node).get(this.name);
    if (self !== undefined) this.seeSelf(self);
    const present = new Map([...this.#fleet.pods.by('node', this.name)].map((pod) => [keyOf(pod), pod]));
    for (const [key, held] of [...this.running]) {
      if (present.get(key)?.metadata.uid === held.pod.metadata.uid) continue;
      held.dispose();
      this.running.delete(key);
    }
    for (const pod of present.values()) this.see(pod);
    for (const held of this.running.values()) { this.#dirty.add(held); this.#flush(held); }
  }

  stop(): void {
    this.#leaseTimer?.cancel();
    for (const pod of this.running.values()) pod.dispose();
  }
}

export class SimNodes implements AsyncDisposable, Heartbeats {
  readonly deps: Dependencies;
  readonly pods: Informer;
  readonly #nodes = new Map<string, SimNode>();
  isStopped = false;
  #isQuiet: boolean;
  #heard: ((node: string, agoMs: number) => void) | undefined;

  constructor(deps: Dependencies) {
    this.deps = deps;
    this.#isQuiet = !deps.writesLeases;
    this.pods = deps.informers.informer(kinds.Pod).addIndex('node', indexes.node);
    const see = (pod: KubeObject): void => { this.#nodes.get(pod['spec']?.nodeName ?? '')?.see(pod); };
    const seeSelf = (node: KubeObject): void => { this.#nodes.get(node.metadata.name!)?.seeSelf(node); };
    deps.informers.informer(kinds.Node).addHandler({ added: seeSelf, updated: seeSelf });
    this.pods.addHandler({ added: see, updated: see, deleted: (pod) => { this.#nodes.get(pod['spec']?.nodeName ?? '')?.unsee(pod); } });
  }

  /** Nothing is wrong with any network: Leases need not be written to be known. */
  get isQuiet(): boolean { return this.#isQuiet; }
  isBeating(node: string): boolean { return this.#nodes.get(node)?.isBeating === true; }
  listen(heard: (node: string, agoMs: number) => void): void { this.#heard = heard; }
  tellHeartbeat(node: string, agoMs: number): void { this.#heard?.(node, agoMs); }

  setQuiet(isQuiet: boolean): void {
    const next = isQuiet && !this.deps.writesLeases;
    if (next === this.#isQuiet) return;
    this.#isQuiet = next;
    for (const node of this.#nodes.values()) node.heartbeatsChanged();
  }

  /** Adds nodes and waits until they are registered. `existing` nodes (a fork) take up what they already run. */
  async add(options: readonly NodeOptions[]): Promise<void> {
    const first = this.#nodes.size;
    const made = options.map((option, at) => new SimNode(this, first + at, option));
    for (const node of made) this.#nodes.set(node.name, node);
    for (const node of made) {
      await node.register();
      for (const pod of [...this.pods.by('node', node.name)]) node.see(pod);
    }
  }

  names(): string[] { return [...this.#nodes.keys()]; }
  get(name: string): SimNodeState | undefined { return this.#nodes.get(name); }
  /** Power off and on. */
  kill(name: string): void { this.#of(name).down(); }
  boot(name: string): void { this.#of(name).up(); }
  /** Cuts a node off from the API server and joins it again; its containers go on. */
  partition(name: string): void { this.#of(name).cut(); }
  heal(name: string): void { this.#of(name).heal(); }
  /** A running container of a Pod dies with this code. */
  crashPod(namespace: string, name: string, exitCode = 1): void { this.find(`${namespace}/${name}`)?.crash(exitCode); }
  options(): NodeOptions[] { return [...this.#nodes.values()].map(({ options, name }) => ({ ...options, name })); }

  find(key: string): SimPod | undefined {
    for (const node of this.#nodes.values()) {
      const pod = node.running.get(key);
      if (pod !== undefined) return pod;
    }
    return undefined;
  }

  *running(): Iterable<{ node: string; pod: SimPod }> {
    for (const node of this.#nodes.values()) if (node.isUp) for (const pod of node.running.values()) yield { node: node.name, pod };
  }

  #of(name: string): SimNode {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no simulated node ${JSON.stringify(name)}`);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.isStopped = true;
    for (const node of this.#nodes.values()) node.stop();
  }
}
