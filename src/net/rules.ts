/**
 * The rule writer: one nftables table for each family (`ip tiphys_ID`, `ip6 tiphys_ID`) per instance, of the same
 * chains. Published ports and masquerading are kept here; other layers add chains and maps of their own with `run`, in
 * the table of version 4, and everything goes with the table.
 *
 * Changes that arrive while the kernel is busy are gathered into one transaction. A transaction that fails is run again
 * command by command, so that one bad change does not take the others with it. After a restart of the platform the
 * tables still stand and work; `start` makes each anew in one transaction with the elements given, so that no packet
 * sees a gap.
 */
import { familyOf, subnetOf, type IpFamily } from '#base/ip.ts';
import type { Logger } from '#observe/log.ts';
import type { Nft } from '#os/nft.ts';
import { ruleBatchCommandsMax } from './limits.ts';
import { linkPrefix, tableName } from './kernel-names.ts';
import { isAnyAddress, type PublishedPort } from './published-port.ts';

export interface RuleWriter {
  readonly table: string;
  /** False where the kernel has no rules for version 6. Known after `start`. */
  readonly hasIpv6: boolean;
  /** Makes the tables' own chains with these ports; chains of others are left alone. */
  start(ports: PublishedPort[], networks: NetworkRules[], unmasqueraded: string[]): Promise<void>;
  publish(ports: PublishedPort[]): Promise<void>;
  unpublish(ports: PublishedPort[]): Promise<void>;
  addNetwork(rule: NetworkRules): Promise<void>;
  removeNetwork(rule: NetworkRules): Promise<void>;
  /** Commands in nft's language, e.g. `add element ip ${table} services { … }`. One transaction, or part of one. */
  run(commands: string): Promise<void>;
  /** Takes the tables away. */
  remove(): Promise<void>;
}

/** A subnet of a network, of either family. */
export interface SubnetRules {
  subnet: string;
  /** Packets from it that leave by another link than the network's get the host's address … */
  masquerade: boolean;
  /** … or this one of the host's addresses. */
  source?: string;
}

/** What the tables are told of a network. */
export interface NetworkRules {
  /** The bridge, whatever its name; empty for Pods, which have a link each, known by the instance's prefix. */
  link: string;
  subnets: SubnetRules[];
  /** Nothing enters or leaves. */
  internal: boolean;
  /** Containers of one bridge may talk to each other (`enable_icc`). */
  together: boolean;
  /** Families in which only published ports lead in from outside; else every port does, from other networks, too. */
  guarded: IpFamily[];
  /** Families whose published ports are the containers' own, reached by their own addresses. */
  routed: IpFamily[];
  /** Links of the host from which published ports are reached by the containers' own addresses, too. */
  trusted: string[];
}

/** What nft calls things in each family. */
interface FamilyWords {
  family: IpFamily;
  table: 'ip' | 'ip6';
  address: string;
  loopback: string;
  icmp: string;
}

export const familyWords: Readonly<Record<IpFamily, FamilyWords>> = {
  IPv4: { family: 'IPv4', table: 'ip', address: 'ipv4_addr', loopback: '127.0.0.0/8', icmp: 'icmp' },
  IPv6: { family: 'IPv6', table: 'ip6', address: 'ipv6_addr', loopback: '::1', icmp: 'ipv6-icmp' },
};
const families = Object.values(familyWords);

