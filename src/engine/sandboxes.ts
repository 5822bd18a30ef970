/**
 * Pod sandboxes: network, IPC and UTS namespaces pinned by bind mounts, an address of the node's Pod range, a control
 * group. No process, unless the Pod shares its PID namespace: then a small init holds it. One JSON record per sandbox,
 * written before anything is made, so that what a death leaves half-made is found again.
 */
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { linkName, macOfIp } from '#net/kernel-names.ts';
import { planNodeAddress, planPodLink } from '#net/pods.ts';
import { addressAt, subnetOf } from '#base/ip.ts';
import { AddressPool } from '#net/pools.ts';
import type { PublishedPort } from '#net/published-port.ts';
import { listDirectory, readIfExists, removeTree, writeFileAtomic } from '#os/files.ts';
import { connectInNamespace } from '#os/connect.linux.ts';
import type { EngineContext } from './context.ts';
import type { CgroupLimits } from '#os/cgroups.ts';
import { applyUpdate } from './cgroup-limits.ts';
import type { Sandboxes as SandboxContract, SandboxSpec, SandboxStatus } from './engine.ts';
import { Lock } from '#base/gate.ts';
import { startPidInit } from './runtime/pid-init.ts';
import { forgetUdpFlows } from './udp-flows.ts';

interface SandboxRecord {
  /** Host ports that lead to this Pod. */ ports?: PublishedPort[];
  format: number;
  spec: SandboxSpec;
  createdAtMs: number;
  ip: string;
  hostLink: string;
  bootId: string;
  ready: boolean;
  initPid?: number;
  initStartTime?: string;
}
export interface Sandbox {
  spec: SandboxSpec;
  ip: string;
  shmPath: string | undefined;
  initPid: number | undefined;
}

const shmSizeBytes = 64 * 1024 * 1024;

export class Sandboxes implements SandboxContract {
  readonly #context: EngineContext;
  readonly #records = new Map<string, SandboxRecord>();
  readonly #locks = new Map<string, Lock>();
  readonly #pool: AddressPool | undefined;
  readonly #hostIp: string | undefined;
  readonly #directory: string;
  readonly #mtu: number | undefined;

  constructor(context: EngineContext, options: { podCidr?: string; mtu?: number }) {
    this.#context = context;
    this.#directory = `${context.directories.data}/sandboxes`;
    this.#mtu = options.mtu;
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    if (options.podCidr === undefined) return;
    this.#pool = new AddressPool(options.podCidr, { rotate: true });
    // The first address is the node's own within the range: the source of what it sends to Pods.
    this.#hostIp = addressAt(subnetOf(options.podCidr), 1);
    this.#pool.take(this.#hostIp);
  }

