/**
 * The OCI runtime configuration (runtime-spec 1.0) of a container, made from its specification as docker makes it. Pure: everything read from
 * the host or the image comes in as arguments. What the host forbids is already clamped by the caller (host-limits.ts).
 */
import { ApiError } from '#base/errors.ts';
import { sysctlNamespace } from '#base/sysctls.ts';
import type { ContainerSpec, Mount } from '../engine.ts';
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
  cgroupMode: 'v1' | 'v2' | 'hybrid';
  capabilities: string[];
  seccomp: unknown;
  apparmorProfile?: string;
  /** Binds that the engine adds: volumes resolved to directories, /etc files, /dev/shm's size is apart. */
  mounts: Mount[];
  /** Existing namespaces to join; `host`: none of its own. Absent: new. */
  namespaces: { network?: string; ipc?: string; uts?: string; pid?: string };
  initPath?: string;
  oomScoreAdj?: number;
  rlimits: { type: string; hard: number; soft: number }[];
  hostDevices: OciDevice[];
  /** The container's own /dev/shm when it shares another's IPC namespace. */
  shmPath?: string;
  hasHostMqueue: boolean;
}
export interface OciDevice { path: string; type: 'c' | 'b'; major: number; minor: number; fileMode: number; uid: number; gid: number; access: string }

const maskedPaths = ['/proc/asound', '/proc/acpi', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/timer_list', '/proc/timer_stats', '/proc/sched_debug', '/proc/scsi', '/sys/firmware', '/sys/devices/virtual/powercap'];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export const defaultMaskedPaths: readonly string[] = maskedPaths;
export const defaultReadonlyPaths: readonly string[] = readonlyPaths;

export const shmSizeBytesDefault = 64 * 1024 * 1024;

/** Devices that every container may use: null, zero, full, tty, urandom, random, console, ptmx and terminals; nodes may be made of any. */
const deviceRules: [string, number | undefined, number | undefined, string][] = [
  ['c', undefined, undefined, 'm'], ['b', undefined, undefined, 'm'], ['c', 1, 3, 'rwm'], ['c', 1, 8, 'rwm'], ['c', 1, 7, 'rwm'], ['c', 5, 0, 'rwm'], ['c', 1, 5, 'rwm'], ['c', 1, 9, 'rwm'], ['c', 5, 1, 'rwm'], ['c', 136, undefined, 'rwm'], ['c', 5, 2, 'rwm'],
];

export function buildOciSpec(input: OciInput): Record<string, unknown> {
  const { spec } = input;
  const privileged = spec.security.privileged === true;
  const args = input.initPath === undefined ? input.args : ['/sbin/docker-init', '--', ...input.args];
  const capabilities = input.capabilities;
  // As in docker: a user other than root starts with no effective capabilities, but may regain the bounding set by setuid programs.
  const held = input.user.uid === 0 ? capabilities : [];
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: spec.tty,
      user: { uid: input.user.uid, gid: input.user.gid, additionalGids: [input.user.gid, ...input.user.additionalGids.filter((gid) => gid !== input.user.gid)] },
      args, env: input.env, cwd: input.workingDir,
      capabilities: { bounding: capabilities, effective: held, permitted: held },
      rlimits: input.rlimits,
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
      sysctl: { ...networkSysctls(input), ...checkedSysctls(input) },
      ...(input.seccomp === undefined ? {} : { seccomp: input.seccomp }),
      devices: input.hostDevices.map((device) => ({ path: device.path, type: device.type, major: device.major, minor: device.minor, fileMode: device.fileMode, uid: device.uid, gid: device.gid })),
      maskedPaths: spec.security.maskedPaths ?? (privileged ? [] : maskedPaths),
      readonlyPaths: spec.security.readonlyPaths ?? (privileged ? [] : readonlyPaths),
      rootfsPropagation: input.mounts.some((mount) => mount.propagation === 'rshared') ? 'rshared' : input.mounts.some((mount) => mount.propagation === 'rslave') ? 'rslave' : 'rprivate',
    },
  };
}

/** As docker has it: in a network of its own a container needs no right for low ports and for ping. */
function networkSysctls(input: OciInput): Record<string, string> {
  if (input.spec.network.type !== 'networks' && input.spec.network.type !== 'none') return {};
  return input.namespaces.network === 'host' ? {} : { 'net.ipv4.ip_unprivileged_port_start': '0', 'net.ipv4.ping_group_range': '0 2147483647' };
}

/** Parameters of the container's own namespaces; one of the host's is refused, in the words of docker's runtime. */
function checkedSysctls(input: OciInput): Record<string, string> {
  for (const name of Object.keys(input.spec.sysctls ?? {})) {
    const namespace = sysctlNamespace(name);
    const fail = (message: string): never => { throw new ApiError('InternalError', `failed to create task for container: OCI runtime create failed: ${message}`); };
    if (namespace === undefined) fail(`sysctl "${name}" is not in a separate kernel namespace`);
    else if (input.namespaces[namespace] === 'host') fail(namespace === 'network' ? `sysctl "${name}" not allowed in host network namespace` : `sysctl "${name}" is not allowed in the host's ${namespace} namespace`);
  }
  return input.spec.sysctls ?? {};
}

