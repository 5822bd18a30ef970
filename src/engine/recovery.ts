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
import { cgroupRoot, linkPrefix } from '#net/names.ts';
import { Container } from './container.ts';
import { finishRun, releaseRun, willRestart } from './container-exit.ts';
import { containerDirectory, loadRecords, readRecord, removedId, removedPath } from './container-record.ts';
import type { RunRecord } from './container-record.ts';
import { bundleDirectory, cgroupPath, networkNamespacePath } from './container-start.ts';
import { refreshHosts } from './network-connect.ts';
import type { Containers } from './containers.ts';
import { thaw } from './freeze.ts';
import type { ContainerRegistry } from './registry.ts';

export function loadContainers(registry: ContainerRegistry): void {
  const { context } = registry;
  const { records, broken } = loadRecords(context.directories.data, context.log);
  for (const record of records) registry.add(new Container(record));
  // Names of what is to be taken away stay on disk until it is.
  for (const id of broken)
    renameSync(containerDirectory(context.directories.data, id), removedPath(context.directories.data, id));
}

/**
 * Removals that a death cut short, and creations of which nobody was told: what they have outside their directory, then
 * that.
 */
async function finishRemovals(registry: ContainerRegistry): Promise<void> {
  const { context, volumes } = registry;
  for (const name of listDirectory(context.directories.data)) {
    const id = removedId(name);
    if (id === undefined) continue;
    const path = `${context.directories.data}/${name}`;
    try {
      const record = readRecord(path);
      await context.snapshots.removeContainerRoot(id);
      for (const owner of record === undefined ? (['docker', 'kubelet'] as const) : [record.spec.owner])
        await context.images.releaseLease(owner, `container/${id}`);
      // Whether the volumes were to go is not known; those of a container that was to vanish by itself were.
      if (record?.spec.autoRemove === true)
        for (const volume of record.anonymousVolumes)
          if (volumes.find(volume) !== undefined && !isUsed(registry, volume)) await volumes.remove(volume);
      removeTree(path);
    } catch (error) {
      context.log.warn('finishing a removal', { id, error });
    }
  }
}

function isUsed(registry: ContainerRegistry, volume: string): boolean {
  return registry
    .list()
    .some((container) =>
      container.record.spec.mounts.some((mount) => mount.type === 'volume' && mount.source === volume),
    );
}

/** Before anything new may take an address: those of running containers are taken. */
export function adoptAddresses(registry: ContainerRegistry): void {
  for (const container of registry.list()) {
    const run = container.record.run;
    if (run === undefined || !isAlive(registry, run)) continue;
    for (const endpoint of run.endpoints) registry.networks.adopt(endpoint);
    for (const port of run.ports) registry.context.ports.adopt(port);
  }
}

function isAlive(registry: ContainerRegistry, run: RunRecord): boolean {
  const { processes } = registry.context.os;
  if (run.bootId !== registry.context.bootId) return false;
  return (
    processes.startTime(run.monitorPid) === run.monitorStartTime || processes.startTime(run.pid) === run.pidStartTime
  );
}

export async function recoverContainers(registry: ContainerRegistry, containers: Containers): Promise<void> {
  const { context } = registry;
  await Promise.all(
    registry
      .list()
      .map((container) =>
        container.lock
          .run(() => recoverOne(registry, containers, container))
          .catch((error: unknown) =>
            context.log.error('a container could not be taken over', { id: container.id, error }),
          ),
      ),
  );
  await sweep(registry);
  await finishRemovals(registry);
  // After everything is known: a container may be restarted, or removed, or share another's network.
  for (const container of registry.list())
    void (
      container.record.state === 'created' && container.record.spec.autoRemove === true
        ? containers.remove(container.id, { volumes: true })
        : containers.afterExit(container)
    ).catch((error: unknown) => context.log.warn('after recovery', { id: container.id, error }));
}

