/**
 * The types of request bodies, as data. What is of another type is refused with the words of docker's decoder; fields
 * that are not named here are passed over, as docker passes over what it does not know. Values are checked where they
 * are used.
 */
import { ApiError } from '#base/errors.ts';
import type { ConnectBody, CreateBody, ExecBody, HostConfigBody, NetworkBody, VolumeBody } from './create-body.ts';

/** `string`, `int`, `bool`, `any`; `[…]` a list of that; `{…}` a map of that; `words` a string or a list of strings. */
export type Shape =
  | 'string'
  | 'int'
  | 'bool'
  | 'any'
  | 'words'
  | { list: Shape }
  | { map: Shape }
  | { fields: Record<string, Shape> };

/** The shape of a whole body, and what passes it. */
export interface BodyShape<T> {
  fields: Record<string, Shape>;
  /** For the compiler alone. */
  body?: T;
}

const list = (of: Shape): Shape => ({ list: of });
const map = (of: Shape): Shape => ({ map: of });
const fields = (of: Record<string, Shape>): { fields: Record<string, Shape> } => ({ fields: of });
const each = (type: Shape, names: string): Record<string, Shape> =>
  Object.fromEntries(names.split(' ').map((name) => [name, type]));

const health = fields({ Test: list('string'), ...each('int', 'Interval Timeout StartPeriod StartInterval Retries') });
const endpoint = fields({
  IPAMConfig: fields({ ...each('string', 'IPv4Address IPv6Address'), LinkLocalIPs: list('string') }),
  GwPriority: 'int',
  ...each(list('string'), 'Aliases Links'),
  ...each('string', 'NetworkID MacAddress'),
  DriverOpts: map('string'),
});
const restart = fields({ Name: 'string', MaximumRetryCount: 'int' });
const mount = fields({
  ...each('string', 'Type Source Target Consistency'),
  ReadOnly: 'bool',
  BindOptions: fields({
    Propagation: 'string',
    ...each('bool', 'NonRecursive CreateMountpoint ReadOnlyNonRecursive ReadOnlyForceRecursive'),
  }),
  ImageOptions: fields({ Subpath: 'string' }),
  VolumeOptions: fields({
    ...each('bool', 'NoCopy'),
    Labels: map('string'),
    Subpath: 'string',
    DriverConfig: fields({ Name: 'string', Options: map('string') }),
  }),
  TmpfsOptions: fields({ ...each('int', 'SizeBytes Mode'), Options: list(list('string')) }),
});
const weighted = list(fields({ Path: 'string', Weight: 'int' }));
const rated = list(fields({ Path: 'string', Rate: 'int' }));
const resources: Record<string, Shape> = {
  BlkioWeightDevice: weighted,
  ...each(rated, 'BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps'),
  DeviceCgroupRules: list('string'),
  ...each(
    'int',
    'CpuShares Memory MemoryReservation MemorySwap MemorySwappiness NanoCpus CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime PidsLimit BlkioWeight KernelMemory KernelMemoryTCP CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth',
  ),
  ...each('string', 'CpusetCpus CpusetMems CgroupParent'),
  OomKillDisable: 'bool',
  Devices: list(fields(each('string', 'PathOnHost PathInContainer CgroupPermissions'))),
  Ulimits: list(fields({ Name: 'string', ...each('int', 'Soft Hard') })),
  DeviceRequests: list(
    fields({
      Driver: 'string',
      Count: 'int',
      DeviceIDs: list('string'),
      Capabilities: list(list('string')),
      Options: map('string'),
    }),
  ),
};
const host = fields({
  ...resources,
  ...each(
    list('string'),
    'Binds VolumesFrom CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd Links SecurityOpt MaskedPaths ReadonlyPaths',
  ),
  ...each('bool', 'Privileged PublishAllPorts ReadonlyRootfs AutoRemove Init'),
  ...each(
    'string',
    'NetworkMode IpcMode PidMode UTSMode UsernsMode CgroupnsMode Runtime VolumeDriver ContainerIDFile Isolation Cgroup',
  ),
  ConsoleSize: list('int'),
  ...each('int', 'OomScoreAdj ShmSize Umask'),
  ...each(map('string'), 'Tmpfs Sysctls StorageOpt Annotations'),
  PortBindings: map(list(fields(each('string', 'HostIp HostPort')))),
  RestartPolicy: restart,
  LogConfig: fields({ Type: 'string', Config: map('string') }),
  Mounts: list(mount),
});

