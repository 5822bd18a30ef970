/**
 * What a network's subnet, range, gateway and further addresses must be to each other; every fault is named, as docker
 * does (moby, "ValidateIPAM").
 */
import { ApiError } from '#base/errors.ts';
import { containsSubnet, formatSubnet, holds, maskIp, parseCidr, parseIp, type Subnet } from '#base/ip.ts';

export interface NetworkAddresses {
  subnet?: string;
  ipRange?: string;
  gateway?: string;
  auxiliaryAddresses?: Record<string, string>;
}

/** Longest prefix that leaves an address for the gateway and one for a container. */
const prefixLengthMax = 31;

/** Throws BadRequest with one line for each fault. */
export function checkAddresses(wanted: NetworkAddresses): void {
  const faults = wanted.subnet === undefined ? orphanFaults(wanted) : subnetFaults(wanted.subnet, wanted);
  if (faults.length > 0) throw new ApiError('BadRequest', `invalid network config:\n${faults.join('\n')}`);
}

/** Without a subnet there is nothing that the others could lie in. */
function orphanFaults({ ipRange, gateway, auxiliaryAddresses }: NetworkAddresses): string[] {
  return ipRange === undefined && gateway === undefined && Object.keys(auxiliaryAddresses ?? {}).length === 0
    ? []
    : ['every ip-range, gateway or auxiliary address must have a corresponding subnet'];
}

function subnetFaults(text: string, wanted: NetworkAddresses): string[] {
  const cidr = parseCidr(text);
  if (cidr === undefined) return [`invalid subnet ${text}: invalid CIDR block notation`];
  const subnet = maskIp(cidr.address, cidr.length);
  const faults: string[] = [];
  if (cidr.address.value !== subnet.base) faults.push(`invalid subnet ${text}: it should be ${formatSubnet(subnet)}`);
  if (subnet.length > prefixLengthMax)
    faults.push(`invalid subnet ${text}: it has no room for a gateway and a container`);
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
