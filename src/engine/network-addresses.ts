/**
 * What a network's subnet, range, gateway and further addresses must be to each other; every fault is named, as docker
 * does.
 */
import { ApiError } from '#base/errors.ts';
import { contains, formatSubnet, ipToNumber, parseSubnet } from '#net/pools.ts';
import type { Subnet } from '#net/pools.ts';

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
  const faults: string[] = [];
  const auxiliary = Object.entries(wanted.auxiliaryAddresses ?? {});
  if (wanted.subnet === undefined) {
    // Without a subnet there is nothing they could lie in.
    if (wanted.ipRange !== undefined || wanted.gateway !== undefined || auxiliary.length > 0)
      faults.push('every ip-range, gateway or auxiliary address must have a corresponding subnet');
  } else {
    const subnet = parseSubnet(wanted.subnet);
    if (!isMasked(wanted.subnet, subnet))
      faults.push(`invalid subnet ${wanted.subnet}: it should be ${formatSubnet(subnet)}`);
    if (subnet.length > prefixLengthMax)
      faults.push(`invalid subnet ${wanted.subnet}: it has no room for a gateway and a container`);
    if (wanted.ipRange !== undefined) faults.push(...rangeFaults(wanted.ipRange, wanted.subnet, subnet));
    const address = (what: string, text: string): void => {
      if (!contains(subnet, text)) faults.push(`invalid ${what} ${text}: parent subnet is ${wanted.subnet}`);
    };
    if (wanted.gateway !== undefined) address('gateway', wanted.gateway);
    for (const [name, text] of auxiliary) address(`auxiliary address ${name}:`, text);
  }
  if (faults.length > 0) throw new ApiError('BadRequest', `invalid network config:\n${faults.join('\n')}`);
}

function rangeFaults(text: string, parentText: string, parent: Subnet): string[] {
  const range = parseSubnet(text);
  if (!isMasked(text, range)) return [`invalid ip-range ${text}: it should be ${formatSubnet(range)}`];
  if (range.length < parent.length)
    return [`invalid ip-range ${text}: CIDR block is bigger than its parent subnet ${parentText}`];
  if (!contains(parent, text.split('/')[0]!)) return [`invalid ip-range ${text}: parent subnet is ${parentText}`];
  return [];
}

function isMasked(text: string, subnet: Subnet): boolean {
  return ipToNumber(text.split('/')[0]!) === subnet.base;
}
