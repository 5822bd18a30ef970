/** The link by which this machine reaches other machines: that of an address that is said, or of the default route. */
import type { Netlink } from '#os/netlink.ts';

export interface Underlay {
  link: string;
  /** IPv4, of this machine on the link. */
  address: string;
  /** Length of the subnet's prefix. */
  prefix: number;
  mtu: number;
}

const mainTable = 254;

/** Undefined where there is none: a machine without a network, or with IPv6 alone. */
export async function findUnderlay(netlink: Netlink, preferred?: string): Promise<Underlay | undefined> {
  const [links, addresses, routes] = await Promise.all([
    netlink.listLinks(),
    netlink.listAddresses(),
    netlink.listRoutes(),
  ]);
  const ofV4 = addresses.filter(({ address }) => !address.includes(':'));
  const byDefault = routes.find(
    ({ family, destination, table }) => family === 'IPv4' && destination === 'default' && table === mainTable,
  );
  const found =
    ofV4.find(({ address }) => address === preferred) ??
    ofV4.find(({ linkIndex }) => linkIndex === byDefault?.linkIndex);
  const link = links.find(({ index }) => index === found?.linkIndex);
  if (found === undefined || link === undefined) return undefined;
  return { link: link.name, address: found.address, prefix: found.prefix, mtu: link.mtu };
}
