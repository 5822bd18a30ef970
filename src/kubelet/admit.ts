/**
 * May this Pod run here at all? The scheduler has asked before, but a Pod can name its node itself, two schedulers can
 * race, and the node may have run short since. Reasons and messages are the kubelet's, in the order in which it looks:
 * `Evicted` while the
 * node is under
 * pressure, `SysctlForbidden`, `UnexpectedAdmissionError` where devices are missing, `OutOfpods`, `OutOfcpu`,
 * `OutOfmemory`, `NodeAffinity`, `NodePorts`,
 * `TaintToleration`. Pure.
 * Rules: Kubernetes documentation, "Resource Management", "Node-pressure Eviction / Node conditions", "Device Plugins",
 * "Taints and Tolerations".
 */
import type { Pod, PodSpec, Taint, Toleration } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { matchesLabels, requirementsOf } from '#base/selectors.ts';
import { isSafeSysctl, sysctlNamespace } from '#base/sysctls.ts';
import { criticalPriorityMin } from './limits.ts';
import type { Pressure } from './node-status.ts';
import { amount, qosClassOf } from './qos.ts';
import type { ResizePending } from './resize.ts';
import type { Refusal } from './status.ts';
import { unsupportedPart } from './unsupported.ts';

/** Amounts by resource: cores, bytes, counts. */
export type Demand = ReadonlyMap<string, number>;

/** What a Pod takes of its node, or several together. */
export interface PodDemand {
  pods: number;
  resources: Demand;
  hostPorts: readonly string[];
}

/**
 * What the node has to give and what it is. Resources without an entry are somebody else's to count; labels and taints
 * that are not known are not asked for.
 */
export interface NodeRoom {
  name: string;
  labels: Readonly<Record<string, string>> | undefined;
  taints: readonly Taint[] | undefined;
  pods: number;
  allocatable: Demand;
  pressure: Pressure;
  /** False: no AppArmor on this host, and a Pod that names a profile does not run here. */ appArmor?: boolean;
}

/** What is asked for, or what is the most that may be used. */
type Bound = 'requests' | 'limits';

/** A limit alone is a request as well. */
function amountsOf({ resources }: AnyContainer, bound: Bound): Map<string, number> {
  const amounts = new Map<string, number>();
  for (const list of bound === 'limits' ? [resources?.limits] : [resources?.limits, resources?.requests])
    for (const [name, value] of Object.entries(list ?? {})) amounts.set(name, amount(value) ?? 0);
  return amounts;
}

function merge(into: Map<string, number>, from: Demand, of: (a: number, b: number) => number): void {
  for (const [name, value] of from) into.set(name, of(into.get(name) ?? 0, value));
}

const plus = (a: number, b: number): number => a + b;

/**
 * Requests of a Pod, or its limits: containers and sidecars together, or an init container beside the sidecars before
 * it where that is more.
 */
export function demandOf(pod: Pod, bound: Bound = 'requests'): Demand {
  const running = new Map<string, number>();
  for (const container of pod.spec.containers ?? []) merge(running, amountsOf(container, bound), plus);
  if (pod.spec.initContainers !== undefined) {
    const sidecars = new Map<string, number>();
    const starting = new Map<string, number>();
    for (const container of pod.spec.initContainers) {
      const amounts = amountsOf(container, bound);
      if (container.restartPolicy === 'Always') {
        merge(running, amounts, plus);
        merge(sidecars, amounts, plus);
        merge(starting, sidecars, Math.max);
        continue;
      }
      merge(amounts, sidecars, plus);
      merge(starting, amounts, Math.max);
    }
    merge(running, starting, Math.max);
  }
  for (const [name, value] of Object.entries(pod.spec.resources?.[bound] ?? {})) running.set(name, amount(value) ?? 0);
  for (const [name, value] of Object.entries(pod.spec.overhead ?? {})) {
    // What has no limit gets none by it.
    if (bound === 'limits' && !running.has(name)) continue;
    running.set(name, (running.get(name) ?? 0) + (amount(value) ?? 0));
  }
  return running;
}

function hostPortsOf(pod: Pod): string[] {
  const ports: string[] = [];
  for (const list of [pod.spec.containers, pod.spec.initContainers]) {
    for (const container of list ?? [])
      for (const port of container.ports ?? [])
        if (port.hostPort) ports.push(`${port.protocol ?? 'TCP'}/${port.hostIP ?? '0.0.0.0'}/${port.hostPort}`);
  }
  return ports;
}

