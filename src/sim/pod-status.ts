/** The status that a kubelet reports for a Pod, from the states of its containers (Kubernetes documentation, "Pod Lifecycle"). Pure. */
import type { Json, KubeObject } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';

export interface ContainerRun {
  name: string;
  image: string;
  isInit: boolean;
  isSidecar: boolean;
  restarts: number;
  state: 'waiting' | 'running' | 'terminated';
  reason: string;
  message?: string;
  startedMs: number;
  finishedMs: number;
  exitCode: number;
  ready: boolean;
  id: string;
  /** How the run before this one ended. */
  last: Json | undefined;
}

export interface PodView { pod: KubeObject; containers: readonly ContainerRun[]; initContainers: readonly ContainerRun[]; ip: string | undefined; hostIp: string; startMs: number; sandbox: boolean }

function containerStatus(run: ContainerRun): Json {
  const terminated = (): Json => ({ exitCode: run.exitCode, reason: run.reason, ...(run.message === undefined ? {} : { message: run.message }), startedAt: timestamp(run.startedMs), finishedAt: timestamp(run.finishedMs), containerID: run.id });
  const state = run.state === 'running' ? { running: { startedAt: timestamp(run.startedMs) } } : run.state === 'terminated' ? { terminated: terminated() } : { waiting: { reason: run.reason, ...(run.message === undefined ? {} : { message: run.message }) } };
  return {
    name: run.name, image: run.image, imageID: run.id === '' ? '' : `sim://${run.image}`, ...(run.id === '' ? {} : { containerID: run.id }), restartCount: run.restarts, ready: run.ready,
    started: run.state === 'running', state, lastState: run.last ?? {},
  };
}

export function terminatedState(run: ContainerRun): Json {
  return { terminated: { exitCode: run.exitCode, reason: run.reason, startedAt: timestamp(run.startedMs), finishedAt: timestamp(run.finishedMs), containerID: run.id } };
}

export function phaseOf({ pod, containers, initContainers }: Pick<PodView, 'pod' | 'containers' | 'initContainers'>): string {
  const policy: string = pod['spec'].restartPolicy ?? 'Always';
  const plainInits = initContainers.filter(({ isSidecar }) => !isSidecar);
  if (plainInits.some(({ state, exitCode }) => state === 'terminated' && exitCode !== 0) && policy === 'Never') return 'Failed';
  if (plainInits.some(({ state, exitCode }) => state !== 'terminated' || exitCode !== 0) && containers.every(({ state }) => state === 'waiting')) return 'Pending';
  const ended = containers.filter(({ state }) => state === 'terminated');
  const leaving = pod.metadata.deletionTimestamp !== undefined;
  if (ended.length === containers.length && (policy !== 'Always' || leaving)) {
    const failed = ended.some(({ exitCode }) => exitCode !== 0);
    if (!failed) return 'Succeeded';
    if (policy === 'Never' || leaving) return 'Failed';
    return 'Running';
  }
  if (containers.some(({ state, restarts }) => state !== 'waiting' || restarts > 0)) return containers.some(({ state, restarts }) => state === 'waiting' && restarts === 0) ? 'Pending' : 'Running';
  return 'Pending';
}

export function podStatus(view: PodView, nowMs: number): Json {
  const { pod, containers, initContainers } = view;
  const before = pod['status'] ?? {};
  const held: Json[] = before.conditions ?? [];
  const phase = phaseOf(view);
  const initialized = initContainers.every(({ state, exitCode, isSidecar }) => (isSidecar ? state === 'running' : state === 'terminated' && exitCode === 0));
  const unready = containers.filter(({ ready }) => !ready).map(({ name }) => name);
  const finished = phase === 'Succeeded' || phase === 'Failed';
  const condition = (type: string, ok: boolean, reason?: string, message?: string): Json => {
    const status = ok ? 'True' : 'False';
    const old = held.find((other) => other.type === type);
    const lastTransitionTime = old?.status === status ? old.lastTransitionTime : timestamp(nowMs);
    return { type, status, lastProbeTime: null, lastTransitionTime, ...(pod.metadata.generation === undefined ? {} : { observedGeneration: pod.metadata.generation }), ...(ok || reason === undefined ? {} : { reason }), ...(ok || message === undefined ? {} : { message }) };
  };
  const why = finished ? 'PodCompleted' : phase === 'Failed' ? 'PodFailed' : 'ContainersNotReady';
  const message = finished ? undefined : `containers with unready status: [${unready.join(' ')}]`;
  const own = [
    condition('PodReadyToStartContainers', view.sandbox && !finished), condition('Initialized', initialized || finished, 'ContainersNotInitialized', 'containers with incomplete status'),
    condition('Ready', unready.length === 0 && !finished && initialized, why, message), condition('ContainersReady', unready.length === 0 && !finished, why, message), condition('PodScheduled', true),
  ];
  return {
    ...(before.qosClass === undefined ? {} : { qosClass: before.qosClass }), ...(before.observedGeneration === undefined ? {} : { observedGeneration: before.observedGeneration }),
    phase, conditions: [...held.filter(({ type }) => !own.some((other) => other.type === type)), ...own], hostIP: view.hostIp, hostIPs: [{ ip: view.hostIp }],
    ...(view.ip === undefined ? {} : { podIP: view.ip, podIPs: [{ ip: view.ip }] }), startTime: timestamp(view.startMs), containerStatuses: containers.map(containerStatus),
    ...(initContainers.length === 0 ? {} : { initContainerStatuses: initContainers.map(containerStatus) }), ...(before.resourceClaimStatuses === undefined ? {} : { resourceClaimStatuses: before.resourceClaimStatuses }),
  };
}
