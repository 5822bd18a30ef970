/**
 * The start of a Pod's containers: sandbox, volumes, image, environment, container, hook - in the plan's order. Each
 * long wait ends when it becomes pointless (`interruption.ts`); what the engine has begun by then goes on, and is
 * waited for before its traces are taken away.
 */
import type { LifecycleHandler } from '#api/core.v1.ts';
import { imageVolume } from './containers.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { SandboxStatus } from '#engine/engine.ts';
import type { Timer } from '#os/clock.ts';
import { hostPorts, makeContainerSpec, podHostname } from './container-spec.ts';
import { containerEnvironment } from './env.ts';
import type { MountedVolumes } from './doors.ts';
import { WaitingError } from './images.ts';
import { Interrupted, Interruption } from './interruption.ts';
import { hookMsMax, interimStatusMs, syncErrorRetryMaxMs, syncErrorRetryMs } from './limits.ts';
import { podLabels } from './pod-labels.ts';
import { memoryOf, type Observed } from './container-memory.ts';
import type { PodPlan } from './pod-plan.ts';
import { observePod } from './pod-observe.ts';
import { cancelProbes } from './pod-probes.ts';
import { reportPod } from './pod-report.ts';
import type { PodState } from './pod-state.ts';
import { podAsAllocated } from './pod-state.ts';
import { podCgroupParent, podResources } from './qos.ts';
import { ignoredFields } from './unsupported.ts';

type Start = PodPlan['start'][number];

/**
 * Says what the Pod waits for when its start takes longer than a moment: once for the sandbox, and once for each
 * container whose start begins after that.
 */
export class InterimReports {
  readonly #state: PodState;
  readonly #plan: PodPlan;
  #timer: Timer | undefined;

  constructor(state: PodState, plan: PodPlan) {
    this.#state = state;
    this.#plan = plan;
  }

