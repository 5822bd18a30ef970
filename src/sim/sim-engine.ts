/**
 * The engine of one simulated node, by the contract of `engine/engine.ts` as far as a kubelet uses it. What containers
 * do follows scripts (`sim-container.ts`), and things take the time that these say: a sandbox, a pull, a stop. Nothing
 * is decided here.
 *
 * Images survive a power cut, as containers' records do; what ran is lost.
 */
import type { Pod } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import type {
  ContainerSpec,
  ContainerStatus,
  Engine,
  EngineEvent,
  LogLine,
  LogOptions,
  SandboxSpec,
  SandboxStatus,
} from '#engine/engine.ts';
import type { KubeletEngine } from '#kubelet/doors.ts';
import { labelContainerName, labelPodUid, labelRestartCount } from '#kubelet/pod-labels.ts';
import type { ServedRuntime } from '#kubelet/serving.ts';
import type { LogPosition } from './container-log.ts';
import { followLog, readLog, statsOf, spokenTo, listeningOn } from './container-streams.ts';
import { durationMs } from './duration.ts';
import { endSeenMs, sandboxMsMax, sandboxMsMin } from './limits.ts';
import type { SimImages } from './sim-images.ts';
import { runAttach, runExec } from './pod-exec.ts';
import { type Machine, SimContainer } from './sim-container.ts';
import { SimPod } from './sim-pod.ts';

export interface SimEngineOptions extends Omit<Machine, 'died'> {
  images: SimImages;
  hostIp: string;
  /** Of the node's own part of the Pod range. */
  allocateIp(isTaken: (ip: string) => boolean): string;
}

export class SimEngine implements KubeletEngine, ServedRuntime {
  readonly pods = new Map<string, SimPod>();
  readonly #options: SimEngineOptions;
  readonly #machine: Machine;
  readonly #containers = new Map<string, SimContainer>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #ips = new Set<string>();
  #power = new AbortController();

