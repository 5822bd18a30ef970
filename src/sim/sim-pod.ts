/**
 * One Pod on a simulated node: a small state machine over timers that does what a kubelet would - sandbox, init containers, start, readiness,
 * exits and restarts with back-off, liveness, graceful stop - and reports each change. It takes a running Pod over from its
 * status (a kubelet that restarts, a forked cluster) without starting anything anew.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import type { EventRecorder } from '#client/events.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import { crashBackoffMs, crashBackoffMsMax, crashBackoffResetMs, createRetryMs, logLinesMax } from './limits.ts';
import type { ContainerContext, ResolvedScript, Scripts } from './pod-script.ts';
import { type ContainerRun, phaseOf, podStatus, terminatedState } from './pod-status.ts';

export interface SimPodHost {
  clock: Clock;
  random: Random;
  scripts: Scripts;
  recorder: EventRecorder;
  hostIp: string;
  allocateIp(): string;
  /** The status changed: write it. */
  changed(pod: SimPod): void;
  /** All containers have stopped after a deletion: remove the object. */
  stopped(pod: SimPod): void;
}

function newRun(spec: Json, isInit: boolean, held: Json | undefined): ContainerRun {
  const run: ContainerRun = {
    name: spec.name, image: spec.image ?? '', isInit, isSidecar: isInit && spec.restartPolicy === 'Always', restarts: held?.restartCount ?? 0, state: 'waiting', reason: isInit ? 'PodInitializing' : 'ContainerCreating',
    startedMs: 0, finishedMs: 0, exitCode: 0, ready: false, id: held?.containerID ?? '', last: held?.lastState,
  };
  const { running, terminated } = held?.state ?? {};
  if (running !== undefined) Object.assign(run, { state: 'running', reason: '', startedMs: Date.parse(running.startedAt), ready: held.ready === true });
  else if (terminated !== undefined) Object.assign(run, { state: 'terminated', reason: terminated.reason, exitCode: terminated.exitCode, startedMs: Date.parse(terminated.startedAt), finishedMs: Date.parse(terminated.finishedAt) });
  else if (held?.state?.waiting !== undefined) run.reason = held.state.waiting.reason;
  return run;
}

export class SimPod {
  pod: KubeObject;
  readonly #host: SimPodHost;
  readonly #containers: ContainerRun[];
  readonly #initContainers: ContainerRun[];
  readonly #timers = new Map<string, Timer>();
  readonly logs = new Map<string, string[]>();
  #ip: string | undefined;
  #startMs: number;
  #sandbox = false;
  #stopping: number | undefined;
  #ended = false;
  /** Frozen while the node is down. */
  #suspended = false;

  constructor(pod: KubeObject, host: SimPodHost) {
    this.pod = pod;
    this.#host = host;
    const status = pod['status'] ?? {};
    const find = (list: Json[] | undefined, name: string): Json | undefined => list?.find((entry) => entry.name === name);
    this.#containers = (pod['spec'].containers as Json[]).map((spec) => newRun(spec, false, find(status.containerStatuses, spec.name)));
    this.#initContainers = ((pod['spec'].initContainers ?? []) as Json[]).map((spec) => newRun(spec, true, find(status.initContainerStatuses, spec.name)));
    this.#ip = status.podIP;
    this.#startMs = status.startTime === undefined ? host.clock.now() : Date.parse(status.startTime);
    this.#sandbox = this.#ip !== undefined;
  }

