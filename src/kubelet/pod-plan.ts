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
import type { AnyContainer } from './containers.ts';
import { deadContainersKept, restartBackOffInitialMs, restartBackOffMaxMs, restartBackOffResetMs } from './limits.ts';

/** One attempt of a container, as the engine reports it. */
export interface Attempt {
  id: string;
  restartCount: number;
  state: 'created' | 'running' | 'exited';
  exitCode: number;
  oomKilled: boolean;
  startedAtMs: number;
  finishedAtMs: number;
  imageId: string;
  image: string;
  /** The image as the Pod named it at the start; absent where that is not known. */
  specImage?: string | undefined;
  /** Termination message, once it has exited. */
  message: string;
  /**
   * Why it ended, where the runtime says so itself (`StartError`, `Unknown` after the machine went down); else the exit
   * code says it.
   */
  reason?: string;
}

/** Attempts of one container, newest first. */
export type Observed = ReadonlyMap<string, readonly Attempt[]>;

/**
 * What the kubelet remembers of a container between two plans. Lost at a restart of the kubelet, which only shortens a
 * back-off.
 */
export interface ContainerMemory {
  backOffMs: number;
  /** The attempt whose end the back-off was counted from. */
  backOffAttempt: number;
  started: boolean;
  ready: boolean;
  /** A failed liveness or startup probe or postStart hook: the running attempt is to be killed. */
  killBecause:
    | { attempt: string; message: string; /** Of the probe, where it has its own. */ graceSeconds?: number | undefined }
    | undefined;
  /** The attempt that was to go because the Pod was told another image: one more follows at once. */
  replaced: string;
  waiting: { reason: string; message: string } | undefined;
  /** When that back-off ends (ms since 1970). */
  backOffUntilMs: number;
  /** Starting it failed: not tried again before this time (on the monotonic clock). */
  notBeforeMs: number;
  /** The attempt whose back-off users have been told of. */
  announcedAttempt: number;
}

export type Memory = Map<string, ContainerMemory>;

export function memoryOf(memory: Memory, name: string): ContainerMemory {
  let found = memory.get(name);
  if (found === undefined) {
    found = {
      backOffMs: 0,
      backOffAttempt: -1,
      backOffUntilMs: 0,
      started: false,
      ready: false,
      killBecause: undefined,
      replaced: '',
      waiting: undefined,
      notBeforeMs: 0,
      announcedAttempt: -1,
    };
    memory.set(name, found);
  }
  return found;
}

/**
 * What a kubelet that has just started knows: a container that still runs keeps the readiness it had, so that a restart
 * takes no endpoint away.
 */
export function memoryFromStatus(pod: Pod): Memory {
  const memory: Memory = new Map();
  for (const list of [pod.status?.initContainerStatuses, pod.status?.containerStatuses]) {
    for (const status of list ?? []) {
      const remembered = memoryOf(memory, status.name);
      remembered.ready = status.ready;
      remembered.started = status.started === true;
    }
  }
  return memory;
}

/**
 * What ended with its sandbox - the machine was off, or the platform down - has not crashed: it starts again at once.
 */
export function forgiveExits(observed: Observed, memory: Memory): void {
  for (const [name, attempts] of observed) {
    const latest = attempts[0];
    if (latest?.state === 'exited')
      Object.assign(memoryOf(memory, name), { backOffMs: 0, backOffUntilMs: 0, backOffAttempt: latest.restartCount });
  }
}

/**
 * Containers that run already when a worker begins: a kubelet that died between the start of one and the report of it
 * has left a status that says nothing of it, or that it is not ready. Where no probe will ever say more (`isAsked`),
 * running is started, and started is ready.
 */
export function adoptRunning(
  pod: Pod,
  observed: Observed,
  memory: Memory,
  isAsked: (kind: 'Startup' | 'Readiness', container: AnyContainer, containerId: string) => boolean,
): void {
  for (const [name, attempts] of observed) {
    const attempt = attempts[0];
    if (attempt?.state !== 'running') continue;
    const container = [...(pod.spec.initContainers ?? []), ...(pod.spec.containers ?? [])].find(
      (each) => each.name === name,
    );
    if (container === undefined) continue;
    const remembered = memoryOf(memory, name);
    remembered.started ||= !isAsked('Startup', container, attempt.id);
    remembered.ready ||= remembered.started && !isAsked('Readiness', container, attempt.id);
  }
}

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

