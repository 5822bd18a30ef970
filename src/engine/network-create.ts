/** What a new network may be; every fault in docker's words. */
import { ApiError } from '#base/errors.ts';
import { checkAddresses, type NetworkAddresses } from './network-addresses.ts';
import { checkBridgeOptions } from './network-options.ts';
import { upperKindOf } from './network-parents.ts';
import { familyOfSubnet } from './network-record.ts';

export interface NetworkCreate {
  name: string;
  driver?: string;
  internal?: boolean;
  attachable?: boolean;
  labels?: Record<string, string>;
  options?: Record<string, string>;
  /** On a bridge at most one of each family. */
  addresses?: NetworkAddresses[];
  ipamDriver?: string;
  ipamOptions?: Record<string, string>;
  /** Absent: true. */
  enableIpv4?: boolean;
  enableIpv6?: boolean;
  /** Settings alone, for others; and the name of such a network. */
  configOnly?: boolean;
  configFrom?: string;
}

export function driverOf({ driver = '' }: NetworkCreate): string {
  return driver === '' || driver === 'default' ? 'bridge' : driver;
}

export function checkNetworkCreate(wanted: NetworkCreate): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(wanted.name))
    throw new ApiError(
      'BadRequest',
      wanted.name.trim() === ''
        ? 'invalid network name: name is empty'
        : `invalid network name: "${wanted.name}": only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`,
    );
  const driver = wanted.driver ?? 'bridge';
  if (driver === 'host' || driver === 'null')
    throw new ApiError('Forbidden', `only one instance of "${driver}" network is allowed`);
  if (driver === 'overlay')
    throw new ApiError(
      'Forbidden',
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
  checkAddresses(wanted.addresses ?? [], wanted.enableIpv6 === true);
  if (wanted.configOnly === true) return;
  if (wanted.ipamDriver === 'null')
    for (const [family, enabled] of [
      ['ipv4', wanted.enableIpv4 !== false],
      ['ipv6', wanted.enableIpv6 === true],
    ] as const)
      if (enabled) throw new ApiError('BadRequest', `${family} pool is empty`);
  if (driver === 'macvlan' || driver === 'ipvlan') {
    upperKindOf(driver, wanted.options ?? {});
    return;
  }
  if (driverOf(wanted) !== 'bridge') return;
  checkBridgeOptions(wanted.options ?? {}, wanted.internal === true);
  if (wanted.enableIpv4 === false && wanted.enableIpv6 !== true)
    throw new ApiError('BadRequest', 'IPv4 or IPv6 must be enabled');
  const families = (wanted.addresses ?? []).map(({ subnet = '' }) => familyOfSubnet(subnet));
  if (new Set(families).size < families.length)
    throw new ApiError('Forbidden', "bridge driver doesn't support multiple subnets");
}
