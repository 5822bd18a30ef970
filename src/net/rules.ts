/**
 * The rule writer: one nftables table (`ip tiphys_ID`) per instance. Published ports and masquerading are kept here;
 * other layers add chains and maps of their own with `run`, in the same table, and everything goes with the table.
 *
 * Changes that arrive while the kernel is busy are gathered into one transaction. A transaction that fails is run again
 * command by command, so that one bad change does not take the others with it. After a restart of the platform the
 * table still stands and works; `start` makes it anew in one transaction with the elements given, so that no packet
 * sees a gap.
 */
import type { Logger } from '#observe/log.ts';
import type { Nft } from '#os/nft.ts';
import { ruleBatchCommandsMax } from './limits.ts';
import { linkPrefix, tableName } from './kernel-names.ts';

export interface PublishedPort {
  hostIp: string;
  hostPort: number;
  protocol: 'tcp' | 'udp' | 'sctp';
  ip: string;
  port: number;
}

export interface RuleWriter {
  readonly table: string;
  /** Makes the table's own chains with these ports; chains of others are left alone. */
  start(ports: PublishedPort[], networks: NetworkRules[], unmasqueraded: string[]): Promise<void>;
  publish(ports: PublishedPort[]): Promise<void>;
  unpublish(ports: PublishedPort[]): Promise<void>;
  addNetwork(rule: NetworkRules): Promise<void>;
  removeNetwork(rule: NetworkRules): Promise<void>;
  /** Commands in nft's language, e.g. `add element ip ${table} services { … }`. One transaction, or part of one. */
  run(commands: string): Promise<void>;
  /** Takes the whole table away. */
  remove(): Promise<void>;
}

/**
 * What the table is told of a network. Packets from `subnet` that leave by another link than `link` get the host's
 * address where `masquerade` says so.
 */
export interface NetworkRules {
  /** The bridge, whatever its name; empty for Pods, which have a link each, known by the instance's prefix. */
  link: string;
  subnet: string;
  masquerade: boolean;
  /** Nothing enters or leaves. */
  internal: boolean;
  /** Containers of one bridge may talk to each other (`enable_icc`). */
  together: boolean;
  /** Only published ports lead in from outside; else every port does, but from other networks of the engine. */
  guarded: boolean;
}

