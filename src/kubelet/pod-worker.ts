/**
 * One Pod's life on this node, as a loop: observe → plan → apply, again at every event, one pass at a time.
 *
 * The worker keeps nothing that it could not see again: containers carry their Pod and attempt in labels, so a new
 * kubelet goes on where the last one stopped, whichever line that was. Memory (back-off, probe results) is declared in
 * `plan.ts` and
 * may be lost.
 * A pass may fail anywhere; the next pass starts from what is there. Terminating is a pass too, and safe to repeat.
 */
import { mkdir, rm } from 'node:fs/promises';
import type { Json, KubeObject } from '#base/objects.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { ContainerStatus, SandboxStatus } from '#engine/engine.ts';
import type { Timer } from '#os/clock.ts';
import { hostPorts, makeContainerSpec, podHostname } from './container-spec.ts';
import { attemptOf, hasExited } from './attempts.ts';
import { containerEnvironment } from './env.ts';
import { WaitingError } from './images.ts';
import { interimStatusMs, shutdownWordMsMax, syncErrorRetryMaxMs, syncErrorRetryMs } from './limits.ts';
import {
  labelContainerName,
  labelPodUid,
  labelRestartCount,
  labelTermination,
  podDir,
  podFullName,
  podLabels,
  podLogsDir,
  podSecretsDir,
  terminationMessagePath,
} from './names.ts';
import {
  addEphemeral,
  adoptRunning,
  forgiveExits,
  isSidecar,
  memoryFromStatus,
  memoryOf,
  newBackOffs,
  planPod,
  type Attempt,
  type Memory,
  type Observed,
  type PodPlan,
} from './plan.ts';
import { runAction, startProbe } from './probes.ts';
import { podCgroupParent, podResources } from './qos.ts';
import { checkRuntimeClass } from './runtime-class.ts';
import { backOffMessage, podStatus, type Refusal } from './status.ts';
import { readTerminationMessage } from './termination-message.ts';
import { ignoredFields, resizedContainers } from './unsupported.ts';
import { mountVolumes, removePodFiles, type MountedVolumes } from './volumes.ts';
import type { PodEvents, WorkerContext } from './worker-context.ts';

interface RunningProbes {
  attempt: string;
  probes: { cancel(): void }[];
}

export class PodWorker {
  pod: KubeObject;
  readonly uid: string;
  readonly #context: WorkerContext;
  readonly #events: PodEvents;
  readonly #memory: Memory;
  readonly #probes = new Map<string, RunningProbes>();
  readonly #messages = new Map<string, string>();
  readonly #hooked = new Set<string>();
  readonly #stop = new AbortController();
  readonly #startedAtMs: number;
  #adopted = false;
  #running = false;
  #shuttingDown = false;
  #again = false;
  #timer: Timer | undefined;
  #errorRetryMs = 0;
  #volumes: MountedVolumes | undefined;
  #volumesStale = false;
  #lastStatus = '';
  #terminating: { graceMs: number; deadline: number } | undefined;
  #deleted = false;
  #refused: Refusal | undefined;

  constructor(pod: KubeObject, context: WorkerContext) {
    this.pod = pod;
    this.uid = pod.metadata.uid!;
    this.#context = context;
    this.#events = context.eventsFor(pod);
    this.#startedAtMs = context.clock.now();
    this.#memory = memoryFromStatus(pod);
  }