  constructor(options: SimEngineOptions) {
    this.#options = options;
    this.#machine = {
      clock: options.clock,
      node: options.node,
      random: options.random,
      scripts: options.scripts,
      memoryBytes: options.memoryBytes,
      get skewMs() {
        return options.skewMs;
      },
      starved: () => options.starved(),
      died: (container) => this.#tell(container),
    };
  }

  readonly containers: KubeletEngine['containers'] & ServedRuntime['containers'] = {
    create: (spec) => this.#create(spec),
    start: async (id) => this.#get(id).start(),
    stop: (id, timeoutMs) => this.#stop(id, timeoutMs),
    kill: async (id) => this.#get(id).kill(),
    remove: async (id) => this.#remove(id),
    update: async (id, limits) => {
      const container = this.#get(id);
      container.resources = { ...container.resources, ...limits };
    },
    status: (id) => this.#containers.get(id),
    list: ({ labels = {} } = {}) => this.#list(labels),
    wait: (id, signal) => this.#wait(this.#get(id), signal),
    exec: async (id, spec, streams, signal) =>
      runExec({ spoken: spokenTo(this.#get(id)), spec, streams, clock: this.#machine.clock, signal }),
    attach: async (id, streams, signal) => runAttach(spokenTo(this.#get(id)), streams, this.#machine.clock, signal),
    logs: (id, options) => followLog(this.#get(id), options),
    stats: async (id) => statsOf(this.#get(id)),
    diskUsage: async () => ({ bytes: 0, inodes: 0 }),
  };

  readonly sandboxes: KubeletEngine['sandboxes'] & ServedRuntime['sandboxes'] = {
    create: (spec, signal) => this.#createSandbox(spec, signal),
    remove: async (id) => this.#removeSandbox(id),
    update: async (id, limits) => {
      const sandbox = this.pods.get(id)?.sandbox;
      if (sandbox !== undefined) sandbox.resources = { ...sandbox.resources, ...limits };
    },
    list: () => [...this.pods.values()].flatMap(({ sandbox }) => sandbox ?? []),
    status: (id) => this.pods.get(id)?.sandbox,
    connect: async (id, port) => listeningOn(this.pods.get(id)?.running() ?? [], port),
  };

  get images(): KubeletEngine['images'] {
    return this.#options.images;
  }

  onEvent: Engine['onEvent'] = (listener) => {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  };

  #tell(container: SimContainer): void {
    const event: EngineEvent = {
      type: 'container',
      action: 'die',
      id: container.id,
      attributes: container.labels,
      timeNs: BigInt(container.finishedAtMs) * 1_000_000n,
      owner: 'kubelet',
    };
    for (const listener of this.#listeners) listener(event);
  }

  // ---- Pods -----------------------------------------------------------------------------------------------------

  /** A version of a Pod that is bound to the node: scripts go by it. */
  see(pod: Pod): void {
    const held = this.pods.get(pod.metadata.uid);
    if (held === undefined) this.pods.set(pod.metadata.uid, new SimPod(pod, this.#machine));
    else held.pod = pod;
  }

  /** Takes up what a Pod's status says of it: in a copied cluster. */
  takeOver(pod: Pod): void {
    if (this.pods.has(pod.metadata.uid)) return;
    const held = new SimPod(pod, this.#machine);
    this.pods.set(held.uid, held);
    held.takeOver();
    for (const run of held.containers) this.#containers.set(run.id, run);
    const { podIP = '', hostIP, phase } = pod.status ?? {};
    const isOver = phase === 'Succeeded' || phase === 'Failed';
    if (podIP === '' || isOver || (podIP === hostIP && held.containers.length === 0)) return;
    held.sandbox = this.#sandboxOf(pod.metadata.uid, {}, podIP);
    this.#ips.add(podIP);
  }

  /** Nothing of it is left. */
  forget(uid: string): void {
    for (const { id } of this.pods.get(uid)?.containers ?? []) this.#containers.delete(id);
    this.#removeSandbox(uid);
    this.pods.delete(uid);
  }

  // ---- containers -----------------------------------------------------------------------------------------------

  #get(id: string): SimContainer {
    const found = this.#containers.get(id);
    if (found === undefined) throw new ApiError('NotFound', `no such container: ${id}`);
    return found;
  }

  run(id: string): SimContainer | undefined {
    return this.#containers.get(id);
  }

  #list(labels: Record<string, string>): ContainerStatus[] {
    const { [labelPodUid]: uid, ...others } = labels;
    const found = uid === undefined ? [...this.#containers.values()] : (this.pods.get(uid)?.containers ?? []);
    const wanted = Object.entries(others);
    if (wanted.length === 0) return found;
    return found.filter((each) => wanted.every(([name, value]) => each.labels[name] === value));
  }

  /** What has just ended is cleared away before it is made anew. */
  async #create(spec: ContainerSpec): Promise<string> {
    const { clock, node, random } = this.#machine;
    const pod = this.#podOf(spec.labels);
    const container = pod.named(spec.labels[labelContainerName] ?? '');
    if (container === undefined) throw new ApiError('BadRequest', `the Pod has no container for ${spec.name}`);
    const before = pod.current(container.name);
    if (before?.state === 'exited') {
      const leftMs = before.finishedAtMs + endSeenMs - node.now();
      if (leftMs > 0) await clock.sleep(Math.min(leftMs, endSeenMs), this.#power.signal);
    }
    const made = new SimContainer(pod, {
      id: random.uuid(),
      container,
      restartCount: Number(spec.labels[labelRestartCount] ?? 0),
      image: spec.image,
      imageId: spec.imageId,
      labels: spec.labels,
      createdAtMs: node.now(),
      resources: spec.resources,
    });
    pod.containers.unshift(made);
    this.#containers.set(made.id, made);
    return made.id;
  }

  #podOf(labels: Record<string, string>): SimPod {
    const pod = this.pods.get(labels[labelPodUid] ?? '');
    if (pod === undefined) throw new ApiError('NotFound', `no such sandbox: ${labels[labelPodUid]}`);
    return pod;
  }

  async #stop(id: string, timeoutMs: number): Promise<void> {
    const container = this.#get(id);
    if (timeoutMs === 0) container.kill();
    else container.stop(timeoutMs);
    await this.#wait(container);
  }

  #wait(container: SimContainer, signal?: AbortSignal): Promise<number> {
    if (!container.isRunning) return Promise.resolve(container.exitCode ?? 0);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        forget();
        reject(signal?.reason);
      };
      const forget = container.onExit(() => {
        signal?.removeEventListener('abort', end);
        resolve(container.exitCode ?? 0);
      });
      if (signal?.aborted === true) end();
      else signal?.addEventListener('abort', end, { once: true });
    });
  }

  #remove(id: string): void {
    const container = this.#containers.get(id);
    if (container === undefined) return;
    container.kill();
    this.#containers.delete(id);
    const runs = this.pods.get(container.pod.uid)?.containers ?? [];
    const at = runs.indexOf(container);
    if (at >= 0) runs.splice(at, 1);
  }

  /** What a run has logged by now, of `options`; and from where what follows is read. */
  readLog(id: string, options: LogOptions): { lines: LogLine[]; position: LogPosition } {
    return readLog(this.#get(id), options);
  }

  // ---- sandboxes ------------------------------------------------------------------------------------------------

  #sandboxOf(id: string, spec: Partial<SandboxSpec>, podIp: string): SandboxStatus {
    const { labels = { [labelPodUid]: id }, name = '', network = 'pod', cgroupParent = '', resources = {} } = spec;
    const createdAtMs = this.#machine.node.now();
    return { id, name, ready: true, podIp, createdAtMs, labels, network, cgroupParent, resources };
  }

  async #createSandbox(spec: SandboxSpec, signal = this.#power.signal): Promise<SandboxStatus> {
    const { clock, random, scripts } = this.#machine;
    const pod = this.#podOf(spec.labels);
    if (pod.sandbox?.ready === true) return pod.sandbox;
    const { startAfter } = scripts.of(pod.context(pod.pod.spec.containers[0]?.name ?? ''));
    const delayMs =
      startAfter === undefined
        ? sandboxMsMin + Math.floor(random.float() * (sandboxMsMax - sandboxMsMin))
        : durationMs(startAfter);
    await clock.sleep(delayMs, signal);
    this.#power.signal.throwIfAborted();
    const isShared = spec.network === 'host';
    const ip = isShared ? this.#options.hostIp : this.#options.allocateIp((each) => this.#ips.has(each));
    if (!isShared) this.#ips.add(ip);
    pod.sandbox = this.#sandboxOf(spec.id, spec, ip);
    return pod.sandbox;
  }

  #removeSandbox(id: string): void {
    const pod = this.pods.get(id);
    if (pod?.sandbox === undefined) return;
    this.#ips.delete(pod.sandbox.podIp);
    pod.sandbox = undefined;
  }

  // ---- the machine ----------------------------------------------------------------------------------------------

  powerOff(): void {
    this.#power.abort(new ApiError('ServiceUnavailable', 'the machine is off'));
    this.#options.images.forgetPulls();
    for (const container of this.#containers.values()) container.freeze();
  }

  powerOn(): void {
    this.#power = new AbortController();
    for (const container of this.#containers.values()) container.lose();
    for (const pod of this.pods.values()) if (pod.sandbox !== undefined) pod.sandbox.ready = false;
  }
}