export function createRuleWriter(options: { nft: Nft; instanceId: string; log: Logger }): RuleWriter {
  const table = tableName(options.instanceId);
  const apply = createBatcher(options.nft, options.log);
  return {
    table,
    start: (ports, networks, unmasqueraded) =>
      apply(planTable({ table, prefix: linkPrefix(options.instanceId), ports, networks, unmasqueraded })),
    publish: (ports) => (ports.length === 0 ? Promise.resolve() : apply(planPorts(table, 'add', ports))),
    // A port that was never there must not fail the others: `destroy` is newer than some hosts' nft, so add first.
    unpublish: (ports) =>
      ports.length === 0
        ? Promise.resolve()
        : apply(planPorts(table, 'add', ports) + planPorts(table, 'delete', ports)),
    addNetwork: (rule) => apply(planNetwork(table, 'add', rule)),
    removeNetwork: (rule) => apply(planNetwork(table, 'add', rule) + planNetwork(table, 'delete', rule)),
    run: apply,
    remove: () => apply(`add table ip ${table}\ndelete table ip ${table}\n`),
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

const anyAddress = new Set(['', '0.0.0.0']);

/** Elements of the maps. A mapping to the same key would fail, which the port allocator rules out. */
export function planPorts(table: string, verb: 'add' | 'delete', ports: PublishedPort[]): string {
  const any = ports
    .filter((port) => anyAddress.has(port.hostIp))
    .map((port) => `${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  const at = ports
    .filter((port) => !anyAddress.has(port.hostIp))
    .map((port) => `${port.hostIp} . ${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  return (
    (any.length > 0 ? `${verb} element ip ${table} published { ${any.join(', ')} }\n` : '') +
    (at.length > 0 ? `${verb} element ip ${table} published_at { ${at.join(', ')} }\n` : '')
  );
}

function planNetwork(table: string, verb: 'add' | 'delete', rule: NetworkRules): string {
  const out: string[] = [];
  if (rule.masquerade && !rule.internal) out.push(`${verb} element ip ${table} masqueraded { ${rule.subnet} }`);
  if (rule.link !== '') {
    out.push(
      `${verb} element ip ${table} bridges { ${rule.link} }`,
      `${verb} element ip ${table} hairpinned_sources { ${rule.subnet} . ${rule.link} }`,
    );
    if (rule.together) out.push(`${verb} element ip ${table} hairpinned { ${rule.link} . ${rule.link} }`);
    if (rule.guarded) out.push(`${verb} element ip ${table} guarded_bridges { ${rule.link} }`);
  }
  if (rule.internal) out.push(`${verb} element ip ${table} internal_links { ${rule.link} }`);
  return `${out.join('\n')}\n`;
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

/**
 * The table as one transaction. Our links are those with the instance's prefix (Pods, further nodes) and those in
 * `bridges`, which users may name.
 *
 * - Hairpinned: a container that reaches a port published by one on its own bridge must see the answer come from where
 *   it sent the question.
 * - Loopback: a connection of the host's own to 127.0.0.1 leaves with the address of the bridge.
 * - The guard drops what comes from a link of ours to loopback addresses (`route_localnet` is on for them), and what
 *   has a source that the host would
 *   not send back by the same link: another Pod's, another network's, the host's own, a Service's, anybody's on the
 *   internet.
 * - Isolation: only published ports lead to a container from outside its bridge, be it another network, a Pod or
 *   another machine (as docker 28 has it).
 */
export function planTable({ table, prefix, ports, networks, unmasqueraded }: TablePlan): string {
  const links = ['bridges', 'guarded_bridges', 'internal_links'];
  const maps = [
    `add table ip ${table}`,
    `add map ip ${table} published { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `add map ip ${table} published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `add set ip ${table} masqueraded { type ipv4_addr; flags interval; }`,
    `add set ip ${table} unmasqueraded { type ipv4_addr; flags interval; }`,
    `add set ip ${table} hairpinned { type ifname . ifname; }`,
    `add set ip ${table} hairpinned_sources { type ipv4_addr . ifname; flags interval; }`,
    ...links.map((name) => `add set ip ${table} ${name} { type ifname; }`),
    ...['published', 'published_at'].map((name) => `flush map ip ${table} ${name}`),
    ...['masqueraded', 'unmasqueraded', 'hairpinned', 'hairpinned_sources', ...links].map(
      (name) => `flush set ip ${table} ${name}`,
    ),
  ];
  const chains = [
    `add chain ip ${table} publish`,
    `add chain ip ${table} from_link`,
    `add chain ip ${table} published_prerouting { type nat hook prerouting priority dstnat; policy accept; }`,
    `add chain ip ${table} published_output { type nat hook output priority -100; policy accept; }`,
    `add chain ip ${table} masquerading { type nat hook postrouting priority srcnat; policy accept; }`,
    `add chain ip ${table} guard { type filter hook prerouting priority raw; policy accept; }`,
    `add chain ip ${table} isolation { type filter hook forward priority filter; policy accept; }`,
    ...ownChains.map((name) => `flush chain ip ${table} ${name}`),
  ];
  const rules: [string, string][] = [
    ['publish', 'dnat ip addr . port to ip daddr . meta l4proto . th dport map @published_at'],
    ['publish', 'dnat ip addr . port to meta l4proto . th dport map @published'],
    ['published_prerouting', 'meta l4proto { tcp, udp, sctp } fib daddr type local jump publish'],
    ['published_output', 'meta l4proto { tcp, udp, sctp } fib daddr type local jump publish'],
    ['masquerading', `ip saddr 127.0.0.0/8 oifname "${prefix}*" masquerade`],
    ['masquerading', 'ip saddr 127.0.0.0/8 oifname @bridges masquerade'],
    // At this hook the way in is no longer known: the subnet of the source stands for it.
    ['masquerading', 'ct status dnat ip saddr . oifname @hairpinned_sources masquerade'],
    ['masquerading', 'ip daddr @unmasqueraded return'],
    ['masquerading', `ip saddr @masqueraded oifname != "${prefix}*" oifname != @bridges masquerade`],
    ['guard', `iifname "${prefix}*" jump from_link`],
    ['guard', 'iifname @bridges jump from_link'],
    ['from_link', 'ip daddr 127.0.0.0/8 drop'],
    ['from_link', 'fib saddr . iif oif missing drop'],
    ['isolation', 'ct state established,related accept'],
    ['isolation', 'iifname . oifname @hairpinned accept'],
    ['isolation', 'iifname @internal_links oifname != @internal_links drop'],
    ['isolation', 'iifname != @internal_links oifname @internal_links drop'],
    ['isolation', 'ct status dnat accept'],
    ['isolation', 'oifname @guarded_bridges drop'],
    ['isolation', `oifname @bridges iifname "${prefix}*" drop`],
    ['isolation', 'oifname @bridges iifname @bridges drop'],
  ];
  const text = [...maps, ...chains, ...rules.map(([chain, rule]) => `add rule ip ${table} ${chain} ${rule}`)].join(
    '\n',
  );
  const kept =
    unmasqueraded.length === 0 ? '' : `add element ip ${table} unmasqueraded { ${unmasqueraded.join(', ')} }\n`;
  return `${text}\n${kept}${planPorts(table, 'add', ports)}${networks.map((rule) => planNetwork(table, 'add', rule)).join('')}`;
}
