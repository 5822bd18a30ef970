/**
 * Networks whose links or addresses are a plugin's: what the engine asks of it, in which order, and what goes back when
 * something fails. A driver of a plugin may have the engine's addresses, and a network of the engine a plugin's.
 *
 *   network    pools requested, gateways taken, then the driver told; on removal the other way round
 *   endpoint   addresses, the driver's endpoint, and, once the container's namespace is there, its link moved in
 */
import { formatIp, formatSubnet, ipFamilies, ipOf, parseCidr, subnetOf, type IpFamily } from '#base/ip.ts';
import { IpamDrivers } from '#plugins/ipam-driver.ts';
import { NetworkDrivers, type RemoteAddresses } from '#plugins/network-driver.ts';
import type { NetProgram, NetStep } from '#os/netlink.ts';
import { planInside, type EndpointPlan } from '#net/bridges.ts';
import type { AttachedNetwork, EndpointRecord } from './container-record.ts';
import type { EngineContext } from './context.ts';
import type { PortBinding } from './engine.ts';
import type { NetworkAddresses } from './network-addresses.ts';
import type { NetworkCreate } from './network-create.ts';
import { chooseLinkName } from './network-endpoint.ts';
import { blocksOf, familyOfSubnet, withPrefix, type AddressBlock, type NetworkRecord } from './network-record.ts';

const ownDrivers = new Set(['bridge', 'default', 'macvlan', 'ipvlan', 'host', 'null', 'overlay']);
const hostNamespace = '/proc/self/ns/net';

export function isRemoteDriver(driver: string): boolean {
  return !ownDrivers.has(driver);
}

export function hasRemoteAddresses({ ipamDriver = 'default' }: { ipamDriver?: string }): boolean {
  return ipamDriver !== 'default' && ipamDriver !== 'null';
}

export class RemoteNetworks {
  readonly #context: EngineContext;
  readonly #drivers: NetworkDrivers;
  readonly #ipam: IpamDrivers;

  constructor(context: EngineContext) {
    this.#context = context;
    this.#drivers = new NetworkDrivers(context.plugins);
    this.#ipam = new IpamDrivers(context.plugins);
  }

  driverNames(): Promise<string[]> {
    return this.#drivers.names();
  }

  /** Throws ApiError where a plugin that is named is not there. */
  async check({ driver = 'bridge', ipamDriver = 'default' }: NetworkCreate): Promise<void> {
    if (isRemoteDriver(driver)) await this.#drivers.find(driver);
    if (hasRemoteAddresses({ ipamDriver })) await this.#ipam.find(ipamDriver);
  }

  /** Subnets of a plugin with the addresses that no container gets taken in them. */
  async requestBlocks(wanted: NetworkCreate): Promise<AddressBlock[]> {
    const driver = wanted.ipamDriver ?? '';
    const blocks: AddressBlock[] = [];
    try {
      for (const family of ipFamilies) {
        if (family === 'IPv4' ? wanted.enableIpv4 === false : wanted.enableIpv6 !== true) continue;
        const asked = (wanted.addresses ?? []).filter(({ subnet = '' }) => familyOfSubnet(subnet) === family);
        for (const one of asked.length === 0 ? [{}] : asked)
          await this.#requestBlock({ driver, family, options: wanted.ipamOptions ?? {} }, one, blocks);
      }
      return blocks;
    } catch (error) {
      await this.#releaseBlocks(driver, blocks);
      throw error;
    }
  }

