/** Bridges that somebody else made, which a network of the engine stands on and leaves when it goes. */
import { ApiError } from '#base/errors.ts';
import { linkMark } from '#net/kernel-names.ts';
import type { EngineContext } from './context.ts';
import type { NetworkRecord } from './network-record.ts';

/**
 * Whether the bridge of a new network is somebody else's. Throws where its name is that of another kind of link, or is
 * taken by another network.
 */
export async function isBorrowed(
  { os, instanceId }: EngineContext,
  record: NetworkRecord,
  networks: readonly NetworkRecord[],
): Promise<boolean> {
  const other = networks.find((network) => network.link === record.link);
  if (other !== undefined)
    throw new ApiError(
      'Forbidden',
      `cannot create network ${record.id} (${record.link}): conflicts with network ${other.id} (${other.link}): networks have same bridge name`,
    );
  const link = (await os.netlink.listLinks()).find((found) => found.name === record.link);
  if (link === undefined || link.alias === linkMark(instanceId)) return false;
  if (link.kind !== 'bridge') throw new ApiError('BadRequest', `existing interface ${record.link} is not a bridge`);
  if (link.alias.startsWith(linkMark('')) || link.name.startsWith('tph'))
    throw new ApiError('Forbidden', `the bridge ${record.link} belongs to another network`);
  return true;
}

/** With prefixes: what stands on a bridge. Throws ApiError where there is none of that name. */
export async function addressesOnBridge({ os }: EngineContext, name: string): Promise<string[]> {
  const link = (await os.netlink.listLinks()).find((found) => found.name === name);
  if (link === undefined)
    throw new ApiError('BadRequest', `bridge device with non default name ${name} must be created manually`);
  if (link.kind !== 'bridge') throw new ApiError('BadRequest', `existing interface ${name} is not a bridge`);
  const all = await os.netlink.listAddresses();
  return all.filter(({ linkIndex }) => linkIndex === link.index).map(({ address, prefix }) => `${address}/${prefix}`);
}
