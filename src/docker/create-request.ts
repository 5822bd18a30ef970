/**
 * The body of `POST /containers/create` as a container specification. Docker's own checks and words are here; what the
 * engine itself checks (limits, names, capabilities) is not repeated.
 */
import { ApiError } from '#base/errors.ts';
import { cleanPath } from '#base/clean-path.ts';
import { parseSize } from '#base/sizes.ts';
import { cacheOf, isRemoteLog } from '#engine/log-drivers/options.ts';
import type { ContainerSpec } from '#engine/engine.ts';
import type { CreateBody, Given, HostConfigBody } from './create-body.ts';
import { checkHostConfig, checkHostname, checkStopSignal } from './create-checks.ts';
import { planMounts } from './create-mounts.ts';
import { planNetwork, planPorts } from './create-network.ts';
import { planResources, planSecurity } from './create-resources.ts';
import { anyHost } from './host-facts.ts';
import type { HostFacts } from './host-facts.ts';

export function specFromRequest(
  body: CreateBody,
  name: string,
  imageId: string,
  facts: HostFacts = anyHost,
): ContainerSpec {
  const host: HostConfigBody = body.HostConfig ?? {};
  checkHostConfig(host, facts);
  checkStopSignal(body.StopSignal);
  checkHostname(body.Hostname, host);
  const network = planNetwork(host, body);
  const timeout = body.StopTimeout;
  return {
    name,
    owner: 'docker',
    image: String(body.Image ?? ''),
    imageId,
    ...planEntrypoint(listOf(body.Entrypoint)),
    // A list without words asks for the image's command, as none does.
    ...((listOf(body.Cmd) ?? []).length === 0 ? {} : { command: listOf(body.Cmd)! }),
    env: checkEnvironment(body.Env ?? []),
    ...text('workingDir', body.WorkingDir ? cleanPath(body.WorkingDir) : ''),
    ...text('user', body.User),
    groupAdd: host['GroupAdd'] ?? [],
    ...text('hostname', body.Hostname),
    ...text('domainname', body.Domainname),
    tty: body.Tty === true,
    openStdin: body.OpenStdin === true,
    stdinOnce: body.StdinOnce === true,
    labels: body.Labels ?? {},
    mounts: planMounts(host, body.Volumes ?? {}),
    resources: planResources(host, facts),
    security: planSecurity(host, facts),
    network: network.mode,
    networks: network.attachments,
    ports: planPorts(host, body.ExposedPorts ?? {}),
    ...pidMode(host['PidMode'] ?? ''),
    ...ipcMode(host['IpcMode'] ?? ''),
    sysctls: host['Sysctls'] ?? {},
    ...text('stopSignal', body.StopSignal),
    ...(timeout === undefined || timeout === null ? {} : { stopTimeoutSeconds: timeout }),
    ...(host.CgroupParent ? { cgroupParent: planCgroupParent(host.CgroupParent) } : {}),
    ...planLog(host['LogConfig']?.Type || 'json-file', host['LogConfig']?.Config ?? {}),
    restartPolicy: planRestart(host['RestartPolicy'] ?? {}, host['AutoRemove'] === true),
    autoRemove: host['AutoRemove'] === true,
    init: host['Init'] === true,
    ...text('runtime', host['Runtime']),
    ...((host.ShmSize ?? 0) > 0 ? { shmSizeBytes: Number(host.ShmSize) } : {}),
    ...(typeof host.Umask === 'number' ? { umask: host.Umask } : {}),
    dns: { servers: host['Dns'] ?? [], search: host['DnsSearch'] ?? [], options: host['DnsOptions'] ?? [] },
    extraHosts: host['ExtraHosts'] ?? [],
    ...(host['CgroupnsMode'] === 'host' || host['CgroupnsMode'] === 'private'
      ? { cgroupNamespace: host['CgroupnsMode'] }
      : {}),
    ...(host['UTSMode'] === 'host' ? { hostUts: true } : {}),
    ...(host['UsernsMode'] === 'host' ? { hostUsers: true } : {}),
    ...(network.mode.type === 'networks' && (host['Links'] ?? []).length > 0 ? { links: host['Links'] ?? [] } : {}),
    ...(Object.keys(host['Annotations'] ?? {}).length > 0 ? { annotations: host['Annotations'] ?? {} } : {}),
    ...consoleSize(host['ConsoleSize']),
    request: body,
  };
}

function text<K extends string>(key: K, value: unknown): { [P in K]?: string } {
  return typeof value === 'string' && value !== '' ? ({ [key]: value } as { [P in K]?: string }) : {};
}

