/**
 * What a network's subnet, range, gateway and further addresses must be to each other; every fault is named, as docker
 * does (moby, "ValidateIPAM").
 */
import { ApiError } from '#base/errors.ts';
import {
  containsSubnet,
  formatSubnet,
  holds,
  maskIp,
  overlaps,
  parseCidr,
  parseIp,
  subnetOf,
  type IpFamily,
  type Subnet,
} from '#base/ip.ts';

export interface NetworkAddresses {
  subnet?: string;
  ipRange?: string;
  gateway?: string;
  auxiliaryAddresses?: Record<string, string>;
}

/** Longest prefix that leaves an address for the gateway and one for a container. */
const prefixLengthMax: Readonly<Record<IpFamily, number>> = { IPv4: 31, IPv6: 127 };
const linkLocal = subnetOf('fe80::/64');
const multicast = subnetOf('ff00::/8');
const noSubnets = ['::1/128', '::ffff:0:0/96'].map(subnetOf);

/** Throws BadRequest with one line for each fault. Subnets of version 6 count only where the network has any. */
export function checkAddresses(wanted: readonly NetworkAddresses[], enableIpv6: boolean): void {
  const faults = wanted.flatMap((one) => subnetFaults(one.subnet ?? '', one, enableIpv6));
  if (faults.length === 0) return;
  const text = faults.length === 1 ? faults[0] : faults.map((fault) => `* ${fault}`).join('\n');
  throw new ApiError('BadRequest', `invalid network config:\n${text}`);
}

function subnetFaults(text: string, wanted: NetworkAddresses, enableIpv6: boolean): string[] {
  const cidr = parseCidr(text);
  if (cidr === undefined) return [`invalid subnet ${text}: invalid CIDR block notation`];
  const subnet = maskIp(cidr.address, cidr.length);
  if (subnet.family === 'IPv6' && !enableIpv6) return [];
  const faults: string[] = [];
  if (cidr.address.value !== subnet.base) faults.push(`invalid subnet ${text}: it should be ${formatSubnet(subnet)}`);
  if (subnet.length > prefixLengthMax[subnet.family])
    faults.push(`invalid subnet ${text}: it has no room for a gateway and a container`);
  if (containsSubnet(multicast, subnet)) faults.push(`multicast subnet '${text}' is not allowed`);
  if (overlaps(linkLocal, subnet) && formatSubnet(subnet) !== formatSubnet(linkLocal))
    faults.push(`'${text}' clashes with the Link-Local prefix 'fe80::/64'`);
  if (noSubnets.some((other) => overlaps(other, subnet))) faults.push(`'${text}' is not a valid IPv6 subnet`);
  if (wanted.ipRange !== undefined) faults.push(...rangeFaults(wanted.ipRange, subnet));
  const check = (what: string, address: string): void => {
    const fault = addressFault(address, subnet);
    if (fault !== '') faults.push(`invalid ${what}: ${fault}`);
  };
  if (wanted.gateway !== undefined) check(`gateway ${wanted.gateway}`, wanted.gateway);
  for (const [name, address] of Object.entries(wanted.auxiliaryAddresses ?? {}))
    check(`auxiliary address ${name}`, address);
  return faults;
}

function rangeFaults(text: string, parent: Subnet): string[] {
  const cidr = parseCidr(text);
  if (cidr === undefined) return [`invalid ip-range ${text}: invalid CIDR block notation`];
  const range = maskIp(cidr.address, cidr.length);
  if (range.family !== parent.family) return [`invalid ip-range ${text}: parent subnet is an ${parent.family} block`];
  const faults: string[] = [];
  if (range.length < parent.length) faults.push(`CIDR block is bigger than its parent subnet ${formatSubnet(parent)}`);
  if (cidr.address.value !== range.base) faults.push(`it should be ${formatSubnet(range)}`);
  if (range.length >= parent.length && !containsSubnet(parent, range))
    faults.push(`parent subnet ${formatSubnet(parent)} doesn't contain ip-range`);
  return faults.map((fault) => `invalid ip-range ${text}: ${fault}`);
}

function addressFault(text: string, parent: Subnet): string {
  const address = parseIp(text);
  if (address === undefined) return 'invalid address';
  if (address.family !== parent.family) return `parent subnet is an ${parent.family} block`;
  return holds(parent, address) ? '' : `parent subnet ${formatSubnet(parent)} doesn't contain this address`;
}