const config: Record<string, Shape> = {
  ...each('string', 'Hostname Domainname User Image WorkingDir StopSignal MacAddress'),
  ...each('bool', 'AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce NetworkDisabled ArgsEscaped'),
  ...each('words', 'Cmd Entrypoint Shell OnBuild'),
  ...each(map('any'), 'ExposedPorts Volumes'),
  Env: list('string'),
  Labels: map('string'),
  StopTimeout: 'int',
  Healthcheck: health,
};
export const createShape: BodyShape<CreateBody> = fields({
  ...config,
  HostConfig: host,
  NetworkingConfig: fields({ EndpointsConfig: map(endpoint) }),
});
export const commitShape: BodyShape<CreateBody> = fields(config);
export const updateShape: BodyShape<HostConfigBody> = fields({ ...resources, RestartPolicy: restart });
export const execShape: BodyShape<ExecBody> = fields({
  ...each('string', 'User DetachKeys WorkingDir'),
  ...each('bool', 'Privileged Tty AttachStdin AttachStdout AttachStderr Detach'),
  Env: list('string'),
  Cmd: 'words',
  ConsoleSize: list('int'),
});
export const networkShape: BodyShape<NetworkBody> = fields({
  ...each('string', 'Name Driver Scope'),
  ...each('bool', 'Internal Attachable Ingress EnableIPv4 EnableIPv6 ConfigOnly CheckDuplicate'),
  ConfigFrom: fields({ Network: 'string' }),
  ...each(map('string'), 'Options Labels'),
  IPAM: fields({
    Driver: 'string',
    Options: map('string'),
    Config: list(fields({ ...each('string', 'Subnet IPRange Gateway'), AuxiliaryAddresses: map('string') })),
  }),
});
export const connectShape: BodyShape<ConnectBody> = fields({
  Container: 'string',
  EndpointConfig: endpoint,
  Force: 'bool',
});
export const volumeShape: BodyShape<VolumeBody> = fields({
  ...each('string', 'Name Driver'),
  ...each(map('string'), 'DriverOpts Labels'),
  ClusterVolumeSpec: map('any'),
});

/** `name`: of the whole body, as docker's error calls it. */
export function checkShape<T>(value: unknown, shape: BodyShape<T>, name: string): asserts value is T {
  const wrong = misfit(value, shape, '');
  if (wrong !== undefined)
    throw new ApiError(
      'BadRequest',
      `invalid JSON: json: cannot unmarshal ${wrong.found} into Go ${wrong.path === '' ? 'value' : `struct field ${name}${wrong.path}`} of type ${wrong.wanted}`,
    );
}

interface Misfit {
  path: string;
  found: string;
  wanted: string;
}

function kindOf(value: unknown): string {
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 'number' : `number ${value}`;
  return typeof value === 'boolean' ? 'bool' : typeof value;
}

/**
 * The server has turned integers of more bits into what is none (`readValue`); these are those that come as exponents.
 */
function isInt64(value: unknown): boolean {
  return Number.isInteger(value) && Math.abs(value as number) <= 2 ** 63;
}

function goType(shape: Shape): string {
  if (typeof shape === 'string')
    return shape === 'int' ? 'int64' : shape === 'words' ? '[]string' : shape === 'any' ? 'interface {}' : shape;
  if ('list' in shape) return `[]${goType(shape.list)}`;
  return 'map' in shape ? `map[string]${goType(shape.map)}` : 'struct';
}

function misfit(value: unknown, shape: Shape, path: string): Misfit | undefined {
  if (value === null || value === undefined || shape === 'any') return undefined;
  const bad: Misfit = { path, found: kindOf(value), wanted: goType(shape) };
  if (shape === 'string') return typeof value === 'string' ? undefined : bad;
  if (shape === 'bool') return typeof value === 'boolean' ? undefined : bad;
  if (shape === 'int') return isInt64(value) ? undefined : bad;
  if (shape === 'words') return typeof value === 'string' ? undefined : misfit(value, { list: 'string' }, path);
  if ('list' in shape) {
    if (!Array.isArray(value)) return bad;
    for (const entry of value) {
      const wrong =
        entry === null ? { path, found: 'null', wanted: goType(shape.list) } : misfit(entry, shape.list, path);
      if (wrong !== undefined) return wrong;
    }
    return undefined;
  }
  if (typeof value !== 'object' || Array.isArray(value)) return bad;
  for (const [key, entry] of Object.entries(value)) {
    const inner = 'map' in shape ? shape.map : Object.hasOwn(shape.fields, key) ? shape.fields[key] : undefined;
    const wrong = inner === undefined ? undefined : misfit(entry, inner, `${path}.${key}`);
    if (wrong !== undefined) return wrong;
  }
  return undefined;
}
