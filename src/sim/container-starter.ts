/**
 * Starts what the plan of a simulated Pod says, in its order, once what a container needs is there - volumes, image,
 * environment - and knows how long that takes. Which container starts when is not decided here (`planPod`), nor what
 * users are told while an image is missing (`planImage`). `#epoch` grows when all that waits is void: the node went
 * down, the Pod stops.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import {
  type ImageBackOff,
  invalidImageName,
  planFailedPull,
  planImage,
  pulledEvent,
  WaitingError,
} from '#kubelet/images.ts';
import { syncErrorRetryMaxMs, syncErrorRetryMs } from '#kubelet/limits.ts';
import { memoryOf, type Memory, type PodPlan } from '#kubelet/plan.ts';
import { durationMs } from './duration.ts';
import { imageNameProblem, imageSizeBytes } from './node-images.ts';
import type { PodContainers } from './pod-containers.ts';
import { hasReferences, volumeNeeds } from './references.ts';
import type { SimPodHost } from './sim-pod-host.ts';
import type { Timers } from './timers.ts';

/** The Pod that starts, as far as its containers need it. */
export interface StartingPod {
  readonly pod: KubeObject;
  readonly ip: string;
  readonly host: SimPodHost;
  readonly containers: PodContainers;
  readonly memory: Memory;
  readonly timers: Timers;
  plan(): PodPlan;
  replan(): PodPlan;
  /** All that the container needs is there. */
  run(container: Json, restartCount: number): void;
  /** The status changed. */
  changed(): void;
  passAfter(id: 'start' | 'again', delayMs: number): void;
}

export class ContainerStarter {
  readonly #of: StartingPod;
  readonly #backOffs = new Map<string, ImageBackOff>();
  #isMounted: boolean;
  #mountRetryMs = 0;
  #isStarting = false;
  #epoch = 0;

  constructor(of: StartingPod, isMounted: boolean) {
    this.#of = of;
    this.#isMounted = isMounted;
  }

  /** The kubelet starts anew: it has forgotten its back-offs. */
  forget(): void {
    this.#backOffs.clear();
    this.#mountRetryMs = 0;
  }

  /** What is under way is void. */
  abandon(): void {
    this.#epoch++;
    this.#isStarting = false;
  }