export function podDemandOf(pod: Pod): PodDemand {
  return { pods: 1, resources: demandOf(pod), hostPorts: hostPortsOf(pod) };
}

export function sumOfDemands(demands: readonly PodDemand[]): PodDemand {
  const resources = new Map<string, number>();
  const hostPorts: string[] = [];
  let pods = 0;
  for (const demand of demands) {
    pods += demand.pods;
    merge(resources, demand.resources, plus);
    hostPorts.push(...demand.hostPorts);
  }
  return { pods, resources, hostPorts };
}

/** System-critical Pods run whatever the node is short of. */
export function isCritical(pod: Pod): boolean {
  return (
    (pod.spec.priority ?? 0) >= criticalPriorityMin ||
    pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined
  );
}

function matchesNode(pod: Pod, { labels, name }: NodeRoom): boolean {
  if (labels === undefined) return true;
  const selector: Record<string, string> = pod.spec.nodeSelector ?? {};
  for (const key in selector) if (labels[key] !== selector[key]) return false;
  const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return (
    terms === undefined ||
    terms.some(
      ({ matchExpressions, matchFields }) =>
        (matchExpressions?.length ?? 0) + (matchFields?.length ?? 0) > 0 &&
        matchesLabels(requirementsOf(matchExpressions), labels) &&
        matchesLabels(requirementsOf(matchFields), { 'metadata.name': name }),
    )
  );
}

/** Of a toleration and a taint; the seconds for which it is tolerated do not matter here. */
function tolerates({ key, operator, value, effect }: Toleration, taint: Taint): boolean {
  if (effect !== undefined && effect !== '' && effect !== taint.effect) return false;
  if (key === undefined || key === '') return operator === 'Exists';
  return key === taint.key && (operator === 'Exists' || (value ?? '') === (taint.value ?? ''));
}

function isTolerated(pod: Pod, taint: Taint): boolean {
  return (pod.spec.tolerations ?? []).some((toleration) => tolerates(toleration, taint));
}

function underPressure(pod: Pod, pressure: Pressure): Refusal | undefined {
  if ((!pressure.disk && !pressure.memory && !pressure.pid) || isCritical(pod)) return undefined;
  const isSpared =
    !pressure.disk &&
    !pressure.pid &&
    (qosClassOf(pod) !== 'BestEffort' ||
      isTolerated(pod, { key: 'node.kubernetes.io/memory-pressure', effect: 'NoSchedule' }));
  if (isSpared) return undefined;
  const conditions = [
    ...(pressure.memory ? ['MemoryPressure'] : []),
    ...(pressure.disk ? ['DiskPressure'] : []),
    ...(pressure.pid ? ['PIDPressure'] : []),
  ];
  return rejected('Evicted', `The node had condition: [${conditions.join(' ')}]. `);
}

function withoutAppArmor(pod: Pod, room: NodeRoom): Refusal | undefined {
  if (room.appArmor !== false) return undefined;
  const holders: Pick<PodSpec, 'securityContext'>[] = [
    pod.spec,
    ...(pod.spec.containers ?? []),
    ...(pod.spec.initContainers ?? []),
  ];
  const asked = holders.some(
    (holder) => (holder.securityContext?.appArmorProfile?.type ?? 'Unconfined') !== 'Unconfined',
  );
  return asked ? rejected('AppArmor', 'Cannot enforce AppArmor: AppArmor is not enabled on the host') : undefined;
}

/** A Pod sets parameters of its own namespaces that are safe; every other one would reach beyond it. */
function forbiddenSysctl(pod: Pod): Refusal | undefined {
  for (const { name } of pod.spec.securityContext?.sysctls ?? []) {
    const fail = (why: string): Refusal => rejected('SysctlForbidden', `forbidden sysctl: "${name}" ${why}`);
    if (!isSafeSysctl(name)) return fail('not allowlisted');
    const namespace = sysctlNamespace(name);
    if (namespace === 'network' && pod.spec.hostNetwork === true) return fail('not allowed with host net enabled');
    if (namespace === 'ipc' && pod.spec.hostIPC === true) return fail('not allowed with host ipc enabled');
  }
  return undefined;
}

