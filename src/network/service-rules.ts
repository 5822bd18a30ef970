/**
 * What the kernel must do for Services, as nftables text. Pure: from Services and EndpointSlices to a `RuleSet`, and
 * from two rule sets to the commands that turn one into the other.
 *
 * A packet to a Service looks its address, protocol and port up in one verdict map, whatever the number of Services,
 * and jumps to the port's chain, which picks an endpoint at random, or the one that the client had before
 * (`sessionAffinity`), and rewrites the destination. Ports without endpoints are rejected, as Kubernetes does. Node
 * ports have a map of their own that is asked for every local address, 127.0.0.1 included. Replies find their way by
 * connection tracking.
 * Sources: Kubernetes documentation, "Virtual IPs and Service Proxies"; nft(8).
 */
import { createHash } from 'node:crypto';
import { formatSubnet, isIpv4, maskIp, parseCidr } from '#base/ip.ts';
import { diffMap, diffSet } from './element-changes.ts';
import { stickyClientsMax } from './limits.ts';
import { compareText } from './order.ts';
import type * as core from '#api/core.v1.ts';
import type { EndpointSlice } from '#api/discovery.v1.ts';

export interface Endpoint {
  ip: string;
  port: number;
  local: boolean;
  ready: boolean;
  serving: boolean;
  terminating: boolean;
  /** Whether it is meant for this node, and for this zone; undefined where it is not said for whom it is. */
  forNode: boolean | undefined;
  forZone: boolean | undefined;
}

/** Where packets come from. */
export interface Here {
  nodeName: string;
  zone: string | undefined;
}

/** One port of one Service, with where it may be reached and what answers. */
export interface ServicePort {
  /** `namespace/name:port`. */
  id: string;
  protocol: 'tcp' | 'udp' | 'sctp';
  port: number;
  clusterIps: string[];
  /** External and load balancer addresses. */
  externalIps: string[];
  nodePort: number | undefined;
  /** How long a client that has not come back stays with its endpoint; undefined where it need not. */
  affinitySeconds: number | undefined;
  /** Only endpoints of this node answer outside traffic, which keeps its source address. */
  externalLocal: boolean;
  internalLocal: boolean;
  sourceRanges: string[];
  endpoints: Endpoint[];
}

/** The API server fills it in. */
const affinitySecondsDefault = 10_800;
const protocols: Record<string, 'tcp' | 'udp' | 'sctp'> = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' };

/** Ports of a Service that packets can reach; headless and ExternalName Services have none. */
export function servicePorts(service: core.Service, slices: Iterable<EndpointSlice>, here: Here): ServicePort[] {
  const { spec } = service;
  const { clusterIP } = spec;
  if (spec.type === 'ExternalName' || clusterIP === undefined || clusterIP === '' || clusterIP === 'None') return [];
  const all = [...slices].filter((slice) => slice.addressType === 'IPv4');
  const balancer = service.status?.loadBalancer?.ingress ?? [];
  const externalIps = [
    ...(spec.externalIPs ?? []),
    ...(spec.type === 'LoadBalancer' ? balancer.map((entry) => entry.ip ?? '') : []),
  ].filter(isIpv4);
  return (spec.ports ?? []).map((port): ServicePort => ({
    id: `${service.metadata.namespace}/${service.metadata.name}:${port.name ?? port.port}`,
    protocol: protocols[port.protocol ?? 'TCP']!,
    port: port.port,
    clusterIps: (spec.clusterIPs ?? [clusterIP]).filter(isIpv4),
    externalIps: [...new Set(externalIps)],
    nodePort: port.nodePort || undefined,
    affinitySeconds:
      spec.sessionAffinity === 'ClientIP'
        ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? affinitySecondsDefault)
        : undefined,
    externalLocal: spec.externalTrafficPolicy === 'Local',
    internalLocal: spec.internalTrafficPolicy === 'Local',
    sourceRanges: ipv4Ranges(spec.loadBalancerSourceRanges ?? []),
    endpoints: all.flatMap((slice) => endpointsOf(slice, port, here)),
  }));
}

/** As nft writes them; those of version 6 have no way here. */
function ipv4Ranges(texts: readonly string[]): string[] {
  return texts.flatMap((text) => {
    const cidr = parseCidr(text.trim());
    return cidr?.address.family === 'IPv4' ? [formatSubnet(maskIp(cidr.address, cidr.length))] : [];
  });
}

