/**
 * The OCI runtime configuration (runtime-spec 1.0) of a container, made from its specification as docker makes it.
 * Pure: everything read from the host or the image comes in as arguments. What the host forbids is already clamped by
 * the caller (host-limits.ts).
 */
import type { CgroupMode } from '#os/cgroups.ts';
import { ApiError } from '#base/errors.ts';
import { sysctlNamespace } from '#base/sysctls.ts';
import type { ContainerSpec, Mount, Resources } from '../engine.ts';
import { pidsMaxMax } from '../limits.ts';
import type { ResolvedUser } from './user.ts';

export interface OciInput {
  spec: ContainerSpec;
  root: string;
  args: string[];
  env: string[];
  user: ResolvedUser;
  workingDir: string;
  hostname: string;
  cgroupsPath: string;
  cgroupMode: CgroupMode;
  /** The engine itself is in a user namespace. */
  isRootless?: boolean;
  capabilities: string[];
  seccomp: unknown;
  apparmorProfile?: string;
  /** Binds that the engine adds: volumes resolved to directories, /etc files, /dev/shm's size is apart. */
  mounts: Mount[];
  /** Existing namespaces to join; `host`: none of its own. Absent: new. */
  namespaces: { network?: string; ipc?: string; uts?: string; pid?: string; user?: string };
  initPath?: string;
  oomScoreAdj?: number;
  rlimits: { type: string; hard: number; soft: number }[];
  hostDevices: OciDevice[];
  /** The container's own /dev/shm when it shares another's IPC namespace. */
  shmPath?: string;
  hasHostMqueue: boolean;
  /** The kernel can make all that is mounted below a place read-only (mount_setattr(2)). */
  canLockBelow: boolean;
}
export interface OciDevice {
  path: string;
  type: 'c' | 'b';
  major: number;
  minor: number;
  fileMode: number;
  uid: number;
  gid: number;
  access: string;
}

const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/devices/virtual/powercap',
  '/sys/firmware',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export const defaultMaskedPaths: readonly string[] = maskedPaths;
export const defaultReadonlyPaths: readonly string[] = readonlyPaths;

export const shmSizeBytesDefault = 64 * 1024 * 1024;

/**
 * Devices that every container may use: null, zero, full, tty, urandom, random, console, ptmx and terminals; nodes may
 * be made of any.
 */
const deviceRules: [string, number | undefined, number | undefined, string][] = [
  ['c', undefined, undefined, 'm'],
  ['b', undefined, undefined, 'm'],
  ['c', 1, 3, 'rwm'],
  ['c', 1, 8, 'rwm'],
  ['c', 1, 7, 'rwm'],
  ['c', 5, 0, 'rwm'],
  ['c', 1, 5, 'rwm'],
  ['c', 1, 9, 'rwm'],
  ['c', 5, 1, 'rwm'],
  ['c', 136, undefined, 'rwm'],
  ['c', 5, 2, 'rwm'],
];

