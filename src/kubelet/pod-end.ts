/** The ends of a Pod: asked to go, over by itself, or made to fail by its node. Each is safe to repeat. */
import type { Observed } from './container-memory.ts';
import { observePod } from './pod-observe.ts';
import { cancelAllProbes } from './pod-probes.ts';
import { reported, reportPod } from './pod-report.ts';
import type { PodState } from './pod-state.ts';
import { graceMsOf, killAll } from './pod-stop.ts';

/** Of a Pod that is gone from the API, whatever its own grace period. */
const orphanGraceMsMax = 2_000;
const nothingPlanned = Object.freeze({
  start: [],
  kill: [],
  remove: [],
  backOff: [],
  phase: undefined,
  againAfterMs: undefined,
});

/**
 * When the Pod has to have stopped (monotonic): from when it was first seen to go, or - of one that was taken over
 * while it stopped - from when it was asked. A later, shorter period counts.
 */
function stopDueMs(state: PodState): number {
  const { clock } = state.host;
  const nowMs = clock.monotonic();
  const graceMs = state.isDeleted ? Math.min(orphanGraceMsMax, graceMsOf(state)) : graceMsOf(state);
  let dueMs = nowMs + graceMs;
  const asked = Date.parse(state.pod.metadata.deletionTimestamp ?? '');
  if (state.isTakenOver && !state.isDeleted && !Number.isNaN(asked))
    dueMs = Math.min(dueMs, nowMs + Math.max(0, asked - clock.now()));
  return Math.min(dueMs, state.stopDueMs ?? Infinity);
}

/** Stops what runs, and what comes up while it is stopped: an engine may have been in the middle of a start. */
async function stopAll(state: PodState): Promise<Observed> {
  const leftMs = (): number => Math.max(0, (state.stopDueMs ?? 0) - state.host.clock.monotonic());
  let observed = await observePod(state);
  await killAll(state, leftMs(), observed);
  while (state.leftovers.length > 0) {
    await Promise.all(state.leftovers.splice(0));
    await killAll(state, leftMs(), await observePod(state));
  }
  observed = await observePod(state);
  cancelAllProbes(state);
  return observed;
}

/** The Pod was asked to go: stop, report, take everything away, and tell the API server. */
export async function terminatePod(state: PodState): Promise<void> {
  const { engine, files, api } = state.host;
  state.stopDueMs = stopDueMs(state);
  const observed = await stopAll(state);
  if (!state.isDeleted) {
    reportPod(state, {
      observed,
      plan: nothingPlanned,
      sandbox: engine.sandboxes.status(state.uid),
      failed: state.hasFailed ? state.failing?.refusal : state.refused,
      terminal: true,
    });
    await reported(state);
  }
  for (const attempts of observed.values())
    for (const attempt of attempts) await engine.containers.remove(attempt.id, { force: true });
  await engine.sandboxes.remove(state.uid);
  await engine.images.releaseLease('kubelet', state.uid);
  await files.removePod(state.pod);
  if (!state.isDeleted) await api.confirmDeleted(state.pod, state.stop.signal);
  state.host.onGone(state.uid);
}

/** Succeeded or Failed: nothing runs; the sandbox goes, logs and the status stay until the Pod is deleted. */
export async function settlePod(state: PodState): Promise<void> {
  const { engine } = state.host;
  await killAll(state, graceMsOf(state), await observePod(state));
  cancelAllProbes(state);
  await engine.sandboxes.remove(state.uid);
  await engine.images.releaseLease('kubelet', state.uid);
}

/** The node takes the Pod's place away: what runs is stopped, and the Pod is Failed. */
export async function failPod(state: PodState): Promise<void> {
  const { refusal, graceMs } = state.failing!;
  state.stopDueMs = Math.min(state.stopDueMs ?? Infinity, state.host.clock.monotonic() + graceMs);
  const observed = await stopAll(state);
  state.stopDueMs = undefined;
  state.hasFailed = true;
  reportPod(state, { observed, plan: undefined, sandbox: undefined, failed: refusal, terminal: true });
}
