/**
 * What happens when a container's process has ended: the exit code is read, what the run had is given back, and the
 * restart policy decides. Runs under the container's lock. It is also what recovery calls for a container that ended
 * while no engine lived.
 */
import { removeTree } from '#os/files.ts';
import { forgetUdpFlows } from './udp-flows.ts';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import { emitNetwork, emitVolumes } from './container-start.ts';
import { bundleDirectory, logPathOf, shmPath } from './container-paths.ts';
import { logBoundOf, settleLog } from './log-rotation.ts';
import type { RunRecord } from './container-record.ts';
import { unmountImages } from './image-mounts.ts';
import type { ContainerTable } from './container-table.ts';
import type { EngineContext } from './context.ts';
import { planReturn } from './network-remote.ts';
import { planLinkRemoval } from './network-connect.ts';
import {
  linkRemovalDelayMs,
  restartDelayFirstMs,
  restartDelayMsMax,
  restartResetAfterMs,
  saveRetryMs,
} from './limits.ts';

/** As docker has it for a container whose end nobody saw. */
const unknownExitCode = 255;

/** Reads how a run ended. A monitor that was killed leaves no exit file: the code is unknown, and the error says so. */
function readExit(
  table: ContainerTable,
  container: Container,
): { code: number; isUnknown: boolean; error: string; oomKilled: boolean } {
  const { context } = table;
  const run = container.record.run!;
  const code = context.runtime.exitCode(bundleDirectory(context.directories.run, container.id), container.id);
  const oomKilled = context.os.cgroups.oomKilled(run.cgroup);
  if (code !== undefined) return { code, isUnknown: false, error: '', oomKilled };
  return {
    code: unknownExitCode,
    isUnknown: true,
    error:
      run.bootId === context.bootId
        ? 'the monitor of the container died; its exit code is unknown'
        : 'the machine was restarted',
    oomKilled,
  };
}

// walk docker-run 7/7: the monitor is gone: the exit code is read from its file, also by an engine that was not there.
/** Ends a run in the record; afterwards the container is `exited` and holds nothing. */
export async function finishRun(table: ContainerTable, container: Container): Promise<void> {
  const { context } = table;
  const { record } = container;
  const run = record.run!;
  const exit = readExit(table, container);
  const manual = container.stopping;
  Object.assign(record, {
    state: 'exited',
    exitCode: exit.code,
    isExitUnknown: exit.isUnknown,
    error: exit.error,
    oomKilled: exit.oomKilled,
    // Rounded up: clients ask for the logs since the last run's end, and no line of that run may be later than it.
    finishedAtMs: Math.floor(context.clock.now()) + 1,
    stoppedByUser: record.stoppedByUser || (manual && !table.shuttingDown),
  });
  delete record.run;
  container.stopping = false;
  container.stillFor = 0;
  container.health = undefined;
  if (exit.oomKilled)
    context.events.emit({
      type: 'container',
      action: 'oom',
      id: record.id,
      attributes: eventAttributes(container),
      owner: record.spec.owner,
    });
  context.events.emit(
    {
      type: 'container',
      action: 'die',
      id: record.id,
      attributes: {
        ...eventAttributes(container),
        exitCode: String(exit.code),
        execDuration: String(Math.floor((record.finishedAtMs - record.startedAtMs) / 1000)),
      },
      owner: record.spec.owner,
    },
    record.finishedAtMs,
  );
  emitNetwork(table, container, run.endpoints, 'disconnect');
  emitVolumes(table, container, 'unmount');
  container.hub?.end();
  container.hub = undefined;
  const restarts = willRestart(container);
  if (restarts) record.state = 'restarting';
  saveOrRetry(context, container);
  const released = Promise.all([releaseRun(table, container, run), endLog(table, container)]);
  container.tellRunEnd();
  if (!restarts || table.shuttingDown) container.tellExit(exit.code);
  await released;
}

/** Also of a run that ended while no engine kept its log. */
async function endLog(table: ContainerTable, container: Container): Promise<void> {
  const kept = container.keptLog;
  container.keptLog = undefined;
  if (kept !== undefined) {
    await kept.end();
    return;
  }
  const path = logPathOf(table, container);
  if (path !== undefined)
    await settleLog(path, logBoundOf(container.record.spec)).catch((error: unknown) =>
      table.context.log.warn('the bound of a log', { id: container.id, error }),
    );
}

