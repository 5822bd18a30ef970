/**
 * What a request to create a container says of networks and ports, as the engine takes it; and what older versions of
 * the API said otherwise.
 * Source: moby 28 and 29, `container_routes.go` (`handleMACAddressBC`, `handleSysctlBC`, `handlePortBindingsBC`),
 * `runconfig`.
 */
import { ApiError } from '#base/errors.ts';
import { formatIp, parseIp, unmapIp } from '#base/ip.ts';
import type { NetworkAttachment, NetworkMode, PortBinding } from '#engine/engine.ts';
import { checkEndpointSettings } from '#engine/network-endpoint.ts';
import type { CreateBody, EndpointBody, HostConfigBody } from './create-body.ts';

const endpointSysctls = 'com.docker.network.endpoint.sysctls';

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

/** The name under which the main network's settings are. */
function mainNetwork(host: HostConfigBody): string {
  const mode = host.NetworkMode ?? '';
  return mode === '' || mode === 'default' ? 'bridge' : mode;
}

/** Brings a body of an older version to what it means today. Returns warnings. */
export function adaptNetworking(body: CreateBody, version: [number, number]): string[] {
  const minor = version[1];
  const host = (body.HostConfig ??= {});
  const networking = (body.NetworkingConfig ??= {});
  const endpoints = (networking.EndpointsConfig ??= {});
  const names = Object.keys(endpoints);
  if (minor < 44 && names.length > 1)
    refuse(`Container cannot be created with multiple network endpoints: ${names.join(', ')}`);
  if (minor < 48) for (const endpoint of Object.values(endpoints)) if (endpoint !== null) delete endpoint.GwPriority;
  const main = (): EndpointBody => {
    const known = [host.NetworkMode ?? '', mainNetwork(host), 'default'].find((name) => names.includes(name));
    // The old version knew one network only, whatever its name.
    const name = known ?? (minor < 44 ? names[0] : undefined) ?? mainNetwork(host);
    return (endpoints[name] ??= {});
  };
  const isDiscarded = host.NetworkMode === 'host' && Object.keys(host.PortBindings ?? {}).length > 0;
  return [
    ...adaptMac(body, endpoints, main, minor),
    ...adaptSysctls(host, main, minor),
    ...(isDiscarded ? ['Published ports are discarded when using host network mode'] : []),
    ...warnEmptyBindings(host, minor),
  ];
}

/** A port without bindings is published at a port of the daemon's choice. */
function warnEmptyBindings({ PortBindings: bindings }: HostConfigBody, minor: number): string[] {
  const empty = Object.entries(bindings ?? {}).filter(([, list]) => list === null || list.length === 0);
  if (minor < 52 || empty.length === 0) return [];
  const ports = empty.map(([port]) => port).join(', ');
  return [
    `Following container port(s) have an empty list of port-bindings: ${ports}. Such bindings will be discarded in a future version.`,
  ];
}

function isShared(host: HostConfigBody): boolean {
  const mode = host.NetworkMode ?? '';
  return mode === 'host' || mode === 'none' || mode.startsWith('container:');
}

function adaptMac(
  body: CreateBody,
  endpoints: Record<string, EndpointBody | null>,
  main: () => EndpointBody,
  minor: number,
): string[] {
  // A field of before version 1.52: what the new one does not know it passes over.
  const asked = minor < 52 ? (body.MacAddress ?? '') : '';
  if (minor >= 52) delete body.MacAddress;
  if (asked === '') {
    // What the old version did not know it passed over.
    if (minor < 44) for (const endpoint of Object.values(endpoints)) if (endpoint !== null) delete endpoint.MacAddress;
    return [];
  }
  if (isShared(body.HostConfig ?? {})) {
    if (minor < 44) refuse('conflicting options: mac-address and the network mode');
  } else {
    const endpoint = main();
    const own = endpoint.MacAddress ?? '';
    if (minor >= 44 && own !== '' && own !== asked)
      refuse(
        'the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty',
      );
    endpoint.MacAddress = asked;
  }
  delete body.MacAddress;
  return minor < 44
    ? []
    : ['The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.'];
}

