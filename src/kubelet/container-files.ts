/**
 * What lies on the node's disk for one start of a container: mounts with their subPaths, termination message, log, the
 * Pod's hosts and resolv.conf, its seccomp profile.
 * Rules: Kubernetes documentation, "Using subPath", "DNS for Services and Pods", "Restrict a Container's Syscalls with
 * seccomp".
 */
import type { Pod } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { imageVolume } from './containers.ts';
import { chmod, lstat, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { Mount } from '#engine/engine.ts';
import { podHostname, setting, shortHostname } from './container-spec.ts';
import type { ContainerFiles, ContainerFilesInput, DnsSettings } from './doors.ts';
import { expandVariables } from './env.ts';
import { WaitingError } from './images.ts';
import { containerLogPath, podDir, seccompDir, terminationMessagePath, type KubeletPaths } from './pod-paths.ts';

export type ContainerFilesOptions = ContainerFilesInput & { paths: KubeletPaths; dns: DnsSettings };

export async function prepareContainerFiles(input: ContainerFilesOptions): Promise<ContainerFiles> {
  const { pod, container, paths } = input;
  const seccomp = await seccompOf(pod, container, paths);
  const logPath = containerLogPath(paths, pod, container.name, input.restartCount);
  await mkdir(dirname(logPath), { recursive: true });
  return { seccomp, logPath, mounts: await containerMounts(input), etcFiles: await etcFiles(input) };
}

/**
 * A profile of type `Localhost` is a file of docker's format below the node's seccomp directory; without it the
 * container is not made.
 */
async function seccompOf(pod: Pod, container: AnyContainer, paths: KubeletPaths): Promise<string> {
  const profile = setting(pod, container, 'seccompProfile');
  if (container.securityContext?.privileged === true || profile?.type === 'Unconfined') return 'unconfined';
  if (profile?.type !== 'Localhost') return 'default';
  const path: string = profile.localhostProfile ?? '';
  if (path === '' || path.startsWith('/') || path.split('/').includes('..'))
    throw new ApiError(
      'BadRequest',
      `invalid localhost seccomp profile ${JSON.stringify(path)}: it must be a path below ${seccompDir(paths)}`,
    );
  try {
    return await readFile(join(seccompDir(paths), path), 'utf8');
  } catch (error) {
    throw new WaitingError(
      'CreateContainerError',
      `cannot load seccomp profile ${JSON.stringify(join(seccompDir(paths), path))}: ${messageOf(error)}`,
    );
  }
}

function readOnlyBelow(asked: unknown): { readOnlyBelow?: 'may' | 'must' } {
  if (asked === 'Enabled') return { readOnlyBelow: 'must' };
  return asked === 'IfPossible' ? { readOnlyBelow: 'may' } : {};
}

/** A path below a volume that no link leads out of; made when it is missing. */
async function subPathOf(root: string, subPath: string): Promise<string> {
  if (subPath.startsWith('/') || subPath.split('/').includes('..'))
    throw new ApiError('BadRequest', `subPath "${subPath}" must be a relative path without '..'`);
  const base = await realpath(root);
  let at = base;
  for (const part of subPath.split('/').filter((piece) => piece !== '' && piece !== '.')) {
    const next = join(at, part);
    // Whatever keeps it from being read keeps it from being made, and says so there.
    const found = await lstat(next).catch(() => undefined);
    if (found === undefined) await mkdir(next, { mode: 0o755 });
    at = await realpath(next);
    if (at !== base && !at.startsWith(base + sep))
      throw new ApiError(
        'BadRequest',
        `failed to prepare subPath for volumeMount: "${subPath}" leads out of the volume`,
      );
  }
  return at;
}

async function containerMounts(input: ContainerFilesOptions): Promise<Mount[]> {
  const { pod, container, environment, volumes, paths } = input;
  const mounts: Mount[] = [];
  for (const volumeMount of container.volumeMounts ?? []) {
    const subPath: string =
      volumeMount.subPathExpr === undefined || volumeMount.subPathExpr === ''
        ? (volumeMount.subPath ?? '')
        : expandVariables(volumeMount.subPathExpr, (name) => environment.get(name));
    const image = imageVolume(pod, volumeMount.name);
    if (image !== undefined) {
      mounts.push({
        type: 'image',
        source: image.reference ?? '',
        target: volumeMount.mountPath,
        readOnly: true,
        ...(subPath === '' ? {} : { subPath }),
      });
      continue;
    }
    const volume = volumes.get(volumeMount.name);
    if (volume === undefined) throw new ApiError('NotFound', `volume "${volumeMount.name}" not found`);
    const source = subPath === '' ? volume.path : await subPathOf(volume.path, subPath);
    const propagation =
      volumeMount.mountPropagation === 'Bidirectional'
        ? 'rshared'
        : volumeMount.mountPropagation === 'HostToContainer'
          ? 'rslave'
          : 'rprivate';
    mounts.push({
      type: 'bind',
      source,
      target: volumeMount.mountPath,
      readOnly: volumeMount.readOnly === true || volume.readOnly,
      ...readOnlyBelow(volumeMount.recursiveReadOnly),
      propagation,
    });
  }
  const messagePath = terminationMessagePath(paths, pod.metadata.uid, container.name, input.restartCount);
  await mkdir(dirname(messagePath), { recursive: true });
  await writeFile(messagePath, '', { flag: 'a' });
  // Whoever the container runs as may write it; a mode at its making would be less the umask.
  await chmod(messagePath, 0o666);
  mounts.push({
    type: 'bind',
    source: messagePath,
    target: container.terminationMessagePath ?? '/dev/termination-log',
    readOnly: false,
    propagation: 'rprivate',
  });
  return mounts;
}

/** hosts, hostname and resolv.conf of the Pod, shared by its containers. */
async function etcFiles(
  input: ContainerFilesOptions,
): Promise<{ hosts?: string; hostname?: string; resolvConf?: string }> {
  const { pod, paths, podIp, dns } = input;
  const directory = join(podDir(paths, pod.metadata.uid), 'etc');
  await mkdir(directory, { recursive: true });
  const resolvConf = join(directory, 'resolv.conf');
  const hosts = join(directory, 'hosts');
  await writeFile(resolvConf, resolvConfText(pod, dns));
  await writeFile(hosts, hostsText(pod, podIp, dns.clusterDomain));
  if (pod.spec.hostNetwork === true)
    return { hosts: (pod.spec.hostAliases ?? []).length === 0 ? '/etc/hosts' : hosts, resolvConf };
  const hostname = join(directory, 'hostname');
  await writeFile(hostname, `${podHostname(pod, dns.clusterDomain)}\n`);
  return { hosts, hostname, resolvConf };
}

export function hostsText(pod: Pod, podIp: string, domain: string): string {
  const lines = [
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'fe00::0\tip6-mcastprefix',
    'fe00::1\tip6-allnodes',
    'fe00::2\tip6-allrouters',
  ];
  const hostname = pod.spec.hostnameOverride || shortHostname(pod);
  const subdomain: string | undefined = pod.spec.hostnameOverride ? undefined : pod.spec.subdomain;
  if (podIp !== '')
    lines.push(
      subdomain === undefined || subdomain === ''
        ? `${podIp}\t${hostname}`
        : `${podIp}\t${hostname}.${subdomain}.${pod.metadata.namespace}.svc.${domain}\t${hostname}`,
    );
  const aliases = pod.spec.hostAliases ?? [];
  if (aliases.length > 0)
    lines.push(
      '',
      '# Entries added by HostAliases.',
      ...aliases.map((alias) => `${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`),
    );
  return `${lines.join('\n')}\n`;
}

function resolvConfText(pod: Pod, dns: DnsSettings): string {
  const policy: string = pod.spec.dnsPolicy ?? 'ClusterFirst';
  const config = pod.spec.dnsConfig ?? {};
  let nameservers: string[] = [];
  let searches: string[] = [];
  let options = new Map<string, string | undefined>();
  const host = parseResolvConf(dns.hostResolvConf);
  if (policy === 'Default' || (policy === 'ClusterFirst' && pod.spec.hostNetwork === true))
    ({ nameservers, searches, options } = host);
  else if (policy !== 'None') {
    nameservers = [dns.clusterDns];
    searches = [
      `${pod.metadata.namespace}.svc.${dns.clusterDomain}`,
      `svc.${dns.clusterDomain}`,
      dns.clusterDomain,
      ...host.searches,
    ];
    options.set('ndots', '5');
  }
  nameservers = [...new Set([...nameservers, ...(config.nameservers ?? [])])];
  searches = [...new Set([...searches, ...(config.searches ?? [])])];
  for (const option of config.options ?? []) options.set(option.name ?? '', option.value);
  const lines: string[] = [];
  if (searches.length > 0) lines.push(`search ${searches.join(' ')}`);
  for (const server of nameservers.slice(0, 3)) lines.push(`nameserver ${server}`);
  if (options.size > 0)
    lines.push(
      `options ${[...options].map(([name, value]) => (value === undefined || value === '' ? name : `${name}:${value}`)).join(' ')}`,
    );
  return `${lines.join('\n')}\n`;
}

function parseResolvConf(text: string): {
  nameservers: string[];
  searches: string[];
  options: Map<string, string | undefined>;
} {
  const out = { nameservers: [] as string[], searches: [] as string[], options: new Map<string, string | undefined>() };
  for (const line of text.split('\n')) {
    const [key, ...rest] = line.trim().split(/\s+/);
    if (key === 'nameserver' && rest[0] !== undefined) out.nameservers.push(rest[0]);
    else if (key === 'search') out.searches = rest;
    else if (key === 'options')
      for (const option of rest) {
        const [name, value] = option.split(':', 2);
        out.options.set(name!, value);
      }
  }
  return out;
}