  /** Reads the records; what an earlier boot or a death left is not ready any more. */
  async start(): Promise<void> {
    if (this.#hostIp !== undefined)
      await this.#context.os.netlink.run([planNodeAddress(linkName(this.#context.instanceId, 'n', '0'), this.#hostIp)]);
    for (const file of listDirectory(this.#directory)) {
      const text = file.endsWith('.json') ? readIfExists(`${this.#directory}/${file}`) : undefined;
      if (text === undefined) continue;
      const record = JSON.parse(text) as SandboxRecord;
      this.#records.set(record.spec.id, record);
      if (record.ip !== '') this.#pool?.take(record.ip);
      // After a reboot, or after the platform was taken down, the pins are gone with the run directory.
      if (
        record.bootId !== this.#context.bootId ||
        !existsSync(`${this.#context.directories.run}/sandboxes/${record.spec.id}`)
      )
        record.ready = false;
      if (!record.ready) {
        delete record.ports;
        await this.#takeApart(record);
      }
      for (const port of record.ports ?? []) this.#context.ports.adopt(port);
    }
  }

  // walk pod-ip 3/5: an address is taken from the node's range and written into the sandbox's record.
  async create(spec: SandboxSpec, signal?: AbortSignal): Promise<SandboxStatus> {
    return this.#lockOf(spec.id).run(async () => {
      signal?.throwIfAborted();
      const known = this.#records.get(spec.id);
      if (known?.ready === true) return statusOf(known);
      if (known !== undefined) await this.#forget(known);
      const isPod = spec.network === 'pod';
      if (isPod && this.#pool === undefined)
        throw new ApiError('InternalError', 'this engine has no Pod address range');
      const record: SandboxRecord = {
        format: 1,
        spec,
        createdAtMs: this.#context.clock.now(),
        ip: isPod ? this.#pool!.allocate() : '',
        hostLink: linkName(this.#context.instanceId, 'p', Buffer.from(this.#context.random.bytes(5)).toString('hex')),
        bootId: this.#context.bootId,
        ready: false,
      };
      this.#records.set(spec.id, record);
      try {
        this.#save(record);
        await this.#build(record);
        signal?.throwIfAborted();
        record.ready = true;
        this.#save(record);
      } catch (error) {
        await this.#forget(record).catch((second: unknown) =>
          this.#context.log.warn('taking apart a sandbox', { id: spec.id, error: second }),
        );
        throw error;
      }
      return statusOf(record);
    });
  }

  async #build(record: SandboxRecord): Promise<void> {
    const { spec } = record;
    const { os } = this.#context;
    os.cgroups.create(spec.cgroupParent, spec.resources);
    const isPod = spec.network === 'pod';
    const pins = {
      ...(isPod ? { network: this.#path(spec.id, 'network'), uts: this.#path(spec.id, 'uts') } : {}),
      ...(spec.hostIpc === true ? {} : { ipc: this.#path(spec.id, 'ipc') }),
    };
    if (Object.keys(pins).length > 0)
      await os.namespaces.create({ pins, hostname: spec.hostname, sysctls: spec.sysctls ?? {} });
    else if (Object.keys(spec.sysctls ?? {}).length > 0)
      throw new ApiError('BadRequest', "sysctls are not allowed where the Pod has the host's namespaces");
    const links = isPod
      ? os.netlink.run(
          planPodLink({
            hostLink: record.hostLink,
            namespace: pins.network!,
            ip: record.ip,
            mac: macOfIp(record.ip),
            ...(this.#hostIp === undefined ? {} : { hostIp: this.#hostIp }),
            ...(this.#mtu === undefined ? {} : { mtu: this.#mtu }),
          }),
        )
      : Promise.resolve();
    const shm =
      spec.hostIpc === true
        ? Promise.resolve()
        : os.mounts.mountTmpfs(this.#shmPath(spec.id), { sizeBytes: shmSizeBytes, mode: 0o1777 });
    await Promise.all([links, shm]);
    if (spec.shareProcessNamespace === true) await this.#startInit(record, pins);
    if (isPod) await this.#publish(record);
  }

  async #publish(record: SandboxRecord): Promise<void> {
    const { ports, rules } = this.#context;
    const wanted = record.spec.ports ?? [];
    if (wanted.length === 0) return;
    record.ports = [];
    // One by one, so that those that could be taken are given back when the next one cannot.
    for (const { hostIp, containerPort, ...port } of wanted) {
      const hosts = [{ hostIp: hostIp === '' ? '0.0.0.0' : hostIp, ip: record.ip }];
      record.ports.push(...ports.reserve({ ...port, hosts, port: containerPort }));
    }
    await rules.publish(record.ports);
    await forgetUdpFlows(this.#context, record.ports);
  }

  async #startInit(record: SandboxRecord, pins: { network?: string; ipc?: string; uts?: string }): Promise<void> {
    const { runtime, os } = this.#context;
    const id = `init-${record.spec.id}`;
    runtime.forget(id);
    record.initPid = await startPidInit(runtime, os.processes, {
      id,
      directory: this.#path(record.spec.id, 'init'),
      cgroup: `${record.spec.cgroupParent}/init`,
      namespaces: pins,
    });
    record.initStartTime = os.processes.startTime(record.initPid) ?? '';
  }

  async update(id: string, limits: CgroupLimits): Promise<void> {
    const record = this.#records.get(id);
    if (record?.ready !== true) throw new ApiError('NotFound', `sandbox ${id} not found`);
    const { spec } = record;
    applyUpdate(this.#context.os.cgroups, spec.cgroupParent, limits);
    spec.resources = { ...spec.resources, ...limits };
    this.#save(record);
  }

  async remove(id: string): Promise<void> {
    const record = this.#records.get(id);
    if (record === undefined) return;
    await this.#lockOf(id).run(() => this.#forget(record));
    this.#locks.delete(id);
  }

  list(): SandboxStatus[] {
    return [...this.#records.values()].map(statusOf);
  }
  status(id: string): SandboxStatus | undefined {
    const found = this.#records.get(id);
    return found === undefined ? undefined : statusOf(found);
  }

  /** What was asked for, whether it stands or not. */
  find(id: string): SandboxSpec | undefined {
    return this.#records.get(id)?.spec;
  }

  get(id: string): Sandbox {
    const record = this.#records.get(id);
    if (record === undefined || !record.ready) throw new ApiError('NotFound', `sandbox ${id} not found`);
    return {
      spec: record.spec,
      ip: record.ip,
      shmPath: record.spec.hostIpc === true ? undefined : this.#shmPath(id),
      initPid: record.initPid,
    };
  }

  namespacePath(id: string, kind: 'network' | 'ipc' | 'uts'): string {
    const { spec } = this.get(id);
    if (spec.network === 'host' && kind !== 'ipc') return 'host';
    return this.#path(id, kind);
  }

  connect(id: string, port: number): Promise<Duplex> {
    const { spec } = this.get(id);
    return connectInNamespace(spec.network === 'host' ? undefined : this.#path(id, 'network'), '127.0.0.1', port);
  }

  /** Links that belong to sandboxes, for the sweep after a crash. */
  links(): Set<string> {
    return new Set([...this.#records.values()].filter((record) => record.ready).map((record) => record.hostLink));
  }

  /** Ports of sandboxes that stand, for the table that a new engine makes. */
  publishedPorts(): PublishedPort[] {
    return [...this.#records.values()].flatMap((record) => (record.ready ? (record.ports ?? []) : []));
  }

  async #forget(record: SandboxRecord): Promise<void> {
    await this.#takeApart(record);
    this.#records.delete(record.spec.id);
    if (record.ip !== '') this.#pool?.release(record.ip);
    rmSync(`${this.#directory}/${record.spec.id}.json`, { force: true });
  }

  async #takeApart(record: SandboxRecord): Promise<void> {
    const { os } = this.#context;
    const { id, cgroupParent } = record.spec;
    const published = record.ports ?? [];
    await this.#context.rules.unpublish(published);
    await forgetUdpFlows(this.#context, published);
    for (const port of published) this.#context.ports.release(port);
    delete record.ports;
    os.cgroups.killAll(cgroupParent);
    this.#context.runtime.forget(`init-${id}`);
    for (const kind of ['network', 'ipc', 'uts'] as const) await os.namespaces.remove(this.#path(id, kind));
    await os.mounts.unmount(this.#shmPath(id));
    removeTree(`${this.#context.directories.run}/sandboxes/${id}`);
    for (let tries = 0; !os.cgroups.remove(cgroupParent) && tries < 50; tries++) await this.#context.clock.sleep(10);
  }

  #path(id: string, kind: string): string {
    return `${this.#context.directories.run}/sandboxes/${id}/${kind}`;
  }
  #shmPath(id: string): string {
    return `${this.#context.directories.run}/sandboxes/${id}/shm`;
  }
  #save(record: SandboxRecord): void {
    writeFileAtomic(`${this.#directory}/${record.spec.id}.json`, JSON.stringify(record));
  }

  #lockOf(id: string): Lock {
    const known = this.#locks.get(id) ?? new Lock();
    this.#locks.set(id, known);
    return known;
  }
}

function statusOf(record: SandboxRecord): SandboxStatus {
  return {
    id: record.spec.id,
    name: record.spec.name,
    ready: record.ready,
    podIp: record.ip,
    createdAtMs: record.createdAtMs,
    labels: record.spec.labels,
    network: record.spec.network,
    cgroupParent: record.spec.cgroupParent,
    resources: record.spec.resources ?? {},
  };
}
