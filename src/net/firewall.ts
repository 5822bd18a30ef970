/**
 * The host's own firewall, where it would drop what containers and Pods send or are sent. An accept in a table of our
 * own does not override a drop in another, so a way has to be made where the drop is:
 *
 *   iptables, ip6tables (dockerd's, ufw's, or by hand)
 *             accepts for our links in FORWARD, and in INPUT for what Pods ask of this node. They stand behind all
 *             rules of the user's and before what drops the rest, so that a DROP or REJECT of the user's, also in
 *             DOCKER-USER, holds.
 *   firewalld our links are in its zone `trusted`; what users refuse by policies and rich rules holds before zones.
 *   nothing                                   nothing but the chain DOCKER-USER, which people's scripts write to.
 *
 * Rules are found again by their comment, `tiphys_ID`. A firewall that is made anew meanwhile is covered when a node
 * process starts next (`tiphys up --replace`).
 */
import type { Logger } from '#observe/log.ts';
import { listDirectory, readIfAllowed } from '#os/files.ts';
import type { Output, Processes } from '#os/processes.ts';
import { linkPrefix } from './kernel-names.ts';

interface Variant {
  program: string;
  family: 'ip' | 'ip6';
  legacy: boolean;
}
const variants: readonly Variant[] = [
  { program: 'iptables-nft', family: 'ip', legacy: false },
  { program: 'ip6tables-nft', family: 'ip6', legacy: false },
  { program: 'iptables-legacy', family: 'ip', legacy: true },
  { program: 'ip6tables-legacy', family: 'ip6', legacy: true },
];
const userChain = 'DOCKER-USER';
/** On the jump to DOCKER-USER, which instances share. */
const sharedComment = 'tiphys';
/** Chains that jump to chains: beyond this depth a drop is not looked for. */
const chainDepthMax = 4;

/** What Pods reach on the node itself: the API server, DNS, the registry, the kubelet. */
export interface NodeServices {
  addresses: string[];
  tcpPorts: number[];
  udpPorts: number[];
  /** What Pods and nodes of other machines reach, who come by the host's own link; absent: there are none. */
  fromMachines?: { podRange: string; tcpPorts: number[] };
}

export interface FirewallOptions {
  processes: Processes;
  instanceId: string;
  log: Logger;
  /** Bridges that a user named: all others have the instance's prefix. */
  links: string[];
  /** Leaves the prefix's own rules alone. */
  onlyLinks?: boolean;
  /** Names of all links: absent, those of this network namespace. */
  listLinks?: () => string[];
}

type Rules = string[][];

function commentOf(instanceId: string): string[] {
  return ['-m', 'comment', '--comment', `tiphys_${instanceId}`];
}

function forwardRules(options: FirewallOptions): Rules {
  const prefix = linkPrefix(options.instanceId);
  const links = [
    ...(options.onlyLinks === true ? [] : [`${prefix}+`]),
    ...options.links.filter((link) => !link.startsWith(prefix)),
  ];
  return links.flatMap((link) =>
    ['-i', '-o'].map((side) => [side, link, ...commentOf(options.instanceId), '-j', 'ACCEPT']),
  );
}

function inputRules(instanceId: string, services: NodeServices): Rules {
  const rule = (match: string[], protocol: string, ports: number[]): string[] => [
    ...match,
    '-p',
    protocol,
    '-m',
    'multiport',
    '--dports',
    ports.join(','),
    ...commentOf(instanceId),
    '-j',
    'ACCEPT',
  ];
  const here = ['-i', `${linkPrefix(instanceId)}+`];
  const { fromMachines } = services;
  // In the order in which iptables prints them, by which they are found again.
  return services.addresses.flatMap((address) => [
    rule(['-d', `${address}/32`, ...here], 'tcp', services.tcpPorts),
    rule(['-d', `${address}/32`, ...here], 'udp', services.udpPorts),
    ...(fromMachines === undefined
      ? []
      : [rule(['-s', fromMachines.podRange, '-d', `${address}/32`], 'tcp', fromMachines.tcpPorts)]),
  ]);
}

/** Chains of `iptables -S`: policies and rules in order, each rule without its `-A CHAIN`. */
export interface Listing {
  policies: Map<string, string>;
  chains: Map<string, string[]>;
}

