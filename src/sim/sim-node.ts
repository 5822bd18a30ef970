/**
 * One simulated node: the real kubelet (`kubelet/kubelet.ts`) over a simulated engine, files and machine. Faults are
 * the machine's: it loses its power (the kubelet dies, what ran is lost, and a new kubelet starts with the machine),
 * its network, its disk, its memory, the right time.
 *
 * What the kubelet follows - its Pods, its own object - it is handed from the fleet's informers: a thousand nodes with
 * a watch each would cost more than all else. A node that is down or cut off is handed nothing, and catches up.
 */
import type { Node, Pod, Service } from '#api/core.v1.ts';
import { addressAt, formatSubnet, maskIp, subnetOf, type Subnet } from '#base/ip.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { createEventRecorder, type EventRecorder } from '#client/events.ts';
import type { InformerHandler } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { createClient } from '#client/rest-client.ts';
import type { Followed, NodeReading, Rhythm } from '#kubelet/doors.ts';
import type { Starved } from '#kubelet/eviction.ts';
import { kubeletConfiguration } from '#kubelet/configuration.ts';
import { type Kubelet, runKubelet } from '#kubelet/kubelet.ts';
import type { NodeFacts, Pressure } from '#kubelet/node-status.ts';
import { amount } from '#kubelet/qos.ts';
import type { Served } from '#kubelet/serving.ts';
import { type Duration, durationMs } from './duration.ts';
import { GuardedTransport } from './faults.ts';
import type { Fleet } from './fleet.ts';
import { diskBytes, diskFullProblem } from './limits.ts';
import { NodeBeat } from './node-beat.ts';
import { NodeClock } from './node-clock.ts';
import { NodeImages } from './node-images.ts';
import { SimEngine } from './sim-engine.ts';
import { createSimFiles } from './sim-files.ts';
import { SimImages } from './sim-images.ts';
import type { SimPod } from './sim-pod.ts';
import { SimProber } from './sim-prober.ts';

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

/** What a simulated machine can be made to run out of. */
export type Exhausted = Extract<Starved, 'memory' | 'ephemeral-storage'>;

/** What a copy of a node starts from: its options and the faults it is under. */
export interface NodeSnapshot extends NodeOptions {
  isDown?: boolean;
  isCut?: boolean;
  exhausted?: readonly Exhausted[];
}

export interface SimNodeState {
  readonly name: string;
  readonly isUp: boolean;
  readonly isConnected: boolean;
  /** What it is short of, as its conditions say. */
  readonly pressure: Pressure;
  readonly pods: Iterable<SimPod>;
  readonly skewMs: number;
  readonly memoryBytes: number;
  readonly cores: number;
  readonly engine: SimEngine;
  /** As the kubelet's server needs it. */
  readonly served: Served;
  readonly configuration: object;
  answerAt(kubeletIp: string, kubeletPort: number): void;
}

const noPressure: Pressure = Object.freeze({ disk: false, memory: false, pid: false });
const noServices = { synced: Promise.resolve(), list: (): Service[] => [] };
const dns = { clusterDns: '', clusterDomain: 'cluster.local', hostResolvConf: '' };

/** One life of the kubelet's process. */
interface KubeletLife {
  kubelet: Kubelet | undefined;
  recorder: EventRecorder | undefined;
  pods: InformerHandler<Pod> | undefined;
  self: InformerHandler<Node> | undefined;
  look: (() => Promise<void>) | undefined;
  isDead: boolean;
}

/** Addresses of the nodes, and a /24 of Pods for each of them. */
const hostRange = subnetOf('172.16.0.0/12');
const podRanges = subnetOf('10.64.0.0/10');

export class SimNode implements SimNodeState {
  readonly name: string;
  readonly index: number;
  readonly hostIp: string;
  readonly #podRange: Subnet;
  readonly options: NodeOptions;
  readonly images: NodeImages;
  readonly engine: SimEngine;
  readonly served: Served;
  readonly #fleet: Fleet;
  readonly #amounts: Record<string, string>;
  readonly #clock: NodeClock;
  readonly #beat: NodeBeat;
  readonly #sources: SimImages;
  readonly #facts: NodeFacts;
  readonly #exhausted: Set<Exhausted>;
  #life: KubeletLife | undefined;
  isUp = true;
  isConnected = true;
  pullDelayMs: number;
  #nextIp = 1;

