/** A container of the engine's as the plan sees it: one attempt of a container of a Pod. Pure. */
import type { ContainerStatus } from '#engine/engine.ts';
import { startErrorExitCode } from './limits.ts';
import { labelRestartCount } from './pod-labels.ts';
import type { Attempt } from './container-memory.ts';
import { groupLimits } from './resize.ts';

export function hasExited(status: ContainerStatus): boolean {
  return status.state === 'exited' || status.state === 'dead';
}

/**
 * A container whose process could not be started stays `created` with an error in the engine. For the Pod it is an
 * attempt that has ended, with the exit code and reason that the runtimes of a real node give it: what follows is for
 * restartPolicy to say.
 */
function hasFailedToStart(status: ContainerStatus): boolean {
  return status.state === 'created' && status.error !== '';
}

/** `message`: of its termination, once it has exited. */
export function attemptOf(status: ContainerStatus, message: string): Attempt {
  const attempt: Attempt = {
    id: status.id,
    restartCount: Number(status.labels[labelRestartCount] ?? 0),
    state: hasExited(status) ? 'exited' : status.state === 'created' ? 'created' : 'running',
    exitCode: status.exitCode ?? 0,
    oomKilled: status.oomKilled,
    startedAtMs: status.startedAtMs === 0 ? status.createdAtMs : status.startedAtMs,
    finishedAtMs: status.finishedAtMs,
    imageId: status.imageId,
    image: status.image,
    specImage: status.image,
    message,
    limits: groupLimits(status.resources),
  };
  if (attempt.state === 'exited' && status.isExitUnknown === true) return { ...attempt, reason: 'Unknown' };
  if (!hasFailedToStart(status)) return attempt;
  return {
    ...attempt,
    state: 'exited',
    exitCode: startErrorExitCode,
    reason: 'StartError',
    finishedAtMs: status.createdAtMs,
    message: status.error,
  };
}