/**
 * On a full disk the end of a container is still told to those who wait for it, and written down as soon as there is
 * space.
 */
function saveOrRetry(context: EngineContext, container: Container): void {
  if (container.removed) return;
  try {
    container.save(context);
  } catch (error) {
    context.log.warn('the end of a container could not be written down; trying again', {
      id: container.id,
      error: error as Error,
    });
    context.clock.setTimer(saveRetryMs, () => saveOrRetry(context, container), { background: true });
  }
}

/**
 * Links go with their namespace, which may have others in it: containers that share it, or whoever has entered it. The
 * addresses will be somebody else's, so the links of those go now; of the others, when the kernel has had its time.
 */
async function removeNetwork(
  table: ContainerTable,
  container: Container,
  namespace: string,
  run: RunRecord,
): Promise<void> {
  const { context } = table;
  await context.os.netlink.run(planReturn(run.endpoints, namespace));
  const isShared = table
    .list()
    .some(
      ({ isRunning, record: { spec } }) =>
        isRunning && spec.network.type === 'container' && spec.network.containerId === container.id,
    );
  if (isShared) await context.os.netlink.run(planLinkRemoval(run.endpoints, namespace));
  await context.os.namespaces.remove(namespace);
  if (isShared || run.endpoints.length === 0) return;
  context.clock.setTimer(
    linkRemovalDelayMs,
    () =>
      void context.os.netlink
        .run(planLinkRemoval(run.endpoints))
        .catch((error: unknown) => context.log.debug('links of a container', { id: container.id, error })),
    { background: true },
  );
}

/** Gives back all that a run had in the kernel. Safe to repeat. */
export async function releaseRun(table: ContainerTable, container: Container, run: RunRecord): Promise<void> {
  const { context } = table;
  table.names.forget(container.id);
  await table.names.detach(container.id);
  context.os.cgroups.killAll(run.cgroup);
  for (const port of run.ports) context.ports.release(port);
  const results = await Promise.allSettled([
    context.rules.unpublish(run.ports).then(() => forgetUdpFlows(context, run.ports)),
    run.networkNamespace === undefined ? Promise.resolve() : removeNetwork(table, container, run.networkNamespace, run),
    context.snapshots.unmountContainerRoot(container.id),
    ...container.record.spec.mounts
      .filter((mount) => mount.type === 'volume')
      .map((mount) => table.volumes.release(mount.source, container.id)),
    unmountImages(context, container.record),
    container.record.spec.ipcMode?.type === 'shareable'
      ? context.os.mounts.unmount(shmPath(context.directories.run, container.id))
      : Promise.resolve(),
  ]);
  for (const result of results)
    if (result.status === 'rejected')
      context.log.warn('after the end of a container', { id: container.id, error: result.reason });
  container.root = undefined;
  for (const endpoint of run.endpoints) await table.networks.release(endpoint);
  context.runtime.forget(container.id);
  context.os.cgroups.remove(run.cgroup);
  const { cgroupParent, owner } = container.record.spec;
  if (cgroupParent !== undefined && owner !== 'kubelet') context.cgroupParents.leave(cgroupParent, container.id);
  removeTree(bundleDirectory(context.directories.run, container.id));
  if (container.record.spec.ipcMode?.type === 'shareable') removeTree(shmPath(context.directories.run, container.id));
}

/** The restart policy, as docker words it. */
export function willRestart(container: Container): boolean {
  const { record } = container;
  const policy = record.spec.restartPolicy ?? { name: 'no' as const };
  if (record.stoppedByUser || container.removed) return false;
  if (policy.name === 'always' || policy.name === 'unless-stopped') return true;
  if (policy.name !== 'on-failure' || record.exitCode === 0) return false;
  const most = policy.maximumRetryCount ?? 0;
  return most === 0 || record.restartCount < most;
}

/** 100 ms doubled with every failure up to a minute; a run of ten seconds starts over. */
export function nextRestartDelayMs(container: Container): number {
  const ran = container.record.finishedAtMs - container.record.startedAtMs;
  container.restartDelayMs =
    container.restartDelayMs === 0 || ran >= restartResetAfterMs
      ? restartDelayFirstMs
      : Math.min(restartDelayMsMax, container.restartDelayMs * 2);
  return container.restartDelayMs;
}
