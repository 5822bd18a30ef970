/**
 * From a Pod's container to the engine's `ContainerSpec`: command, user, security, mounts, DNS files.
 * Rules: Kubernetes documentation, "Configure a Security Context for a Pod or Container", "DNS for Services and Pods",
 * "Using subPath".
 */
import { lstat, mkdir, readFile, realpath, writeFile } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { ApiError } from '#base/errors.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import type { ContainerSpec, ImageSummary, Mount, PortBinding, Security } from '#engine/engine.ts';
import { expandVariables } from './env.ts';
import { WaitingError } from './images.ts';
import { hostnameBytesMax, logFileBytesMax, logFilesMax } from './limits.ts';
import {
  containerLogPath,
  labelContainerName,
  labelContainerType,
  labelRestartCount,
  labelTermination,
  podDir,
  podLabels,
  seccompDir,
  terminationMessagePath,
  type KubeletPaths,
} from './names.ts';
import { containerResources, podCgroupParent } from './qos.ts';
import type { MountedVolumes } from './volumes.ts';

export interface DnsSettings {
  clusterDns: string;
  clusterDomain: string;
  /** The node's own resolv.conf text. */ hostResolvConf: string;
}

export interface ContainerSpecInput {
  pod: KubeObject;
  container: Json;
  init: boolean;
  restartCount: number;
  image: ImageSummary;
  environment: Map<string, string>;
  volumes: MountedVolumes;
  paths: KubeletPaths;
  sandboxId: string;
  /** An ephemeral container may see the processes of another one. */
  targetContainerId?: string;
  podIp: string;
  nodeMemoryBytes: number;
  cgroupRoot: string;
  dns: DnsSettings;
}

export async function makeContainerSpec(input: ContainerSpecInput): Promise<ContainerSpec> {
  const { pod, container, image, environment } = input;
  const lookup = (name: string): string | undefined => environment.get(name);
  const expand = (words: string[] | undefined): string[] | undefined =>
    words?.map((word) => expandVariables(word, lookup));
  const security = { ...containerSecurity(pod, container), ...(await seccompOf(pod, container, input.paths)) };
  const user = containerUser(pod, container, image);
  const logPath = containerLogPath(input.paths, pod, container.name, input.restartCount);
  await mkdir(dirname(logPath), { recursive: true });
  return {
    name: `k8s_${container.name}_${pod.metadata.name}_${pod.metadata.namespace}_${pod.metadata.uid}_${input.restartCount}`,
    owner: 'kubelet',
    image: container.image,
    imageId: image.id,
    ...(container.command === undefined || container.command.length === 0
      ? {}
      : { entrypoint: expand(container.command)! }),
    ...commandOf(container, expand),
    env: [...environment].map(([name, value]) => `${name}=${value}`),
    ...(container.workingDir === undefined || container.workingDir === '' ? {} : { workingDir: container.workingDir }),
    ...(user === undefined ? {} : { user }),
    groupAdd: [
      ...(pod.spec.securityContext?.supplementalGroups ?? []),
      ...(pod.spec.securityContext?.fsGroup === undefined ? [] : [pod.spec.securityContext.fsGroup]),
    ].map(String),
    ...(pod.spec.securityContext?.supplementalGroupsPolicy === 'Strict' ? { strictGroups: true } : {}),
    tty: container.tty === true,
    openStdin: container.stdin === true,
    stdinOnce: container.stdinOnce === true,
    labels: {
      ...podLabels(pod),
      [labelContainerName]: container.name,
      [labelContainerType]: input.init ? 'init' : 'container',
      [labelRestartCount]: String(input.restartCount),
      [labelTermination]: JSON.stringify({
        preStop: container.lifecycle?.preStop,
        graceSeconds: pod.spec.terminationGracePeriodSeconds ?? 30,
        ports: container.ports,
      }),
    },
    mounts: await containerMounts(input),
    resources: containerResources(pod, container, input.nodeMemoryBytes),
    security,
    network: { type: 'sandbox', sandboxId: input.sandboxId },
    ...(input.targetContainerId !== undefined
      ? { pidMode: { type: 'container' as const, containerId: input.targetContainerId } }
      : pod.spec.hostPID === true
        ? { pidMode: { type: 'host' as const } }
        : {}),
    ...(pod.spec.hostIPC === true ? { ipcMode: { type: 'host' as const } } : {}),
    cgroupParent: podCgroupParent(pod, input.cgroupRoot),
    logPath,
    logMaxBytes: logFileBytesMax,
    logMaxFiles: logFilesMax,
    ...(container.lifecycle?.stopSignal === undefined ? {} : { stopSignal: container.lifecycle.stopSignal }),
    etcFiles: await etcFiles(input),
    restartPolicy: { name: 'no' },
  };
}