function planNamespaces(input: OciInput): { type: string; path?: string }[] {
  const out: { type: string; path?: string }[] = [{ type: 'mount' }];
  const add = (type: string, path: string | undefined): void => {
    if (path === 'host') return;
    out.push(path === undefined ? { type } : { type, path });
  };
  add('network', input.namespaces.network);
  add('ipc', input.namespaces.ipc);
  add('uts', input.namespaces.uts);
  add('pid', input.namespaces.pid);
  if ((input.spec.cgroupNamespace ?? (input.cgroupMode === 'v2' ? 'private' : 'host')) === 'private') out.push({ type: 'cgroup' });
  return out;
}

interface OciMount { destination: string; type: string; source: string; options: string[] }

function planMounts(input: OciInput, privileged: boolean): OciMount[] {
  const { spec } = input;
  const readOnlyKernel = privileged ? [] : ['ro'];
  const cgroup: OciMount = { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...readOnlyKernel, 'nosuid', 'noexec', 'nodev'] };
  const sys: OciMount = input.namespaces.network === 'host'
    ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', ...readOnlyKernel] }
    : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', ...readOnlyKernel] };
  const shm: OciMount = input.shmPath !== undefined
    ? { destination: '/dev/shm', type: 'bind', source: input.shmPath, options: ['rbind', 'nosuid', 'noexec', 'nodev'] }
    : { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', `size=${spec.shmSizeBytes ?? shmSizeBytesDefault}`] };
  const mqueue: OciMount = input.namespaces.ipc === 'host' && input.hasHostMqueue
    ? { destination: '/dev/mqueue', type: 'bind', source: '/dev/mqueue', options: ['rbind', 'nosuid', 'noexec', 'nodev'] }
    : { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] };
  const base: OciMount[] = [
    input.namespaces.pid === 'host'
      ? { destination: '/proc', type: 'bind', source: '/proc', options: ['rbind', 'nosuid', 'noexec', 'nodev'] }
      : { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    sys, cgroup, mqueue, ...(spec.ipcMode?.type === 'none' ? [] : [shm]),
  ];
  const wanted = input.mounts.map((mount) => planMount(mount));
  if (input.initPath !== undefined) wanted.push({ destination: '/sbin/docker-init', type: 'bind', source: input.initPath, options: ['bind', 'ro'] });
  const replaced = new Set(wanted.map((mount) => mount.destination));
  // A mount below another must come after it, whatever order the user gave.
  return [...base.filter((mount) => !replaced.has(mount.destination)), ...wanted.sort((a, b) => depth(a.destination) - depth(b.destination))];
}

function depth(path: string): number { return path.split('/').filter(Boolean).length; }

function planMount(mount: Mount): OciMount {
  if (mount.type === 'tmpfs') {
    const size = mount.tmpfsSizeBytes === undefined ? [] : [`size=${mount.tmpfsSizeBytes}`];
    return { destination: mount.target, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'noexec', `mode=${(mount.tmpfsMode ?? 0o1777).toString(8)}`, ...size, ...(mount.readOnly ? ['ro'] : [])] };
  }
  return { destination: mount.target, type: 'bind', source: mount.source, options: ['rbind', mount.propagation ?? 'rprivate', ...(!mount.readOnly ? ['rw'] : mount.recursiveReadOnly === true ? ['rro'] : ['ro'])] };
}

function planResources(input: OciInput, privileged: boolean): Record<string, unknown> {
  const limits = input.spec.resources;
  const devices = privileged
    ? [{ allow: true, access: 'rwm' }]
    : [
      { allow: false, access: 'rwm' },
      ...deviceRules.map(([type, major, minor, access]) => ({ allow: true, type, ...(major === undefined ? {} : { major }), ...(minor === undefined ? {} : { minor }), access })),
      ...input.hostDevices.map((device) => ({ allow: true, type: device.type, major: device.major, minor: device.minor, access: device.access })),
    ];
  const memory = clean({ limit: limits.memoryLimitBytes, reservation: limits.memoryReservationBytes, swap: limits.memorySwapBytes });
  const cpu = clean({ shares: limits.cpuShares, quota: limits.cpuQuotaUs, period: limits.cpuPeriodUs, cpus: limits.cpusetCpus });
  return {
    devices,
    ...(memory === undefined ? {} : { memory }),
    ...(cpu === undefined ? {} : { cpu }),
    ...(limits.pidsMax === undefined || limits.pidsMax <= 0 ? {} : { pids: { limit: limits.pidsMax } }),
  };
}

/** Without what is absent or zero; undefined when nothing is left. */
function clean<T extends Record<string, number | string | undefined>>(values: T): Partial<T> | undefined {
  const left = Object.entries(values).filter(([, value]) => value !== undefined && value !== 0 && value !== '');
  return left.length === 0 ? undefined : (Object.fromEntries(left) as Partial<T>);
}