  begin(): void {
    const { clock, log } = this.#state.host;
    this.#timer ??= clock.setTimer(
      interimStatusMs,
      () => {
        this.#timer = undefined;
        this.#say().catch((error: unknown) => log.debug('interim status', { error: messageOf(error) }));
      },
      { background: true },
    );
  }

  async #say(): Promise<void> {
    const state = this.#state;
    const observed = await observePod(state);
    const sandbox = state.host.engine.sandboxes.status(state.uid);
    reportPod(state, { observed, plan: { ...this.#plan, start: [] }, sandbox });
  }

  end(): void {
    this.#timer?.cancel();
  }
}

// walk pod-ip 2/5: the Pod's worker asks the engine for a sandbox.
export async function ensureSandbox(
  state: PodState,
  sandbox: SandboxStatus | undefined,
  observed: Observed,
): Promise<SandboxStatus> {
  if (sandbox?.ready === true) return sandbox;
  const { pod, uid, host } = state;
  const { engine, api } = host;
  if (sandbox !== undefined || observed.size > 0) {
    // The namespaces are gone (a reboot): containers that stood on them start anew.
    api.tell({ pod }, 'Normal', 'SandboxChanged', 'Pod sandbox changed, it will be killed and re-created.');
    for (const attempts of observed.values())
      for (const { id, state: is } of attempts)
        // One that has ended meanwhile need not be stopped.
        if (is === 'running') await engine.containers.stop(id, 0).catch(() => {});
    await engine.sandboxes.remove(uid);
  }
  for (const text of ignoredFields(pod)) api.tell({ pod }, 'Warning', 'FieldIgnored', text);
  try {
    await state.interruption.race(api.checkRuntimeClass(pod));
    const { interruption } = state;
    return await interruption.race(
      engine.sandboxes.create(
        {
          id: uid,
          name: `${pod.metadata.namespace}/${pod.metadata.name}`,
          hostname: podHostname(pod, host.dns.clusterDomain),
          labels: podLabels(pod),
          network: pod.spec.hostNetwork === true ? 'host' : 'pod',
          hostPid: pod.spec.hostPID === true,
          hostIpc: pod.spec.hostIPC === true,
          shareProcessNamespace: pod.spec.shareProcessNamespace === true,
          sysctls: Object.fromEntries(
            (pod.spec.securityContext?.sysctls ?? []).map((entry) => [entry.name, entry.value]),
          ),
          cgroupParent: podCgroupParent(pod, host.cgroupRoot),
          resources: podResources(podAsAllocated(state)),
          ports: hostPorts(pod),
        },
        interruption.signal,
      ),
    );
  } catch (error) {
    if (!(error instanceof Interrupted))
      api.tell({ pod }, 'Warning', 'FailedCreatePodSandBox', `Failed to create pod sandbox: ${messageOf(error)}`);
    throw error;
  }
}

export async function mountPodVolumes(state: PodState, sandbox: SandboxStatus): Promise<MountedVolumes> {
  state.volumes = await state.interruption.race(state.host.files.mountVolumes(state.pod, sandbox.podIp));
  return state.volumes;
}

/** What a pass that starts containers goes by. */
interface StartPass {
  plan: PodPlan;
  sandbox: SandboxStatus;
  observed: Observed;
}

/** Starts what the plan says, in order. Resolves with how long to wait when something was not possible yet. */
export async function startAll(
  state: PodState,
  { plan, sandbox, observed }: StartPass,
  interim: InterimReports | undefined,
): Promise<number | undefined> {
  const { host } = state;
  if (host.isolate !== undefined) await state.interruption.race(host.isolate(state.pod, sandbox.podIp));
  let volumes: MountedVolumes;
  try {
    volumes = state.volumes ?? (await mountPodVolumes(state, sandbox));
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    host.api.tell({ pod: state.pod }, 'Warning', 'FailedMount', messageOf(error));
    state.errorRetryMs = Math.min(
      syncErrorRetryMaxMs,
      state.errorRetryMs === 0 ? syncErrorRetryMs / 2 : state.errorRetryMs * 2,
    );
    return state.errorRetryMs;
  }
  let retryMs: number | undefined;
  for (const entry of plan.start) {
    state.interruption.throwIfDue();
    const remembered = memoryOf(state.memory, entry.container.name);
    let delayMs: number | undefined = remembered.notBeforeMs - host.clock.monotonic();
    if (delayMs <= 0) {
      interim?.begin();
      delayMs = await tryStart(state, entry, { sandbox, volumes, observed });
    }
    if (delayMs === undefined) continue;
    retryMs = Math.min(retryMs ?? Infinity, delayMs);
    if (entry.init) break;
  }
  return retryMs;
}

/** Resolves with how long to wait before it is tried again; undefined when it was started. */
async function tryStart(
  state: PodState,
  entry: Start,
  place: Omit<StartContext, 'interruption'>,
): Promise<number | undefined> {
  const { name, image } = entry.container;
  const remembered = memoryOf(state.memory, name);
  const interruption = new Interruption(state.leftovers);
  if (state.interruption.isDue) interruption.interrupt();
  state.starting = { name, image: image ?? '', interruption };
  try {
    await startContainer(state, entry, { ...place, interruption });
    remembered.waiting = undefined;
    return undefined;
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    const waiting = waitingOf(error as Error);
    remembered.waiting = { reason: waiting.reason, message: waiting.message };
    if (!(error instanceof WaitingError) || waiting.reason === 'CreateContainerError')
      state.host.api.tell({ pod: state.pod, container: name }, 'Warning', 'Failed', `Error: ${waiting.message}`);
    const delayMs = waiting.retryAfterMs ?? syncErrorRetryMs * 5;
    remembered.notBeforeMs = state.host.clock.monotonic() + delayMs;
    return delayMs;
  } finally {
    state.starting = undefined;
  }
}

function waitingOf(error: Error): WaitingError {
  if (error instanceof WaitingError) return error;
  const isOfPod = error instanceof ApiError && error.reason !== 'InternalError';
  return new WaitingError(isOfPod ? 'CreateContainerConfigError' : 'RunContainerError', error.message);
}

interface StartContext {
  sandbox: SandboxStatus;
  volumes: MountedVolumes;
  observed: Observed;
  interruption: Interruption;
}

async function startContainer(state: PodState, entry: Start, context: StartContext): Promise<void> {
  const { host, pod } = state;
  const { engine, api, prober } = host;
  const { container } = entry;
  const { name } = container;
  const leftover = context.observed.get(name)?.[0];
  if (leftover?.state === 'created') await engine.containers.remove(leftover.id, { force: true });
  const spec = await specOf(state, entry, context);
  // From here on the engine works: what ends the wait is the end of the Pod, not a newer image.
  const { interruption } = state;
  let id: string;
  try {
    id = await interruption.race(engine.containers.create(spec));
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    throw new WaitingError('CreateContainerError', messageOf(error));
  }
  api.tell({ pod, container: name }, 'Normal', 'Created', `Container created`);
  cancelProbes(state, name);
  const target = { containerId: id, podIp: context.sandbox.podIp, pod, container };
  const remembered = memoryOf(state.memory, name);
  const hook: LifecycleHandler | undefined = container.lifecycle?.postStart;
  const settle = (): void => {
    remembered.started = !prober.isAsked('Startup', target);
    remembered.ready = remembered.started && !prober.isAsked('Readiness', target);
  };
  Object.assign(remembered, { started: false, ready: false, killBecause: undefined });
  try {
    await interruption.race(engine.containers.start(id));
  } catch (error) {
    if (error instanceof Interrupted) throw error;
    // It counts as an attempt that has ended (see `failedStart`): what follows is for restartPolicy to say.
    api.tell({ pod, container: name }, 'Warning', 'Failed', `Error: ${messageOf(error)}`);
    if (engine.containers.status(id) === undefined) throw new WaitingError('RunContainerError', messageOf(error));
    return;
  }
  api.tell({ pod, container: name }, 'Normal', 'Started', `Container started`);
  if (hook === undefined || (await runPostStart(state, hook, target, context.interruption))) settle();
}

/** Image, environment and files of a container; what they wait for ends with the Pod, or with a newer image. */
async function specOf(
  state: PodState,
  { container, init, restartCount }: Start,
  { sandbox, volumes, observed, interruption }: StartContext,
): Promise<Parameters<PodState['host']['engine']['containers']['create']>[0]> {
  const { host, uid } = state;
  const pod = podAsAllocated(state);
  const { engine, images, files, dns } = host;
  const image = await interruption.race(images.ensure(pod, container, interruption));
  await engine.images.lease('kubelet', image.id, `${uid}/${container.name}`);
  for (const { name } of container.volumeMounts ?? []) {
    const shown = imageVolume(pod, name);
    if (shown === undefined) continue;
    const asImage = {
      name: container.name,
      image: shown.reference ?? '',
      ...(shown.pullPolicy === undefined ? {} : { imagePullPolicy: shown.pullPolicy }),
    };
    await interruption.race(images.ensure(pod, asImage, interruption));
  }
  const environment = await interruption.race(
    containerEnvironment({
      pod,
      container,
      objects: files.objectsFor(pod),
      services: host.api.services(),
      podIp: sandbox.podIp,
      hostIp: host.hostIp,
      nodeAllocatable: host.allocatable,
    }),
  );
  const target =
    !('targetContainerName' in container) || container.targetContainerName === undefined
      ? undefined
      : observed.get(container.targetContainerName)?.find((attempt) => attempt.state === 'running')?.id;
  return makeContainerSpec({
    ...(target === undefined ? {} : { targetContainerId: target }),
    pod,
    container,
    init,
    restartCount,
    image,
    environment,
    files: await interruption.race(
      files.prepareContainer({ pod, container, restartCount, environment, volumes, podIp: sandbox.podIp }),
    ),
    sandboxId: sandbox.id,
    nodeMemoryBytes: host.memoryBytes,
    cgroupRoot: host.cgroupRoot,
    dns,
  });
}

/** True when the hook has done its work; else its container is to be killed. */
async function runPostStart(
  state: PodState,
  hook: LifecycleHandler,
  target: Parameters<PodState['host']['prober']['act']>[1],
  interruption: Interruption,
): Promise<boolean> {
  const { clock, prober, api } = state.host;
  const result =
    hook.sleep !== undefined
      ? await interruption
          .race(clock.sleep(hook.sleep.seconds * 1000, interruption.signal))
          .then(() => ({ ok: true, message: '' }))
      : await interruption.race(prober.act(hook, target, hookMsMax, interruption.signal));
  if (result.ok) return true;
  const { name } = target.container;
  api.tell({ pod: state.pod, container: name }, 'Warning', 'FailedPostStartHook', 'PostStartHook failed');
  memoryOf(state.memory, name).killBecause = { attempt: target.containerId, message: 'FailedPostStartHook' };
  state.wake();
  return false;
}
