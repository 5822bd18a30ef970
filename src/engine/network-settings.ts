/**
 * What whoever runs the engine says of its networks, and what the default bridge becomes by it. The record of the
 * bridge outlives an engine; one with other settings finds it and changes it, unless containers run on it.
 */
import { addressAt, formatIp, formatSubnet, maskIp, parseCidr, subnetOf } from '#base/ip.ts';
import { blocksOf, type AddressBlock, type NetworkRecord } from './network-record.ts';

export interface NetworkSettings {
  /** Where subnets of new networks come from, each of `length`; absent: docker's own pools. */
  pools?: readonly { base: string; length: number }[];
  /** Of the default bridge: its address with prefix, the part of its subnet that is given out, its options. */
  bridge?: BridgeSettings;
  /** False: what the kernel cannot translate of published ports is not relayed (dockerd's `userland-proxy`). */
  relay?: boolean;
  /** Options of new networks that do not say otherwise. */
  networkOptions?: Record<string, string>;
  /** What `host-gateway` stands for; absent: the default bridge's own addresses. */
  hostGateways?: readonly string[];
}

export interface BridgeSettings {
  address?: string;
  range?: string;
  options?: Record<string, string>;
  /** Absent: version 4 alone. Without a subnet one is found. */
  ipv6?: { subnet?: string; gateway?: string; range?: string };
}

/**
 * The default bridge as these settings want it; the same object where nothing changes. `free`: blocks of version 6 that
 * nobody uses, for a bridge that has none yet.
 */
export function planDefaultBridge(
  record: NetworkRecord,
  settings: BridgeSettings = {},
  free: readonly AddressBlock[] = [],
): NetworkRecord {
  const options = { ...record.options, ...settings.options };
  const address = parseCidr(settings.address);
  const range = settings.range === undefined ? {} : { ipRange: formatSubnet(subnetOf(settings.range)) };
  const blocks4 = blocksOf(record, 'IPv4').map((block): AddressBlock => {
    const { ipRange: _, ...rest } = block;
    if (address === undefined) return { ...rest, ...range };
    const subnet = formatSubnet(maskIp(address.address, address.length));
    return { ...rest, subnet, gateway: formatIp(address.address), ...range };
  });
  const blocks = [...blocks4, ...planIpv6(record, settings.ipv6, free)];
  const enableIpv6 = settings.ipv6 !== undefined;
  const isSame =
    enableIpv6 === record.enableIpv6 &&
    blocks.length === record.blocks.length &&
    blocks.every((block, at) => sameBlock(block, record.blocks[at])) &&
    Object.entries(options).every(([key, value]) => record.options[key] === value);
  return isSame ? record : { ...record, enableIpv6, options, blocks };
}

function planIpv6(
  record: NetworkRecord,
  wanted: BridgeSettings['ipv6'],
  free: readonly AddressBlock[],
): readonly AddressBlock[] {
  if (wanted === undefined) return [];
  const { subnet: text, gateway, range } = wanted;
  if (text === undefined) {
    const own = blocksOf(record, 'IPv6');
    return (own.length > 0 ? own : free).map((block) => ({ ...block, isAsked: true }));
  }
  const subnet = subnetOf(text);
  return [
    {
      subnet: formatSubnet(subnet),
      gateway: gateway ?? addressAt(subnet, 1),
      ...(range === undefined ? {} : { ipRange: formatSubnet(subnetOf(range)) }),
      isAsked: true,
    },
  ];
}

function sameBlock(a: AddressBlock, b: AddressBlock | undefined): boolean {
  return a.subnet === b?.subnet && a.gateway === b.gateway && a.ipRange === b.ipRange;
}