  constructor(fleet: Fleet, index: number, { isDown: _down, isCut: _cut, exhausted = [], ...options }: NodeSnapshot) {
    this.#fleet = fleet;
    this.index = index;
    this.options = options;
    this.name = options.name ?? `node-${index}`;
    this.hostIp = addressAt(hostRange, index);
    this.#podRange = maskIp({ family: podRanges.family, value: podRanges.base + BigInt(index) * 256n }, 24);
    this.#clock = new NodeClock(fleet.deps.clock, durationMs(options.clockSkew ?? 0));
    this.pullDelayMs = durationMs(options.pullDelay ?? 0);
    this.images = new NodeImages(options.images ?? []);
    const { cpu = '8', memory = '32Gi', pods = 110, extended } = options;
    this.#amounts = { cpu, memory, pods: String(pods), 'ephemeral-storage': String(diskBytes), ...extended };
    this.#exhausted = new Set(exhausted);
    this.#facts = this.#makeFacts();
    this.#sources = this.#makeSources();
    this.engine = this.#makeEngine();
    this.served = {
      kubelet: {
        pods: () => this.#life?.kubelet?.pods() ?? [],
        podByName: (namespace, name) => this.#life?.kubelet?.podByName(namespace, name),
        reading: async () => this.#read(),
        storage: async (uid) => this.#life?.kubelet?.storage(uid),
      },
      engine: this.engine,
    };
    this.#beat = new NodeBeat(this.name, () => this.#acts, fleet);
  }

  #makeSources(): SimImages {
    return new SimImages({
      ...this.#fleet.deps,
      images: this.images,
      pullDelayMs: () => this.pullDelayMs,
      diskProblem: () => (this.#exhausted.has('ephemeral-storage') ? diskFullProblem : undefined),
      pods: () => this.engine.pods,
    });
  }

