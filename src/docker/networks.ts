/** `/networks/…`. */
import { ApiError } from '#base/errors.ts';
import { parseBool } from '#engine/network-options.ts';
import { builtInNetworks, withPrefix } from '#engine/network-record.ts';
import type { NetworkRecord } from '#engine/network-record.ts';
import { assertRemovable } from '#engine/networks.ts';
import { connectNetwork, disconnectNetwork, removeUnusedNetwork } from '#engine/network-connect.ts';
import type { DockerParts } from './context.ts';
import type { NetworkBody } from './create-body.ts';
import type { Container } from '#engine/container.ts';
import { isoTime, ownContainer } from './context.ts';
import { attachmentFrom } from './create-network.ts';
import {
  checkFilterValues,
  isFlagWord,
  lacksLabels,
  matchesAny,
  matchesPattern,
  matchesLabels,
  parseFilters,
  parseTime,
} from './filters.ts';
import { reply } from './route.ts';
import { checkShape, connectShape, networkShape } from './shapes.ts';
import type { Filters, Route, RouteContext } from './route.ts';

const maxUint64 = 2n ** 64n - 1n;
const listFilters = ['dangling', 'driver', 'id', 'label', 'name', 'scope', 'type'];

export function networkRoutes(parts: DockerParts): Route[] {
  const { engine } = parts;
  return [
    {
      method: 'GET',
      path: '/networks',
      handle: async (context) => {
        const filters = parseFilters(context.query, listFilters);
        checkFilterValues(filters, {
          dangling: isFlagWord,
          type: (value) => value === 'builtin' || value === 'custom',
          scope: (value) => ['local', 'global', 'swarm'].includes(value),
        });
        return engine.networks
          .list()
          .filter((network) => matches(parts, network, filters))
          .map((network) => showNetwork(parts, network, false));
      },
    },
    {
      method: 'GET',
      path: '/networks/{id}',
      handle: async (context) => {
        const network = engine.networks.find(context.params['id']!);
        const status = context.version[1] < 52 ? {} : showStatus(parts, network);
        return { ...showNetwork(parts, network, true), ...status };
      },
    },
    {
      method: 'POST',
      path: '/networks/create',
      handle: async (context) => reply(201, await createNetwork(parts, context)),
    },
    {
      method: 'DELETE',
      path: '/networks/{id}',
      handle: async (context) => {
        const network = engine.networks.find(context.params['id']!);
        assertRemovable(network);
        const users = usersOf(parts, network).filter((container) => container.isRunning);
        if (users.length > 0)
          throw new ApiError(
            'Forbidden',
            `error while removing network: network ${network.name} has active endpoints (${users.map((container) => `name:"${container.name}" id:"${container.record.run!.endpoints.find((endpoint) => endpoint.networkId === network.id)!.endpointId.slice(0, 12)}"`).join(', ')})`,
          );
        await removeUnusedNetwork(engine.table, network);
        return reply(204);
      },
    },
    {
      method: 'POST',
      path: '/networks/{id}/connect',
      handle: async (context) => {
        const body = await context.json();
        checkShape(body, connectShape, 'ConnectOptions');
        const network = engine.networks.find(context.params['id']!);
        const endpoint = body.EndpointConfig ?? {};
        // Which passed it over before version 1.54.
        if (context.version[1] < 54) delete endpoint.MacAddress;
        await connectNetwork(
          engine.table,
          ownContainer(parts, String(body.Container ?? ''), 'connect'),
          attachmentFrom(network.id, endpoint),
        );
        return reply(200);
      },
    },
    {
      method: 'POST',
      path: '/networks/{id}/disconnect',
      handle: async (context) => {
        const body = await context.json();
        checkShape(body, connectShape, 'DisconnectOptions');
        await disconnectNetwork(
          engine.table,
          ownContainer(parts, String(body.Container ?? ''), 'disconnect'),
          context.params['id']!,
          body.Force === true,
        );
        return reply(200);
      },
    },
    {
      method: 'POST',
      path: '/networks/prune',
      handle: async (context) => {
        const filters = parseFilters(context.query, ['until', 'label', 'label!']);
        const untilText = filters.get('until')?.[0];
        const until = untilText === undefined ? Infinity : parseTime(untilText, parts.clock.now());
        const deleted: string[] = [];
        for (const network of engine.networks.list()) {
          // Another prune may have been here while the one before was removed.
          if (engine.networks.findExact(network.id) === undefined) continue;
          if (
            builtInNetworks.has(network.name) ||
            network.createdAtMs > until ||
            usersOf(parts, network).length > 0 ||
            !matchesLabels(filters, network.labels) ||
            !lacksLabels(filters, network.labels)
          )
            continue;
          await engine.networks.remove(network.id);
          deleted.push(network.name);
        }
        return { NetworksDeleted: deleted.length === 0 ? null : deleted };
      },
    },
  ];
}

function usersOf(parts: DockerParts, network: NetworkRecord): Container[] {
  return parts.engine.table
    .list()
    .filter((container) => container.record.networks.some((attached) => attached.networkId === network.id));
}

