/**
 * The files that the engine puts into /etc of a container: hosts, hostname, resolv.conf. Pure texts, and where they
 * lie.
 */
import { writeFileSync } from 'node:fs';
import { isLoopback } from '#base/ip.ts';
import { readIfExists } from '#os/files.ts';
import type { ContainerSpec, Mount } from './engine.ts';

const loopback = [
  '127.0.0.1\tlocalhost',
  '::1\tlocalhost ip6-localhost ip6-loopback',
  'fe00::\tip6-localnet',
  'ff00::\tip6-mcastprefix',
  'ff02::1\tip6-allnodes',
  'ff02::2\tip6-allrouters',
];

export function hostsFile(options: {
  entries: { ip: string; names: string[] }[];
  extra: { ip: string; name: string }[];
}): string {
  const own = options.entries.map((entry) => `${entry.ip}\t${entry.names.join(' ')}`);
  const extra = options.extra.map((entry) => `${entry.ip}\t${entry.name}`);
  return `${[...loopback, ...extra, ...own].join('\n')}\n`;
}

/**
 * Name servers of the host that a container can reach; when all are on loopback, the one that systemd-resolved forwards
 * to, else none.
 */
export function readHostResolver(): { servers: string[]; search: string[]; options: string[] } {
  const parsed = parseResolver(readIfExists('/etc/resolv.conf') ?? '');
  const reachable = parsed.servers.filter((server) => !isLoopback(server));
  if (reachable.length > 0) return { ...parsed, servers: reachable };
  const behind = parseResolver(readIfExists('/run/systemd/resolve/resolv.conf') ?? '').servers.filter(
    (server) => !isLoopback(server),
  );
  return { ...parsed, servers: behind };
}

function parseResolver(text: string): { servers: string[]; search: string[]; options: string[] } {
  const out = { servers: [] as string[], search: [] as string[], options: [] as string[] };
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === 'nameserver' && rest[0] !== undefined) out.servers.push(rest[0]);
    else if (word === 'search' || word === 'domain') out.search = rest;
    else if (word === 'options') out.options.push(...rest);
  }
  return out;
}

export function resolverFile(resolver: { servers: string[]; search: string[]; options: string[] }): string {
  const lines = resolver.servers.map((server) => `nameserver ${server}`);
  const search = resolver.search.filter((domain) => domain !== '.');
  if (search.length > 0) lines.push(`search ${search.join(' ')}`);
  if (resolver.options.length > 0) lines.push(`options ${resolver.options.join(' ')}`);
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** Writes the three files and says how they are mounted; a target that the user mounts himself is left out. */
export function writeEtcFiles(
  directory: string,
  spec: ContainerSpec,
  files: { hosts: string; hostname: string; resolvConf: string },
): Mount[] {
  const given = spec.etcFiles ?? {};
  const taken = new Set(spec.mounts.map((mount) => mount.target));
  const wanted: [string, string, string | undefined, string][] = [
    ['/etc/resolv.conf', 'resolv.conf', given.resolvConf, files.resolvConf],
    ['/etc/hostname', 'hostname', given.hostname, files.hostname],
    ['/etc/hosts', 'hosts', given.hosts, files.hosts],
  ];
  return wanted.flatMap(([target, name, givenPath, text]) => {
    if (taken.has(target)) return [];
    const source = givenPath ?? `${directory}/${name}`;
    if (givenPath === undefined) writeFileSync(source, text, { mode: 0o644 });
    return [
      {
        type: 'bind' as const,
        source,
        target,
        readOnly: spec.security.readOnlyRoot === true,
        propagation: 'rprivate' as const,
      },
    ];
  });
}
