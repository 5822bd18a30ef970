/**
 * Gathers what an OCI configuration needs from image, root filesystem, host and other containers. The configuration
 * itself is oci-spec.ts.
 */
import { lstatSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { deviceParts } from '#os/special-files.ts';
import type { Container } from '../container.ts';
import { hostnameOf } from '../dns-names.ts';
import type { ContainerSpec, Mount } from '../engine.ts';
import type { ContainerTable } from '../container-table.ts';
import { linkEnvironment } from '../links.ts';
import { checkApparmor, planApparmor } from './apparmor.ts';
import { planCapabilities } from './capabilities.ts';
import { applyDeviceRequests } from './device-requests.ts';
import { buildOciSpec } from './oci-spec.ts';
import type { OciDevice } from './oci-spec.ts';
import { resolveInRoot } from './root-path.ts';
import { kernelAtLeast, planSeccomp } from './seccomp.ts';
import { checkNul } from '../spec-checks.ts';
import { resolveUser } from './user.ts';
import { asFileOwner } from '#os/file-owner.linux.ts';
import type { UserMapping } from '../user-mapping.ts';

const pathDefault = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export interface BundleParts {
  root: string;
  mounts: Mount[];
  cgroup: string;
  /** /dev/shm from elsewhere. */ shmPath?: string;
  /** Absent: it is in the host's user namespace. */
  mapping?: UserMapping;
  /** Path, `host`, or undefined for a new one. */ network: string | undefined;
}

export function buildBundle(table: ContainerTable, container: Container, parts: BundleParts): Record<string, unknown> {
  const { context } = table;
  const { spec, path, args } = container.record;
  const image = context.images.find(spec.imageId)?.config;
  const user = resolveUser(
    parts.root,
    spec.user === undefined || spec.user === '' ? image?.user : spec.user,
    spec.groupAdd,
    spec.strictGroups,
  );
  const workingDir = firstOf(spec.workingDir, image?.workingDir) ?? '/';
  const hostname = hostnameOf(table, container);
  const sandbox = spec.network.type === 'sandbox' ? table.sandboxes.get(spec.network.sandboxId) : undefined;
  const shared = joinedNamespaces(table, container);
  // Those of the request were looked at when it was made; an image is whoever's.
  checkNul('environment variable of the image', image?.env ?? []);
  checkNul('argument', [path, ...args, workingDir]);
  const prepare = (): void => {
    makeDirectory(parts.root, workingDir);
    for (const mount of parts.mounts) prepareTarget(parts.root, mount);
    if (spec.owner === 'docker') markRoot(parts.root);
  };
  if (parts.mapping === undefined) prepare();
  else asFileOwner(parts.mapping.view.root, prepare);
  const capabilities = planCapabilities({
    privileged: spec.security.privileged === true,
    add: spec.security.capAdd ?? [],
    drop: spec.security.capDrop ?? [],
    available: context.hostLimits.capabilities,
  });
  checkApparmor(spec.security.apparmor, context.apparmorDefault);
  const configuration = buildOciSpec({
    ...optional(
      'apparmorProfile',
      planApparmor(spec.security.apparmor, spec.security.privileged === true, context.apparmorDefault),
    ),
    spec: withoutLost(spec, context.os.cgroups.controllers, context.os.cgroups.mode),
    root: parts.root,
    args: [path, ...args],
    env: planEnvironment(spec, [...linkEnvironment(table, container), ...(image?.env ?? [])], hostname, user.home),
    user,
    workingDir,
    hostname,
    cgroupsPath: parts.cgroup,
    cgroupMode: context.os.cgroups.mode,
    isRootless: context.isRootless,
    capabilities,
    seccomp: isWithoutSeccomp(spec) ? undefined : planSeccomp(spec.security.seccomp, capabilities),
    mounts: parts.mounts.map(planBelow),
    namespaces: {
      ...shared,
      ...(parts.network === undefined ? {} : { network: parts.network }),
      ...(parts.mapping === undefined ? {} : { user: parts.mapping.namespace }),
    },
    ...(spec.init === true ? { initPath: findInit(table) } : {}),
    ...optional('oomScoreAdj', context.hostLimits.clampOomScoreAdj(spec.resources.oomScoreAdj ?? 0)),
    rlimits: context.hostLimits.planRlimits(spec.resources.ulimits),
    hostDevices: spec.security.privileged === true ? allDevices() : planDevices(spec),
    ...optional('shmPath', sandbox?.shmPath ?? parts.shmPath),
    hasHostMqueue: statSync('/dev/mqueue', { throwIfNoEntry: false }) !== undefined,
    canLockBelow: kernelAtLeast('5.12'),
  });
  applyDeviceRequests(configuration, spec.resources.deviceRequests ?? [], context.cdiDirectories);
  return configuration;
}

/**
 * Privileged means without the default profile; a profile that a user of docker names is applied. In a Pod privileged
 * containers have none at all.
 */
function isWithoutSeccomp({ owner, security }: ContainerSpec): boolean {
  if (security.privileged !== true) return false;
  return owner === 'kubelet' || ['', 'default', 'builtin'].includes(security.seccomp ?? '');
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

function firstOf(...values: (string | undefined)[]): string | undefined {
  return values.find((value) => value !== undefined && value !== '');
}

/** Image, then request, later ones replacing earlier ones of the same name; docker's own variables first. */
export function planEnvironment(
  spec: { env: string[]; tty: boolean },
  image: string[],
  hostname: string,
  home: string,
): string[] {
  const merged = new Map<string, string>();
  const put = (entry: string): void => {
    const at = entry.indexOf('=');
    if (at > 0) merged.set(entry.slice(0, at), entry);
    else if (at < 0) merged.delete(entry);
  };
  put(pathDefault);
  put(`HOSTNAME=${hostname}`);
  if (spec.tty) put('TERM=xterm');
  for (const entry of image) put(entry);
  for (const entry of spec.env) put(entry);
  if (!merged.has('HOME')) put(`HOME=${home}`);
  return [...merged.values()];
}

function makeDirectory(root: string, path: string): void {
  const target = resolveInRoot(root, path);
  const stat = statSync(target, { throwIfNoEntry: false });
  if (stat === undefined) mkdirSync(target, { recursive: true, mode: 0o755 });
  else if (!stat.isDirectory())
    throw new ApiError('BadRequest', `failed to create task for container: cannot mkdir: ${path}: not a directory`);
}

/** A file is mounted on a file, a directory on a directory: what is missing in the root is made, as docker does. */
function prepareTarget(root: string, mount: Mount): void {
  const target = resolveInRoot(root, mount.target);
  if (lstatSync(target, { throwIfNoEntry: false }) !== undefined) return;
  const source = mount.type === 'tmpfs' ? undefined : statSync(mount.source, { throwIfNoEntry: false });
  if (mount.type !== 'tmpfs' && source === undefined)
    throw new ApiError(
      'BadRequest',
      `invalid mount config for type "bind": bind source path does not exist: ${mount.source}`,
    );
  mkdirSync(source === undefined || source.isDirectory() ? target : dirname(target), { recursive: true, mode: 0o755 });
  if (source !== undefined && !source.isDirectory()) writeFileSync(target, '', { flag: 'a', mode: 0o755 });
}

/** Nothing is below a file, and crun locks what is below (`rro`) of directories alone. */
function planBelow(mount: Mount): Mount {
  if (mount.readOnlyBelow === undefined || mount.type === 'tmpfs' || statSync(mount.source).isDirectory()) return mount;
  const { readOnlyBelow: _, ...flat } = mount;
  return flat;
}

/** By this file programs know that they run in a container of docker's. */
export function markRoot(root: string): void {
  if (lstatSync(`${root}/.dockerenv`, { throwIfNoEntry: false }) === undefined)
    writeFileSync(`${root}/.dockerenv`, '', { mode: 0o755 });
}

function joinedNamespaces(table: ContainerTable, container: Container): { ipc?: string; uts?: string; pid?: string } {
  const { spec } = container.record;
  const out: { ipc?: string; uts?: string; pid?: string } = {};
  if (spec.network.type === 'sandbox') {
    const sandbox = table.sandboxes.get(spec.network.sandboxId);
    Object.assign(out, {
      ipc: sandbox.spec.hostIpc === true ? 'host' : table.sandboxNamespace(sandbox.spec.id, 'ipc'),
      uts: sandbox.spec.network === 'host' ? 'host' : table.sandboxNamespace(sandbox.spec.id, 'uts'),
    });
    if (sandbox.spec.hostPid === true) out.pid = 'host';
    else if (sandbox.initPid !== undefined) out.pid = `/proc/${sandbox.initPid}/ns/pid`;
  }
  if (spec.network.type === 'container')
    out.uts = `/proc/${runningPid(table, spec.network.containerId, 'network')}/ns/uts`;
  if (spec.pidMode?.type === 'host') out.pid = 'host';
  if (spec.pidMode?.type === 'container')
    out.pid = `/proc/${runningPid(table, spec.pidMode.containerId, 'PID')}/ns/pid`;
  if (spec.ipcMode?.type === 'host') out.ipc = 'host';
  if (spec.hostUts === true) out.uts = 'host';
  if (spec.ipcMode?.type === 'container') {
    const donor = table.get(spec.ipcMode.containerId);
    const mode = donor.record.spec.ipcMode?.type;
    if (mode !== 'shareable' && mode !== 'host')
      throw new ApiError(
        'InternalError',
        `can't join IPC of container ${donor.id}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)`,
      );
    out.ipc = mode === 'host' ? 'host' : `/proc/${runningPid(table, donor.id, 'IPC')}/ns/ipc`;
  }
  return out;
}

function runningPid(table: ContainerTable, reference: string, what: string): number {
  const other = table.get(reference);
  if (!other.isRunning)
    throw new ApiError('InternalError', `failed to join ${what} namespace: container ${other.id} is not running`);
  return other.record.run!.pid;
}

function findInit(table: ContainerTable): string {
  const { processes } = table.context.os;
  const found = processes.find('docker-init') ?? processes.find('tini') ?? processes.find('catatonit');
  if (found === undefined)
    throw new ApiError(
      'InternalError',
      'failed to create task for container: no init program (tini or catatonit) is installed',
    );
  return found;
}

const noDevices = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', '.lxc', '.lxd-mounts', '.udev']);

/** Every device node below a directory of the host; links are not followed. */
function devicesBelow(directory: string, target: string, access: string): OciDevice[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = `${directory}/${entry.name}`;
    if (entry.isDirectory())
      return noDevices.has(entry.name) ? [] : devicesBelow(path, `${target}/${entry.name}`, access);
    if (!entry.isCharacterDevice() && !entry.isBlockDevice()) return [];
    const stat = lstatSync(path, { throwIfNoEntry: false });
    return stat === undefined || noDevices.has(entry.name)
      ? []
      : [describeDevice(stat, `${target}/${entry.name}`, access)];
  });
}

