/**
 * The body of `POST /containers/create` as a container specification. Docker's own checks and words are here; what the engine itself checks
 * (limits, names, capabilities) is not repeated.
 */
import { statSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { checkHostConfig, checkStopSignal } from './create-checks.ts';
import type { ContainerSpec, Mount, NetworkAttachment, NetworkMode, PortBinding, Resources, Security } from '#engine/engine.ts';

// eslint-disable-next-line -- docker's bodies are open
type Body = any;

export interface HostConfigBody { [key: string]: Body }

export function specFromRequest(body: Body, name: string, imageId: string): ContainerSpec {
  const host: HostConfigBody = body.HostConfig ?? {};
  checkHostConfig(host);
  checkStopSignal(body.StopSignal);
  const network = planNetwork(host, body);
  const timeout = body.StopTimeout as number | undefined;
  return {
    name, owner: 'docker', image: String(body.Image ?? ''), imageId,
    ...(listOf(body.Entrypoint) === undefined ? {} : { entrypoint: emptyEntrypoint(listOf(body.Entrypoint)!) }),
    ...(listOf(body.Cmd) === undefined ? {} : { command: listOf(body.Cmd)! }),
    env: checkEnvironment(body.Env ?? []), ...text('workingDir', body.WorkingDir), ...text('user', body.User), groupAdd: host['GroupAdd'] ?? [],
    ...text('hostname', body.Hostname), ...text('domainname', body.Domainname),
    tty: body.Tty === true, openStdin: body.OpenStdin === true, stdinOnce: body.StdinOnce === true, labels: body.Labels ?? {},
    mounts: planMounts(host, body.Volumes ?? {}), resources: planResources(host), security: planSecurity(host),
    network: network.mode, networks: network.attachments, ports: planPorts(host, body.ExposedPorts ?? {}),
    ...pidMode(host['PidMode']), ...ipcMode(host['IpcMode']), sysctls: host['Sysctls'] ?? {}, ...text('stopSignal', body.StopSignal),
    ...(timeout === undefined || timeout === null ? {} : { stopTimeoutSeconds: timeout }),
    ...(host['CgroupParent'] === undefined || host['CgroupParent'] === '' ? {} : { cgroupParent: `/${String(host['CgroupParent']).replace(/^\/+/, '')}` }),
    ...(host['LogConfig']?.Type === 'none' ? { logPath: 'none' } : {}), ...planLog(host['LogConfig']?.Config ?? {}),
    restartPolicy: planRestart(host['RestartPolicy'] ?? {}, host['AutoRemove'] === true), autoRemove: host['AutoRemove'] === true, init: host['Init'] === true,
    ...(host['ShmSize'] > 0 ? { shmSizeBytes: Number(host['ShmSize']) } : {}),
    dns: { servers: host['Dns'] ?? [], search: host['DnsSearch'] ?? [], options: host['DnsOptions'] ?? [] }, extraHosts: host['ExtraHosts'] ?? [],
    ...(host['CgroupnsMode'] === 'host' || host['CgroupnsMode'] === 'private' ? { cgroupNamespace: host['CgroupnsMode'] } : {}),
    ...(host['UTSMode'] === 'host' ? { hostUts: true } : {}), ...(network.mode.type === 'networks' && (host['Links'] ?? []).length > 0 ? { links: host['Links'] as string[] } : {}),
    request: body,
  };
}

function text<K extends string>(key: K, value: unknown): { [P in K]?: string } {
  return typeof value === 'string' && value !== '' ? ({ [key]: value } as { [P in K]?: string }) : {};
}

/** Docker takes a string where a list is meant. */
function listOf(value: unknown): string[] | undefined {
  if (value === undefined || value === null) return undefined;
  return Array.isArray(value) ? value.map(String) : [String(value)];
}

/** `--entrypoint ""` arrives as `[""]` and means none. */
function emptyEntrypoint(list: string[]): string[] { return list.length === 1 && list[0] === '' ? [] : list; }

function checkEnvironment(env: string[]): string[] {
  for (const entry of env) if (entry === '' || entry.startsWith('=')) throw new ApiError('BadRequest', `invalid environment variable: ${entry}`);
  return env;
}

function planLog(config: Record<string, string>): { logMaxBytes?: number; logMaxFiles?: number } {
  const units: Record<string, number> = { '': 1, b: 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 };
  const match = /^(\d+)([bkmg]?)$/i.exec(config['max-size'] ?? '');
  return { ...(match === null ? {} : { logMaxBytes: Number(match[1]) * units[match[2]!.toLowerCase()]! }), ...(config['max-file'] === undefined ? {} : { logMaxFiles: Number(config['max-file']) }) };
}

export function planRestart(policy: { Name?: string; MaximumRetryCount?: number }, autoRemove: boolean): NonNullable<ContainerSpec['restartPolicy']> {
  const name = policy.Name === undefined || policy.Name === '' ? 'no' : policy.Name;
  if (!['no', 'always', 'unless-stopped', 'on-failure'].includes(name)) throw new ApiError('BadRequest', `invalid restart policy: unknown policy '${name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'`);
  if (autoRemove && name !== 'no') throw new ApiError('BadRequest', 'can\'t create \'AutoRemove\' container with restart policy');
  const count = policy.MaximumRetryCount ?? 0;
  if (count !== 0 && name !== 'on-failure') throw new ApiError('BadRequest', `invalid restart policy: maximum retry count can only be used with 'on-failure'`);
  if (count < 0) throw new ApiError('BadRequest', 'invalid restart policy: maximum retry count cannot be negative');
  return { name: name as 'no', maximumRetryCount: count };
}

function pidMode(mode: string | undefined): { pidMode?: ContainerSpec['pidMode'] & object } {
  if (mode === 'host') return { pidMode: { type: 'host' } };
  if (mode?.startsWith('container:') === true) return { pidMode: { type: 'container', containerId: mode.slice(10) } };
  if (mode !== undefined && mode !== '' && mode !== 'private') throw new ApiError('BadRequest', `invalid PID mode: ${mode}`);
  return {};
}

function ipcMode(mode: string | undefined): { ipcMode?: ContainerSpec['ipcMode'] & object } {
  if (mode === 'host' || mode === 'shareable' || mode === 'none') return { ipcMode: { type: mode } };
  if (mode?.startsWith('container:') === true) return { ipcMode: { type: 'container', containerId: mode.slice(10) } };
  if (mode !== undefined && !['', 'private'].includes(mode)) throw new ApiError('BadRequest', `invalid IPC mode: ${mode}`);
  return {};
}

function planNetwork(host: HostConfigBody, body: Body): { mode: NetworkMode; attachments: NetworkAttachment[] } {
  const mode = String(host['NetworkMode'] ?? 'default');
  const wanted: Record<string, Body> = body.NetworkingConfig?.EndpointsConfig ?? {};
  if (mode === 'host') return { mode: { type: 'host' }, attachments: [] };
  if (mode === 'none') return { mode: { type: 'none' }, attachments: [] };
  if (mode.startsWith('container:')) {
    if (mode === 'container:') throw new ApiError('BadRequest', 'invalid container format container:<name|id>');
    if (Object.keys(host['PortBindings'] ?? {}).length > 0) throw new ApiError('BadRequest', 'conflicting options: port publishing and the container type network mode');
    if (typeof body.Hostname === 'string' && body.Hostname !== '') throw new ApiError('BadRequest', 'conflicting options: hostname and the network mode');
    return { mode: { type: 'container', containerId: mode.slice(10) }, attachments: [] };
  }
  const first = mode === 'default' || mode === '' ? 'bridge' : mode;
  const settings = wanted[first] ?? wanted['default'] ?? {};
  const bad = (reason: string): never => { throw new ApiError('BadRequest', `invalid config for network ${first}: invalid endpoint settings:\n${reason}`); };
  if (first === 'bridge' && settings.IPAMConfig?.IPv4Address) bad('user specified IP address is supported on user defined networks only');
  if (first === 'bridge' && (settings.Aliases ?? []).length > 0) bad('network-scoped aliases are only supported for user-defined networks');
  const names = [first, ...Object.keys(wanted).filter((name) => name !== first && name !== 'default')];
  return { mode: { type: 'networks' }, attachments: names.map((name) => attachmentFrom(name, wanted[name] ?? (name === 'bridge' ? wanted['default'] : undefined) ?? {}, body.MacAddress)) };
}

export function attachmentFrom(network: string, endpoint: Body, mac?: string): NetworkAttachment {
  const ip = endpoint.IPAMConfig?.IPv4Address as string | undefined;
  const address = (endpoint.MacAddress ?? mac) as string | undefined;
  if (address !== undefined && address !== '' && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(address)) throw new ApiError('BadRequest', `invalid MAC address: ${address}`);
  return { network, aliases: endpoint.Aliases ?? [], ...(ip === undefined || ip === '' ? {} : { ip }), ...(address === undefined || address === '' ? {} : { mac: address.toLowerCase() }), ...((endpoint.Links ?? []).length === 0 ? {} : { links: endpoint.Links as string[] }) };
}

export function parsePort(text: string): { port: number; end: number; protocol: 'tcp' | 'udp' | 'sctp' } {
  const match = /^(\d+)(?:-(\d+))?(?:\/(\w+))?$/.exec(text);
  const protocol = (match?.[3] ?? 'tcp').toLowerCase();
  if (match === null || !['tcp', 'udp', 'sctp'].includes(protocol) || Number(match[1]) > 65535) throw new ApiError('BadRequest', `invalid port specification: "${text}"`);
  return { port: Number(match[1]), end: Number(match[2] ?? match[1]), protocol: protocol as 'tcp' };
}

function planPorts(host: HostConfigBody, exposed: Record<string, unknown>): PortBinding[] {
  const out: PortBinding[] = [];
  const bindings: Record<string, { HostIp?: string; HostPort?: string }[] | null> = host['PortBindings'] ?? {};
  for (const [key, list] of Object.entries(bindings)) {
    const { port, protocol } = parsePort(key);
    for (const binding of list === null || list.length === 0 ? [{}] : list) {
      const range = parsePort(binding.HostPort === undefined || binding.HostPort === '' ? '0' : binding.HostPort);
      const hostIp = binding.HostIp ?? '';
      // Addresses of version 6 have no way here: `::` stands for any, which the rules for version 4 cover; others are refused unless they only repeat a binding.
      if (hostIp.includes(':') && hostIp !== '::') {
        if ((list ?? []).every((other) => (other.HostIp ?? '').includes(':'))) throw new ApiError('BadRequest', `cannot publish ${key} on ${hostIp}: IPv6 addresses are not supported by this engine`);
        continue;
      }
      out.push({ hostIp: hostIp === '::' ? '' : hostIp, hostPort: range.port, ...(range.end === range.port ? {} : { hostPortEnd: range.end }), protocol, containerPort: port });
    }
  }
  if (host['PublishAllPorts'] === true) {
    for (const key of Object.keys(exposed)) if (bindings[key] === undefined) { const { port, protocol } = parsePort(key); out.push({ hostIp: '', hostPort: 0, protocol, containerPort: port }); }
  }
  return out;
}

function planMounts(host: HostConfigBody, declared: Record<string, unknown>): Mount[] {
  const out: Mount[] = [];
  for (const bind of (host['Binds'] ?? []) as string[]) out.push(parseBind(bind));
  for (const mount of (host['Mounts'] ?? []) as Body[]) out.push(planMount(mount));
  for (const [target, options] of Object.entries((host['Tmpfs'] ?? {}) as Record<string, string>)) out.push(parseTmpfs(target, options));
  const taken = new Set(out.map((mount) => mount.target));
  for (const target of Object.keys(declared)) if (!taken.has(target)) out.push({ type: 'volume', source: '', target, readOnly: false, populate: true });
  return out;
}

/** `source:target[:options]`. A source that is not absolute names a volume; a missing host directory is made. */
function parseBind(text: string): Mount {
  const parts = text.split(':');
  if (parts.length === 1) return { type: 'volume', source: '', target: checkTarget(text, parts[0]!), readOnly: false, populate: true };
  if (parts.length > 3 || parts[0] === '' || parts[1] === '') throw new ApiError('BadRequest', `invalid volume specification: '${text}'`);
  const [source = '', target = '', options = ''] = parts;
  const flags = options.split(',').filter(Boolean);
  const unknown = flags.find((flag) => !['ro', 'rw', 'z', 'Z', 'nocopy', 'shared', 'slave', 'private', 'rshared', 'rslave', 'rprivate', 'cached', 'delegated', 'consistent'].includes(flag));
  if (unknown !== undefined) throw new ApiError('BadRequest', `invalid volume specification: '${text}': invalid mode: ${options}`);
  const readOnly = flags.includes('ro');
  if (!source.startsWith('/')) return { type: 'volume', source, target: checkTarget(text, target), readOnly, populate: !flags.includes('nocopy') };
  const propagation = flags.find((flag) => /^r?(shared|slave|private)$/.test(flag));
  return { type: 'bind', source, target: checkTarget(text, target), readOnly, makeSource: true, ...(propagation === undefined ? {} : { propagation: (propagation.startsWith('r') ? propagation : `r${propagation}`) as 'rslave' }) };
}

function checkTarget(text: string, target: string): string {
  if (!target.startsWith('/')) throw new ApiError('BadRequest', `invalid volume specification: '${text}': invalid mount config for type "volume": invalid mount path: '${target}' mount path must be absolute`);
  const clean = target.replace(/\/+/g, '/').replace(/(.)\/$/, '$1');
  if (clean === '/') throw new ApiError('BadRequest', `invalid volume specification: '${text}': invalid specification: destination can't be '/'`);
  return clean;
}

function planMount(mount: Body): Mount {
  const type = String(mount.Type ?? 'volume');
  const target = String(mount.Target ?? '');
  const fail = (reason: string): never => { throw new ApiError('BadRequest', `invalid mount config for type "${type}": ${reason}`); };
  if (target === '') fail('field Target must not be empty');
  if (type === 'bind') {
    if (mount.Source === undefined || mount.Source === '') fail('field Source must not be empty');
    if (!String(mount.Source).startsWith('/')) fail(`invalid mount path: '${String(mount.Source)}' mount path must be absolute`);
    const make = mount.BindOptions?.CreateMountpoint === true;
    if (!make && statSync(mount.Source, { throwIfNoEntry: false }) === undefined) fail(`bind source path does not exist: ${String(mount.Source)}`);
    return { type: 'bind', source: mount.Source, target, readOnly: mount.ReadOnly === true, ...(make ? { makeSource: true } : {}), ...(mount.BindOptions?.Propagation ? { propagation: mount.BindOptions.Propagation } : {}) };
  }
  if (type === 'tmpfs') return { type: 'tmpfs', source: '', target, readOnly: mount.ReadOnly === true, ...(mount.TmpfsOptions?.SizeBytes > 0 ? { tmpfsSizeBytes: mount.TmpfsOptions.SizeBytes } : {}), ...(mount.TmpfsOptions?.Mode === undefined ? {} : { tmpfsMode: mount.TmpfsOptions.Mode }) };
  if (type === 'volume') return { type: 'volume', source: mount.Source ?? '', target, readOnly: mount.ReadOnly === true, populate: mount.VolumeOptions?.NoCopy !== true, ...(mount.VolumeOptions?.Subpath ? { subPath: checkSubPath(String(mount.VolumeOptions.Subpath), fail) } : {}) };
  return fail('mount type unknown');
}

function checkSubPath(path: string, fail: (reason: string) => never): string {
  if (path.startsWith('/') || path.split('/').includes('..')) fail('subpath must be a relative path within the volume');
  return path;
}

function parseTmpfs(target: string, options: string): Mount {
  const out: Mount = { type: 'tmpfs', source: '', target, readOnly: false };
  for (const option of options.split(',').filter(Boolean)) {
    const [key, value = ''] = option.split('=');
    const size = /^(\d+)([kmg]?)$/i.exec(value);
    if (key === 'ro') out.readOnly = true;
    else if (key === 'size' && size !== null) out.tmpfsSizeBytes = Number(size[1]) * ({ '': 1, k: 1024, m: 1024 ** 2, g: 1024 ** 3 }[size[2]!.toLowerCase()] ?? 1);
    else if (key === 'mode') out.tmpfsMode = Number.parseInt(value, 8);
  }
  return out;
}

export function planResources(host: HostConfigBody): Resources {
  const number = (key: string): number | undefined => (typeof host[key] === 'number' && host[key] !== 0 ? (host[key] as number) : undefined);
  const nano = number('NanoCpus');
  if (nano !== undefined && (number('CpuQuota') !== undefined || number('CpuPeriod') !== undefined)) throw new ApiError('BadRequest', 'Conflicting options: Nano CPUs and CPU Period cannot both be set');
  const out: Record<string, unknown> = {
    cpuShares: number('CpuShares'), cpuQuotaUs: nano === undefined ? number('CpuQuota') : Math.round(nano / 10_000), cpuPeriodUs: nano === undefined ? number('CpuPeriod') : 100_000,
    cpusetCpus: host['CpusetCpus'] === '' ? undefined : host['CpusetCpus'], memoryLimitBytes: number('Memory'), memoryReservationBytes: number('MemoryReservation'),
    // Docker's default: as much swap again as memory.
    memorySwapBytes: number('MemorySwap') ?? (number('Memory') === undefined ? undefined : number('Memory')! * 2),
    pidsMax: number('PidsLimit'), oomScoreAdj: number('OomScoreAdj'),
    devices: ((host['Devices'] ?? []) as Body[]).map((device) => ({ hostPath: device.PathOnHost, containerPath: device.PathInContainer ?? device.PathOnHost, permissions: device.CgroupPermissions ?? 'rwm' })),
    ulimits: ((host['Ulimits'] ?? []) as Body[]).map((limit) => ({ name: limit.Name, soft: limit.Soft, hard: limit.Hard })),
  };
  return Object.fromEntries(Object.entries(out).filter(([, value]) => value !== undefined)) as Resources;
}

function planSecurity(host: HostConfigBody): Security {
  const out: Security = { privileged: host['Privileged'] === true, capAdd: host['CapAdd'] ?? [], capDrop: host['CapDrop'] ?? [], readOnlyRoot: host['ReadonlyRootfs'] === true };
  for (const option of (host['SecurityOpt'] ?? []) as string[]) {
    const at = option.search(/[=:]/);
    const [key, value] = at < 0 ? [option, ''] : [option.slice(0, at), option.slice(at + 1)];
    if (key === 'seccomp') out.seccomp = value;
    else if (key === 'apparmor') out.apparmor = value;
    else if (key === 'no-new-privileges') out.noNewPrivileges = value === '' || value === 'true';
    else if (!['label', 'systempaths', 'writable-cgroups'].includes(key)) throw new ApiError('BadRequest', `invalid --security-opt 2: "${option}"`);
    else if (key === 'systempaths' && value === 'unconfined') { out.maskedPaths = []; out.readonlyPaths = []; }
  }
  if (host['MaskedPaths'] !== undefined && host['MaskedPaths'] !== null) out.maskedPaths = host['MaskedPaths'];
  if (host['ReadonlyPaths'] !== undefined && host['ReadonlyPaths'] !== null) out.readonlyPaths = host['ReadonlyPaths'];
  return out;
}
