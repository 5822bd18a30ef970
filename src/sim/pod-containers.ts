/** The containers of a simulated Pod as its object and its scripts describe them: which there are, what they do, use, say and log. */
import type { Json, KubeObject } from '#base/objects.ts';
import { type EventRecorder, referenceTo } from '#client/events.ts';
import { terminationLogBytesMax, terminationLogLinesMax } from '#kubelet/limits.ts';
import { isSidecar } from '#kubelet/plan.ts';
import { amount } from '#kubelet/qos.ts';
import type { Clock, Random } from '#os/clock.ts';
import { idleMemoryBytes, logLinesMax } from './limits.ts';
import type { ContainerContext, ResolvedScript, Scripts } from './pod-script.ts';
import type { SimRuntime } from './sim-runtime.ts';

export class PodContainers {
  readonly logs = new Map<string, string[]>();
  readonly #pod: () => KubeObject;
  readonly #deps: { clock: Clock; random: Random; scripts: Scripts; recorder: EventRecorder | undefined };
  readonly #runtime: SimRuntime;

  constructor(pod: () => KubeObject, deps: { clock: Clock; random: Random; scripts: Scripts; recorder: EventRecorder | undefined }, runtime: SimRuntime) {
    this.#pod = pod;
    this.#deps = deps;
    this.#runtime = runtime;
  }

  all(): Json[] {
    const { initContainers, containers, ephemeralContainers } = this.#pod()['spec'];
    return initContainers === undefined && ephemeralContainers === undefined ? containers : [...(initContainers ?? []), ...containers, ...(ephemeralContainers ?? [])];
  }

  named(name: string): Json { return this.all().find((container) => container.name === name); }
  #isInit(name: string): boolean { return (this.#pod()['spec'].initContainers ?? []).some((container: Json) => container.name === name); }
  isPlainInit(container: Json): boolean { return !isSidecar(container) && this.#isInit(container.name); }
  runningNames(): string[] { return this.all().filter(({ name }) => this.#runtime.current(name)?.state === 'running').map(({ name }) => name); }

  context(container: string): ContainerContext {
    return { pod: this.#pod(), container, attempt: this.#runtime.current(container)?.restartCount ?? 0, nowMs: this.#deps.clock.now(), random: this.#deps.random };
  }

  /** What run number `attempt` of a container does. */
  script(container: Json, attempt: number): ResolvedScript { return this.#deps.scripts.resolve({ ...this.context(container.name), attempt }, container); }

  /** Of the Pod, or of one of its containers. */
  event(type: 'Normal' | 'Warning', reason: string, message: string, container?: string): void {
    const { recorder } = this.#deps;
    if (recorder === undefined) return;
    const path = container === undefined ? undefined : `spec.${this.#isInit(container) ? 'initContainers' : 'containers'}{${container}}`;
    recorder.event(referenceTo(this.#pod(), path), type, reason, message);
  }

  /** Memory that a running container uses, in bytes: as its script says, or what has leaked. */
  memoryBytes(container: string): number {
    const context = this.context(container);
    const { memory, leakBytesPerSecond } = this.#deps.scripts.of(context);
    const attempt = this.#runtime.current(container);
    if (memory !== undefined) return memory(context);
    return leakBytesPerSecond === undefined || attempt === undefined ? idleMemoryBytes : Math.round((leakBytesPerSecond * (context.nowMs - attempt.beganMs)) / 1000);
  }

  /** Use and request of memory by running container, in bytes, for the choice whom to evict. */
  memoryUse(): { name: string; usage: number; request: number }[] {
    const running = new Set(this.runningNames());
    return this.all().filter(({ name }) => running.has(name)).map(({ name, resources }) => ({ name, usage: this.memoryBytes(name), request: amount(resources?.requests?.memory) ?? 0 }));
  }

  /** Adds what a run that has just started logs. */
  log(name: string, { script }: ResolvedScript): void {
    const lines = typeof script.logs === 'function' ? script.logs(this.context(name)) : (script.logs ?? []);
    if (lines.length > 0) this.logs.set(name, [...(this.logs.get(name) ?? []), ...lines].slice(-logLinesMax));
  }

  /** The end of its log, as a termination message under `FallbackToLogsOnError`. */
  lastWords(name: string): string {
    return (this.logs.get(name) ?? []).slice(-terminationLogLinesMax).map((line) => `${line}\n`).join('').slice(-terminationLogBytesMax);
  }
}
