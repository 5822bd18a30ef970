/**
 * What a new engine does with what the last one left. Records are the truth:
 *
 *   running, monitor alive the container goes on; it is watched again, its address and ports are taken, a start cut
 *   short is completed
 *   running, monitor gone it ended meanwhile: the exit file has its code; everything is given back, the restart policy
 *   acts
 *   not running, but a bundle a start cut short before the record said so: its processes are killed and what it made is
 *   taken away
 *   no record                   files, namespaces, links and groups that nobody names go
 */
import { renameSync } from 'node:fs';
import { removeTree, listDirectory, readIfExists } from '#os/files.ts';
import { cgroupRoot, linkMark, linkPrefix } from '#net/kernel-names.ts';
import { serveNames } from './dns-names.ts';
import { Container } from './container.ts';
import { finishRun, releaseRun, willRestart } from './container-exit.ts';
import { containerDirectory, loadRecords, readRecord, removedId, removedPath } from './container-record.ts';
import { endpointsPath } from './container-network.ts';
import type { EndpointRecord, RunRecord } from './container-record.ts';
import { bundleDirectory, cgroupPath, networkNamespacePath } from './container-paths.ts';
import { leaseImages, releaseImages, removeImageRoots, unmountImages } from './image-mounts.ts';
import { sweepShallowBinds } from './shallow-binds.ts';
import { refreshHosts, repairNetworks } from './network-connect.ts';
import type { Containers } from './containers.ts';
import { thaw } from './freeze.ts';
import { forwardLog } from './log-drivers/open.ts';
import type { ContainerTable } from './container-table.ts';

export function loadContainers(table: ContainerTable): void {
  const { context } = table;
  const { records, broken } = loadRecords(context.directories.data, context.log);
  for (const record of records) table.add(new Container(record));
  // Names of what is to be taken away stay on disk until it is.
  for (const id of broken)
    renameSync(containerDirectory(context.directories.data, id), removedPath(context.directories.data, id));
}

/** A loss of power may have taken leases of containers that are here, or left those of containers that are not. */
async function settleLeases({ context }: ContainerTable, containers: readonly Container[]): Promise<void> {
  for (const { id, record } of containers) await leaseImages(context, id, record.spec);
  const known = new Set(containers.map(({ id }) => id));
  await context.images.releaseLeases((holder) => {
    const [kind, id = ''] = holder.split('/');
    return kind === 'container' && !known.has(id);
  });
}

/**
 * Removals that a death cut short, and creations of which nobody was told: what they have outside their directory, then
 * that.
 */
async function finishRemovals(table: ContainerTable): Promise<void> {
  const { context, volumes } = table;
  for (const name of listDirectory(context.directories.data)) {
    const id = removedId(name);
    if (id === undefined) continue;
    const path = `${context.directories.data}/${name}`;
    try {
      const record = readRecord(path);
      await context.snapshots.removeContainerRoot(id);
      if (record !== undefined) await removeImageRoots(context, record);
      for (const owner of record === undefined ? (['docker', 'kubelet', 'plugin'] as const) : [record.spec.owner])
        await releaseImages(context, id, owner);
      // Whether the volumes were to go is not known; those of a container that was to vanish by itself were.
      if (record?.spec.autoRemove === true)
        for (const volume of record.anonymousVolumes)
          if (volumes.find(volume) !== undefined && !isUsed(table, volume)) await volumes.remove(volume);
      removeTree(path);
    } catch (error) {
      context.log.warn('finishing a removal', { id, error });
    }
  }
}

function isUsed(table: ContainerTable, volume: string): boolean {
  return table
    .list()
    .some((container) =>
      container.record.spec.mounts.some((mount) => mount.type === 'volume' && mount.source === volume),
    );
}

/** Before anything new may take an address: those of running containers are taken. */
export function adoptAddresses(table: ContainerTable): void {
  for (const container of table.list()) {
    const run = container.record.run;
    if (run === undefined || !isAlive(table, run)) continue;
    for (const endpoint of run.endpoints) table.networks.adopt(endpoint);
    for (const port of run.ports) table.context.ports.adopt(port);
  }
}