  get phase(): string { return phaseOf({ pod: this.pod, containers: this.#containers, initContainers: this.#initContainers }); }
  get isFinished(): boolean { return this.phase === 'Succeeded' || this.phase === 'Failed'; }
  get isReady(): boolean { return this.#containers.every(({ ready }) => ready); }
  get ip(): string | undefined { return this.#ip; }
  status(): Json {
    return podStatus({ pod: this.pod, containers: this.#containers, initContainers: this.#initContainers, ip: this.#ip, hostIp: this.#host.hostIp, startMs: this.#startMs, sandbox: this.#sandbox }, this.#host.clock.now());
  }
  context(container: string): ContainerContext {
    const run = this.#containers.find(({ name }) => name === container);
    return { pod: this.pod, container, attempt: run?.restarts ?? 0, nowMs: this.#host.clock.now(), random: this.#host.random };
  }
  runningContainers(): string[] { return this.#containers.filter(({ state }) => state === 'running').map(({ name }) => name); }

  /** Starts a new Pod, or takes up one that already runs. */
  start(): void {
    const recorded = (this.pod['status']?.containerStatuses ?? []).length > 0;
    if (this.isFinished) { if (this.pod.metadata.deletionTimestamp !== undefined) this.stop(); return; }
    if (recorded && this.#sandbox) {
      for (const run of [...this.#initContainers, ...this.#containers]) if (run.state === 'running') this.#arm(run, run.startedMs);
      this.#advance();
    } else {
      if (!recorded) this.#host.changed(this);
      const script = this.#script(this.#containers[0]!);
      if (script.imagePullFails) { this.#failPull(0); return; }
      this.#after('sandbox', script.startMs, () => this.#create());
    }
    if (this.pod.metadata.deletionTimestamp !== undefined) this.stop();
  }

  #failPull(attempt: number): void {
    const run = this.#containers[0]!;
    const backingOff = attempt % 2 === 1;
    run.reason = backingOff ? 'ImagePullBackOff' : 'ErrImagePull';
    run.message = backingOff ? `Back-off pulling image "${run.image}"` : `failed to pull image "${run.image}": not found`;
    this.#host.recorder.event(this.pod, 'Warning', 'Failed', backingOff ? 'Error: ImagePullBackOff' : `Failed to pull image "${run.image}": not found`);
    this.#host.changed(this);
    this.#after('sandbox', backingOff ? Math.min(crashBackoffMs * 2 ** Math.floor(attempt / 2), crashBackoffMsMax) : 1_000, () => {
      if (this.#script(run).imagePullFails) this.#failPull(attempt + 1);
      else this.#create();
    });
  }

  /** Images are there; what the containers are configured with may not be. */
  #create(): void {
    const run = this.#containers[0]!;
    const { cannotCreate } = this.#script(run);
    if (cannotCreate === undefined) {
      delete run.message;
      this.#onSandbox();
      return;
    }
    if (run.message !== cannotCreate) {
      Object.assign(run, { reason: 'CreateContainerConfigError', message: cannotCreate });
      this.#host.recorder.event(this.pod, 'Warning', 'Failed', `Error: ${cannotCreate}`);
      this.#host.changed(this);
    }
    this.#after('sandbox', createRetryMs, () => this.#create());
  }

  #script(run: ContainerRun): ResolvedScript { return this.#host.scripts.resolve({ ...this.context(run.name), attempt: run.restarts }); }

  #after(id: string, delayMs: number, run: () => void): void {
    this.#timers.get(id)?.cancel();
    this.#timers.set(id, this.#host.clock.setTimer(Math.max(0, delayMs), () => { this.#timers.delete(id); if (!this.#ended && !this.#suspended) run(); }));
  }

  #onSandbox(): void {
    this.#sandbox = true;
    this.#ip ??= this.pod['spec'].hostNetwork === true ? this.#host.hostIp : this.#host.allocateIp();
    this.#advance();
    this.#host.changed(this);
  }

  /** Starts what may start now: init containers one after the other, then all the others. */
  #advance(): void {
    for (const run of this.#initContainers) {
      if (run.isSidecar) {
        if (run.state === 'waiting' && run.restarts === 0) this.#startRun(run);
        continue;
      }
      if (run.state === 'terminated' && run.exitCode === 0) continue;
      if (run.state === 'waiting' && !this.#timers.has(`restart ${run.name}`)) this.#startRun(run);
      return;
    }
    for (const run of this.#containers) if (run.state === 'waiting' && !this.#timers.has(`restart ${run.name}`)) this.#startRun(run);
  }

  #startRun(run: ContainerRun): void {
    const { clock, random, recorder } = this.#host;
    Object.assign(run, { state: 'running', reason: '', startedMs: clock.now(), ready: false, id: `sim://${random.uuid()}` });
    delete run.message;
    recorder.event(this.pod, 'Normal', 'Started', `Container started`);
    this.#log(run);
    this.#arm(run, clock.now());
  }

  #log(run: ContainerRun): void {
    const { script } = this.#script(run);
    const lines = typeof script.logs === 'function' ? script.logs(this.context(run.name)) : (script.logs ?? []);
    if (lines.length === 0) return;
    const kept = [...(this.logs.get(run.name) ?? []), ...lines];
    this.logs.set(run.name, kept.slice(-logLinesMax));
  }

  /** Sets the timers of a running container, counted from its start. */
  #arm(run: ContainerRun, startedMs: number): void {
    const now = this.#host.clock.now();
    const script = this.#script(run);
    const left = (ms: number): number => startedMs + ms - now;
    if (run.isInit && !run.isSidecar) {
      this.#after(`exit ${run.name}`, left(script.initMs), () => this.#onExit(run, 0, 'Completed'));
      return;
    }
    if (!run.ready) {
      const readyMs = this.#readyMs(run, script);
      if (left(readyMs) <= 0) run.ready = true;
      else this.#after(`ready ${run.name}`, left(readyMs), () => { run.ready = true; this.#host.changed(this); });
    }
    const ends: { atMs: number; end: () => void }[] = [];
    if (script.exitMs !== undefined) ends.push({ atMs: script.exitMs, end: () => this.#onExit(run, script.exitCode, script.exitCode === 0 ? 'Completed' : 'Error') });
    if (script.oomMs !== undefined) ends.push({ atMs: script.oomMs, end: () => this.#onExit(run, 137, 'OOMKilled') });
    if (script.livenessMs !== undefined) ends.push({ atMs: script.livenessMs, end: () => this.#onUnhealthy(run) });
    const first = ends.sort((a, b) => a.atMs - b.atMs)[0];
    if (first !== undefined) this.#after(`exit ${run.name}`, left(first.atMs), first.end);
  }

  #readyMs(run: ContainerRun, script: ResolvedScript): number {
    const probe = ((run.isInit ? this.pod['spec'].initContainers : this.pod['spec'].containers) as Json[]).find(({ name }) => name === run.name)?.readinessProbe;
    if (probe === undefined) return script.readyMs;
    const periodMs = (probe.periodSeconds ?? 10) * 1000;
    const firstMs = (probe.initialDelaySeconds ?? 0) * 1000;
    const probes = Math.max(0, Math.ceil((script.readyMs - firstMs) / periodMs)) + (probe.successThreshold ?? 1) - 1;
    return firstMs + probes * periodMs;
  }

  #onUnhealthy(run: ContainerRun): void {
    this.#host.recorder.event(this.pod, 'Warning', 'Unhealthy', 'Liveness probe failed');
    this.#host.recorder.event(this.pod, 'Normal', 'Killing', `Container ${run.name} failed liveness probe, will be restarted`);
    this.#onExit(run, 137, 'Error');
  }

  #onExit(run: ContainerRun, exitCode: number, reason: string): void {
    const { clock } = this.#host;
    for (const timer of [`ready ${run.name}`, `exit ${run.name}`]) { this.#timers.get(timer)?.cancel(); this.#timers.delete(timer); }
    Object.assign(run, { state: 'terminated', exitCode, reason, finishedMs: clock.now(), ready: false });
    if (this.#stopping !== undefined) { this.#host.changed(this); this.#finishStop(); return; }
    const policy: string = run.isSidecar ? 'Always' : (this.pod['spec'].restartPolicy ?? 'Always');
    const again = run.isInit && !run.isSidecar ? exitCode !== 0 && policy !== 'Never' : policy === 'Always' || (policy === 'OnFailure' && exitCode !== 0);
    if (again) this.#scheduleRestart(run);
    else if (run.isInit) this.#advance();
    this.#host.changed(this);
  }

  #scheduleRestart(run: ContainerRun): void {
    const { recorder } = this.#host;
    const ranMs = run.finishedMs - run.startedMs;
    const failures = ranMs >= crashBackoffResetMs ? 0 : run.restarts;
    const delayMs = failures === 0 ? 0 : Math.min(crashBackoffMs * 2 ** (failures - 1), crashBackoffMsMax);
    const restart = (): void => {
      run.last = terminatedState(run);
      run.restarts++;
      this.#startRun(run);
      this.#host.changed(this);
    };
    if (delayMs === 0) { this.#after(`restart ${run.name}`, 1_000, restart); return; }
    // The exit is seen for a moment, then the waiting.
    this.#after(`restart ${run.name}`, delayMs, restart);
    const ended = terminatedState(run);
    Object.assign(run, { last: ended, state: 'waiting', reason: 'CrashLoopBackOff', message: `back-off ${Math.round(delayMs / 1000)}s restarting failed container=${run.name} pod=${this.pod.metadata.name}_${this.pod.metadata.namespace}(${this.pod.metadata.uid})` });
    recorder.event(this.pod, 'Warning', 'BackOff', `Back-off restarting failed container ${run.name} in pod ${this.pod.metadata.name}_${this.pod.metadata.namespace}(${this.pod.metadata.uid})`);
  }

  /** A new version of the object. */
  update(pod: KubeObject): void {
    this.pod = pod;
    if (pod.metadata.deletionTimestamp !== undefined) this.stop();
  }

  /** Orderly stop within the grace period; a later, shorter period counts. */
  stop(): void {
    if (this.#ended) return;
    const { clock } = this.#host;
    const graceMs = (this.pod.metadata.deletionGracePeriodSeconds ?? 30) * 1000;
    const dueMs = Math.max(clock.now(), Date.parse(this.pod.metadata.deletionTimestamp ?? '') || clock.now());
    if (this.#stopping !== undefined && graceMs > 0) {
      if (dueMs >= this.#stopping) return;
      this.#stopping = dueMs;
    } else this.#stopping = dueMs;
    for (const id of [...this.#timers.keys()]) { this.#timers.get(id)!.cancel(); this.#timers.delete(id); }
    const live = [...this.#containers, ...this.#initContainers].filter(({ state }) => state === 'running');
    for (const run of live) {
      const { stopMs, stopExitCode } = this.#script(run);
      const leftMs = dueMs - clock.now();
      const killed = stopMs > leftMs;
      this.#after(`exit ${run.name}`, killed ? leftMs : stopMs, () => this.#onExit(run, killed ? 137 : stopExitCode, killed || stopExitCode !== 0 ? 'Error' : 'Completed'));
    }
    this.#finishStop();
  }

  #finishStop(): void {
    if (this.#ended || [...this.#containers, ...this.#initContainers].some(({ state }) => state === 'running')) return;
    for (const run of this.#containers) {
      // What never ran is reported as killed before it could.
      if (run.state === 'waiting') Object.assign(run, { state: 'terminated', exitCode: 137, reason: 'ContainerStatusUnknown', startedMs: this.#host.clock.now(), finishedMs: this.#host.clock.now(), ready: false });
    }
    this.#ended = true;
    this.#host.stopped(this);
  }

  /** The node went down: nothing happens any more. */
  suspend(): void {
    this.#suspended = true;
    for (const timer of this.#timers.values()) timer.cancel();
    this.#timers.clear();
  }

  /** The machine came back: containers that ran are gone and start again. */
  reboot(): void {
    this.#suspended = false;
    if (this.isFinished) return;
    for (const run of [...this.#initContainers, ...this.#containers]) {
      if (run.state !== 'running') continue;
      Object.assign(run, { state: 'terminated', exitCode: 255, reason: 'Unknown', finishedMs: this.#host.clock.now(), ready: false });
      const policy: string = run.isSidecar ? 'Always' : (this.pod['spec'].restartPolicy ?? 'Always');
      // An init container that was cut off is started again by `#advance`; others as their policy says.
      if (run.isInit && !run.isSidecar) run.state = 'waiting';
      else if (policy !== 'Never') this.#scheduleRestart(run);
    }
    if (!this.#sandbox) this.start();
    else {
      this.#advance();
      this.#host.changed(this);
    }
    if (this.pod.metadata.deletionTimestamp !== undefined) { this.#stopping = undefined; this.stop(); }
  }

  /** A container dies by itself: a fault. */
  crash(exitCode: number): void {
    const run = this.#containers.find(({ state }) => state === 'running');
    if (run !== undefined && this.#stopping === undefined) this.#onExit(run, exitCode, 'Error');
  }

  dispose(): void {
    this.#ended = true;
    this.suspend();
  }
}
