/**
 * One Pod's life on this node, as a loop: observe → plan → apply, again at every event, one pass at a time.
 *
 * The worker keeps nothing that it could not see again (`pod-state.ts`): a new kubelet goes on where the last one
 * stopped, whichever line that was. A pass may fail or be interrupted anywhere; the next pass starts from what is
 * there. The verbs have files of their own: `pod-observe`, `pod-start`, `pod-probes`, `pod-stop`, `pod-report`,
 * `pod-end`.
 */
import type { Pod } from '#api/core.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { Timer } from '#os/clock.ts';
import { podDemandOf, type PodDemand } from './admit.ts';
import type { MountedVolumes, PodHost, PodPass } from './doors.ts';
import { Interrupted, Interruption } from './interruption.ts';
import { resizeRetryMs, shutdownWordMsMax, syncErrorRetryMaxMs, syncErrorRetryMs } from './limits.ts';
import { podFullName } from './pod-labels.ts';
import { memoryOf, type Observed } from './container-memory.ts';
import { addEphemeral, newBackOffs, planPod, type PodPlan } from './pod-plan.ts';
import { failPod, settlePod, terminatePod } from './pod-end.ts';
import { adoptPod, observePod } from './pod-observe.ts';
import { cancelAllProbes, manageProbes } from './pod-probes.ts';
import { reported, reportPod, seeVersion } from './pod-report.ts';
import { ensureSandbox, InterimReports, mountPodVolumes, startAll } from './pod-start.ts';
import { deadlineLeftMs, isEnding, isTerminal, newPodState, podAsAllocated, type PodState } from './pod-state.ts';
import { resizePod, settleResize } from './pod-resize.ts';
import { graceMsOf, killAll, killContainer } from './pod-stop.ts';
import { backOffMessage, type Refusal } from './status.ts';

const pastDeadline: Refusal = {
  reason: 'DeadlineExceeded',
  message: 'Pod was active on the node longer than the specified deadline',
};

export class PodWorker {
  readonly #state: PodState;
  #demand: PodDemand | undefined;
  #isRunning = false;
  #isShuttingDown = false;
  #again = false;
  #timer: Timer | undefined;
  /** What the next pass is for. */
  #reason: PodPass = 'create';

  constructor(pod: Pod, host: PodHost) {
    this.#state = newPodState(pod, host, () => this.wake());
  }

