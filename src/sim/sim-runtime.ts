/**
 * The container runtime of one simulated Pod: attempts that begin, end by their script and stop when they are told to.
 * It decides nothing; what starts and stops when is the kubelet's business (`sim-pod.ts`, which asks the real kubelet's
 * `planPod`).
 *
 * Two clocks: scripts run by the cluster's (`beganMs`), what is reported is the node's own, which may be off.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import type { Attempt } from '#kubelet/plan.ts';
import { runtimeName } from '#kubelet/names.ts';
import type { Clock } from '#os/clock.ts';
import type { ContainerLog } from './container-log.ts';
import { durationMs } from './duration.ts';
import { signalGraceMinMs, stopMsDefault } from './limits.ts';
import type { ResolvedScript } from './pod-script.ts';
import { type ProbeTimes, probeTimes } from './probe-times.ts';
import { Timers } from './timers.ts';

interface Stopping {
  /** When it would end by itself after the signal. */ naturalMs: number;
  exitCode: number;
  /** Until when it was told to have ended. */ askedMs: number;
  /** When it is killed. */ dueMs: number;
}

export interface SimAttempt extends Attempt {
  readonly name: string;
  /** Start by the cluster's clock. */
  beganMs: number;
  script: ResolvedScript | undefined;
  probes: ProbeTimes | undefined;
  stopping: Stopping | undefined;
  /** Made at its start, or when somebody asks (`PodContainers.logOf`). */
  log?: ContainerLog;
}

export type Ending = 'exit' | 'oom' | 'starved' | 'unhealthy';
/** Attempts kept of each container: the one that runs or ended last, and the one before it. */
const attemptsKept = 2;

/** When and how an attempt ends by itself; undefined when it runs until it is stopped. */
function endingOf(
  container: Json,
  isPlainInit: boolean,
  script: ResolvedScript,
  probes: ProbeTimes,
  nodeMemoryBytes: number,
): { atMs: number; how: Ending } | undefined {
  const leak = script.script.leakBytesPerSecond;
  let first: { atMs: number; how: Ending } | undefined;
  const consider = (atMs: number | undefined, how: Ending): void => {
    if (atMs !== undefined && (first === undefined || atMs < first.atMs)) first = { atMs, how };
  };
  consider(isPlainInit ? script.initMs : script.exitMs, 'exit');
  consider(script.oomMs, 'oom');
  if (leak !== undefined && leak > 0 && container.resources?.limits?.memory === undefined)
    consider((nodeMemoryBytes / leak) * 1000, 'starved');
  if (!isPlainInit) consider(probes.kill?.atMs, 'unhealthy');
  return first;
}

function ended(name: string, id: string, restartCount: number, status: Json, terminated: Json): SimAttempt {
  const { exitCode, reason, message = '', startedAt, finishedAt } = terminated;
  return {
    name,
    id,
    restartCount,
    state: 'exited',
    exitCode,
    reason,
    oomKilled: reason === 'OOMKilled',
    message,
    image: status.image,
    imageId: status.imageID,
    startedAtMs: Date.parse(startedAt) || 0,
    finishedAtMs: Date.parse(finishedAt) || 0,
    beganMs: 0,
    script: undefined,
    probes: undefined,
    stopping: undefined,
  };
}

/**
 * The attempts that a Pod's status tells of: what a kubelet that takes the Pod over finds. Times come in whole seconds.
 * Runtimes other than this one write images in their own way.
 */
export function attemptsFromStatus(pod: KubeObject, skewMs: number): Map<string, SimAttempt[]> {
  const found = new Map<string, SimAttempt[]>();
  const { initContainerStatuses, containerStatuses, ephemeralContainerStatuses } = pod['status'] ?? {};
  for (const status of [
    ...(initContainerStatuses ?? []),
    ...(containerStatuses ?? []),
    ...(ephemeralContainerStatuses ?? []),
  ] as Json[]) {
    const { name, restartCount, state = {}, lastState = {} } = status;
    const id = String(status.containerID ?? '').replace(`${runtimeName}://`, '');
    const attempts: SimAttempt[] = [];
    if (state.running !== undefined) {
      const startedAtMs = Date.parse(state.running.startedAt);
      attempts.push({
        name,
        id,
        restartCount,
        state: 'running',
        exitCode: 0,
        oomKilled: false,
        startedAtMs,
        finishedAtMs: 0,
        imageId: status.imageID,
        image: status.image,
        message: '',
        beganMs: startedAtMs - skewMs,
        script: undefined,
        probes: undefined,
        stopping: undefined,
      });
    } else if (state.terminated !== undefined && id !== '')
      attempts.push(ended(name, id, restartCount, status, state.terminated));
    if (lastState.terminated !== undefined) {
      // A container that waits is the one that ended last.
      const isCurrent = attempts.length === 0;
      attempts.push(
        ended(
          name,
          isCurrent ? id : String(lastState.terminated.containerID ?? ''),
          isCurrent ? restartCount : restartCount - 1,
          status,
          lastState.terminated,
        ),
      );
    }
    if (String(status.containerID).startsWith(`${runtimeName}://`))
      for (const attempt of attempts) attempt.specImage = status.image;
    if (attempts.length > 0) found.set(name, attempts);
  }
  return found;
}

