/**
 * A Pod's status from what is seen of its containers: phase, conditions, container states. Pure.
 * Rules: Kubernetes documentation, "Pod Lifecycle" (phase, container states, conditions).
 */
import type {
  Container,
  ContainerState,
  ContainerStateTerminated,
  ContainerStatus,
  Pod,
  PodCondition,
  PodStatus,
} from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { memoryOf, type Attempt, type Memory, type Observed } from './container-memory.ts';
import { isSidecar, type PodPlan } from './pod-plan.ts';
import { timesRememberedMax } from './limits.ts';
import { containerResources, qosClassOf } from './qos.ts';
import { groupLimits, reportedResources, type ResizeState } from './resize.ts';
import { podFullName, runtimeName } from './pod-labels.ts';

export interface StatusInput {
  pod: Pod;
  observed: Observed;
  memory: Memory;
  plan: PodPlan | undefined;
  podIp: string;
  hostIp: string;
  nowMs: number;
  /** The sandbox stands. */
  sandboxReady: boolean;
  startedAtMs: number;
  /**
   * Overrides for Pods that were refused or evicted; `disrupted` where the node took the Pod's place away (condition
   * DisruptionTarget).
   */
  refused?: Refusal;
  /** Everything has stopped for good: the last report before the Pod goes. */
  terminal?: boolean;
  nodeMemoryBytes: number;
  resize?: ResizeState;
}

export interface Refusal {
  reason: string;
  message: string;
  disrupted?: boolean;
}

/** The last texts by second: a status tells few moments many times. */
const texts = new Map<number, string>();

export function rfc3339(ms: number): string {
  const second = Math.floor(ms / 1000);
  let text = texts.get(second);
  if (text === undefined) {
    text = `${new Date(second * 1000).toISOString().slice(0, 19)}Z`;
    if (texts.size >= timesRememberedMax) texts.clear();
    texts.set(second, text);
  }
  return text;
}

function terminated(attempt: Attempt): ContainerStateTerminated {
  const reason = attempt.reason ?? (attempt.oomKilled ? 'OOMKilled' : attempt.exitCode === 0 ? 'Completed' : 'Error');
  return {
    exitCode: attempt.exitCode,
    reason,
    ...(attempt.message === '' ? {} : { message: attempt.message }),
    startedAt: rfc3339(attempt.reason === 'StartError' ? 0 : attempt.startedAtMs),
    finishedAt: rfc3339(attempt.finishedAtMs),
    containerID: `${runtimeName}://${attempt.id}`,
  };
}

/** What a container that never ended is said to have come to, once its Pod is over. */
const neverSeen: ContainerStateTerminated = Object.freeze({
  exitCode: 137,
  reason: 'ContainerStatusUnknown',
  message: 'The container could not be located when the pod was terminated',
  startedAt: null,
  finishedAt: null,
});

/** `Back-off restarting failed container …`, as its event says. */
export function backOffMessage(pod: Pod, container: string): string {
  return `Back-off restarting failed container ${container} in pod ${podFullName(pod)}`;
}

function containerStatus(
  input: StatusInput,
  container: AnyContainer,
  init: boolean,
  ephemeral = false,
): ContainerStatus {
  const { pod, observed, memory, plan } = input;
  const attempts = observed.get(container.name) ?? [];
  const current = attempts[0];
  const remembered = memoryOf(memory, container.name);
  const ended =
    plan?.phase !== undefined || pod.metadata.deletionTimestamp !== undefined || input.refused !== undefined;
  const backingOff = plan?.backOff.find((entry) => entry.name === container.name);
  const startsNow = plan?.start.some((entry) => entry.container.name === container.name) === true;
  const previous = (
    pod.status?.[ephemeral ? 'ephemeralContainerStatuses' : init ? 'initContainerStatuses' : 'containerStatuses'] ?? []
  ).find((status) => status.name === container.name);
  const status: ContainerStatus & Required<Pick<ContainerStatus, 'state' | 'lastState'>> = {
    name: container.name,
    state: {},
    lastState: {},
    ready: false,
    restartCount: current?.restartCount ?? previous?.restartCount ?? 0,
    image: current?.image ?? container.image ?? '',
    imageID: current?.imageId ?? '',
    started: false,
  };
  if (!ephemeral) Object.assign(status, resourcesOf(input, container, current));
  if (current !== undefined) status.containerID = `${runtimeName}://${current.id}`;
  const waits = (reason: string, message?: string): ContainerState => ({
    waiting: { reason, ...(message === undefined || message === '' ? {} : { message }) },
  });

  if (current?.state === 'running') {
    status.state = { running: { startedAt: rfc3339(current.startedAtMs) } };
    if (ephemeral) delete status.started;
    else status.started = remembered.started;
    status.ready = ephemeral || (init && !isSidecar(container)) ? false : remembered.ready;
  } else if (current?.state === 'exited') {
    if (!ended && backingOff !== undefined) {
      status.state = waits(
        'CrashLoopBackOff',
        `back-off ${formatSeconds(backingOff.totalMs)} restarting failed container=${container.name} pod=${podFullName(pod)}`,
      );
      status.lastState = { terminated: terminated(current) };
    } else if (!ended && startsNow && remembered.waiting !== undefined) {
      status.state = waits(remembered.waiting.reason, remembered.waiting.message);
      status.lastState = { terminated: terminated(current) };
    } else {
      status.state = { terminated: terminated(current) };
      if (init && !isSidecar(container) && current.exitCode === 0) status.ready = true;
    }
  } else if (input.terminal === true && !init && !ephemeral && isInitialised(input)) {
    status.state = { terminated: neverSeen };
  } else if (remembered.waiting !== undefined) {
    status.state = waits(remembered.waiting.reason, remembered.waiting.message);
  } else {
    const initPending = !init && (pod.spec.initContainers ?? []).length > 0;
    status.state = waits(initPending || init ? 'PodInitializing' : 'ContainerCreating');
  }
  const before = attempts[1];
  if (status.lastState.terminated === undefined && before?.state === 'exited')
    status.lastState = { terminated: terminated(before) };
  else if (status.lastState.terminated === undefined && previous?.lastState?.terminated !== undefined)
    status.lastState = previous.lastState;
  return status;
}

