/** Takes away what a node has in the kernel, in any state that killed processes may have left. */
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { removeAllOf } from '#net/remove-all.ts';
import { runningHaproxy } from '#network/ingress.ts';
import { removeAnnounced } from '#network/announcer.ts';
import { removeMachineRoutes } from '#network/machines.ts';
import { silentLogger } from '#observe/log.ts';
import { createCgroups } from '#os/cgroups.linux.ts';
import { realClock } from '#os/clock.real.ts';
import type { Mounts } from '#os/mount.ts';
import type { createNetworkDoor } from '#os/network.linux.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import { hostName } from './host.ts';
import { nodePlan, type Instance } from './instance.ts';
import { waitUntil } from './launch.ts';
import { files, type Paths } from './paths.ts';

export interface ClearDoors {
  network: ReturnType<typeof createNetworkDoor>;
  mounts: Mounts;
}

/** Its processes have ended. Its data stays. */
export async function clearNode(
  instance: Instance,
  paths: Paths,
  number: number,
  { network, mounts }: ClearDoors,
): Promise<void> {
  if (number === 1) {
    await removeMachineRoutes(network, { podRange: instance.podRange, instanceId: instance.id });
    await removeAnnounced(network.netlink, files.announced(paths));
  }
  await stopHaproxy(join(files.nodeRun(paths, number), 'ingress'));
  await removeAllOf(nodePlan(instance, number, hostName()).instanceId, {
    processes: linuxProcesses,
    clock: realClock,
    mounts,
    cgroups: createCgroups(() => {}),
    log: silentLogger,
    ...network,
    directories: [files.nodeRun(paths, number), files.nodeData(paths, number)],
  });
}

async function stopHaproxy(runDir: string): Promise<void> {
  const pid = await runningHaproxy(runDir);
  if (pid === undefined) return;
  linuxProcesses.kill(pid, 'SIGTERM');
  const gone = (): boolean => {
    try {
      return !readlinkSync(`/proc/${pid}/exe`).includes('haproxy');
    } catch {
      return true;
    }
  };
  if (!(await waitUntil(realClock, 3_000, gone, 20))) linuxProcesses.kill(pid, 'SIGKILL');
}
