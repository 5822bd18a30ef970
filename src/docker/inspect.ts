/** A container as `docker inspect` and `docker ps` show it. Pure functions of records. */
import { fieldOf } from '#base/unknown.ts';
import { treeBytes } from '#engine/tree-size.ts';
import type { Container } from '#engine/container.ts';
import { logPathOf } from '#engine/container-paths.ts';
import { planApparmor, unconfined } from '#engine/runtime/apparmor.ts';
import { defaultMaskedPaths, defaultReadonlyPaths } from '#engine/runtime/oci-spec.ts';
import { gatewayFor, isUserDefined, prefixLengthOf } from '#engine/network-record.ts';
import type { NetworkRecord } from '#engine/network-record.ts';
import type { AttachedNetwork, EndpointRecord, PublishedRecord } from '#engine/container-record.ts';
import { containerDirectory } from '#engine/container-record.ts';
import { portKey, splitTarget } from './ports.ts';
import type { ContainerSpec } from '#engine/engine.ts';
import { endpointNames, hostnameOf } from '#engine/dns-names.ts';
import type { DockerParts } from './context.ts';
import { isoTime } from './context.ts';

type Shown = Record<string, unknown>;

function showEndpoints(parts: DockerParts, container: Container): Record<string, Shown> {
  const { record } = container;
  const out: Record<string, Shown> = {};
  const builtIn =
    record.spec.network.type === 'host' ? 'host' : record.spec.network.type === 'none' ? 'none' : undefined;
  if (builtIn !== undefined)
    out[builtIn] = showEndpoint(
      parts,
      { network: parts.engine.networks.findExact(builtIn), endpoint: undefined, attached: { aliases: [] } },
      container,
    );
  for (const attached of record.networks) {
    const network = parts.engine.networks.findExact(attached.networkId);
    const endpoint = record.run?.endpoints.find((found) => found.networkId === attached.networkId);
    out[network?.name ?? attached.networkId] = showEndpoint(parts, { network, endpoint, attached }, container);
  }
  return out;
}

interface ShownEndpoint {
  network: NetworkRecord | undefined;
  /** Undefined while the container does not run. */
  endpoint: EndpointRecord | undefined;
  /** What the user asked for. */
  attached: Omit<AttachedNetwork, 'networkId'>;
}

function showEndpoint(parts: DockerParts, { network, endpoint, attached }: ShownEndpoint, container: Container): Shown {
  const userDefined = network !== undefined && isUserDefined(network);
  const { ip, ip6 } = endpoint ?? {};
  const gateway = (family: 'IPv4' | 'IPv6'): string =>
    endpoint === undefined || network === undefined ? '' : (gatewayFor(network, endpoint, family) ?? '');
  const length = (address: string | undefined): number =>
    address === undefined || network === undefined ? 0 : prefixLengthOf(network, address);
  const asked = {
    ...(attached.ip === undefined ? {} : { IPv4Address: attached.ip }),
    ...(attached.ip6 === undefined ? {} : { IPv6Address: attached.ip6 }),
    ...(attached.linkLocalIps === undefined ? {} : { LinkLocalIPs: attached.linkLocalIps }),
  };
  return {
    IPAMConfig: userDefined || Object.keys(asked).length > 0 ? asked : null,
    Links: attached.links ?? null,
    Aliases: userDefined ? attached.aliases : null,
    MacAddress: endpoint?.mac ?? '',
    DriverOpts: attached.options ?? null,
    GwPriority: attached.gatewayPriority ?? 0,
    NetworkID: network?.id ?? '',
    EndpointID: endpoint?.endpointId ?? '',
    Gateway: gateway('IPv4'),
    IPAddress: ip ?? '',
    IPPrefixLen: length(ip),
    IPv6Gateway: gateway('IPv6'),
    GlobalIPv6Address: ip6 ?? '',
    GlobalIPv6PrefixLen: length(ip6),
    DNSNames: userDefined ? endpointNames(parts.engine.table, container, network.id) : null,
  };
}

/** Before version 1.45 the short id and the host's name were among the aliases of a network of the user's own. */
function addOldAliases(networks: Record<string, Shown>, container: Container, hostname: string): void {
  for (const endpoint of Object.values(networks))
    if (Array.isArray(endpoint['Aliases']))
      endpoint['Aliases'] = [...new Set([...endpoint['Aliases'], container.id.slice(0, 12), hostname])];
}

