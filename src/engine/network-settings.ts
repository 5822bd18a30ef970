/**
 * What whoever runs the engine says of its networks, and what the default bridge becomes by it. The record of the
 * bridge outlives an engine; one with other settings finds it and changes it, unless containers run on it.
 */
import { ApiError } from '#base/errors.ts';
import {
  addressAt,
  contains,
  containsSubnet,
  formatIp,
  formatSubnet,
  maskIp,
  parseCidr,
  subnetOf,
  type IpFamily,
} from '#base/ip.ts';
import { blocksOf, ownWayKey, withPrefix, type AddressBlock, type NetworkRecord } from './network-record.ts';

export interface NetworkSettings {
  /** Where subnets of new networks come from, each of `length`; absent: docker's own pools. */
  pools?: readonly { base: string; length: number }[];
  bridge?: BridgeSettings;
  /** False: what the kernel cannot translate of published ports is not relayed (dockerd's `userland-proxy`). */
  relay?: boolean;
  /** False: nothing is written into the host's firewall (dockerd's `iptables`); published ports are relayed. */
  rules?: boolean;
  /** Options of new networks that do not say otherwise. */
  networkOptions?: Record<string, string>;
  /** What `host-gateway` stands for; absent: the default bridge's own addresses. */
  hostGateways?: readonly string[];
}

/** In one family: the bridge's address with its prefix, what of the subnet is given out, and containers' gateway. */
export interface FamilySettings {
  address?: string;
  range?: string;
  gateway?: string;
}

export interface BridgeSettings extends FamilySettings {
  options?: Record<string, string>;
  /** Absent: version 4 alone. */
  ipv6?: FamilySettings;
  /** A bridge that somebody else made, by name. */
  link?: string;
  /** There is no default bridge: containers that name no network have none. */
  isNone?: boolean;
}

/** What a plan for the default bridge needs to know beside its record. */
export interface BridgeAround {
  /** Blocks of version 6 that nobody uses, for a bridge that has none yet. */
  free?: readonly AddressBlock[];
  /** With prefixes: what stands on the bridge that `link` names. */
  addresses?: readonly string[];
  /** The name of the engine's own bridge. */
  ownLink?: string;
}

/** The default bridge as these settings want it; the same object where nothing changes. Throws ApiError. */
export function planDefaultBridge(
  record: NetworkRecord,
  settings: BridgeSettings = {},
  { free = [], addresses, ownLink = record.link ?? '' }: BridgeAround = {},
): NetworkRecord {
  const link = settings.link ?? ownLink;
  const options = {
    ...record.options,
    ...(link === record.link ? {} : { 'com.docker.network.bridge.name': link }),
    ...settings.options,
  };
  const plan = (family: IpFamily, wanted: FamilySettings): AddressBlock[] => {
    const before = blocksOf(record, family);
    const known = record.link === link ? before : [];
    const fallback = before.length > 0 ? before : free.map((block) => ({ ...block, isAsked: true }));
    const standing = addresses ?? known.flatMap(({ gateway }) => gateway ?? []).map((ip) => withPrefix(record, ip));
    const block = planBlock(family, wanted, { standing, isUsers: settings.link !== undefined, fallback: fallback[0] });
    return block === undefined ? [] : [withWay(block, family, wanted.gateway)];
  };
  const blocks = [...plan('IPv4', settings), ...(settings.ipv6 === undefined ? [] : plan('IPv6', settings.ipv6))];
  const enableIpv6 = settings.ipv6 !== undefined;
  const isSame =
    enableIpv6 === record.enableIpv6 &&
    link === record.link &&
    blocks.length === record.blocks.length &&
    blocks.every((block, at) => sameBlock(block, record.blocks[at])) &&
    Object.entries(options).every(([key, value]) => record.options[key] === value);
  if (isSame) return record;
  const { borrowed: _, ...rest } = record;
  return { ...rest, enableIpv6, options, blocks, link, ...(settings.link === undefined ? {} : { borrowed: true }) };
}

