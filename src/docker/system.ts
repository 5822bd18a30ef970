/**
 * `/_ping`, `/version`, `/info`, `/events`. (`/system/df` spans images too and is in images*.ts' hands where they offer
 * it.)
 */
import { arch, cpus, hostname, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseCidr } from '#base/ip.ts';
import { onceAborted, whenFinished } from '#base/streams.ts';
import type { Container } from '#engine/container.ts';
import type { EngineEvent } from '#engine/engine.ts';
import { readCdiDevices } from '#engine/cdi-devices.ts';
import { logDriverNames } from '#engine/log-drivers/options.ts';
import { fileSystemAt, listDirectory, readIfExists, statIfExists } from '#os/files.ts';
import type { Cgroups } from '#os/cgroups.ts';
import { isListed, listedContainers } from './context.ts';
import type { DockerParts } from './context.ts';
import { matchesAny, matchesLabels, parseFilters, parseTimeNs } from './filters.ts';
import { programsOf } from './programs.ts';
import { ownRuntimeNames, type Runtimes } from '#engine/runtime/runtimes.ts';
import { reply } from './route.ts';
import type { Filters, Route, RouteContext } from './route.ts';
import { apiVersion, apiVersionMin, engineVersionOf } from './server.ts';
import { eventClientBufferBytesMax } from './server-limits.ts';
import type { DaemonSettings } from './settings.ts';

export function systemRoutes(parts: DockerParts): Route[] {
  return [
    {
      method: 'GET',
      path: '/_ping',
      handle: async () =>
        reply(200, 'OK', {
          'Builder-Version': parts.settings().builderVersion,
          Swarm: 'inactive',
          'Cache-Control': 'no-cache, no-store, must-revalidate',
          Pragma: 'no-cache',
        }),
    },
    { method: 'GET', path: '/version', handle: () => showVersion(parts) },
    { method: 'GET', path: '/info', handle: (context) => showInfo(parts, context.version) },
    { method: 'GET', path: '/events', handle: (context) => streamEvents(parts, context) },
  ];
}

function architecture(): string {
  return arch() === 'x64' ? 'amd64' : arch();
}

/** When this program was put here. */
function buildTime(): string {
  const found = statIfExists(fileURLToPath(new URL('../../package.json', import.meta.url)));
  return found === undefined ? '' : new Date(found.mtimeMs).toISOString().replace('Z', '000000+00:00');
}

async function showVersion(parts: DockerParts): Promise<unknown> {
  const version = engineVersionOf(parts.platform.version);
  // What runs the engine stands where docker names its language.
  const common = {
    GitCommit: `v${parts.platform.version}`,
    GoVersion: `node ${process.version}`,
    KernelVersion: release(),
    BuildTime: buildTime(),
  };
  const details = {
    ApiVersion: apiVersion,
    Arch: architecture(),
    Experimental: String(parts.settings().isExperimental),
    MinAPIVersion: apiVersionMin,
    Os: 'linux',
    ...common,
  };
  const programs = await programsOf(parts);
  return {
    Platform: { Name: 'Tiphys' },
    Components: [
      { Name: 'Engine', Version: version, Details: details },
      ...programs.map((program) => ({
        Name: program.name,
        Version: program.version,
        Details: { GitCommit: program.commit },
      })),
    ],
    Version: version,
    ApiVersion: apiVersion,
    MinAPIVersion: apiVersionMin,
    Os: 'linux',
    Arch: architecture(),
    ...common,
  };
}

/** Names of file systems as docker has them, by what statfs(2) says. */
const fileSystems: Readonly<Record<number, string>> = {
  0xef53: 'extfs',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x01021994: 'tmpfs',
  0x794c7630: 'overlayfs',
  0x2fc12fc1: 'zfs',
  0xf2f52010: 'f2fs',
};

function fileSystemOf(path: string): string {
  try {
    return fileSystems[fileSystemAt(path).type] ?? '<unknown>';
  } catch {
    return '<unknown>';
  }
}

function operatingSystem(): string {
  return /^PRETTY_NAME="?([^"\n]*)"?/m.exec(readIfExists('/etc/os-release') ?? '')?.[1] ?? 'Linux';
}

function noCgroupsWarning(): string {
  const remedy =
    statIfExists('/sys/fs/cgroup/cgroup.controllers') === undefined
      ? 'To enable cgroups in rootless-mode, you need to boot the system in cgroup v2 mode.'
      : 'Systemd is required to enable cgroups in rootless-mode.';
  return `WARNING: Running in rootless-mode without cgroups. ${remedy}`;
}

