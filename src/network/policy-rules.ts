/**
 * What the kernel must do for NetworkPolicies, as nftables text. Pure: from policies and the Pods that they select to
 * `PolicyRules`, and from two of them to the commands that turn one into the other.
 *
 *     forward ──▶ leaving: source ─▶ group ─▶ policies ─▶ arrivals ──▶ arriving: destination ─▶ group ─▶ policies
 *                                      └ drop                                                     └ drop    └ accept
 *
 * Each node holds what its own Pods need. A Pod that a policy isolates has an element in the map of that direction,
 * which leads to the chain of its group: Pods under the same policies share one. A group jumps to its policies' chains
 * in turn and drops what none of them let through. A policy's chain matches peers and ports; peers are sets that equal
 * selectors share, so that a Pod that comes or goes is some elements and no rule, and a policy that changes is one
 * chain.
 *
 * It is looked at where packets are forwarded, after the translation of Services: a policy sees Pods' own addresses.
 * What a Pod and its own node send each other (the kubelet's probes, Pods in the host's network, cluster DNS) is not
 * forwarded and always passes; so does what a Pod sends itself through a Service. Connections that are established go
 * on when policies change, which Kubernetes leaves to its implementations.
 * Source: Kubernetes documentation, "Network Policies"; nft(8).
 */
