/**
 * Cluster addresses and node ports of Services. What is taken is a key in the store, written in the same transaction as
 * the Service, so that two API servers never hand out the same one and nothing is kept in memory. A random start
 * spreads concurrent writers.
 */
import { ownBytes } from '#base/bytes.ts';
import { ApiError } from '#base/errors.ts';
import { addressAt, parseIp, sizeOf, subnetOf, type Subnet } from '#base/ip.ts';
import type { Service } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { invalidError } from '#schema/field-errors.ts';
import type { Compare, Operation, StoredValue } from '#store/store.ts';
import type { RequestContext, Server } from './context.ts';

export interface Allocation {
  compares: Compare[];
  operations: Operation[];
  taken(current: readonly StoredValue[]): ApiError;
}

const none: Allocation = {
  compares: [],
  operations: [],
  taken: () => new ApiError('InternalError', 'allocation failed'),
};
const addressPrefix = '/registry/ranges/serviceips/';
const portPrefix = '/registry/ranges/servicenodeports/';
const defaultServiceCidr = '10.96.0.0/16';
/** Of a range that has more, the others stay unused: offsets are numbers that chance is drawn for. */
const serviceAddressesMax = 2 ** 32;
const defaultNodePorts: readonly [number, number] = [30_000, 32_767];

export function serviceRange(server: Server): Subnet {
  return subnetOf(server.options.serviceCidr ?? defaultServiceCidr);
}

/** Of the last address that a Service may have: in IPv4 that before the broadcast address. */
function lastOffset(range: Subnet): number {
  const size = Number(sizeOf(range));
  return Math.min(size, serviceAddressesMax) - (range.family === 'IPv4' ? 2 : 1);
}