  /** A newer version of the Pod; also when only its deletion was asked for. */
  update(pod: KubeObject): void {
    for (const name of resizedContainers(this.pod, pod))
      this.#events.event(
        'Warning',
        'ResizeInfeasible',
        'resources of a running container are not changed by this node; a new Pod has the new ones',
        name,
      );
    this.pod = pod;
    this.wake();
  }

  /** The Pod is gone from the API: stop at once what still runs. */
  removed(): void {
    this.#deleted = true;
    this.wake();
  }

  /** Content of a ConfigMap, Secret or token may have changed. */
  refreshVolumes(): void {
    this.#volumesStale = true;
    this.wake();
  }

  refuse(reason: string, message: string): void {
    this.#refused = { reason, message };
    this.wake();
  }

  /**
   * The platform or the machine goes down: containers end by their hooks and grace periods (at most `graceMsMax`),
   * nothing starts any more. What stays on disk and in the API is what the next kubelet goes on from. With `farewell`
   * the Pod is over (Failed, DisruptionTarget), and its controller makes another one.
   */
  async shutDown(graceMsMax: number, farewell: Refusal | undefined): Promise<void> {
    this.#shuttingDown = true;
    this.#stop.abort();
    this.#timer?.cancel();
    const phase: string | undefined = this.pod.status?.phase;
    if (phase === 'Succeeded' || phase === 'Failed') return;
    await this.#killAll(Math.min(graceMsMax, this.#graceSeconds() * 1000), await this.#observe());
    for (const name of [...this.#probes.keys()]) this.#cancelProbes(name);
    if (farewell === undefined || this.pod.metadata.deletionTimestamp !== undefined) return;
    const told = this.#report(
      await this.#observe(),
      undefined,
      this.#context.engine.sandboxes.status(this.uid),
      farewell,
      true,
    );
    await Promise.race([told, this.#context.clock.sleep(shutdownWordMsMax)]);
  }

  wake(): void {
    if (this.#shuttingDown) return;
    if (this.#running) {
      this.#again = true;
      return;
    }
    this.#running = true;
    void this.#loop();
  }

  close(): void {
    this.#stop.abort();
    this.#timer?.cancel();
    for (const name of [...this.#probes.keys()]) this.#cancelProbes(name);
  }

  async #loop(): Promise<void> {
    do {
      this.#again = false;
      this.#timer?.cancel();
      try {
        await this.#pass();
        this.#errorRetryMs = 0;
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        this.#errorRetryMs = Math.min(
          syncErrorRetryMaxMs,
          this.#errorRetryMs === 0 ? syncErrorRetryMs : this.#errorRetryMs * 2,
        );
        this.#context.log.warn('pod pass failed', { pod: podFullName(this.pod), error: error as Error });
        if (!(error instanceof ApiError))
          this.#events.event('Warning', 'FailedSync', `error determining status: ${messageOf(error)}`);
        this.#wakeAfter(this.#errorRetryMs);
      }
    } while (this.#again && !this.#stop.signal.aborted);
    this.#running = false;
  }

  #wakeAfter(ms: number): void {
    this.#timer?.cancel();
    this.#timer = this.#context.clock.setTimer(ms, () => this.wake(), { background: true });
  }

  async #pass(): Promise<void> {
    const phase: string | undefined = this.pod.status?.phase;
    if (this.#deleted || this.pod.metadata.deletionTimestamp !== undefined) {
      await this.#terminate();
      return;
    }
    if (this.#refused !== undefined) {
      await this.#report(new Map(), undefined, undefined);
      return;
    }
    if (phase === 'Succeeded' || phase === 'Failed') {
      await this.#settle();
      return;
    }
    if (this.#pastDeadline()) {
      await this.#exceedDeadline();
      return;
    }
    let observed = await this.#observe();
    if (!this.#adopted) this.#adopt(observed);
    let plan = planPod(this.pod, observed, this.#memory, this.#context.clock.now());
    for (const victim of plan.kill)
      await this.#killContainer(
        victim.name,
        victim.id,
        victim.message,
        victim.graceSeconds === undefined ? undefined : victim.graceSeconds * 1000,
      );
    for (const id of plan.remove) await this.#context.engine.containers.remove(id, { force: true }).catch(() => {});
    if (plan.kill.length > 0) {
      observed = await this.#observe();
      plan = planPod(this.pod, observed, this.#memory, this.#context.clock.now());
    }
    let sandbox = this.#context.engine.sandboxes.status(this.uid);
    if (plan.phase === undefined) sandbox = await this.#ensureSandbox(sandbox, observed);
    if (this.#volumesStale && this.#volumes !== undefined) {
      this.#volumesStale = false;
      await this.#mountVolumes(sandbox!);
    }
    addEphemeral(plan, this.pod, observed);
    const retryMs = plan.start.length === 0 ? undefined : await this.#startAllAndReport(plan, sandbox!, observed);
    observed = await this.#observe();
    plan = planPod(this.pod, observed, this.#memory, this.#context.clock.now());
    this.#manageProbes(observed, sandbox);
    for (const name of newBackOffs(plan, this.#memory))
      this.#events.event('Warning', 'BackOff', backOffMessage(this.pod, name), name);
    await this.#report(observed, plan, sandbox);
    const waits = [plan.againAfterMs, retryMs, this.#deadlineLeft()].filter((ms): ms is number => ms !== undefined);
    if (
      retryMs === undefined &&
      plan.start.length > 0 &&
      !plan.start.some((entry) => memoryOf(this.#memory, entry.container.name).waiting !== undefined)
    )
      this.#again = true;
    if (waits.length > 0) this.#wakeAfter(Math.min(...waits));
  }

  /** What an earlier kubelet has left, once: what runs goes on, and what went with its sandbox has not crashed. */
  #adopt(observed: Observed): void {
    this.#adopted = true;
    adoptRunning(this.pod, observed, this.#memory);
    if (this.#context.engine.sandboxes.status(this.uid)?.ready !== true) forgiveExits(observed, this.#memory);
  }

  // ---- observe ------------------------------------------------------------------------------------------------

  async #observe(): Promise<Observed> {
    const byName = new Map<string, Attempt[]>();
    for (const status of this.#context.engine.containers.list({
      owner: 'kubelet',
      labels: { [labelPodUid]: this.uid },
    })) {
      if (status.state === 'removing') continue;
      const name = status.labels[labelContainerName]!;
      const attempts = byName.get(name) ?? [];
      attempts.push(
        attemptOf(
          status,
          hasExited(status)
            ? await this.#terminationMessage(name, status, Number(status.labels[labelRestartCount] ?? 0))
            : '',
        ),
      );
      byName.set(name, attempts);
    }
    for (const attempts of byName.values())
      attempts.sort((a, b) => b.restartCount - a.restartCount || b.startedAtMs - a.startedAtMs);
    return byName;
  }

  async #terminationMessage(name: string, status: ContainerStatus, restartCount: number): Promise<string> {
    const known = this.#messages.get(status.id);
    if (known !== undefined) return known;
    const { engine, paths } = this.#context;
    const text = await readTerminationMessage(
      engine,
      terminationMessagePath(paths, this.uid, name, restartCount),
      this.#containerNamed(name),
      status,
    );
    this.#messages.set(status.id, text);
    return text;
  }

  #containerNamed(name: string): Json | undefined {
    return [
      ...(this.pod.spec.initContainers ?? []),
      ...(this.pod.spec.containers ?? []),
      ...(this.pod.spec.ephemeralContainers ?? []),
    ].find((container: Json) => container.name === name);
  }

  // ---- start --------------------------------------------------------------------------------------------------

  // walk pod-ip 2/5: the Pod's worker asks the engine for a sandbox.
  async #ensureSandbox(sandbox: SandboxStatus | undefined, observed: Observed): Promise<SandboxStatus> {
    if (sandbox?.ready === true) return sandbox;
    if (sandbox !== undefined || observed.size > 0) {
      // The namespaces are gone (a reboot): containers that stood on them start anew.
      this.#events.event('Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
      for (const attempts of observed.values())
        for (const attempt of attempts)
          if (attempt.state === 'running') await this.#context.engine.containers.stop(attempt.id, 0).catch(() => {});
      await this.#context.engine.sandboxes.remove(this.uid);
    }
    for (const text of ignoredFields(this.pod)) this.#events.event('Warning', 'FieldIgnored', text);
    try {
      await checkRuntimeClass(this.pod, this.#context.client);
      return await this.#context.engine.sandboxes.create({
        id: this.uid,
        name: `${this.pod.metadata.namespace}/${this.pod.metadata.name}`,
        hostname: podHostname(this.pod, this.#context.dns.clusterDomain),
        labels: podLabels(this.pod),
        network: this.pod.spec.hostNetwork === true ? 'host' : 'pod',
        hostPid: this.pod.spec.hostPID === true,
        hostIpc: this.pod.spec.hostIPC === true,
        shareProcessNamespace: this.pod.spec.shareProcessNamespace === true,
        sysctls: Object.fromEntries(
          (this.pod.spec.securityContext?.sysctls ?? []).map((entry: Json) => [entry.name, entry.value]),
        ),
        cgroupParent: podCgroupParent(this.pod, this.#context.cgroupRoot),
        resources: podResources(this.pod),
        ports: hostPorts(this.pod),
      });
    } catch (error) {
      this.#events.event('Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${messageOf(error)}`);
      throw error;
    }
  }

  async #mountVolumes(sandbox: SandboxStatus): Promise<MountedVolumes> {
    const { paths, nodeAllocatable, hostIp, clock } = this.#context;
    await Promise.all([
      mkdir(podDir(paths, this.uid), { recursive: true, mode: 0o750 }),
      mkdir(podSecretsDir(paths, this.uid), { recursive: true, mode: 0o750 }),
      mkdir(podLogsDir(paths, this.pod), { recursive: true, mode: 0o750 }),
    ]);
    this.#volumes = await mountVolumes(this.pod, {
      paths,
      sources: this.#context.volumeSources(this.uid),
      downward: { nodeAllocatable, podIp: sandbox.podIp, hostIp },
      nowMs: clock.now(),
    });
    return this.#volumes;
  }

  /** As `#startAll`; when it takes long (an image is pulled), what is waited for is reported meanwhile. */
  async #startAllAndReport(plan: PodPlan, sandbox: SandboxStatus, observed: Observed): Promise<number | undefined> {
    let interim: Promise<void> = Promise.resolve();
    const timer = this.#context.clock.setTimer(
      interimStatusMs,
      () => {
        interim = this.#observe()
          .then((seen) => this.#report(seen, { ...plan, start: [] }, sandbox))
          .catch((error: unknown) => this.#context.log.debug('interim status', { error: messageOf(error) }));
      },
      { background: true },
    );
    try {
      return await this.#startAll(plan, sandbox, observed);
    } finally {
      timer.cancel();
      await interim;
    }
  }

  /** Starts what the plan says, in order. Resolves with how long to wait when something was not possible yet. */
  async #startAll(plan: PodPlan, sandbox: SandboxStatus, observed: Observed): Promise<number | undefined> {
    let volumes: MountedVolumes;
    try {
      volumes = this.#volumes ?? (await this.#mountVolumes(sandbox));
    } catch (error) {
      this.#events.event('Warning', 'FailedMount', messageOf(error));
      this.#errorRetryMs = Math.min(
        syncErrorRetryMaxMs,
        this.#errorRetryMs === 0 ? syncErrorRetryMs / 2 : this.#errorRetryMs * 2,
      );
      return this.#errorRetryMs;
    }
    let retryMs: number | undefined;
    for (const entry of plan.start) {
      if (this.#stop.signal.aborted || this.#deleted || this.pod.metadata.deletionTimestamp !== undefined)
        return undefined;
      const remembered = memoryOf(this.#memory, entry.container.name);
      const leftMs = remembered.notBeforeMs - this.#context.clock.monotonic();
      if (leftMs > 0) {
        retryMs = Math.min(retryMs ?? Infinity, leftMs);
        if (entry.init) break;
        continue;
      }
      try {
        await this.#startContainer(entry, sandbox, volumes, observed);
        remembered.waiting = undefined;
      } catch (error) {
        const waiting =
          error instanceof WaitingError
            ? error
            : new WaitingError(
                error instanceof ApiError && error.reason !== 'InternalError'
                  ? 'CreateContainerConfigError'
                  : 'RunContainerError',
                messageOf(error),
              );
        remembered.waiting = { reason: waiting.reason, message: waiting.message };
        if (!(error instanceof WaitingError) || waiting.reason === 'CreateContainerError')
          this.#events.event('Warning', 'Failed', `Error: ${waiting.message}`, entry.container.name);
        const delayMs = waiting.retryAfterMs ?? syncErrorRetryMs * 5;
        retryMs = Math.min(retryMs ?? Infinity, delayMs);
        remembered.notBeforeMs = this.#context.clock.monotonic() + delayMs;
        if (entry.init) break;
      }
    }
    return retryMs;
  }

  async #startContainer(
    entry: PodPlan['start'][number],
    sandbox: SandboxStatus,
    volumes: MountedVolumes,
    observed: Observed,
  ): Promise<void> {
    const { engine, images, paths, dns, nodeMemoryBytes, nodeAllocatable, hostIp, cgroupRoot } = this.#context;
    const { container, restartCount } = entry;
    const remembered = memoryOf(this.#memory, container.name);
    const leftover = observed.get(container.name)?.[0];
    if (leftover?.state === 'created') await engine.containers.remove(leftover.id, { force: true });
    const image = await images.ensure(this.pod, container, this.#events, this.#stop.signal);
    await engine.images.lease('kubelet', image.id, `${this.uid}/${container.name}`);
    const sources = this.#context.volumeSources(this.uid);
    const environment = await containerEnvironment({
      pod: this.pod,
      container,
      objects: sources,
      services: this.#context.services(),
      podIp: sandbox.podIp,
      hostIp,
      nodeAllocatable,
    });
    const target =
      container.targetContainerName === undefined
        ? undefined
        : observed.get(container.targetContainerName)?.find((attempt) => attempt.state === 'running')?.id;
    const spec = await makeContainerSpec({
      ...(target === undefined ? {} : { targetContainerId: target }),
      pod: this.pod,
      container,
      init: entry.init,
      restartCount,
      image,
      environment,
      volumes,
      paths,
      sandboxId: sandbox.id,
      podIp: sandbox.podIp,
      nodeMemoryBytes,
      cgroupRoot,
      dns,
    });
    let id: string;
    try {
      id = await engine.containers.create(spec);
    } catch (error) {
      throw new WaitingError('CreateContainerError', messageOf(error));
    }
    this.#events.event('Normal', 'Created', `Container created`, container.name);
    this.#cancelProbes(container.name);
    remembered.started = container.startupProbe === undefined && container.lifecycle?.postStart === undefined;
    remembered.ready = remembered.started && container.readinessProbe === undefined;
    remembered.killBecause = undefined;
    try {
      await engine.containers.start(id);
    } catch (error) {
      // It counts as an attempt that has ended (see `failedStart`): what follows is for restartPolicy to say.
      this.#events.event('Warning', 'Failed', `Error: ${messageOf(error)}`, container.name);
      if (engine.containers.status(id) === undefined) throw new WaitingError('RunContainerError', messageOf(error));
      return;
    }
    this.#events.event('Normal', 'Started', `Container started`, container.name);
    if (container.lifecycle?.postStart !== undefined) await this.#postStart(container, id, sandbox);
  }

  async #postStart(container: Json, id: string, sandbox: SandboxStatus): Promise<void> {
    const { engine, clock } = this.#context;
    const remembered = memoryOf(this.#memory, container.name);
    const hook: Json = container.lifecycle.postStart;
    const result =
      hook.sleep !== undefined
        ? await clock.sleep(hook.sleep.seconds * 1000, this.#stop.signal).then(() => ({ ok: true, message: '' }))
        : await runAction(
            hook,
            { engine, clock, containerId: id, podIp: sandbox.podIp, pod: this.pod, container },
            3_600_000,
          );
    if (result.ok) {
      remembered.started = container.startupProbe === undefined;
      remembered.ready = remembered.started && container.readinessProbe === undefined;
      return;
    }
    this.#events.event('Warning', 'FailedPostStartHook', 'PostStartHook failed', container.name);
    remembered.killBecause = { attempt: id, message: 'FailedPostStartHook' };
    this.#again = true;
  }

  // ---- probes -------------------------------------------------------------------------------------------------

  #cancelProbes(name: string): void {
    for (const probe of this.#probes.get(name)?.probes ?? []) probe.cancel();
    this.#probes.delete(name);
  }

  #manageProbes(observed: Observed, sandbox: SandboxStatus | undefined): void {
    for (const container of [
      ...(this.pod.spec.initContainers ?? []).filter(isSidecar),
      ...(this.pod.spec.containers ?? []),
    ] as Json[]) {
      const attempt = observed.get(container.name)?.[0];
      if (attempt?.state !== 'running' || sandbox === undefined) {
        this.#cancelProbes(container.name);
        continue;
      }
      const running = this.#probes.get(container.name);
      if (running?.attempt === attempt.id) continue;
      this.#cancelProbes(container.name);
      this.#probes.set(container.name, { attempt: attempt.id, probes: this.#startProbes(container, attempt, sandbox) });
    }
  }

  #startProbes(container: Json, attempt: Attempt, sandbox: SandboxStatus): { cancel(): void }[] {
    const { engine, clock, random, hostIp } = this.#context;
    const remembered = memoryOf(this.#memory, container.name);
    const podIp = this.pod.spec.hostNetwork === true ? hostIp : sandbox.podIp;
    const target = { engine, clock, containerId: attempt.id, podIp, pod: this.pod, container };
    const probes: { cancel(): void }[] = [];
    const start = (
      kind: 'Liveness' | 'Readiness' | 'Startup',
      probe: Json,
      onVerdict: (ok: boolean, message: string) => void,
    ): void => {
      // After a restart of the kubelet all probes would fire at once; a part of a second spreads them.
      const jitter =
        clock.now() - attempt.startedAtMs > 5_000
          ? random.float() * Math.min(1_000, (probe.periodSeconds ?? 10) * 1000)
          : 0;
      probes.push(
        startProbe(probe, target, {
          jitter,
          startedAtMs: attempt.startedAtMs,
          onFailure: (message) =>
            this.#events.event('Warning', 'Unhealthy', `${kind} probe failed: ${message}`, container.name),
          onVerdict: ({ ok, message }) => {
            onVerdict(ok, message);
            this.wake();
          },
        }),
      );
    };
    const startOthers = (): void => {
      if (container.livenessProbe !== undefined)
        start('Liveness', container.livenessProbe, (ok) => {
          if (!ok)
            remembered.killBecause = {
              attempt: attempt.id,
              message: `Container ${container.name} failed liveness probe, will be restarted`,
              graceSeconds: container.livenessProbe.terminationGracePeriodSeconds,
            };
        });
      if (container.readinessProbe !== undefined)
        start('Readiness', container.readinessProbe, (ok) => {
          remembered.ready = ok;
        });
    };
    if (container.startupProbe !== undefined && !remembered.started) {
      const startup = { ...container.startupProbe };
      start('Startup', startup, (ok) => {
        if (!ok) {
          remembered.killBecause = {
            attempt: attempt.id,
            message: `Container ${container.name} failed startup probe, will be restarted`,
            graceSeconds: container.startupProbe.terminationGracePeriodSeconds,
          };
          return;
        }
        if (remembered.started) return;
        remembered.started = true;
        remembered.ready = container.readinessProbe === undefined;
        probes[0]?.cancel();
        startOthers();
      });
    } else {
      startOthers();
    }
    return probes;
  }

  // ---- stop ---------------------------------------------------------------------------------------------------

  #graceSeconds(): number {
    return this.pod.metadata.deletionGracePeriodSeconds ?? this.pod.spec.terminationGracePeriodSeconds ?? 30;
  }

  async #killContainer(
    name: string,
    id: string,
    message: string,
    graceMs = (this.pod.spec.terminationGracePeriodSeconds ?? 30) * 1000,
  ): Promise<void> {
    const { engine, clock } = this.#context;
    this.#events.event('Normal', 'Killing', message, name);
    this.#cancelProbes(name);
    const startedMs = clock.monotonic();
    const container = this.#containerNamed(name);
    const preStop: Json = container?.lifecycle?.preStop ?? this.#labelledPreStop(id);
    if (preStop !== undefined && graceMs > 0 && !this.#hooked.has(id)) {
      this.#hooked.add(id);
      await this.#preStop(preStop, container ?? { name }, id, graceMs);
    }
    const leftMs = Math.max(graceMs > 0 ? 2_000 : 0, graceMs - (clock.monotonic() - startedMs));
    await engine.containers.stop(id, graceMs === 0 ? 0 : Math.min(leftMs, graceMs));
  }

  #labelledPreStop(id: string): Json {
    const label = this.#context.engine.containers.status(id)?.labels[labelTermination];
    return label === undefined ? undefined : JSON.parse(label).preStop;
  }

  async #preStop(hook: Json, container: Json, id: string, graceMs: number): Promise<void> {
    const { engine, clock } = this.#context;
    const sandbox = engine.sandboxes.status(this.uid);
    const ended = new AbortController();
    const exited = engine.containers.wait(id, ended.signal).then(
      () => {},
      () => {},
    );
    const run =
      hook.sleep !== undefined
        ? clock.sleep(Math.min(hook.sleep.seconds * 1000, graceMs), ended.signal).then(
            () => ({ ok: true, message: '' }),
            () => ({ ok: true, message: '' }),
          )
        : runAction(
            hook,
            { engine, clock, containerId: id, podIp: sandbox?.podIp ?? '', pod: this.pod, container },
            graceMs,
          );
    const result = await Promise.race([run, exited.then(() => ({ ok: true, message: '' }))]);
    ended.abort();
    if (!result.ok) this.#events.event('Warning', 'FailedPreStopHook', 'PreStopHook failed', container.name);
  }

  async #killAll(graceMs: number, observed: Observed): Promise<void> {
    const sidecars = new Set(
      (this.pod.spec.initContainers ?? []).filter(isSidecar).map((container: Json) => container.name),
    );
    const running = [...observed].flatMap(([name, attempts]) =>
      attempts.filter((attempt) => attempt.state === 'running').map((attempt) => ({ name, id: attempt.id })),
    );
    const startedMs = this.#context.clock.monotonic();
    const kill = ({ name, id }: { name: string; id: string }, leftMs: number): Promise<void> =>
      this.#killContainer(name, id, `Stopping container ${name}`, leftMs);
    await Promise.all(running.filter(({ name }) => !sidecars.has(name)).map((entry) => kill(entry, graceMs)));
    const leftMs = Math.max(0, graceMs - (this.#context.clock.monotonic() - startedMs));
    for (const entry of running.filter(({ name }) => sidecars.has(name)).reverse()) await kill(entry, leftMs);
  }

  /** The Pod was asked to go: stop, report, take everything away, and tell the API server. */
  async #terminate(): Promise<void> {
    const { engine, clock, paths } = this.#context;
    const graceMs = this.#deleted ? Math.min(2_000, this.#graceSeconds() * 1000) : this.#graceSeconds() * 1000;
    if (this.#terminating === undefined || graceMs < this.#terminating.graceMs)
      this.#terminating = { graceMs, deadline: clock.monotonic() + graceMs };
    const observed = await this.#observe();
    const leftMs = graceMs === 0 ? 0 : Math.max(1, this.#terminating.deadline - clock.monotonic());
    const finished = this.#killAll(leftMs, observed);
    const watchdog = this.#watchShorterGrace(observed);
    try {
      await finished;
    } finally {
      watchdog.cancel();
    }
    const after = await this.#observe();
    for (const name of [...this.#probes.keys()]) this.#cancelProbes(name);
    if (!this.#deleted)
      await this.#report(
        after,
        { start: [], kill: [], remove: [], backOff: [], phase: undefined, againAfterMs: undefined },
        engine.sandboxes.status(this.uid),
        this.#refused,
        true,
      );
    for (const attempts of after.values())
      for (const attempt of attempts) await engine.containers.remove(attempt.id, { force: true });
    await engine.sandboxes.remove(this.uid);
    await engine.images.releaseLease('kubelet', this.uid);
    await removePodFiles(paths, this.uid, this.#context.volumeSources(this.uid));
    await rm(podLogsDir(paths, this.pod), { recursive: true, force: true });
    if (!this.#deleted) await this.#context.confirmDeleted(this.pod);
    this.close();
    this.#context.onGone(this.uid);
  }

  /** While containers stop, a second deletion with a shorter grace period takes effect at once. */
  #watchShorterGrace(observed: Observed): { cancel(): void } {
    const { clock, engine } = this.#context;
    let timer: Timer;
    const look = (): void => {
      const graceMs = this.#deleted ? 0 : this.#graceSeconds() * 1000;
      if (this.#terminating !== undefined && graceMs < this.#terminating.graceMs) {
        this.#terminating = { graceMs, deadline: clock.monotonic() + graceMs };
        if (graceMs <= 1_000)
          for (const attempts of observed.values())
            for (const attempt of attempts)
              if (attempt.state === 'running') void engine.containers.kill(attempt.id, 'SIGKILL').catch(() => {});
      }
      timer = clock.setTimer(200, look, { background: true });
    };
    timer = clock.setTimer(200, look, { background: true });
    return { cancel: () => timer.cancel() };
  }

  /** Succeeded or Failed: nothing runs; the sandbox goes, logs and the status stay until the Pod is deleted. */
  async #settle(): Promise<void> {
    const { engine } = this.#context;
    const observed = await this.#observe();
    await this.#killAll(this.#graceSeconds() * 1000, observed);
    for (const name of [...this.#probes.keys()]) this.#cancelProbes(name);
    await engine.sandboxes.remove(this.uid);
    await engine.images.releaseLease('kubelet', this.uid);
  }

  #deadlineLeft(): number | undefined {
    const seconds: number | undefined = this.pod.spec.activeDeadlineSeconds;
    if (seconds === undefined || this.pod.status?.startTime === undefined) return undefined;
    return Math.max(0, Date.parse(this.pod.status.startTime) + seconds * 1000 - this.#context.clock.now());
  }

  #pastDeadline(): boolean {
    return this.#deadlineLeft() === 0;
  }

  async #exceedDeadline(): Promise<void> {
    this.#events.event('Normal', 'DeadlineExceeded', 'Pod was active on the node longer than the specified deadline');
    const observed = await this.#observe();
    await this.#killAll(this.#graceSeconds() * 1000, observed);
    await this.#report(
      await this.#observe(),
      undefined,
      undefined,
      { reason: 'DeadlineExceeded', message: 'Pod was active on the node longer than the specified deadline' },
      true,
    );
    this.#again = true;
  }

  // ---- report -------------------------------------------------------------------------------------------------

  async #report(
    observed: Observed,
    plan: PodPlan | undefined,
    sandbox: SandboxStatus | undefined,
    failed = this.#refused,
    terminal = false,
  ): Promise<void> {
    const { hostIp, clock } = this.#context;
    const status = podStatus({
      pod: this.pod,
      observed,
      memory: this.#memory,
      plan,
      hostIp,
      nowMs: clock.now(),
      startedAtMs: this.#startedAtMs,
      sandboxReady: sandbox?.ready === true,
      podIp: this.pod.spec.hostNetwork === true ? hostIp : (sandbox?.podIp ?? this.pod.status?.podIP ?? ''),
      ...(failed === undefined ? {} : { refused: failed }),
      terminal,
    });
    const text = JSON.stringify(status);
    if (text === this.#lastStatus) return;
    const stored = await this.#context.writeStatus(this.pod, status);
    this.#lastStatus = text;
    if (stored !== undefined && this.pod.metadata.uid === stored.metadata.uid) {
      // The answer may be older than what the watch has brought; deletion must not be forgotten.
      if (this.pod.metadata.deletionTimestamp === undefined || stored.metadata.deletionTimestamp !== undefined)
        this.pod = stored;
      if (plan?.phase !== undefined) this.#again = true;
    }
  }
}
