/**
 * What to do next for one Pod: pure, from what is seen of its containers.
 *
 * Order: init containers one after the other (one with restartPolicy Always, a sidecar, needs only to have started),
 * then all others. A container that exited starts again where its policy says so, after a back-off that doubles from 10
 * s to 5 min and begins anew after 10 minutes of running. One that runs while the Pod is told another image is stopped
 * and starts anew with that, whatever its policy. When every main container is done, sidecars are stopped and the Pod
 * is Succeeded or Failed.
 * Rules: Kubernetes documentation, "Pod Lifecycle" and "Init Containers / Sidecar Containers".
 */
import type { Container, Pod } from '#api/core.v1.ts';
import { memoryOf, type Attempt, type ContainerMemory, type Memory, type Observed } from './container-memory.ts';
import type { AnyContainer } from './containers.ts';
import { deadContainersKept, restartBackOffInitialMs, restartBackOffMaxMs, restartBackOffResetMs } from './limits.ts';

export interface PodPlan {
  /** Started one after the other, in this order. */
  start: { container: AnyContainer; init: boolean; restartCount: number }[];
  kill: {
    name: string;
    id: string;
    message: string;
    /** In place of the Pod's own. */ graceSeconds?: number | undefined;
  }[];
  /** Dead attempts that nothing needs any more. */
  remove: string[];
  /** Containers held back: name and milliseconds that are left. */
  backOff: { name: string; leftMs: number; totalMs: number }[];
  /** Set when the Pod has ended. */
  phase: 'Succeeded' | 'Failed' | undefined;
  /** Look again after this time. */
  againAfterMs: number | undefined;
}

export function isSidecar(container: AnyContainer): boolean {
  return container.restartPolicy === 'Always';
}

/** The first rule of the container that its exit code meets decides, then its own policy, then the Pod's. */
function shouldRestart(container: AnyContainer, podPolicy: string, attempt: Attempt): boolean {
  for (const { action, exitCodes } of container.restartPolicyRules ?? []) {
    const isListed = (exitCodes?.values ?? []).includes(attempt.exitCode);
    if (exitCodes !== undefined && (exitCodes.operator === 'NotIn' ? !isListed : isListed)) return action === 'Restart';
  }
  const policy: string = container.restartPolicy ?? podPolicy;
  return policy === 'Always' || (policy === 'OnFailure' && attempt.exitCode !== 0);
}

/**
 * Milliseconds to wait before `attempt` may be followed by another one; moves the back-off on when a new end is seen.
 */
function backOffLeft(memory: ContainerMemory, attempt: Attempt, nowMs: number): number {
  if (memory.backOffAttempt !== attempt.restartCount) {
    const ranMs = attempt.finishedAtMs - attempt.startedAtMs;
    const resumed = memory.backOffAttempt === -1 && attempt.restartCount > 0;
    if (attempt.restartCount === 0 || ranMs >= restartBackOffResetMs) memory.backOffMs = 0;
    else if (resumed)
      memory.backOffMs = Math.min(restartBackOffMaxMs, restartBackOffInitialMs * 2 ** (attempt.restartCount - 1));
    else
      memory.backOffMs =
        memory.backOffMs === 0 ? restartBackOffInitialMs : Math.min(restartBackOffMaxMs, memory.backOffMs * 2);
    memory.backOffAttempt = attempt.restartCount;
    memory.backOffUntilMs = attempt.finishedAtMs + memory.backOffMs;
  }
  // A clock that was set back must not hold the container for as long as the jump.
  memory.backOffUntilMs = Math.min(memory.backOffUntilMs, nowMs + memory.backOffMs);
  return Math.max(0, memory.backOffUntilMs - nowMs);
}

/**
 * Of what a running container may be told, the image alone makes it start anew (Kubernetes documentation, "Pods / Pod
 * update and replacement").
 */
function isChanged(container: AnyContainer, { specImage }: Attempt): boolean {
  return specImage !== undefined && specImage !== container.image;
}

/** A Pod as it is seen now. */
interface Sighting {
  pod: Pod;
  observed: Observed;
  memory: Memory;
  nowMs: number;
}

export function planPod(pod: Pod, observed: Observed, memory: Memory, nowMs: number): PodPlan {
  const plan: PodPlan = { start: [], kill: [], remove: [], backOff: [], phase: undefined, againAfterMs: undefined };
  for (const attempts of observed.values())
    for (const old of attempts.slice(1 + deadContainersKept)) if (old.state === 'exited') plan.remove.push(old.id);
  const seen: Sighting = { pod, observed, memory, nowMs };
  if (planInit(seen, plan)) planMain(seen, plan);
  return plan;
}

/** Init containers, in their order. True when the others may run. */
function planInit(seen: Sighting, plan: PodPlan): boolean {
  const { pod, observed } = seen;
  const mainStarted = pod.spec.containers.some(({ name }) => (observed.get(name)?.length ?? 0) > 0);
  for (const container of pod.spec.initContainers ?? []) {
    // Those that only prepare have done so where a main container has started.
    if (!isSidecar(container) && mainStarted) continue;
    const isDone = isSidecar(container)
      ? planSidecar(seen, container, plan) || mainStarted
      : planPreparation(seen, container, plan);
    if (!isDone) return false;
  }
  return true;
}

/** True when the next one may start. */
function planSidecar(seen: Sighting, container: Container, plan: PodPlan): boolean {
  const attempt = seen.observed.get(container.name)?.[0];
  if (attempt === undefined || attempt.state === 'created') startFirst(container, true, attempt, plan);
  else if (attempt.state === 'running') {
    killUnfit(seen, { container, attempt, changed: `Init container ${container.name} definition changed` }, plan);
    return memoryOf(seen.memory, container.name).started;
  } else startAgain(seen, { container, init: true, attempt }, plan);
  return false;
}