async function recoverOne(registry: ContainerRegistry, containers: Containers, container: Container): Promise<void> {
  const { context } = registry;
  const { record } = container;
  if (record.run !== undefined && isAlive(registry, record.run)) {
    if (record.state !== 'running' && record.state !== 'paused') record.state = 'running';
    const gate = readIfExists(`${context.directories.run}/runtime/${record.id}/status`);
    await thaw(registry, container).catch((error: unknown) =>
      context.log.warn('thawing a container', { id: container.id, error }),
    );
    containers.watch(container);
    if (record.run.networkNamespace !== undefined)
      await resumeNames(registry, container).catch((error: unknown) =>
        context.log.warn('the resolver of a container', { id: record.id, error: error as Error }),
      );
    if (gate !== undefined) await context.runtime.start(record.id).catch(() => undefined);
    return;
  }
  if (record.run !== undefined) await finishRun(registry, container);
  else await clearHalfStart(registry, container);
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
async function resumeNames(registry: ContainerRegistry, container: Container): Promise<void> {
  const run = container.record.run!;
  await registry.serveNames(container, run.networkNamespace!, run.endpoints);
  const told = readIfExists(`${containerDirectory(registry.context.directories.data, container.id)}/resolv.conf`) ?? '';
  if (
    run.endpoints.some((endpoint) =>
      told.includes(`nameserver ${registry.networks.findExact(endpoint.networkId)?.gateway ?? ''}\n`),
    )
  )
    refreshHosts(registry, container);
}

async function clearHalfStart(registry: ContainerRegistry, container: Container): Promise<void> {
  const { context } = registry;
  const bundle = bundleDirectory(context.directories.run, container.id);
  if (listDirectory(bundle).length === 0) {
    await context.snapshots.unmountContainerRoot(container.id);
    return;
  }
  for (const file of ['conmon.pid', 'pidfile']) {
    const pid = Number(readIfExists(`${bundle}/${file}`) ?? 0);
    if (pid > 0 && belongsTo(pid, container.id)) context.os.processes.kill(pid, 'SIGKILL');
  }
  await releaseRun(registry, container, {
    bootId: context.bootId,
    pid: 0,
    pidStartTime: '',
    monitorPid: 0,
    monitorStartTime: '',
    cgroup: cgroupPath(context, container),
    networkNamespace: networkNamespacePath(context.directories.run, container.id),
    endpoints: [],
    ports: [],
  });
}

/** A pid in a file may be another process by now; a monitor and a container's process name the container. */
function belongsTo(pid: number, id: string): boolean {
  return `${readIfExists(`/proc/${pid}/cmdline`) ?? ''}${readIfExists(`/proc/${pid}/cgroup`) ?? ''}`.includes(id);
}

/** What no record names. */
async function sweep(registry: ContainerRegistry): Promise<void> {
  const { context } = registry;
  const { run } = context.directories;
  const known = new Set(
    registry
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
  for (const name of listDirectory(`${run}/c`)) {
    if (known.has(name)) continue;
    const pid = Number(readIfExists(`${run}/c/${name}/conmon.pid`) ?? 0);
    if (pid > 0 && belongsTo(pid, name)) context.os.processes.kill(pid, 'SIGKILL');
    removeTree(`${run}/c/${name}`);
  }
  for (const name of listDirectory(`${run}/runtime`))
    if (!known.has(name) && !(name.startsWith('init-') && registry.sandboxes.status(name.slice(5))?.ready === true))
      removeTree(`${run}/runtime/${name}`);
  const root = cgroupRoot(context.instanceId, context.os.cgroups.top);
  for (const owner of ['docker', 'build']) {
    for (const name of context.os.cgroups.list(`${root}/${owner}`)) {
      if (known.has(name)) continue;
      context.os.cgroups.killAll(`${root}/${owner}/${name}`);
      context.os.cgroups.remove(`${root}/${owner}/${name}`);
    }
  }
  await sweepLinks(registry);
}

async function sweepLinks(registry: ContainerRegistry): Promise<void> {
  const { context } = registry;
  const prefix = linkPrefix(context.instanceId);
  const known = new Set([
    ...registry.sandboxes.links(),
    ...registry
      .list()
      .flatMap((container) => (container.record.run?.endpoints ?? []).map((endpoint) => endpoint.hostLink)),
    ...registry.networks.list().map((network) => network.link ?? ''),
  ]);
  const links = (await context.os.netlink.listLinks()).filter(
    (link) =>
      (link.name.startsWith(`${prefix}v`) ||
        link.name.startsWith(`${prefix}p`) ||
        link.name.startsWith(`${prefix}b`)) &&
      !known.has(link.name),
  );
  await context.os.netlink.run([
    { steps: links.map((link) => ({ op: 'deleteLink' as const, name: link.name, ignore: ['ENODEV'] })) },
  ]);
}
