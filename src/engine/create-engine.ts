/**
 * The engine, put together: doors to the system, networks, volumes, sandboxes, containers, recovery. Whoever composes
 * the platform calls
 * `createEngine` and gets what engine.ts promises, and what the docker façade needs beyond it.
 */
import { mkdirSync } from 'node:fs';
import type { Snapshots } from '#content/snapshots.ts';
import { startRelay } from '#net/port-relay.ts';
import { ipFamilies } from '#base/ip.ts';
import { Ports } from '#net/ports.ts';
import { createNoRules, createRuleWriter } from '#net/rules.ts';
import type { RuleWriter } from '#net/rules.ts';
import { coverForward } from '#net/firewall.ts';
import { monitorsCgroup } from '#net/kernel-names.ts';
import type { Logger } from '#observe/log.ts';
import { CgroupParents } from '#os/cgroup-parents.ts';
import { createCgroups } from '#os/cgroups.linux.ts';
import type { Clock, Random } from '#os/clock.ts';
import { readIfExists, tryLock } from '#os/files.ts';
import { createMounts } from '#os/mount.linux.ts';
import type { Mounts } from '#os/mount.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import type { Netlink } from '#os/netlink.ts';
import { createPoll } from '#os/poll.linux.ts';
import { linuxPortHolder, type PortHolder } from '#os/ports.ts';
import type { Cgroups } from '#os/cgroups.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createUserNamespaces, type IdMaps } from '#os/user-namespaces.linux.ts';
import { ApiError } from '#base/errors.ts';
import { usualPlaces, type ManagedAddresses, type PluginPlaces } from '#plugins/discovery.ts';
import { Plugins } from '#plugins/plugins.ts';
import { VolumeDrivers } from '#plugins/volume-driver.ts';
import { usualCdiDirectories } from './cdi-devices.ts';
import { Containers } from './containers.ts';
import type { EngineContext } from './context.ts';
import type { Engine, Images } from './engine.ts';
import { Events } from './events.ts';
import { NameServer } from './dns.ts';
import type { NetworkSettings } from './network-settings.ts';
import { Networks } from './networks.ts';
import { adoptAddresses, loadContainers, recoverContainers } from './recovery.ts';
import { lockRetryMs, lockWaitMsMax } from './limits.ts';
import { ContainerTable } from './container-table.ts';
import { readHostLimits } from './runtime/host-limits.ts';
import { loadDefaultProfile } from './runtime/apparmor.ts';
import { createRuntime } from './runtime/runtime.ts';
import { createRuntimes, type RuntimePrograms } from './runtime/runtimes.ts';
import { Sandboxes } from './sandboxes.ts';
import { openUserMapping, type UserMapping } from './user-mapping.ts';
import { Volumes } from './volumes.ts';

export interface EngineOptions {
  /** Kept: records, logs, volumes. */
  dataDir: string;
  /** Gone after a reboot: bundles, namespaces, sockets. Short, since sockets live below it. */
  runDir: string;
  /** Four hexadecimal digits; in the name of everything that the engine puts into the kernel. */
  instanceId: string;
  nodeName: string;
  clock: Clock;
  random: Random;
  log: Logger;
  images: Images;
  snapshots: Snapshots;
  /** The node's part of the Pod range, e.g. `10.244.1.0/24`; absent: no sandboxes with a network of their own. */
  podCidr?: string;
  podMtu?: number;
  /** Packets of Pods to these prefixes keep their address; absent with `podCidr`: the range itself. */
  clusterCidrs?: string[];
  /** Shared with others in the process; absent: the engine's own. */
  mounts?: Mounts;
  /** Absent: docker's defaults. */
  networkSettings?: NetworkSettings;
  /** Absent: where vendors of devices put their descriptions. */
  cdiDirectories?: readonly string[];
  /** OCI runtimes besides the engine's own, by name. */
  runtimes?: RuntimePrograms;
  /** The engine is without root of the host: what it may make there. */
  rootless?: Rootless;
  /** Containers get a user namespace with these maps. */
  userMaps?: IdMaps;
  /** Absent: where docker looks for plugins. */
  pluginPlaces?: PluginPlaces;
  /** Plugins that run in containers of the engine's; absent: none do. */
  managedPlugins?: ManagedAddresses;
}

