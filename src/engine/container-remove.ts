/**
 * `remove`: the record goes first, so that a container whose removal was answered never comes back; its files follow.
 */
import { ApiError } from '#base/errors.ts';
import { renameSync } from 'node:fs';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import { containerDirectory, removedPath } from './container-record.ts';
import { cancelRestart, killContainer } from './container-stop.ts';
import { releaseImages, removeImageRoots } from './image-mounts.ts';
import { removeLog } from './log-file.ts';
import type { ContainerTable } from './container-table.ts';

export async function removeContainer(
  table: ContainerTable,
  container: Container,
  options: { force?: boolean; volumes?: boolean } = {},
): Promise<void> {
  const { context } = table;
  const { record } = container;
  if (container.isRunning || record.state === 'restarting') {
    if (options.force !== true) {
      const state = record.state;
      throw new ApiError(
        'Conflict',
        `cannot remove container "${container.name}": container is ${state}: ${state === 'paused' ? 'unpause and then stop' : 'stop'} the container before removing or force remove`,
      );
    }
    record.stoppedByUser = true;
    cancelRestart(container, context);
    if (container.isRunning) await killContainer(table, container, 'SIGKILL');
  }
  // What it said last is sent before its file goes.
  await container.forwarder?.flush();
  await container.lock.run(async () => {
    if (container.removed) return;
    const gone = removedPath(context.directories.data, record.id);
    container.removed = true;
    renameSync(containerDirectory(context.directories.data, record.id), gone);
    table.delete(container);
    const results = await Promise.allSettled([
      context.snapshots.removeContainerRoot(record.id),
      removeImageRoots(context, record),
      releaseImages(context, record.id, record.spec.owner),
    ]);
    for (const result of results)
      if (result.status === 'rejected')
        context.log.warn('removing a container', { id: record.id, error: result.reason });
    if (options.volumes === true) await removeVolumes(table, container);
    await context.os.mounts.removeTrees([gone]);
    if (record.spec.logPath !== undefined && record.spec.logPath !== 'none') removeLog(record.spec.logPath);
    context.events.emit({
      type: 'container',
      action: 'destroy',
      id: record.id,
      attributes: eventAttributes(container),
      owner: record.spec.owner,
    });
    container.hub?.end();
    container.tellRemoved();
  });
}

async function removeVolumes(table: ContainerTable, container: Container): Promise<void> {
  for (const name of container.record.anonymousVolumes) {
    const used = table
      .list()
      .some((other) => other.record.spec.mounts.some((mount) => mount.type === 'volume' && mount.source === name));
    if (!used && table.volumes.find(name) !== undefined) await table.volumes.remove(name);
  }
}
