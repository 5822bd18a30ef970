/**
 * The containers of a simulated Pod as its object and its scripts describe them: which there are, what they do, use,
 * say and log.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { type EventRecorder, referenceTo } from '#client/events.ts';
import { terminationLogBytesMax, terminationLogLinesMax } from '#kubelet/limits.ts';
import { isSidecar } from '#kubelet/plan.ts';
import { amount } from '#kubelet/qos.ts';
import type { Clock, Random } from '#os/clock.ts';
import { ContainerLog, logStart, printedBytes } from './container-log.ts';
import { idleMemoryBytes } from './limits.ts';
import type { ContainerContext, ResolvedScript, Scripts } from './pod-script.ts';
import type { SimAttempt, SimRuntime } from './sim-runtime.ts';

export class PodContainers {
  readonly #pod: () => KubeObject;
  readonly #deps: { clock: Clock; random: Random; scripts: Scripts; recorder: EventRecorder | undefined };
  readonly #runtime: SimRuntime;

  constructor(
    pod: () => KubeObject,
    deps: { clock: Clock; random: Random; scripts: Scripts; recorder: EventRecorder | undefined },
    runtime: SimRuntime,
  ) {
    this.#pod = pod;
    this.#deps = deps;
    this.#runtime = runtime;
  }

  all(): Json[] {
    const { initContainers, containers, ephemeralContainers } = this.#pod()['spec'];
    return initContainers === undefined && ephemeralContainers === undefined
      ? containers
      : [...(initContainers ?? []), ...containers, ...(ephemeralContainers ?? [])];
  }

  named(name: string): Json {
    return this.all().find((container) => container.name === name);
  }
  #isInit(name: string): boolean {
    return (this.#pod()['spec'].initContainers ?? []).some((container: Json) => container.name === name);
  }
  isPlainInit(container: Json): boolean {
    return !isSidecar(container) && this.#isInit(container.name);
  }
  runningNames(): string[] {
    return this.all()
      .filter(({ name }) => this.#runtime.current(name)?.state === 'running')
      .map(({ name }) => name);
  }

  context(container: string): ContainerContext {
    return {
      pod: this.#pod(),
      container,
      attempt: this.#runtime.current(container)?.restartCount ?? 0,
      nowMs: this.#deps.clock.now(),
      random: this.#deps.random,
    };
  }

  /** What run number `attempt` of a container does. */
  script(container: Json, attempt: number): ResolvedScript {
    return this.#deps.scripts.resolve({ ...this.context(container.name), attempt }, container);
  }

  /** Of the Pod, or of one of its containers. */
  event(type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void {
    const { recorder } = this.#deps;
    if (recorder === undefined) return;
    const path =
      container === undefined
        ? undefined
        : `spec.${this.#isInit(container) ? 'initContainers' : 'containers'}{${container}}`;
    recorder.event(referenceTo(this.#pod(), path), type, reason, message);
  }

  /** Memory that a running container uses, in bytes: as its script says, or what has leaked. */
  memoryBytes(container: string): number {
    const context = this.context(container);
    const { memory, leakBytesPerSecond } = this.#deps.scripts.of(context);
    const attempt = this.#runtime.current(container);
    if (memory !== undefined) return memory(context);
    return leakBytesPerSecond === undefined || attempt === undefined
      ? idleMemoryBytes
      : Math.round((leakBytesPerSecond * (context.nowMs - attempt.beganMs)) / 1000);
  }

  /** Use and request of memory by running container, in bytes, for the choice whom to evict. */
  memoryUse(): { name: string; usage: number; request: number }[] {
    const running = new Set(this.runningNames());
    return this.all()
      .filter(({ name }) => running.has(name))
      .map(({ name, resources }) => ({
        name,
        usage: this.memoryBytes(name),
        request: amount(resources?.requests?.memory) ?? 0,
      }));
  }

  /** What a run has logged. That of a run taken over from its status is made anew from its script. */
  logOf(attempt: SimAttempt): ContainerLog {
    if (attempt.log !== undefined) return attempt.log;
    const beganMs = attempt.beganMs === 0 ? attempt.startedAtMs : attempt.beganMs;
    const context = { ...this.context(attempt.name), attempt: attempt.restartCount, nowMs: beganMs };
    const { logs = [] } = attempt.script?.script ?? this.#deps.scripts.of(context);
    attempt.log = new ContainerLog(
      typeof logs === 'function' ? logs(context) : logs,
      beganMs,
      attempt.startedAtMs - beganMs,
    );
    if (attempt.state !== 'running') attempt.log.end(attempt.finishedAtMs - attempt.log.skewMs);
    return attempt.log;
  }

  /** The end of its log, as a termination message under `FallbackToLogsOnError`. */
  lastWords(attempt: SimAttempt): string {
    const { lines } = this.logOf(attempt).read(logStart, this.#deps.clock.now());
    return lines.slice(-terminationLogLinesMax).map(printedBytes).join('').slice(-terminationLogBytesMax);
  }
}