/** Ports of the host, taken from outside of the engine's own network namespace, and its control groups. */
export interface Rootless {
  holder: PortHolder;
  cgroups: Cgroups;
  /** Names the namespaces that the engine is in: with them all that ran has gone. */
  namespaces: string;
}

/** What docker's façade uses beyond `Engine`. */
export interface DockerEngine extends Engine {
  readonly containers: Containers;
  readonly sandboxes: Sandboxes;
  readonly networks: Networks;
  readonly volumes: Volumes;
  readonly table: ContainerTable;
  readonly events: Events;
  readonly context: EngineContext;
  readonly rules: RuleWriter;
  readonly netlink: Netlink;
  readonly plugins: Plugins;
  readonly isLocked: true;
}

export async function createEngine(options: EngineOptions): Promise<DockerEngine> {
  const { clock, random, images, instanceId } = options;
  const log = options.log.child('engine');
  makeDirectories(options);
  const lock = await lockData(options.dataDir, clock);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => lock.release());
  const { context, network } = await openContext(options, log, undo);
  const networks = new Networks(context, options.podCidr);
  const table = new ContainerTable(context, networks, new Volumes(context, new VolumeDrivers(context.plugins)));
  table.sandboxes = new Sandboxes(context, {
    ...(options.podCidr === undefined ? {} : { podCidr: options.podCidr }),
    ...(options.podMtu === undefined ? {} : { mtu: options.podMtu }),
  });
  table.names = new NameServer({ clock, log, random, nft: network.nft });
  undo.defer(() => table.names.close());
  const containers = new Containers(table);
  undo.defer(() => containers.close());
  loadContainers(table);
  await context.os.netlink.run([{ steps: [{ op: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' }] }]);
  await networks.start((networkId) => hasRun(table, networkId));
  if (options.networkSettings?.rules !== false)
    await coverForward({ processes: context.os.processes, instanceId, log, links: networks.namedLinks() });
  await table.sandboxes.start();
  adoptAddresses(table);
  await startRules(table, options);
  await recoverContainers(table, containers);
  const owned = undo.move();
  return {
    containers,
    sandboxes: table.sandboxes,
    images,
    networks,
    volumes: table.volumes,
    table,
    events: context.events,
    context,
    rules: context.rules,
    netlink: context.os.netlink,
    plugins: context.plugins,
    isLocked: true,
    onEvent: (listener) => context.events.listen(listener),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** What all parts of the engine share: doors to the kernel, each closed by `undo`, and what this host can do. */
async function openContext(
  options: EngineOptions,
  log: Logger,
  undo: AsyncDisposableStack,
): Promise<{ context: EngineContext; network: ReturnType<typeof createNetworkDoor> }> {
  const { clock, random, images, snapshots, instanceId } = options;
  const { holder = linuxPortHolder, cgroups = createCgroups((message, fields) => log.warn(message, fields)) } =
    options.rootless ?? {};
  if (cgroups.top !== '') cgroups.create(monitorsCgroup(instanceId, cgroups.top));
  const network = createNetworkDoor();
  undo.defer(() => network.close());
  const poll = createPoll();
  undo.defer(() => poll.close());
  const { relay = true, rules = true } = options.networkSettings ?? {};
  const ports = relay
    ? new Ports(holder, (fd, target) => startRelay(fd, target, clock), rules ? ['IPv6'] : ipFamilies)
    : new Ports(holder);
  undo.defer(() => ports.close());
  const mounts = options.mounts ?? createMounts();
  const runtimeOptions = { processes: linuxProcesses, cgroups, mounts, runDirectory: options.runDir };
  const runtime = createRuntime(runtimeOptions);
  const context: EngineContext = {
    instanceId,
    nodeName: options.nodeName,
    bootId: `${(readIfExists('/proc/sys/kernel/random/boot_id') ?? '').trim()}${options.rootless?.namespaces ?? ''}`,
    clock,
    random,
    log,
    directories: { data: options.dataDir, run: options.runDir },
    os: {
      processes: linuxProcesses,
      poll,
      netlink: network.netlink,
      namespaces: network.namespaces,
      mounts,
      cgroups,
    },
    snapshots,
    images,
    rules: rules
      ? createRuleWriter({ nft: network.nft, instanceId, log })
      : createNoRules({ nft: network.nft, instanceId }),
    ports,
    plugins: new Plugins({
      places: options.pluginPlaces ?? usualPlaces,
      ...(options.managedPlugins === undefined ? {} : { managed: options.managedPlugins }),
      clock,
      log,
    }),
    events: new Events(clock),
    runtime,
    runtimes: createRuntimes(runtime, runtimeOptions, options.runtimes ?? {}),
    hostLimits: readHostLimits(log, options.rootless !== undefined),
    isRootless: options.rootless !== undefined,
    networkSettings: options.networkSettings ?? {},
    cdiDirectories: options.cdiDirectories ?? usualCdiDirectories,
    ...(options.userMaps === undefined ? {} : { userMapping: await openMapping(options, options.userMaps, mounts) }),
    cgroupParents: new CgroupParents(cgroups, options.runDir),
    apparmorDefault:
      options.rootless === undefined ? await loadDefaultProfile(linuxProcesses, options.runDir, log) : undefined,
  };
  return { context, network };
}

function openMapping(
  { dataDir, runDir, snapshots }: EngineOptions,
  maps: IdMaps,
  mounts: Mounts,
): Promise<UserMapping> {
  mkdirSync(`${dataDir}/volumes`, { recursive: true, mode: 0o700 });
  const userNamespaces = createUserNamespaces(linuxProcesses, mounts);
  return openUserMapping({ data: dataDir, run: runDir, content: snapshots.contentRoot }, maps, {
    mounts,
    userNamespaces,
  });
}

function makeDirectories({ dataDir, runDir }: EngineOptions): void {
  const below = ['c', 'netns', 'sandboxes', 'runtime'].map((name) => `${runDir}/${name}`);
  for (const directory of [`${dataDir}/containers`, ...below]) mkdirSync(directory, { recursive: true, mode: 0o700 });
}

/** Whether a container of this boot was running on the network when the last engine ended. */
function hasRun(table: ContainerTable, networkId: string): boolean {
  return table
    .list()
    .some(
      ({ record: { run } }) =>
        run?.bootId === table.context.bootId && run.endpoints.some((endpoint) => endpoint.networkId === networkId),
    );
}

/** The rules of what runs already, and of the networks that are there. */
async function startRules(table: ContainerTable, options: EngineOptions): Promise<void> {
  const running = table.list().flatMap((container) => container.record.run?.ports ?? []);
  const pods =
    options.podCidr === undefined
      ? []
      : [
          {
            link: '',
            subnets: [{ subnet: options.podCidr, masquerade: true }],
            internal: false,
            together: true,
            guarded: [],
            routed: [],
            trusted: [],
          },
        ];
  await table.context.rules.start(
    [...running, ...table.sandboxes.publishedPorts()],
    [...table.networks.rules(), ...pods],
    options.clusterCidrs ?? (options.podCidr === undefined ? [] : [options.podCidr]),
  );
}

/** A child of a killed engine that was just about to become another program holds its lock for a moment longer. */
async function lockData(directory: string, clock: Clock): Promise<{ release(): void }> {
  const deadline = clock.monotonic() + lockWaitMsMax;
  for (;;) {
    const lock = tryLock(`${directory}/engine.lock`);
    if (lock !== undefined) return lock;
    if (clock.monotonic() > deadline) throw new ApiError('Conflict', `another engine works on ${directory}`);
    await clock.sleep(lockRetryMs);
  }
}
