/**
 * One simulated node: admits and runs its Pods by script. What it says of itself (`node-reporter.ts`) and of its Pods
 * (`status-writer.ts`) and what it does when it runs short (`node-pressure.ts`) are parts of it. A node that is down or
 * cut off does not act on what it would have seen, and catches up when it is back.
 */
import type { KubeObject } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import { type Informer, type InformerFactory, keyOf } from '#client/informer.ts';
import { admitPod, type PodDemand, sumOfDemands } from '#kubelet/admit.ts';
import type { Starved } from '#kubelet/eviction.ts';
import { nodeConditions, type Pressure } from '#kubelet/node-status.ts';
import { amount } from '#kubelet/qos.ts';
import type { Refusal } from '#kubelet/status.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock, Random } from '#os/clock.ts';
import { type Duration, durationMs } from './duration.ts';
import { diskBytes, diskFullProblem } from './limits.ts';
import { imageSizeBytes, NodeImages } from './node-images.ts';
import { NodePressure } from './node-pressure.ts';
import { NodeReporter } from './node-reporter.ts';
import type { Scripts } from './pod-script.ts';
import type { References } from './references.ts';
import { SimPod } from './sim-pod.ts';
import { StatusWriter } from './status-writer.ts';

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

const noPressure: Pressure = Object.freeze({ disk: false, memory: false, pid: false });

/** What a copy of a node starts from: its options and the faults it is under. */
export interface NodeSnapshot extends NodeOptions {
  isDown?: boolean;
  isCut?: boolean;
  starved?: readonly Starved[];
  pressure?: Pressure;
}

export interface SimNodeState {
  readonly name: string;
  readonly isUp: boolean;
  readonly isConnected: boolean;
  readonly pods: readonly string[];
  /** What it is short of, as its conditions say. */ readonly pressure: Pressure;
  /** By `namespace/name`. */ readonly running: ReadonlyMap<string, SimPod>;
  readonly skewMs: number;
  readonly memoryBytes: number;
}