/** `net.ipv4.conf.eth0.forwarding` is of one link, which has its name only when it is there. */
function adaptSysctls(host: HostConfigBody, main: () => EndpointBody, minor: number): string[] {
  if (isShared(host)) return [];
  const moved: string[] = [];
  const texts: string[] = [];
  for (const [name, value] of Object.entries(host.Sysctls ?? {})) {
    const [, above, link = '', last] = /^net\.([^.]+\.[^.]+)\.(eth[^.]*)\.(.+)$/.exec(name) ?? [];
    if (above === undefined) continue;
    if (minor > 47)
      refuse(
        `interface specific sysctl setting ${JSON.stringify(name)} must be supplied using driver option '${endpointSysctls}'`,
      );
    if (link !== 'eth0')
      refuse(
        `unable to determine network endpoint for sysctl ${name}, use driver option '${endpointSysctls}' to set per-interface sysctls`,
      );
    moved.push(name);
    texts.push(`net.${above}.IFNAME.${last}=${value}`);
  }
  if (moved.length === 0) return [];
  const endpoint = main();
  const before = endpoint.DriverOpts?.[endpointSysctls];
  endpoint.DriverOpts = {
    ...endpoint.DriverOpts,
    [endpointSysctls]: [...texts, ...(before === undefined ? [] : [before])].join(','),
  };
  for (const name of moved) delete host.Sysctls?.[name];
  const [names, options] = [JSON.stringify(moved.join(',')), JSON.stringify(texts.join(','))];
  return [`Migrated sysctl ${names} to DriverOpts{"${endpointSysctls}":${options}}.`];
}

interface PlannedNetwork {
  mode: NetworkMode;
  attachments: NetworkAttachment[];
}

export function planNetwork(host: HostConfigBody, body: CreateBody): PlannedNetwork {
  const mode = String(host.NetworkMode ?? 'default');
  const wanted = body.NetworkingConfig?.EndpointsConfig ?? {};
  for (const [name, endpoint] of Object.entries(wanted)) {
    const where = `invalid config for network ${name}: `;
    checkEndpointSettings(name, undefined, attachmentFrom(name, endpoint ?? {}), where);
  }
  if (body.NetworkDisabled === true) return { mode: { type: 'none' }, attachments: [] };
  if (mode === 'host') {
    if ((host.Links ?? []).length > 0)
      refuse(
        "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
      );
    return { mode: { type: 'host' }, attachments: [] };
  }
  if (mode === 'none') return { mode: { type: 'none' }, attachments: [] };
  if (mode.startsWith('container:')) {
    checkJoined(mode, host, body);
    return { mode: { type: 'container', containerId: mode.slice(10) }, attachments: [] };
  }
  const first = mainNetwork(host);
  const others = Object.keys(wanted).filter((name) => name !== first && name !== 'default');
  // Who names networks, but not the default one, is not on that.
  const isLeftOut = first === 'bridge' && others.length > 0 && !('bridge' in wanted) && !('default' in wanted);
  const names = [...(isLeftOut ? [] : [first]), ...others];
  const attachments = names.map((name) =>
    attachmentFrom(name, wanted[name] ?? (name === 'bridge' ? wanted['default'] : undefined) ?? {}),
  );
  return { mode: { type: 'networks' }, attachments };
}

/** What cannot be asked for by who has another's network. */
function checkJoined(mode: string, host: HostConfigBody, body: CreateBody): void {
  const has = (value: object | null | undefined): boolean => Object.keys(value ?? {}).length > 0;
  if (mode === 'container:') refuse('invalid network mode: invalid container format container:<name|id>');
  if ((body.Hostname ?? '') !== '') refuse('conflicting options: hostname and the network mode');
  if (has(host.Links))
    refuse(
      "conflicting options: container type network can't be used with links. This would result in undefined behavior",
    );
  if (has(host.Dns)) refuse('conflicting options: dns and the network mode');
  if (has(host.ExtraHosts)) refuse('conflicting options: custom host-to-IP mapping and the network mode');
  if (has(host.PortBindings) || host.PublishAllPorts === true)
    refuse('conflicting options: port publishing and the container type network mode');
  if (has(body.ExposedPorts)) refuse('conflicting options: port exposing and the container type network mode');
}

