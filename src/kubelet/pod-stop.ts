/**
 * The stop of a Pod's containers: hook, signal, and SIGKILL when the grace period is over. Main containers go together,
 * then sidecars one after the other, last first (Kubernetes documentation, "Sidecar Containers"). A grace period that
 * is shortened meanwhile counts from then on.
 */
import type { LifecycleHandler } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import type { Timer } from '#os/clock.ts';
import { Interruption } from './interruption.ts';
import { signalGraceMsMin } from './limits.ts';
import { labelTermination } from './pod-labels.ts';
import type { Observed } from './container-memory.ts';
import { isSidecar } from './pod-plan.ts';
import { containerNamed } from './containers.ts';
import { cancelProbes } from './pod-probes.ts';
import type { PodState } from './pod-state.ts';

/** What a deletion or an eviction gives the Pod, in its own words. */
export function graceMsOf({ pod }: PodState): number {
  return (pod.metadata.deletionGracePeriodSeconds ?? pod.spec.terminationGracePeriodSeconds ?? 30) * 1000;
}

interface Victim {
  name: string;
  id: string;
  message: string;
}

/** Resolves when the container has exited. `hook` ends the wait for its preStop hook. */
export async function killContainer(
  state: PodState,
  { name, id, message }: Victim,
  graceMs: number,
  hook = new Interruption(state.leftovers),
): Promise<void> {
  const { engine, clock, api } = state.host;
  const killed = (state.killed ??= new Set());
  if (!killed.has(id)) {
    killed.add(id);
    api.tell({ pod: state.pod, container: name }, 'Normal', 'Killing', message);
  }
  cancelProbes(state, name);
  const startedMs = clock.monotonic();
  const container = containerNamed(state.pod, name);
  // Of a Pod that is gone only the engine still knows it.
  const preStop = container === undefined ? labelledPreStop(state, id) : container.lifecycle?.preStop;
  if (preStop !== undefined && graceMs > 0 && state.hooked?.has(id) !== true) {
    (state.hooked ??= new Set()).add(id);
    await runPreStop(state, { hook: preStop, container: container ?? { name }, containerId: id, graceMs }, hook);
  }
  const leftMs = Math.max(graceMs > 0 ? signalGraceMsMin : 0, graceMs - (clock.monotonic() - startedMs));
  await engine.containers.stop(id, graceMs === 0 ? 0 : Math.min(leftMs, graceMs));
}

function labelledPreStop({ host }: PodState, id: string): LifecycleHandler | undefined {
  const label = host.engine.containers.status(id)?.labels[labelTermination];
  if (label === undefined) return undefined;
  const { preStop }: { preStop?: LifecycleHandler } = JSON.parse(label);
  return preStop;
}

interface PreStop {
  hook: LifecycleHandler;
  container: AnyContainer;
  containerId: string;
  graceMs: number;
}

async function runPreStop(
  state: PodState,
  { hook, container, containerId: id, graceMs }: PreStop,
  interruption: Interruption,
): Promise<void> {
  const { engine, clock, prober, api } = state.host;
  const podIp = engine.sandboxes.status(state.uid)?.podIp ?? '';
  const done = { ok: true, message: '' };
  const { signal } = interruption;
  const exited = engine.containers.wait(id, signal).then(
    () => done,
    () => done,
  );
  const run =
    hook.sleep !== undefined
      ? clock.sleep(Math.min(hook.sleep.seconds * 1000, graceMs), signal).then(
          () => done,
          () => done,
        )
      : prober.act(hook, { containerId: id, podIp, pod: state.pod, container }, graceMs, signal);
  const result = await interruption.race(Promise.race([run, exited])).catch(() => done);
  interruption.interrupt();
  if (!result.ok)
    api.tell({ pod: state.pod, container: container.name }, 'Warning', 'FailedPreStopHook', 'PreStopHook failed');
}

/** Stops everything that runs, within `graceMs`. A shorter grace period of a newer version takes effect at once. */
export async function killAll(state: PodState, graceMs: number, observed: Observed): Promise<void> {
  const { clock } = state.host;
  const sidecars: string[] = (state.pod.spec.initContainers ?? [])
    .filter(isSidecar)
    .map((container: AnyContainer) => container.name);
  const running = [...observed].flatMap(([name, attempts]) =>
    attempts
      .filter((attempt) => attempt.state === 'running')
      .map(({ id }) => ({ name, id, message: `Stopping container ${name}` })),
  );
  if (running.length === 0) return;
  const stopping = new Stopping(state, clock.monotonic() + graceMs);
  try {
    await Promise.all(running.filter(({ name }) => !sidecars.includes(name)).map((each) => stopping.kill(each)));
    for (const each of running.filter(({ name }) => sidecars.includes(name)).reverse()) await stopping.kill(each);
  } finally {
    stopping.end();
  }
}

/** A stop that may have to end sooner than it was told. */
class Stopping {
  readonly #state: PodState;
  readonly #killing = new Map<string, Interruption>();
  #dueMs: number;
  #timer: Timer | undefined;

  constructor(state: PodState, dueMs: number) {
    this.#state = state;
    this.#dueMs = dueMs;
    state.onShorterGrace = (shorterMs) => this.#shorten(shorterMs);
  }

  async kill(victim: Victim): Promise<void> {
    const hook = new Interruption(this.#state.leftovers);
    this.#killing.set(victim.id, hook);
    const leftMs = Math.max(0, this.#dueMs - this.#state.host.clock.monotonic());
    try {
      await killContainer(this.#state, victim, leftMs, hook);
    } finally {
      this.#killing.delete(victim.id);
    }
  }

  #shorten(dueMs: number): void {
    if (dueMs >= this.#dueMs) return;
    this.#dueMs = dueMs;
    const { clock } = this.#state.host;
    this.#timer?.cancel();
    const leftMs = dueMs - clock.monotonic();
    if (leftMs <= 0) this.#killNow();
    else this.#timer = clock.setTimer(leftMs, () => this.#killNow(), { background: true });
  }

  /** Hooks first: who is still in one gets its signal, and a moment for it, from `killContainer`. */
  #killNow(): void {
    const { engine } = this.#state.host;
    for (const [id, hook] of this.#killing) {
      hook.interrupt();
      // One that has ended meanwhile need not be killed.
      void engine.containers.kill(id, 'SIGKILL').catch(() => {});
    }
  }

  end(): void {
    this.#timer?.cancel();
    this.#state.onShorterGrace = undefined;
  }
}
