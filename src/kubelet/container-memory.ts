/**
 * What the kubelet sees of the containers of a Pod, and what it remembers of them from one look to the next. Lost at a
 * restart of the kubelet, which only shortens a back-off.
 */
import type { Pod } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import type { GroupLimits } from './resize.ts';

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
  /** What its control group has. */
  limits: GroupLimits;
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

/** What the kubelet remembers of a container between two plans. */
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
  /** The attempt that is to go because other resources ask for another one. */
  resized: string;
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
      resized: '',
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