export function planPod(pod: Pod, observed: Observed, memory: Memory, nowMs: number): PodPlan {
  const plan: PodPlan = { start: [], kill: [], remove: [], backOff: [], phase: undefined, againAfterMs: undefined };
  const podPolicy: string = pod.spec.restartPolicy ?? 'Always';
  const initContainers: Container[] = pod.spec.initContainers ?? [];
  const containers: Container[] = pod.spec.containers ?? [];
  for (const attempts of observed.values())
    for (const old of attempts.slice(1 + deadContainersKept)) if (old.state === 'exited') plan.remove.push(old.id);

  const hold = (container: AnyContainer, attempt: Attempt, init: boolean): void => {
    const state = memoryOf(memory, container.name);
    const leftMs = backOffLeft(state, attempt, nowMs);
    // Another image has not failed yet.
    if (isChanged(container, attempt)) state.backOffMs = 0;
    if (state.backOffMs > 0 && leftMs > 0) {
      plan.backOff.push({ name: container.name, leftMs, totalMs: state.backOffMs });
      plan.againAfterMs = Math.min(plan.againAfterMs ?? Infinity, leftMs);
    } else {
      plan.start.push({ container, init, restartCount: attempt.restartCount + 1 });
    }
  };
  /** Kills an attempt that may not go on: the Pod names another image, or a probe or hook has failed. */
  const killUnfit = (container: AnyContainer, attempt: Attempt, message: string | undefined): void => {
    const state = memoryOf(memory, container.name);
    if (message !== undefined && isChanged(container, attempt)) {
      state.replaced = attempt.id;
      plan.kill.push({ name: container.name, id: attempt.id, message });
    } else if (state.killBecause?.attempt === attempt.id)
      plan.kill.push({
        name: container.name,
        id: attempt.id,
        message: state.killBecause.message,
        ...(state.killBecause.graceSeconds === undefined ? {} : { graceSeconds: state.killBecause.graceSeconds }),
      });
  };

  const mainStarted = containers.some((container) => (observed.get(container.name)?.length ?? 0) > 0);
  let initialised = true;
  for (const container of initContainers) {
    const attempt = observed.get(container.name)?.[0];
    if (isSidecar(container)) {
      if (attempt === undefined || attempt.state === 'created') {
        plan.start.push({ container, init: true, restartCount: attempt?.restartCount ?? 0 });
        initialised = mainStarted;
        if (!mainStarted) break;
        continue;
      }
      if (attempt.state === 'running') {
        killUnfit(container, attempt, `Init container ${container.name} definition changed`);
        if (!mainStarted && !memoryOf(memory, container.name).started) {
          initialised = false;
          break;
        }
        continue;
      }
      hold(container, attempt, true);
      if (!mainStarted) {
        initialised = false;
        break;
      }
      continue;
    }
    if (mainStarted) continue;
    if (attempt === undefined || attempt.state === 'created') {
      plan.start.push({ container, init: true, restartCount: attempt?.restartCount ?? 0 });
      initialised = false;
      break;
    }
    if (attempt.state === 'running') {
      killUnfit(container, attempt, undefined);
      initialised = false;
      break;
    }
    if (attempt.exitCode === 0) continue;
    initialised = false;
    if (!shouldRestart(container, podPolicy, attempt)) {
      finish(plan, initContainers, observed, 'Failed');
      return plan;
    }
    hold(container, attempt, true);
    break;
  }
  if (!initialised) return plan;

  let done = 0;
  let failed = false;
  for (const container of containers) {
    const attempt = observed.get(container.name)?.[0];
    if (attempt === undefined || attempt.state === 'created')
      plan.start.push({ container, init: false, restartCount: attempt?.restartCount ?? 0 });
    else if (attempt.state === 'running')
      killUnfit(container, attempt, `Container ${container.name} definition changed, will be restarted`);
    else if (memoryOf(memory, container.name).replaced === attempt.id)
      plan.start.push({ container, init: false, restartCount: attempt.restartCount + 1 });
    else if (shouldRestart(container, podPolicy, attempt)) hold(container, attempt, false);
    else {
      done += 1;
      failed ||= attempt.exitCode !== 0;
    }
  }
  if (done === containers.length && containers.length > 0)
    finish(plan, initContainers, observed, failed ? 'Failed' : 'Succeeded');
  return plan;
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
function finish(plan: PodPlan, initContainers: Container[], observed: Observed, phase: 'Succeeded' | 'Failed'): void {
  plan.start = [];
  plan.backOff = [];
  plan.againAfterMs = undefined;
  // Last first: a sidecar may need those that started before it.
  const sidecars = initContainers
    .filter(isSidecar)
    .reverse()
    .map((container) => ({ container, attempt: observed.get(container.name)?.[0] }));
  plan.kill = sidecars
    .filter(({ attempt }) => attempt?.state === 'running')
    .map(({ container, attempt }) => ({
      name: container.name,
      id: attempt!.id,
      message: `Stopping container ${container.name}`,
    }));
  plan.phase = phase;
}
