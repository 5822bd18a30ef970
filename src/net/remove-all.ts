/**
 * Takes away everything of one instance that is in the kernel: processes in its cgroup and their monitors, mounts below
 * its directories, links, tables, firewall rules, cgroups. Works from names alone, in any state that a killed process
 * may have left; what is gone already is no error.
 */
import { listDirectory, readIfExists } from '#os/files.ts';
import type { Logger } from '#observe/log.ts';
import { CgroupParents } from '#os/cgroup-parents.ts';
import type { Cgroups } from '#os/cgroups.ts';
import type { Clock } from '#os/clock.ts';
import type { Mounts } from '#os/mount.ts';
import type { Netlink } from '#os/netlink.ts';
import type { Nft } from '#os/nft.ts';
import type { Processes } from '#os/processes.ts';
import { wouldHeed } from '#os/signal-handling.ts';
import { uncoverForward } from './firewall.ts';
import { cgroupRoot, linkMark, linkPrefix, tableName } from './kernel-names.ts';
import { monitorEndMs, monitorWaitMs, removalStepMs, stopGraceMs } from './limits.ts';

export interface RemovalDoors {
  processes: Processes;
  clock: Clock;
  mounts: Mounts;
  cgroups: Cgroups;
  netlink: Netlink;
  nft: Nft;
  log: Logger;
  /** Data and run directories: mounts below them go, files stay. */
  directories: string[];
}

export async function removeAllOf(instanceId: string, doors: RemovalDoors): Promise<void> {
  const monitors = processesIn(doors.directories, ['conmon']);
  // Also what was made before the machine, or its systemd, gave a unit for it.
  const roots = [...new Set(['', doors.cgroups.top])].map((top) => cgroupRoot(instanceId, top));
  const parents = doors.directories
    .flatMap((directory) => [directory, `${directory}/engine`])
    .map((directory) => new CgroupParents(doors.cgroups, directory));
  const places = [...roots, ...parents.flatMap((parent) => parent.memberGroups())];
  await Promise.all(places.map((place) => endProcesses(place, doors)));
  await endMonitors(monitors, doors);
  for (const directory of doors.directories) await doors.mounts.unmountBelow(directory);
  await removeTables(instanceId, doors.nft);
  const links = (await doors.netlink.listLinks())
    .filter((link) => link.name.startsWith(linkPrefix(instanceId)) || link.alias === linkMark(instanceId))
    .map((link) => link.name);
  await uncoverForward({ processes: doors.processes, instanceId, log: doors.log, links });
  await removeLinks(links, doors.netlink);
  await until(doors.clock, monitorWaitMs, () => roots.map((root) => doors.cgroups.remove(root)).every(Boolean));
  await until(doors.clock, monitorWaitMs, () => parents.map((parent) => parent.removeAll()).every(Boolean));
}

async function until(clock: Clock, timeoutMs: number, look: () => boolean): Promise<boolean> {
  const deadline = clock.monotonic() + timeoutMs;
  while (!look()) {
    if (clock.monotonic() > deadline) return false;
    await clock.sleep(removalStepMs);
  }
  return true;
}

/** SIGTERM first, so that databases write their files; SIGKILL for what is left. */
async function endProcesses(root: string, doors: RemovalDoors): Promise<void> {
  const { cgroups, clock, processes } = doors;
  for (const pid of cgroups.pids(root)) processes.kill(pid, 'SIGTERM');
  await until(clock, stopGraceMs, () => cgroups.pids(root).every((pid) => !wouldHeed(pid, 'SIGTERM')));
  await until(clock, monitorWaitMs, () => {
    cgroups.killAll(root);
    return cgroups.pids(root).length === 0;
  });
}

/** Processes of these programs that work in these directories, by their command lines. */
export function processesIn(directories: string[], programs: string[]): number[] {
  return listDirectory('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      if (!programs.includes(readIfExists(`/proc/${pid}/comm`)?.trim() ?? '')) return false;
      const words = (readIfExists(`/proc/${pid}/cmdline`) ?? '').split('\0');
      return words.some((word) => directories.some((directory) => word.includes(`${directory}/`)));
    });
}

/** Monitors end by themselves once their container has; they are gone when also init has taken note of it. */
async function endMonitors(monitors: number[], doors: RemovalDoors): Promise<void> {
  const left = (): number[] => monitors.filter((pid) => readIfExists(`/proc/${pid}/comm`)?.trim() === 'conmon');
  // Their containers are dead: a monitor has only to write an exit code.
  if (await until(doors.clock, monitorEndMs, () => left().length === 0)) return;
  for (const pid of left()) doors.processes.kill(pid, 'SIGKILL');
  await until(doors.clock, monitorWaitMs, () => left().length === 0);
}

async function removeTables(instanceId: string, nft: Nft): Promise<void> {
  const listed = JSON.parse(await nft.list('list tables')) as {
    nftables: { table?: { family: string; name: string } }[];
  };
  const own = listed.nftables
    .flatMap((entry) => (entry.table === undefined ? [] : [entry.table]))
    .filter(({ name }) => name === tableName(instanceId) || name.startsWith(`${tableName(instanceId)}_`));
  for (const { family, name } of own) await nft.run(`delete table ${family} ${name}`);
}

async function removeLinks(links: string[], netlink: Netlink): Promise<void> {
  for (const name of links) await netlink.run([{ steps: [{ op: 'deleteLink', name, ignore: ['ENODEV'] }] }]);
}