  get pod(): Pod {
    return this.#state.pod;
  }
  get uid(): string {
    return this.#state.uid;
  }
  /** Those that it has by now. */
  get volumes(): MountedVolumes | undefined {
    return this.#state.volumes;
  }
  /** What it takes of its node. */
  get demand(): PodDemand {
    return (this.#demand ??= podDemandOf(podAsAllocated(this.#state)));
  }
  /** It has been given room for this. */
  set demand(demand: PodDemand) {
    this.#demand = demand;
  }
  /** It waits for room on the node for what it was resized to. */
  get isDeferred(): boolean {
    return this.#state.resize.pending?.reason === 'Deferred';
  }
  /** Nothing of it runs or will, as far as its place on the node goes. */
  get isFinished(): boolean {
    const { refused, hasFailed, pod } = this.#state;
    return refused !== undefined || hasFailed || isTerminal(pod);
  }
  get isEnding(): boolean {
    return isEnding(this.#state);
  }

  /** A newer version of the Pod; also when only its deletion was asked for. */
  update(pod: Pod): void {
    const state = this.#state;
    const isChanged = pod.metadata.generation !== state.pod.metadata.generation;
    if (isChanged && this.#reason === 'sync') this.#reason = 'update';
    seeVersion(state, pod);
  }

  /** The Pod is gone from the API: stop at once what still runs. */
  removed(): void {
    this.#state.isDeleted = true;
    this.#state.onShorterGrace?.(this.#state.host.clock.monotonic());
    this.#interrupt();
  }

  /** Content of a ConfigMap, Secret or token may have changed. */
  refreshVolumes(): void {
    this.#state.areVolumesStale = true;
    this.wake();
  }

  /** The node does not take the Pod. */
  refuse(refusal: Refusal): void {
    this.#state.refused = refusal;
    this.#state.host.api.tell({ pod: this.pod }, 'Warning', refusal.reason, refusal.message);
    this.wake();
  }

  /** The node takes the Pod's place away. */
  evict(refusal: Refusal, graceMs: number): void {
    if (this.isFinished || this.isEnding) return;
    this.#state.host.api.tell({ pod: this.pod }, 'Warning', refusal.reason, refusal.message);
    this.#fail(refusal, graceMs);
  }

  #fail(refusal: Refusal, graceMs: number): void {
    this.#state.failing = { refusal, graceMs };
    this.#interrupt();
  }

  /**
   * The platform or the machine goes down: containers end by their hooks and grace periods (at most `graceMsMax`),
   * nothing starts any more. What stays on disk and in the API is what the next kubelet goes on from. With `farewell`
   * the Pod is over (Failed, DisruptionTarget), and its controller makes another one.
   */
  async shutDown(graceMsMax: number, farewell: Refusal | undefined): Promise<void> {
    const state = this.#state;
    this.#isShuttingDown = true;
    this.#timer?.cancel();
    state.deadlineTimer?.cancel();
    state.interruption.interrupt();
    state.starting?.interruption.interrupt();
    if (isTerminal(state.pod)) return;
    await killAll(state, Math.min(graceMsMax, graceMsOf(state)), await observePod(state));
    cancelAllProbes(state);
    if (farewell !== undefined && state.pod.metadata.deletionTimestamp === undefined) {
      const sandbox = state.host.engine.sandboxes.status(state.uid);
      reportPod(state, {
        observed: await observePod(state),
        plan: undefined,
        sandbox,
        failed: farewell,
        terminal: true,
      });
      await Promise.race([reported(state), state.host.clock.sleep(shutdownWordMsMax)]);
    }
    state.stop.interrupt();
  }

  wake(): void {
    if (this.#isShuttingDown) return;
    if (this.#isRunning) {
      this.#again = true;
      return;
    }
    this.#isRunning = true;
    void this.#loop();
  }

  /** What the pass waits for has become pointless. */
  #interrupt(): void {
    this.#state.interruption.interrupt();
    this.#state.starting?.interruption.interrupt();
    this.wake();
  }

  close(): void {
    const state = this.#state;
    state.stop.interrupt();
    state.interruption.interrupt();
    state.starting?.interruption.interrupt();
    this.#timer?.cancel();
    state.deadlineTimer?.cancel();
    cancelAllProbes(state);
  }

  async #loop(): Promise<void> {
    const state = this.#state;
    do {
      this.#again = false;
      this.#timer?.cancel();
      state.interruption = new Interruption(state.leftovers);
      if (isEnding(state)) state.interruption.interrupt();
      const beganMs = state.host.clock.monotonic();
      const reason = isEnding(state) ? 'kill' : this.#reason;
      this.#reason = 'sync';
      try {
        await this.#pass();
        state.errorRetryMs = 0;
      } catch (error) {
        if (state.stop.isDue) return;
        if (error instanceof Interrupted) this.#again = true;
        else this.#failed(error as Error);
      } finally {
        state.host.onPass?.(reason, state.host.clock.monotonic() - beganMs);
      }
    } while (this.#again && !state.stop.isDue && !this.#isShuttingDown);
    this.#isRunning = false;
  }

  #failed(error: Error): void {
    const state = this.#state;
    state.errorRetryMs = Math.min(
      syncErrorRetryMaxMs,
      state.errorRetryMs === 0 ? syncErrorRetryMs : state.errorRetryMs * 2,
    );
    state.host.log.warn('pod pass failed', { pod: podFullName(state.pod), error });
    if (!(error instanceof ApiError))
      state.host.api.tell({ pod: state.pod }, 'Warning', 'FailedSync', `error determining status: ${error.message}`);
    this.#wakeAfter(state.errorRetryMs);
  }

  #wakeAfter(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#state.host.clock.setTimer(ms, () => this.wake(), { background: true });
  }