function showMounts(parts: DockerParts, container: Container): Shown[] {
  // Those of `--tmpfs` are shown with the host's configuration alone.
  const ofFlag =
    (container.record.spec.request?.['HostConfig'] as { Tmpfs?: Record<string, string> } | undefined)?.Tmpfs ?? {};
  return container.record.spec.mounts
    .filter((mount) => mount.type !== 'tmpfs' || ofFlag[mount.target] === undefined)
    .map((mount) => {
      const common = {
        Destination: mount.target,
        Mode: mount.mode ?? (mount.type === 'volume' ? 'z' : ''),
        RW: !mount.readOnly,
      };
      if (mount.type === 'volume')
        return {
          Type: 'volume',
          Name: mount.source,
          Source: parts.engine.volumes.mountpoint(mount.source),
          ...common,
          Driver: parts.engine.volumes.find(mount.source)?.driver ?? 'local',
          Propagation: '',
        };
      if (mount.type === 'image')
        return { Type: 'image', Name: mount.source, Source: mount.imageId ?? '', ...common, Propagation: '' };
      if (mount.type === 'tmpfs') return { Type: 'tmpfs', Source: '', ...common, Propagation: '' };
      return { Type: 'bind', Source: mount.source, ...common, Propagation: mount.propagation ?? 'rprivate' };
    });
}

function showPorts(
  ports: PublishedRecord[],
  exposed: string[],
): Record<string, { HostIp: string; HostPort: string }[] | null> {
  const out: Record<string, { HostIp: string; HostPort: string }[] | null> = {};
  for (const key of exposed) out[key] = null;
  for (const port of ports)
    (out[`${port.port}/${port.protocol}`] ??= []).push({
      HostIp: port.hostIp,
      HostPort: port.hostPort === 0 ? '' : String(port.hostPort),
    });
  return out;
}

export function exposedPorts(parts: DockerParts, container: Container): string[] {
  const image = parts.engine.images.find(container.record.spec.imageId)?.config.exposedPorts ?? [];
  const request = Object.keys((container.record.spec.request?.['ExposedPorts'] as object | undefined) ?? {});
  return [...new Set([...image, ...request].map(portKey))];
}

/** `2 minutes ago`-like words are the client's; these are the daemon's: `Up 5 seconds`, `Exited (0) 3 seconds ago`. */
function describeState(parts: DockerParts, container: Container): string {
  const { record } = container;
  const now = parts.clock.now();
  if (record.state === 'running' || record.state === 'paused') {
    const health =
      container.health === undefined
        ? ''
        : container.health.status === 'starting'
          ? ' (health: starting)'
          : ` (${container.health.status})`;
    return `Up ${humanDuration(now - record.startedAtMs)}${record.state === 'paused' ? ' (Paused)' : health}`;
  }
  if (record.state === 'created') return 'Created';
  if (record.state === 'restarting')
    return `Restarting (${record.exitCode ?? 0}) ${humanDuration(now - record.finishedAtMs)} ago`;
  if (record.state === 'removing') return 'Removal In Progress';
  if (record.state === 'dead') return 'Dead';
  return `Exited (${record.exitCode ?? 0}) ${humanDuration(now - record.finishedAtMs)} ago`;
}

/** As go-units words a duration. */
export function humanDuration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.round(seconds / 3600);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  const days = Math.floor(hours / 24);
  if (days < 14) return `${days} days`;
  if (days < 60) return `${Math.floor(days / 7)} weeks`;
  if (days < 730) return `${Math.floor(days / 30)} months`;
  return `${Math.floor(days / 365)} years`;
}

/** Which manifest of an index it runs, since API 1.48. */
function showManifest(parts: DockerParts, container: Container, version: ApiVersion): Shown {
  const image = version[1] < 48 ? undefined : parts.engine.images.find(container.record.spec.imageId);
  if (image?.manifest === undefined) return {};
  return { ImageManifestDescriptor: { ...image.manifest, platform: image.platform } };
}

/** In lists since API 1.52. */
function showHealthSummary({ health }: Container): Shown {
  return { Status: health?.status ?? 'none', FailingStreak: health?.failingStreak ?? 0 };
}

/** In lists since API 1.46. */
function showAnnotations(container: Container, version: ApiVersion): Shown {
  const asked = fieldOf(container.record.spec.request, 'HostConfig', 'Annotations');
  return version[1] < 46 || asked === undefined || asked === null ? {} : { Annotations: asked };
}

