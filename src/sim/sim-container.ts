/**
 * One run of a container on a simulated node: it begins, ends by its script and stops when it is told to. It decides
 * nothing; what starts and stops when is the kubelet's business.
 *
 * Two clocks: scripts run by the cluster's (`beganMs`), what is reported is the node's own, which may be off.
 */
import type { AnyContainer } from '#kubelet/containers.ts';
import type * as api from '#api/core.v1.ts';
import type { ContainerStateTerminated, Pod } from '#api/core.v1.ts';
import type { ContainerState, ContainerStatus, Resources } from '#engine/engine.ts';
import { labelContainerName, labelRestartCount, podLabels, runtimeName } from '#kubelet/pod-labels.ts';
import { isSidecar } from '#kubelet/pod-plan.ts';
import { containerResources } from '#kubelet/qos.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import { ContainerLog } from './container-log.ts';
import { durationMs } from './duration.ts';
import { idleMemoryBytes, stopMsDefault } from './limits.ts';
import type { ContainerContext, ResolvedScript, Scripts } from './pod-script.ts';
import { type ProbeTimes, probeTimes } from './probe-times.ts';

/** What the runs of containers have of their node. */
export interface Machine {
  /** The cluster's, and the node's own. */
  readonly clock: Clock;
  readonly node: Clock;
  readonly random: Random;
  readonly scripts: Scripts;
  readonly memoryBytes: number;
  /** How far the node's clock is ahead of the cluster's. */
  readonly skewMs: number;
  /** A container without a limit has used up the node's memory. */
  starved(): void;
  died(container: SimContainer): void;
}

/** What a run has of its Pod. */
export interface PodOfRuns {
  readonly machine: Machine;
  readonly uid: string;
  /** The newest version that the node has seen. */
  readonly pod: Pod;
  named(name: string): AnyContainer | undefined;
  isInit(name: string): boolean;
  context(container: string): ContainerContext;
}

const killedCode = 137;
const lostCode = 255;

interface Stopping {
  /** When it would end by itself after the signal. */
  naturalMs: number;
  exitCode: number;
  /** When it is killed. */
  dueMs: number;
}

export interface NewContainer {
  id: string;
  container: AnyContainer;
  restartCount: number;
  image: string;
  imageId: string;
  labels: Record<string, string>;
  createdAtMs: number;
  resources: Resources;
}

/** It is its own status: the engine hands it out as it is. */
export class SimContainer implements ContainerStatus {
  readonly pod: PodOfRuns;
  readonly container: AnyContainer;
  readonly id: string;
  readonly name: string;
  readonly owner = 'kubelet';
  readonly image: string;
  readonly imageId: string;
  readonly labels: Record<string, string>;
  readonly attempt: number;
  readonly createdAtMs: number;
  state: ContainerState = 'created';
  pid = 0;
  exitCode: number | undefined = undefined;
  isExitUnknown = false;
  oomKilled = false;
  error = '';
  startedAtMs = 0;
  finishedAtMs = 0;
  restartCount = 0;
  resources: Resources;
  logPath = '';
  /** Its termination message. */
  message = '';
  /** Start by the cluster's clock. */
  beganMs = 0;
  /** Set from its start on. */
  script: ResolvedScript | undefined = undefined;
  probes: ProbeTimes | undefined = undefined;
  /** Its application does not answer any more, nor does it hear a signal. */
  isHung = false;
  #stopping: Stopping | undefined = undefined;
  #log: ContainerLog | undefined = undefined;
  #end: Timer | undefined = undefined;
  #waiting: (() => void)[] | undefined = undefined;

  constructor(pod: PodOfRuns, made: NewContainer) {
    this.pod = pod;
    this.container = made.container;
    this.id = made.id;
    this.name = made.container.name;
    this.attempt = made.restartCount;
    this.image = made.image;
    this.imageId = made.imageId;
    this.resources = made.resources;
    this.labels = made.labels;
    this.createdAtMs = made.createdAtMs;
  }

