/**
 * The probes of a simulated node. When they come to their verdicts is known from a run's start (`probe-times.ts`), so
 * that a probe costs a timer for each verdict and none for the looks between them. Hooks do nothing, but for sleep,
 * which is the kubelet's.
 */
import type { Probe } from '#api/core.v1.ts';
import type { ActionResult, ActionTarget, ProbeKind, ProbeListener, Prober } from '#kubelet/doors.ts';
import type { Clock } from '#os/clock.ts';
import { probeFailure } from './probe-times.ts';
import type { SimContainer } from './sim-container.ts';
import { Timers } from './timers.ts';

const done: ActionResult = Object.freeze({ ok: true, message: '' });

export class SimProber implements Prober {
  readonly #clock: Clock;
  readonly #runOf: (containerId: string) => SimContainer | undefined;

  constructor(clock: Clock, runOf: (containerId: string) => SimContainer | undefined) {
    this.#clock = clock;
    this.#runOf = runOf;
  }

  isAsked(kind: ProbeKind, { containerId }: Pick<ActionTarget, 'containerId'>): boolean {
    const times = this.#runOf(containerId)?.timesOfProbes;
    if (times === undefined) return false;
    const { startedMs, readyMs, unreadyMs, kill } = times;
    if (kind === 'Startup') return startedMs > 0 || kill?.probe === 'Startup';
    if (kind === 'Readiness') return readyMs > startedMs || unreadyMs !== undefined;
    return kill?.probe === 'Liveness';
  }

  start(kind: ProbeKind, target: ActionTarget, _startedAtMs: number, listener: ProbeListener): { cancel(): void } {
    const timers = new Timers(this.#clock);
    const run = this.#runOf(target.containerId);
    const times = run?.timesOfProbes;
    if (run === undefined || times === undefined) return { cancel: () => undefined };
    const { startedMs, readyMs, unreadyMs, kill } = times;
    const at = (what: string, ms: number, act: () => void): void =>
      timers.set(what, run.beganMs + ms - this.#clock.now(), act);
    const fail = (probe: Probe | undefined): void => {
      listener.failed(probeFailure(probe, target.podIp));
      listener.decided(false);
    };
    const elapsedMs = this.#clock.now() - run.beganMs;
    if (kind === 'Readiness') {
      if (unreadyMs === undefined || elapsedMs < unreadyMs) at('ready', readyMs, () => listener.decided(true));
      if (unreadyMs !== undefined) at('unready', unreadyMs, () => fail(target.container.readinessProbe));
    } else if (kill?.probe === kind)
      at('kill', kill.atMs, () => {
        run.isHung = true;
        fail(kind === 'Startup' ? target.container.startupProbe : target.container.livenessProbe);
      });
    else at('started', startedMs, () => listener.decided(true));
    return { cancel: () => timers.clear() };
  }

  act(): Promise<ActionResult> {
    return Promise.resolve(done);
  }
}