/** Published ones, then those that are only exposed. */
function showSummaryPorts(parts: DockerParts, container: Container, published: readonly PublishedRecord[]): Shown[] {
  const ports = published.filter((port) => port.hostPort !== 0);
  return [
    ...ports.map((port) => ({
      IP: port.hostIp,
      PrivatePort: port.port,
      PublicPort: port.hostPort,
      Type: port.protocol,
    })),
    ...exposedPorts(parts, container)
      .map(splitTarget)
      .filter((exposed) => !ports.some((port) => port.port === exposed.port && port.protocol === exposed.protocol))
      .map((exposed) => ({ PrivatePort: exposed.port, Type: exposed.protocol })),
  ];
}

/** What a list of containers shows of each. */
export interface SummaryOptions {
  version: ApiVersion;
  /** `linkNames`, once for all. */
  links: ReadonlyMap<Container, string[]>;
  sizes?: Sizes | undefined;
}

export function showSummary(
  parts: DockerParts,
  container: Container,
  { version, links, sizes }: SummaryOptions,
): Shown {
  const { record } = container;
  return {
    Id: record.id,
    Names: [`/${container.name}`, ...(links.get(container) ?? [])],
    Image: record.spec.image,
    ImageID: record.spec.imageId,
    Command: commandLine([record.path, ...record.args]),
    Created: Math.floor(record.createdAtMs / 1000),
    Ports: record.run === undefined ? [] : showSummaryPorts(parts, container, record.run.ports),
    Labels: {
      ...record.spec.labels,
      ...(record.spec.owner === 'docker' ? {} : { 'io.tiphys.owner': record.spec.owner }),
    },
    State: record.state,
    Status: describeState(parts, container),
    ...sizes,
    ...(version[1] < 52 ? {} : { Health: showHealthSummary(container) }),
    HostConfig: { NetworkMode: networkMode(container), ...showAnnotations(container, version) },
    NetworkSettings: { Networks: showEndpoints(parts, container) },
    Mounts: showMounts(parts, container),
    ...showManifest(parts, container, version),
  };
}

/** Negotiated. */
type ApiVersion = readonly [number, number];

export interface Sizes {
  SizeRw: number;
  SizeRootFs: number;
}

export async function sizesOf(parts: DockerParts, container: Container): Promise<Sizes> {
  const written = await treeBytes(parts.engine.context.snapshots.upperDir(container.id));
  return {
    SizeRw: written,
    SizeRootFs: written + (parts.engine.images.find(container.record.spec.imageId)?.sizeBytes ?? 0),
  };
}