export interface RuntimeHost {
  clock: Clock;
  /** The node's own clock, ms since 1970. */
  now(): number;
  nodeMemoryBytes: number;
  /** An attempt has come to this by itself, or (`exit`, `oom`) has ended after a stop. */
  onEnding(attempt: SimAttempt, how: Ending): void;
}

export class SimRuntime {
  readonly attempts: Map<string, SimAttempt[]>;
  readonly timers: Timers;
  readonly #host: RuntimeHost;

  constructor(host: RuntimeHost, attempts: Map<string, SimAttempt[]>) {
    this.#host = host;
    this.attempts = attempts;
    this.timers = new Timers(host.clock);
  }

  current(name: string): SimAttempt | undefined {
    return this.attempts.get(name)?.[0];
  }

  *running(): Iterable<SimAttempt> {
    for (const attempts of this.attempts.values()) if (attempts[0]?.state === 'running') yield attempts[0];
  }

  get isIdle(): boolean {
    for (const attempts of this.attempts.values()) if (attempts[0]?.state === 'running') return false;
    return true;
  }

  start(
    container: Json,
    id: string,
    restartCount: number,
    imageId: string,
    isPlainInit: boolean,
    script: ResolvedScript,
  ): SimAttempt {
    const attempt: SimAttempt = {
      name: container.name,
      id,
      restartCount,
      state: 'running',
      exitCode: 0,
      oomKilled: false,
      startedAtMs: this.#host.now(),
      finishedAtMs: 0,
      imageId,
      image: container.image ?? '',
      specImage: container.image,
      message: '',
      beganMs: this.#host.clock.now(),
      script: undefined,
      probes: undefined,
      stopping: undefined,
    };
    this.attempts.set(attempt.name, [attempt, ...(this.attempts.get(attempt.name) ?? [])].slice(0, attemptsKept));
    this.follow(container, attempt, isPlainInit, script);
    return attempt;
  }

  /** Lets a running attempt go on by its script: after its start, or when it is taken over. */
  follow(container: Json, attempt: SimAttempt, isPlainInit: boolean, script: ResolvedScript): void {
    attempt.script = script;
    attempt.probes = probeTimes(container, script);
    const ending = endingOf(container, isPlainInit, script, attempt.probes, this.#host.nodeMemoryBytes);
    if (ending === undefined) return;
    this.timers.set(`end ${attempt.name}`, attempt.beganMs + ending.atMs - this.#host.clock.now(), () => {
      if (ending.how === 'exit')
        this.exit(attempt, isPlainInit ? script.initExitCode : script.exitCode, script.script.terminationMessage ?? '');
      else if (ending.how === 'oom') {
        attempt.oomKilled = true;
        this.exit(attempt, 137, '', 'oom');
      } else this.#host.onEnding(attempt, ending.how);
    });
  }

  exit(attempt: SimAttempt, exitCode: number, message = '', how: Ending = 'exit'): void {
    if (attempt.state !== 'running') return;
    this.timers.cancel(`end ${attempt.name}`);
    Object.assign(attempt, { state: 'exited', exitCode, message, finishedAtMs: this.#host.now() });
    attempt.log?.end(this.#host.clock.now());
    this.#host.onEnding(attempt, how);
  }

  /**
   * Runs the hook (`hookMs`) and signals an attempt; it is killed (137) at `dueMs` by the cluster's clock unless it has
   * ended by then. A later, earlier `dueMs` counts.
   */
  stop(attempt: SimAttempt, dueMs: number, hookMs: number, hangs: boolean): void {
    if (attempt.state !== 'running') return;
    const nowMs = this.#host.clock.now();
    if (attempt.stopping === undefined) {
      const graceMs = Math.max(0, dueMs - nowMs);
      const hookedMs = Math.min(hookMs, graceMs);
      const { stopAfter, stopExitCode = 0 } = attempt.script?.script ?? {};
      const stopMs = stopAfter !== undefined ? durationMs(stopAfter) : hangs ? Infinity : stopMsDefault;
      // A hook may use up the grace period; a moment for the signal is left all the same.
      attempt.stopping = {
        naturalMs: nowMs + hookedMs + stopMs,
        exitCode: stopExitCode,
        askedMs: dueMs,
        dueMs: nowMs + hookedMs + Math.min(graceMs, Math.max(signalGraceMinMs, graceMs - hookedMs)),
      };
    } else if (dueMs < attempt.stopping.askedMs) {
      Object.assign(attempt.stopping, { askedMs: dueMs, dueMs: Math.min(dueMs, attempt.stopping.dueMs) });
    }
    // Set anew in any case: who stops the whole Pod has cleared all timers.
    const { naturalMs, exitCode, dueMs: killMs } = attempt.stopping;
    this.timers.set(`end ${attempt.name}`, Math.min(naturalMs, killMs) - nowMs, () =>
      this.exit(attempt, naturalMs <= killMs ? exitCode : 137),
    );
  }

  /** What runs will not go on: nothing is logged any more, and whoever speaks to it is cut off. */
  silence(): void {
    for (const attempt of this.running()) attempt.log?.end(this.#host.clock.now());
  }

  /** The machine went down and came back: what ran is gone. */
  lose(): void {
    for (const attempt of this.running())
      Object.assign(attempt, {
        state: 'exited',
        exitCode: 255,
        reason: 'Unknown',
        finishedAtMs: this.#host.now(),
        stopping: undefined,
      });
  }
}