function matches(parts: DockerParts, network: NetworkRecord, filters: Filters): boolean {
  return (
    matchesAny(filters, 'id', (value) => matchesPattern(network.id, value)) &&
    matchesAny(filters, 'name', (value) => matchesPattern(network.name, value)) &&
    matchesAny(filters, 'driver', (value) => network.driver === value) &&
    matchesAny(filters, 'scope', (value) => value === 'local') &&
    matchesAny(filters, 'type', (value) => (value === 'builtin') === builtInNetworks.has(network.name)) &&
    matchesAny(
      filters,
      'dangling',
      (value) =>
        (value === 'true' || value === '1') ===
        (!builtInNetworks.has(network.name) && usersOf(parts, network).length === 0),
    ) &&
    matchesLabels(filters, network.labels)
  );
}

function showNetwork(parts: DockerParts, network: NetworkRecord, withContainers: boolean): Record<string, unknown> {
  const containers: Record<string, unknown> = {};
  if (withContainers) {
    for (const container of parts.engine.table.list()) {
      const endpoint = container.record.run?.endpoints.find((found) => found.networkId === network.id);
      if (endpoint !== undefined)
        containers[container.id] = {
          Name: container.name,
          EndpointID: endpoint.endpointId,
          MacAddress: endpoint.mac,
          IPv4Address: endpoint.ip === undefined ? '' : withPrefix(network, endpoint.ip),
          IPv6Address: endpoint.ip6 === undefined ? '' : withPrefix(network, endpoint.ip6),
        };
    }
  }
  const config = (network.configured ?? network.blocks).map(({ subnet, ipRange, gateway, auxiliaryAddresses }) => ({
    Subnet: subnet ?? '',
    ...(ipRange === undefined ? {} : { IPRange: ipRange }),
    ...(gateway === undefined ? {} : { Gateway: gateway }),
    ...(auxiliaryAddresses === undefined ? {} : { AuxiliaryAddresses: auxiliaryAddresses }),
  }));
  return {
    Name: network.name,
    Id: network.id,
    Created: isoTime(network.createdAtMs),
    Scope: 'local',
    Driver: network.driver,
    EnableIPv4: network.enableIpv4,
    EnableIPv6: network.enableIpv6,
    IPAM: { Driver: network.ipamDriver ?? 'default', Options: network.ipamOptions ?? null, Config: config },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: network.configFrom ?? '' },
    ConfigOnly: network.configOnly === true,
    Containers: containers,
    Options: network.options,
    Labels: network.labels,
  };
}

/** How many addresses are taken; not of networks whose addresses a plugin gives. Saturates as Go's `uint64` does. */
function showStatus(parts: DockerParts, network: NetworkRecord): { Status?: { IPAM: object } } {
  const usage = [...parts.engine.networks.usageOf(network)];
  if (usage.length === 0) return {};
  const count = (value: bigint): bigint => (value > maxUint64 ? maxUint64 : value);
  const subnets = usage.map(([subnet, { used, free }]) => [
    subnet,
    { IPsInUse: count(used), DynamicIPsAvailable: count(free) },
  ]);
  return { Status: { IPAM: { Subnets: Object.fromEntries(subnets) } } };
}

/** What only a swarm or another driver could do is refused. */
function checkWhole(body: NetworkBody): void {
  if (body.Ingress === true || (body.Scope ?? 'local') === 'swarm')
    throw new ApiError(
      'ServiceUnavailable',
      'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.',
    );
}

/** `EnableIPv6` of the body, or the option of that name, which daemons' defaults are given by. */
function isEnabled(asked: boolean | null | undefined, options: Record<string, string>, digit: '4' | '6'): boolean {
  const name = `com.docker.network.enable_ipv${digit}`;
  const text = options[name];
  if (asked !== undefined && asked !== null) return asked;
  if (text === undefined) return digit === '4';
  const value = parseBool(text);
  if (value === undefined) throw new ApiError('BadRequest', `driver-opt ${JSON.stringify(name)} is not a valid bool`);
  return value;
}

async function createNetwork(parts: DockerParts, { version, ...context }: RouteContext): Promise<unknown> {
  const body = await context.json();
  checkShape(body, networkShape, 'CreateRequest');
  checkWhole(body);
  const optional = <K extends string>(key: K, value: unknown): { [P in K]?: string } =>
    typeof value === 'string' && value !== '' ? ({ [key]: value } as { [P in K]?: string }) : {};
  const options = body.Options ?? {};
  const network = await parts.engine.networks.create({
    name: String(body.Name ?? ''),
    driver: body.Driver || 'bridge',
    // Before version 1.48 there was always IPv4.
    enableIpv4: isEnabled(version[1] < 48 ? undefined : body.EnableIPv4, options, '4'),
    enableIpv6: isEnabled(body.EnableIPv6, options, '6'),
    internal: body.Internal === true,
    attachable: body.Attachable === true,
    labels: body.Labels ?? {},
    options,
    configOnly: body.ConfigOnly === true,
    ...optional('configFrom', body.ConfigFrom?.Network),
    ...optional('ipamDriver', body.IPAM?.Driver),
    ...(body.IPAM?.Options === undefined || body.IPAM.Options === null ? {} : { ipamOptions: body.IPAM.Options }),
    addresses: (body.IPAM?.Config ?? []).map((ipam) => ({
      ...optional('subnet', ipam.Subnet),
      ...optional('gateway', ipam.Gateway),
      ...optional('ipRange', ipam.IPRange),
      ...(ipam.AuxiliaryAddresses === undefined || ipam.AuxiliaryAddresses === null
        ? {}
        : { auxiliaryAddresses: ipam.AuxiliaryAddresses }),
    })),
  });
  return { Id: network.id, Warning: '' };
}