function commandLine(words: string[]): string {
  return words.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`)).join(' ');
}

function networkMode(container: Container): string {
  const { spec } = container.record;
  if (spec.network.type === 'networks') {
    const first = spec.networks?.[0]?.network;
    return first === undefined ? 'bridge' : first;
  }
  if (spec.network.type === 'container') return `container:${spec.network.containerId}`;
  if (spec.network.type === 'sandbox') return `sandbox:${spec.network.sandboxId}`;
  return spec.network.type;
}

export function showContainer(parts: DockerParts, container: Container, version: ApiVersion, sizes?: Sizes): Shown {
  const { record } = container;
  const { engine } = parts;
  const directory = containerDirectory(engine.context.directories.data, record.id);
  const networks = showEndpoints(parts, container);
  if (version[1] < 45) addOldAliases(networks, container, hostnameOf(engine.table, container));
  return {
    Id: record.id,
    ...showManifest(parts, container, version),
    Created: isoTime(record.createdAtMs),
    Path: record.path,
    Args: record.args,
    State: showState(container),
    Image: record.spec.imageId,
    ResolvConfPath: `${directory}/resolv.conf`,
    HostnamePath: `${directory}/hostname`,
    HostsPath: `${directory}/hosts`,
    LogPath: logPathOf(engine.table, container) ?? '',
    Name: `/${container.name}`,
    RestartCount: record.restartCount,
    Driver: 'overlay2',
    Platform: 'linux',
    MountLabel: '',
    ProcessLabel: '',
    AppArmorProfile: apparmorOf(engine.context.apparmorDefault, record.spec),
    ExecIDs: container.execIds.size === 0 ? null : [...container.execIds],
    HostConfig: showHostConfig(container, version),
    GraphDriver: { Name: 'overlay2', Data: engine.context.snapshots.directories(record.id, record.spec.imageId) },
    ...sizes,
    Mounts: showMounts(parts, container),
    Config: showConfig(parts, container, version),
    NetworkSettings: {
      ...(version[1] < 52 ? showOldSettings(networks['bridge'] ?? {}) : {}),
      SandboxID: record.run?.networkNamespace === undefined ? '' : record.id,
      SandboxKey: record.run?.networkNamespace ?? '',
      Ports: record.run === undefined ? {} : showPorts(record.run.ports, exposedPorts(parts, container)),
      Networks: networks,
    },
  };
}

/** Of the default bridge, which before version 1.52 was shown beside the networks. */
function showOldSettings(bridge: Shown): Shown {
  return {
    Bridge: '',
    HairpinMode: false,
    LinkLocalIPv6Address: '',
    LinkLocalIPv6PrefixLen: 0,
    SecondaryIPAddresses: null,
    SecondaryIPv6Addresses: null,
    EndpointID: bridge['EndpointID'] ?? '',
    Gateway: bridge['Gateway'] ?? '',
    GlobalIPv6Address: bridge['GlobalIPv6Address'] ?? '',
    GlobalIPv6PrefixLen: bridge['GlobalIPv6PrefixLen'] ?? 0,
    IPAddress: bridge['IPAddress'] ?? '',
    IPPrefixLen: bridge['IPPrefixLen'] ?? 0,
    IPv6Gateway: bridge['IPv6Gateway'] ?? '',
    MacAddress: bridge['MacAddress'] ?? '',
  };
}

function showState(container: Container): Shown {
  const { record } = container;
  return {
    Status: record.state,
    Running: container.isRunning || record.state === 'restarting',
    Paused: record.state === 'paused',
    Restarting: record.state === 'restarting',
    OOMKilled: record.oomKilled,
    Dead: record.state === 'dead',
    Pid: container.isRunning ? (record.run?.pid ?? 0) : 0,
    ExitCode: record.exitCode ?? 0,
    Error: record.error,
    StartedAt: isoTime(record.startedAtMs),
    FinishedAt: isoTime(record.finishedAtMs),
    ...(container.health === undefined
      ? {}
      : {
          Health: {
            Status: container.health.status,
            FailingStreak: container.health.failingStreak,
            Log: container.health.log,
          },
        }),
  };
}

function showConfig(parts: DockerParts, container: Container, version: ApiVersion): Shown {
  const { spec } = container.record;
  const image = parts.engine.images.find(spec.imageId)?.config;
  const request = (spec.request ?? {}) as Shown;
  const names = new Set(spec.env.map((entry) => entry.split('=')[0]));
  return {
    Hostname: hostnameOf(parts.engine.table, container),
    Domainname: spec.domainname ?? '',
    User: spec.user ?? image?.user ?? '',
    AttachStdin: request['AttachStdin'] === true,
    AttachStdout: request['AttachStdout'] !== false,
    AttachStderr: request['AttachStderr'] !== false,
    ExposedPorts: Object.fromEntries(exposedPorts(parts, container).map((port) => [port, {}])),
    Tty: spec.tty,
    OpenStdin: spec.openStdin,
    StdinOnce: spec.stdinOnce,
    Env: [...spec.env, ...(image?.env ?? []).filter((entry) => !names.has(entry.split('=')[0]))],
    Cmd: spec.command ?? (spec.entrypoint === undefined ? (image?.command ?? null) : null),
    Image: spec.image,
    Volumes: orNull({
      ...Object.fromEntries((image?.volumes ?? []).map((path) => [path, {}])),
      ...(request['Volumes'] as object | null | undefined),
    }),
    WorkingDir: spec.workingDir ?? image?.workingDir ?? '',
    Entrypoint: spec.entrypoint ?? (image === undefined || image.entrypoint.length === 0 ? null : image.entrypoint),
    ...(version[1] < 52 ? { OnBuild: null, ...showAskedMac(spec) } : {}),
    Labels: { ...image?.labels, ...spec.labels },
    ...(request['Healthcheck'] === undefined || request['Healthcheck'] === null
      ? {}
      : { Healthcheck: request['Healthcheck'] }),
    ...((spec.stopSignal ?? image?.stopSignal ?? '') === ''
      ? {}
      : { StopSignal: spec.stopSignal ?? image?.stopSignal }),
    ...(spec.stopTimeoutSeconds === undefined ? {} : { StopTimeout: spec.stopTimeoutSeconds }),
  };
}

/** Of the main network, where the container was made with one: a setting of the container's own before version 1.52. */
function showAskedMac({ networks }: ContainerSpec): Shown {
  const mac = networks?.[0]?.mac;
  return mac === undefined ? {} : { MacAddress: mac };
}

function orNull(value: Shown): Shown | null {
  return Object.keys(value).length === 0 ? null : value;
}

/** `/target:/this/alias`. */
function showLinks(container: Container): string[] | null {
  const links = container.record.spec.links ?? [];
  return links.length === 0
    ? null
    : links.map((link) => {
        const [target = '', alias = target] = link.split(':');
        return `/${target.replace(/^\//, '')}:/${container.name}/${alias.replace(/^\//, '')}`;
      });
}