interface Standing {
  /** Addresses with prefixes that the bridge has. */
  standing: readonly string[];
  isUsers: boolean;
  fallback: AddressBlock | undefined;
}

/**
 * The subnet is the address's that was asked for; else of an address that the bridge has, within the range if one is;
 * else the range itself. Source: moby 28, `getDefaultBridgeIPAMConf`.
 */
function planBlock(
  family: IpFamily,
  { address: asked, range: rangeText }: FamilySettings,
  { standing, isUsers, fallback }: Standing,
): AddressBlock | undefined {
  const range = rangeText === undefined ? undefined : subnetOf(rangeText);
  const own = parseCidr(asked) ?? chooseStanding(family, standing, rangeText, isUsers);
  const subnet = own === undefined ? range : maskIp(own.address, own.length);
  if (subnet === undefined) return fallback;
  const gateway = own === undefined ? addressAt(subnet, 1) : formatIp(own.address);
  if (range === undefined) return { subnet: formatSubnet(subnet), gateway, isAsked: true };
  if (containsSubnet(subnet, range))
    return { subnet: formatSubnet(subnet), gateway, ipRange: formatSubnet(range), isAsked: true };
  if (asked === undefined && !isUsers)
    return { subnet: formatSubnet(range), gateway, ipRange: formatSubnet(range), isAsked: true };
  if (family === 'IPv6')
    throw new ApiError(
      'BadRequest',
      `fixed-cidr-v6=${rangeText} is outside the bridge's subnet ${formatSubnet(subnet)}`,
    );
  // A mistake that dockerd has always forgiven.
  return { subnet: formatSubnet(subnet), gateway, isAsked: true };
}

const linkLocal = subnetOf('fe80::/64');

function chooseStanding(
  family: IpFamily,
  standing: readonly string[],
  rangeText: string | undefined,
  isUsers: boolean,
): ReturnType<typeof parseCidr> {
  const range = rangeText === undefined ? undefined : subnetOf(rangeText);
  const isLocalMeant = range !== undefined && containsSubnet(linkLocal, range);
  const found = standing
    .flatMap((text) => parseCidr(text) ?? [])
    .filter(({ address }) => address.family === family)
    .filter(({ address }) => isLocalMeant || !contains(linkLocal, formatIp(address)));
  if (range === undefined) return found[0];
  return (
    found.find(({ address }) => contains(range, formatIp(address))) ??
    found.find(({ address, length }) => containsSubnet(maskIp(address, length), range)) ??
    (isUsers ? found[0] : undefined)
  );
}

/** docker's own word for it among the addresses that no container gets. */
function withWay(block: AddressBlock, family: IpFamily, gateway: string | undefined): AddressBlock {
  const { auxiliaryAddresses, ...rest } = block;
  const { [ownWayKey[family]]: _, ...others } = auxiliaryAddresses ?? {};
  const auxiliary = { ...others, ...(gateway === undefined ? {} : { [ownWayKey[family]]: gateway }) };
  return { ...rest, ...(Object.keys(auxiliary).length === 0 ? {} : { auxiliaryAddresses: auxiliary }) };
}

function sameBlock(a: AddressBlock, b: AddressBlock | undefined): boolean {
  const isSameWay = Object.values(ownWayKey).every(
    (key) => a.auxiliaryAddresses?.[key] === b?.auxiliaryAddresses?.[key],
  );
  return a.subnet === b?.subnet && a.gateway === b.gateway && a.ipRange === b.ipRange && isSameWay;
}

/** Of the bridge when it is new. */
export function defaultBridgeOptions(link: string): Record<string, string> {
  return {
    'com.docker.network.bridge.default_bridge': 'true',
    'com.docker.network.bridge.enable_icc': 'true',
    'com.docker.network.bridge.enable_ip_masquerade': 'true',
    'com.docker.network.bridge.host_binding_ipv4': '0.0.0.0',
    'com.docker.network.bridge.name': link,
    'com.docker.network.driver.mtu': '1500',
  };
}
