/**
 * What whoever runs the engine says of its networks, and what the default bridge becomes by it. The record of the
 * bridge outlives an engine; one with other settings finds it and changes it, unless containers run on it.
 */
import { formatIp, formatSubnet, maskIp, parseCidr, subnetOf } from '#base/ip.ts';

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

/** What of a bridge's record the settings decide. */
interface BridgeRecord {
  options: Record<string, string>;
  subnet?: string;
  gateway?: string;
  ipRange?: string;
}

/** The default bridge as these settings want it; the same object where nothing changes. */
export function planDefaultBridge<T extends BridgeRecord>(record: T, settings: NetworkSettings['bridge'] = {}): T {
  const options = { ...record.options, ...settings.options };
  const address = parseCidr(settings.address);
  const subnet = address === undefined ? record.subnet : formatSubnet(maskIp(address.address, address.length));
  const gateway = address === undefined ? record.gateway : formatIp(address.address);
  const range = settings.range === undefined ? undefined : formatSubnet(subnetOf(settings.range));
  const wanted: T = {
    ...record,
    options,
    ...(subnet === undefined ? {} : { subnet }),
    ...(gateway === undefined ? {} : { gateway }),
  };
  delete wanted.ipRange;
  if (range !== undefined) wanted.ipRange = range;
  const isSame =
    subnet === record.subnet &&
    gateway === record.gateway &&
    range === record.ipRange &&
    Object.entries(options).every(([key, value]) => record.options[key] === value);
  return isSame ? record : wanted;
}