export function buildOciSpec(input: OciInput): Record<string, unknown> {
  const { spec } = input;
  const privileged = spec.security.privileged === true;
  const args = input.initPath === undefined ? input.args : ['/sbin/docker-init', '--', ...input.args];
  const capabilities = input.capabilities;
  // As in docker: a user other than root starts with no effective capabilities, but may regain the bounding set by
  // setuid programs.
  const held = input.user.uid === 0 ? capabilities : [];
  return {
    ociVersion: '1.0.2',
    ...(spec.annotations === undefined ? {} : { annotations: spec.annotations }),
    process: {
      terminal: spec.tty,
      ...(spec.tty && spec.consoleSize !== undefined ? { consoleSize: spec.consoleSize } : {}),
      user: {
        uid: input.user.uid,
        gid: input.user.gid,
        ...(spec.umask === undefined ? {} : { umask: spec.umask }),
        additionalGids: [input.user.gid, ...input.user.additionalGids.filter((gid) => gid !== input.user.gid)],
      },
      args,
      env: input.env,
      cwd: input.workingDir,
      capabilities: { bounding: capabilities, effective: held, permitted: held },
      rlimits: input.rlimits.map(({ type, hard, soft }) => ({ type, hard: unsigned64(hard), soft: unsigned64(soft) })),
      noNewPrivileges: spec.security.noNewPrivileges === true,
      ...(input.apparmorProfile === undefined ? {} : { apparmorProfile: input.apparmorProfile }),
      ...(input.oomScoreAdj === undefined ? {} : { oomScoreAdj: input.oomScoreAdj }),
    },
    root: { path: input.root, readonly: spec.security.readOnlyRoot === true },
    ...(input.namespaces.uts === undefined ? { hostname: input.hostname } : {}),
    mounts: planMounts(input, privileged),
    linux: {
      cgroupsPath: input.cgroupsPath,
      namespaces: planNamespaces(input),
      resources: planResources(input, privileged),
      sysctl: { ...networkSysctls(input), ...domainSysctl(input), ...checkedSysctls(input) },
      ...(input.seccomp === undefined ? {} : { seccomp: input.seccomp }),
      devices: input.hostDevices.map((device) => ({
        path: device.path,
        type: device.type,
        major: device.major,
        minor: device.minor,
        fileMode: device.fileMode,
        uid: device.uid,
        gid: device.gid,
      })),
      maskedPaths: spec.security.maskedPaths ?? (privileged ? [] : maskedPaths),
      readonlyPaths: spec.security.readonlyPaths ?? (privileged ? [] : readonlyPaths),
      rootfsPropagation: rootPropagation(input.mounts),
    },
  };
}

function rootPropagation(mounts: readonly Mount[]): string {
  const has = (...kinds: string[]): boolean => mounts.some((mount) => kinds.includes(mount.propagation ?? ''));
  return has('rshared', 'shared') ? 'rshared' : has('rslave', 'slave') ? 'rslave' : 'rprivate';
}

