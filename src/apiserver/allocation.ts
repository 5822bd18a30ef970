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
import { FieldErrors, invalidError } from '#schema/field-errors.ts';
import { alignAddresses, settleFamilies } from '#schema/service-addresses.ts';
import { keepAllocated, needsHealthPort, needsNodePorts } from '#schema/validate-service.ts';
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

/**
 * Fills what the Service leaves open and answers the compares and operations that take and release. It comes before
 * validation, as upstream: an address or a port that cannot be had is all that is said of the write. Throws Invalid.
 */
export async function planAllocation(
  context: RequestContext,
  object: KubeObject,
  old: KubeObject | undefined,
): Promise<Allocation> {
  if (!isOf(kinds.Service, object) || (old !== undefined && !isOf(kinds.Service, old))) return none;
  const { server } = context;
  const allocation: Allocation = { compares: [], operations: [], taken: (current) => takenError(object, current) };
  if (context.info.subresource !== '') return none;
  if (old !== undefined) keepAllocated(object.spec, old.spec);
  alignAddresses(object.spec, old?.spec);
  const errors = new FieldErrors();
  settleFamilies(object, old, serviceRange(server).family, errors);
  errors.throwIfAny('', 'Service', object.metadata.name ?? '');
  await allocateAddress(server, object, old, allocation);
  await allocatePorts(server, object, old, allocation);
  return allocation;
}

/** The type of an ExternalName needs none of it; upstream shows it to nobody. */
export function dropUnused(object: KubeObject): void {
  if (isOf(kinds.Service, object) && object.spec.type === 'ExternalName') delete object.spec.internalTrafficPolicy;
}

async function allocateAddress(
  server: Server,
  service: Service,
  old: Service | undefined,
  allocation: Allocation,
): Promise<void> {
  const { spec } = service;
  const before = addressOf(old);
  if (before !== undefined && spec.type === 'ExternalName')
    allocation.operations.push({ type: 'delete', key: addressPrefix + before });
  // One that is there does not change; validation says so.
  const isNew = old === undefined || old.spec.type === 'ExternalName';
  if (!isNew || spec.type === 'ExternalName' || spec.clusterIPs?.[0] === 'None') return;
  const wanted = spec.clusterIPs?.[0];
  const address = wanted ?? (await freeAddress(server));
  if (wanted !== undefined) await checkAddress(server, service, wanted);
  spec.clusterIP = address;
  spec.clusterIPs = [address];
  take(allocation, addressPrefix + address, service);
}

async function checkAddress(server: Server, service: Service, address: string): Promise<void> {
  const range = serviceRange(server);
  const parsed = parseIp(address);
  const offset = (parsed?.value ?? -1n) - range.base;
  const fail = (why: string): ApiError =>
    serviceInvalid(service, 'spec.clusterIPs', [address], `failed to allocate IP ${address}: ${why}`);
  if (parsed?.family !== range.family || offset < 1n || offset > BigInt(lastOffset(range)))
    throw fail('the provided network does not match the current range');
  if ((await server.store.get(addressPrefix + address)) !== undefined) throw fail('provided IP is already allocated');
}

/** The ports of one write: what it has taken so far. */
interface PortPlan {
  server: Server;
  service: Service;
  /** Those of the Service as it was. */
  before: ReadonlySet<number>;
  taken: Set<number>;
}

async function allocatePorts(
  server: Server,
  service: Service,
  old: Service | undefined,
  allocation: Allocation,
): Promise<void> {
  const { spec } = service;
  const before = portsOf(old);
  const plan: PortPlan = { server, service, before: new Set(before), taken: new Set() };
  if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') await fillPorts(plan, old === undefined);
  if (needsHealthPort(spec) && (old === undefined || !needsHealthPort(old.spec))) {
    if (spec.healthCheckNodePort) await takePort(plan, spec.healthCheckNodePort, 'spec.healthCheckNodePort');
    else spec.healthCheckNodePort = await nextPort(plan);
  }
  for (const port of plan.taken) take(allocation, portPrefix + port, service);
  const now = portsOf(service);
  for (const port of before)
    if (!now.includes(port)) allocation.operations.push({ type: 'delete', key: portPrefix + port });
}

/** `shares`: of a new Service, protocols of one port get one port of the nodes. */
async function fillPorts(plan: PortPlan, shares: boolean): Promise<void> {
  const { service, before, taken } = plan;
  const { spec } = service;
  const byPort = new Map<number, number>();
  for (const [i, port] of (spec.ports ?? []).entries()) {
    if (!port.nodePort && !needsNodePorts(spec)) continue;
    const at = `spec.ports[${i}].nodePort`;
    const shared = shares ? byPort.get(port.port) : undefined;
    const wanted =
      shared === undefined && shares
        ? spec.ports?.find((other) => other.port === port.port && other.nodePort)?.nodePort
        : port.nodePort;
    if (wanted && wanted !== shared && (shares || (!before.has(wanted) && !taken.has(wanted))))
      await takePort(plan, wanted, at);
    port.nodePort = wanted || shared || (await nextPort(plan));
    if (shared === undefined) byPort.set(port.port, port.nodePort);
  }
}

async function takePort({ server, service, taken }: PortPlan, port: number, at: string): Promise<void> {
  const [low, high] = server.options.nodePortRange ?? defaultNodePorts;
  if (port < low || port > high)
    throw serviceInvalid(
      service,
      at,
      port,
      `provided port is not in the valid range. The range of valid ports is ${low}-${high}`,
    );
  if (taken.has(port) || (await server.store.get(portPrefix + port)) !== undefined)
    throw serviceInvalid(service, at, port, 'provided port is already allocated');
  taken.add(port);
}

async function nextPort({ server, before, taken }: PortPlan): Promise<number> {
  const port = await freePort(server, new Set([...before, ...taken]));
  taken.add(port);
  return port;
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
