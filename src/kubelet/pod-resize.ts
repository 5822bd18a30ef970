/**
 * The resizing of a Pod that runs: what it asks for is allocated where the node has it, and what is allocated is given.
 * The group of the whole Pod is as wide as both before and after while its containers change, so that none of them is
 * ever refused what the other had. A memory limit below what is used would kill: it waits, and the Pod says so.
 */
import type { Container } from '#api/core.v1.ts';
import { messageOf } from '#base/thrown.ts';
import { podDemandOf } from './admit.ts';
import type { Attempt, Observed } from './container-memory.ts';
import { memoryOf } from './container-memory.ts';
import { startedContainers } from './containers.ts';
import type { PodState } from './pod-state.ts';
import { podAsAllocated } from './pod-state.ts';
import { containerResources, podResources } from './qos.ts';
import type { GroupLimits, ResizePending } from './resize.ts';
import {
  groupLimits,
  isAllocated,
  needsRestart,
  resizeMessage,
  sameLimits,
  wantedAllocation,
  widerLimits,
} from './resize.ts';

/** Allocates what the Pod asks for, or says why not. */
function allocate(state: PodState): void {
  const { pod, host, resize, uid } = state;
  if (isAllocated(pod, state.allocation)) {
    resize.pending = undefined;
    return;
  }
  const pending = host.takeResize(uid, podDemandOf(pod));
  if (pending === undefined) {
    state.allocation = wantedAllocation(pod);
    resize.pending = undefined;
    resize.progress = { error: '' };
    host.api.tell({ pod }, 'Normal', 'ResizeStarted', resizeMessage('started', pod));
  } else if (!isSamePending(pending, resize.pending)) {
    resize.pending = pending;
    const message = resizeMessage(pending.reason, pod, pending.message);
    host.api.tell({ pod }, 'Warning', `Resize${pending.reason}`, message);
  }
}

function isSamePending(a: ResizePending, b: ResizePending | undefined): boolean {
  return a.reason === b?.reason && a.message === b.message;
}

interface Change {
  container: Container;
  attempt: Attempt;
  wanted: GroupLimits;
}

/** Running containers that do not have what is allocated to them; those that are to start anew are marked so. */
function findChanges(state: PodState, observed: Observed): Change[] {
  const pod = podAsAllocated(state);
  const changes: Change[] = [];
  for (const container of startedContainers(pod)) {
    const attempt = observed.get(container.name)?.[0];
    if (attempt?.state !== 'running') continue;
    const wanted = groupLimits(containerResources(pod, container, state.host.memoryBytes));
    if (sameLimits(attempt.limits, wanted)) continue;
    if (needsRestart(container, attempt.limits, wanted)) memoryOf(state.memory, container.name).resized = attempt.id;
    else changes.push({ container, attempt, wanted });
  }
  return changes;
}

/** Throws an Error where the container uses more than it is to have. */
async function checkUsage(state: PodState, { container, attempt, wanted }: Change): Promise<void> {
  const { memoryLimitBytes } = wanted;
  const had = attempt.limits.memoryLimitBytes;
  if (memoryLimitBytes < 0 || (had >= 0 && had <= memoryLimitBytes)) return;
  const { memoryUsageBytes } = await state.host.engine.containers.stats(attempt.id);
  if (memoryUsageBytes >= memoryLimitBytes)
    throw new Error(
      `attempting to set container ${JSON.stringify(container.name)} memory limit (${memoryLimitBytes}) below current usage (${memoryUsageBytes})`,
    );
}

/** Resolves with whether containers have other limits than those that were observed. */
export async function resizePod(state: PodState, observed: Observed): Promise<boolean> {
  allocate(state);
  const { host, resize, uid } = state;
  const { engine, api } = host;
  const pod = podAsAllocated(state);
  const sandbox = engine.sandboxes.status(uid);
  if (sandbox?.ready !== true) return false;
  const changes = findChanges(state, observed);
  const before = groupLimits(sandbox.resources);
  const after = groupLimits(podResources(pod));
  if (changes.length > 0 || !sameLimits(before, after)) {
    resize.progress ??= { error: '' };
    try {
      for (const change of changes) await checkUsage(state, change);
      const wider = widerLimits(before, after);
      if (!sameLimits(before, wider)) await engine.sandboxes.update(uid, wider);
      for (const { attempt, wanted } of changes) await engine.containers.update(attempt.id, wanted);
      if (!sameLimits(wider, after)) await engine.sandboxes.update(uid, after);
      resize.progress.error = '';
    } catch (error) {
      const text = messageOf(error);
      if (resize.progress.error !== text)
        api.tell({ pod }, 'Warning', 'ResizeError', resizeMessage('error', pod, text));
      resize.progress.error = text;
      return true;
    }
  }
  return changes.length > 0;
}

/** Everything that runs has what is allocated: the resize is over. */
export function settleResize(state: PodState, observed: Observed): void {
  const { resize } = state;
  if (resize.progress === undefined || resize.progress.error !== '' || findChanges(state, observed).length > 0) return;
  const isWaiting = [...observed].some(
    ([name, [attempt]]) => attempt?.state === 'running' && memoryOf(state.memory, name).resized === attempt.id,
  );
  if (isWaiting) return;
  resize.progress = undefined;
  const pod = podAsAllocated(state);
  state.host.api.tell({ pod }, 'Normal', 'ResizeCompleted', resizeMessage('completed', pod));
}