/** Whether this one is among those that are named; undefined where none is. */
function isAmong(named: readonly { name: string }[] | undefined, name: string | undefined): boolean | undefined {
  return named === undefined || named.length === 0 ? undefined : named.some((each) => each.name === name);
}

function endpointsOf(slice: EndpointSlice, port: core.ServicePort, { nodeName, zone }: Here): Endpoint[] {
  const match = (slice.ports ?? []).find(
    (entry) => (entry.name ?? '') === (port.name ?? '') && (entry.protocol ?? 'TCP') === (port.protocol ?? 'TCP'),
  );
  const number = match?.port;
  if (number === undefined) return [];
  return (slice.endpoints ?? []).flatMap((endpoint) =>
    endpoint.addresses.slice(0, 1).map((ip): Endpoint => ({
      ip,
      port: number,
      local: endpoint.nodeName === nodeName,
      ready: endpoint.conditions?.ready !== false,
      serving: endpoint.conditions?.serving ?? endpoint.conditions?.ready !== false,
      terminating: endpoint.conditions?.terminating === true,
      forNode: isAmong(endpoint.hints?.forNodes, nodeName),
      forZone: isAmong(endpoint.hints?.forZones, zone),
    })),
  );
}

/**
 * Those that are meant for this node, or else for its zone: where of all it is said for whom they are, and one at least
 * is (hints of EndpointSlices, which `trafficDistribution` of a Service asks for).
 */
function nearest(ready: Endpoint[]): Endpoint[] {
  for (const scope of ['forNode', 'forZone'] as const) {
    const near = ready.filter((endpoint) => endpoint[scope] === true);
    if (near.length > 0 && ready.every((endpoint) => endpoint[scope] !== undefined)) return near;
  }
  return ready;
}

/**
 * Endpoints that take new connections: the ready ones - those of this node alone, those near it, or all - or those that
 * still serve while they end where no other is left.
 */
export function usableEndpoints(endpoints: Endpoint[], which: 'local' | 'near' | 'all'): Endpoint[] {
  const candidates = which === 'local' ? endpoints.filter((endpoint) => endpoint.local) : endpoints;
  const all = candidates.filter((endpoint) => endpoint.ready);
  const ready = which === 'near' ? nearest(all) : all;
  const chosen = ready.length > 0 ? ready : candidates.filter((endpoint) => endpoint.serving && endpoint.terminating);
  const unique = new Map(chosen.map((endpoint) => [`${endpoint.ip}:${endpoint.port}`, endpoint]));
  return [...unique.values()].sort((a, b) => compareText(a.ip, b.ip) || a.port - b.port);
}

/** The wanted state of the table: chains by name, elements of the maps and sets. */
export interface RuleSet {
  /** By name what is in the braces; what there is of a set never changes. */
  sets: Map<string, string>;
  chains: Map<string, string[]>;
  services: Map<string, string>;
  nodePorts: Map<string, string>;
  rejectedServices: Set<string>;
  rejectedNodePorts: Set<string>;
  /** `podIp . podIp`: a Pod that reaches itself through a Service needs another source address. */
  hairpins: Set<string>;
}

export function emptyRuleSet(): RuleSet {
  return {
    sets: new Map(),
    chains: new Map(),
    services: new Map(),
    nodePorts: new Map(),
    rejectedServices: new Set(),
    rejectedNodePorts: new Set(),
    hairpins: new Set(),
  };
}

const masqueradeMark = '0x4000';

const translation = ({ protocol }: ServicePort, { ip, port }: Endpoint): string =>
  `meta l4proto ${protocol} dnat ip to ${ip}:${port}`;

/** The rules that choose an endpoint. */
function balance(rules: RuleSet, port: ServicePort, endpoints: Endpoint[]): string[] {
  if (port.affinitySeconds !== undefined) return stick(rules, port, port.affinitySeconds, endpoints);
  const [only] = endpoints;
  if (only !== undefined && endpoints.length === 1) return [translation(port, only)];
  const entries = endpoints.map((endpoint, index) => `${index} : ${endpoint.ip} . ${endpoint.port}`).join(', ');
  return [`meta l4proto ${port.protocol} dnat ip to numgen random mod ${endpoints.length} map { ${entries} }`];
}