  async #requestBlock(
    { driver, family, options }: { driver: string; family: IpFamily; options: Record<string, string> },
    asked: NetworkAddresses,
    blocks: AddressBlock[],
  ): Promise<void> {
    const { subnet, ipRange, gateway, auxiliaryAddresses } = asked;
    const pool = await this.#ipam.requestPool(driver, {
      family,
      options,
      ...(subnet === undefined ? {} : { subnet }),
      ...(ipRange === undefined ? {} : { range: ipRange }),
    });
    const block: AddressBlock = {
      subnet: formatSubnet(subnetOf(pool.subnet)),
      ...(ipRange === undefined ? {} : { ipRange }),
      isAsked: subnet !== undefined,
      poolId: pool.id,
    };
    blocks.push(block);
    const common = { poolId: pool.id, family };
    if (gateway === undefined && pool.gateway !== undefined) block.gateway = pool.gateway;
    else
      block.gateway = await this.#ipam.requestAddress(driver, {
        ...common,
        isGateway: true,
        ...(gateway === undefined ? {} : { address: gateway }),
      });
    for (const [name, address] of Object.entries(auxiliaryAddresses ?? {})) {
      await this.#ipam.requestAddress(driver, { ...common, address });
      block.auxiliaryAddresses = { ...block.auxiliaryAddresses, [name]: address };
    }
  }

  /** Tells the driver of a new network. */
  async open(network: NetworkRecord): Promise<void> {
    const { id, driver, options, enableIpv4, enableIpv6, internal, blocks } = network;
    if (!isRemoteDriver(driver)) return;
    await this.#drivers.create({
      id,
      driver,
      options,
      enableIpv4,
      enableIpv6,
      internal,
      pools: blocks.map(({ subnet, gateway, auxiliaryAddresses }) => ({
        subnet,
        ...(gateway === undefined ? {} : { gateway: withPrefix(network, gateway) }),
        ...(auxiliaryAddresses === undefined ? {} : { auxiliaryAddresses }),
      })),
    });
  }

  /** Throws where the driver does not let it go. */
  async close({ id, driver }: NetworkRecord): Promise<void> {
    if (isRemoteDriver(driver)) await this.#drivers.remove(driver, id);
  }

  /** Addresses and pools of a network that is no more. */
  async releaseBlocks(network: NetworkRecord): Promise<void> {
    if (hasRemoteAddresses(network)) await this.#releaseBlocks(network.ipamDriver ?? '', network.blocks);
  }

  async #releaseBlocks(driver: string, blocks: readonly AddressBlock[]): Promise<void> {
    for (const { poolId, gateway, auxiliaryAddresses } of blocks) {
      if (poolId === undefined) continue;
      for (const address of [gateway, ...Object.values(auxiliaryAddresses ?? {})])
        if (address !== undefined)
          await this.#quietly('an address', this.#ipam.releaseAddress(driver, poolId, address));
      await this.#quietly('a pool', this.#ipam.releasePool(driver, poolId));
    }
  }

  async takeAddresses(
    network: NetworkRecord,
    asked: AttachedNetwork,
    mac: string,
  ): Promise<Pick<EndpointRecord, 'ip' | 'ip6'>> {
    const taken: Pick<EndpointRecord, 'ip' | 'ip6'> = {};
    try {
      for (const family of ipFamilies) {
        const [block] = blocksOf(network, family);
        if (block?.poolId === undefined) continue;
        const key = family === 'IPv4' ? 'ip' : 'ip6';
        const address = asked[key];
        taken[key] = await this.#ipam.requestAddress(network.ipamDriver ?? '', {
          poolId: block.poolId,
          family,
          mac,
          ...(address === undefined ? {} : { address: formatIp(ipOf(address)) }),
        });
      }
    } catch (error) {
      await this.releaseAddresses(network, taken);
      throw error;
    }
    return taken;
  }

  async releaseAddresses(network: NetworkRecord, taken: Pick<EndpointRecord, 'ip' | 'ip6'>): Promise<void> {
    for (const family of ipFamilies) {
      const address = family === 'IPv4' ? taken.ip : taken.ip6;
      const [block] = blocksOf(network, family);
      if (address === undefined || block?.poolId === undefined) continue;
      const released = this.#ipam.releaseAddress(network.ipamDriver ?? '', block.poolId, address);
      await this.#quietly('an address', released);
    }
  }

  /** The driver's endpoint; what it chooses itself comes into the record. */
  async createEndpoint(network: NetworkRecord, endpoint: EndpointRecord, attached: AttachedNetwork): Promise<void> {
    const given: RemoteAddresses = {
      ...(endpoint.ip === undefined ? {} : { ip: withPrefix(network, endpoint.ip) }),
      ...(endpoint.ip6 === undefined ? {} : { ip6: withPrefix(network, endpoint.ip6) }),
      ...(attached.mac === undefined ? {} : { mac: attached.mac }),
    };
    const chosen = await this.#drivers.createEndpoint(network.driver, endpoint, given, attached.options ?? {});
    endpoint.mac = attached.mac ?? chosen.mac ?? '';
    for (const key of ['ip', 'ip6'] as const) {
      const text = chosen[key];
      const cidr = parseCidr(text);
      if (text === undefined || cidr === undefined) continue;
      endpoint[key] = formatIp(cidr.address);
      endpoint.prefixes = { ...endpoint.prefixes, [key]: cidr.length };
    }
  }

  /** The link for a container, of which `others` are the names that are taken. */
  async join(
    network: NetworkRecord,
    endpoint: EndpointRecord,
    attached: AttachedNetwork,
    { sandbox, others }: { sandbox: string; others: string[] },
  ): Promise<void> {
    const link = await this.#drivers.join(network.driver, endpoint, sandbox, attached.options ?? {});
    endpoint.joined = link;
    endpoint.containerLink = link.name ?? chooseLinkName(attached, link.prefix, others);
  }

  async publish({ driver }: NetworkRecord, endpoint: EndpointRecord, ports: readonly PortBinding[]): Promise<void> {
    const numbers = { tcp: 6, udp: 17, sctp: 132 };
    const shown = ports.map((port) => ({
      Proto: numbers[port.protocol],
      IP: endpoint.ip ?? '',
      Port: port.containerPort,
      HostIP: port.hostIp,
      HostPort: port.hostPort,
      HostPortEnd: port.hostPortEnd ?? port.hostPort,
    }));
    await this.#drivers.publish(driver, endpoint, shown);
  }

  /** All that a driver has of an endpoint goes; what it does not let go is told. */
  async leave({ driver }: NetworkRecord, endpoint: EndpointRecord): Promise<void> {
    // A start that was cut off does not know how far it came.
    if (endpoint.joined !== undefined) await this.#quietly('ports', this.#drivers.unpublish(driver, endpoint));
    await this.#quietly('an endpoint', this.#drivers.leave(driver, endpoint));
    await this.#quietly('an endpoint', this.#drivers.removeEndpoint(driver, endpoint));
  }

  async #quietly(what: string, work: Promise<void>): Promise<void> {
    await work.catch((error: unknown) => this.#context.log.warn(`a plugin keeps ${what}`, { error }));
  }
}