/** An init container that ends before the others begin. True when it has ended well. */
function planPreparation(seen: Sighting, container: Container, plan: PodPlan): boolean {
  const attempt = seen.observed.get(container.name)?.[0];
  if (attempt === undefined || attempt.state === 'created') startFirst(container, true, attempt, plan);
  else if (attempt.state === 'running') killUnfit(seen, { container, attempt, changed: undefined }, plan);
  else if (attempt.exitCode === 0) return true;
  else if (shouldRestart(container, restartPolicyOf(seen), attempt))
    startAgain(seen, { container, init: true, attempt }, plan);
  else finish(seen, 'Failed', plan);
  return false;
}

function planMain(seen: Sighting, plan: PodPlan): void {
  const { pod, observed, memory } = seen;
  const { containers } = pod.spec;
  let done = 0;
  let failed = false;
  for (const container of containers) {
    const { name } = container;
    const attempt = observed.get(name)?.[0];
    if (attempt === undefined || attempt.state === 'created') startFirst(container, false, attempt, plan);
    else if (attempt.state === 'running')
      killUnfit(seen, { container, attempt, changed: `Container ${name} definition changed, will be restarted` }, plan);
    else if (memoryOf(memory, name).replaced === attempt.id)
      plan.start.push({ container, init: false, restartCount: attempt.restartCount + 1 });
    else if (shouldRestart(container, restartPolicyOf(seen), attempt))
      startAgain(seen, { container, init: false, attempt }, plan);
    else {
      done += 1;
      failed ||= attempt.exitCode !== 0;
    }
  }
  if (done === containers.length && containers.length > 0) finish(seen, failed ? 'Failed' : 'Succeeded', plan);
}

const restartPolicyOf = ({ pod }: Sighting): string => pod.spec.restartPolicy ?? 'Always';

/** Never started: `attempt` is at most one that was made and not started. */
function startFirst(container: Container, init: boolean, attempt: Attempt | undefined, plan: PodPlan): void {
  plan.start.push({ container, init, restartCount: attempt?.restartCount ?? 0 });
}

/** Ended, and to start again: now, or when its back-off is over. */
function startAgain(
  { memory, nowMs }: Sighting,
  { container, init, attempt }: { container: Container; init: boolean; attempt: Attempt },
  plan: PodPlan,
): void {
  const state = memoryOf(memory, container.name);
  const leftMs = backOffLeft(state, attempt, nowMs);
  // Another image, or the same with other resources, has not failed yet.
  if (isChanged(container, attempt) || state.replaced === attempt.id) state.backOffMs = 0;
  if (state.backOffMs > 0 && leftMs > 0) {
    plan.backOff.push({ name: container.name, leftMs, totalMs: state.backOffMs });
    plan.againAfterMs = Math.min(plan.againAfterMs ?? Infinity, leftMs);
  } else plan.start.push({ container, init, restartCount: attempt.restartCount + 1 });
}

/**
 * Kills an attempt that may not go on: the Pod names another image (`changed` says so to users; undefined where that
 * does not count), its new resources ask for a new start, or a probe or hook has failed.
 */
function killUnfit(
  { memory }: Sighting,
  { container, attempt, changed }: { container: Container; attempt: Attempt; changed: string | undefined },
  plan: PodPlan,
): void {
  const state = memoryOf(memory, container.name);
  const { killBecause } = state;
  if (changed !== undefined && isChanged(container, attempt)) {
    state.replaced = attempt.id;
    plan.kill.push({ name: container.name, id: attempt.id, message: changed });
  } else if (state.resized === attempt.id) {
    state.replaced = attempt.id;
    plan.kill.push({
      name: container.name,
      id: attempt.id,
      message: `Container ${container.name} resize requires restart`,
    });
  } else if (killBecause?.attempt === attempt.id)
    plan.kill.push({
      name: container.name,
      id: attempt.id,
      message: killBecause.message,
      ...(killBecause.graceSeconds === undefined ? {} : { graceSeconds: killBecause.graceSeconds }),
    });
}

/** Ephemeral containers start once, whatever the others do, and never again. */
export function addEphemeral(plan: PodPlan, pod: Pod, observed: Observed): void {
  if (plan.phase !== undefined || pod.spec.ephemeralContainers === undefined) return;
  for (const container of pod.spec.ephemeralContainers) {
    const attempt = observed.get(container.name)?.[0];
    if (attempt === undefined || attempt.state === 'created')
      plan.start.push({ container, init: false, restartCount: 0 });
  }
}

/** Containers whose back-off has just begun: users are told once for each end. */
export function newBackOffs(plan: PodPlan, memory: Memory): string[] {
  const names: string[] = [];
  for (const { name } of plan.backOff) {
    const remembered = memoryOf(memory, name);
    if (remembered.announcedAttempt === remembered.backOffAttempt) continue;
    remembered.announcedAttempt = remembered.backOffAttempt;
    names.push(name);
  }
  return names;
}

/** The Pod has ended: nothing starts again, and sidecars are stopped before the phase is final. */
function finish({ pod, observed }: Sighting, phase: 'Succeeded' | 'Failed', plan: PodPlan): void {
  plan.start = [];
  plan.backOff = [];
  plan.againAfterMs = undefined;
  // Last first: a sidecar may need those that started before it.
  plan.kill = (pod.spec.initContainers ?? [])
    .filter(isSidecar)
    .reverse()
    .flatMap(({ name }) => {
      const attempt = observed.get(name)?.[0];
      return attempt?.state === 'running' ? [{ name, id: attempt.id, message: `Stopping container ${name}` }] : [];
    });
  plan.phase = phase;
}
