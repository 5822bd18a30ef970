/** One Pod as the engine of a simulated node has it: its sandbox and the runs of its containers. */
import type { AnyContainer } from '#kubelet/containers.ts';
import type { Pod } from '#api/core.v1.ts';
import type { SandboxStatus } from '#engine/engine.ts';
import type { ContainerContext } from './pod-script.ts';
import { type Machine, type PodOfRuns, runsFromStatus, type SimContainer } from './sim-container.ts';

export class SimPod implements PodOfRuns {
  readonly machine: Machine;
  /** The newest version that the node has seen. */
  pod: Pod;
  sandbox: SandboxStatus | undefined;
  /** Its environment has been made once: what it is made of is asked for again the next time. */
  hasAsked = false;
  /** Newest first. */
  readonly containers: SimContainer[] = [];

  constructor(pod: Pod, machine: Machine) {
    this.pod = pod;
    this.machine = machine;
  }

  get uid(): string {
    return this.pod.metadata.uid;
  }

  /** Takes up what the status says: a copied node begins so. */
  takeOver(): void {
    const { containerStatuses, initContainerStatuses, ephemeralContainerStatuses } = this.pod.status ?? {};
    for (const list of [initContainerStatuses, containerStatuses, ephemeralContainerStatuses])
      for (const status of list ?? []) this.containers.push(...runsFromStatus(this, status));
    for (const run of this.containers) if (run.isRunning) run.follow();
  }

  *specs(): Generator<AnyContainer> {
    const { containers, initContainers, ephemeralContainers } = this.pod.spec;
    yield* containers;
    if (initContainers !== undefined) yield* initContainers;
    if (ephemeralContainers !== undefined) yield* ephemeralContainers;
  }
  named(name: string): AnyContainer | undefined {
    for (const container of this.specs()) if (container.name === name) return container;
    return undefined;
  }
  isInit(name: string): boolean {
    return (this.pod.spec.initContainers ?? []).some((container) => container.name === name);
  }

  /** The newest run of a container. */
  current(name: string): SimContainer | undefined {
    return this.containers.find((run) => run.name === name);
  }
  running(): SimContainer[] {
    return this.containers.filter((run) => run.isRunning);
  }
  runningContainers(): string[] {
    const running = new Set(this.running().map(({ name }) => name));
    return [...this.specs()].map(({ name }) => name).filter((name) => running.has(name));
  }
  /** The number of the run that a start of the container would be. */
  nextAttempt(name: string): number {
    const current = this.current(name);
    if (current === undefined) return 0;
    return current.state === 'created' ? current.attempt : current.attempt + 1;
  }

  context(container: string): ContainerContext {
    return {
      pod: this.pod,
      container,
      attempt: this.current(container)?.attempt ?? 0,
      nowMs: this.machine.clock.now(),
      random: this.machine.random,
    };
  }

  memoryBytes(container: string): number {
    return this.current(container)?.memoryBytes ?? 0;
  }

  /** A container dies by itself: a fault. */
  crash(exitCode: number): void {
    if (this.pod.metadata.deletionTimestamp !== undefined) return;
    for (const { name } of this.pod.spec.containers) {
      const run = this.current(name);
      if (run?.isRunning !== true || run.isStopping) continue;
      run.exit(exitCode);
      return;
    }
  }
}