function isAlive(table: ContainerTable, run: RunRecord): boolean {
  const { processes } = table.context.os;
  if (run.bootId !== table.context.bootId) return false;
  return (
    processes.startTime(run.monitorPid) === run.monitorStartTime || processes.startTime(run.pid) === run.pidStartTime
  );
}

export async function recoverContainers(table: ContainerTable, containers: Containers): Promise<void> {
  const { context } = table;
  const links = new Set((await context.os.netlink.listLinks()).map(({ name }) => name));
  await Promise.all(
    table
      .list()
      .map((container) =>
        container.lock
          .run(() => recoverOne(table, containers, container, links))
          .catch((error: unknown) =>
            context.log.error('a container could not be taken over', { id: container.id, error }),
          ),
      ),
  );
  await sweep(table);
  await finishRemovals(table);
  await settleLeases(table, table.list());
  // After everything is known: a container may be restarted, or removed, or share another's network.
  for (const container of table.list())
    void (
      container.record.state === 'created' && container.record.spec.autoRemove === true
        ? containers.remove(container.id, { volumes: true })
        : containers.afterExit(container)
    ).catch((error: unknown) => context.log.warn('after recovery', { id: container.id, error }));
}

async function recoverOne(
  table: ContainerTable,
  containers: Containers,
  container: Container,
  links: ReadonlySet<string>,
): Promise<void> {
  const { context } = table;
  const { record } = container;
  if (record.run !== undefined && isAlive(table, record.run)) {
    context.os.cgroups.adopt(record.run.cgroup, record.run);
    if (record.state !== 'running' && record.state !== 'paused') record.state = 'running';
    // As crun, and as runc have it.
    const state = `${context.directories.run}/runtime/${record.id}`;
    const gate = readIfExists(`${state}/status`) ?? readIfExists(`${state}/state.json`);
    await thaw(table, container).catch((error: unknown) =>
      context.log.warn('thawing a container', { id: container.id, error }),
    );
    containers.watch(container);
    await repairNetworks(table, container, links).catch((error: unknown) =>
      context.log.warn('the networks of a container', { id: record.id, error }),
    );
    if (record.run.networkNamespace !== undefined)
      await resumeNames(table, container).catch((error: unknown) =>
        context.log.warn('the resolver of a container', { id: record.id, error: error as Error }),
      );
    if (gate !== undefined) {
      const runtime = context.runtimes.get(record.spec.runtime);
      // It may have been started before the engine died.
      await runtime.start(record.id).catch(() => {});
    }
    return;
  }
  // What it said before it ended may not have been sent.
  if (record.startedAtMs > 0) forwardLog(table, container);
  if (record.run !== undefined) await finishRun(table, container);
  else await clearHalfStart(table, container);
  if (record.state === 'running' || record.state === 'paused' || record.state === 'removing') record.state = 'exited';
  const policy = record.spec.restartPolicy?.name;
  // `always` comes back with the engine even after a user stopped it; `unless-stopped` does not.
  if (policy === 'always' && record.startedAtMs > 0 && !container.isRunning) {
    record.stoppedByUser = false;
    record.state = 'restarting';
  }
  if (record.state === 'restarting' && !willRestart(container)) record.state = 'exited';
  container.save(context);
}

/**
 * The sockets of the resolver went with the engine before. A container of an older engine was told another address: its
 * file is written anew.
 */
async function resumeNames(table: ContainerTable, container: Container): Promise<void> {
  const run = container.record.run!;
  await serveNames(table, container, run.networkNamespace!, run.endpoints);
  const told = readIfExists(`${containerDirectory(table.context.directories.data, container.id)}/resolv.conf`) ?? '';
  if (
    run.endpoints.some((endpoint) =>
      (table.networks.findExact(endpoint.networkId)?.blocks ?? []).some(({ gateway }) =>
        told.includes(`nameserver ${gateway}\n`),
      ),
    )
  )
    refreshHosts(table, container);
}