import type { IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '#api/networking.v1.ts';
import { containsSubnet, formatSubnet, maskIp, parseCidr, type Subnet } from '#base/ip.ts';
import { diffMap, diffSet } from './element-changes.ts';
import { selectionOf, shortHash, type PodSelections, type Selection } from './policy-selections.ts';

/** One direction of a policy: its chain, which is empty where it lets nothing through, and the sets that it names. */
export interface PolicyPart {
  chain: string;
  lines: readonly string[];
  peers: readonly Selection[];
  /** `name/protocol` of ports that are numbers only at each Pod. */
  namedPorts: readonly string[];
}

export interface CompiledPolicy {
  /** The Pods that it isolates. */
  subject: Selection;
  ingress: PolicyPart | undefined;
  egress: PolicyPart | undefined;
}

interface Direction {
  prefix: 'in' | 'out';
  /** The peer's end. */
  address: 'ip saddr' | 'ip daddr';
  verdict: string;
}

const directions = {
  ingress: { prefix: 'in', address: 'ip saddr', verdict: 'accept' },
  egress: { prefix: 'out', address: 'ip daddr', verdict: 'goto arrivals' },
} as const satisfies Record<string, Direction>;

interface PolicyRule {
  peers: NetworkPolicyPeer[] | undefined;
  ports: NetworkPolicyPort[] | undefined;
}

export function compilePolicy({ metadata, spec }: NetworkPolicy): CompiledPolicy {
  const types = spec.policyTypes ?? (spec.egress === undefined ? ['Ingress'] : ['Ingress', 'Egress']);
  const key = `${metadata.namespace}/${metadata.name}`;
  const ingress = (spec.ingress ?? []).map(({ from, ports }): PolicyRule => ({ peers: from, ports }));
  const egress = (spec.egress ?? []).map(({ to, ports }): PolicyRule => ({ peers: to, ports }));
  return {
    subject: selectionOf(metadata.namespace, spec.podSelector),
    ingress: types.includes('Ingress') ? compilePart(key, directions.ingress, ingress) : undefined,
    egress: types.includes('Egress') ? compilePart(key, directions.egress, egress) : undefined,
  };
}

function compilePart(key: string, direction: Direction, rules: PolicyRule[]): PolicyPart {
  const namespace = key.slice(0, key.indexOf('/'));
  const peers: Selection[] = [];
  const namedPorts: string[] = [];
  const lines = rules.flatMap((rule) => {
    const found = (rule.peers ?? []).flatMap((peer) => {
      if (peer.ipBlock !== undefined) return matchBlock(direction, peer.ipBlock);
      const selection = selectionOf(namespace, peer.podSelector, peer.namespaceSelector);
      peers.push(selection);
      return [`${direction.address} @${peerSet(selection.id)}`];
    });
    const ports = matchPorts(rule.ports ?? [], namedPorts);
    // A rule without peers or ports means all; one whose peers are of version 6 means none of ours.
    const all = [''];
    const ends = (rule.peers ?? []).length === 0 ? all : found;
    return ends.flatMap((end) => ((rule.ports ?? []).length === 0 ? all : ports).map((port) => [end, port]));
  });
  return {
    chain: `${direction.prefix}-${shortHash(key)}`,
    lines: lines.map((line) => [...line, direction.verdict].filter((word) => word !== '').join(' ')),
    peers,
    namedPorts,
  };
}

function peerSet(id: string): string {
  return `peers-${id}`;
}

function namedPortSet(name: string): string {
  return `named-${shortHash(name)}`;
}

function matchBlock({ address }: Direction, { cidr, except }: IPBlock): string[] {
  const block = ipv4Subnet(cidr);
  if (block === undefined) return [];
  const holes = (except ?? []).flatMap((text) => ipv4Subnet(text) ?? []);
  if (holes.some((hole) => containsSubnet(hole, block))) return [];
  // The kernel's sets take no intervals that overlap.
  const apart = holes.filter(
    (hole, at) =>
      !holes.some((other, index) => containsSubnet(other, hole) && (index < at || !containsSubnet(hole, other))),
  );
  const hole = apart.length === 0 ? '' : ` ${address} != { ${apart.map(formatSubnet).join(', ')} }`;
  return [`${address} ${formatSubnet(block)}${hole}`];
}

function ipv4Subnet(text: string): Subnet | undefined {
  const cidr = parseCidr(text.trim());
  return cidr?.address.family === 'IPv4' ? maskIp(cidr.address, cidr.length) : undefined;
}

/** Matches of the ports, one for each protocol and each name. Names are added to `namedPorts`. */
function matchPorts(ports: NetworkPolicyPort[], namedPorts: string[]): string[] {
  const ranges = new Map<string, [number, number][]>();
  const named: string[] = [];
  for (const { port, endPort, protocol: given } of ports) {
    const protocol = (given ?? 'TCP').toLowerCase();
    if (typeof port === 'string') named.push(`${port}/${protocol}`);
    else {
      const range: [number, number] = port === undefined ? [0, 65_535] : [port, Math.max(port, endPort ?? port)];
      ranges.set(protocol, [...(ranges.get(protocol) ?? []), range]);
    }
  }
  namedPorts.push(...named);
  return [
    ...[...ranges].map(([protocol, all]) => matchRanges(protocol, mergeRanges(all))),
    ...named.map((name) => `ip daddr . meta l4proto . th dport @${namedPortSet(name)}`),
  ];
}

function matchRanges(protocol: string, ranges: readonly (readonly [number, number])[]): string {
  if (ranges.some(([from, to]) => from === 0 && to === 65_535)) return `meta l4proto ${protocol}`;
  const texts = ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
  return `${protocol} dport { ${texts.join(', ')} }`;
}

function mergeRanges(ranges: readonly [number, number][]): [number, number][] {
  const out: [number, number][] = [];
  for (const [from, to] of ranges.toSorted((a, b) => a[0] - b[0])) {
    const last = out.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else out.push([from, to]);
  }
  return out;
}

/** The wanted state of the table. */
export interface PolicyRules {
  chains: Map<string, readonly string[]>;
  /** Addresses, by the name of the set. */
  peers: Map<string, ReadonlySet<string>>;
  namedPorts: Map<string, ReadonlySet<string>>;
  /** Verdicts by the address of an isolated Pod of this node. */
  leaving: Map<string, string>;
  arriving: Map<string, string>;
  /** `podIp . podIp` of isolated Pods. */
  selves: Set<string>;
}

export function emptyPolicyRules(): PolicyRules {
  return {
    chains: new Map(),
    peers: new Map(),
    namedPorts: new Map(),
    leaving: new Map(),
    arriving: new Map(),
    selves: new Set(),
  };
}

/** `policies` in an order that stays. */
export function planPolicies(policies: Iterable<CompiledPolicy>, pods: PodSelections): PolicyRules {
  const rules = emptyPolicyRules();
  const arriving = new Map<string, PolicyPart[]>();
  const leaving = new Map<string, PolicyPart[]>();
  for (const { subject, ingress, egress } of policies)
    for (const { ip, local } of pods.members(subject)) {
      if (!local) continue;
      if (ingress !== undefined) isolate(arriving, ip, ingress);
      if (egress !== undefined) isolate(leaving, ip, egress);
    }
  addGroups(rules, arriving, { verdicts: rules.arriving, pods });
  addGroups(rules, leaving, { verdicts: rules.leaving, pods });
  for (const ip of [...arriving.keys(), ...leaving.keys()]) rules.selves.add(`${ip} . ${ip}`);
  return rules;
}

/** A part without lines isolates and lets nothing through: no chain of its own is needed. */
function isolate(groups: Map<string, PolicyPart[]>, ip: string, part: PolicyPart): void {
  let parts = groups.get(ip);
  if (parts === undefined) groups.set(ip, (parts = []));
  if (part.lines.length > 0) parts.push(part);
}

function addGroups(
  rules: PolicyRules,
  groups: ReadonlyMap<string, PolicyPart[]>,
  { verdicts, pods }: { verdicts: Map<string, string>; pods: PodSelections },
): void {
  const names = new Map<string, string>();
  for (const [ip, parts] of groups) {
    if (parts.length === 0) {
      verdicts.set(ip, 'drop');
      continue;
    }
    const key = parts.map(({ chain }) => chain).join();
    let name = names.get(key);
    if (name === undefined) {
      names.set(key, (name = `all-${shortHash(key)}`));
      for (const part of parts) addPart(rules, part, pods);
      rules.chains.set(name, [...parts.map(({ chain }) => `jump ${chain}`), 'drop']);
    }
    verdicts.set(ip, `goto ${name}`);
  }
}

function addPart(rules: PolicyRules, { chain, lines, peers, namedPorts }: PolicyPart, pods: PodSelections): void {
  if (rules.chains.has(chain)) return;
  rules.chains.set(chain, lines);
  for (const { id } of peers) rules.peers.set(peerSet(id), pods.addresses(id));
  for (const name of namedPorts) rules.namedPorts.set(namedPortSet(name), pods.namedPorts(name));
}

/** The table without any policy. Replaces what an earlier run left, in one transaction. */
export function policyTable(table: string): string {
  return `
table ip ${table} {}
delete table ip ${table}
table ip ${table} {
  map leaving { type ipv4_addr : verdict; }
  map arriving { type ipv4_addr : verdict; }
  set selves { type ipv4_addr . ipv4_addr; }
  chain arrivals { ip daddr vmap @arriving; accept; }
  chain forwarding {
    type filter hook forward priority -10; policy accept;
    ct state established,related accept
    ip saddr . ip daddr @selves accept
    ip saddr vmap @leaving
    goto arrivals
  }
}
`;
}

/** Commands that turn `before` into `after`: one transaction. Sets and chains are there before what points at them. */
export function diffPolicies(table: string, before: PolicyRules, after: PolicyRules): string[] {
  const at = `ip ${table}`;
  const chains = diffChains(at, before.chains, after.chains);
  const peers = diffSets(at, 'ipv4_addr', before.peers, after.peers);
  const namedPorts = diffSets(at, 'ipv4_addr . inet_proto . inet_service', before.namedPorts, after.namedPorts);
  return [
    ...peers.fresh,
    ...namedPorts.fresh,
    ...chains.fresh,
    ...diffMap(`${at} leaving`, before.leaving, after.leaving),
    ...diffMap(`${at} arriving`, before.arriving, after.arriving),
    ...diffSet(`${at} selves`, before.selves, after.selves),
    ...chains.gone,
    ...peers.gone,
    ...namedPorts.gone,
  ];
}

interface Changes {
  fresh: string[];
  gone: string[];
}

const nothing: ReadonlySet<string> = new Set();

function diffSets(
  at: string,
  type: string,
  before: ReadonlyMap<string, ReadonlySet<string>>,
  after: ReadonlyMap<string, ReadonlySet<string>>,
): Changes {
  const fresh: string[] = [];
  for (const [name, elements] of after) {
    const old = before.get(name);
    if (old === undefined) fresh.push(`add set ${at} ${name} { type ${type}; }`);
    fresh.push(...diffSet(`${at} ${name}`, old ?? nothing, elements));
  }
  const gone = [...before.keys()].filter((name) => !after.has(name));
  return { fresh, gone: gone.map((name) => `delete set ${at} ${name}`) };
}

function diffChains(
  at: string,
  before: ReadonlyMap<string, readonly string[]>,
  after: ReadonlyMap<string, readonly string[]>,
): Changes {
  const added: string[] = [];
  const filled: string[] = [];
  for (const [name, lines] of after) {
    const old = before.get(name);
    if (old === lines || old?.join('\n') === lines.join('\n')) continue;
    added.push(old === undefined ? `add chain ${at} ${name}` : `flush chain ${at} ${name}`);
    for (const line of lines) filled.push(`add rule ${at} ${name} ${line}`);
  }
  const gone = [...before.keys()].filter((name) => !after.has(name));
  return {
    fresh: [...added, ...filled],
    gone: [...gone.map((name) => `flush chain ${at} ${name}`), ...gone.map((name) => `delete chain ${at} ${name}`)],
  };
}
