/**
 * Standing still. Two things freeze a container: a user's `pause`, which is a state, and work that must not see its
 * files change (`cp`, `commit`), which is not. The control group is frozen while either wants it. A process may end at
 * any moment before that: then there is nothing to freeze, and nobody is left frozen.
 */
import { ApiError } from '#base/errors.ts';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import type { ContainerTable } from './container-table.ts';

/** False when there is no such group any more: the container has ended. */
async function setFrozen(table: ContainerTable, container: Container, frozen: boolean): Promise<boolean> {
  const { cgroups } = table.context.os;
  const { cgroup } = container.record.run!;
  try {
    await cgroups.freeze(cgroup, frozen);
    return true;
  } catch (error) {
    if (hasNoGroup(error)) return false;
    // Half frozen is worse than not frozen.
    if (frozen) await cgroups.freeze(cgroup, false).catch(() => undefined);
    throw error;
  }
}

function hasNoGroup(error: unknown): boolean {
  return ['ENOENT', 'ENODEV'].includes((error as { code?: string }).code ?? '');
}

function notRunning(container: Container): ApiError {
  return new ApiError('Conflict', `Container ${container.id} is not running`);
}

/** A user's `pause` and `unpause`. Under the container's lock, so that its end comes before or after. */
export async function setPaused(table: ContainerTable, container: Container, paused: boolean): Promise<void> {
  await container.lock.run(async () => {
    const { record } = container;
    if (!container.isRunning || record.run === undefined) throw notRunning(container);
    if (paused && record.state === 'paused') throw new ApiError('Conflict', `Container ${record.id} is already paused`);
    if (!paused && record.state !== 'paused') throw new ApiError('Conflict', `Container ${record.id} is not paused`);
    if ((paused || container.stillFor === 0) && !(await setFrozen(table, container, paused)) && paused)
      throw notRunning(container);
    record.state = paused ? 'paused' : 'running';
    container.save(table.context);
    emitPause(table, container, paused);
  });
}

export function emitPause(table: ContainerTable, container: Container, paused: boolean): void {
  table.context.events.emit({
    type: 'container',
    action: paused ? 'pause' : 'unpause',
    id: container.id,
    attributes: eventAttributes(container),
    owner: container.record.spec.owner,
  });
}

/**
 * Runs `work` while no process of the container runs. `frozen`: it runs otherwise; false: it has ended, or was never
 * started, or this engine can freeze nothing.
 */
export async function whileStill<T>(
  table: ContainerTable,
  container: Container,
  work: (frozen: boolean) => Promise<T>,
): Promise<T> {
  const run = await container.lock.run(async () => {
    if (!container.isRunning || container.record.run === undefined) return undefined;
    // Where nothing can be frozen, files are taken as they are.
    if (table.context.os.cgroups.mode === 'none') return undefined;
    if (container.record.state !== 'paused' && container.stillFor === 0 && !(await setFrozen(table, container, true)))
      return undefined;
    container.stillFor++;
    return container.record.run;
  });
  if (run === undefined) return work(false);
  try {
    return await work(true);
  } finally {
    await container.lock.run(async () => {
      // The end of a run takes all this with it.
      if (container.record.run !== run) return;
      container.stillFor--;
      if (container.stillFor === 0 && container.record.state === 'running') await setFrozen(table, container, false);
    });
  }
}

/** A container that should run and stands still: an engine died in the middle of such work. */
export async function thaw(table: ContainerTable, container: Container): Promise<void> {
  if (container.record.state === 'running' && container.record.run !== undefined)
    await setFrozen(table, container, false);
}