/** Which limits the kernel can hold, as docker's fields and warnings say it. */
function limitSupport(cgroups: Cgroups): { fields: Record<string, boolean>; warnings: string[] } {
  const [memory, cpu, cpuset, pids] = ['memory', 'cpu', 'cpuset', 'pids'].map((name) =>
    cgroups.controllers.includes(name),
  );
  const hasSwap =
    memory === true &&
    (cgroups.mode === 'v2' || readIfExists('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes') !== undefined);
  return {
    fields: {
      MemoryLimit: memory === true,
      SwapLimit: hasSwap,
      CpuCfsPeriod: cpu === true,
      CpuCfsQuota: cpu === true,
      CPUShares: cpu === true,
      CPUSet: cpuset === true,
      PidsLimit: pids === true,
    },
    warnings:
      cgroups.mode === 'none'
        ? [noCgroupsWarning()]
        : [
            ...(memory === true ? [] : ['WARNING: No memory limit support']),
            ...(hasSwap ? [] : ['WARNING: No swap limit support']),
            ...(cpu === true ? [] : ['WARNING: No cpu cfs quota support', 'WARNING: No cpu shares support']),
            ...(cpuset === true ? [] : ['WARNING: No cpuset support']),
            ...(pids === true ? [] : ['WARNING: No pids limit support']),
          ],
  };
}

function countContainers(all: readonly Container[]): Record<string, number> {
  const count = (...states: string[]): number =>
    all.filter((container) => states.includes(container.record.state)).length;
  return {
    Containers: all.length,
    ContainersRunning: count('running', 'restarting'),
    ContainersPaused: count('paused'),
    ContainersStopped: count('created', 'exited', 'dead'),
  };
}

/** Mirrors end with a slash, and ranges of addresses are apart from names, as docker has it. */
function registryConfig({ mirrors, insecureRegistries }: DaemonSettings): object {
  const ranges = insecureRegistries.filter((entry) => parseCidr(entry) !== undefined);
  const names = insecureRegistries.filter((entry) => parseCidr(entry) === undefined);
  const shown = mirrors.map((url) => (url.endsWith('/') ? url : `${url}/`));
  return {
    InsecureRegistryCIDRs: [...ranges, '::1/128', '127.0.0.0/8'],
    IndexConfigs: {
      ...Object.fromEntries(names.map((name) => [name, { Name: name, Mirrors: [], Secure: false, Official: false }])),
      'docker.io': { Name: 'docker.io', Mirrors: shown, Secure: true, Official: true },
    },
    Mirrors: shown,
  };
}

const noSwarm = {
  NodeID: '',
  NodeAddr: '',
  LocalNodeState: 'inactive',
  ControlAvailable: false,
  Error: '',
  RemoteManagers: null,
};

function driverStatus(dataDirectory: string): [string, string][] {
  return [
    ['Backing Filesystem', fileSystemOf(dataDirectory)],
    ['Supports d_type', 'true'],
    // By this one clients know that archives of several platforms may be loaded.
    ['driver-type', 'io.containerd.snapshotter.v1'],
  ];
}

function showRuntimes({ programs }: Runtimes, own: string): object {
  const added = Object.entries(programs).map(([name, { path, args }]) => [
    name,
    { path, ...(args.length === 0 ? {} : { runtimeArgs: args }) },
  ]);
  return Object.fromEntries([...ownRuntimeNames.map((name) => [name, { path: own }]), ...added]);
}

function showDevices(directories: readonly string[], [, minor]: [number, number]): object {
  if (minor < 50) return { CDISpecDirs: directories };
  const devices = [...readCdiDevices(directories).devices.keys()].map((name) => ({ Source: 'cdi', ID: name }));
  return { CDISpecDirs: directories, DiscoveredDevices: devices };
}

function seccompName(profile: string | undefined): string {
  return profile === undefined ? 'builtin' : profile === 'unconfined' ? 'unconfined' : 'custom';
}

function showSettings(settings: DaemonSettings): object {
  return {
    Debug: settings.isDebug,
    NFd: settings.isDebug ? listDirectory('/proc/self/fd').length : 0,
    LoggingDriver: settings.containers.log.driver,
    RegistryConfig: registryConfig(settings),
    HttpProxy: settings.proxies.http,
    HttpsProxy: settings.proxies.https,
    NoProxy: settings.proxies.no,
    Labels: settings.labels,
    ExperimentalBuild: settings.isExperimental,
    LiveRestoreEnabled: settings.isLiveRestore,
  };
}