export interface NodeDependencies {
  client: Client;
  clock: Clock;
  random: Random;
  log: Logger;
  scripts: Scripts;
  informers: InformerFactory;
  /** Events of kubelets; off for scale runs. */ events: boolean;
  /** Leases are written always, not only when something is wrong. */ writesLeases: boolean;
}

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
  readonly #pressure: NodePressure;
  readonly #statuses: StatusWriter;
  readonly #reporter: NodeReporter;
  #nextIp = 1;
  /** What all of `running` would take together, ended Pods included: enough to see that there is room. */
  #taken: PodDemand = { pods: 0, resources: new Map(), hostPorts: [] };
  readonly #ips = new Set<string>();

  constructor(
    fleet: Fleet,
    index: number,
    { isDown: _down, isCut: _cut, starved = [], pressure = noPressure, ...options }: NodeSnapshot,
  ) {
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
    this.#recorder = fleet.deps.events
      ? createEventRecorder({ ...fleet.deps, component: 'kubelet', host: this.name })
      : undefined;
    this.#statuses = new StatusWriter(fleet.deps, () => this.#acts);
    this.#pressure = this.#makePressure(starved, pressure);
    this.#reporter = this.#makeReporter();
  }

  #makePressure(starved: readonly Starved[], conditions: Pressure): NodePressure {
    const [isUp, isStopped] = [(): boolean => this.isUp, (): boolean => this.#fleet.isStopped];
    return new NodePressure(
      {
        clock: this.#fleet.deps.clock,
        images: this.images,
        running: this.running,
        get isUp() {
          return isUp();
        },
        get isStopped() {
          return isStopped();
        },
        report: () => {
          this.#reporter.report();
        },
        evicted: ({ pod }, message) => {
          this.#recorder?.event(pod, 'Warning', 'Evicted', message);
        },
      },
      starved,
      conditions,
    );
  }

  #makeReporter(): NodeReporter {
    const [acts, now, pressure] = [(): boolean => this.#acts, (): number => this.#now(), (): Pressure => this.pressure];
    return new NodeReporter(
      {
        name: this.name,
        get acts() {
          return acts();
        },
        get nowMs() {
          return now();
        },
        get pressure() {
          return pressure();
        },
      },
      this.#fleet,
    );
  }

  get pods(): readonly string[] {
    return [...this.running.keys()];
  }
  get memoryBytes(): number {
    return this.#allocatable.get('memory')!;
  }
  get pressure(): Pressure {
    return this.#pressure.conditions;
  }
  get #acts(): boolean {
    return this.isUp && this.isConnected && !this.#fleet.isStopped;
  }
  #now(): number {
    return this.#fleet.deps.clock.now() + this.skewMs;
  }

  /** As its copy would have to start. */
  snapshot(): NodeSnapshot {
    return {
      ...this.options,
      name: this.name,
      clockSkew: this.skewMs,
      pullDelay: this.pullDelayMs,
      images: this.images.names(this.#fleet.deps.clock.now()),
      isDown: !this.isUp,
      isCut: !this.isConnected,
      starved: this.#pressure.starved,
      pressure: this.pressure,
    };
  }

  // ---- the Node -----------------------------------------------------------------------------------------------

  async register(): Promise<void> {
    const { labels, zone, taints, images } = this.options;
    await this.#reporter.register({
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: this.name,
        labels: {
          'kubernetes.io/hostname': this.name,
          'kubernetes.io/os': 'linux',
          'kubernetes.io/arch': 'amd64',
          ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }),
          ...labels,
        },
      },
      spec: {
        podCIDR: `10.${64 + (this.index >> 8)}.${this.index & 255}.0/24`,
        ...(taints === undefined ? {} : { taints }),
      },
      status: {
        capacity: this.#amounts,
        allocatable: this.#amounts,
        conditions: nodeConditions(undefined, this.#now(), this.pressure),
        addresses: [
          { type: 'InternalIP', address: this.hostIp },
          { type: 'Hostname', address: this.name },
        ],
        nodeInfo: {
          kubeletVersion: 'v1.37.2',
          osImage: 'simulated',
          operatingSystem: 'linux',
          architecture: 'amd64',
          kernelVersion: 'sim',
          containerRuntimeVersion: 'sim://1',
          bootID: '',
          machineID: '',
          systemUUID: '',
          kubeProxyVersion: '',
        },
        ...(images === undefined
          ? {}
          : { images: images.map((name) => ({ names: [name], sizeBytes: imageSizeBytes })) }),
      },
    });
  }

  beginHeartbeats(): void {
    this.#reporter.begin();
    this.#pressure.begin();
  }

  get isBeating(): boolean {
    return this.#reporter.isBeating;
  }
  heartbeatsChanged(): void {
    this.#reporter.changed();
  }
  /** A version of the node's own object. */
  seeSelf(node: KubeObject): void {
    this.#reporter.report(node);
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
      if (held.pod === pod && held.disagreesWith(pod)) this.#statuses.changed(held);
      return;
    }
    if (held !== undefined) this.#drop(key, held);
    const made = this.#makePod(pod);
    const refusal =
      pod['status']?.startTime === undefined && pod.metadata.deletionTimestamp === undefined
        ? this.#admit(made)
        : undefined;
    this.#hold(key, made);
    if (refusal === undefined) made.start();
    else made.refuse(refusal);
  }

  #makePod(pod: KubeObject): SimPod {
    const { clock, random, scripts } = this.#fleet.deps;
    const of = (name: string): number => this.#allocatable.get(name)!;
    return new SimPod(pod, {
      clock,
      random,
      scripts,
      recorder: this.#recorder,
      references: this.#fleet.references,
      images: this.images,
      hostIp: this.hostIp,
      allocatable: { cpu: of('cpu'), memory: of('memory'), ephemeralStorage: of('ephemeral-storage') },
      skewMs: () => this.skewMs,
      pullDelayMs: () => this.pullDelayMs,
      diskProblem: () => (this.#pressure.isShortOf('ephemeral-storage') ? diskFullProblem : undefined),
      allocateIp: () => this.#allocateIp(),
      changed: (which) => {
        this.#statuses.changed(which);
      },
      stopped: (which) => {
        this.#statuses.stopped(which);
      },
      starved: () => {
        this.#pressure.peak();
      },
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
    for (const port of hostPorts)
      if (sign === 1) ports.push(port);
      else ports.splice(ports.indexOf(port), 1);
    this.#taken = { pods: this.#taken.pods + sign, resources: total, hostPorts: ports };
  }

  /** Why the Pod may not run here; undefined when it may. */
  #admit(pod: SimPod): Refusal | undefined {
    const { self } = this.#reporter;
    const room = {
      name: this.name,
      labels: self?.metadata.labels ?? {},
      taints: self?.['spec']?.taints ?? [],
      pods: this.#allocatable.get('pods')!,
      allocatable: this.#allocatable,
      pressure: this.pressure,
    };
    if (admitPod(pod.pod, pod.demand, this.#taken, room) === undefined) return undefined;
    return admitPod(
      pod.pod,
      pod.demand,
      sumOfDemands([...this.running.values()].filter(({ isFinished }) => !isFinished).map(({ demand }) => demand)),
      room,
    );
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

  // ---- faults -------------------------------------------------------------------------------------------------

  /** Power off: no lease, no reports, containers gone. */
  down(): void {
    this.isUp = false;
    this.images.forgetPulls(this.#fleet.deps.clock.now());
    this.#reporter.changed();
    for (const pod of this.running.values()) pod.suspend();
  }

  up(): void {
    if (this.isUp) return;
    this.isUp = true;
    this.#reporter.returned();
    for (const pod of this.running.values()) pod.reboot();
    this.#catchUp();
  }

  cut(): void {
    this.isConnected = false;
    this.#reporter.changed();
  }

  heal(): void {
    if (this.isConnected) return;
    this.isConnected = true;
    this.#reporter.returned();
    this.#catchUp();
  }

  /** Back in touch: reports itself, drops Pods that are gone, takes up new ones, writes what changed meanwhile. */
  #catchUp(): void {
    if (!this.#acts) return;
    this.#reporter.report();
    const present = new Map([...this.#fleet.pods.by('node', this.name)].map((pod) => [keyOf(pod), pod]));
    for (const [key, held] of [...this.running]) {
      if (present.get(key)?.metadata.uid === held.pod.metadata.uid) continue;
      this.#drop(key, held);
    }
    for (const pod of present.values()) this.see(pod);
    for (const held of this.running.values()) this.#statuses.changed(held);
  }

  /** The node runs short of something until `relieve`. */
  starve(resource: Starved): void {
    this.#pressure.starve(resource);
  }
  relieve(resource: Starved): void {
    this.#pressure.relieve(resource);
  }

  stop(): void {
    this.#reporter.stop();
    this.#pressure.stop();
    for (const pod of this.running.values()) pod.dispose();
  }
}
