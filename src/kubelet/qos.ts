/**
 * Quality of service, cgroup placement and limits of a Pod.
 * Rules: Kubernetes documentation, "Pod Quality of Service Classes" and "Node-pressure Eviction" (oom_score_adj).
 */
import type { Pod } from '#api/core.v1.ts';
import { type AnyContainer, startedContainers } from './containers.ts';
import { parseQuantity } from '#base/quantity.ts';
import type { Resources } from '#engine/engine.ts';
import { cpuQuotaUsMax, memoryLimitBytesMax, quantitiesRememberedMax } from './limits.ts';

export type QosClass = 'Guaranteed' | 'Burstable' | 'BestEffort';

const amounts = new Map<string, number>();

/** A quantity as a plain number (bytes, cores); undefined when absent. */
export function amount(value: unknown): number | undefined {
  if (value === undefined) return undefined;
  const text = String(value);
  let known = amounts.get(text);
  if (known === undefined) {
    known = Number(parseQuantity(text).nano) / 1e9;
    if (amounts.size >= quantitiesRememberedMax) amounts.clear();
    amounts.set(text, known);
  }
  return known;
}

/** The class as the API server also reports it in `status.qosClass`. */
export function qosClassOf(pod: Pod): QosClass {
  let any = false;
  let guaranteed = true;
  const whole = pod.spec.resources;
  for (const container of whole?.requests !== undefined || whole?.limits !== undefined
    ? [{ resources: whole }]
    : startedContainers(pod)) {
    for (const resource of ['cpu', 'memory']) {
      const request = amount(container.resources?.requests?.[resource]);
      const limit = amount(container.resources?.limits?.[resource]);
      if ((request ?? 0) > 0 || (limit ?? 0) > 0) any = true;
      if (limit === undefined || limit === 0 || (request !== undefined && request !== limit)) guaranteed = false;
    }
  }
  if (!any) return 'BestEffort';
  return guaranteed ? 'Guaranteed' : 'Burstable';
}

/** Below the instance's own cgroup, e.g. `/tiphys_1a2b`. */
export function podCgroupParent(pod: Pod, root: string): string {
  const qos = qosClassOf(pod);
  const uid = pod.metadata.uid;
  return qos === 'Guaranteed' ? `${root}/kubepods/pod${uid}` : `${root}/kubepods/${qos.toLowerCase()}/pod${uid}`;
}

/** CPU shares of a request in cores (1024 a core, at least 2). */
function cpuSharesOf(cores: number): number {
  return Math.max(2, Math.min(262_144, Math.floor(cores * 1024)));
}

export const cpuPeriodUs = 100_000;
const cpuQuotaUsMin = 1_000;

function quotaUsOf(cores: number): number {
  return Math.min(cpuQuotaUsMax, Math.max(cpuQuotaUsMin, Math.floor(cores * cpuPeriodUs)));
}

/** Amounts that no machine has are held to what the kernel and the runtime can be told. */
function limitsOf(cpuRequest: number, cpuLimit: number | undefined, memoryLimit: number | undefined): Resources {
  return {
    cpuShares: cpuSharesOf(cpuRequest),
    ...(cpuLimit === undefined || cpuLimit === 0 ? {} : { cpuPeriodUs, cpuQuotaUs: quotaUsOf(cpuLimit) }),
    ...(memoryLimit === undefined || memoryLimit === 0
      ? {}
      : { memoryLimitBytes: Math.min(memoryLimitBytesMax, Math.ceil(memoryLimit)) }),
  };
}

/**
 * Limits of one container; a limit without a request is also the request. `nodeMemoryBytes` scales the OOM score of
 * burstable Pods.
 */
export function containerResources(pod: Pod, container: AnyContainer, nodeMemoryBytes: number): Resources {
  const cpuLimit = amount(container.resources?.limits?.cpu);
  const memoryLimit = amount(container.resources?.limits?.memory);
  const cpuRequest = amount(container.resources?.requests?.cpu) ?? cpuLimit ?? 0;
  const memoryRequest = amount(container.resources?.requests?.memory) ?? memoryLimit ?? 0;
  return {
    ...limitsOf(cpuRequest, cpuLimit, memoryLimit),
    oomScoreAdj: oomScoreAdjust(pod, memoryRequest, nodeMemoryBytes),
  };
}

function oomScoreAdjust(pod: Pod, memoryRequestBytes: number, nodeMemoryBytes: number): number {
  if (pod.spec.priorityClassName === 'system-node-critical') return -997;
  const qos = qosClassOf(pod);
  if (qos === 'Guaranteed') return -997;
  if (qos === 'BestEffort') return 1000;
  const adjusted = 1000 - Math.floor((1000 * memoryRequestBytes) / nodeMemoryBytes);
  return Math.min(999, Math.max(3, adjusted));
}

/** Limits of the Pod's own cgroup: set only where every container has one. */
export function podResources(pod: Pod): Resources {
  let cpuRequest = 0;
  let cpuLimit: number | undefined = 0;
  let memoryLimit: number | undefined = 0;
  for (const container of pod.spec.containers ?? []) {
    const limit = amount(container.resources?.limits?.cpu);
    const memory = amount(container.resources?.limits?.memory);
    cpuRequest += amount(container.resources?.requests?.cpu) ?? limit ?? 0;
    cpuLimit = cpuLimit === undefined || limit === undefined ? undefined : cpuLimit + limit;
    memoryLimit = memoryLimit === undefined || memory === undefined ? undefined : memoryLimit + memory;
  }
  for (const container of pod.spec.initContainers ?? []) {
    const limit = amount(container.resources?.limits?.cpu);
    const memory = amount(container.resources?.limits?.memory);
    if (container.restartPolicy === 'Always') {
      cpuLimit = cpuLimit === undefined || limit === undefined ? undefined : cpuLimit + limit;
      memoryLimit = memoryLimit === undefined || memory === undefined ? undefined : memoryLimit + memory;
      continue;
    }
    if (limit === undefined) cpuLimit = undefined;
    else if (cpuLimit !== undefined) cpuLimit = Math.max(cpuLimit, limit);
    if (memory === undefined) memoryLimit = undefined;
    else if (memoryLimit !== undefined) memoryLimit = Math.max(memoryLimit, memory);
  }
  // What the Pod says of itself as a whole goes before the sum of its containers.
  const own = pod.spec.resources ?? {};
  // The overhead of its RuntimeClass comes on top.
  const over = (name: string): number => amount(pod.spec.overhead?.[name]) ?? 0;
  const withOverhead = (limit: number | undefined, name: string): number | undefined =>
    limit === undefined || limit === 0 ? limit : limit + over(name);
  return limitsOf(
    (amount(own.requests?.cpu) ?? amount(own.limits?.cpu) ?? cpuRequest) + over('cpu'),
    withOverhead(amount(own.limits?.cpu) ?? cpuLimit, 'cpu'),
    withOverhead(amount(own.limits?.memory) ?? memoryLimit, 'memory'),
  );
}