  #makeEngine(): SimEngine {
    const { clock, random, scripts } = this.#fleet.deps;
    const node = this.#clock;
    return new SimEngine({
      clock,
      node,
      random,
      scripts,
      images: this.#sources,
      memoryBytes: this.memoryBytes,
      get skewMs() {
        return node.skewMs;
      },
      hostIp: this.hostIp,
      allocateIp: (isTaken) => this.#allocateIp(isTaken),
      starved: () => this.#look(),
    });
  }

  #allocateIp(isTaken: (ip: string) => boolean): string {
    for (;;) {
      const ip = addressAt(this.#podRange, this.#nextIp);
      this.#nextIp = (this.#nextIp % 254) + 1;
      if (!isTaken(ip)) return ip;
    }
  }

  get pods(): Iterable<SimPod> {
    return this.engine.pods.values();
  }
  get memoryBytes(): number {
    return amount(this.#amounts['memory']) ?? 0;
  }
  get cores(): number {
    return Math.ceil(amount(this.#amounts['cpu']) ?? 0);
  }
  get skewMs(): number {
    return this.#clock.skewMs;
  }
  set skewMs(ms: number) {
    this.#clock.skewMs = ms;
  }
  get pressure(): Pressure {
    return this.#life?.kubelet?.pressure ?? noPressure;
  }
  get #acts(): boolean {
    return this.isUp && this.isConnected && !this.#fleet.isStopped;
  }
  get isBeating(): boolean {
    return this.#beat.isBeating;
  }
  heartbeatsChanged(): void {
    this.#beat.changed();
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
      exhausted: [...this.#exhausted],
    };
  }

  // ---- the kubelet ----------------------------------------------------------------------------------------------

  /** Takes up what the node's Pods have come to, as their statuses say, and starts. Resolves when it is registered. */
  async begin(): Promise<void> {
    for (const pod of this.#fleet.pods.by('node', this.name)) this.engine.takeOver(pod);
    await this.#startKubelet();
  }

  #startKubelet(): Promise<void> {
    const { deps, references } = this.#fleet;
    const life: KubeletLife = {
      kubelet: undefined,
      recorder: undefined,
      pods: undefined,
      self: undefined,
      look: undefined,
      isDead: false,
    };
    const transport = new GuardedTransport(deps.transport, () => !life.isDead && this.isConnected);
    const client = createClient(transport, 'kubelet');
    const { random, log } = deps;
    const common = { client, clock: this.#clock, random, log };
    life.recorder = deps.events ? createEventRecorder({ ...common, component: 'kubelet', host: this.name }) : undefined;
    this.#life = life;
    const { engine } = this;
    life.kubelet = runKubelet({
      ...common,
      recorder: life.recorder,
      pods: this.#followed(
        () => [...this.#fleet.pods.by('node', this.name)],
        (handler) => (life.pods = handler),
      ),
      self: this.#followed(
        () => this.#self ?? [],
        (handler) => (life.self = handler),
      ),
      services: noServices,
      engine,
      images: this.#sources,
      files: createSimFiles(engine, references),
      prober: new SimProber(deps.clock, (id) => engine.run(id)),
      gauge: { read: async () => this.#read() },
      rhythm: this.#rhythm(life),
      facts: this.#facts,
      cgroupRoot: '',
      dns,
    });
    return life.kubelet.ready;
  }

  /** What its kubelet's `/configz` shows. */
  get configuration(): object {
    return kubeletConfiguration({ facts: this.#facts, dns, cgroupRoot: '' });
  }

  get #self(): Node[] | undefined {
    const self = this.#fleet.deps.informers.informer(kinds.Node).get(this.name);
    return self === undefined ? undefined : [self];
  }

  #followed<T extends KubeObject>(list: () => T[], hold: (handler: InformerHandler<T>) => void): Followed<T> {
    return {
      start: () => undefined,
      synced: Promise.resolve(),
      list,
      addHandler: (handler) => {
        hold(handler);
        for (const object of this.#acts ? list() : []) this.#hand(handler, object);
        return { remove: () => undefined };
      },
    };
  }

  #hand<T extends KubeObject>(handler: InformerHandler<T>, object: T): void {
    if (isOf(kinds.Pod, object)) this.engine.see(object);
    handler.added?.(object);
  }

  /** Only Leases have their time; all else happens when there is a reason to. */
  #rhythm(life: KubeletLife): Rhythm {
    return {
      every: (what, _periodMs, run) => {
        if (what === 'lease') return this.#beat.begin(run);
        if (what === 'pressure') {
          life.look = run;
          if (this.#exhausted.size > 0) void run();
        }
        return { cancel: () => undefined };
      },
    };
  }

  #look(): void {
    void this.#life?.look?.();
  }

  #read(): NodeReading {
    const memory = this.memoryBytes;
    const isLeaking = (pod: SimPod): boolean => pod.running().some((run) => run.isLeaking && run.memoryBytes >= memory);
    const isStarved = this.#exhausted.has('memory') || [...this.engine.pods.values()].some(isLeaking);
    return {
      memoryCapacityBytes: memory,
      memoryAvailableBytes: isStarved ? 0 : memory,
      nodefs: {
        capacityBytes: diskBytes,
        availableBytes: this.#exhausted.has('ephemeral-storage') ? 0 : diskBytes,
        inodes: 0,
        inodesFree: 0,
      },
      pidsMax: 0,
      pidsUsed: 0,
    };
  }

  /** Real clients reach its kubelet here; the next one says so too. */
  answerAt(kubeletIp: string, kubeletPort: number): void {
    Object.assign(this.#facts, { kubeletIp, kubeletPort });
  }

  #makeFacts(): NodeFacts {
    const { labels, zone, taints } = this.options;
    return {
      name: this.name,
      hostname: this.name,
      hostIp: this.hostIp,
      kubeletPort: 10_250,
      capacity: this.#amounts,
      allocatable: this.#amounts,
      architecture: 'amd64',
      kernelVersion: 'sim',
      osImage: 'simulated',
      machineId: '',
      bootId: '',
      systemUuid: '',
      version: 'v1.37.2',
      runtimeVersion: 'sim://1',
      labels: { ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }), ...labels },
      ...(taints === undefined ? {} : { taints }),
      podCidr: formatSubnet(this.#podRange),
      appArmor: true,
    };
  }

  // ---- what it is handed ------------------------------------------------------------------------------------------

  /** A version of the node's own object. */
  seeSelf(node: Node): void {
    if (this.#acts) this.#life?.self?.added?.(node);
  }

  /** A Pod of this node was added or changed. */
  see(pod: Pod): void {
    const handler = this.#life?.pods;
    if (this.#acts && handler !== undefined) this.#hand(handler, pod);
  }

  unsee(pod: Pod): void {
    if (this.#acts) this.#life?.pods?.deleted?.(pod, pod);
  }

  /** Back in touch: what went meanwhile, and what is there now. */
  #catchUp(): void {
    if (!this.#acts) return;
    for (const self of this.#self ?? []) this.seeSelf(self);
    const present = [...this.#fleet.pods.by('node', this.name)];
    const uids = new Set(present.map(({ metadata }) => metadata.uid));
    for (const { pod, uid } of [...this.engine.pods.values()]) if (!uids.has(uid)) this.unsee(pod);
    for (const pod of present) this.see(pod);
  }

  // ---- faults -----------------------------------------------------------------------------------------------------

  /** Power off: no lease, no reports, containers gone. */
  down(): void {
    if (!this.isUp) return;
    this.isUp = false;
    this.#beat.changed();
    this.#endLife();
    this.engine.powerOff();
  }

  up(): void {
    if (this.isUp) return;
    this.isUp = true;
    this.engine.powerOn();
    this.#beat.returned();
    // What keeps it from starting is in its log.
    void this.#startKubelet().catch(() => undefined);
  }

  #endLife(): void {
    const life = this.#life;
    this.#life = undefined;
    if (life === undefined) return;
    life.isDead = true;
    void life.kubelet?.[Symbol.asyncDispose]();
  }

  cut(): void {
    this.isConnected = false;
    this.#beat.changed();
  }

  heal(): void {
    if (this.isConnected) return;
    this.isConnected = true;
    this.#beat.returned();
    this.#catchUp();
  }

  /** The node runs short of something until `relieve`. */
  exhaust(resource: Exhausted): void {
    if (this.#exhausted.has(resource)) return;
    this.#exhausted.add(resource);
    this.#look();
  }
  relieve(resource: Exhausted): void {
    this.#exhausted.delete(resource);
  }

  stop(): void {
    this.#beat.stop();
    this.#endLife();
    this.engine.powerOff();
  }
}