async function showInfo(parts: DockerParts, version: [number, number]): Promise<unknown> {
  const [, minor] = version;
  const programs = await programsOf(parts);
  const program = (...names: string[]): { ID: string; Expected?: string } => {
    const found = programs.find((one) => names.includes(one.name));
    const id = found === undefined ? '' : found.commit === '' ? `v${found.version}` : found.commit;
    // Before version 1.49 also what was expected.
    return { ID: id, ...(minor < 49 ? { Expected: id } : {}) };
  };
  const { engine } = parts;
  const { cgroups } = engine.context.os;
  const limits = limitSupport(cgroups);
  const settings = parts.settings();
  const warnings = [...limits.warnings, ...settings.warnings];
  return {
    ID: engine.context.instanceId,
    ...countContainers(listedContainers(parts)),
    Images: engine.images.list().length,
    Driver: 'overlay2',
    DriverStatus: driverStatus(parts.platform.dataDir),
    Plugins: {
      Volume: ['local', ...(await engine.plugins.list('VolumeDriver'))],
      Network: [...['bridge', 'host', 'ipvlan', 'macvlan', 'null'], ...(await engine.plugins.list('NetworkDriver'))],
      Authorization: settings.authorizationPlugins.length === 0 ? null : settings.authorizationPlugins,
      Log: [...logDriverNames, ...(await engine.plugins.list('LogDriver'))],
    },
    ...limits.fields,
    // Fields that version 1.50 left out.
    ...(minor < 49 ? {} : { FirewallBackend: { Driver: 'nftables' } }),
    ...(minor < 50 ? { BridgeNfIptables: false, BridgeNfIp6tables: false } : {}),
    ...showSettings(settings),
    IPv4Forwarding: readIfExists('/proc/sys/net/ipv4/ip_forward')?.trim() === '1',
    OomKillDisable: false,
    NGoroutines: 0,
    SystemTime: new Date(parts.clock.now()).toISOString(),
    CgroupDriver: cgroups.mode === 'none' ? 'none' : 'cgroupfs',
    CgroupVersion: statIfExists('/sys/fs/cgroup/cgroup.controllers') === undefined ? '1' : '2',
    NEventsListener: engine.events.listenerCount,
    KernelVersion: release(),
    OperatingSystem: operatingSystem(),
    OSVersion: '',
    OSType: 'linux',
    Architecture: arch() === 'x64' ? 'x86_64' : 'aarch64',
    IndexServerAddress: 'https://index.docker.io/v1/',
    NCPU: cpus().length,
    MemTotal: totalmem(),
    GenericResources: null,
    DockerRootDir: parts.platform.dataDir,
    Name: hostname(),
    ServerVersion: engineVersionOf(parts.platform.version),
    Runtimes: showRuntimes(
      engine.context.runtimes,
      programs.find((one) => one.name === engine.context.runtime.name)?.path ?? engine.context.runtime.name,
    ),
    DefaultRuntime: settings.containers.runtime,
    ...showDevices(engine.context.cdiDirectories, version),
    Swarm: noSwarm,
    Isolation: '',
    InitBinary: 'docker-init',
    ContainerdCommit: program('conmon'),
    RuncCommit: program('crun', 'runc'),
    InitCommit: program('tini', 'catatonit'),
    SecurityOptions: [
      ...(parts.engine.context.apparmorDefault === undefined ? [] : ['name=apparmor']),
      `name=seccomp,profile=${seccompName(settings.containers.seccomp)}`,
      ...(engine.context.isRootless ? ['name=rootless'] : []),
      ...(engine.context.userMapping === undefined ? [] : ['name=userns']),
      ...(settings.containers.isNoNewPrivileges ? ['name=no-new-privileges'] : []),
      ...(cgroups.mode === 'v2' ? ['name=cgroupns'] : []),
    ],
    Warnings: warnings.length === 0 ? null : warnings,
  };
}

const eventFilters = [
  'config',
  'container',
  'daemon',
  'event',
  'image',
  'label',
  'network',
  'node',
  'plugin',
  'scope',
  'secret',
  'service',
  'type',
  'volume',
];

