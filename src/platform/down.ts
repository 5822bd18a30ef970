/**
 * Stopping an instance: processes first, then containers, then everything the host was given - links, tables,
 * namespaces, mounts, cgroups. Works from the instance's id alone, so that it also clears up after processes that were
 * killed. Data stays unless it is to be purged.
 */
import { existsSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '#base/thrown.ts';
import { processesIn } from '#net/remove-all.ts';
import { realClock } from '#os/clock.real.ts';
import { listDirectory } from '#os/files.ts';
import { createMounts } from '#os/mount.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { createNetworkDoor } from '#os/network.linux.ts';
import { clearNode } from './clear-node.ts';
import { loadInstance, type Instance } from './instance.ts';
import { knownParts, stopPart, waitUntil } from './launch.ts';
import { nodesWithData } from './local-nodes.ts';
import type { Paths } from './paths.ts';
import { stopWorkloads } from './shutdown.ts';
import { hostGoesDown, isInsideUnit, removeContainersUnit, removeUnit, stopUnit, unitOf } from './systemd.ts';
import { withLock } from './up.ts';

const reapWaitMs = 5_000;

export interface DownOptions {
  purge: boolean;
}

export async function takeDown(paths: Paths, options: DownOptions): Promise<{ stopped: string[] }> {
  if (!existsSync(paths.data) && !existsSync(paths.run)) return { stopped: [] };
  const instance = loadInstance(paths);
  const unit = instance === undefined ? undefined : unitOf(paths, instance.id);
  const parts = instance === undefined ? [] : knownParts(paths);
  // Where systemd holds the processes, it is told to stop them, and calls this again from inside.
  const stopped = unit !== undefined && (await stopUnit(unit, linuxProcesses)) ? parts : await stopInstance(paths);
  if (!isInsideUnit()) await removeContainersUnit(linuxProcesses);
  if (unit !== undefined && !unit.isKept && !isInsideUnit()) await removeUnit(unit, linuxProcesses);
  rmSync(paths.run, { recursive: true, force: true });
  if (options.purge) await removeDirectory(paths.data);
  if (options.purge && paths.home !== undefined && listDirectory(paths.home).length === 0)
    await removeDirectory(paths.home);
  return { stopped };
}

async function stopInstance(paths: Paths): Promise<string[]> {
  return withLock(paths, async () => {
    const instance = loadInstance(paths);
    if (instance === undefined) return [];
    const parts = knownParts(paths);
    const nodes = parts.filter((name) => name.startsWith('node-'));
    const before = processesIn([paths.run, paths.data], ['conmon', 'haproxy']);
    await stopWorkloads(
      paths,
      { parts: nodes, hostGoesDown: await hostGoesDown(linuxProcesses) },
      linuxProcesses,
      realClock,
    );
    // Nodes first: a kubelet that is told to stop still reports to the API server.
    await Promise.all(nodes.map((name) => stopPart(paths, name, linuxProcesses, realClock)));
    for (const name of ['server', 'etcd'])
      if (parts.includes(name)) await stopPart(paths, name, linuxProcesses, realClock);
    await clearHost(instance, paths);
    if (isInsideUnit()) await removeContainersUnit(linuxProcesses);
    // Monitors and the proxy have ended; they are gone when init has taken note of it, too.
    await waitUntil(realClock, reapWaitMs, () => before.every((pid) => !existsSync(`/proc/${pid}`)), 20);
    return parts;
  });
}

/** With all that is in it; one that is a mount of its own is left empty. */
async function removeDirectory(path: string): Promise<void> {
  // First what is in it: a mount is told of before anything below it is removed. The synchronous brother of `rm` does
  // not say why it fails.
  for (const name of listDirectory(path)) await rm(join(path, name), { recursive: true, force: true });
  try {
    await rm(path, { recursive: true, force: true });
  } catch (error) {
    if (codeOf(error) !== 'EBUSY') throw error;
  }
}

async function clearHost(instance: Instance, paths: Paths): Promise<void> {
  const door = createNetworkDoor();
  const mounts = createMounts();
  try {
    // The first has links of its own also where its data is gone.
    const numbers = new Set([1, ...nodesWithData(paths)]);
    await Promise.all([...numbers].map((number) => clearNode(instance, paths, number, { network: door, mounts })));
    await mounts.unmountBelow(paths.run);
    // The data directory itself may be the user's disk.
    for (const { target } of await mounts.listBelow(paths.data))
      if (target !== paths.data) await mounts.unmount(target);
  } finally {
    await door.close();
  }
}