  get isRunning(): boolean {
    return this.state === 'running';
  }
  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }
  /** An init container that is to end. */
  get isPlainInit(): boolean {
    return !isSidecar(this.container) && this.pod.isInit(this.name);
  }

  /** When its probes come to their verdicts; of an init container that is to end nobody asks. */
  get timesOfProbes(): ProbeTimes | undefined {
    return this.isPlainInit ? undefined : this.probes;
  }
  get isLeaking(): boolean {
    return this.script?.script.leakBytesPerSecond !== undefined;
  }

  start(): void {
    const { clock, node } = this.pod.machine;
    this.state = 'running';
    this.startedAtMs = node.now();
    this.beganMs = clock.now();
    this.follow();
    // What only stands in the script is put together when somebody asks for it.
    if (typeof this.script?.script.logs === 'function') void this.log;
  }

  /** Lets a run go on by its script: after its start, or when it is taken over. */
  follow(): void {
    const { scripts, memoryBytes } = this.pod.machine;
    const script = scripts.resolve({ ...this.pod.context(this.name), attempt: this.attempt }, this.container);
    const probes = probeTimes(this.container, script);
    this.script = script;
    this.probes = probes;
    const { isPlainInit } = this;
    const leak = script.script.leakBytesPerSecond;
    const endMs = isPlainInit ? script.initMs : (script.exitMs ?? Infinity);
    const oomMs = script.oomMs ?? Infinity;
    const isUnbound = leak !== undefined && leak > 0 && this.container.resources?.limits?.memory === undefined;
    const starvedMs = isUnbound ? (memoryBytes / leak) * 1000 : Infinity;
    const firstMs = Math.min(endMs, oomMs, starvedMs);
    if (firstMs === Infinity) return;
    this.#endAt(this.beganMs + firstMs, () => {
      if (firstMs === endMs)
        this.exit(isPlainInit ? script.initExitCode : script.exitCode, script.script.terminationMessage ?? '');
      else if (firstMs === oomMs) {
        this.oomKilled = true;
        this.exit(killedCode);
      } else this.pod.machine.starved();
    });
  }

  #endAt(atMs: number, run: () => void): void {
    const { clock } = this.pod.machine;
    this.#end?.cancel();
    this.#end = clock.setTimer(Math.max(0, atMs - clock.now()), run);
  }

  exit(exitCode: number, message = ''): void {
    if (this.state !== 'running') return;
    this.#end?.cancel();
    this.state = 'exited';
    this.exitCode = exitCode;
    this.message = message;
    this.finishedAtMs = this.pod.machine.node.now();
    this.#log?.end(this.pod.machine.clock.now());
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const done of waiting) done();
    this.pod.machine.died(this);
  }

  /** Signals it; it is killed after `graceMs` unless it has ended by then. A later, earlier end counts. */
  stop(graceMs: number): void {
    if (this.state !== 'running') return;
    const nowMs = this.pod.machine.clock.now();
    const { stopAfter, stopExitCode = 0 } = this.script?.script ?? {};
    const stopMs = stopAfter !== undefined ? durationMs(stopAfter) : this.isHung ? Infinity : stopMsDefault;
    const dueMs = nowMs + graceMs;
    this.#stopping ??= { naturalMs: nowMs + stopMs, exitCode: stopExitCode, dueMs };
    this.#stopping.dueMs = Math.min(this.#stopping.dueMs, dueMs);
    const { naturalMs, exitCode, dueMs: killMs } = this.#stopping;
    this.#endAt(Math.min(naturalMs, killMs), () => this.exit(naturalMs <= killMs ? exitCode : killedCode));
  }

  kill(): void {
    this.exit(killedCode);
  }

  /** Calls back when it does not run, until the answer is called. */
  onExit(done: () => void): () => void {
    if (this.state !== 'running') {
      done();
      return () => undefined;
    }
    (this.#waiting ??= []).push(done);
    return () => {
      this.#waiting = this.#waiting?.filter((each) => each !== done);
    };
  }

  /** The power is off: nothing happens any more. */
  freeze(): void {
    this.#end?.cancel();
    if (this.state === 'running') this.#log?.end(this.pod.machine.clock.now());
  }

  /** The machine came back without it. */
  lose(): void {
    if (this.state !== 'running') return;
    Object.assign(this, {
      state: 'exited',
      exitCode: lostCode,
      isExitUnknown: true,
      finishedAtMs: this.pod.machine.node.now(),
    });
  }

  /** Memory in bytes: as its script says, or what has leaked. */
  get memoryBytes(): number {
    const { scripts, clock } = this.pod.machine;
    const context = this.pod.context(this.name);
    const { memory, leakBytesPerSecond } = scripts.of(context);
    if (memory !== undefined) return memory(context);
    return leakBytesPerSecond === undefined
      ? idleMemoryBytes
      : Math.round((leakBytesPerSecond * (clock.now() - this.beganMs)) / 1000);
  }

  /** What it has logged. That of a run taken over from a status is made anew from its script. */
  get log(): ContainerLog {
    if (this.#log !== undefined) return this.#log;
    const beganMs = this.beganMs === 0 ? this.startedAtMs : this.beganMs;
    const context = { ...this.pod.context(this.name), attempt: this.attempt, nowMs: beganMs };
    const { logs = [] } = this.script?.script ?? this.pod.machine.scripts.of(context);
    const log = new ContainerLog(
      typeof logs === 'function' ? logs(context) : logs,
      beganMs,
      this.startedAtMs - beganMs,
    );
    if (!this.isRunning) log.end(this.finishedAtMs - log.skewMs);
    this.#log = log;
    return log;
  }
}

/** Runs as a Pod's status tells them, newest first: what a copied node has of the Pod. */
export function runsFromStatus(pod: PodOfRuns, status: api.ContainerStatus): SimContainer[] {
  const { image, imageID, restartCount, state = {}, lastState = {}, containerID = '' } = status;
  const container = pod.named(status.name);
  if (container === undefined) return [];
  const isOwn = String(containerID).startsWith(`${runtimeName}://`);
  const runs: SimContainer[] = [];
  const add = (id: string, attempt: number): SimContainer => {
    const made = new SimContainer(pod, {
      id: id.replace(`${runtimeName}://`, ''),
      container,
      restartCount: attempt,
      // Another runtime's names are not those of the specification.
      image: isOwn ? image : (container.image ?? ''),
      imageId: imageID,
      labels: { ...podLabels(pod.pod), [labelContainerName]: status.name, [labelRestartCount]: String(attempt) },
      createdAtMs: 0,
      resources: containerResources(
        pod.pod,
        { ...container, ...(status.resources === undefined ? {} : { resources: status.resources }) },
        pod.machine.memoryBytes,
      ),
    });
    runs.push(made);
    return made;
  };
  if (state.running !== undefined) {
    const startedAtMs = Date.parse(state.running.startedAt ?? '');
    Object.assign(add(containerID, restartCount), {
      state: 'running',
      startedAtMs,
      beganMs: startedAtMs - pod.machine.skewMs,
    });
  } else if (state.terminated !== undefined && containerID !== '')
    end(add(containerID, restartCount), state.terminated);
  if (lastState.terminated !== undefined) {
    // A container that waits is the one that ended last.
    const isCurrent = runs.length === 0;
    const id = isCurrent ? containerID : String(lastState.terminated.containerID ?? '');
    end(add(id, isCurrent ? restartCount : restartCount - 1), lastState.terminated);
  }
  return runs;
}

function end(
  run: SimContainer,
  { exitCode, reason, message = '', startedAt, finishedAt }: ContainerStateTerminated,
): void {
  Object.assign(run, {
    state: 'exited',
    exitCode,
    isExitUnknown: reason === 'Unknown',
    oomKilled: reason === 'OOMKilled',
    message,
    startedAtMs: Date.parse(startedAt ?? '') || 0,
    finishedAtMs: Date.parse(finishedAt ?? '') || 0,
  });
}