function showHostConfig(container: Container, version: ApiVersion): Shown {
  const { spec } = container.record;
  const { KernelMemoryTCP: tcpMemory, Umask: umask, ...asked } = (spec.request?.['HostConfig'] ?? {}) as Shown;
  const { resources, security } = spec;
  return {
    Binds: null,
    ContainerIDFile: '',
    LogConfig: { Type: 'json-file', Config: {} },
    PortBindings: {},
    VolumeDriver: '',
    VolumesFrom: null,
    ConsoleSize: [0, 0],
    CapAdd: null,
    CapDrop: null,
    CgroupnsMode: spec.cgroupNamespace ?? 'host',
    Dns: [],
    DnsOptions: [],
    DnsSearch: [],
    ExtraHosts: null,
    GroupAdd: null,
    IpcMode: 'private',
    Cgroup: '',
    OomScoreAdj: 0,
    PidMode: '',
    Privileged: security.privileged === true,
    PublishAllPorts: false,
    ReadonlyRootfs: security.readOnlyRoot === true,
    SecurityOpt: null,
    UTSMode: '',
    UsernsMode: '',
    Isolation: '',
    ...Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== null && value !== '')),
    ...(version[1] < 52 && typeof tcpMemory === 'number' ? { KernelMemoryTCP: tcpMemory } : {}),
    ...(version[1] >= 56 && typeof umask === 'number' ? { Umask: umask } : {}),
    // Who is joined is shown by its id, which outlives a rename.
    ...(spec.ipcMode?.type === 'container' ? { IpcMode: `container:${spec.ipcMode.containerId}` } : {}),
    ...(spec.pidMode?.type === 'container' ? { PidMode: `container:${spec.pidMode.containerId}` } : {}),
    Links: showLinks(container),
    ShmSize: spec.shmSizeBytes ?? 67_108_864,
    Runtime: spec.runtime ?? 'runc',
    NetworkMode: networkMode(container),
    RestartPolicy: {
      Name: spec.restartPolicy?.name ?? 'no',
      MaximumRetryCount: spec.restartPolicy?.maximumRetryCount ?? 0,
    },
    AutoRemove: spec.autoRemove === true,
    CgroupParent: spec.cgroupParent ?? '',
    CpuShares: resources.cpuShares ?? 0,
    Memory: resources.memoryLimitBytes ?? 0,
    NanoCpus: asked['NanoCpus'] ?? 0,
    CpuPeriod: asked['NanoCpus'] ? 0 : (resources.cpuPeriodUs ?? 0),
    CpuQuota: asked['NanoCpus'] ? 0 : (resources.cpuQuotaUs ?? 0),
    CpusetCpus: resources.cpusetCpus ?? '',
    CpusetMems: resources.cpusetMems ?? '',
    Devices: asked['Devices'] ?? [],
    MemoryReservation: resources.memoryReservationBytes ?? 0,
    MemorySwap: resources.memorySwapBytes ?? 0,
    MemorySwappiness: null,
    OomKillDisable: false,
    PidsLimit: resources.pidsMax === undefined ? null : Math.max(0, resources.pidsMax),
    Ulimits: asked['Ulimits'] ?? [],
    MaskedPaths: security.maskedPaths ?? (security.privileged === true ? null : defaultMaskedPaths),
    ReadonlyPaths: security.readonlyPaths ?? (security.privileged === true ? null : defaultReadonlyPaths),
  };
}

/** Empty where the host has no AppArmor, as dockerd has it. */
function apparmorOf(hostDefault: string | undefined, spec: ContainerSpec): string {
  return hostDefault === undefined
    ? ''
    : (planApparmor(spec.security.apparmor, spec.security.privileged === true, hostDefault) ?? unconfined);
}
