/**
 * `start`: everything between a record and a running process. The slow parts go side by side:
 *
 *   root mounted ─┬─ bundle written ── monitor creates the process ─┐
 *   namespace ────┴─ addresses, veth pairs ─────────────────────────┴─ record says running ─ gate opened ─ ports, names
 *
 * Whatever fails takes back what was made (undo stack). Should the engine die in between, recovery finds the bundle
 * without a running record and takes it apart; after the record says `running`, the start is completed instead.
 */
import { ipFamilies } from '#base/ip.ts';
import { chownSync, mkdirSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { awaitedLater, whenSettled } from '#base/promises.ts';
import { monitorsCgroup } from '#net/kernel-names.ts';
import { readIfExists, removeTree } from '#os/files.ts';
import { connectEndpoints, planContainerNetwork } from './container-network.ts';
import type { ContainerNetwork } from './container-network.ts';
import { hostnameOf, resolverOf } from './dns-names.ts';
import { bundleDirectory, cgroupPath, logPathOf, shmPath } from './container-paths.ts';
import { containerDirectory } from './container-record.ts';
import type { ContainerRecord, EndpointRecord, RunRecord } from './container-record.ts';
import type { ContainerTable } from './container-table.ts';
import type { EngineContext } from './context.ts';
import { eventAttributes } from './container.ts';
import type { Container } from './container.ts';
import type { ContainerSpec, Mount } from './engine.ts';
import { hostsFile, readHostResolver, resolverFile, writeEtcFiles } from './etc-files.ts';
import { mountImages, unmountImages } from './image-mounts.ts';
import { linkHosts } from './links.ts';
import { forwardLog, openStartSink } from './log-drivers/open.ts';
import { logBoundOf, monitorBytes } from './log-rotation.ts';
import { addressesOf, blocksOf } from './network-record.ts';
import { makeShallowBinds, removeShallowBinds } from './shallow-binds.ts';
import { subDirectory } from './sub-path.ts';
import { checkPropagation } from './propagation.ts';
import { buildBundle } from './runtime/bundle.ts';
import { shmSizeBytesDefault } from './runtime/oci-spec.ts';
import { forgetUdpFlows } from './udp-flows.ts';
import type { MappedView } from '#content/snapshots.ts';
import { mappingFor } from './container-mapping.ts';
import { openPassage } from './user-mapping.ts';

// walk docker-run 4/7: `POST /start`: root, network and ports are made, each with its undo, and the record of the run
// is written.
export async function startContainer(table: ContainerTable, container: Container): Promise<void> {
  const { context } = table;
  const { record } = container;
  const bundle = bundleDirectory(context.directories.run, record.id);
  await using undo = new AsyncDisposableStack();
  try {
    removeTree(bundle);
    mkdirSync(bundle, { recursive: true, mode: 0o700 });
    undo.defer(() => removeTree(bundle));
    const net = await planContainerNetwork(table, container, undo);
    const volumes: string[] = [];
    undo.defer(async () => {
      await Promise.all(volumes.map((name) => table.volumes.release(name, record.id)));
    });
    undo.defer(() => unmountSources(context, record));
    const resolved = awaitedLater(resolveMounts(table, container, net, volumes));
    // What it begins while something else fails is undone once it is there.
    undo.defer(() => whenSettled(resolved));
    const mapping = mappingFor(table, record);
    const rooted = mountRoot(context, container, { view: mapping?.view, undo });
    const [{ root }, mounts] = await Promise.all([rooted, resolved, net.ready.then(() => undefined)]);
    container.root = root;
    if (mapping !== undefined) openPassages(table, record.id, { root, gid: mapping.view.root.gid });
    const cgroup = enterCgroup(table, container, undo);
    const shmPath = await prepareShm(table, container, undo);
    const spec = buildBundle(table, container, {
      root,
      mounts,
      cgroup,
      network: net.namespace,
      ...(mapping === undefined ? {} : { mapping }),
      ...(shmPath === undefined ? {} : { shmPath }),
    });
    const connected = awaitedLater(connectEndpoints(table, container, net));
    undo.defer(() => whenSettled(connected).then(() => table.names.detach(record.id)));
    const sink = await openStartSink(table, container);
    if (sink !== undefined) undo.defer(() => sink.close());
    const process = await createProcess(table, container, { bundle, configuration: spec, cgroup }, undo);
    await connected;
    applyWeight(table, container, cgroup);
    const run: RunRecord = {
      bootId: context.bootId,
      ...process,
      ...startTimesOf(context, process),
      cgroup,
      ...(mapping === undefined ? {} : { isMapped: true as const }),
      ...(net.path === undefined ? {} : { networkNamespace: net.path }),
      endpoints: net.endpoints,
      ports: net.ports,
    };
    if (container.hub !== undefined && !container.hub.isEmpty) await container.hub.connect(`${bundle}/attach`);
    await context.rules.publish(net.ports);
    await forgetUdpFlows(context, net.ports);
    noteRun(context, container, run);
    forwardLog(table, container, sink);
    undo.move();
  } catch (error) {
    noteFailure(context, container, error);
    throw error;
  }
  emitNetwork(table, container, container.record.run?.endpoints ?? [], 'connect');
  emitVolumes(table, container, 'mount');
  table.onStarted(container);
  await context.runtimes.get(record.spec.runtime).start(record.id);
  emitStart(context, container);
}

async function unmountSources(context: EngineContext, record: ContainerRecord): Promise<void> {
  await Promise.all([unmountImages(context, record), removeShallowBinds(context, record.id)]);
}

function emitStart(context: EngineContext, container: Container): void {
  const { id, spec } = container.record;
  const attributes = eventAttributes(container);
  context.events.emit({ type: 'container', action: 'start', id, attributes, owner: spec.owner });
}

/** The root, which goes with `undo`. */
function mountRoot(
  { snapshots }: EngineContext,
  container: Container,
  { view, undo }: { view: MappedView | undefined; undo: AsyncDisposableStack },
): Promise<{ root: string }> {
  const { id, spec } = container.record;
  const rooted = snapshots.mountContainerRoot(id, spec.imageId, view);
  undo.defer(async () => {
    await rooted.then(
      () => snapshots.unmountContainerRoot(id),
      () => undefined,
    );
    container.root = undefined;
  });
  return rooted;
}

function startTimesOf(
  { os }: EngineContext,
  { pid, monitorPid }: { pid: number; monitorPid: number },
): Pick<RunRecord, 'pidStartTime' | 'monitorStartTime'> {
  const at = (of: number): string => os.processes.startTime(of) ?? '';
  return { pidStartTime: at(pid), monitorStartTime: at(monitorPid) };
}

/** What is below these directories the container's root comes to by its path. */
function openPassages({ context }: ContainerTable, id: string, { root, gid }: { root: string; gid: number }): void {
  for (const path of [dirname(root), containerDirectory(context.directories.data, id)]) openPassage(path, gid);
}

function noteRun(context: EngineContext, container: Container, run: RunRecord): void {
  Object.assign(container.record, {
    run,
    state: 'running',
    startedAtMs: context.clock.now(),
    finishedAtMs: 0,
    exitCode: undefined,
    oomKilled: false,
    error: '',
    stoppedByUser: false,
  });
  container.save(context);
}

function noteFailure(context: EngineContext, container: Container, error: unknown): void {
  const { record } = container;
  Object.assign(record, {
    error: messageOf(error),
    exitCode: exitCodeOf(error as Error),
    state: record.startedAtMs === 0 ? 'created' : 'exited',
  });
  container.save(context);
  container.hub?.fail();
}

/**
 * The group of a container below the parent it asks for: a Pod's is made here, docker's is shared while somebody is in.
 */
function enterCgroup({ context }: ContainerTable, container: Container, undo: AsyncDisposableStack): string {
  const { id, spec } = container.record;
  const parent = spec.cgroupParent;
  if (parent !== undefined && spec.owner === 'kubelet') context.os.cgroups.create(parent);
  else if (parent !== undefined) {
    context.cgroupParents.enter(parent, id);
    undo.defer(() => context.cgroupParents.leave(parent, id));
  }
  return cgroupPath(context, container);
}

function applyWeight({ context }: ContainerTable, { record }: Container, cgroup: string): void {
  const weight = record.spec.resources.blockIo?.weight ?? 0;
  const refused = weight === 0 ? [] : context.os.cgroups.applyLimits(cgroup, { blockIoWeight: weight });
  if (refused.length > 0)
    throw new ApiError('InternalError', `failed to set the weight of block devices: ${refused.join(', ')}`);
}

/**
 * Where /dev/shm comes from when it is not the container's alone: a tmpfs outside that others bind too, the host's,
 * another's.
 */
async function prepareShm(
  table: ContainerTable,
  container: Container,
  undo: AsyncDisposableStack,
): Promise<string | undefined> {
  const { context } = table;
  const mode = container.record.spec.ipcMode;
  if (mode?.type === 'host') return '/dev/shm';
  if (mode?.type === 'container')
    return table.get(mode.containerId).record.spec.ipcMode?.type === 'host'
      ? '/dev/shm'
      : shmPath(context.directories.run, table.get(mode.containerId).id);
  if (mode?.type !== 'shareable') return undefined;
  const path = shmPath(context.directories.run, container.id);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  undo.defer(async () => {
    await context.os.mounts.unmount(path);
    removeTree(path);
  });
  await context.os.mounts.mountTmpfs(path, {
    sizeBytes: container.record.spec.shmSizeBytes ?? shmSizeBytesDefault,
    mode: 0o1777,
  });
  const mapping = mappingFor(table, container.record);
  if (mapping !== undefined) {
    openPassage(dirname(path), mapping.view.root.gid);
    chownSync(path, mapping.view.root.uid, mapping.view.root.gid);
  }
  return path;
}

/** Docker tells of each network when a container comes on it and goes. */
export function emitNetwork(
  table: ContainerTable,
  container: Container,
  endpoints: EndpointRecord[],
  action: 'connect' | 'disconnect',
): void {
  if (container.record.spec.owner !== 'docker') return;
  for (const endpoint of endpoints) {
    const network = table.networks.findExact(endpoint.networkId);
    if (network !== undefined)
      table.context.events.emit({
        type: 'network',
        action,
        id: network.id,
        attributes: { container: container.id, name: network.name, type: network.driver },
      });
  }
}

/** Docker tells of each volume when a container begins to use it and ends. */
export function emitVolumes(table: ContainerTable, container: Container, action: 'mount' | 'unmount'): void {
  if (container.record.spec.owner !== 'docker') return;
  for (const mount of container.record.spec.mounts) {
    if (mount.type !== 'volume') continue;
    const about = {
      destination: mount.target,
      'read/write': String(!mount.readOnly),
      propagation: mount.propagation ?? '',
    };
    table.context.events.emit({
      type: 'volume',
      action,
      id: mount.source,
      attributes: {
        driver: table.volumes.find(mount.source)?.driver ?? '',
        container: container.id,
        ...(action === 'mount' ? about : {}),
      },
    });
  }
}

/** As the shell has it, and docker: 127 not found, 126 not executable, else 128. */
function exitCodeOf(error: Error): number {
  if (/executable file not found|no such file or directory/i.test(error.message)) return 127;
  if (/permission denied|is a directory/i.test(error.message)) return 126;
  return 128;
}

// walk docker-run 6/7: conmon starts crun and stays as the monitor: it holds log and exit status.
interface ProcessPlace {
  bundle: string;
  configuration: Record<string, unknown>;
  cgroup: string;
}

async function createProcess(
  table: ContainerTable,
  container: Container,
  { bundle, configuration, cgroup }: ProcessPlace,
  undo: AsyncDisposableStack,
): Promise<{ pid: number; monitorPid: number }> {
  const { context } = table;
  const { record } = container;
  context.runtime.forget(record.id);
  undo.defer(() => {
    context.runtime.forget(record.id);
    context.os.cgroups.killAll(cgroup);
    context.os.cgroups.remove(cgroup);
  });
  const process = await context.runtimes.get(record.spec.runtime).create(
    {
      id: record.id,
      name: record.spec.name,
      bundle,
      terminal: record.spec.tty,
      stdin: record.spec.openStdin,
      leaveStdinOpen: !record.spec.stdinOnce || record.spec.tty,
      logPath: logPathOf(table, container),
      logBytesMax: monitorBytes(logBoundOf(record.spec)),
    },
    configuration,
  );
  context.os.cgroups.adopt(cgroup, process);
  await removeShallowBinds(context, record.id);
  // Not awaited: the kernel may take its time to move a process, and nothing depends on it.
  if (context.os.cgroups.top !== '')
    void context.os.cgroups.enter(monitorsCgroup(context.instanceId, context.os.cgroups.top), process.monitorPid);
  undo.defer(() => {
    context.os.processes.kill(process.pid, 'SIGKILL');
    context.os.processes.kill(process.monitorPid, 'SIGKILL');
  });
  return process;
}

/** Volumes as directories, binds checked, and the engine's own /etc files. `volumes` gets the names that are held. */
async function resolveMounts(
  table: ContainerTable,
  container: Container,
  net: ContainerNetwork,
  volumes: string[],
): Promise<Mount[]> {
  const { spec } = container.record;
  const out: Mount[] = [];
  const images = await mountImages(table.context, container.record);
  for (const mount of spec.mounts) {
    const image = images.get(mount.target);
    if (image !== undefined) out.push({ ...mount, type: 'bind', source: subDirectory(image, mount) });
    else if (mount.type === 'volume') {
      const path = await table.volumes.use(mount.source, container.id);
      volumes.push(mount.source);
      out.push({ ...mount, source: subDirectory(path, mount) });
    } else {
      if (mount.type === 'bind' && mount.makeSource === true) makeSource(mount.source);
      // A Pod's volumes are where the kubelet put them; what the host does not share it cannot.
      if (spec.owner === 'docker' && statSync(mount.source, { throwIfNoEntry: false }) !== undefined)
        checkPropagation(mount, () => readIfExists('/proc/self/mountinfo') ?? '');
      out.push(mount);
    }
  }
  const directory = containerDirectory(table.context.directories.data, container.id);
  const etcFiles = sharedEtcFiles(table, container) ?? spec.etcFiles;
  const etc = writeEtcFiles(
    directory,
    { ...spec, ...(etcFiles === undefined ? {} : { etcFiles }) },
    etcTexts(table, container, net.endpoints),
  );
  const owner = mappingFor(table, container.record)?.view.root ?? { uid: 0, gid: 0 };
  for (const { source } of etc) if (dirname(source) === directory) chownSync(source, owner.uid, owner.gid);
  return [...etc, ...(await makeShallowBinds(table.context, container.id, out))];
}

/**
 * Whoever shares another's network shares its names, too: the very files, so that what is written there later holds for
 * both.
 */
function sharedEtcFiles(table: ContainerTable, container: Container): ContainerSpec['etcFiles'] {
  const { network } = container.record.spec;
  if (network.type !== 'container') return undefined;
  const other = table.get(network.containerId);
  const directory = containerDirectory(table.context.directories.data, other.id);
  return (
    sharedEtcFiles(table, other) ?? {
      hosts: `${directory}/hosts`,
      hostname: `${directory}/hostname`,
      resolvConf: `${directory}/resolv.conf`,
      ...other.record.spec.etcFiles,
    }
  );
}

/** A directory where nothing is; what is there, of whatever kind, is what is meant. */
function makeSource(path: string): void {
  if (statSync(path, { throwIfNoEntry: false }) !== undefined) return;
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw new ApiError(
      'InternalError',
      `error while creating mount source path '${path}': mkdir ${path}: ${lowerReason(error)}`,
    );
  }
}