/** No limit is 2^64 - 1 to the runtime, which is no number of JavaScript's. */
function unsigned64(value: number): unknown {
  return Number.isSafeInteger(value)
    ? value
    : (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON('18446744073709551615');
}

/** As docker has it: in a network of its own a container needs no right for low ports and for ping. */
function networkSysctls(input: OciInput): Record<string, string> {
  if (input.spec.network.type !== 'networks' && input.spec.network.type !== 'none') return {};
  if (input.namespaces.network === 'host') return {};
  return {
    'net.ipv4.ip_unprivileged_port_start': '0',
    // Groups that are none of a user namespace's cannot be named in it.
    ...(input.namespaces.user === undefined && input.isRootless !== true
      ? { 'net.ipv4.ping_group_range': '0 2147483647' }
      : {}),
  };
}

/** Parameters of the container's own namespaces; one of the host's is refused, in the words of docker's runtime. */
function checkedSysctls(input: OciInput): Record<string, string> {
  for (const name of Object.keys(input.spec.sysctls ?? {})) {
    const namespace = sysctlNamespace(name);
    const fail = (message: string): never => {
      throw new ApiError('InternalError', `failed to create task for container: OCI runtime create failed: ${message}`);
    };
    if (namespace === undefined) fail(`sysctl "${name}" is not in a separate kernel namespace`);
    else if (input.namespaces[namespace] === 'host')
      fail(
        namespace === 'network'
          ? `sysctl "${name}" not allowed in host network namespace`
          : `sysctl "${name}" is not allowed in the host's ${namespace} namespace`,
      );
  }
  return input.spec.sysctls ?? {};
}

/** The domain of the container's own UTS namespace, which no other field of the configuration has. */
function domainSysctl({ namespaces, spec }: OciInput): Record<string, string> {
  return namespaces.uts === undefined && spec.domainname !== undefined && spec.domainname !== ''
    ? { 'kernel.domainname': spec.domainname }
    : {};
}

function planNamespaces(input: OciInput): { type: string; path?: string }[] {
  const out: { type: string; path?: string }[] = [{ type: 'mount' }];
  const add = (type: string, path: string | undefined): void => {
    if (path === 'host') return;
    out.push(path === undefined ? { type } : { type, path });
  };
  if (input.namespaces.user !== undefined) add('user', input.namespaces.user);
  add('network', input.namespaces.network);
  add('ipc', input.namespaces.ipc);
  add('uts', input.namespaces.uts);
  add('pid', input.namespaces.pid);
  if ((input.spec.cgroupNamespace ?? (input.cgroupMode === 'v2' ? 'private' : 'host')) === 'private')
    out.push({ type: 'cgroup' });
  return out;
}

interface OciMount {
  destination: string;
  type: string;
  source: string;
  options: string[];
}

/** What every container has of the kernel, before its own mounts. */
function planKernelMounts(input: OciInput, privileged: boolean): OciMount[] {
  const { spec } = input;
  const readOnlyKernel = privileged ? [] : ['ro'];
  const cgroup: OciMount = {
    destination: '/sys/fs/cgroup',
    type: 'cgroup',
    source: 'cgroup',
    options: [...(spec.security.writableCgroups === true ? [] : readOnlyKernel), 'nosuid', 'noexec', 'nodev'],
  };
  const sys: OciMount =
    input.namespaces.network === 'host'
      ? {
          destination: '/sys',
          type: 'bind',
          source: '/sys',
          options: ['rbind', 'nosuid', 'noexec', 'nodev', ...readOnlyKernel],
        }
      : {
          destination: '/sys',
          type: 'sysfs',
          source: 'sysfs',
          options: ['nosuid', 'noexec', 'nodev', ...readOnlyKernel],
        };
  const shm: OciMount =
    input.shmPath !== undefined
      ? {
          destination: '/dev/shm',
          type: 'bind',
          source: input.shmPath,
          options: ['rbind', 'nosuid', 'noexec', 'nodev'],
        }
      : {
          destination: '/dev/shm',
          type: 'tmpfs',
          source: 'shm',
          options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${spec.shmSizeBytes ?? shmSizeBytesDefault}`],
        };
  const mqueue: OciMount =
    input.namespaces.ipc === 'host' && input.hasHostMqueue
      ? {
          destination: '/dev/mqueue',
          type: 'bind',
          source: '/dev/mqueue',
          options: ['rbind', 'nosuid', 'noexec', 'nodev'],
        }
      : { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] };
  return [
    input.namespaces.pid === 'host'
      ? { destination: '/proc', type: 'bind', source: '/proc', options: ['rbind', 'nosuid', 'noexec', 'nodev'] }
      : { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    sys,
    cgroup,
    mqueue,
    ...(spec.ipcMode?.type === 'none' ? [] : [shm]),
  ];
}

function planMounts(input: OciInput, privileged: boolean): OciMount[] {
  const wanted = input.mounts.map((mount) => planMount(mount, input.canLockBelow));
  if (input.initPath !== undefined)
    wanted.push({ destination: '/sbin/docker-init', type: 'bind', source: input.initPath, options: ['bind', 'ro'] });
  const replaced = new Set(wanted.map((mount) => mount.destination));
  // A mount below another must come after it, whatever order the user gave.
  return [
    ...planKernelMounts(input, privileged).filter((mount) => !replaced.has(mount.destination)),
    ...wanted.sort((a, b) => depth(a.destination) - depth(b.destination)),
  ];
}

function depth(path: string): number {
  return path.split('/').filter(Boolean).length;
}

function planMount(mount: Mount, canLockBelow: boolean): OciMount {
  if (mount.readOnlyBelow === 'must' && !canLockBelow)
    throw new ApiError(
      'BadRequest',
      `failed to set up recursive read-only mount ${mount.target}: this kernel cannot (5.12 can)`,
    );
  if (mount.type === 'tmpfs' && mount.tmpfsOptions !== undefined) {
    const mode = mount.tmpfsOptions.some((option) => option.startsWith('mode=')) ? [] : ['mode=1777'];
    return { destination: mount.target, type: 'tmpfs', source: 'tmpfs', options: [...mount.tmpfsOptions, ...mode] };
  }
  if (mount.type === 'tmpfs') {
    const size = mount.tmpfsSizeBytes === undefined ? [] : [`size=${mount.tmpfsSizeBytes}`];
    return {
      destination: mount.target,
      type: 'tmpfs',
      source: 'tmpfs',
      options: [
        'nosuid',
        'nodev',
        'noexec',
        `mode=${(mount.tmpfsMode ?? 0o1777).toString(8)}`,
        ...size,
        ...(mount.readOnly ? ['ro'] : []),
      ],
    };
  }
  return {
    destination: mount.target,
    type: 'bind',
    source: mount.source,
    options: [
      mount.nonRecursive === true ? 'bind' : 'rbind',
      mount.propagation ?? 'rprivate',
      ...(mount.readOnly ? [mount.readOnlyBelow === undefined || !canLockBelow ? 'ro' : 'rro'] : ['rw']),
    ],
  };
}

function planResources(input: OciInput, privileged: boolean): Record<string, unknown> {
  const limits = input.spec.resources;
  const devices = privileged
    ? [{ allow: true, access: 'rwm' }]
    : [
        { allow: false, access: 'rwm' },
        ...deviceRules.map(([type, major, minor, access]) => ({
          allow: true,
          type,
          ...(major === undefined ? {} : { major }),
          ...(minor === undefined ? {} : { minor }),
          access,
        })),
        ...(limits.deviceRules ?? []).map((rule) => ({ allow: true, ...rule })),
        ...input.hostDevices.map((device) => ({
          allow: true,
          type: device.type,
          major: device.major,
          minor: device.minor,
          access: device.access,
        })),
      ];
  const memory = clean({
    limit: limits.memoryLimitBytes,
    reservation: limits.memoryReservationBytes,
    swap: limits.memorySwapBytes,
    kernelTCP: limits.tcpMemoryBytes,
  });
  const memoryDetails = {
    ...(limits.memorySwappiness === undefined ? {} : { swappiness: limits.memorySwappiness }),
    ...(limits.oomKillDisable === true ? { disableOOMKiller: true } : {}),
  };
  const cpu = clean({
    shares: limits.cpuShares,
    quota: limits.cpuQuotaUs,
    period: limits.cpuPeriodUs,
    cpus: limits.cpusetCpus,
    mems: limits.cpusetMems,
    realtimePeriod: limits.cpuRealtimePeriodUs,
    realtimeRuntime: limits.cpuRealtimeRuntimeUs,
  });
  return {
    devices,
    ...(memory === undefined && Object.keys(memoryDetails).length === 0
      ? {}
      : { memory: { ...memory, ...memoryDetails } }),
    ...(limits.blockIo === undefined ? {} : { blockIO: planBlockIo(limits.blockIo) }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(limits.pidsMax === undefined || limits.pidsMax <= 0 || limits.pidsMax > pidsMaxMax
      ? {}
      : { pids: { limit: limits.pidsMax } }),
  };
}

function planBlockIo(limits: NonNullable<Resources['blockIo']>): Record<string, unknown> {
  // The weight of all is the engine's own to write: runtimes know one of the kernel's two names for it.
  const { weights, readBps, writeBps, readIops, writeIops } = limits;
  const all = {
    weightDevice: weights,
    throttleReadBpsDevice: readBps,
    throttleWriteBpsDevice: writeBps,
    throttleReadIOPSDevice: readIops,
    throttleWriteIOPSDevice: writeIops,
  };
  return Object.fromEntries(Object.entries(all).filter(([, list]) => list.length > 0));
}

/** Without what is absent or zero; undefined when nothing is left. */
function clean<T extends Record<string, number | string | undefined>>(values: T): Partial<T> | undefined {
  const left = Object.entries(values).filter(([, value]) => value !== undefined && value !== 0 && value !== '');
  return left.length === 0 ? undefined : (Object.fromEntries(left) as Partial<T>);
}
