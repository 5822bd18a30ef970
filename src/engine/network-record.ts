/**
 * The record of a docker network on disk, `networks/ID.json`, and what follows from it alone.
 */
import { contains, subnetOf, type IpFamily, ipFamilies } from '#base/ip.ts';
import type { NetworkRules } from '#net/rules.ts';
import type { EndpointRecord } from './container-record.ts';
import type { NetworkAddresses } from './network-addresses.ts';
import { bridgeOptionsOf } from './network-options.ts';

export const networkFormat = 2;

/** One subnet of a network. */
export interface AddressBlock {
  subnet: string;
  /** Absent where the network has no way out by it. */
  gateway?: string;
  ipRange?: string;
  auxiliaryAddresses?: Record<string, string>;
  /** The user named the subnet, and so may name addresses in it. */
  isAsked: boolean;
  /** Of a plugin's: what it calls the subnet. */
  poolId?: string;
}

export interface NetworkRecord {
  format: number;
  id: string;
  name: string;
  /** `bridge`, `macvlan`, `ipvlan`, `host`, `null`, or a plugin. */
  driver: string;
  createdAtMs: number;
  internal: boolean;
  attachable: boolean;
  ingress: boolean;
  enableIpv4: boolean;
  enableIpv6: boolean;
  labels: Record<string, string>;
  options: Record<string, string>;
  /** None for `host` and `none`. */
  blocks: AddressBlock[];
  ipamOptions?: Record<string, string>;
  link?: string;
  /** Of macvlan and ipvlan: the link that they stand on. */
  parent?: { link: string; isOwn: boolean };
  ipamDriver?: string;
  /** Settings for other networks, with subnets as they were asked for; and of another one, whose settings it took. */
  configOnly?: true;
  configured?: NetworkAddresses[];
  configFrom?: string;
  /** The bridge was there before the network and stays after it. */
  borrowed?: boolean;
}

export const builtInNetworks = new Set(['bridge', 'host', 'none']);

/** Format 1 had one subnet, of version 4, in the record itself. */
export function parseNetwork(text: string): NetworkRecord {
  const record = JSON.parse(text) as NetworkRecord & Partial<Omit<AddressBlock, 'isAsked'>>;
  if (record.format !== 1) return record;
  const { subnet, gateway, ipRange, auxiliaryAddresses, ...rest } = record;
  const optional = {
    ...(gateway === undefined ? {} : { gateway }),
    ...(ipRange === undefined ? {} : { ipRange }),
    ...(auxiliaryAddresses === undefined ? {} : { auxiliaryAddresses }),
  };
  return {
    ...rest,
    format: networkFormat,
    enableIpv4: true,
    blocks: subnet === undefined ? [] : [{ subnet, ...optional, isAsked: true }],
  };
}

export function familyOfSubnet(subnet: string): IpFamily {
  return subnetOf(subnet).family;
}

export function blocksOf(network: NetworkRecord, family: IpFamily): AddressBlock[] {
  return network.blocks.filter((block) => familyOfSubnet(block.subnet) === family);
}

/** The subnet that an address is of. */
function blockOf(network: NetworkRecord, ip: string): AddressBlock | undefined {
  return network.blocks.find((block) => contains(subnetOf(block.subnet), ip));
}

export function prefixLengthOf(network: NetworkRecord, ip: string): number {
  const block = blockOf(network, ip);
  return block === undefined ? 0 : subnetOf(block.subnet).length;
}

/** `ip/length`, as it stands on a link. */
export function withPrefix(network: NetworkRecord, ip: string): string {
  return `${ip}/${prefixLengthOf(network, ip)}`;
}

/** Among a bridge's addresses that no container gets: where its containers send what is for elsewhere instead. */
export const ownWayKey: Readonly<Record<IpFamily, string>> = {
  IPv4: 'DefaultGatewayIPv4',
  IPv6: 'DefaultGatewayIPv6',
};

/** Where an endpoint sends what is for elsewhere, in this family. */
export function gatewayFor(network: NetworkRecord, endpoint: EndpointRecord, family: IpFamily): string | undefined {
  if (endpoint.joined !== undefined) return family === 'IPv4' ? endpoint.joined.gateway : endpoint.joined.gateway6;
  const ip = family === 'IPv4' ? endpoint.ip : endpoint.ip6;
  if (ip === undefined || isClosed(network) || isWithoutGateway(network, family)) return undefined;
  const block = blockOf(network, ip);
  const own = network.driver === 'bridge' ? block?.auxiliaryAddresses?.[ownWayKey[family]] : undefined;
  return own ?? block?.gateway;
}

/** Whether an endpoint has a way out in this family, by a gateway or on the link itself. */
export function leadsOut(network: NetworkRecord, endpoint: EndpointRecord, family: IpFamily): boolean {
  const ip = family === 'IPv4' ? endpoint.ip : endpoint.ip6;
  return (
    gatewayFor(network, endpoint, family) !== undefined ||
    (ip !== undefined && network.driver === 'ipvlan' && !isClosed(network) && isWithoutGateway(network, family))
  );
}

/** Without a parent that is the host's there is nothing outside. */
function isClosed({ internal, driver, options }: WithDriver): boolean {
  return internal || ((driver === 'macvlan' || driver === 'ipvlan') && (options['parent'] ?? '') === '');
}

type WithDriver = Pick<NetworkRecord, 'internal' | 'driver' | 'options'>;

/** A network that has no gateway in this family: nobody needs to know one. */
export function isWithoutGateway(network: WithDriver, family: IpFamily): boolean {
  const { driver, options } = network;
  if (driver === 'bridge') return bridgeOptionsOf(options).modes[family] === 'isolated';
  const isRouted = driver === 'ipvlan' && (options['ipvlan_mode'] ?? '').startsWith('l3');
  return isClosed(network) || isRouted;
}

/** Whether containers have endpoints of their own on it. */
export function hasEndpoints({ driver }: { driver: string }): boolean {
  return driver !== 'host' && driver !== 'null';
}

/** Both, version 4 first. */
export function addressesOf(endpoint: Pick<EndpointRecord, 'ip' | 'ip6'>): string[] {
  return [endpoint.ip, endpoint.ip6].filter((ip) => ip !== undefined);
}

export function isUserDefined(network: { name: string }): boolean {
  return !builtInNetworks.has(network.name);
}

export function rulesOf(network: NetworkRecord): NetworkRules {
  const { masquerade, together, modes, sources, trusted } = bridgeOptionsOf(network.options);
  return {
    link: network.link!,
    subnets: network.blocks.map(({ subnet }) => {
      const family = familyOfSubnet(subnet);
      const source = sources[family];
      return {
        subnet,
        masquerade: masquerade && modes[family] !== 'routed',
        ...(source === undefined ? {} : { source }),
      };
    }),
    internal: network.internal,
    together,
    guarded: ipFamilies.filter((family) => modes[family] !== 'nat-unprotected'),
    routed: ipFamilies.filter((family) => modes[family] === 'routed'),
    trusted,
  };
}

/** What stands on the bridge: the gateways. */
export function bridgeAddresses(network: NetworkRecord): string[] {
  const { modes, inhibitIpv4 } = bridgeOptionsOf(network.options);
  return network.blocks.flatMap(({ subnet, gateway }) => {
    const family = familyOfSubnet(subnet);
    const without = gateway === undefined || modes[family] === 'isolated' || (family === 'IPv4' && inhibitIpv4);
    return without ? [] : [withPrefix(network, gateway)];
  });
}