function parseListing(text: string): Listing {
  const listing: Listing = { policies: new Map(), chains: new Map() };
  for (const line of text.split('\n')) {
    const [verb, chain = '', ...rest] = line.split(' ');
    if (verb === '-P') listing.policies.set(chain, rest[0] ?? '');
    if (verb === '-P' || verb === '-N') listing.chains.set(chain, []);
    if (verb === '-A') listing.chains.get(chain)?.push(rest.join(' '));
  }
  return listing;
}

/** True for a rule that lets nothing past it: no condition, and a target that drops, or a chain that ends so. */
function isBarrier(listing: Listing, rule: string, depth = 0): boolean {
  const target = /^(?:-m comment --comment (?:"[^"]*"|\S+) )?-j (\S+)/.exec(rule)?.[1];
  if (target === undefined) return false;
  if (target === 'DROP' || target === 'REJECT') return true;
  return (
    depth < chainDepthMax && (listing.chains.get(target) ?? []).some((inner) => isBarrier(listing, inner, depth + 1))
  );
}

/**
 * The commands that put `rules` behind the user's and before whatever drops the rest; none where nothing is dropped, or
 * all stand right. What stands wrong is taken away after the new ones stand, so that no packet meets a gap.
 */
export function planCover(text: string, chain: string, rules: Rules, instanceId: string): string[][] {
  const listing = parseListing(text);
  const present = listing.chains.get(chain) ?? [];
  const isOwn = (rule: string): boolean => new RegExp(`--comment "?tiphys_${instanceId}"? `).test(rule);
  const barrier = present.findIndex((rule) => isBarrier(listing, rule));
  if (barrier < 0 && (listing.policies.get(chain) ?? 'ACCEPT') === 'ACCEPT') return [];
  const end = barrier < 0 ? present.length : barrier;
  const lastForeign = present.slice(0, end).findLastIndex((rule) => !isOwn(rule));
  const missing = rules.filter((rule) => !present.slice(lastForeign + 1, end).includes(rule.join(' ')));
  const misplaced = present.flatMap((rule, index) =>
    isOwn(rule) && index <= lastForeign && rules.some((wanted) => wanted.join(' ') === rule) ? [rule] : [],
  );
  return [
    ...missing.map((rule) => (barrier < 0 ? ['-A', chain, ...rule] : ['-I', chain, String(barrier + 1), ...rule])),
    // By specification the first one goes, which is one that stands before the new.
    ...misplaced.map((rule) => ['-D', chain, ...rule.split(' ')]),
  ];
}

/** Takes away what is for links of networks that are no more: a death came between the two. */
function planStale(text: string, rules: Rules, instanceId: string): string[][] {
  const wanted = rules.map((rule) => rule.join(' '));
  return (parseListing(text).chains.get('FORWARD') ?? [])
    .map((rule) => rule.replaceAll('"', ''))
    .filter((rule) => rule.includes(` --comment tiphys_${instanceId} `) && !wanted.includes(rule))
    .map((rule) => ['-D', 'FORWARD', ...rule.split(' ')]);
}

function jumpRule(): string[] {
  return ['-m', 'comment', '--comment', sharedComment, '-j', userChain];
}

function planUserChain(text: string): string[][] {
  const { chains } = parseListing(text);
  const jumps = (chains.get('FORWARD') ?? []).some((rule) => rule.endsWith(`-j ${userChain}`));
  return [
    ...(chains.has(userChain) ? [] : [['-N', userChain]]),
    ...(jumps ? [] : [['-I', 'FORWARD', '1', ...jumpRule()]]),
  ];
}

/** Without root of the host the list may not be read; nobody else has rules in the namespace of such an engine. */
function hasLegacyFilter(family: string): boolean {
  return readIfAllowed(`/proc/net/${family}_tables_names`)?.includes('filter') ?? false;
}

/** The variants that are installed; asking the older kind loads its modules, so only where it is in use already. */
async function eachVariant(
  options: { processes: Processes },
  run: (execute: (args: string[]) => Promise<Output>, listing: string, variant: Variant) => Promise<void>,
): Promise<void> {
  for (const variant of variants) {
    const path = options.processes.find(variant.program);
    if (path === undefined || (variant.legacy && !hasLegacyFilter(variant.family))) continue;
    const execute = (args: string[]): Promise<Output> => options.processes.run(path, ['-w', ...args]);
    const listed = await execute(['-S']);
    if (listed.code === 0) await run(execute, listed.stdout, variant);
  }
}

async function applyAll(
  options: { log: Logger },
  execute: (args: string[]) => Promise<Output>,
  commands: string[][],
): Promise<void> {
  for (const command of commands) {
    const done = await execute(command);
    if (done.code !== 0)
      options.log.warn("the host's firewall may drop packets of containers", {
        command: command.join(' '),
        error: done.stderr.trim(),
      });
  }
}

/** The way for what is forwarded: containers, Pods, published ports. */
export async function coverForward(options: FirewallOptions): Promise<void> {
  await Promise.all([
    eachVariant(options, (execute, listing) =>
      applyAll(options, execute, [
        ...planUserChain(listing),
        ...planCover(listing, 'FORWARD', forwardRules(options), options.instanceId),
        ...(options.onlyLinks === true ? [] : planStale(listing, forwardRules(options), options.instanceId)),
      ]),
    ),
    trustLinks(options, true),
  ]);
}

/** The way for what Pods ask of the node itself. */
export async function coverInput(
  options: Omit<FirewallOptions, 'links' | 'onlyLinks'>,
  services: NodeServices,
): Promise<void> {
  await eachVariant(options, async (execute, listing, { family }) => {
    // Pods and what they ask of the node have addresses of version 4.
    if (family === 'ip6') return;
    await applyAll(
      options,
      execute,
      planCover(listing, 'INPUT', inputRules(options.instanceId, services), options.instanceId),
    );
  });
}

/** Takes away all of the instance's, or only what was for `links`. */
export async function uncoverForward(options: FirewallOptions): Promise<void> {
  // An older version's rules have no comment.
  const isOwn = (rule: string): boolean =>
    rule.includes(`tiphys_${options.instanceId}`) || rule.includes(` ${linkPrefix(options.instanceId)}+ `);
  const concerns = (rule: string): boolean =>
    isOwn(rule) && (options.onlyLinks !== true || options.links.some((link) => ` ${rule} `.includes(` ${link} `)));
  await Promise.all([
    eachVariant(options, async (execute, text, { family, legacy }) => {
      const { chains } = parseListing(text);
      const own = [...chains].flatMap(([chain, rules]) =>
        rules.filter(concerns).map((rule) => ['-D', chain, ...rule.replaceAll('"', '').split(' ')]),
      );
      await applyAll(options, execute, own);
      const isLast =
        options.onlyLinks !== true &&
        !(options.listLinks ?? (() => listDirectory('/sys/class/net')))().some(
          (name) => name.startsWith('tph') && !name.startsWith(linkPrefix(options.instanceId)),
        );
      const isOurs = (chains.get('FORWARD') ?? []).includes(jumpRule().join(' '));
      // With rules of the user's the chain is the user's.
      if (!isLast || !isOurs || !(chains.get(userChain) ?? []).every((rule) => rule === '-j RETURN')) return;
      await applyAll(options, execute, [
        ['-D', 'FORWARD', ...jumpRule()],
        ['-F', userChain],
        ['-X', userChain],
      ]);
      // The first command of iptables-nft makes the whole table; empty, it is as none.
      const isEmpty = (await execute(['-S'])).stdout
        .trim()
        .split('\n')
        .every((line) => /^-P \S+ ACCEPT$/.test(line));
      if (isEmpty && !legacy) await options.processes.run('nft', ['delete', 'table', family, 'filter']);
    }),
    trustLinks(options, false),
  ]);
}

/** firewalld: the links' place is the zone `trusted`, now and after a reload. */
async function trustLinks(options: FirewallOptions, present: boolean): Promise<void> {
  const program = options.processes.find('firewall-cmd');
  if (program === undefined || (await options.processes.run(program, ['--state'])).code !== 0) return;
  const prefix = linkPrefix(options.instanceId);
  for (const link of [
    ...(options.onlyLinks === true ? [] : [`${prefix}+`]),
    ...options.links.filter((name) => !name.startsWith(prefix)),
  ]) {
    for (const scope of [[], ['--permanent']]) {
      const isThere =
        (await options.processes.run(program, [...scope, '--zone=trusted', `--query-interface=${link}`])).code === 0;
      if (isThere === present) continue;
      const done = await options.processes.run(program, [
        ...scope,
        '--zone=trusted',
        `--${present ? 'add' : 'remove'}-interface=${link}`,
      ]);
      if (done.code !== 0)
        options.log.warn('firewalld may drop packets of containers', { link, error: done.stderr.trim() });
    }
  }
}