export function createRuleWriter(options: { nft: Nft; instanceId: string; log: Logger }): RuleWriter {
  const table = tableName(options.instanceId);
  const apply = createBatcher(options.nft, options.log);
  let present = families;
  const plan = (one: (family: FamilyWords) => string): Promise<void> => {
    const text = present.map(one).join('');
    return text === '' ? Promise.resolve() : apply(text);
  };
  return {
    table,
    get hasIpv6() {
      return present.length === families.length;
    },
    async start(ports, networks, unmasqueraded) {
      present = families;
      for (const family of families) {
        const whole = planTable(family, {
          table,
          prefix: linkPrefix(options.instanceId),
          ports,
          networks,
          unmasqueraded,
        });
        if (family.family === 'IPv4') await apply(whole);
        else
          await apply(whole).catch((error: unknown) => {
            options.log.warn('this kernel has no rules for IPv6, so networks have none', { error });
            present = families.filter((other) => other !== family);
          });
      }
    },
    publish: (ports) => plan((family) => planPorts(family, table, 'add', ports)),
    // A port that was never there must not fail the others: `destroy` is newer than some hosts' nft, so add first.
    unpublish: (ports) =>
      plan((family) => planPorts(family, table, 'add', ports) + planPorts(family, table, 'delete', ports)),
    addNetwork: (rule) => plan((family) => planNetwork(family, table, 'add', rule)),
    removeNetwork: (rule) =>
      plan((family) => planNetwork(family, table, 'add', rule) + planNetwork(family, table, 'delete', rule)),
    run: apply,
    remove: () => plan((family) => `add table ${family.table} ${table}\ndelete table ${family.table} ${table}\n`),
  };
}

/** Where the user wants no rules (dockerd's `iptables: false`): nothing is translated, masqueraded or kept apart. */
export function createNoRules({ nft, instanceId }: { nft: Nft; instanceId: string }): RuleWriter {
  const nothing = async (): Promise<void> => {};
  const table = tableName(instanceId);
  const remove = (family: FamilyWords): Promise<void> =>
    nft.run(`add table ${family.table} ${table}\ndelete table ${family.table} ${table}\n`);
  return {
    table,
    hasIpv6: true,
    // An engine before may have had some. A kernel without tables has none.
    start: async () => {
      await Promise.allSettled(families.map(remove));
    },
    publish: nothing,
    unpublish: nothing,
    addNetwork: nothing,
    removeNetwork: nothing,
    run: nothing,
    remove: nothing,
  };
}

function createBatcher(nft: Nft, log: Logger): (commands: string) => Promise<void> {
  let queue: { commands: string; resolve: () => void; reject: (error: unknown) => void }[] = [];
  let running = false;
  const drain = async (): Promise<void> => {
    running = true;
    while (queue.length > 0) {
      const batch = queue.slice(0, ruleBatchCommandsMax);
      queue = queue.slice(ruleBatchCommandsMax);
      try {
        await nft.run(batch.map((entry) => entry.commands).join('\n'));
        for (const entry of batch) entry.resolve();
      } catch (error) {
        if (batch.length === 1) {
          batch[0]!.reject(error);
          continue;
        }
        log.debug('a batch of rules failed; applying one by one', { error: String(error) });
        for (const entry of batch) await nft.run(entry.commands).then(entry.resolve, entry.reject);
      }
    }
    running = false;
  };
  return (commands) =>
    new Promise((resolve, reject) => {
      queue.push({ commands, resolve, reject });
      if (!running) void drain();
    });
}

type Verb = 'add' | 'delete';

/** Writes elements of the sets of one table. */
function elements(family: FamilyWords, table: string, verb: Verb): (set: string, values: string[]) => string {
  return (set, values) =>
    values.length === 0
      ? ''
      : `${verb} element ${family.table} ${table} ${set} { ${[...new Set(values)].join(', ')} }\n`;
}