  async #pass(): Promise<void> {
    const state = this.#state;
    if (state.isDeleted || state.pod.metadata.deletionTimestamp !== undefined) {
      await terminatePod(state);
      this.close();
    } else if (state.refused !== undefined)
      reportPod(state, { observed: new Map(), plan: undefined, sandbox: undefined, failed: state.refused });
    else if (isTerminal(state.pod)) await settlePod(state);
    else if (state.failing !== undefined) {
      if (!state.hasFailed) await failPod(state);
    } else if (deadlineLeftMs(state) === 0) this.#exceedDeadline();
    else await this.#run();
  }

  #exceedDeadline(): void {
    this.#state.host.api.tell({ pod: this.pod }, 'Normal', pastDeadline.reason, pastDeadline.message);
    this.#fail(pastDeadline, graceMsOf(this.#state));
  }

  /** Interrupts the pass, whatever it waits for, when the Pod's time is over. */
  #watchDeadline(): void {
    const state = this.#state;
    const leftMs = deadlineLeftMs(state);
    state.deadlineTimer?.cancel();
    state.deadlineTimer =
      leftMs === undefined
        ? undefined
        : state.host.clock.setTimer(leftMs, () => this.#interrupt(), { background: true });
  }

  async #run(): Promise<void> {
    const state = this.#state;
    const { engine, api, clock } = state.host;
    this.#watchDeadline();
    let observed = await observePod(state);
    if (!state.isAdopted) adoptPod(state, observed);
    if (await resizePod(state, observed)) observed = await observePod(state);
    let plan = planPod(podAsAllocated(state), observed, state.memory, clock.now());
    for (const id of plan.remove) await engine.containers.remove(id, { force: true }).catch(() => {});
    const killed = new Set(plan.kill.map(({ name }) => name));
    if (killed.size > 0) {
      await this.#kill(plan);
      observed = await observePod(state);
      plan = planPod(podAsAllocated(state), observed, state.memory, clock.now());
    }
    // How a run has ended by itself is told before the next one begins. What this pass replaces is told when it has:
    // the Pod stays Ready meanwhile, as upstream's kubelet leaves it.
    if (plan.start.some(({ container, restartCount }) => restartCount > 0 && !killed.has(container.name)))
      reportPod(state, { observed, plan: { ...plan, start: [] }, sandbox: engine.sandboxes.status(state.uid) });
    const interim = killed.size === 0 ? new InterimReports(state, plan) : undefined;
    const { sandbox, retryMs } = await this.#start(plan, observed, interim);
    // What has not changed need not be looked at again.
    if (plan.start.length > 0) {
      observed = await observePod(state);
      plan = planPod(podAsAllocated(state), observed, state.memory, clock.now());
    }
    manageProbes(state, observed, sandbox);
    settleResize(state, observed);
    for (const name of newBackOffs(plan, state.memory))
      api.tell({ pod: state.pod, container: name }, 'Warning', 'BackOff', backOffMessage(state.pod, name));
    reportPod(state, { observed, plan, sandbox });
    const resizeMs = state.resize.pending === undefined && !state.resize.progress ? undefined : resizeRetryMs;
    const waits = [plan.againAfterMs, retryMs, resizeMs].filter((ms): ms is number => ms !== undefined);
    if (waits.length > 0) this.#wakeAfter(Math.min(...waits));
    const mayGoOn = plan.start.some(({ container }) => memoryOf(state.memory, container.name).waiting === undefined);
    if (retryMs === undefined && mayGoOn) this.#again = true;
  }

  /** One after the other: a container has its grace period, unless the whole Pod goes sooner. */
  async #kill(plan: PodPlan): Promise<void> {
    const state = this.#state;
    const ownMs = (state.pod.spec.terminationGracePeriodSeconds ?? 30) * 1000;
    for (const victim of plan.kill)
      await state.interruption.race(
        killContainer(state, victim, victim.graceSeconds === undefined ? ownMs : victim.graceSeconds * 1000),
      );
  }

  async #start(
    plan: PodPlan,
    observed: Observed,
    interim: InterimReports | undefined,
  ): Promise<{ sandbox: ReturnType<PodHost['engine']['sandboxes']['status']>; retryMs: number | undefined }> {
    const state = this.#state;
    let sandbox = state.host.engine.sandboxes.status(state.uid);
    if (plan.phase !== undefined) return { sandbox, retryMs: undefined };
    try {
      if (sandbox?.ready !== true) {
        interim?.begin();
        sandbox = await ensureSandbox(state, sandbox, observed);
      }
      if (state.areVolumesStale && state.volumes !== undefined) {
        await mountPodVolumes(state, sandbox);
        state.areVolumesStale = false;
      }
      addEphemeral(plan, state.pod, observed);
      const retryMs = plan.start.length === 0 ? undefined : await startAll(state, { plan, sandbox, observed }, interim);
      return { sandbox, retryMs };
    } finally {
      interim?.end();
    }
  }
}
