/**
 * What whoever runs the engine says of its networks, and what the default bridge becomes by it. The record of the
 * bridge outlives an engine; one with other settings finds it and changes it, unless containers run on it.
 */
import { formatIp, formatSubnet, maskIp, parseCidr, subnetOf } from '#base/ip.ts';
import { familyOfSubnet, type AddressBlock, type NetworkRecord } from './network-record.ts';

export interface NetworkSettings {
  /** Where subnets of new networks come from, each of `length`; absent: docker's own pools. */
  pools?: readonly { base: string; length: number }[];
  /** Of the default bridge: its address with prefix, the part of its subnet that is given out, its options. */
  bridge?: { address?: string; range?: string; options?: Record<string, string> };
  /** Options of new networks that do not say otherwise. */
  networkOptions?: Record<string, string>;
  /** What `host-gateway` stands for; absent: the default bridge's own address. */
  hostGateway?: string;
}

/** The default bridge as these settings want it; the same object where nothing changes. */
export function planDefaultBridge(record: NetworkRecord, settings: NetworkSettings['bridge'] = {}): NetworkRecord {
  const options = { ...record.options, ...settings.options };
  const address = parseCidr(settings.address);
  const range = settings.range === undefined ? {} : { ipRange: formatSubnet(subnetOf(settings.range)) };
  const blocks = record.blocks.map((block): AddressBlock => {
    if (familyOfSubnet(block.subnet) !== 'IPv4') return block;
    const { ipRange: _, ...rest } = block;
    if (address === undefined) return { ...rest, ...range };
    const subnet = formatSubnet(maskIp(address.address, address.length));
    return { ...rest, subnet, gateway: formatIp(address.address), ...range };
  });
  const isSame =
    blocks.every((block, at) => sameBlock(block, record.blocks[at])) &&
    Object.entries(options).every(([key, value]) => record.options[key] === value);
  return isSame ? record : { ...record, options, blocks };
}

function sameBlock(a: AddressBlock, b: AddressBlock | undefined): boolean {
  return a.subnet === b?.subnet && a.gateway === b.gateway && a.ipRange === b.ipRange;
}
