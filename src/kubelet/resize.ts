/**
 * In-place resize: a running Pod is told other resources, and its containers get them without a new Pod. Three versions
 * of a container's resources are told apart: what the Pod asks for (its specification), what the node has *allocated*
 * to it (the last that fitted), and what the container *has* (its control group). Pure.
 *
 * Rules: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers", and KEP-1287. What is
 * allocated is reported in `allocatedResources`, which is also from where a new kubelet takes it.
 */
import type { Container, ContainerStatus, Pod, ResourceRequirements } from '#api/core.v1.ts';
import type { Resources } from '#engine/engine.ts';
import type { AnyContainer } from './containers.ts';
import { startedContainers } from './containers.ts';
import { amount, cpuPeriodUs } from './qos.ts';

/** Resources by the container's name. */
export type Allocation = ReadonlyMap<string, ResourceRequirements>;

/** Why a Pod does not have what it asks for: it never fits this node, or not now. */
export interface ResizePending {
  reason: 'Infeasible' | 'Deferred';
  message: string;
}

/** Where the resizing of a Pod stands. */
export interface ResizeState {
  pending: ResizePending | undefined;
  /** Allocated, and not given yet; `error`: why not. */
  progress: { error: string } | undefined;
}

const lists = ['requests', 'limits'] as const;

function sameAmounts(a: Record<string, string> = {}, b: Record<string, string> = {}): boolean {
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every((name) => name in b && amount(a[name]) === amount(b[name]))
  );
}

function sameResources(a: ResourceRequirements = {}, b: ResourceRequirements = {}): boolean {
  return a === b || lists.every((list) => sameAmounts(a[list], b[list]));
}

/** What a kubelet starts from: the status, if an earlier one has told there what it had allocated. */
export function firstAllocation(pod: Pod): Allocation {
  const statuses = new Map<string, ContainerStatus>();
  for (const list of [pod.status?.initContainerStatuses, pod.status?.containerStatuses])
    for (const status of list ?? []) statuses.set(status.name, status);
  return new Map(
    startedContainers(pod).map(({ name, resources = {} }) => {
      const { allocatedResources, resources: had } = statuses.get(name) ?? {};
      if (had === undefined) return [name, resources];
      const { requests: _told, ...others } = had;
      return [name, { ...others, ...(allocatedResources === undefined ? {} : { requests: allocatedResources }) }];
    }),
  );
}

export function wantedAllocation(pod: Pod): Allocation {
  return new Map(startedContainers(pod).map(({ name, resources = {} }) => [name, resources]));
}

export function isAllocated(pod: Pod, allocation: Allocation): boolean {
  return startedContainers(pod).every(({ name, resources }) => sameResources(resources, allocation.get(name)));
}

/** The Pod as the node runs it: with what it has been allocated. The same object where that is what it asks for. */
export function allocatedPod(pod: Pod, allocation: Allocation): Pod {
  if (isAllocated(pod, allocation)) return pod;
  const allocate = (container: Container): Container => ({
    ...container,
    resources: allocation.get(container.name) ?? container.resources ?? {},
  });
  const { containers, initContainers } = pod.spec;
  return {
    ...pod,
    spec: {
      ...pod.spec,
      containers: containers.map(allocate),
      ...(initContainers === undefined ? {} : { initContainers: initContainers.map(allocate) }),
    },
  };
}

/** A kubelet that has just started goes on with a resize that its predecessor had begun to give. */
export function firstResizeState(pod: Pod): ResizeState {
  const isInProgress = (pod.status?.conditions ?? []).some(({ type }) => type === 'PodResizeInProgress');
  return { pending: undefined, progress: isInProgress ? { error: '' } : undefined };
}

/** Limits of a control group, each with a value: -1 is none. */
export interface GroupLimits {
  cpuShares: number;
  cpuPeriodUs: number;
  cpuQuotaUs: number;
  memoryLimitBytes: number;
}

export function groupLimits(resources: Resources): GroupLimits {
  return {
    cpuShares: resources.cpuShares ?? 0,
    cpuPeriodUs: resources.cpuPeriodUs ?? cpuPeriodUs,
    cpuQuotaUs: resources.cpuQuotaUs ?? -1,
    memoryLimitBytes: resources.memoryLimitBytes ?? -1,
  };
}

const more = (a: number, b: number): number => (a < 0 || b < 0 ? -1 : Math.max(a, b));

/** What holds both before and after: the group around containers that are about to change. */
export function widerLimits(a: GroupLimits, b: GroupLimits): GroupLimits {
  return {
    cpuShares: Math.max(a.cpuShares, b.cpuShares),
    cpuPeriodUs: b.cpuPeriodUs,
    cpuQuotaUs: more(a.cpuQuotaUs, b.cpuQuotaUs),
    memoryLimitBytes: more(a.memoryLimitBytes, b.memoryLimitBytes),
  };
}

export function sameLimits(a: GroupLimits, b: GroupLimits): boolean {
  return a.cpuShares === b.cpuShares && a.cpuQuotaUs === b.cpuQuotaUs && a.memoryLimitBytes === b.memoryLimitBytes;
}

/** The container asks to be started anew where one of the resources changes that do. */
export function needsRestart({ resizePolicy }: Container, has: GroupLimits, wanted: GroupLimits): boolean {
  const changed = new Set([
    ...(has.cpuShares === wanted.cpuShares && has.cpuQuotaUs === wanted.cpuQuotaUs ? [] : ['cpu']),
    ...(has.memoryLimitBytes === wanted.memoryLimitBytes ? [] : ['memory']),
  ]);
  return (resizePolicy ?? []).some(
    ({ resourceName, restartPolicy }) => restartPolicy === 'RestartContainer' && changed.has(resourceName),
  );
}

/** An amount of cores as the API writes it. */
const cores = (value: number): string => `${Math.round(value * 1000)}m`;

/**
 * What a container has, as its status says it: the allocated amounts, but where the group differs what that says.
 * `wanted`: what the group is to have by the allocation.
 */
export function reportedResources(
  container: AnyContainer,
  { has, wanted }: { has: GroupLimits; wanted: GroupLimits },
): ResourceRequirements {
  const { resources = {} } = container;
  if (sameLimits(has, wanted)) return resources;
  const { requests, limits } = resources;
  const cpuRequest = has.cpuShares === wanted.cpuShares ? {} : { cpu: cores(has.cpuShares / 1024) };
  const cpuLimit =
    has.cpuQuotaUs === wanted.cpuQuotaUs || has.cpuQuotaUs < 0 ? {} : { cpu: cores(has.cpuQuotaUs / has.cpuPeriodUs) };
  const memoryLimit =
    has.memoryLimitBytes === wanted.memoryLimitBytes || has.memoryLimitBytes < 0
      ? {}
      : { memory: String(has.memoryLimitBytes) };
  return {
    ...resources,
    ...(requests === undefined ? {} : { requests: { ...requests, ...cpuRequest } }),
    ...(limits === undefined ? {} : { limits: { ...limits, ...cpuLimit, ...memoryLimit } }),
  };
}

/** `Pod resize started: {…}`: the words of an event. */
export function resizeMessage(what: string, pod: Pod, error = ''): string {
  const named = (list: readonly Container[] | undefined): unknown[] | undefined =>
    list?.map(({ name, resources = {} }) => ({ name, resources }));
  const summary = {
    initContainers: named(pod.spec.initContainers),
    containers: named(pod.spec.containers),
    generation: pod.metadata.generation ?? 0,
    error: error === '' ? undefined : error,
  };
  return `Pod resize ${what}: ${JSON.stringify(summary)}`;
}