/** The driver's link moved into a container, with all that is to be on it. */
export function planJoined(plan: Omit<EndpointPlan, 'bridge' | 'hostLink'>, endpoint: EndpointRecord): NetProgram[] {
  const { joined } = endpoint;
  if (joined === undefined || joined.source === '') return [];
  const name = plan.containerLink;
  return [
    { steps: [{ op: 'setLink', name: joined.source, up: false }] },
    { steps: [{ op: 'setLink', name: joined.source, newName: name, namespace: plan.namespace }] },
    {
      namespace: plan.namespace,
      steps: [
        ...(plan.mac === '' ? [] : [{ op: 'setLink' as const, name, mac: plan.mac }]),
        ...planInside(plan),
        ...joined.routes.map(({ destination, via }): NetStep => ({
          op: 'addRoute',
          destination,
          link: name,
          ...(via === undefined ? {} : { via }),
        })),
      ],
    },
  ];
}

/** The link goes back to the host before its driver is told: it is the driver's to remove. */
export function planReturn(endpoints: readonly EndpointRecord[], namespace: string): NetProgram[] {
  const moved = endpoints.filter(({ joined }) => joined !== undefined && joined.source !== '');
  if (moved.length === 0) return [];
  const ignore = ['ENODEV', 'EEXIST'];
  return [
    {
      namespace,
      steps: moved.flatMap(({ containerLink: name, joined }): NetStep[] => [
        { op: 'setLink', name, up: false, ignore },
        { op: 'setLink', name, newName: joined?.source ?? '', namespace: hostNamespace, ignore },
      ]),
    },
  ];
}

/** `ip/length`: a plugin's driver may have chosen an address of a subnet that the engine does not know. */
export function prefixed(network: NetworkRecord, { ip, prefixes }: EndpointRecord, address: string): string {
  const length = address === ip ? prefixes?.ip : prefixes?.ip6;
  return length === undefined ? withPrefix(network, address) : `${address}/${length}`;
}
