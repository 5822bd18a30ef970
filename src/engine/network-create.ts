/** What a new network may be; every fault in docker's words. */
import { ApiError } from '#base/errors.ts';
import { checkAddresses, type NetworkAddresses } from './network-addresses.ts';
import { checkBridgeOptions } from './network-options.ts';
import { familyOfSubnet } from './network-record.ts';

export interface NetworkCreate {
  name: string;
  driver?: string;
  internal?: boolean;
  attachable?: boolean;
  labels?: Record<string, string>;
  options?: Record<string, string>;
  /** At most one of each family. */
  addresses?: NetworkAddresses[];
  ipamOptions?: Record<string, string>;
  /** Absent: true. */
  enableIpv4?: boolean;
  enableIpv6?: boolean;
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
  if (driver !== 'bridge' && driver !== 'default')
    throw new ApiError(
      'NotFound',
      `could not find plugin ${driver} in v1 plugin registry: plugin "${driver}" not found`,
    );
  checkBridgeOptions(wanted.options ?? {}, wanted.internal === true);
  checkAddresses(wanted.addresses ?? [], wanted.enableIpv6 === true);
  if (wanted.enableIpv4 === false && wanted.enableIpv6 !== true)
    throw new ApiError('BadRequest', 'IPv4 or IPv6 must be enabled');
  const families = (wanted.addresses ?? []).map(({ subnet = '' }) => familyOfSubnet(subnet));
  if (new Set(families).size < families.length)
    throw new ApiError('Forbidden', "bridge driver doesn't support multiple subnets");
}