/** The system's words, as Go writes them. */
function lowerReason(error: unknown): string {
  const reason = /^[A-Z]+: ([^,]*)/.exec(messageOf(error))?.[1];
  return reason ?? messageOf(error);
}

export function etcTexts(
  table: ContainerTable,
  container: Container,
  endpoints: EndpointRecord[],
): { hosts: string; hostname: string; resolvConf: string } {
  const { spec } = container.record;
  const hostname = hostnameOf(table, container);
  const domain = spec.domainname === undefined || spec.domainname === '' ? [] : [`${hostname}.${spec.domainname}`];
  const entries = endpoints.flatMap((endpoint) =>
    addressesOf(endpoint).map((ip) => ({ ip, names: [...domain, hostname] })),
  );
  if (spec.network.type === 'none') entries.push({ ip: '127.0.1.1', names: [hostname] });
  const extra = (spec.extraHosts ?? []).flatMap((entry) => {
    const at = entry.search(/[:=]/);
    const [name, ip] = [entry.slice(0, at), entry.slice(at + 1).replace(/^\[(.*)\]$/, '$1')];
    return (ip === 'host-gateway' ? hostGateways(table) : [ip]).map((each) => ({ name, ip: each }));
  });
  return {
    hosts: hostsFile({ entries, extra: [...extra, ...linkHosts(table, container)] }),
    hostname: `${hostname}\n`,
    resolvConf: resolverFile(resolverOf(table, container, readHostResolver())),
  };
}

/** The host as containers see it: the default bridge's addresses. */
function hostGateways(table: ContainerTable): string[] {
  const { hostGateways: told } = table.context.networkSettings;
  if (told !== undefined) return [...told];
  const bridge = table.networks.findExact('bridge');
  const found = ipFamilies.flatMap((family) =>
    (bridge === undefined ? [] : blocksOf(bridge, family)).flatMap(({ gateway }) => gateway ?? []),
  );
  return found.length === 0 ? ['127.0.0.1'] : found;
}
