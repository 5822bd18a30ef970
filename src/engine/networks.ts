/**
 * Docker's networks: records on disk, bridges in the kernel, addresses of endpoints. `bridge`, `host` and `none` always
 * exist. An address is taken as long as a container's record names it (net/pools.ts).
 */
import { mkdirSync, rmSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { planBridge, planEndpoint } from '#net/bridges.ts';
import { Lock } from '#base/gate.ts';
import { addressAt, contains, formatSubnet, isIpv4, overlaps, parseCidr, subnetOf, type Subnet } from '#base/ip.ts';
import { coverForward, uncoverForward } from '#net/firewall.ts';
import { linkMark, linkName, linkPrefix, macOfIp } from '#net/kernel-names.ts';
import { checkAddresses } from './network-addresses.ts';
import { AddressPool, findFreeSubnet } from '#net/pools.ts';
import type { NetworkRules } from '#net/rules.ts';
import { listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import type { NetProgram } from '#os/netlink.ts';
import type { EndpointRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import { bridgeOptionsOf, checkBridgeOptions } from './network-options.ts';
import { planDefaultBridge } from './network-settings.ts';

export interface NetworkRecord {
  format: number;
  id: string;
  name: string;
  driver: 'bridge' | 'host' | 'null';
  createdAtMs: number;
  internal: boolean;
  attachable: boolean;
  ingress: boolean;
  enableIpv6: boolean;
  labels: Record<string, string>;
  options: Record<string, string>;
  /** Absent for `host` and `none`. */
  subnet?: string;
  gateway?: string;
  ipRange?: string;
  auxiliaryAddresses?: Record<string, string>;
  link?: string;
  /** The bridge was there before the network and stays after it. */
  borrowed?: boolean;
}

export interface NetworkCreate {
  name: string;
  driver?: string;
  internal?: boolean;
  attachable?: boolean;
  labels?: Record<string, string>;
  options?: Record<string, string>;
  subnet?: string;
  gateway?: string;
  ipRange?: string;
  auxiliaryAddresses?: Record<string, string>;
  scope?: string;
  enableIpv6?: boolean;
}

export const builtInNetworks = new Set(['bridge', 'host', 'none']);

export class Networks {
  readonly #context: EngineContext;
  readonly #records = new Map<string, NetworkRecord>();
  readonly #pools = new Map<string, AddressPool>();
  readonly #directory: string;
  /** One change at a time: what is looked at (names, subnets, bridges) still holds when the record is made. */
  readonly #changes = new Lock();

  constructor(context: EngineContext) {
    this.#context = context;
    this.#directory = `${context.directories.data}/networks`;
  }

  /**
   * Reads the records and makes sure that what they say is in the kernel. `inUse`: whether containers run on a network,
   * which then stays as it is.
   */
  async start(inUse: (networkId: string) => boolean = () => false): Promise<void> {
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
    for (const file of listDirectory(this.#directory)) {
      if (!file.endsWith('.json')) continue;
      const record = JSON.parse(readIfExists(`${this.#directory}/${file}`)!) as NetworkRecord;
      this.#records.set(record.id, record);
    }
    for (const name of builtInNetworks) if (this.findExact(name) === undefined) await this.#addBuiltIn(name);
    await this.#settleDefaultBridge(inUse);
    const bridges = this.list().filter((network) => network.link !== undefined);
    for (const network of bridges) this.#openPool(network);
    await this.#context.os.netlink.run(bridges.map((network) => planBridge(this.#bridgePlan(network))));
  }

  rules(): NetworkRules[] {
    return this.list().flatMap((network) => (network.link === undefined ? [] : [rulesOf(network)]));
  }

  /** Bridges that users named. */
  namedLinks(): string[] {
    return this.list().flatMap((network) =>
      network.link === undefined || network.link.startsWith(linkPrefix(this.#context.instanceId)) ? [] : [network.link],
    );
  }

  list(): NetworkRecord[] {
    return [...this.#records.values()];
  }

  findExact(name: string): NetworkRecord | undefined {
    return this.#records.get(name) ?? this.list().find((network) => network.name === name);
  }

  /** By id, name or unique id prefix; throws as docker words it. */
  find(reference: string): NetworkRecord {
    const exact = this.findExact(reference === 'default' ? 'bridge' : reference);
    if (exact !== undefined) return exact;
    const matches = reference === '' ? [] : this.list().filter((network) => network.id.startsWith(reference));
    if (matches.length > 1)
      throw new ApiError(
        'BadRequest',
        `network ${reference} is ambiguous (${matches.length} matches found on ID prefix)`,
      );
    if (matches[0] === undefined) throw new ApiError('NotFound', `network ${reference} not found`);
    return matches[0];
  }

  findIfAny(reference: string): NetworkRecord | undefined {
    try {
      return this.find(reference);
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return undefined;
      throw error;
    }
  }

  async create(wanted: NetworkCreate): Promise<NetworkRecord> {
    validateCreate(wanted);
    // `default` stands for the bridge wherever a network is asked for.
    if (builtInNetworks.has(wanted.name) || wanted.name === 'default')
      throw new ApiError('Forbidden', `operation is not permitted on predefined ${wanted.name} network`);
    const record = await this.#changes.run(() => this.#create(wanted));
    this.#context.events.emit({
      type: 'network',
      action: 'create',
      id: record.id,
      attributes: { name: record.name, type: record.driver },
    });
    return record;
  }

  async #create(wanted: NetworkCreate): Promise<NetworkRecord> {
    if (this.list().some((network) => network.name === wanted.name))
      throw new ApiError('Conflict', `network with name ${wanted.name} already exists`);
    const used = await this.#usedSubnets();
    const subnet =
      wanted.subnet === undefined
        ? findFreeSubnet(used.all, this.#context.networkSettings.pools)
        : formatSubnet(subnetOf(wanted.subnet));
    if (used.networks.some((other) => overlaps(other, subnetOf(subnet))))
      throw new ApiError('Forbidden', 'invalid pool request: Pool overlaps with other one on this address space');
    const record = this.#makeRecord(wanted, subnet);
    if (await this.#isBorrowed(record)) record.borrowed = true;
    this.#records.set(record.id, record);
    try {
      // The guard first: with the bridge comes a way to the host's loopback addresses.
      await this.#context.rules.addNetwork(rulesOf(record));
      await this.#context.os.netlink.run([planBridge(this.#bridgePlan(record))]);
      if (this.namedLinks().includes(record.link!))
        await coverForward({ ...this.#forward([record.link!]), onlyLinks: true });
      this.#openPool(record);
      this.#save(record);
    } catch (error) {
      this.#records.delete(record.id);
      this.#pools.delete(record.id);
      await this.#removeLink(record);
      await this.#context.rules
        .removeNetwork(rulesOf(record))
        .catch((second: unknown) => this.#context.log.warn('rules of a network', { error: second }));
      throw error;
    }
    return record;
  }

  #forward(links: string[]): Parameters<typeof coverForward>[0] {
    return {
      processes: this.#context.os.processes,
      instanceId: this.#context.instanceId,
      log: this.#context.log,
      links,
    };
  }

  /**
   * True for a bridge that somebody else made; throws where the name is that of another kind of link, or is taken by
   * another network.
   */
  async #isBorrowed(record: NetworkRecord): Promise<boolean> {
    const other = this.list().find((network) => network.link === record.link);
    if (other !== undefined)
      throw new ApiError(
        'Forbidden',
        `cannot create network ${record.id} (${record.link}): conflicts with network ${other.id} (${other.link}): networks have same bridge name`,
      );
    const link = (await this.#context.os.netlink.listLinks()).find((found) => found.name === record.link);
    if (link === undefined || link.alias === linkMark(this.#context.instanceId)) return false;
    if (link.kind !== 'bridge') throw new ApiError('BadRequest', `existing interface ${record.link} is not a bridge`);
    if (link.alias.startsWith(linkMark('')) || link.name.startsWith('tph'))
      throw new ApiError('Forbidden', `the bridge ${record.link} belongs to another network`);
    return true;
  }

  /** The caller has made sure that no container uses it. */
  async remove(reference: string): Promise<void> {
    const removed = await this.#changes.run(async () => {
      const record = this.find(reference);
      assertRemovable(record);
      // A container that is just starting holds an address before anybody can see it run.
      const own = new Set([record.gateway!, ...Object.values(record.auxiliaryAddresses ?? {})]).size;
      if ((this.#pools.get(record.id)?.usedCount ?? own) > own)
        throw new ApiError('Forbidden', `error while removing network: network ${record.name} has active endpoints`);
      this.#records.delete(record.id);
      this.#pools.delete(record.id);
      rmSync(`${this.#directory}/${record.id}.json`, { force: true });
      await this.#removeLink(record);
      await this.#context.rules
        .removeNetwork(rulesOf(record))
        .catch((error: unknown) => this.#context.log.warn('rules of a network', { error }));
      if (!record.link!.startsWith(linkPrefix(this.#context.instanceId)))
        await uncoverForward({ ...this.#forward([record.link!]), onlyLinks: true });
      return record;
    });
    this.#context.events.emit({
      type: 'network',
      action: 'destroy',
      id: removed.id,
      attributes: { name: removed.name, type: removed.driver },
    });
  }

  /** An address and names for a new endpoint; nothing is in the kernel yet. */
  reserve(networkId: string, index: number, wanted: { aliases: string[]; ip?: string; mac?: string }): EndpointRecord {
    const network = this.find(networkId);
    const pool = this.#pools.get(network.id);
    if (pool === undefined) throw new ApiError('BadRequest', `network ${network.name} has no addresses`);
    if (wanted.ip !== undefined) {
      const refuse = (fault: string): never => {
        throw new ApiError(
          'BadRequest',
          `invalid config for network ${network.name}: invalid endpoint settings:\n${fault}`,
        );
      };
      if (!isIpv4(wanted.ip)) refuse(`invalid IPv4 address: ${wanted.ip}`);
      if (!contains(subnetOf(network.subnet!), wanted.ip))
        refuse(`no configured subnet or ip-range contain the IP address ${wanted.ip}`);
      if (!pool.take(wanted.ip))
        throw new ApiError('Forbidden', 'failed to set up container networking: Address already in use');
    }
    const ip = wanted.ip ?? pool.allocate();
    const endpointId = Buffer.from(this.#context.random.bytes(32)).toString('hex');
    return {
      networkId: network.id,
      endpointId,
      ip,
      mac: wanted.mac ?? macOfIp(ip),
      hostLink: linkName(this.#context.instanceId, 'v', endpointId),
      containerLink: `${bridgeOptionsOf(network.options).linkPrefix}${index}`,
      aliases: wanted.aliases,
    };
  }

  /** Takes the address of an endpoint that a record names. */
  adopt(endpoint: EndpointRecord): void {
    this.#pools.get(endpoint.networkId)?.take(endpoint.ip);
  }
  release(endpoint: EndpointRecord): void {
    this.#pools.get(endpoint.networkId)?.release(endpoint.ip);
  }

  plan(endpoint: EndpointRecord, namespace: string, defaultRoute: boolean): NetProgram[] {
    const network = this.find(endpoint.networkId);
    const { mtu, together } = bridgeOptionsOf(network.options);
    return planEndpoint({
      hostLink: endpoint.hostLink,
      bridge: network.link!,
      namespace,
      containerLink: endpoint.containerLink,
      index: Number(/\d+$/.exec(endpoint.containerLink)![0]) + 2,
      ip: endpoint.ip,
      subnet: network.subnet!,
      mac: endpoint.mac,
      ...(defaultRoute && !network.internal ? { gateway: network.gateway! } : {}),
      ...(mtu === undefined ? {} : { mtu }),
      ...(together ? {} : { apart: true }),
    });
  }

  async #usedSubnets(): Promise<{ all: Subnet[]; networks: Subnet[] }> {
    const networks = this.list().flatMap((network) => (network.subnet === undefined ? [] : [subnetOf(network.subnet)]));
    const routes = await this.#context.os.netlink.listRoutes();
    const host = routes
      .filter((route) => route.destination !== 'default' && route.table !== 255)
      .map((route) => subnetOf(route.destination));
    return { all: [...networks, ...host], networks };
  }

  #makeRecord(wanted: NetworkCreate, subnetText: string): NetworkRecord {
    const id = Buffer.from(this.#context.random.bytes(32)).toString('hex');
    const subnet = subnetOf(subnetText);
    const range = wanted.ipRange === undefined ? subnet : subnetOf(wanted.ipRange);
    return {
      format: 1,
      id,
      name: wanted.name,
      driver: 'bridge',
      createdAtMs: this.#context.clock.now(),
      internal: wanted.internal === true,
      attachable: wanted.attachable === true,
      ingress: false,
      enableIpv6: false,
      labels: wanted.labels ?? {},
      options: { ...this.#context.networkSettings.networkOptions, ...wanted.options },
      subnet: subnetText,
      gateway: wanted.gateway ?? addressAt(range, 1),
      ...(wanted.ipRange === undefined ? {} : { ipRange: wanted.ipRange }),
      ...(wanted.auxiliaryAddresses === undefined ? {} : { auxiliaryAddresses: wanted.auxiliaryAddresses }),
      link: bridgeOptionsOf(wanted.options ?? {}).bridgeName ?? linkName(this.#context.instanceId, 'b', id),
    };
  }

  async #addBuiltIn(name: string): Promise<void> {
    const id = Buffer.from(this.#context.random.bytes(32)).toString('hex');
    const common = {
      format: 1,
      id,
      name,
      createdAtMs: this.#context.clock.now(),
      internal: false,
      attachable: false,
      ingress: false,
      enableIpv6: false,
      labels: {},
      options: {},
    };
    if (name !== 'bridge') {
      const record: NetworkRecord = { ...common, driver: name === 'host' ? 'host' : 'null' };
      this.#records.set(id, record);
      this.#save(record);
      return;
    }
    const subnet = findFreeSubnet((await this.#usedSubnets()).all, this.#context.networkSettings.pools);
    const link = linkName(this.#context.instanceId, 'b', '0');
    const record: NetworkRecord = {
      ...common,
      driver: 'bridge',
      subnet,
      gateway: addressAt(subnetOf(subnet), 1),
      link,
      options: defaultBridgeOptions(link),
    };
    this.#records.set(id, record);
    this.#save(record);
  }

  async #settleDefaultBridge(inUse: (networkId: string) => boolean): Promise<void> {
    const record = this.find('bridge');
    const wanted = planDefaultBridge(record, this.#context.networkSettings.bridge);
    if (wanted === record) return;
    if (inUse(record.id)) {
      this.#context.log.warn('containers run on the default bridge: it keeps its settings until they have ended', {
        subnet: record.subnet,
      });
      return;
    }
    // Its addresses and its MTU are those of the link, which is made anew.
    await this.#removeLink(record);
    this.#records.set(wanted.id, wanted);
    this.#save(wanted);
  }

  #openPool(network: NetworkRecord): void {
    const pool = new AddressPool(network.subnet!, network.ipRange === undefined ? {} : { range: network.ipRange });
    pool.take(network.gateway!);
    for (const address of Object.values(network.auxiliaryAddresses ?? {})) pool.take(address);
    this.#pools.set(network.id, pool);
  }

  #save(record: NetworkRecord): void {
    writeFileAtomic(`${this.#directory}/${record.id}.json`, JSON.stringify(record), { sync: true });
  }

  #bridgePlan(network: NetworkRecord): Parameters<typeof planBridge>[0] {
    const { mtu, withoutAddress } = bridgeOptionsOf(network.options);
    return {
      link: network.link!,
      gateway: network.gateway!,
      subnet: network.subnet!,
      withoutAddress,
      ...(mtu === undefined ? {} : { mtu }),
      ...(network.borrowed === true ? {} : { mark: linkMark(this.#context.instanceId) }),
    };
  }

  async #removeLink(record: NetworkRecord): Promise<void> {
    if (record.link !== undefined && record.borrowed !== true)
      await this.#context.os.netlink.run([{ steps: [{ op: 'deleteLink', name: record.link, ignore: ['ENODEV'] }] }]);
  }
}

function defaultBridgeOptions(link: string): Record<string, string> {
  return {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': 'true',
    'com.docker.network.bridge.enable_ip_masquerade': 'true',
    'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
    'com.docker.network.bridge.name': link,
    'com.docker.network.driver.mtu': '1500',
  };
}

function rulesOf(network: NetworkRecord): NetworkRules {
  const { masquerade, together, guarded } = bridgeOptionsOf(network.options);
  return { subnet: network.subnet!, link: network.link!, masquerade, internal: network.internal, together, guarded };
}

export function assertRemovable(record: NetworkRecord): void {
  if (builtInNetworks.has(record.name))
    throw new ApiError('Forbidden', `${record.name} is a pre-defined network and cannot be removed`);
}

function validateCreate(wanted: NetworkCreate): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(wanted.name))
    throw new ApiError(
      'BadRequest',
      wanted.name.trim() === ''
        ? 'invalid network name: name is empty'
        : `invalid network name: "${wanted.name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  const driver = wanted.driver ?? 'bridge';
  checkBridgeOptions(wanted.options ?? {}, wanted.internal === true);
  if (wanted.enableIpv6 === true || parseCidr(wanted.subnet)?.address.family === 'IPv6')
    throw new ApiError(
      'InternalError',
      'IPv6 is not supported on networks of this engine: leave --ipv6 and subnets of version 6 away',
      undefined,
      501,
    );
  if (driver !== 'bridge' && driver !== 'default')
    throw new ApiError(
      'NotFound',
      driver === 'host' || driver === 'null'
        ? `only one instance of "${driver}" network is allowed`
        : `could not find plugin ${driver} in v1 plugin registry: plugin "${driver}" not found`,
      undefined,
      driver === 'host' || driver === 'null' ? 403 : 404,
    );
  checkAddresses(wanted);
}
