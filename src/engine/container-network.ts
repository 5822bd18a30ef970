/**
 * A container's networks in the kernel: its namespace, its endpoints there, the ways out, and the ports that are
 * published by them. What is in the record of its run is what is there, or is just being made.
 */
import { ApiError } from '#base/errors.ts';
import { awaitedLater } from '#base/promises.ts';
import { writeFileAtomic } from '#os/files.ts';
import { bundleDirectory, networkNamespacePath } from './container-paths.ts';
import type { AttachedNetwork, EndpointRecord, PublishedRecord, RunRecord } from './container-record.ts';
import type { Container } from './container.ts';
import type { ContainerTable } from './container-table.ts';
import { serveNames } from './dns-names.ts';
import { explainUpperLink } from './network-parents.ts';
import { planReturn } from './network-remote.ts';
import { hasEndpoints } from './network-record.ts';
import { checkEndpointSettings, hasAddress, selectGateways, type Gateways } from './network-endpoint.ts';
import { reservePorts } from './published-ports.ts';
import { forgetUdpFlows } from './udp-flows.ts';
import { mappingFor } from './container-mapping.ts';
import type { UserMapping } from './user-mapping.ts';
import type { EngineContext } from './context.ts';

export interface ContainerNetwork {
  namespace: string | undefined;
  path: string | undefined;
  endpoints: EndpointRecord[];
  ports: PublishedRecord[];
  gateways: Gateways;
  ready: Promise<void>;
}

/** Chooses where the network comes from, and makes the namespace when it is the container's own. */
export async function planContainerNetwork(
  table: ContainerTable,
  container: Container,
  undo: AsyncDisposableStack,
): Promise<ContainerNetwork> {
  const { context } = table;
  const { id, networks } = container.record;
  const joined = joinedNamespace(table, container);
  if (joined !== undefined)
    return { namespace: joined, path: undefined, endpoints: [], ports: [], gateways: {}, ready: Promise.resolve() };
  const path = networkNamespacePath(context.directories.run, id);
  const endpoints: EndpointRecord[] = [];
  const ports: PublishedRecord[] = [];
  const note = noteEndpoints(bundleDirectory(context.directories.run, id), endpoints);
  undo.defer(async () => {
    await context.os.netlink
      .run(planReturn(endpoints, path))
      .catch((error: unknown) => context.log.warn('links of plugins', { id, error }));
    for (const endpoint of endpoints) await table.networks.release(endpoint);
    for (const port of ports) context.ports.release(port);
  });
  for (const network of networks) {
    const found = table.networks.findExact(network.networkId);
    if (found === undefined && networks.length === 1 && namesBridge(container) && table.networks.isWithoutBridge)
      continue;
    if (found === undefined)
      throw new ApiError('NotFound', `failed to set up container networking: network ${network.networkId} not found`);
    network.networkId = found.id;
    checkEndpointSettings(found.name, found, network, 'failed to set up container networking: ');
    if (found.configOnly === true || hasEndpoints(found))
      endpoints.push(await table.networks.reserve(network, endpoints, note));
  }
  const gateways = gatewaysOf(table, networks, endpoints);
  ports.push(...reservePorts(context.ports, container, gateways));
  undo.defer(() => context.os.namespaces.remove(path));
  const ready = context.os.namespaces
    .remove(path)
    .then(() => pinNetwork(context, mappingFor(table, container.record), path));
  return { namespace: path, path, endpoints, ports, gateways, ready: awaitedLater(ready) };
}

async function pinNetwork({ os }: EngineContext, mapping: UserMapping | undefined, path: string): Promise<void> {
  if (mapping === undefined) return os.namespaces.create({ pins: { network: path } });
  await mapping.pinNetwork(path);
  await os.netlink.run([{ namespace: path, steps: [{ op: 'setLink', name: 'lo', up: true }] }]);
}

/** Endpoints that plugins are told of before any record of a run names them. */
export function endpointsPath(bundle: string): string {
  return `${bundle}/endpoints.json`;
}

function noteEndpoints(bundle: string, endpoints: readonly EndpointRecord[]): (endpoint: EndpointRecord) => void {
  return (endpoint) =>
    writeFileAtomic(endpointsPath(bundle), JSON.stringify([...endpoints, endpoint]), { mode: 0o600 });
}

