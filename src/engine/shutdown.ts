/**
 * The end of the platform or of the machine: every container is stopped by its own signal within its own grace period,
 * all at once. None of them counts as stopped by a user, so those with a restart policy come back with the next engine
 * (recovery.ts). Containers of Pods are the kubelet's to stop.
 */
import type { Containers } from './containers.ts';
import type { Owner } from './engine.ts';
import { stopTimeoutMsDefault } from './limits.ts';

/** From here on nothing starts, and nobody waits for a process that does not hear its signal. */
export function beginShutdown(containers: Containers): void {
  containers.table.shuttingDown = true;
  for (const container of containers.table.list()) {
    container.restartTimer?.cancel();
    container.restartTimer = undefined;
  }
}

/** Resolves when no container of docker's and no build step runs; grace periods are cut to `graceMsMax`. */
export async function stopAllContainers(containers: Containers, graceMsMax: number): Promise<void> {
  beginShutdown(containers);
  // Volumes and networks of plugins are given back before these end.
  await stopOwned(containers, ['docker', 'build'], graceMsMax);
  await stopOwned(containers, ['plugin'], graceMsMax);
}

async function stopOwned(containers: Containers, owners: readonly Owner[], graceMsMax: number): Promise<void> {
  const { table } = containers;
  await Promise.all(
    table
      .list()
      .filter((container) => container.isRunning && owners.includes(container.record.spec.owner))
      .map(async (container) => {
        const { stopTimeoutSeconds, owner } = container.record.spec;
        const asked =
          owner === 'build' ? 0 : stopTimeoutSeconds === undefined ? stopTimeoutMsDefault : stopTimeoutSeconds * 1000;
        // -1 is for ever, which a machine that goes down does not have.
        const graceMs = asked < 0 ? graceMsMax : Math.min(asked, graceMsMax);
        await containers
          .stop(container.id, graceMs)
          .catch((error: unknown) => table.context.log.warn('a container did not stop', { id: container.id, error }));
      }),
  );
}