function rejected(reason: string, message: string): Refusal {
  return { reason, message: `Pod was rejected: ${message}` };
}

/** Before any other reason why it does not fit: no other node of this kind would do either. */
function ofOtherSystem(pod: Pod): Refusal | undefined {
  const wanted: unknown = pod.spec.nodeSelector?.['kubernetes.io/os'];
  if (wanted !== undefined && wanted !== 'linux')
    return rejected(
      'PodOSSelectorNodeLabelDoesNotMatch',
      "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
    );
  return pod.spec.os === undefined || pod.spec.os.name === 'linux'
    ? undefined
    : rejected('PodOSNotSupported', "Failed to admit pod as the OS field doesn't match node OS");
}

/** Resources of device plugins; they are allotted before all others are counted. */
function isDevice(resource: string): boolean {
  return resource.includes('/') && !resource.includes('kubernetes.io/');
}

function shortOf(own: PodDemand, taken: PodDemand, room: NodeRoom): Refusal | undefined {
  const outOf = (resource: string, want: number, have: number, capacity: number): Refusal => {
    const scale = resource === 'cpu' ? 1000 : 1;
    return rejected(
      `OutOf${resource}`,
      `Node didn't have enough resource: ${resource}, requested: ${Math.round(want * scale)}, used: ${Math.round(have * scale)}, capacity: ${Math.round(capacity * scale)}`,
    );
  };
  let first: Refusal | undefined = taken.pods >= room.pods ? outOf('pods', 1, taken.pods, room.pods) : undefined;
  for (const [resource, want] of own.resources) {
    const capacity = room.allocatable.get(resource);
    if (want === 0 || capacity === undefined) continue;
    const have = taken.resources.get(resource) ?? 0;
    // Sums of decimal fractions may be off in the last place.
    if (have + want <= capacity + 1e-9) continue;
    if (isDevice(resource))
      return rejected(
        'UnexpectedAdmissionError',
        `Allocate failed due to requested number of devices unavailable for ${resource}. Requested: ${want}, Available: ${Math.max(0, capacity - have)}, which is unexpected`,
      );
    first ??= outOf(resource, want, have, capacity);
  }
  return first;
}

/** `taken`: by the Pods that hold their place on the node; those that have ended do not. */
export function admitPod(pod: Pod, own: PodDemand, taken: PodDemand, room: NodeRoom): Refusal | undefined {
  const refused =
    underPressure(pod, room.pressure) ??
    unsupportedPart(pod) ??
    forbiddenSysctl(pod) ??
    withoutAppArmor(pod, room) ??
    ofOtherSystem(pod) ??
    shortOf(own, taken, room);
  if (refused !== undefined) return refused;
  if (!matchesNode(pod, room))
    return rejected('NodeAffinity', "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector");
  if (own.hostPorts.length > 0) {
    const ports = new Set(taken.hostPorts);
    if (own.hostPorts.some((port) => ports.has(port)))
      return rejected(
        'NodePorts',
        "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
      );
  }
  const untolerated = (room.taints ?? []).some((taint) => taint.effect === 'NoExecute' && !isTolerated(pod, taint));
  return untolerated
    ? rejected('TaintToleration', "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate")
    : undefined;
}

/**
 * Why a Pod that is here cannot have what it asks for now; `taken` by all others. Of processor and memory alone:
 * nothing else is resized.
 */
export function resizeRefusal(wanted: PodDemand, taken: PodDemand, allocatable: Demand): ResizePending | undefined {
  let deferred: ResizePending | undefined;
  for (const resource of ['cpu', 'memory']) {
    const want = wanted.resources.get(resource) ?? 0;
    const capacity = allocatable.get(resource);
    if (want === 0 || capacity === undefined) continue;
    const count = (each: number): number => Math.round(each * (resource === 'cpu' ? 1000 : 1));
    const requested = count(want);
    const used = count(taken.resources.get(resource) ?? 0);
    const most = count(capacity);
    if (requested > most)
      return {
        reason: 'Infeasible',
        message: `Node didn't have enough capacity: ${resource}, requested: ${requested}, capacity: ${most}`,
      };
    if (used + requested > most)
      deferred ??= {
        reason: 'Deferred',
        message: `Node didn't have enough resource: ${resource}, requested: ${requested}, used: ${used}, capacity: ${most}`,
      };
  }
  return deferred;
}
