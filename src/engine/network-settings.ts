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
  bridge?: {
    address?: string;
    range?: string;
    options?: Record<string, string>;
    /** It has IPv6, too: with this address, else in this subnet, else in one that is free. */
    ipv6?: { address?: string; range?: string };
  };
  /** False: what the kernel cannot translate of published ports is not relayed (dockerd's `userland-proxy`). */
  relay?: boolean;
  /** Options of new networks that do not say otherwise. */
  networkOptions?: Record<string, string>;
  /** What `host-gateway` stands for; absent: the default bridge's own address. */
  hostGateway?: string;
}

/**
 * The default bridge as these settings want it; the same object where nothing changes. `free`: a block of version 6 for
 * one that has none and is told of none.
 */
export function planDefaultBridge(
  record: NetworkRecord,
  settings: NetworkSettings['bridge'] = {},
  free: AddressBlock[] = [],
): NetworkRecord {
  const options = { ...record.options, ...settings.options };
  const address = parseCidr(settings.address);
  const range = settings.range === undefined ? {} : { ipRange: formatSubnet(subnetOf(settings.range)) };
  const ofVersion4 = blocksOf(record, 'IPv4').map((block): AddressBlock => {
    const { ipRange: _, ...rest } = block;
    if (address === undefined) return { ...rest, ...range };
    const subnet = formatSubnet(maskIp(address.address, address.length));
    return { ...rest, subnet, gateway: formatIp(address.address), ...range };
  });
  const blocks = [...ofVersion4, ...planIpv6(blocksOf(record, 'IPv6'), settings.ipv6, free)];
  const isSame =
    blocks.length === record.blocks.length &&
    blocks.every((block, at) => sameBlock(block, record.blocks[at])) &&
    Object.entries(options).every(([key, value]) => record.options[key] === value);
  return isSame ? record : { ...record, options, blocks, enableIpv6: settings.ipv6 !== undefined };
}

function planIpv6(
  present: AddressBlock[],
  wanted: NonNullable<NetworkSettings['bridge']>['ipv6'],
  free: AddressBlock[],
): AddressBlock[] {
  if (wanted === undefined) return [];
  const address = parseCidr(wanted.address);
  const whole = address === undefined ? wanted.range : formatSubnet(maskIp(address.address, address.length));
  // What nobody names stays as it was chosen once.
  if (whole === undefined) return present.length > 0 ? present : free;
  const subnet = subnetOf(whole);
  const gateway = address === undefined ? addressAt(subnet, 1) : formatIp(address.address);
  const range = address === undefined || wanted.range === undefined ? {} : { ipRange: wanted.range };
  return [{ subnet: formatSubnet(subnet), gateway, ...range, isAsked: true }];
}

function sameBlock(a: AddressBlock, b: AddressBlock | undefined): boolean {
  return a.subnet === b?.subnet && a.gateway === b.gateway && a.ipRange === b.ipRange;
}