/** `command` replaces both the image's entrypoint and its arguments; `args` alone replaces the arguments. */
function commandOf(
  container: Json,
  expand: (words: string[] | undefined) => string[] | undefined,
): { command?: string[] } {
  const args = expand(container.args);
  if (args !== undefined && args.length > 0) return { command: args };
  return container.command !== undefined && container.command.length > 0 ? { command: [] } : {};
}

function setting(pod: KubeObject, container: Json, name: string): Json {
  return container.securityContext?.[name] ?? pod.spec.securityContext?.[name];
}

function containerUser(pod: KubeObject, container: Json, image: ImageSummary): string | undefined {
  const uid: number | undefined = setting(pod, container, 'runAsUser');
  const gid: number | undefined = setting(pod, container, 'runAsGroup');
  if (setting(pod, container, 'runAsNonRoot') === true) {
    const name = image.config.user.split(':')[0]!;
    const imageUid = name === '' ? 0 : Number(name);
    if (uid === 0)
      throw new ApiError(
        'BadRequest',
        `container's runAsUser breaks non-root policy (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
    if (uid === undefined && Number.isNaN(imageUid))
      throw new ApiError(
        'BadRequest',
        `container has runAsNonRoot and image has non-numeric user (${name}), cannot verify user is non-root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
    if (uid === undefined && imageUid === 0)
      throw new ApiError(
        'BadRequest',
        `container has runAsNonRoot and image will run as root (pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name})`,
      );
  }
  if (uid !== undefined) return gid === undefined ? String(uid) : `${uid}:${gid}`;
  if (gid !== undefined) return `${image.config.user.split(':')[0] || '0'}:${gid}`;
  return undefined;
}

function containerSecurity(pod: KubeObject, container: Json): Security {
  const own: Json = container.securityContext ?? {};
  const privileged = own.privileged === true;
  return {
    privileged,
    capAdd: own.capabilities?.add ?? [],
    capDrop: own.capabilities?.drop ?? [],
    readOnlyRoot: own.readOnlyRootFilesystem === true,
    noNewPrivileges: own.allowPrivilegeEscalation === false,
    ...apparmorOf(pod, container),
    ...(own.procMount === 'Unmasked' ? { maskedPaths: [], readonlyPaths: [] } : {}),
  };
}

/**
 * A profile of type `Localhost` is a file of docker's format below the node's seccomp directory; without it the
 * container is not made.
 */
async function seccompOf(pod: KubeObject, container: Json, paths: KubeletPaths): Promise<Pick<Security, 'seccomp'>> {
  const profile: Json = setting(pod, container, 'seccompProfile');
  if (container.securityContext?.privileged === true || profile?.type === 'Unconfined')
    return { seccomp: 'unconfined' };
  if (profile?.type !== 'Localhost') return { seccomp: 'default' };
  const path: string = profile.localhostProfile ?? '';
  if (path === '' || path.startsWith('/') || path.split('/').includes('..'))
    throw new ApiError(
      'BadRequest',
      `invalid localhost seccomp profile ${JSON.stringify(path)}: it must be a path below ${seccompDir(paths)}`,
    );
  try {
    return { seccomp: await readFile(join(seccompDir(paths), path), 'utf8') };
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

function apparmorOf(pod: KubeObject, container: Json): Pick<Security, 'apparmor'> {
  const profile: Json = setting(pod, container, 'appArmorProfile');
  if (profile?.type === 'Unconfined') return { apparmor: 'unconfined' };
  return profile?.type === 'Localhost' ? { apparmor: profile.localhostProfile } : {};
}

/** A path below a volume that no link leads out of; made when it is missing. */
async function subPathOf(root: string, subPath: string): Promise<string> {
  if (subPath.startsWith('/') || subPath.split('/').includes('..'))
    throw new ApiError('BadRequest', `subPath "${subPath}" must be a relative path without '..'`);
  const base = await realpath(root);
  let at = base;
  for (const part of subPath.split('/').filter((piece) => piece !== '' && piece !== '.')) {
    const next = join(at, part);
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

async function containerMounts(input: ContainerSpecInput): Promise<Mount[]> {
  const { pod, container, environment, volumes, paths } = input;
  const mounts: Mount[] = [];
  for (const volumeMount of container.volumeMounts ?? []) {
    const volume = volumes.get(volumeMount.name);
    if (volume === undefined) throw new ApiError('NotFound', `volume "${volumeMount.name}" not found`);
    const subPath: string =
      volumeMount.subPathExpr === undefined || volumeMount.subPathExpr === ''
        ? (volumeMount.subPath ?? '')
        : expandVariables(volumeMount.subPathExpr, (name) => environment.get(name));
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
  const messagePath = terminationMessagePath(paths, pod.metadata.uid!, container.name, input.restartCount);
  await mkdir(dirname(messagePath), { recursive: true });
  await writeFile(messagePath, '', { mode: 0o666, flag: 'a' });
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
  input: ContainerSpecInput,
): Promise<{ hosts?: string; hostname?: string; resolvConf?: string }> {
  const { pod, paths, podIp, dns } = input;
  const directory = join(podDir(paths, pod.metadata.uid!), 'etc');
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

/** Ports of the host that lead to the Pod. With the host's network there is nothing to lead. */
export function hostPorts(pod: KubeObject): PortBinding[] {
  if (pod.spec.hostNetwork === true) return [];
  return [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])]
    .flatMap((container: Json) => (container.ports ?? []) as Json[])
    .filter((port) => port.hostPort > 0)
    .map((port) => ({
      hostIp: port.hostIP ?? '',
      hostPort: port.hostPort,
      protocol: String(port.protocol ?? 'TCP').toLowerCase() as PortBinding['protocol'],
      containerPort: port.containerPort,
    }));
}

/** `hostname` of the spec or the Pod's name, cut to what a label may have. */
function shortHostname(pod: KubeObject): string {
  return String(pod.spec.hostname ?? pod.metadata.name)
    .slice(0, 63)
    .replace(/[-.]+$/, '');
}

/**
 * What `hostname` says inside: an override, the full name where the Pod wants it (setHostnameAsFQDN), or the short one.
 * Throws when the full name is too long for Linux.
 */
export function podHostname(pod: KubeObject, domain: string): string {
  const { hostnameOverride, subdomain, setHostnameAsFQDN } = pod.spec;
  if (hostnameOverride) return String(hostnameOverride);
  if (setHostnameAsFQDN !== true || subdomain === undefined || subdomain === '') return shortHostname(pod);
  const name = `${shortHostname(pod)}.${subdomain}.${pod.metadata.namespace}.svc.${domain}`;
  if (name.length > hostnameBytesMax)
    throw new ApiError(
      'BadRequest',
      `Failed to construct FQDN from Pod hostname and cluster domain, FQDN ${name} is too long (${hostnameBytesMax} characters is the max, ${name.length} characters requested)`,
    );
  return name;
}

export function hostsText(pod: KubeObject, podIp: string, domain: string): string {
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
  const aliases: Json[] = pod.spec.hostAliases ?? [];
  if (aliases.length > 0)
    lines.push(
      '',
      '# Entries added by HostAliases.',
      ...aliases.map((alias) => `${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`),
    );
  return `${lines.join('\n')}\n`;
}

function resolvConfText(pod: KubeObject, dns: DnsSettings): string {
  const policy: string = pod.spec.dnsPolicy ?? 'ClusterFirst';
  const config: Json = pod.spec.dnsConfig ?? {};
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
  for (const option of config.options ?? []) options.set(option.name, option.value);
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