/** Below the hierarchy's top, whether it begins with a slash or not; the way up is closed. */
function planCgroupParent(text: string): string {
  const parts = text.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.length === 0 || parts.includes('..'))
    throw new ApiError('BadRequest', `invalid cgroup parent: ${JSON.stringify(text)}`);
  return `/${parts.join('/')}`;
}

/** `[height, width]`; zeros say nothing. */
function consoleSize(size: unknown): { consoleSize?: { width: number; height: number } } {
  const [height = 0, width = 0] = Array.isArray(size) ? (size as number[]) : [];
  return height > 0 && width > 0 ? { consoleSize: { width, height } } : {};
}

/** Docker takes a string where a list is meant. */
function listOf(value: unknown): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  return Array.isArray(value) ? value.map(String) : [String(value)];
}

/** `--entrypoint ""` arrives as `[""]` and means none, without the image's command; a list without words takes that. */
function planEntrypoint(words: string[] | undefined): Pick<ContainerSpec, 'entrypoint' | 'command'> {
  if (words === undefined) return {};
  return words.length === 1 && words[0] === '' ? { entrypoint: [], command: [] } : { entrypoint: words };
}

function checkEnvironment(env: string[]): string[] {
  for (const entry of env)
    if (entry === '' || entry.startsWith('='))
      throw new ApiError('BadRequest', `invalid environment variable: ${entry}`);
  return env;
}

/** Where the log goes, and how much of it stays here; the options have been checked. */
function planLog(type: string, config: Record<string, string>): Partial<ContainerSpec> {
  if (type === 'none') return { logPath: 'none' };
  const isRemote = isRemoteLog(type);
  const { 'max-size': size, 'max-file': count, compress } = isRemote ? cacheOf(config) : config;
  // json-file keeps its files as they are where nothing is said; the others compress.
  const isCompressed = compress === undefined ? isRemote || type === 'local' : /^(1|t|true)$/i.test(compress);
  const bytes = size === undefined ? undefined : size === '-1' ? Number.MAX_SAFE_INTEGER : parseSize(size);
  return {
    // The bounds of the local driver and of a cache, where nothing is said.
    ...(isRemote || type === 'local' ? { logMaxBytes: 20 * 1024 ** 2, logMaxFiles: 5 } : {}),
    ...(bytes === undefined ? {} : { logMaxBytes: Math.max(1, bytes) }),
    ...(count === undefined ? {} : { logMaxFiles: Number(count) }),
    ...(isCompressed ? { logCompress: true } : {}),
    ...(isRemote
      ? {
          logDriver: {
            name: type,
            options: config,
            ...(/^(1|t|true)$/i.test(config['cache-disabled'] ?? '') ? { isUnreadable: true } : {}),
          },
        }
      : {}),
  };
}

export function planRestart(
  policy: Given<{ Name: string; MaximumRetryCount: number }>,
  autoRemove: boolean,
): NonNullable<ContainerSpec['restartPolicy']> {
  const name = policy.Name || 'no';
  if (!['no', 'always', 'unless-stopped', 'on-failure'].includes(name))
    throw new ApiError(
      'BadRequest',
      `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`,
    );
  if (autoRemove && name !== 'no')
    throw new ApiError('BadRequest', "can't create 'AutoRemove' container with restart policy");
  const count = policy.MaximumRetryCount ?? 0;
  if (count !== 0 && name !== 'on-failure')
    throw new ApiError('BadRequest', `invalid restart policy: maximum retry count can only be used with 'on-failure'`);
  if (count < 0) throw new ApiError('BadRequest', 'invalid restart policy: maximum retry count cannot be negative');
  return { name: name as 'no', maximumRetryCount: count };
}

function pidMode(mode: string): { pidMode?: ContainerSpec['pidMode'] & object } {
  if (mode === 'host') return { pidMode: { type: 'host' } };
  if (mode.startsWith('container:')) return { pidMode: { type: 'container', containerId: mode.slice(10) } };
  if (mode !== '' && mode !== 'private') throw new ApiError('BadRequest', `invalid PID mode: ${mode}`);
  return {};
}

function ipcMode(mode: string): { ipcMode?: ContainerSpec['ipcMode'] & object } {
  if (mode === 'host' || mode === 'shareable' || mode === 'none') return { ipcMode: { type: mode } };
  if (mode.startsWith('container:')) return { ipcMode: { type: 'container', containerId: mode.slice(10) } };
  if (!['', 'private'].includes(mode)) throw new ApiError('BadRequest', `invalid IPC mode: ${mode}`);
  return {};
}
