/**
 * Addresses of docker's networks: which subnets a new one gets, and which of their addresses are taken. A pool is
 * memory only (net/pools.ts).
 */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import {
  addressAt,
  contains,
  formatIp,
  formatSubnet,
  ipFamilies,
  ipOf,
  overlaps,
  subnetOf,
  type IpFamily,
  type Subnet,
} from '#base/ip.ts';
import { AddressPool, defaultSubnetPools, findFreeSubnet, type SubnetPool } from '#net/pools.ts';
import type { AttachedNetwork, EndpointRecord } from './container-record.ts';
import type { NetworkAddresses } from './network-addresses.ts';
import { driverOf, type NetworkCreate } from './network-create.ts';
import { addressesOf, familyOfSubnet, isWithoutGateway } from './network-record.ts';
import type { AddressBlock, NetworkRecord } from './network-record.ts';

type Addresses = Pick<EndpointRecord, 'ip' | 'ip6'>;

export class NetworkPools {
  /** Of each network, beside its blocks. */
  readonly #pools = new Map<string, AddressPool[]>();

  open(network: NetworkRecord): void {
    const pools = network.blocks.map((block) => {
      const pool = new AddressPool(block.subnet, block.ipRange === undefined ? {} : { range: block.ipRange });
      for (const address of ownAddresses(block)) pool.take(address);
      return pool;
    });
    this.#pools.set(network.id, pools);
  }

  close(network: NetworkRecord): void {
    this.#pools.delete(network.id);
  }

  /** Of each subnet how many addresses cannot be given out, and how many can be. */
  usage(network: NetworkRecord): Map<string, { used: bigint; free: bigint }> {
    const pools = this.#pools.get(network.id) ?? [];
    return new Map(pools.map((pool) => [formatSubnet(pool.subnet), pool.usage()]));
  }

  /** Somebody has an address that is not the network's own. */
  hasEndpoints(network: NetworkRecord): boolean {
    const own = network.blocks.reduce((sum, block) => sum + ownAddresses(block).size, 0);
    const used = (this.#pools.get(network.id) ?? []).reduce((sum, pool) => sum + pool.usedCount, 0);
    return used > own;
  }

  /** One address of each family that the network has: those asked for, else the next that are free. */
  take(network: NetworkRecord, asked: AttachedNetwork): Addresses {
    const taken: Addresses = {};
    try {
      if (network.enableIpv4) taken.ip = this.#takeOne(network, 'IPv4', asked.ip);
      if (network.enableIpv6) taken.ip6 = this.#takeOne(network, 'IPv6', asked.ip6);
    } catch (error) {
      this.release({ networkId: network.id, ...taken });
      throw error;
    }
    return taken;
  }

  #takeOne(network: NetworkRecord, family: IpFamily, asked: string | undefined): string {
    const pools = (this.#pools.get(network.id) ?? []).filter((pool) => pool.subnet.family === family);
    if (asked !== undefined) {
      const pool = pools.find((one) => contains(one.subnet, asked));
      if (pool === undefined)
        throw new ApiError('BadRequest', `no configured subnet or ip-range contain the IP address ${asked}`);
      if (!pool.take(asked))
        throw new ApiError('Forbidden', 'failed to set up container networking: Address already in use');
      return formatIp(ipOf(asked));
    }
    for (const pool of pools) if (!pool.isFull) return pool.allocate();
    throw new ApiError(
      'InternalError',
      `no available ${family} addresses on this network's address pools: ${network.name} (${network.id})`,
    );
  }

  /** Takes the addresses of an endpoint that a record names. */
  adopt(endpoint: Addresses & { networkId: string }): void {
    for (const ip of addressesOf(endpoint)) this.#poolOf(endpoint.networkId, ip)?.take(ip);
  }

  release(endpoint: Addresses & { networkId: string }): void {
    for (const ip of addressesOf(endpoint)) this.#poolOf(endpoint.networkId, ip)?.release(ip);
  }

  #poolOf(networkId: string, ip: string): AddressPool | undefined {
    return this.#pools.get(networkId)?.find((pool) => contains(pool.subnet, ip));
  }
}

/** What there is already, and where new subnets come from. */
export interface SubnetsAround {
  networks: readonly Subnet[];
  host: readonly Subnet[];
  /** Of either family; where there is none of one, docker's own. */
  pools: readonly SubnetPool[];
  /** Of this host and instance. */
  identity: string;
}

/** The subnets of a new network: those asked for, else the first of the pools that are free. */
export function planBlocks(wanted: NetworkCreate, { networks, host, pools, identity }: SubnetsAround): AddressBlock[] {
  const blocks: AddressBlock[] = [];
  const add = (asked: NetworkAddresses, from: readonly SubnetPool[]): void => {
    const taken = [...networks, ...blocks.map(({ subnet }) => subnetOf(subnet))];
    const subnet = subnetOf(asked.subnet ?? findFreeSubnet([...taken, ...host], from));
    if (taken.some((other) => overlaps(other, subnet)))
      throw new ApiError('Forbidden', 'invalid pool request: Pool overlaps with other one on this address space');
    blocks.push(makeBlock(wanted, asked, subnet));
  };
  const enabled = { IPv4: wanted.enableIpv4 !== false, IPv6: wanted.enableIpv6 === true };
  const defaults = { IPv4: defaultSubnetPools, IPv6: [uniqueLocalPool(identity)] };
  for (const family of ipFamilies.filter((one) => enabled[one])) {
    const asked = (wanted.addresses ?? []).filter(({ subnet = '' }) => familyOfSubnet(subnet) === family);
    const set = pools.filter(({ base }) => familyOfSubnet(base) === family);
    for (const one of asked.length === 0 ? [{}] : asked) add(one, set.length === 0 ? defaults[family] : set);
  }
  return blocks;
}

/** A /48 of unique local addresses (RFC 4193), the same at each start: as dockerd's, from a hash of who this is. */
function uniqueLocalPool(identity: string): SubnetPool {
  const global = createHash('sha256').update(identity).digest().readUIntBE(3, 5);
  return { base: `${formatIp({ family: 'IPv6', value: (0xfdn << 120n) | (BigInt(global) << 80n) })}/48`, length: 64 };
}

function makeBlock(wanted: NetworkCreate, asked: NetworkAddresses, subnet: Subnet): AddressBlock {
  const { internal = false, options = {} } = wanted;
  const isWithout = isWithoutGateway({ internal, options, driver: driverOf(wanted) }, subnet.family);
  const range = asked.ipRange === undefined ? subnet : subnetOf(asked.ipRange);
  // The first of the range that is free: of the subnet itself that is the second.
  const first = isWithout ? undefined : addressAt(range, range.base === subnet.base ? 1 : 0);
  const gateway = asked.gateway === undefined ? first : formatIp(ipOf(asked.gateway));
  return {
    subnet: formatSubnet(subnet),
    ...(gateway === undefined ? {} : { gateway }),
    ...(asked.ipRange === undefined ? {} : { ipRange: asked.ipRange }),
    ...(asked.auxiliaryAddresses === undefined ? {} : { auxiliaryAddresses: asked.auxiliaryAddresses }),
    isAsked: asked.subnet !== undefined,
  };
}

/** Those that no container gets. */
function ownAddresses({ gateway, auxiliaryAddresses }: AddressBlock): Set<string> {
  const all = [...(gateway === undefined ? [] : [gateway]), ...Object.values(auxiliaryAddresses ?? {})];
  return new Set(all.map((ip) => formatIp(ipOf(ip))));
}