function allDevices(): OciDevice[] {
  return devicesBelow('/dev', '/dev', 'rwm');
}

function describeDevice(stat: Stats, path: string, access: string): OciDevice {
  const { major, minor } = deviceParts(stat.rdev);
  return {
    path,
    type: stat.isBlockDevice() ? 'b' : 'c',
    major,
    minor,
    fileMode: stat.mode & 0o777,
    uid: stat.uid,
    gid: stat.gid,
    access,
  };
}

function planDevices(spec: ContainerSpec): OciDevice[] {
  return (spec.resources.devices ?? []).flatMap((device) => {
    const access = device.permissions === '' ? 'rwm' : device.permissions;
    const fail = (reason: string): never => {
      throw new ApiError(
        'InternalError',
        `error gathering device information while adding custom device "${device.hostPath}": ${reason}`,
      );
    };
    const stat = statSync(device.hostPath, { throwIfNoEntry: false }) ?? fail('no such file or directory');
    if (stat.isCharacterDevice() || stat.isBlockDevice()) return [describeDevice(stat, device.containerPath, access)];
    const below = stat.isDirectory() ? devicesBelow(device.hostPath, device.containerPath, access) : [];
    return below.length > 0 ? below : fail('not a device node');
  });
}

/** Limits that no controller of this host can hold are left out, as the runtime would refuse the container. */
function withoutLost(spec: ContainerSpec, controllers: readonly string[], mode: string): ContainerSpec {
  const resources = { ...spec.resources };
  const has = (name: string): boolean => controllers.includes(name);
  if (!has('memory'))
    for (const key of ['memoryLimitBytes', 'memoryReservationBytes', 'memorySwapBytes'] as const) delete resources[key];
  if (!has('cpu')) for (const key of ['cpuShares', 'cpuQuotaUs', 'cpuPeriodUs'] as const) delete resources[key];
  if (!has('cpuset')) for (const key of ['cpusetCpus', 'cpusetMems'] as const) delete resources[key];
  if (!has('pids')) delete resources.pidsMax;
  if (
    mode !== 'v2' &&
    statSync('/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes', { throwIfNoEntry: false }) === undefined
  )
    delete resources.memorySwapBytes;
  return { ...spec, resources };
}