export function attachmentFrom(network: string, endpoint: EndpointBody): NetworkAttachment {
  const { IPv4Address: ip = '', IPv6Address: ip6 = '', LinkLocalIPs: linkLocal } = endpoint.IPAMConfig ?? {};
  const mac = parseMac(endpoint.MacAddress ?? '');
  return {
    network,
    aliases: endpoint.Aliases ?? [],
    ...(ip === null || ip === '' ? {} : { ip }),
    ...(ip6 === null || ip6 === '' ? {} : { ip6 }),
    ...(linkLocal === undefined || linkLocal === null || linkLocal.length === 0 ? {} : { linkLocalIps: linkLocal }),
    ...(mac === '' ? {} : { mac }),
    ...((endpoint.Links ?? []).length === 0 ? {} : { links: endpoint.Links ?? [] }),
    ...(Object.keys(endpoint.DriverOpts ?? {}).length === 0 ? {} : { options: endpoint.DriverOpts ?? {} }),
    ...((endpoint.GwPriority ?? 0) === 0 ? {} : { gatewayPriority: endpoint.GwPriority ?? 0 }),
  };
}

/** `02:42:ac:11:00:02`, also with hyphens, or as `0242.ac11.0002`: written with colons. Empty for none. */
function parseMac(text: string): string {
  if (text === '') return '';
  const digits = /^(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4})$/i.test(
    text,
  )
    ? text.replace(/[^0-9a-f]/gi, '').toLowerCase()
    : refuse(`invalid MAC address: ${text.slice(0, 64)}`);
  return digits.replace(/..(?=.)/g, '$&:');
}

export function parsePort(text: string): { port: number; end: number; protocol: 'tcp' | 'udp' | 'sctp' } {
  const match = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(text);
  const protocol = (match?.[3] ?? 'tcp').toLowerCase();
  if (
    match === null ||
    !['tcp', 'udp', 'sctp'].includes(protocol) ||
    Number(match[1]) > 65535 ||
    Number(match[2] ?? 0) > 65535
  )
    throw new ApiError('BadRequest', `invalid port specification: "${text}"`);
  const [port, end] = [Number(match[1]), Number(match[2] ?? match[1])];
  if (end < port) throw new ApiError('BadRequest', `invalid port specification: "${text}"`);
  return { port, end, protocol: protocol as 'tcp' };
}

/** Where a port is published; empty for every address. A mapped address is what it maps, as Go's `net.IP` has it. */
function hostAddressOf(text: string, key: string): string {
  if (text === '') return '';
  const address = parseIp(text);
  if (address === undefined)
    refuse(`invalid host address ${JSON.stringify(text.slice(0, 64))} for port ${key}: it must be an IP address`);
  return formatIp(unmapIp(address));
}

export function planPorts(host: HostConfigBody, exposed: Record<string, unknown>): PortBinding[] {
  const out: PortBinding[] = [];
  const bindings = host.PortBindings ?? {};
  for (const [key, list] of Object.entries(bindings)) {
    const { port, end, protocol } = parsePort(key);
    // Clients take ranges apart.
    if (end !== port || port === 0) throw new ApiError('BadRequest', `invalid port specification: "${key}"`);
    for (const binding of list === null || list.length === 0 ? [{}] : list) {
      const range = parsePort(binding.HostPort || '0');
      out.push({
        hostIp: hostAddressOf(binding.HostIp ?? '', key),
        hostPort: range.port,
        ...(range.end === range.port ? {} : { hostPortEnd: range.end }),
        protocol,
        containerPort: port,
      });
    }
  }
  if (host['PublishAllPorts'] === true) {
    for (const key of Object.keys(exposed))
      if (bindings[key] === undefined) {
        const { port, end, protocol } = parsePort(key);
        for (let each = port; each <= end; each++) out.push({ hostIp: '', hostPort: 0, protocol, containerPort: each });
      }
  }
  return out;
}