function namesBridge({ record: { spec } }: Container): boolean {
  return ['bridge', 'default'].includes(spec.networks?.[0]?.network ?? 'bridge');
}

/** A namespace that exists already: the host's, a sandbox's, another container's. Undefined: one of its own. */
function joinedNamespace(table: ContainerTable, container: Container): string | undefined {
  const { network } = container.record.spec;
  if (network.type === 'host') return 'host';
  if (network.type === 'sandbox') return table.sandboxNamespace(network.sandboxId, 'network');
  if (network.type === 'container') {
    const other = table.get(network.containerId);
    if (!other.isRunning) throw new ApiError('Conflict', `cannot join network of a non running container: ${other.id}`);
    return `/proc/${other.record.run!.pid}/ns/net`;
  }
  if (
    network.type === 'networks' &&
    container.record.networks.some((attached) => table.networks.findExact(attached.networkId)?.driver === 'host')
  )
    return 'host';
  return undefined;
}

/** The ways out of a container that has these endpoints. */
function gatewaysOf(
  table: ContainerTable,
  networks: readonly AttachedNetwork[],
  endpoints: readonly EndpointRecord[],
): Gateways {
  return selectGateways(
    endpoints.map((endpoint) => ({
      endpoint,
      network: table.networks.find(endpoint.networkId),
      priority: networks.find((attached) => attached.networkId === endpoint.networkId)?.gatewayPriority ?? 0,
    })),
  );
}

// walk docker-run 5/7: veths, addresses and the default route, by netlink messages, while crun creates.
export async function connectEndpoints(
  table: ContainerTable,
  container: Container,
  { path, endpoints }: ContainerNetwork,
): Promise<void> {
  if (path === undefined || endpoints.length === 0) return;
  const { networks } = container.record;
  const attachedOf = ({ networkId }: EndpointRecord): AttachedNetwork | undefined =>
    networks.find((attached) => attached.networkId === networkId);
  for (const endpoint of endpoints) {
    const others = endpoints.filter((other) => other !== endpoint).map(({ containerLink }) => containerLink);
    await table.networks.join(endpoint, attachedOf(endpoint), { sandbox: path, others });
  }
  const gateways = gatewaysOf(table, networks, endpoints);
  await table.context.os.netlink
    .run([
      ...endpoints.flatMap((endpoint) => table.networks.plan(endpoint, attachedOf(endpoint), path)),
      table.networks.planRoutes(gateways, path, true),
    ])
    .catch(explainUpperLink);
  const way = gateways.IPv4 ?? gateways.IPv6;
  if (way !== undefined) await table.networks.publish(way.endpoint, container.record.spec.ports ?? []);
  await serveNames(table, container, path, endpoints);
}

/** After a network has come or gone: routes, published ports and the resolver of a container that runs. */
export async function settleNetworks(
  table: ContainerTable,
  container: Container,
  networks: readonly AttachedNetwork[],
): Promise<void> {
  const { context } = table;
  const run = container.record.run!;
  const path = run.networkNamespace!;
  const gateways = gatewaysOf(table, networks, run.endpoints);
  await context.os.netlink.run([table.networks.planRoutes(gateways, path, false)]);
  await movePorts(table, container, run, gateways);
  await serveNames(table, container, path, run.endpoints);
}

/** Published ports follow the way out. The record says first what the rules say then. */
async function movePorts(
  table: ContainerTable,
  container: Container,
  run: RunRecord,
  gateways: Gateways,
): Promise<void> {
  const { context } = table;
  const ways = Object.values(gateways).map(({ endpoint }) => endpoint);
  const before = run.ports;
  const isSame =
    (before.length > 0 || ways.length === 0) &&
    before.every((port) => ways.some((endpoint) => hasAddress(endpoint, port.ip))) &&
    ways.every((endpoint) => before.some((port) => hasAddress(endpoint, port.ip)));
  if (isSame || (container.record.spec.ports ?? []).length === 0) return;
  await context.rules.unpublish(before);
  for (const port of before) context.ports.release(port);
  run.ports = [];
  try {
    run.ports = reservePorts(context.ports, container, gateways, before);
  } finally {
    container.save(context);
    await forgetUdpFlows(context, before);
  }
  await context.rules.publish(run.ports);
  await forgetUdpFlows(context, run.ports);
}
