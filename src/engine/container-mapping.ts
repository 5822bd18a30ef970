/** Which containers are in the engine's user namespace (user-mapping.ts). */
import type { ContainerRecord } from './container-record.ts';
import type { ContainerTable } from './container-table.ts';
import type { ContainerSpec } from './engine.ts';
import type { UserMapping } from './user-mapping.ts';

/** Undefined for a container in the host's user namespace. Who joins another's namespaces is where that one is. */
export function mappingFor(table: ContainerTable, record: ContainerRecord): UserMapping | undefined {
  const { userMapping } = table.context;
  if (userMapping === undefined || !isMappable(record.spec)) return undefined;
  const { network, pidMode, ipcMode } = record.spec;
  for (const joined of [network, pidMode, ipcMode])
    if (joined?.type === 'container' && table.get(joined.containerId).record.run?.isMapped !== true) return undefined;
  return userMapping;
}

/** Of a build, steps that see nothing but their own root: what else is mounted in one has the host's owners. */
function isMappable({ owner, hostUsers, mounts, network }: ContainerSpec): boolean {
  if (owner === 'build') return network.type !== 'host' && mounts.every(({ type }) => type === 'tmpfs');
  return owner === 'docker' && hostUsers !== true;
}

/** How the files of a running container are to be read: by its own view. */
export function runningMapping(table: ContainerTable, record: ContainerRecord): UserMapping | undefined {
  return record.run?.isMapped === true ? table.context.userMapping : undefined;
}