/**
 * The same for clients that stay with an endpoint: each endpoint has a set of those that came to it, and a chain that
 * notes them anew. Whoever is in none is sent by his address, so that he mostly finds the same endpoint by another
 * node, and after this one has begun anew.
 */
function stick(rules: RuleSet, port: ServicePort, seconds: number, endpoints: Endpoint[]): string[] {
  const chains = endpoints.map((endpoint) => {
    const key = `${endpoint.ip}:${endpoint.port}/${seconds}`;
    const [set, chain] = [chainName('clients', port, key), chainName('to', port, key)];
    rules.sets.set(set, `type ipv4_addr; flags dynamic,timeout; timeout ${seconds}s; size ${stickyClientsMax};`);
    // Where the set is full, the client is sent all the same.
    rules.chains.set(chain, [`update @${set} { ip saddr }`, translation(port, endpoint)]);
    return { set, chain };
  });
  const entries = chains.map(({ chain }, index) => `${index} : goto ${chain}`).join(', ');
  return [
    ...chains.map(({ set, chain }) => `ip saddr @${set} goto ${chain}`),
    `jhash ip saddr mod ${chains.length} vmap { ${entries} }`,
  ];
}

function chainName(prefix: string, port: ServicePort, more = ''): string {
  const digest = createHash('sha256').update(`${port.id}/${port.protocol}${more}`).digest('hex');
  return `${prefix}-${digest.slice(0, 16)}`;
}

/** Subnets of Pods. */
export interface PodRanges {
  cluster: string;
  /** Those of this node. */
  node: string;
}

export function planRules(ports: Iterable<ServicePort>, ranges: PodRanges): RuleSet {
  const rules = emptyRuleSet();
  for (const port of ports) addPort(rules, port, ranges);
  return rules;
}

// walk service-packet 3/4: a port becomes a chain that picks an endpoint, and elements of the verdict maps.
function addPort(rules: RuleSet, port: ServicePort, ranges: PodRanges): void {
  const everywhere = usableEndpoints(port.endpoints, 'near');
  const inside = port.internalLocal ? usableEndpoints(port.endpoints, 'local') : everywhere;
  for (const { ip } of [...inside, ...everywhere]) rules.hairpins.add(`${ip} . ${ip}`);
  if (inside.length > 0) {
    const name = chainName('svc', port);
    rules.chains.set(name, balance(rules, port, inside));
    for (const ip of port.clusterIps) rules.services.set(`${ip} . ${port.protocol} . ${port.port}`, `goto ${name}`);
  } else if (everywhere.length === 0 || !port.internalLocal) {
    for (const ip of port.clusterIps) rules.rejectedServices.add(`${ip} . ${port.protocol} . ${port.port}`);
  }
  if (port.externalIps.length === 0 && port.nodePort === undefined) return;
  if (everywhere.length === 0) {
    for (const ip of port.externalIps) rules.rejectedServices.add(`${ip} . ${port.protocol} . ${port.port}`);
    if (port.nodePort !== undefined) rules.rejectedNodePorts.add(`${port.protocol} . ${port.nodePort}`);
    return;
  }
  const name = addExternalChain(rules, port, ranges);
  const ranged = port.sourceRanges.length === 0 ? name : chainName('rng', port);
  if (port.sourceRanges.length > 0)
    rules.chains.set(ranged, [`ip saddr { ${port.sourceRanges.join(', ')}, ${ranges.cluster} } goto ${name}`]);
  for (const ip of port.externalIps) rules.services.set(`${ip} . ${port.protocol} . ${port.port}`, `goto ${ranged}`);
  if (port.nodePort !== undefined) rules.nodePorts.set(`${port.protocol} . ${port.nodePort}`, `goto ${name}`);
}

/**
 * The chain of node ports, external and load balancer addresses; its name. An endpoint may be on another node, whose
 * answer would go to the client past the translation, were its packets not masqueraded. With the policy Local only
 * endpoints of this node are chosen, which see the client's address; where it has none the packet is dropped, so that a
 * load balancer tries another node. What comes from inside the cluster is not bound by that policy: it may go to any
 * endpoint, and only Pods of this node keep their address, since their answers come back this way in any case.
 */