  /**
   * Starts what may start until nothing more can for now; then reports, and asks for a pass when what was not possible
   * yet may be.
   */
  async startAll(): Promise<void> {
    if (this.#isStarting) return;
    this.#isStarting = true;
    const { host, memory, plan, replan, run, changed, passAfter } = this.#of;
    const epoch = this.#epoch;
    const isVoid = (): boolean => epoch !== this.#epoch;
    if (!this.#isMounted && !(await this.#mount(isVoid))) return;
    let retryMs = Infinity;
    for (;;) {
      let attempted = false;
      retryMs = Infinity;
      for (const { container, init, restartCount } of plan().start) {
        const leftMs = memoryOf(memory, container.name).notBeforeMs - host.clock.monotonic();
        if (leftMs > 0) {
          retryMs = Math.min(retryMs, leftMs);
          if (init) break;
          continue;
        }
        attempted = true;
        const isPrepared = await this.#prepare(container, restartCount, isVoid);
        if (isVoid()) return;
        if (isPrepared) run(container, restartCount);
        else if (init) break;
      }
      if (!attempted || replan().start.length === 0) break;
    }
    this.#isStarting = false;
    changed();
    const { start, againAfterMs } = plan();
    if (start.length > 0 && retryMs !== Infinity) passAfter('start', retryMs);
    if (againAfterMs !== undefined) passAfter('again', againAfterMs);
  }

  /** False when the volumes cannot be mounted; a pass is asked for then. */
  async #mount(isVoid: () => boolean): Promise<boolean> {
    const { pod, host, containers, changed, passAfter } = this.#of;
    const needs = volumeNeeds(pod);
    let problem: string | undefined;
    if (!host.references.areKnown(pod, needs))
      problem = await host.references.volumeProblem(pod, needs).catch(messageOf);
    if (isVoid()) return false;
    this.#isMounted = problem === undefined;
    if (problem === undefined) {
      this.#mountRetryMs = 0;
      return true;
    }
    containers.event('Warning', 'FailedMount', problem);
    this.#mountRetryMs = Math.min(
      syncErrorRetryMaxMs,
      this.#mountRetryMs === 0 ? syncErrorRetryMs / 2 : this.#mountRetryMs * 2,
    );
    this.#isStarting = false;
    changed();
    passAfter('start', this.#mountRetryMs);
    return false;
  }

  /** Brings image and environment; false when the container must wait: why and for how long is in its memory. */
  async #prepare(container: Json, restartCount: number, isVoid: () => boolean): Promise<boolean> {
    const { host, containers, memory, timers, changed } = this.#of;
    const remembered = memoryOf(memory, container.name);
    try {
      const pull = this.#beginPull(container, restartCount);
      if (pull !== undefined && pull.tookMs > 0) {
        changed();
        await new Promise<void>((resolve) => {
          timers.set(`pull ${container.name}`, pull.tookMs, resolve);
        });
        if (isVoid()) return false;
      }
      if (pull !== undefined) this.#endPull(container, pull);
      const { cannotCreate } = containers.script(container, restartCount).script;
      if (cannotCreate !== undefined) throw new Error(cannotCreate);
      if (hasReferences(container)) {
        await host.references.checkEnvironment({
          pod: this.#of.pod,
          container,
          podIp: this.#of.ip,
          hostIp: host.hostIp,
          nodeAllocatable: host.allocatable,
        });
        if (isVoid()) return false;
      }
    } catch (error) {
      if (isVoid()) return false;
      const waiting =
        error instanceof WaitingError ? error : new WaitingError('CreateContainerConfigError', messageOf(error));
      remembered.waiting = { reason: waiting.reason, message: waiting.message };
      remembered.notBeforeMs = host.clock.monotonic() + (waiting.retryAfterMs ?? syncErrorRetryMs * 5);
      if (!(error instanceof WaitingError))
        containers.event('Warning', 'Failed', `Error: ${waiting.message}`, container.name);
      return false;
    }
    remembered.waiting = undefined;
    return true;
  }

  /**
   * Undefined when the image is there; throws where it cannot be had now. `isNew`: it has to be written to the disk.
   */
  #beginPull(
    container: Json,
    restartCount: number,
  ): { tookMs: number; isNew: boolean; isRefused: boolean } | undefined {
    const { host, containers } = this.#of;
    const { images, clock } = host;
    const image: string = container.image;
    const problem = imageNameProblem(image);
    if (problem !== undefined) throw invalidImageName(image, problem);
    const { imagePullFails, pullAfter } = containers.script(container, restartCount).script;
    const isRefused = imagePullFails === true;
    const isPresent = images.isPresent(image, clock.now());
    const plan = planImage(container, isPresent && !isRefused, this.#backOffs.get(image), host.clock.monotonic());
    for (const each of plan.events) containers.event(...each, container.name);
    if (plan.action === 'wait') throw plan.error;
    if (plan.action === 'use') return undefined;
    const tookMs = host.pullDelayMs() + (isPresent ? 0 : durationMs(pullAfter ?? 0));
    return {
      tookMs: isPresent || isRefused ? tookMs : images.pull(image, tookMs, clock.now()),
      isNew: !isPresent,
      isRefused,
    };
  }

  #endPull(
    container: Json,
    { tookMs, isNew, isRefused }: { tookMs: number; isNew: boolean; isRefused: boolean },
  ): void {
    const { host, containers } = this.#of;
    const image: string = container.image;
    const problem = isRefused ? 'not found' : isNew ? host.diskProblem() : undefined;
    if (problem === undefined) {
      this.#backOffs.delete(image);
      containers.event(...pulledEvent(image, tookMs, imageSizeBytes), container.name);
      return;
    }
    if (!isRefused) host.images.remove(image);
    const failed = planFailedPull(image, problem, this.#backOffs.get(image), host.clock.monotonic());
    this.#backOffs.set(image, failed.backOff);
    for (const each of failed.events) containers.event(...each, container.name);
    throw failed.error;
  }
}
