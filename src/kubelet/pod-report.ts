/**
 * The writing of a Pod's status: one write at a time, the newest state each, off the worker's own course - an API
 * server that is away holds no container up. What changes on one turn is one write.
 *
 * A write holds for the version it was made from: conditions of others are kept as that version has them, so it must
 * be the newest. After a conflict the Pod is read again, and its status made anew.
 */
import type { Pod } from '#api/core.v1.ts';
import { isReason } from '#base/errors.ts';
import { equalJson } from '#base/json.ts';
import { whenSettled } from '#base/promises.ts';
import { syncErrorRetryMs } from './limits.ts';
import { podFullName } from './pod-labels.ts';
import { isTerminal, podAsAllocated, type PodState, type Report } from './pod-state.ts';
import { podStatus } from './status.ts';

const retryFirstMs = 100;

function versionOf(pod: Pod): number {
  return Number(pod.metadata.resourceVersion ?? 0);
}

export function reportPod(state: PodState, report: Report): void {
  state.report = report;
  state.isDirty = true;
  state.writing ??= writeReports(state);
}

/** Resolves when all that was reported is written, or the Pod or the kubelet is gone. */
export async function reported(state: PodState): Promise<void> {
  while (state.writing !== undefined) await state.writing;
}

async function writeReports(state: PodState): Promise<void> {
  await Promise.resolve();
  let delayMs = retryFirstMs;
  while (state.isDirty && !state.stop.isDue) {
    state.isDirty = false;
    try {
      await writeOnce(state);
      delayMs = retryFirstMs;
    } catch (error) {
      if (isReason(error, 'NotFound')) break;
      state.isDirty = true;
      if (isReason(error, 'Conflict') && (await catchUp(state))) continue;
      if (isReason(error, 'Invalid', 'Forbidden', 'BadRequest'))
        state.host.log.warn('pod status not written', { pod: podFullName(state.pod), error });
      await whenSettled(state.host.clock.sleep(delayMs, state.stop.signal));
      delayMs = Math.min(delayMs * 2, syncErrorRetryMs);
    }
  }
  state.writing = undefined;
  takeUnseen(state);
}

function takeUnseen(state: PodState): void {
  const { unseen } = state;
  state.unseen = undefined;
  if (unseen !== undefined) takeVersion(state, unseen);
}

/** Compared with what stands there, not with what was last said: others may have undone that. */
async function writeOnce(state: PodState): Promise<void> {
  const { host, pod, report } = state;
  const { observed, plan, sandbox, failed, terminal = false } = report!;
  const status = podStatus({
    pod: podAsAllocated(state),
    nodeMemoryBytes: host.memoryBytes,
    resize: state.resize,
    observed,
    memory: state.memory,
    plan,
    hostIp: host.hostIp,
    nowMs: host.clock.now(),
    startedAtMs: state.startedAtMs,
    sandboxReady: sandbox?.ready === true,
    podIp: pod.spec.hostNetwork === true ? host.hostIp : (sandbox?.podIp ?? pod.status?.podIP ?? ''),
    ...(failed === undefined ? {} : { refused: failed }),
    terminal,
  });
  if (equalJson(status, pod.status)) return;
  const stored = await host.api.updateStatus(pod, status);
  state.lastWritten = stored.metadata.resourceVersion;
  takeVersion(state, stored);
  takeUnseen(state);
}

/** Reads a Pod that changed before its status could be written. False when that cannot be done now. */
async function catchUp(state: PodState): Promise<boolean> {
  try {
    const current = await state.host.api.read(state.pod);
    if (current === undefined) state.isDirty = false;
    else takeVersion(state, current);
    return true;
  } catch {
    // Asked again with the next attempt.
    return false;
  }
}

/** A version of the Pod, by the watch. One that comes while a write is under way may be its echo: taken after it. */
export function seeVersion(state: PodState, pod: Pod): void {
  if (state.writing === undefined || isUrgent(state.pod, pod)) takeVersion(state, pod);
  else if (state.unseen === undefined || versionOf(state.unseen) < versionOf(pod)) state.unseen = pod;
}

function isUrgent({ metadata: before }: Pod, { metadata: after }: Pod): boolean {
  return (
    after.generation !== before.generation ||
    after.deletionTimestamp !== before.deletionTimestamp ||
    after.deletionGracePeriodSeconds !== before.deletionGracePeriodSeconds
  );
}

/** An older version than what is known says nothing. */
function takeVersion(state: PodState, pod: Pod): void {
  const { pod: before } = state;
  if (versionOf(pod) <= versionOf(before) || pod.metadata.uid !== state.uid) return;
  const urgent = isUrgent(before, pod);
  const isOwn = pod.metadata.resourceVersion === state.lastWritten;
  state.pod = pod;
  if (urgent) interruptPointless(state);
  if (urgent || !isOwn || (isTerminal(pod) && !isTerminal(before))) state.wake();
}

/** Ends the waits that the newest version makes pointless, and shortens a stop that is under way. */
function interruptPointless(state: PodState): void {
  const { pod, starting, host } = state;
  if (pod.metadata.deletionTimestamp !== undefined) {
    state.interruption.interrupt();
    starting?.interruption.interrupt();
    const { deletionGracePeriodSeconds } = pod.metadata;
    if (deletionGracePeriodSeconds !== undefined)
      state.onShorterGrace?.(host.clock.monotonic() + deletionGracePeriodSeconds * 1000);
    return;
  }
  if (starting === undefined) return;
  const lists = [pod.spec.containers, pod.spec.initContainers, pod.spec.ephemeralContainers];
  const named = lists.flatMap((list) => list ?? []).find(({ name }) => name === starting.name);
  if (named?.image !== starting.image) starting.interruption.interrupt();
}