/** Elements of the maps. A mapping to the same key would fail, which the port allocator rules out. */
export function planPorts(family: FamilyWords, table: string, verb: Verb, ports: PublishedPort[]): string {
  const own = ports.filter((port) => familyOf(port.ip) === family.family);
  const translated = own.filter((port) => port.hostPort !== 0 && familyOf(port.hostIp) === family.family);
  const any = translated
    .filter((port) => isAnyAddress(port.hostIp))
    .map((port) => `${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  const at = translated
    .filter((port) => !isAnyAddress(port.hostIp))
    .map((port) => `${port.hostIp} . ${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  const element = elements(family, table, verb);
  const opened = own.map((port) => `${port.ip} . ${port.protocol} . ${port.port}`);
  return element('published', any) + element('published_at', at) + element('opened', opened);
}

function planNetwork(family: FamilyWords, table: string, verb: Verb, rule: NetworkRules): string {
  const subnets = rule.subnets.filter(({ subnet }) => subnetOf(subnet).family === family.family);
  const { link } = rule;
  const element = elements(family, table, verb);
  const leaving = subnets.filter(({ masquerade }) => masquerade && !rule.internal);
  const sources = leaving.flatMap(({ subnet, source }) => (source === undefined ? [] : [`${subnet} : ${source}`]));
  const ofBridge =
    link === ''
      ? []
      : [
          element('bridges', [link]),
          element(
            'hairpinned_sources',
            subnets.map(({ subnet }) => `${subnet} . ${link}`),
          ),
          element('hairpinned', rule.together ? [`${link} . ${link}`] : []),
          element('guarded_bridges', rule.guarded.includes(family.family) ? [link] : []),
          element('routed_bridges', rule.routed.includes(family.family) ? [link] : []),
          element(
            'trusted',
            rule.trusted.map((host) => `${host} . ${link}`),
          ),
        ];
  return [
    element(
      'masqueraded',
      leaving.map(({ subnet }) => subnet),
    ),
    element('sources', sources),
    ...ofBridge,
    element('internal_links', rule.internal ? [link] : []),
  ].join('');
}

const ownChains = [
  'publish',
  'from_link',
  'published_prerouting',
  'published_output',
  'masquerading',
  'guard',
  'isolation',
];

/** All that a table holds. `prefix`: what the instance's links begin with. */
interface TablePlan {
  table: string;
  prefix: string;
  ports: PublishedPort[];
  networks: NetworkRules[];
  unmasqueraded: string[];
}

/** Sets of links, of pairs of links, of subnets, and of a port at an address, by what nft calls their types. */
function planSets(family: FamilyWords, table: string): string[] {
  const { address } = family;
  const sets: [string, string][] = [
    ...['bridges', 'guarded_bridges', 'routed_bridges', 'internal_links'].map((name): [string, string] => [
      name,
      'type ifname;',
    ]),
    ...['hairpinned', 'trusted'].map((name): [string, string] => [name, 'type ifname . ifname;']),
    ...['masqueraded', 'unmasqueraded'].map((name): [string, string] => [name, `type ${address}; flags interval;`]),
    ['hairpinned_sources', `type ${address} . ifname; flags interval;`],
    ['opened', `type ${address} . inet_proto . inet_service;`],
  ];
  const maps: [string, string][] = [
    ['published', `type inet_proto . inet_service : ${address} . inet_service;`],
    ['published_at', `type ${address} . inet_proto . inet_service : ${address} . inet_service;`],
    ['sources', `type ${address} : ${address}; flags interval;`],
  ];
  const at = `${family.table} ${table}`;
  return [
    ...maps.map(([name, type]) => `add map ${at} ${name} { ${type} }`),
    ...sets.map(([name, type]) => `add set ${at} ${name} { ${type} }`),
    ...maps.map(([name]) => `flush map ${at} ${name}`),
    ...sets.map(([name]) => `flush set ${at} ${name}`),
  ];
}

/**
 * The table as one transaction. Our links are those with the instance's prefix (Pods, further nodes) and those in
 * `bridges`, which users may name.
 *
 * - Hairpinned: a container that reaches a port published by one on its own bridge must see the answer come from where
 *   it sent the question.
 * - Loopback: a connection of the host's own to 127.0.0.1 leaves with the address of the bridge. One to `::1` cannot
 *   come back to there, so it is not translated (port-relay.ts).
 * - The guard drops what comes from a link of ours to loopback addresses (`route_localnet` is on for them), and what
 *   has a source that the host would
 *   not send back by the same link: another Pod's, another network's, the host's own, a Service's, anybody's on the
 *   internet. Neighbours of version 6 are found by packets, some without a source.
 * - Isolation: only published ports lead to a container from outside its bridge, be it another network, a Pod or
 *   another machine, unless its network is unprotected in this family (as docker 29 has it). Nothing leads into an
 *   internal network, or out of one.
 */
export function planTable(family: FamilyWords, { table, prefix, ports, networks, unmasqueraded }: TablePlan): string {
  const { table: ip, loopback } = family;
  const isV6 = family.family === 'IPv6';
  const at = `${ip} ${table}`;
  const chains = [
    `add chain ${at} publish`,
    `add chain ${at} from_link`,
    `add chain ${at} published_prerouting { type nat hook prerouting priority dstnat; policy accept; }`,
    `add chain ${at} published_output { type nat hook output priority -100; policy accept; }`,
    `add chain ${at} masquerading { type nat hook postrouting priority srcnat; policy accept; }`,
    `add chain ${at} guard { type filter hook prerouting priority raw; policy accept; }`,
    `add chain ${at} isolation { type filter hook forward priority filter; policy accept; }`,
    ...ownChains.map((name) => `flush chain ${at} ${name}`),
  ];
  const local = `meta l4proto { tcp, udp, sctp } fib daddr type local`;
  const elsewhere = `oifname != "${prefix}*" oifname != @bridges`;
  const neighbours: [string, string][] = isV6
    ? [['from_link', 'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept']]
    : [];
  const rules: [string, string][] = [
    ['publish', `dnat ${ip} addr . port to ${ip} daddr . meta l4proto . th dport map @published_at`],
    ['publish', `dnat ${ip} addr . port to meta l4proto . th dport map @published`],
    ['published_prerouting', `${local} jump publish`],
    ['published_output', `${isV6 ? `ip6 daddr != ${loopback} ` : ''}${local} jump publish`],
    ['masquerading', `${ip} saddr ${loopback} oifname "${prefix}*" masquerade`],
    ['masquerading', `${ip} saddr ${loopback} oifname @bridges masquerade`],
    // At this hook the way in is no longer known: the subnet of the source stands for it.
    ['masquerading', `ct status dnat ${ip} saddr . oifname @hairpinned_sources masquerade`],
    ['masquerading', `${ip} daddr @unmasqueraded return`],
    ['masquerading', `${elsewhere} snat ${ip} to ${ip} saddr map @sources`],
    ['masquerading', `${ip} saddr @masqueraded ${elsewhere} masquerade`],
    ['guard', `iifname "${prefix}*" jump from_link`],
    ['guard', 'iifname @bridges jump from_link'],
    ['from_link', `${ip} daddr ${loopback} drop`],
    ...neighbours,
    // A host with br_netfilter sees what stays on a bridge, too, which may have no address, and so no route.
    ['from_link', `${ip} saddr . iifname @hairpinned_sources ${ip} daddr . iifname @hairpinned_sources accept`],
    ['from_link', 'fib saddr . iif oif missing drop'],
    ['isolation', 'ct state established,related accept'],
    ['isolation', 'iifname . oifname @hairpinned accept'],
    // Also from one internal network to another, whatever their modes.
    ['isolation', 'iifname @internal_links drop'],
    ['isolation', 'oifname @internal_links drop'],
    ['isolation', 'ct status dnat accept'],
    ['isolation', `iifname . oifname @trusted ${ip} daddr . meta l4proto . th dport @opened accept`],
    ['isolation', `oifname @routed_bridges ${ip} daddr . meta l4proto . th dport @opened accept`],
    ['isolation', `oifname @routed_bridges meta l4proto ${family.icmp} accept`],
    ['isolation', 'oifname @guarded_bridges drop'],
  ];
  const text = [
    `add table ${at}`,
    ...planSets(family, table),
    ...chains,
    ...rules.map(([chain, rule]) => `add rule ${at} ${chain} ${rule}`),
  ].join('\n');
  const kept = elements(
    family,
    table,
    'add',
  )(
    'unmasqueraded',
    unmasqueraded.filter((subnet) => subnetOf(subnet).family === family.family),
  );
  return `${text}\n${kept}${planPorts(family, table, 'add', ports)}${networks.map((rule) => planNetwork(family, table, 'add', rule)).join('')}`;
}