function addExternalChain(rules: RuleSet, port: ServicePort, ranges: PodRanges): string {
  const everywhere = balance(rules, port, usableEndpoints(port.endpoints, 'near'));
  const name = chainName('ext', port);
  const mark = `meta mark set meta mark | ${masqueradeMark}`;
  if (!port.externalLocal) {
    rules.chains.set(name, [mark, ...everywhere]);
    return name;
  }
  const any = chainName('any', port);
  rules.chains.set(any, everywhere);
  const own = usableEndpoints(port.endpoints, 'local');
  rules.chains.set(name, [
    `ip saddr ${ranges.node} goto ${any}`,
    `ip saddr ${ranges.cluster} ${mark} goto ${any}`,
    `fib saddr type local ${mark} goto ${any}`,
    ...(own.length === 0 ? ['drop'] : balance(rules, port, own)),
  ]);
  return name;
}

// walk service-packet 4/4: the kernel looks a destination up in one map and rewrites it; nothing of ours is on the way.
/** The table without any Service. Replaces what an earlier run left, in one transaction. */
export function baseTable(table: string): string {
  const services = 'ip daddr . meta l4proto . th dport';
  return `
table ip ${table} {}
delete table ip ${table}
table ip ${table} {
  map services { type ipv4_addr . inet_proto . inet_service : verdict; }
  map node-ports { type inet_proto . inet_service : verdict; }
  set rejected-services { type ipv4_addr . inet_proto . inet_service; }
  set rejected-node-ports { type inet_proto . inet_service; }
  set hairpins { type ipv4_addr . ipv4_addr; }
  chain reject-service { meta l4proto tcp reject with tcp reset; reject; }
  chain check {
    ${services} @rejected-services goto reject-service
    fib daddr type local meta l4proto . th dport @rejected-node-ports goto reject-service
  }
  chain translate {
    ${services} vmap @services
    fib daddr type local meta l4proto . th dport vmap @node-ports
  }
  chain check-incoming { type filter hook prerouting priority -110; policy accept; ct state new jump check; }
  chain check-outgoing { type filter hook output priority -110; policy accept; ct state new jump check; }
  chain incoming { type nat hook prerouting priority -105; policy accept; jump translate; }
  chain outgoing { type nat hook output priority -105; policy accept; jump translate; }
  chain leaving {
    type nat hook postrouting priority 95; policy accept;
    meta mark & ${masqueradeMark} == ${masqueradeMark} meta mark set meta mark & 0xffffbfff masquerade
    ip saddr . ip daddr @hairpins masquerade
  }
}
`;
}

/**
 * Commands that turn `before` into `after`: one transaction, in an order that never leaves a map pointing at nothing.
 */
export function diffRules(table: string, before: RuleSet, after: RuleSet): string[] {
  const out: string[] = [];
  for (const [name, what] of after.sets)
    if (!before.sets.has(name)) out.push(`add set ip ${table} ${name} { ${what} }`);
  for (const [name, lines] of after.chains) {
    const old = before.chains.get(name);
    if (old !== undefined && old.join('\n') === lines.join('\n')) continue;
    out.push(old === undefined ? `add chain ip ${table} ${name}` : `flush chain ip ${table} ${name}`);
    for (const line of lines) out.push(`add rule ip ${table} ${name} ${line}`);
  }
  out.push(...diffMap(`ip ${table} services`, before.services, after.services));
  out.push(...diffMap(`ip ${table} node-ports`, before.nodePorts, after.nodePorts));
  out.push(...diffSet(`ip ${table} rejected-services`, before.rejectedServices, after.rejectedServices));
  out.push(...diffSet(`ip ${table} rejected-node-ports`, before.rejectedNodePorts, after.rejectedNodePorts));
  out.push(...diffSet(`ip ${table} hairpins`, before.hairpins, after.hairpins));
  // All are emptied before the first goes: they point at each other.
  const gone = [...before.chains.keys()].filter((name) => !after.chains.has(name));
  for (const name of gone) out.push(`flush chain ip ${table} ${name}`);
  for (const name of gone) out.push(`delete chain ip ${table} ${name}`);
  for (const name of before.sets.keys()) if (!after.sets.has(name)) out.push(`delete set ip ${table} ${name}`);
  return out;
}
