/**
 * The rule writer: one nftables table (`ip tiphys_ID`) per instance. Published ports and masquerading are kept here; other layers add chains
 * and maps of their own with `run`, in the same table, and everything goes with the table.
 *
 * Changes that arrive while the kernel is busy are gathered into one transaction. A transaction that fails is run again command by command,
 * so that one bad change does not take the others with it. After a restart of the platform the table still stands and works; `start` makes
 * it anew in one transaction with the elements given, so that no packet sees a gap.
 */
import type { Logger } from '#observe/log.ts';
import type { Nft } from '#os/nft.ts';
import { ruleBatchCommandsMax } from './limits.ts';
import { linkPrefix, tableName } from './names.ts';

export interface PublishedPort { hostIp: string; hostPort: number; protocol: 'tcp' | 'udp' | 'sctp'; ip: string; port: number }

export interface RuleWriter {
  readonly table: string;
  /** Makes the table's own chains with these ports; chains of others are left alone. */
  start(ports: PublishedPort[], masquerades: Masquerade[], unmasqueraded: string[]): Promise<void>;
  publish(ports: PublishedPort[]): Promise<void>;
  unpublish(ports: PublishedPort[]): Promise<void>;
  addMasquerade(rule: Masquerade): Promise<void>;
  removeMasquerade(rule: Masquerade): Promise<void>;
  /** Commands in nft's language, e.g. `add element ip ${table} services { … }`. One transaction, or part of one. */
  run(commands: string): Promise<void>;
  /** Takes the whole table away. */
  remove(): Promise<void>;
}

/** Packets from `subnet` that leave by another link than `link` get the host's address; nothing enters or leaves an `internal` one. */
export interface Masquerade { /** Empty for Pods, which have a link each. */ link: string; subnet: string; masquerade: boolean; internal: boolean; isolated: boolean }

export function createRuleWriter(options: { nft: Nft; instanceId: string; log: Logger }): RuleWriter {
  const table = tableName(options.instanceId);
  const apply = createBatcher(options.nft, options.log);
  return {
    table,
    start: (ports, masquerades, unmasqueraded) => apply(planTable(table, linkPrefix(options.instanceId), ports, masquerades, unmasqueraded)),
    publish: (ports) => (ports.length === 0 ? Promise.resolve() : apply(planPorts(table, 'add', ports))),
    // A port that was never there must not fail the others: `destroy` is newer than some hosts' nft, so add first.
    unpublish: (ports) => (ports.length === 0 ? Promise.resolve() : apply(planPorts(table, 'add', ports) + planPorts(table, 'delete', ports))),
    addMasquerade: (rule) => apply(planMasquerade(table, 'add', rule)),
    removeMasquerade: (rule) => apply(planMasquerade(table, 'add', rule) + planMasquerade(table, 'delete', rule)),
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
        if (batch.length === 1) { batch[0]!.reject(error); continue; }
        log.debug('a batch of rules failed; applying one by one', { error: String(error) });
        for (const entry of batch) await nft.run(entry.commands).then(entry.resolve, entry.reject);
      }
    }
    running = false;
  };
  return (commands) => new Promise((resolve, reject) => {
    queue.push({ commands, resolve, reject });
    if (!running) void drain();
  });
}

const anyAddress = new Set(['', '0.0.0.0']);

/** Elements of the maps. A mapping to the same key would fail, which the port allocator rules out. */
export function planPorts(table: string, verb: 'add' | 'delete', ports: PublishedPort[]): string {
  const any = ports.filter((port) => anyAddress.has(port.hostIp)).map((port) => `${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  const at = ports.filter((port) => !anyAddress.has(port.hostIp)).map((port) => `${port.hostIp} . ${port.protocol} . ${port.hostPort} : ${port.ip} . ${port.port}`);
  return (any.length > 0 ? `${verb} element ip ${table} published { ${any.join(', ')} }\n` : '') + (at.length > 0 ? `${verb} element ip ${table} published_at { ${at.join(', ')} }\n` : '');
}

export function planMasquerade(table: string, verb: 'add' | 'delete', rule: Masquerade): string {
  const out: string[] = [];
  if (rule.masquerade && !rule.internal) out.push(`${verb} element ip ${table} masqueraded { ${rule.subnet} }`);
  if (rule.link !== '') out.push(`${verb} element ip ${table} hairpinned { ${rule.link} . ${rule.link} }`, `${verb} element ip ${table} hairpinned_sources { ${rule.subnet} . ${rule.link} }`);
  if (rule.internal) out.push(`${verb} element ip ${table} internal_links { ${rule.link} }`);
  if (rule.isolated) out.push(`${verb} element ip ${table} isolated_links { ${rule.link} }`);
  return `${out.join('\n')}\n`;
}

const ownChains = ['publish', 'published_prerouting', 'published_output', 'masquerading', 'guard', 'isolation'];

/**
 * The table as one transaction. Hairpinned: a container that reaches a port published by one on its own bridge must see the answer come from
 * where it sent the question. Loopback: a connection of the host's own to 127.0.0.1 leaves with the address of the bridge. The guard drops
 * what claims loopback addresses from outside, since `route_localnet` is on for our links.
 */
export function planTable(table: string, prefix: string, ports: PublishedPort[], masquerades: Masquerade[], unmasqueraded: string[]): string {
  const maps = [
    `add table ip ${table}`,
    `add map ip ${table} published { type inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `add map ip ${table} published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }`,
    `add set ip ${table} masqueraded { type ipv4_addr; flags interval; }`,
    `add set ip ${table} unmasqueraded { type ipv4_addr; flags interval; }`,
    `add set ip ${table} hairpinned { type ifname . ifname; }`,
    `add set ip ${table} hairpinned_sources { type ipv4_addr . ifname; flags interval; }`,
    `add set ip ${table} internal_links { type ifname; }`,
    `add set ip ${table} isolated_links { type ifname; }`,
    ...['published', 'published_at'].map((name) => `flush map ip ${table} ${name}`),
    ...['masqueraded', 'unmasqueraded', 'hairpinned', 'hairpinned_sources', 'internal_links', 'isolated_links'].map((name) => `flush set ip ${table} ${name}`),
  ];
  const chains = [
    `add chain ip ${table} publish`,
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
    // At this hook the way in is no longer known: the subnet of the source stands for it.
    ['masquerading', 'ct status dnat ip saddr . oifname @hairpinned_sources masquerade'],
    ['masquerading', 'ip daddr @unmasqueraded return'],
    ['masquerading', `ip saddr @masqueraded oifname != "${prefix}*" masquerade`],
    ['guard', `iifname "${prefix}*" ip daddr 127.0.0.0/8 drop`],
    ['isolation', 'ct state established,related accept'],
    ['isolation', 'iifname . oifname @hairpinned accept'],
    ['isolation', 'iifname @internal_links oifname != @internal_links drop'],
    ['isolation', 'iifname != @internal_links oifname @internal_links drop'],
    ['isolation', 'ct status dnat accept'],
    ['isolation', 'iifname @isolated_links oifname @isolated_links drop'],
  ];
  const text = [...maps, ...chains, ...rules.map(([chain, rule]) => `add rule ip ${table} ${chain} ${rule}`)].join('\n');
  const kept = unmasqueraded.length === 0 ? '' : `add element ip ${table} unmasqueraded { ${unmasqueraded.join(', ')} }\n`;
  return `${text}\n${kept}${planPorts(table, 'add', ports)}${masquerades.map((rule) => planMasquerade(table, 'add', rule)).join('')}`;
}