/** JSON. The nanoseconds are beyond a double's exact integers, so they are written by hand. */
function showEvent(event: EngineEvent, isOld: boolean): string {
  const old = !isOld
    ? {}
    : event.type === 'container'
      ? { status: event.action, id: event.id, from: event.attributes['image'] ?? '' }
      : event.type === 'image'
        ? { status: event.action, id: event.id }
        : {};
  const shown = JSON.stringify({
    ...old,
    Type: event.type,
    Action: event.action,
    Actor: { ID: event.id, Attributes: event.attributes },
    scope: 'local',
    time: Number(event.timeNs / 1_000_000_000n),
  });
  return `${shown.slice(0, -1)},"timeNano":${event.timeNs}}`;
}

/** Clients of older versions are not told that images were made. */
const imageCreationVersion = 46;

const eventFormats = ['application/jsonl', 'application/x-ndjson', 'application/json-seq'] as const;

/** The format that the client names; a pattern such as `*` names none. */
function eventFormat({ request, version }: RouteContext): string {
  const accepted = (request.headers.accept ?? '').split(',').map((range) => range.replace(/;.*/s, '').trim());
  const named = accepted.find((type) => eventFormats.some((format) => format === type));
  return named ?? (version[1] < 52 ? 'application/json' : 'application/jsonl');
}

function untagged(name: string): string {
  const at = name.lastIndexOf(':');
  return at > name.lastIndexOf('/') ? name.slice(0, at) : name;
}

function matchesEvent(filters: Filters, event: EngineEvent): boolean {
  const names = (value: string): boolean =>
    event.id === value || event.id.startsWith(value) || event.attributes['name'] === value;
  const ofType = (type: EngineEvent['type']): boolean =>
    !filters.has(type) || (event.type === type && matchesAny(filters, type, names));
  // An image is meant wherever it has a part: in its own events and in those of its containers.
  const image = event.type === 'image' ? (event.attributes['name'] ?? '') : (event.attributes['image'] ?? '');
  const ofImage =
    !filters.has('image') ||
    matchesAny(
      filters,
      'image',
      (value) =>
        (event.type === 'image' && event.id === value) ||
        (image !== '' && (image === value || untagged(image) === value)),
    );
  return (
    (event.owner === undefined || isListed(event.owner)) &&
    matchesAny(filters, 'type', (value) => event.type === value) &&
    matchesAny(
      filters,
      'event',
      (value) =>
        event.action === value || event.action.startsWith(`${value}:`) || event.action.startsWith(`${value}: `),
    ) &&
    matchesAny(filters, 'scope', (value) => value === 'local') &&
    ofType('container') &&
    ofImage &&
    ofType('network') &&
    ofType('volume') &&
    ofType('plugin') &&
    matchesLabels(filters, event.attributes)
  );
}

/** Exported for tests. */
export async function streamEvents(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, eventFilters);
  const now = parts.clock.now();
  const time = (name: string): bigint | undefined => {
    const value = context.query.get(name);
    return value === null || value === '' ? undefined : parseTimeNs(value, now);
  };
  const since = time('since');
  const until = time('until');
  const { response } = context;
  const format = eventFormat(context);
  // RFC 7464 sets a record separator before each text.
  const before = format === 'application/json-seq' ? '\u001e' : '';
  response.writeHead(200, { 'Content-Type': format, 'Api-Version': apiVersion, Ostype: 'linux' });
  response.flushHeaders();
  const write = (text: string): void => {
    if (response.writableLength > eventClientBufferBytesMax) response.destroy();
    else response.write(text);
  };
  const isKnown = ({ type, action }: EngineEvent): boolean =>
    context.version[1] >= imageCreationVersion || type !== 'image' || action !== 'create';
  const send = (event: EngineEvent): void => {
    if (isKnown(event) && matchesEvent(filters, event) && (until === undefined || event.timeNs <= until))
      write(`${before}${showEvent(event, context.version[1] < 52)}\n`);
  };
  // As in docker, `until` alone asks for what was before it, too.
  if (since !== undefined || until !== undefined)
    for (const event of parts.engine.events.history()) if (event.timeNs >= (since ?? 0n)) send(event);
  const leftMs = until === undefined ? undefined : Number(until / 1_000_000n) - now;
  if (leftMs !== undefined && leftMs <= 0) {
    response.end();
    return undefined;
  }
  const stop = parts.engine.events.listen(send);
  const timer =
    leftMs === undefined ? undefined : parts.clock.setTimer(leftMs, () => response.end(), { background: true });
  await Promise.race([
    new Promise<void>((resolve) => {
      onceAborted(context.signal, resolve);
    }),
    whenFinished(response),
  ]);
  timer?.cancel();
  stop();
  return undefined;
}