function portsOf(service: Service | undefined): number[] {
  const spec = service?.spec;
  if (spec === undefined || (spec.type !== 'NodePort' && spec.type !== 'LoadBalancer')) return [];
  const ports = (spec.ports ?? []).flatMap(({ nodePort = 0 }) => (nodePort > 0 ? [nodePort] : []));
  if (spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local' && spec.healthCheckNodePort)
    ports.push(spec.healthCheckNodePort);
  return [...new Set(ports)];
}

const addressOf = (service: Service | undefined): string | undefined =>
  service?.spec?.type !== 'ExternalName' && service?.spec?.clusterIP && service.spec.clusterIP !== 'None'
    ? service.spec.clusterIP
    : undefined;

/** Fills what the Service leaves open and answers the compares and operations that take and release. */
export async function planAllocation(
  context: RequestContext,
  object: KubeObject,
  old: KubeObject | undefined,
): Promise<Allocation> {
  if (!isOf(kinds.Service, object) || (old !== undefined && !isOf(kinds.Service, old))) return none;
  const { server } = context;
  const allocation: Allocation = { compares: [], operations: [], taken: (current) => takenError(object, current) };
  if (context.info.subresource !== '') return none;
  await allocateAddress(server, object, old, allocation);
  await allocatePorts(server, object, old, allocation);
  return allocation;
}

async function allocateAddress(
  server: Server,
  service: Service,
  old: Service | undefined,
  allocation: Allocation,
): Promise<void> {
  const spec = service.spec;
  const before = addressOf(old);
  if (spec.type === 'ExternalName') {
    delete spec.clusterIP;
    delete spec.clusterIPs;
    delete spec.ipFamilies;
    delete spec.ipFamilyPolicy;
    delete spec.internalTrafficPolicy;
  } else {
    const kept = old !== undefined && old.spec.type !== 'ExternalName' ? old.spec.clusterIP : undefined;
    if (!spec.clusterIP && kept !== undefined) spec.clusterIP = kept;
    if (!spec.clusterIP && spec.clusterIPs?.[0]) spec.clusterIP = spec.clusterIPs[0];
    if (!spec.clusterIP) spec.clusterIP = await freeAddress(server);
    spec.clusterIPs = [spec.clusterIP];
    // Whoever writes the endpoints himself may have some of both families.
    const isManual = spec.clusterIP === 'None' && Object.keys(spec.selector ?? {}).length === 0;
    spec.ipFamilyPolicy ??= isManual ? 'RequireDualStack' : 'SingleStack';
    spec.ipFamilies ??= isManual && spec.ipFamilyPolicy === 'RequireDualStack' ? ['IPv4', 'IPv6'] : ['IPv4'];
  }
  const now = addressOf(service);
  if (now === before) return;
  if (now !== undefined) {
    const range = serviceRange(server);
    const offset = (parseIp(now)?.value ?? -1n) - range.base;
    if (parseIp(now)?.family !== range.family || offset < 1n || offset > BigInt(lastOffset(range)))
      throw serviceInvalid(
        service,
        'spec.clusterIPs',
        [now],
        `failed to allocate IP ${now}: the provided network does not match the current range`,
      );
    take(allocation, addressPrefix + now, service);
  }
  if (before !== undefined) allocation.operations.push({ type: 'delete', key: addressPrefix + before });
}

async function allocatePorts(
  server: Server,
  service: Service,
  old: Service | undefined,
  allocation: Allocation,
): Promise<void> {
  const spec = service.spec;
  const before = portsOf(old);
  const exposes =
    spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
  if (!exposes && spec.type !== 'LoadBalancer') for (const port of spec.ports ?? []) delete port.nodePort;
  if (exposes) await fillPorts(server, service, old);
  if (spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local' && !spec.healthCheckNodePort)
    spec.healthCheckNodePort = old?.spec?.healthCheckNodePort ?? (await freePort(server, new Set(portsOf(service))));
  if (spec.type !== 'LoadBalancer' || spec.externalTrafficPolicy !== 'Local') delete spec.healthCheckNodePort;
  const now = portsOf(service);
  const [low, high] = server.options.nodePortRange ?? defaultNodePorts;
  for (const port of now) {
    if (before.includes(port)) continue;
    if (port < low || port > high)
      throw serviceInvalid(
        service,
        `spec.ports[${(spec.ports ?? []).findIndex((p) => p.nodePort === port)}].nodePort`,
        port,
        `provided port is not in the valid range. The range of valid ports is ${low}-${high}`,
      );
    take(allocation, portPrefix + port, service);
  }
  for (const port of before)
    if (!now.includes(port)) allocation.operations.push({ type: 'delete', key: portPrefix + port });
}

async function fillPorts(server: Server, service: Service, old: Service | undefined): Promise<void> {
  const used = new Set(portsOf(service));
  const byNumber = new Map<number, { port: number; protocols: Set<string> }>();
  for (const port of service.spec.ports ?? []) {
    const { protocol = 'TCP' } = port;
    const kept = old?.spec.ports?.find(
      (p) => p.nodePort && p.port === port.port && (p.protocol ?? 'TCP') === protocol,
    )?.nodePort;
    // TCP and UDP of one port share a node port, as upstream does
    const shared = byNumber.get(port.port);
    let nodePort = port.nodePort ?? 0;
    if (nodePort === 0) {
      if (kept !== undefined && !used.has(kept)) nodePort = kept;
      else if (shared !== undefined && !shared.protocols.has(protocol)) nodePort = shared.port;
      else nodePort = await freePort(server, used);
      port.nodePort = nodePort;
      used.add(nodePort);
    }
    const entry = shared ?? { port: nodePort, protocols: new Set<string>() };
    entry.protocols.add(protocol);
    byNumber.set(port.port, entry);
  }
}

function take(allocation: Allocation, key: string, service: Service): void {
  allocation.compares.push({ key, modRevision: 0 });
  allocation.operations.push({
    type: 'put',
    key,
    value: ownBytes(
      JSON.stringify({ namespace: service.metadata.namespace, name: service.metadata.name, uid: service.metadata.uid }),
    ),
  });
}

async function freeAddress(server: Server): Promise<string> {
  const range = serviceRange(server);
  const last = lastOffset(range);
  // The first addresses are left to those who ask for one by name, like the DNS Service.
  const reserved = Math.min(256, Math.max(16, Math.floor((last + 2) / 16)));
  const first = last > reserved ? reserved : 1;
  const span = last + 1 - first;
  const start = Math.floor(server.random.float() * span);
  const isFree = async (ip: string): Promise<boolean> => (await server.store.get(addressPrefix + ip)) === undefined;
  for (let i = 0; i < span; i++) {
    const ip = addressAt(range, first + ((start + i) % span));
    if (await isFree(ip)) return ip;
  }
  for (let i = 2; i < first; i++) if (await isFree(addressAt(range, i))) return addressAt(range, i);
  throw new ApiError('InternalError', 'Internal error occurred: failed to allocate a serviceIP: range is full');
}

async function freePort(server: Server, used: ReadonlySet<number>): Promise<number> {
  const [low, high] = server.options.nodePortRange ?? defaultNodePorts;
  const span = high - low + 1;
  const start = Math.floor(server.random.float() * span);
  for (let i = 0; i < span; i++) {
    const port = low + ((start + i) % span);
    if (!used.has(port) && (await server.store.get(portPrefix + port)) === undefined) return port;
  }
  throw new ApiError('InternalError', 'Internal error occurred: failed to allocate a nodePort: range is full');
}

function serviceInvalid(service: Service, field: string, value: unknown, detail: string): ApiError {
  return invalidError('', 'Service', service.metadata.name ?? '', [
    { reason: 'FieldValueInvalid', field, message: `Invalid value: ${JSON.stringify(value)}: ${detail}` },
  ]);
}

function takenError(service: Service, current: readonly StoredValue[]): ApiError {
  const key = current.find((c) => c.key.startsWith('/registry/ranges/'))?.key ?? '';
  if (key.startsWith(portPrefix)) {
    const port = Number(key.slice(portPrefix.length));
    return serviceInvalid(
      service,
      `spec.ports[${(service.spec.ports ?? []).findIndex((p) => p.nodePort === port)}].nodePort`,
      port,
      'provided port is already allocated',
    );
  }
  const ip = key.slice(addressPrefix.length);
  return serviceInvalid(
    service,
    'spec.clusterIPs',
    [ip],
    `failed to allocate IP ${ip}: provided IP is already allocated`,
  );
}

/** What a deleted object gives back. */
export function releaseOperations(object: KubeObject): Operation[] {
  if (!isOf(kinds.Service, object)) return [];
  const address = addressOf(object);
  return [
    ...(address === undefined ? [] : [{ type: 'delete', key: addressPrefix + address } as const]),
    ...portsOf(object).map((port) => ({ type: 'delete', key: portPrefix + port }) as const),
  ];
}
