/**
 * Which host ports a container gets, and where they lead: to its addresses on the networks that are its way out, in
 * each family. A binding that names no address is one of both families, with the same port. Towards a container without
 * an address of version 6 a port of version 6 is relayed (net/port-relay.ts), as by docker's proxy.
 * Source: moby 28, `addPortMappings`, `configurePortBindingIPv4`, `configurePortBindingIPv6`.
 */
import { ApiError } from '#base/errors.ts';
import { familyOf, type IpFamily, ipFamilies } from '#base/ip.ts';
import { messageOf } from '#base/thrown.ts';
import type { Ports } from '#net/ports.ts';
import type { PublishedRecord } from './container-record.ts';
import type { Container } from './container.ts';
import type { PortBinding } from './engine.ts';
import type { Gateways, Place } from './network-endpoint.ts';
import { bridgeOptionsOf } from './network-options.ts';

const anyAddress: Readonly<Record<IpFamily, string>> = { IPv4: '0.0.0.0', IPv6: '::' };

interface Host {
  hostIp: string;
  ip: string;
  /** The port is opened at the container's own address, and not on the host. */
  routed: boolean;
}

/** The host's addresses for one binding. */
function planHosts(binding: PortBinding, gateways: Gateways, { hasIpv6, relays }: Ports): Host[] {
  return ipFamilies.flatMap((family) => {
    // The proxy's way, where the container has no address of version 6.
    const place = gateways[family] ?? (relays ? gateways.IPv4 : undefined);
    // Containers of the others are reached by their own addresses.
    if (place?.network.driver !== 'bridge') return [];
    const ip = ipOf(place, family) ?? ipOf(place, 'IPv4');
    if (ip === undefined || (family === 'IPv6' && !hasIpv6)) return [];
    const { bindingIp = anyAddress.IPv4, modes } = bridgeOptionsOf(place.network.options);
    const own = familyOf(ip) === family;
    const routed = own && modes[family] === 'routed';
    if (!own && modes.IPv4 === 'routed') return [];
    if (binding.hostIp !== '') {
      if (familyOf(binding.hostIp) !== family) return [];
      return [{ hostIp: routed ? anyAddress[family] : binding.hostIp, ip, routed }];
    }
    const isAny = bindingIp === anyAddress.IPv4;
    if (!isAny && familyOf(bindingIp) !== family) return [];
    return [{ hostIp: routed || isAny ? anyAddress[family] : bindingIp, ip, routed }];
  });
}

function ipOf({ endpoint }: Place, family: IpFamily): string | undefined {
  return family === 'IPv4' ? endpoint.ip : endpoint.ip6;
}

function isRange({ hostPort, hostPortEnd }: PortBinding): boolean {
  return hostPort === 0 || (hostPortEnd ?? hostPort) !== hostPort;
}

function samePort(a: PortBinding, b: PortBinding): boolean {
  return (
    a.containerPort === b.containerPort &&
    a.protocol === b.protocol &&
    a.hostPort === b.hostPort &&
    (a.hostPortEnd ?? a.hostPort) === (b.hostPortEnd ?? b.hostPort)
  );
}

/** Bindings that differ in their address alone get one port; ports that are fixed come before those to choose. */
function groupBindings(bindings: readonly PortBinding[]): PortBinding[][] {
  const groups: PortBinding[][] = [];
  for (const binding of bindings.toSorted((a, b) => Number(isRange(a)) - Number(isRange(b)))) {
    const group = groups.find(([first]) => first !== undefined && samePort(first, binding));
    if (group === undefined) groups.push([binding]);
    else group.push(binding);
  }
  return groups;
}

/**
 * Takes the ports; what is taken when one cannot be had is given back. `before`: what the container had, whose chosen
 * ports it keeps.
 */
export function reservePorts(
  ports: Ports,
  container: Container,
  gateways: Gateways,
  before: readonly PublishedRecord[] = [],
): PublishedRecord[] {
  const out: PublishedRecord[] = [];
  try {
    for (const group of groupBindings(container.record.spec.ports ?? [])) {
      const [first] = group;
      if (first === undefined) continue;
      const hosts = group
        .flatMap((binding) => planHosts(binding, gateways, ports))
        .filter((host, at, all) => all.findIndex((other) => other.hostIp === host.hostIp) === at);
      const { protocol, containerPort, hostPort, hostPortEnd } = first;
      for (const { hostIp, ip, routed } of hosts)
        if (routed) out.push({ hostIp, hostPort: 0, protocol, ip, port: containerPort });
      const had = before.find((port) => port.port === containerPort && port.protocol === protocol && port.hostPort > 0);
      const wanted = hostPort === 0 && had !== undefined ? { hostPort: had.hostPort } : { hostPort, hostPortEnd };
      out.push(
        ...ports.reserve({
          hosts: hosts.filter(({ routed }) => !routed),
          hostPort: wanted.hostPort,
          ...(wanted.hostPortEnd === undefined ? {} : { hostPortEnd: wanted.hostPortEnd }),
          protocol,
          port: containerPort,
        }),
      );
    }
    return out;
  } catch (error) {
    for (const port of out) ports.release(port);
    const place = gateways.IPv4 ?? gateways.IPv6;
    throw new ApiError(
      'InternalError',
      `failed to set up container networking: driver failed programming external connectivity on endpoint ${container.name} (${place?.endpoint.endpointId ?? ''}): ${messageOf(error)}`,
    );
  }
}
