/**
 * What a container is called, and whom it asks: its host name, the names under which others on a network know it, its
 * place in the resolver at 127.0.0.11, and its /etc/resolv.conf. docker's lists, made in one place for the resolver,
 * the files in /etc and `inspect`.
 */
import type { Container } from './container.ts';
import type { EndpointRecord } from './container-record.ts';
import type { ContainerTable } from './container-table.ts';
import { resolverAddress } from './dns.ts';
import { addressesOf, builtInNetworks, hasEndpoints } from './network-record.ts';

export interface Resolver {
  servers: string[];
  search: string[];
  options: string[];
}

export function hostnameOf(table: ContainerTable, container: Container): string {
  const { spec, id } = container.record;
  if (spec.hostname !== undefined && spec.hostname !== '') return spec.hostname;
  const donor = spec.network.type === 'container' ? table.find(spec.network.containerId) : undefined;
  if (donor !== undefined && donor !== container) return hostnameOf(table, donor);
  if (joinsHostNames(table, container)) return table.context.nodeName;
  const sandbox = spec.network.type === 'sandbox' ? table.sandboxes.find(spec.network.sandboxId) : undefined;
  if (sandbox !== undefined)
    return sandbox.network === 'host' || sandbox.hostname === '' ? table.context.nodeName : sandbox.hostname;
  return id.slice(0, 12);
}

function joinsHostNames(table: ContainerTable, container: Container): boolean {
  return (
    container.record.spec.network.type === 'host' ||
    container.record.spec.hostUts === true ||
    container.record.networks.some((attached) => table.networks.findExact(attached.networkId)?.driver === 'host')
  );
}

/** Name, aliases on this network, short id, hostname; the first one answers reverse questions. */
export function endpointNames(table: ContainerTable, container: Container, networkId: string): string[] {
  const aliases = container.record.networks.find((attached) => attached.networkId === networkId)?.aliases ?? [];
  return [...new Set([container.name, ...aliases, container.id.slice(0, 12), hostnameOf(table, container)])];
}

/** Tells the resolver where a running container is. */
export function publishNames(table: ContainerTable, container: Container): void {
  for (const endpoint of container.record.run?.endpoints ?? []) {
    const links = container.record.networks.find((attached) => attached.networkId === endpoint.networkId)?.links ?? [];
    const networkName = table.networks.findExact(endpoint.networkId)?.name ?? '';
    // On the default bridge containers do not know each other by name.
    if (builtInNetworks.has(networkName)) continue;
    table.names.add({
      containerId: container.id,
      networkId: endpoint.networkId,
      networkName,
      addresses: addressesOf(endpoint),
      names: endpointNames(table, container, endpoint.networkId),
      ...(links.length === 0 ? {} : { links }),
    });
  }
}

/** Opens, changes or closes the resolver at 127.0.0.11, as the networks of a container now want it. */
export async function serveNames(
  table: ContainerTable,
  container: Container,
  namespace: string,
  endpoints: readonly EndpointRecord[],
): Promise<void> {
  const networks = endpoints.map((endpoint) => table.networks.find(endpoint.networkId));
  if (networks.every((network) => builtInNetworks.has(network.name))) {
    await table.names.detach(container.id);
    return;
  }
  const asking = {
    servers: container.record.spec.dns?.servers ?? [],
    forwards: networks.some((network) => !network.internal),
  };
  if (table.names.isAttached(container.id)) table.names.change(container.id, asking);
  else await table.names.attach(container.id, namespace, asking);
}

/**
 * Whose /etc/resolv.conf a container gets: on a network of the user's own the embedded resolver's, else the host's.
 */
export function resolverOf(table: ContainerTable, container: Container, host: Resolver): Resolver {
  const { spec, networks } = container.record;
  const asked = spec.dns ?? { servers: [], search: [], options: [] };
  const own = networks
    .map((attached) => table.networks.findExact(attached.networkId))
    .find((network) => network !== undefined && hasEndpoints(network) && !builtInNetworks.has(network.name));
  const base: Resolver =
    own === undefined
      ? { ...host, servers: asked.servers.length > 0 ? asked.servers : host.servers }
      : {
          servers: [resolverAddress],
          search: host.search,
          options: [...host.options.filter((option) => !option.startsWith('ndots:')), 'ndots:0'],
        };
  return {
    servers: base.servers,
    search: asked.search.length > 0 ? asked.search : base.search,
    options: asked.options.length > 0 ? [...new Set([...base.options, ...asked.options])] : base.options,
  };
}