/** What is allocated to a container, and what it has. */
function resourcesOf(
  { pod, nodeMemoryBytes }: StatusInput,
  container: AnyContainer,
  current: Attempt | undefined,
): Pick<ContainerStatus, 'allocatedResources' | 'resources'> {
  const { resources = {} } = container;
  const { requests } = resources;
  const allocated = requests === undefined ? {} : { allocatedResources: requests };
  if (current?.state !== 'running') return { ...allocated, resources };
  const wanted = groupLimits(containerResources(pod, container, nodeMemoryBytes));
  return { ...allocated, resources: reportedResources(container, { has: current.limits, wanted }) };
}

/** Every init container has done its part (the last one stands for all: they run in order). */
function isInitialised({ pod, observed, memory }: StatusInput): boolean {
  const last = pod.spec.initContainers?.at(-1);
  if (last === undefined) return true;
  const attempt = observed.get(last.name)?.[0];
  return isSidecar(last)
    ? attempt !== undefined && memory.get(last.name)?.started === true
    : attempt?.state === 'exited' && attempt.exitCode === 0;
}

function formatSeconds(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const minutes = Math.floor(seconds / 60);
  return minutes > 0 ? `${minutes}m${seconds % 60}s` : `${seconds}s`;
}

function phaseOf(input: StatusInput): string {
  if (input.refused !== undefined) return 'Failed';
  const settled = input.pod.status?.phase;
  if (settled === 'Succeeded' || settled === 'Failed') return settled;
  const containers: Container[] = input.pod.spec.containers ?? [];
  const current = containers.map((container) => input.observed.get(container.name)?.[0]);
  if (input.plan?.phase !== undefined && input.plan.kill.length === 0) return input.plan.phase;
  if (input.terminal === true)
    return current.every((attempt) => attempt?.state === 'exited' && attempt.exitCode === 0) ? 'Succeeded' : 'Failed';
  if (current.every((attempt) => attempt !== undefined && attempt.state !== 'created')) return 'Running';
  return settled === 'Running' ? 'Running' : 'Pending';
}

/** A condition with its transition time kept when its status did not change. */
interface ConditionNow {
  type: string;
  ok: boolean;
  reason?: string | undefined;
  message?: string | undefined;
}

function condition(pod: Pod, { type, ok, reason, message }: ConditionNow, nowMs: number): PodCondition {
  const status = ok ? 'True' : 'False';
  const before = (pod.status?.conditions ?? []).find((entry) => entry.type === type);
  const observedGeneration = pod.metadata.generation;
  return {
    type,
    status,
    ...(observedGeneration === undefined ? {} : { observedGeneration }),
    lastProbeTime: null,
    lastTransitionTime: (before?.status === status ? before.lastTransitionTime : undefined) ?? rfc3339(nowMs),
    ...(reason === undefined ? {} : { reason }),
    ...(message === undefined ? {} : { message }),
  };
}

/** Why a Pod whose containers are ready is not: a sentence for each readiness gate that does not hold. */
function unmetGates(pod: Pod): string[] {
  if (pod.spec.readinessGates === undefined) return [];
  return pod.spec.readinessGates.flatMap(({ conditionType }) => {
    const held = (pod.status?.conditions ?? []).find((entry) => entry.type === conditionType);
    if (held === undefined) return [`corresponding condition of pod readiness gate "${conditionType}" does not exist.`];
    return held.status === 'True'
      ? []
      : [`the status of pod readiness gate "${conditionType}" is not "True", but ${held.status}`];
  });
}

