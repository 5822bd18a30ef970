/**
 * One Pod on a simulated node, as its kubelet sees it: observe → plan → apply, with the real kubelet's own `planPod`
 * and `podStatus`, over containers that follow scripts (`sim-runtime.ts`). What is simulated is what the containers do
 * and how long things take; what follows from it - order, restarts and their back-off, phases, conditions, reasons - is
 * decided by the code that decides it on a real node.
 *
 * A pass is synchronous; only the starting of containers may wait (`container-starter.ts`: for a pull, for a
 * ConfigMap). Whatever happens meanwhile asks for another pass. A Pod that runs already is taken over from its status
 * (a kubelet that restarts, a forked cluster) without starting anything anew.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { type PodDemand, podDemandOf } from '#kubelet/admit.ts';
import {
  addEphemeral,
  isSidecar,
  memoryFromStatus,
  memoryOf,
  type Memory,
  newBackOffs,
  planPod,
  type PodPlan,
} from '#kubelet/plan.ts';
import { backOffMessage, podStatus, type Refusal, unmetGates } from '#kubelet/status.ts';
import type { ContainerLog } from './container-log.ts';
import { ContainerProbes } from './container-probes.ts';
import { ContainerStarter } from './container-starter.ts';
import { durationMs } from './duration.ts';
import { endSeenMs } from './limits.ts';
import type { ContainerContext } from './pod-script.ts';
import { PodContainers } from './pod-containers.ts';
import type { SimPodHost } from './sim-pod-host.ts';
import { attemptsFromStatus, type Ending, type SimAttempt, SimRuntime } from './sim-runtime.ts';
import type { Timers } from './timers.ts';

const nothingPlanned: PodPlan = Object.freeze({
  start: [],
  kill: [],
  remove: [],
  backOff: [],
  phase: undefined,
  againAfterMs: undefined,
});

export class SimPod {
  pod: KubeObject;
  readonly #host: SimPodHost;
  readonly #runtime: SimRuntime;
  readonly #timers: Timers;
  readonly #memory: Memory;
  readonly #containers: PodContainers;
  readonly #probes: ContainerProbes;
  readonly #starter: ContainerStarter;
  readonly #startMs: number;
  #plan: PodPlan = nothingPlanned;
  #demand: PodDemand | undefined;
  #ip: string;
  #sandbox: boolean;
  /** It was running when this node took it up: in a forked cluster, it may be stopping. */
  readonly #isTakenOver: boolean;
  /** Told to go; by the cluster's clock. */
  #stopDueMs: number | undefined;
  /** The Pod fails by the node's will, once its containers have stopped. */
  #failing: Refusal | undefined;
  #failed: Refusal | undefined;
  #ended = false;
  /** Frozen while the node is down. */
  #suspended = false;

  constructor(pod: KubeObject, host: SimPodHost) {
    this.pod = pod;
    this.#host = host;
    const status = pod['status'] ?? {};
    this.#memory = memoryFromStatus(pod);
    this.#runtime = new SimRuntime(
      {
        clock: host.clock,
        now: () => this.#now(),
        nodeMemoryBytes: host.allocatable.memory,
        onEnding: (attempt, how) => this.#onEnding(attempt, how),
      },
      attemptsFromStatus(pod, host.skewMs()),
    );
    this.#timers = this.#runtime.timers;
    this.#containers = new PodContainers(() => this.pod, host, this.#runtime);
    this.#probes = new ContainerProbes(this.#containers, this.#memory, this.#timers, {
      clock: host.clock,
      podIp: () => this.#ip,
      changed: () => {
        host.changed(this);
        this.#pass();
      },
      failed: () => {
        this.#pass();
      },
    });
    this.#ip = status.podIP ?? '';
    this.#isTakenOver = !this.#runtime.isIdle;
    this.#sandbox = this.#ip !== '' && (pod['spec'].hostNetwork !== true || this.#runtime.attempts.size > 0);
    const [getPod, getIp] = [(): KubeObject => this.pod, (): string => this.#ip];
    this.#starter = new ContainerStarter(
      {
        get pod() {
          return getPod();
        },
        get ip() {
          return getIp();
        },
        host,
        containers: this.#containers,
        memory: this.#memory,
        timers: this.#timers,
        plan: () => this.#plan,
        replan: () => this.#planNow(),
        run: (container, restartCount) => {
          this.#run(container, restartCount);
        },
        changed: () => {
          host.changed(this);
        },
        passAfter: (id, delayMs) => {
          this.#passAfter(id, delayMs);
        },
      },
      this.#runtime.attempts.size > 0,
    );
    this.#startMs = status.startTime === undefined ? this.#now() : Date.parse(status.startTime);
  }

  // ---- what others ask ----------------------------------------------------------------------------------------

  get ip(): string {
    return this.#ip;
  }
  /** Nothing of it runs or will. */
  get isFinished(): boolean {
    return (
      this.#ended ||
      this.#failed !== undefined ||
      this.#isTerminal ||
      (this.#plan.phase !== undefined && this.#runtime.isIdle)
    );
  }
  get isStopping(): boolean {
    return this.#stopDueMs !== undefined;
  }
  get #isTerminal(): boolean {
    const phase = this.pod['status']?.phase;
    return phase === 'Succeeded' || phase === 'Failed';
  }
  /** All main containers and sidecars run and are ready. */
  get isReady(): boolean {
    const { spec } = this.pod;
    const isReady = ({ name }: Json): boolean =>
      this.#runtime.current(name)?.state === 'running' && this.#memory.get(name)?.ready === true;
    return (
      spec.containers.every(isReady) &&
      (spec.initContainers === undefined ||
        (spec.initContainers as Json[]).every((container) => !isSidecar(container) || isReady(container)))
    );
  }
  /** What it takes of its node. */
  get demand(): PodDemand {
    return (this.#demand ??= podDemandOf(this.pod));
  }

  /** Somebody has written what this node knows better, or something came that the status depends on. */
  disagreesWith(pod: KubeObject): boolean {
    if (this.isFinished || pod.metadata.deletionTimestamp !== undefined) return false;
    const { conditions, observedGeneration } = pod['status'] ?? {};
    const ready = (conditions ?? []).find(({ type }: Json) => type === 'Ready');
    if (ready === undefined) return false;
    return (
      (ready.status === 'True') !== (this.isReady && unmetGates(pod).length === 0) ||
      (pod.metadata.generation !== undefined &&
        observedGeneration !== undefined &&
        observedGeneration < pod.metadata.generation)
    );
  }

  context(container: string): ContainerContext {
    return this.#containers.context(container);
  }
  runningContainers(): string[] {
    return this.#containers.runningNames();
  }
  images(): string[] {
    return this.#containers.all().map(({ image }) => image);
  }
  /** Memory that a running container uses, in bytes. */
  memoryBytes(container: string): number {
    return this.#containers.memoryBytes(container);
  }
  memoryUse(): { name: string; usage: number; request: number }[] {
    return this.#containers.memoryUse();
  }
  get attempts(): ReadonlyMap<string, readonly SimAttempt[]> {
    return this.#runtime.attempts;
  }
  logOf(attempt: SimAttempt): ContainerLog {
    return this.#containers.logOf(attempt);
  }

  status(): Json {
    const refused = this.#failed;
    return podStatus({
      pod: this.pod,
      observed: this.#runtime.attempts,
      memory: this.#memory,
      plan: this.#plan,
      podIp: this.pod['spec'].hostNetwork === true ? this.#host.hostIp : this.#ip,
      hostIp: this.#host.hostIp,
      nowMs: this.#now(),
      sandboxReady: this.#sandbox && !this.#ended,
      startedAtMs: this.#startMs,
      terminal: this.#ended || refused !== undefined,
      ...(refused === undefined ? {} : { refused }),
    });
  }

  #now(): number {
    return this.#host.clock.now() + this.#host.skewMs();
  }

  // ---- what happens to it -------------------------------------------------------------------------------------

  /** Starts a new Pod, or takes up one that already runs. */
  start(): void {
    for (const attempt of this.#runtime.running()) {
      const container = this.#containers.named(attempt.name);
      if (container === undefined) continue;
      this.#runtime.follow(
        container,
        attempt,
        this.#containers.isPlainInit(container),
        this.#containers.script(container, attempt.restartCount),
      );
      this.#probes.look(attempt);
    }
    if (this.pod['status']?.startTime === undefined) this.#host.changed(this);
    this.#watchDeadline();
    this.#pass();
  }

  #watchDeadline(): void {
    const { activeDeadlineSeconds } = this.pod['spec'];
    if (activeDeadlineSeconds !== undefined && !this.#isTerminal)
      this.#timers.set('deadline', this.#startMs + activeDeadlineSeconds * 1000 - this.#now(), () =>
        this.#exceedDeadline(),
      );
  }

  /** The node does not take the Pod. */
  refuse(refusal: Refusal): void {
    this.#failed = refusal;
    this.#containers.event('Warning', refusal.reason, refusal.message);
    this.#host.changed(this);
  }

  /**
   * The node takes the Pod's place away: its containers are killed and the Pod fails. `graceMs` as the kubelet's for
   * what it does itself.
   */
  fail(refusal: Refusal, graceMs: number): void {
    if (this.isFinished || this.#failing !== undefined || this.#stopDueMs !== undefined) return;
    this.#failing = refusal;
    this.#abandon();
    this.#stopContainers(this.#host.clock.now() + graceMs);
  }

  #exceedDeadline(): void {
    const message = 'Pod was active on the node longer than the specified deadline';
    if (this.isFinished || this.#failing !== undefined || this.#stopDueMs !== undefined) return;
    this.#containers.event('Normal', 'DeadlineExceeded', message);
    this.fail({ reason: 'DeadlineExceeded', message }, this.#graceMs);
  }

  /** A version of the object; one older than what is known says nothing. */
  update(pod: KubeObject): void {
    if (Number(pod.metadata.resourceVersion) < Number(this.pod.metadata.resourceVersion)) return;
    const { generation } = this.pod.metadata;
    this.pod = pod;
    const isStopping = this.#stopDueMs !== undefined || this.#failed !== undefined;
    const isChanged = !isStopping && pod.metadata.generation !== generation;
    if (isChanged && pod.metadata.deletionTimestamp === undefined) this.#watchDeadline();
    if (pod.metadata.deletionTimestamp !== undefined || isChanged || (!isStopping && this.#isTerminal)) this.#pass();
  }

  /** A container dies by itself: a fault. */
  crash(exitCode: number): void {
    if (this.#stopDueMs !== undefined) return;
    const victim = ((this.pod['spec'].containers ?? []) as Json[])
      .map(({ name }) => this.#runtime.current(name))
      .find((attempt) => attempt?.state === 'running' && attempt.stopping === undefined);
    if (victim !== undefined) this.#runtime.exit(victim, exitCode);
  }

  /** The node went down: nothing happens any more. */
  suspend(): void {
    this.#suspended = true;
    this.#runtime.silence();
    this.#abandon();
  }

  /** The machine came back: containers that ran are gone, and the Pod needs a new sandbox. */
  reboot(): void {
    this.#suspended = false;
    if (this.#ended) return;
    this.#runtime.lose();
    this.#memory.clear();
    this.#starter.forget();
    if (this.isFinished && this.pod.metadata.deletionTimestamp === undefined) return;
    if (this.#sandbox)
      this.#containers.event('Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    this.#sandbox = false;
    this.#stopDueMs = undefined;
    this.#failing = undefined;
    this.#host.changed(this);
    this.start();
  }

  dispose(): void {
    this.#ended = true;
    this.#runtime.silence();
    this.#abandon();
  }

  /** What is under way is void. */
  #abandon(): void {
    this.#starter.abandon();
    this.#timers.clear();
  }

  // ---- observe, plan, apply -----------------------------------------------------------------------------------

  #pass(): void {
    if (this.#ended || this.#suspended) return;
    if (this.pod.metadata.deletionTimestamp !== undefined) {
      this.#terminate();
      return;
    }
    if (this.#failing !== undefined || this.#failed !== undefined) return;
    if (this.#isTerminal) {
      this.#settle();
      return;
    }
    const plan = this.#planNow();
    if (plan.phase !== undefined) {
      this.#stopSidecar(plan);
      return;
    }
    for (const { name, message } of plan.kill) {
      const attempt = this.#runtime.current(name)!;
      const isUnhealthy = memoryOf(this.#memory, name).killBecause?.attempt === attempt.id;
      this.#kill(
        attempt,
        this.#host.clock.now() + ((isUnhealthy ? this.#probes.graceMs(attempt) : undefined) ?? this.#graceMs),
        message,
        isUnhealthy,
      );
    }
    if (plan.kill.length > 0) return;
    if (!this.#sandbox) this.#makeSandbox();
    else if (plan.start.length > 0) void this.#starter.startAll();
    if (plan.againAfterMs !== undefined) this.#passAfter('again', plan.againAfterMs);
  }

  #passAfter(id: 'start' | 'again', delayMs: number): void {
    this.#timers.set(id, delayMs, () => {
      this.#pass();
    });
  }

  /** All main containers are done: sidecars go one after the other, each pass the next. */
  #stopSidecar({ kill: [next] }: PodPlan): void {
    if (next !== undefined)
      this.#kill(this.#runtime.current(next.name)!, this.#host.clock.now() + this.#graceMs, next.message);
  }

  #planNow(): PodPlan {
    const plan = planPod(this.pod, this.#runtime.attempts, this.#memory, this.#now());
    addEphemeral(plan, this.pod, this.#runtime.attempts);
    this.#plan = plan;
    if (plan.backOff.length > 0)
      for (const name of newBackOffs(plan, this.#memory))
        this.#containers.event('Warning', 'BackOff', backOffMessage(this.pod, name), name);
    return plan;
  }

  #makeSandbox(): void {
    if (this.#timers.has('sandbox')) return;
    const { startAfter } = this.#host.scripts.of(this.context(this.pod['spec'].containers[0].name));
    const delayMs =
      startAfter === undefined ? 200 + Math.floor(this.#host.random.float() * 300) : durationMs(startAfter);
    this.#timers.set('sandbox', delayMs, () => {
      this.#sandbox = true;
      if (this.#ip === '')
        this.#ip = this.pod['spec'].hostNetwork === true ? this.#host.hostIp : this.#host.allocateIp();
      this.#pass();
    });
  }

  #onEnding(attempt: SimAttempt, how: Ending): void {
    if (this.#ended || this.#suspended) return;
    if (how === 'starved') {
      this.#host.starved();
      return;
    }
    if (how === 'unhealthy') {
      this.#probes.kill(attempt);
      return;
    }
    const container = this.#containers.named(attempt.name);
    if (
      container?.terminationMessagePolicy === 'FallbackToLogsOnError' &&
      attempt.message === '' &&
      attempt.exitCode !== 0
    )
      attempt.message = this.#containers.lastWords(attempt);
    this.#probes.end(attempt);
    memoryOf(this.#memory, attempt.name).notBeforeMs = this.#host.clock.monotonic() + endSeenMs;
    this.#host.changed(this);
    if (this.#stopDueMs !== undefined) this.#stopContainers(this.#stopDueMs);
    else this.#pass();
  }

  #run(container: Json, restartCount: number): void {
    const script = this.#containers.script(container, restartCount);
    const isPlainInit = this.#containers.isPlainInit(container);
    const remembered = memoryOf(this.#memory, container.name);
    Object.assign(remembered, { started: false, ready: false, killBecause: undefined });
    const attempt = this.#runtime.start(
      container,
      this.#host.random.uuid(),
      restartCount,
      this.#host.images.idOf(container.image),
      isPlainInit,
      script,
    );
    this.#containers.event('Normal', 'Created', 'Container created', container.name);
    this.#containers.event('Normal', 'Started', 'Container started', container.name);
    // What only stands in the script is put together when somebody asks for it.
    if (typeof script.script.logs === 'function') this.#containers.logOf(attempt);
    if (!isPlainInit) this.#probes.look(attempt);
  }

  // ---- stop ---------------------------------------------------------------------------------------------------

  get #graceMs(): number {
    return (this.pod['spec'].terminationGracePeriodSeconds ?? 30) * 1000;
  }

  /** `hangs`: it does not hear the signal, unless its script says how it stops. */
  #kill(attempt: SimAttempt, dueMs: number, message: string, hangs = false): void {
    if (attempt.stopping === undefined) this.#containers.event('Normal', 'Killing', message, attempt.name);
    const hookMs = (this.#containers.named(attempt.name)?.lifecycle?.preStop?.sleep?.seconds ?? 0) * 1000;
    this.#probes.end(attempt);
    this.#runtime.stop(attempt, dueMs, hookMs, hangs);
  }

  /**
   * The Pod was asked to go: orderly within the grace period, counted from when it is seen (of one taken over while it
   * stops, from when it was asked); a later, shorter period counts.
   */
  #terminate(): void {
    const { deletionTimestamp, deletionGracePeriodSeconds } = this.pod.metadata;
    const nowMs = this.#host.clock.now();
    const graceMs = deletionGracePeriodSeconds === undefined ? this.#graceMs : deletionGracePeriodSeconds * 1000;
    const dueMs = this.#isTakenOver
      ? Math.min(nowMs + graceMs, Math.max(nowMs, Date.parse(deletionTimestamp!) || 0))
      : nowMs + graceMs;
    if (this.#stopDueMs !== undefined && dueMs >= this.#stopDueMs) return;
    this.#starter.abandon();
    for (const id of ['sandbox', 'start', 'again', 'deadline']) this.#timers.cancel(id);
    this.#stopContainers(dueMs);
  }

  /** The Pod is over, by its own status: what still runs is stopped. */
  #settle(): void {
    if (this.#runtime.isIdle || this.#stopDueMs !== undefined) return;
    this.#abandon();
    this.#stopContainers(this.#host.clock.now() + this.#graceMs);
  }

  /**
   * Main containers first, then sidecars one after the other, last first (Kubernetes documentation, "Sidecar
   * Containers"). Goes on at each end.
   */
  #stopContainers(dueMs: number): void {
    this.#stopDueMs = dueMs;
    const sidecars = new Set(
      ((this.pod['spec'].initContainers ?? []) as Json[]).filter(isSidecar).map(({ name }) => name),
    );
    const others = [...this.#runtime.running()].filter(({ name }) => !sidecars.has(name));
    const next =
      others.length > 0
        ? others
        : [...sidecars]
            .reverse()
            .map((name) => this.#runtime.current(name))
            .filter((attempt) => attempt?.state === 'running')
            .slice(0, 1);
    for (const attempt of next) this.#kill(attempt!, dueMs, `Stopping container ${attempt!.name}`);
    if (next.length === 0) this.#onStopped();
  }

  #onStopped(): void {
    this.#abandon();
    this.#failed ??= this.#failing;
    this.#failing = undefined;
    if (this.pod.metadata.deletionTimestamp === undefined) {
      this.#stopDueMs = undefined;
      this.#host.changed(this);
      return;
    }
    this.#plan = nothingPlanned;
    this.#ended = true;
    this.#host.stopped(this);
  }
}
