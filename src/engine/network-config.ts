/**
 * Config-only networks: settings under a name, without a driver, that other networks are made from (`--config-only`,
 * `--config-from`). Pure.
 * Source: moby 28, `validateConfiguration`, `applyConfigurationTo` of libnetwork.
 */
import { ApiError } from '#base/errors.ts';
import type { NetworkCreate } from './network-create.ts';
import type { NetworkRecord } from './network-record.ts';

function refuse(message: string): never {
  throw new ApiError('Forbidden', message);
}

function hasAny(value: object | undefined): boolean {
  return Object.keys(value ?? {}).length > 0;
}

/** Throws ApiError where something is asked for that belongs to the other kind of network. */
export function checkConfigUse(wanted: NetworkCreate): void {
  const { configOnly = false, configFrom = '' } = wanted;
  if (configOnly && (wanted.internal === true || wanted.attachable === true))
    refuse(
      'configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.',
    );
  if (configFrom === '') return;
  if (configOnly) refuse('a configuration network cannot depend on another configuration network');
  const { ipamDriver = 'default', enableIpv6 = false, labels, ipamOptions, addresses, options } = wanted;
  if (ipamDriver !== 'default' || enableIpv6 || [labels, ipamOptions, addresses].some(hasAny))
    refuse('user specified configurations are not supported if the network depends on a configuration network');
  if (hasAny(options))
    refuse('network driver options are not supported if the network depends on a configuration network');
}

/** What is asked for, with what the network that it names says. Throws ApiError where there is none. */
export function applyConfig(wanted: NetworkCreate, networks: readonly NetworkRecord[]): NetworkCreate {
  const { configFrom = '' } = wanted;
  if (configFrom === '') return wanted;
  const found = networks.find(({ id, name, configOnly }) => configOnly && (name === configFrom || id === configFrom));
  if (found === undefined) throw new ApiError('NotFound', `configuration network "${configFrom}" does not exist`);
  const { enableIpv4, enableIpv6, labels, options, ipamDriver, ipamOptions, configured } = found;
  return {
    ...wanted,
    configFrom: found.name,
    enableIpv4,
    enableIpv6,
    labels,
    options,
    ...(ipamDriver === undefined ? {} : { ipamDriver }),
    ...(ipamOptions === undefined ? {} : { ipamOptions }),
    ...(configured === undefined ? {} : { addresses: configured }),
  };
}

/** Throws ApiError where networks were made from it. */
export function checkConfigUnused({ name, configOnly }: NetworkRecord, networks: readonly NetworkRecord[]): void {
  if (configOnly === true && networks.some((network) => network.configFrom === name))
    refuse(`configuration network "${name}" is in use`);
}