function conditionsOf(
  input: StatusInput,
  phase: string,
  statuses: ContainerStatus[],
  initStatuses: ContainerStatus[],
): PodCondition[] {
  const { pod, nowMs } = input;
  const names = (list: ContainerStatus[]): string => `[${list.map((status) => status.name).join(' ')}]`;
  const initContainers: Container[] = pod.spec.initContainers ?? [];
  const incomplete = initStatuses.filter((status, index) =>
    isSidecar(initContainers[index]!) ? status.started !== true : !status.ready,
  );
  const mainSeen = statuses.some((status) => status.containerID !== undefined);
  const initialised = phase === 'Succeeded' || mainSeen || incomplete.length === 0;
  const sidecarStatuses = initStatuses.filter((_status, index) => isSidecar(initContainers[index]!));
  const unready = [...sidecarStatuses, ...statuses].filter((status) => !status.ready);
  const ended = phase === 'Succeeded' || phase === 'Failed';
  const containersReady = !ended && unready.length === 0;
  const readyReason = phase === 'Succeeded' ? 'PodCompleted' : phase === 'Failed' ? 'PodFailed' : 'ContainersNotReady';
  const readyMessage = ended ? undefined : `containers with unready status: ${names(unready)}`;
  const unmet = unmetGates(pod);
  const podReady = containersReady && unmet.length === 0;
  const containersNotReady = containersReady ? {} : { reason: readyReason, message: readyMessage };
  const notReady =
    containersReady && !podReady ? { reason: 'ReadinessGatesNotReady', message: unmet.join(', ') } : containersNotReady;
  const notInitialized =
    phase === 'Succeeded'
      ? { reason: 'PodCompleted' }
      : initialised
        ? {}
        : {
            reason: 'ContainersNotInitialized',
            message: `containers with incomplete status: ${names(incomplete)}`,
          };
  const { refused } = input;
  const own = [
    { type: 'PodReadyToStartContainers', ok: input.sandboxReady && !ended },
    { type: 'Initialized', ok: initialised, ...notInitialized },
    { type: 'Ready', ok: podReady, ...notReady },
    { type: 'ContainersReady', ok: containersReady, ...containersNotReady },
    { type: 'PodScheduled', ok: true },
    ...(refused?.disrupted === true
      ? [{ type: 'DisruptionTarget', ok: true, reason: 'TerminationByKubelet', message: refused.message }]
      : []),
    ...resizeConditions(input, ended),
  ].map((now) => condition(pod, now, nowMs));
  const ownTypes = new Set([...own.map((entry) => entry.type), 'PodResizePending', 'PodResizeInProgress']);
  return [...own, ...(pod.status?.conditions ?? []).filter((entry) => !ownTypes.has(entry.type))];
}

/** Conditions that are there only while a resize is. */
function resizeConditions({ resize }: StatusInput, ended: boolean): ConditionNow[] {
  if (ended || resize === undefined) return [];
  const { pending, progress } = resize;
  return [
    ...(pending === undefined ? [] : [{ type: 'PodResizePending', ok: true, ...pending }]),
    ...(progress === undefined
      ? []
      : [
          {
            type: 'PodResizeInProgress',
            ok: true,
            ...(progress.error === '' ? {} : { reason: 'Error', message: progress.error }),
          },
        ]),
  ];
}

// walk pod-ip 5/5: the address is reported as `status.podIP`.
export function podStatus(input: StatusInput): PodStatus {
  const { pod, observed } = input;
  const phase = phaseOf(input);
  const initStatuses = (pod.spec.initContainers ?? []).map((container: AnyContainer) =>
    containerStatus(input, container, true),
  );
  const statuses = (pod.spec.containers ?? []).map((container: AnyContainer) =>
    containerStatus(input, container, false),
  );
  const status: PodStatus = {
    phase,
    ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }),
    conditions: conditionsOf(input, phase, statuses, initStatuses),
    hostIP: input.hostIp,
    hostIPs: [{ ip: input.hostIp }],
    startTime: pod.status?.startTime ?? rfc3339(input.startedAtMs),
    qosClass: pod.status?.qosClass ?? qosClassOf(pod),
    containerStatuses: statuses,
  };
  if (initStatuses.length > 0) status.initContainerStatuses = initStatuses;
  const ephemeral = pod.spec.ephemeralContainers ?? [];
  if (ephemeral.length > 0)
    status.ephemeralContainerStatuses = ephemeral.map((container) => containerStatus(input, container, false, true));
  if (input.podIp !== '') {
    status.podIP = input.podIp;
    status.podIPs = [{ ip: input.podIp }];
  }
  if (input.refused !== undefined) {
    status.reason = input.refused.reason;
    status.message = input.refused.message;
    if (observed.size === 0 && pod.status?.containerStatuses === undefined) {
      delete status.containerStatuses;
      delete status.initContainerStatuses;
    }
  }
  return status;
}
