/**
 * `stop` and `kill`: what a user does to a running container. The end itself is seen and handled elsewhere
 * (container-exit.ts).
 */
import { ApiError } from '#base/errors.ts';
import { wouldHeed } from '#os/signal-handling.ts';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import type { ContainerTable } from './container-table.ts';
import { setPaused } from './freeze.ts';
import { parseSignal } from './signals.ts';

const forcedEndWaitMs = 10_000;

/** Resolves when it has exited, or at once when it does not run. `asked` goes before the container's stop signal. */
export async function stopContainer(
  table: ContainerTable,
  container: Container,
  timeoutMs: number,
  asked?: number,
): Promise<void> {
  const { context } = table;
  const { record } = container;
  cancelRestart(container, context);
  if (!container.isRunning) {
    record.stoppedByUser = true;
    container.save(context);
    return;
  }
  if (record.state === 'paused') await unpause(table, container);
  if (!container.isRunning) return;
  const signal = asked ?? stopSignalOf(table, container) ?? parseSignal('SIGTERM');
  container.stopping = true;
  const ended = exited(container);
  context.events.emit({
    type: 'container',
    action: 'kill',
    id: record.id,
    attributes: { ...eventAttributes(container), signal: String(signal) },
    owner: record.spec.owner,
  });
  context.os.processes.kill(record.run!.pid, signal);
  // While everything stops nobody waits for a process that the signal cannot reach.
  const graceMs = table.shuttingDown && !wouldHeed(record.run!.pid, signal) ? 0 : timeoutMs;
  if (!(await within(context.clock, ended, graceMs))) {
    killAll(table, container);
    if (!(await within(context.clock, ended, forcedEndWaitMs)))
      throw new ApiError(
        'InternalError',
        `cannot stop container: ${record.id}: tried to kill container, but did not receive an exit event`,
      );
  }
  // What comes after the end of the process is part of stopping: a start right after it must find the way clear.
  await container.lock.run(async () => undefined);
  context.events.emit({
    type: 'container',
    action: 'stop',
    id: record.id,
    attributes: eventAttributes(container),
    owner: record.spec.owner,
  });
}

/** The one that the container or its image names. */
function stopSignalOf({ context }: ContainerTable, { record }: Container): number | undefined {
  const named = record.spec.stopSignal || context.images.find(record.spec.imageId)?.config.stopSignal;
  return named ? parseSignal(named) : undefined;
}

function exited(container: Container): Promise<void> {
  if (!container.isRunning) return Promise.resolve();
  return new Promise((resolve) => {
    container.onExit(() => resolve());
  });
}

/** True when it came in time. A negative time is for ever. */
async function within(
  clock: ContainerTable['context']['clock'],
  work: Promise<void>,
  timeoutMs: number,
): Promise<boolean> {
  if (timeoutMs < 0) {
    await work;
    return true;
  }
  const late = new AbortController();
  try {
    return await Promise.race([
      work.then(() => true),
      clock.sleep(timeoutMs, late.signal).then(
        () => false,
        () => false,
      ),
    ]);
  } finally {
    late.abort();
  }
}

/** A restart that is due is called off; the container counts as stopped. */
export function cancelRestart(container: Container, context: ContainerTable['context']): void {
  container.restartTimer?.cancel();
  container.restartTimer = undefined;
  if (container.record.state !== 'restarting') return;
  container.record.state = 'exited';
  container.record.stoppedByUser = true;
  container.save(context);
  container.tellExit(container.record.exitCode ?? 0);
}

/** The process and everything beside it in its control group: with a shared PID namespace the others would live on. */
function killAll(table: ContainerTable, container: Container): void {
  const run = container.record.run;
  if (run === undefined) return;
  // The group first: without control groups its processes are found by the monitor, which ends with this one.
  table.context.os.cgroups.killAll(run.cgroup);
  table.context.os.processes.kill(run.pid, 'SIGKILL');
}

export async function killContainer(table: ContainerTable, container: Container, signalText: string): Promise<void> {
  const { context } = table;
  const { record } = container;
  const signal = parseSignal(signalText === '' ? 'SIGKILL' : signalText);
  if (!container.isRunning)
    throw new ApiError(
      'Conflict',
      `cannot kill container: ${container.name === '' ? container.id : container.name}: container ${record.id} is not running`,
    );
  if (record.state === 'paused' && signal === 9) await unpause(table, container);
  if (!container.isRunning) return;
  const ended = exited(container);
  // As in docker: the signal that stops the container ends its restarts, too.
  if (signal === 9 || signal === stopSignalOf(table, container)) {
    container.stopping = true;
    record.stoppedByUser = true;
  }
  context.events.emit({
    type: 'container',
    action: 'kill',
    id: record.id,
    attributes: { ...eventAttributes(container), signal: String(signal) },
    owner: record.spec.owner,
  });
  if (signal === 9) {
    killAll(table, container);
    await within(context.clock, ended, forcedEndWaitMs);
    return;
  }
  context.os.processes.kill(record.run!.pid, signal);
}

/** Who stops a container need not care that somebody else unpaused it, or that it ended, a moment before. */
async function unpause(table: ContainerTable, container: Container): Promise<void> {
  await setPaused(table, container, false).catch((error: unknown) => {
    if (container.record.state === 'paused') throw error;
  });
}
