/**
 * Docker's networks: records on disk, bridges in the kernel, addresses of endpoints. `bridge`, `host` and `none` always
 * exist. An address is taken as long as a container's record names it (net/pools.ts).
 */
import { mkdirSync, rmSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { planBridge, planEndpoint, planGateways } from '#net/bridges.ts';
import { Lock } from '#base/gate.ts';
import { ipFamilies, subnetOf, type Subnet } from '#base/ip.ts';
import { coverForward, uncoverForward } from '#net/firewall.ts';
import { planUpperEndpoint } from '#net/parent-links.ts';
import { planIpv6Forwarding } from '#net/ipv6-forwarding.ts';
import { linkMark, linkName, linkPrefix, macOfBytes, macOfIp } from '#net/kernel-names.ts';
import type { NetworkRules } from '#net/rules.ts';
import { listDirectory, readIfExists, writeFileAtomic } from '#os/files.ts';
import type { NetProgram } from '#os/netlink.ts';
import type { AttachedNetwork, EndpointRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import { applyConfig, checkConfigUnused, checkConfigUse } from './network-config.ts';
import { checkNetworkCreate, driverOf, type NetworkCreate } from './network-create.ts';
import { chooseLinkIndex, chooseLinkName, linkIndexOf, sysctlsOf, type Gateways } from './network-endpoint.ts';
import { bridgeOptionsOf } from './network-options.ts';
import { NetworkPools, planBlocks } from './network-pools.ts';
import { addressesOnBridge, isBorrowed } from './network-borrowed.ts';
import { hasRemoteAddresses, isRemoteDriver, planJoined, prefixed, RemoteNetworks } from './network-remote.ts';
import type { PortBinding } from './engine.ts';
import { closeParent, openParent, upperKindOf } from './network-parents.ts';
import { defaultBridgeOptions, planDefaultBridge } from './network-settings.ts';
import {
  addressesOf,
  blocksOf,
  bridgeAddresses,
  builtInNetworks,
  gatewayFor,
  networkFormat,
  parseNetwork,
  rulesOf,
} from './network-record.ts';
import type { AddressBlock, NetworkRecord } from './network-record.ts';

export class Networks {
  readonly #context: EngineContext;
  readonly #records = new Map<string, NetworkRecord>();
  readonly #pools = new NetworkPools();
  readonly #remote: RemoteNetworks;
  readonly #directory: string;
  readonly #reserved: readonly Subnet[];
  /** One change at a time: what is looked at (names, subnets, bridges) still holds when the record is made. */
  readonly #changes = new Lock();

  /** `podCidr`: addresses of the same table that are no network's. */
  constructor(context: EngineContext, podCidr?: string) {
    this.#context = context;
    this.#remote = new RemoteNetworks(context);
    this.#reserved = podCidr === undefined ? [] : [subnetOf(podCidr)];
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
      const record = parseNetwork(readIfExists(`${this.#directory}/${file}`)!);
      this.#records.set(record.id, record);
    }
    for (const name of builtInNetworks) if (this.findExact(name) === undefined) await this.#addBuiltIn(name);
    await this.#settleDefaultBridge(inUse);
    const bridges = this.list().filter((network) => network.link !== undefined);
    for (const network of this.list()) if (!hasRemoteAddresses(network)) this.#pools.open(network);
    if (bridges.some((network) => network.enableIpv6)) await this.#forwardIpv6();
    await this.#context.os.netlink.run(bridges.map((network) => planBridge(this.#bridgePlan(network))));
    // After a reboot a VLAN is not there, and its link may not be either: that network's containers say so.
    for (const network of this.list().filter(({ parent }) => parent?.isOwn === true))
      await openParent(this.#context, network, this.list()).catch((error: unknown) =>
        this.#context.log.warn('the parent link of a network', { name: network.name, error }),
      );
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
    checkConfigUse(wanted);
    checkNetworkCreate(wanted);
    // `default` stands for the bridge wherever a network is asked for.
    if (builtInNetworks.has(wanted.name) || wanted.name === 'default')
      throw new ApiError('Forbidden', `operation is not permitted on predefined ${wanted.name} network`);
    await this.#remote.check(wanted);
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
    if (wanted.configOnly === true) return this.#addConfig(wanted);
    return this.#createWhole(applyConfig(wanted, this.list()));
  }

  /** Nothing of it is in the kernel. */
  #addConfig(wanted: NetworkCreate): NetworkRecord {
    const { link: _, ...record } = this.#makeRecord(wanted, []);
    const configured = { options: wanted.options ?? {}, configured: wanted.addresses ?? [] };
    const made: NetworkRecord = { ...record, ...configured, driver: 'null', configOnly: true };
    this.#records.set(made.id, made);
    this.#save(made);
    return made;
  }

  async #createWhole(wanted: NetworkCreate): Promise<NetworkRecord> {
    if (wanted.configFrom !== undefined) checkNetworkCreate(wanted);
    const blocks = hasRemoteAddresses(wanted) ? this.#remote.requestBlocks(wanted) : this.#planBlocks(wanted);
    const record = this.#makeRecord(wanted, await blocks);
    if (record.link !== undefined && (await isBorrowed(this.#context, record, this.list()))) record.borrowed = true;
    this.#records.set(record.id, record);
    try {
      if (isRemoteDriver(record.driver)) await this.#remote.open(record);
      else if (record.link === undefined) record.parent = await openParent(this.#context, record, this.list());
      else await this.#openBridge(record, record.link);
      if (!hasRemoteAddresses(record)) this.#pools.open(record);
      this.#save(record);
    } catch (error) {
      this.#records.delete(record.id);
      this.#pools.close(record);
      await this.#takeApart(record);
      await this.#remote.releaseBlocks(record);
      throw error;
    }
    return record;
  }

  async #openBridge(record: NetworkRecord, link: string): Promise<void> {
    // The guard first: with the bridge comes a way to the host's loopback addresses.
    await this.#context.rules.addNetwork(rulesOf(record));
    if (record.enableIpv6) await this.#forwardIpv6();
    await this.#context.os.netlink.run([planBridge(this.#bridgePlan(record))]);
    const { rules } = this.#context.networkSettings;
    if (rules !== false && this.namedLinks().includes(link))
      await coverForward({ ...this.#forward([link]), onlyLinks: true });
  }

  /** What a network has in the kernel goes. */
  async #takeApart(record: NetworkRecord): Promise<void> {
    if (!isRemoteDriver(record.driver)) await closeParent(this.#context, record, this.list());
    if (record.link === undefined) return;
    await this.#removeLink(record);
    await this.#context.rules
      .removeNetwork(rulesOf(record))
      .catch((error: unknown) => this.#context.log.warn('rules of a network', { error }));
    if (!record.link.startsWith(linkPrefix(this.#context.instanceId)))
      await uncoverForward({ ...this.#forward([record.link]), onlyLinks: true });
  }

  #forward(links: string[]): Parameters<typeof coverForward>[0] {
    return {
      processes: this.#context.os.processes,
      instanceId: this.#context.instanceId,
      log: this.#context.log,
      links,
    };
  }

  /** The caller has made sure that no container uses it. */
  async remove(reference: string): Promise<void> {
    const removed = await this.#changes.run(async () => {
      const record = this.find(reference);
      assertRemovable(record);
      checkConfigUnused(record, this.list());
      // A container that is just starting holds an address before anybody can see it run.
      if (this.#pools.hasEndpoints(record))
        throw new ApiError('Forbidden', `error while removing network: network ${record.name} has active endpoints`);
      await this.#remote.close(record);
      this.#records.delete(record.id);
      this.#pools.close(record);
      rmSync(`${this.#directory}/${record.id}.json`, { force: true });
      await this.#takeApart(record);
      await this.#remote.releaseBlocks(record);
      return record;
    });
    this.#context.events.emit({
      type: 'network',
      action: 'destroy',
      id: removed.id,
      attributes: { name: removed.name, type: removed.driver },
    });
  }

  /**
   * Addresses and names for a new endpoint beside others of the container; nothing is in the kernel yet. `note` is told
   * of it before a plugin is: what it made would outlive an engine that died meanwhile.
   */
  async reserve(
    attached: AttachedNetwork,
    others: readonly EndpointRecord[],
    note: (endpoint: EndpointRecord) => void = () => {},
  ): Promise<EndpointRecord> {
    const network = this.find(attached.networkId);
    if (network.configOnly === true)
      throw new ApiError('Forbidden', 'cannot create endpoint on configuration-only network');
    const containerLink = chooseLinkName(
      attached,
      isRemoteDriver(network.driver) ? 'eth' : bridgeOptionsOf(network.options).linkPrefix,
      others.map((other) => other.containerLink),
    );
    if (network.driver === 'ipvlan' && attached.mac !== undefined)
      throw new ApiError('Forbidden', 'ipvlan interfaces do not support custom mac address assignment');
    const endpoint: EndpointRecord = {
      networkId: network.id,
      endpointId: Buffer.from(this.#context.random.bytes(32)).toString('hex'),
      mac: '',
      hostLink: '',
      containerLink,
      linkIndex: chooseLinkIndex(others),
      aliases: attached.aliases,
    };
    if (network.link !== undefined) endpoint.hostLink = linkName(this.#context.instanceId, 'v', endpoint.endpointId);
    const random = macOfBytes(this.#context.random.bytes(4));
    if (hasRemoteAddresses(network))
      Object.assign(endpoint, await this.#remote.takeAddresses(network, attached, attached.mac ?? random));
    else Object.assign(endpoint, this.#pools.take(network, attached));
    const [first] = addressesOf(endpoint);
    // A link of ipvlan has its parent's.
    if (network.driver !== 'ipvlan') endpoint.mac = attached.mac ?? (first === undefined ? random : macOfIp(first));
    if (hasRemoteAddresses(network) || isRemoteDriver(network.driver)) note(endpoint);
    if (!isRemoteDriver(network.driver)) return endpoint;
    try {
      await this.#remote.createEndpoint(network, endpoint, attached);
      return endpoint;
    } catch (error) {
      await this.release(endpoint);
      throw error;
    }
  }

  /** A plugin's link for the container whose namespace is at `sandbox`. A no-op for any other network. */
  async join(
    endpoint: EndpointRecord,
    attached: AttachedNetwork | undefined,
    place: { sandbox: string; others: string[] },
  ): Promise<void> {
    const network = this.find(endpoint.networkId);
    if (isRemoteDriver(network.driver) && attached !== undefined)
      await this.#remote.join(network, endpoint, attached, place);
  }

  /** A plugin opens the ports of a container whose way out is its network. */
  async publish(endpoint: EndpointRecord, ports: readonly PortBinding[]): Promise<void> {
    const network = this.find(endpoint.networkId);
    if (isRemoteDriver(network.driver) && ports.length > 0) await this.#remote.publish(network, endpoint, ports);
  }

  usageOf(network: NetworkRecord): Map<string, { used: bigint; free: bigint }> {
    return this.#pools.usage(network);
  }

  /** Takes the addresses of an endpoint that a record names. */
  adopt(endpoint: EndpointRecord): void {
    this.#pools.adopt(endpoint);
  }

  /** The kernel has nothing of it any more. Does not fail: what a plugin keeps is told in the log. */
  async release(endpoint: EndpointRecord): Promise<void> {
    this.#pools.release(endpoint);
    const network = this.findExact(endpoint.networkId);
    if (network === undefined) return;
    if (isRemoteDriver(network.driver)) await this.#remote.leave(network, endpoint);
    if (hasRemoteAddresses(network)) await this.#remote.releaseAddresses(network, endpoint);
  }

  plan(endpoint: EndpointRecord, attached: AttachedNetwork | undefined, namespace: string): NetProgram[] {
    const network = this.find(endpoint.networkId);
    const { mtu, together } = bridgeOptionsOf(network.options);
    const common = {
      namespace,
      containerLink: endpoint.containerLink,
      index: linkIndexOf(endpoint),
      addresses: addressesOf(endpoint).map((ip) => prefixed(network, endpoint, ip)),
      linkLocalIps: attached?.linkLocalIps ?? [],
      sysctls: attached === undefined ? [] : sysctlsOf(attached, endpoint.containerLink),
      mac: endpoint.mac,
      ...(mtu === undefined ? {} : { mtu }),
    };
    const { driver, parent, link } = network;
    if (link !== undefined)
      return planEndpoint({
        ...common,
        hostLink: endpoint.hostLink,
        bridge: link,
        ...(together ? {} : { apart: true }),
      });
    if (isRemoteDriver(driver)) return planJoined(common, endpoint);
    if (parent === undefined || (driver !== 'macvlan' && driver !== 'ipvlan'))
      throw new ApiError('InternalError', `network ${network.name} has no links`);
    return planUpperEndpoint({ ...common, parent: parent.link, kind: upperKindOf(driver, network.options) });
  }

  /** The default routes of a container. `fresh`: it had none before. */
  planRoutes(gateways: Gateways, namespace: string, fresh: boolean): NetProgram {
    return planGateways({
      namespace,
      fresh,
      gateways: ipFamilies.flatMap((family) => {
        const way = gateways[family];
        if (way === undefined) return [];
        const via = gatewayFor(way.network, way.endpoint, family);
        return [{ family, link: way.endpoint.containerLink, ...(via === undefined ? {} : { via }) }];
      }),
    });
  }

  async #forwardIpv6(): Promise<void> {
    const program = planIpv6Forwarding();
    if (program !== undefined) await this.#context.os.netlink.run([program]);
  }

  async #planBlocks(wanted: NetworkCreate): Promise<AddressBlock[]> {
    if (wanted.enableIpv6 === true && !this.#context.rules.hasIpv6)
      throw new ApiError('InternalError', 'IPv6 networks need ip6 tables, which this kernel does not have');
    const routes = await this.#context.os.netlink.listRoutes();
    return planBlocks(wanted, {
      networks: [
        ...this.#reserved,
        ...this.list().flatMap((network) => network.blocks.map(({ subnet }) => subnetOf(subnet))),
      ],
      host: routes
        .filter((route) => route.destination !== 'default' && route.table !== 255)
        .map((route) => subnetOf(route.destination)),
      pools: this.#context.networkSettings.pools ?? [],
      // A host without an identity has at least the instance's.
      identity: `${readIfExists('/etc/machine-id') ?? ''}${this.#context.instanceId}`,
    });
  }

  #makeRecord(wanted: NetworkCreate, blocks: AddressBlock[]): NetworkRecord {
    const id = Buffer.from(this.#context.random.bytes(32)).toString('hex');
    return {
      format: networkFormat,
      id,
      name: wanted.name,
      driver: driverOf(wanted),
      createdAtMs: this.#context.clock.now(),
      internal: wanted.internal === true,
      attachable: wanted.attachable === true,
      ingress: false,
      enableIpv4: wanted.enableIpv4 !== false,
      enableIpv6: wanted.enableIpv6 === true,
      labels: wanted.labels ?? {},
      options: { ...this.#context.networkSettings.networkOptions, ...wanted.options },
      blocks,
      ...(wanted.ipamOptions === undefined ? {} : { ipamOptions: wanted.ipamOptions }),
      ...(wanted.configFrom === undefined || wanted.configFrom === '' ? {} : { configFrom: wanted.configFrom }),
      ...(wanted.ipamDriver === undefined ? {} : { ipamDriver: wanted.ipamDriver }),
      ...(driverOf(wanted) === 'bridge'
        ? { link: bridgeOptionsOf(wanted.options ?? {}).bridgeName ?? linkName(this.#context.instanceId, 'b', id) }
        : {}),
    };
  }

  async #addBuiltIn(name: string): Promise<void> {
    const id = Buffer.from(this.#context.random.bytes(32)).toString('hex');
    const common = {
      format: networkFormat,
      id,
      name,
      createdAtMs: this.#context.clock.now(),
      internal: false,
      attachable: false,
      ingress: false,
      enableIpv4: true,
      enableIpv6: false,
      labels: {},
      options: {},
      blocks: [],
    };
    if (name !== 'bridge') {
      const record: NetworkRecord = { ...common, driver: name === 'host' ? 'host' : 'null' };
      this.#records.set(id, record);
      this.#save(record);
      return;
    }
    const link = linkName(this.#context.instanceId, 'b', '0');
    const blocks = (await this.#planBlocks({ name })).map((block) => ({ ...block, isAsked: true }));
    const record: NetworkRecord = { ...common, driver: 'bridge', blocks, link, options: defaultBridgeOptions(link) };
    this.#records.set(id, record);
    this.#save(record);
  }

  async #settleDefaultBridge(inUse: (networkId: string) => boolean): Promise<void> {
    const record = this.find('bridge');
    const { bridge = {} } = this.#context.networkSettings;
    const name = record.name;
    const { ipv6, link, isNone } = bridge;
    const needsBlock = ipv6 !== undefined && [ipv6.address, ipv6.range].every((text) => text === undefined);
    const wanted = planDefaultBridge(record, bridge, {
      free:
        needsBlock && blocksOf(record, 'IPv6').length === 0
          ? await this.#planBlocks({ name, enableIpv4: false, enableIpv6: true })
          : [],
      ...(link === undefined ? {} : { addresses: await addressesOnBridge(this.#context, link) }),
      ownLink: linkName(this.#context.instanceId, 'b', '0'),
    });
    if (wanted === record && isNone !== true) return;
    if (inUse(record.id)) {
      this.#context.log.warn('containers run on the default bridge: it keeps its settings until they have ended', {
        subnets: record.blocks.map(({ subnet }) => subnet),
      });
      return;
    }
    // Its addresses and its MTU are those of the link, which is made anew.
    await this.#removeLink(record);
    if (isNone === true) {
      // Its record stays on disk: containers that name it have it again when there is one.
      this.#records.delete(record.id);
      return;
    }
    this.#records.set(wanted.id, wanted);
    this.#save(wanted);
  }

  /** Containers that name no network have none. */
  get isWithoutBridge(): boolean {
    return this.#context.networkSettings.bridge?.isNone === true && this.findExact('bridge') === undefined;
  }

  #save(record: NetworkRecord): void {
    writeFileAtomic(`${this.#directory}/${record.id}.json`, JSON.stringify(record), { sync: true });
  }

  #bridgePlan(network: NetworkRecord): Parameters<typeof planBridge>[0] {
    const { mtu } = bridgeOptionsOf(network.options);
    return {
      link: network.link!,
      addresses: bridgeAddresses(network),
      ipv6: network.enableIpv6 && bridgeOptionsOf(network.options).modes.IPv6 !== 'isolated',
      ...(mtu === undefined ? {} : { mtu }),
      ...(this.#context.networkSettings.rules === false ? { isUnguarded: true } : {}),
      ...(network.borrowed === true ? {} : { mark: linkMark(this.#context.instanceId) }),
    };
  }

  async #removeLink(record: NetworkRecord): Promise<void> {
    if (record.link !== undefined && record.borrowed !== true)
      await this.#context.os.netlink.run([{ steps: [{ op: 'deleteLink', name: record.link, ignore: ['ENODEV'] }] }]);
  }
}

export function assertRemovable(record: NetworkRecord): void {
  if (builtInNetworks.has(record.name))
    throw new ApiError('Forbidden', `${record.name} is a pre-defined network and cannot be removed`);
}