async function clearHalfStart(table: ContainerTable, container: Container): Promise<void> {
  const { context } = table;
  const bundle = bundleDirectory(context.directories.run, container.id);
  if (listDirectory(bundle).length === 0) {
    await context.snapshots.unmountContainerRoot(container.id);
    await unmountImages(context, container.record);
    return;
  }
  killStarted(table, bundle, container.id);
  await releaseRun(table, container, {
    bootId: context.bootId,
    pid: 0,
    pidStartTime: '',
    monitorPid: 0,
    monitorStartTime: '',
    cgroup: cgroupPath(context, container),
    networkNamespace: networkNamespacePath(context.directories.run, container.id),
    endpoints: readEndpoints(bundle),
    ports: [],
  });
}

/** What plugins made for a start that was cut off. */
function readEndpoints(bundle: string): EndpointRecord[] {
  const text = readIfExists(endpointsPath(bundle));
  const endpoints: EndpointRecord[] = text === undefined ? [] : JSON.parse(text);
  return endpoints;
}

/** The process before its monitor, by which it is known. */
function killStarted(table: ContainerTable, bundle: string, id: string): void {
  for (const file of ['pidfile', 'conmon.pid']) {
    const pid = Number(readIfExists(`${bundle}/${file}`) ?? 0);
    if (pid > 0 && belongsTo(pid, id)) table.context.os.processes.kill(pid, 'SIGKILL');
  }
}

/**
 * A pid in a file may be another process by now; a monitor names the container, and a container's process has its
 * control group, or such a parent.
 */
function belongsTo(pid: number, id: string): boolean {
  const of = (name: string, at: number | string = pid): string => readIfExists(`/proc/${at}/${name}`) ?? '';
  const parent = /^PPid:\s*(\d+)$/m.exec(of('status'))?.[1] ?? '0';
  return `${of('cmdline')}${of('cgroup')}${of('cmdline', parent)}`.includes(id);
}

/** What no record names. */
async function sweep(table: ContainerTable): Promise<void> {
  const { context } = table;
  const { run } = context.directories;
  const known = new Set(
    table
      .list()
      .filter((container) => container.isRunning)
      .map((container) => container.id),
  );
  for (const name of listDirectory(`${run}/netns`))
    if (!known.has(name)) await context.os.namespaces.remove(`${run}/netns/${name}`);
  for (const name of listDirectory(`${run}/shm`))
    if (!known.has(name)) {
      await context.os.mounts.unmount(`${run}/shm/${name}`);
      removeTree(`${run}/shm/${name}`);
    }
  await sweepShallowBinds(context);
  for (const name of listDirectory(`${run}/c`)) {
    if (known.has(name)) continue;
    killStarted(table, `${run}/c/${name}`, name);
    removeTree(`${run}/c/${name}`);
  }
  for (const name of listDirectory(`${run}/runtime`))
    if (!known.has(name) && !(name.startsWith('init-') && table.sandboxes.status(name.slice(5))?.ready === true))
      removeTree(`${run}/runtime/${name}`);
  const root = cgroupRoot(context.instanceId, context.os.cgroups.top);
  for (const owner of ['docker', 'build', 'plugin']) {
    for (const name of context.os.cgroups.list(`${root}/${owner}`)) {
      if (known.has(name)) continue;
      context.os.cgroups.killAll(`${root}/${owner}/${name}`);
      context.os.cgroups.remove(`${root}/${owner}/${name}`);
    }
  }
  await sweepLinks(table);
}

async function sweepLinks(table: ContainerTable): Promise<void> {
  const { context } = table;
  const prefix = linkPrefix(context.instanceId);
  const known = new Set([
    ...table.sandboxes.links(),
    ...table
      .list()
      .flatMap((container) => (container.record.run?.endpoints ?? []).map((endpoint) => endpoint.hostLink)),
    ...table.networks.list().map((network) => network.link ?? network.parent?.link ?? ''),
  ]);
  const isOwn = ({ name, alias }: { name: string; alias: string }): boolean =>
    ['v', 'p', 'b'].some((kind) => name.startsWith(`${prefix}${kind}`)) || alias === linkMark(context.instanceId);
  const links = (await context.os.netlink.listLinks()).filter((link) => isOwn(link) && !known.has(link.name));
  await context.os.netlink.run([
    { steps: links.map((link) => ({ op: 'deleteLink' as const, name: link.name, ignore: ['ENODEV'] })) },
  ]);
}
