/**
 * What the probes of a simulated Pod's containers find: `started` and `ready` in the kubelet's memory, and why a
 * container is to be killed. When they find it is known from a run's start (`probe-times.ts`); here is a timer for the
 * next time that something changes.
 */
import { memoryOf, type Memory } from '#kubelet/plan.ts';
import type { Clock } from '#os/clock.ts';
import type { PodContainers } from './pod-containers.ts';
import { probeFailure } from './probe-times.ts';
import type { SimAttempt } from './sim-runtime.ts';
import type { Timers } from './timers.ts';

export interface ProbesHost {
  clock: Clock;
  podIp(): string;
  /** Something is started, ready or unready that was not. */
  changed(): void;
  /** A container is to be killed. */
  failed(): void;
}

export class ContainerProbes {
  readonly #containers: PodContainers;
  readonly #memory: Memory;
  readonly #timers: Timers;
  readonly #host: ProbesHost;

  constructor(containers: PodContainers, memory: Memory, timers: Timers, host: ProbesHost) {
    this.#containers = containers;
    this.#memory = memory;
    this.#timers = timers;
    this.#host = host;
  }

  /** Brings started and ready of a running container up to date and looks again when that will change. */
  look(attempt: SimAttempt): void {
    const { probes, name } = attempt;
    if (probes === undefined || attempt.state !== 'running') return;
    const elapsedMs = this.#host.clock.now() - attempt.beganMs;
    const remembered = memoryOf(this.#memory, name);
    remembered.started ||= elapsedMs >= probes.startedMs;
    const isUnready = probes.unreadyMs !== undefined && elapsedMs >= probes.unreadyMs;
    if (isUnready && remembered.ready)
      this.#containers.event(
        'Warning',
        'Unhealthy',
        `Readiness probe failed: ${probeFailure(this.#containers.named(name)?.readinessProbe, this.#host.podIp())}`,
        name,
      );
    remembered.ready = !isUnready && remembered.started && (remembered.ready || elapsedMs >= probes.readyMs);
    let nextMs = Infinity;
    for (const atMs of [probes.startedMs, probes.readyMs, probes.unreadyMs])
      if (atMs !== undefined && atMs > elapsedMs) nextMs = Math.min(nextMs, atMs);
    if (nextMs !== Infinity)
      this.#timers.set(`probe ${name}`, nextMs - elapsedMs, () => {
        this.look(attempt);
        this.#host.changed();
      });
  }

  end({ name }: SimAttempt): void {
    this.#timers.cancel(`probe ${name}`);
  }

  /** The liveness or the startup probe has failed for good. */
  kill(attempt: SimAttempt): void {
    const { name, id } = attempt;
    const container = this.#containers.named(name);
    const probe = attempt.probes?.kill?.probe ?? 'Liveness';
    this.#containers.event(
      'Warning',
      'Unhealthy',
      `${probe} probe failed: ${probeFailure(probe === 'Startup' ? container.startupProbe : container.livenessProbe, this.#host.podIp())}`,
      name,
    );
    memoryOf(this.#memory, name).killBecause = {
      attempt: id,
      message: `Container ${name} failed ${probe.toLowerCase()} probe, will be restarted`,
    };
    this.#host.failed();
  }

  /** How long what this run's probe kills has to stop, where the probe says so itself. */
  graceMs({ name, probes }: SimAttempt): number | undefined {
    const seconds: number | undefined =
      this.#containers.named(name)?.[probes?.kill?.probe === 'Startup' ? 'startupProbe' : 'livenessProbe']
        ?.terminationGracePeriodSeconds;
    return seconds === undefined ? undefined : seconds * 1000;
  }
}
