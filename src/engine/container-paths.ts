/** Where a container has its bundle, its pinned namespaces, its shared memory, its log and its cgroup. */
import { cgroupRoot } from '#net/kernel-names.ts';
import { containerDirectory } from './container-record.ts';
import type { ContainerTable } from './container-table.ts';
import type { Container } from './container.ts';
import type { EngineContext } from './context.ts';

export function bundleDirectory(run: string, id: string): string {
  return `${run}/c/${id}`;
}

export function networkNamespacePath(run: string, id: string): string {
  return `${run}/netns/${id}`;
}

export function shmPath(run: string, id: string): string {
  return `${run}/shm/${id}`;
}

export function logPathOf(table: ContainerTable, container: Container): string | undefined {
  if (container.record.spec.logPath === 'none') return undefined;
  return (
    container.record.spec.logPath ?? `${containerDirectory(table.context.directories.data, container.id)}/container.log`
  );
}

/** Undefined where the log's driver keeps nothing to be read. */
export function readableLogPath(table: ContainerTable, container: Container): string | undefined {
  return container.record.spec.logDriver?.isUnreadable === true ? undefined : logPathOf(table, container);
}

export function cgroupPath(context: EngineContext, container: Container): string {
  const { spec, id } = container.record;
  return `${spec.cgroupParent ?? `${cgroupRoot(context.instanceId, context.os.cgroups.top)}/${spec.owner}`}/${id}`;
}
