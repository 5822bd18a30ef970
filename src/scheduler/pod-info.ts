/**
 * What the scheduler needs of a Pod, parsed once: requests, selectors, tolerations, ports, spreading, claims. Pure.
 * Spec: Kubernetes documentation, "Resource Management", "Assigning Pods to Nodes", "Sidecar Containers" (effective
 * requests).
 */
import type * as api from '#api/core.v1.ts';
import type {
  Pod,
  PodSpec,
  PodAffinityTerm,
  WeightedPodAffinityTerm,
  TopologySpreadConstraint,
  Toleration,
} from '#api/core.v1.ts';
import { milliOf, wholeOf } from '#base/quantity.ts';
import { type LabelSelector, requirementsOf, selectorOf } from '#base/selectors.ts';

/** Amounts by resource: CPU in thousandths, all else in whole units. */
export interface Resources {
  cpu: number;
  memory: number;
  ephemeral: number;
  scalars: ReadonlyMap<string, number> | undefined;
}

export interface HostPort {
  protocol: string;
  ip: string;
  port: number;
}

/** One term of Pod (anti-)affinity, ready to match. */
export interface AffinityTerm {
  topologyKey: string;
  selector: LabelSelector | undefined;
  namespaces: ReadonlySet<string>;
  namespaceSelector: LabelSelector | undefined;
  weight: number;
}

export interface SpreadConstraint {
  topologyKey: string;
  maxSkew: number;
  hard: boolean;
  selector: LabelSelector | undefined;
  minDomains: number;
  honorAffinity: boolean;
  honorTaints: boolean;
}

export interface NodeSelectorTerm {
  labels: LabelSelector;
  fields: LabelSelector;
}

export interface PodInfo {
  pod: Pod;
  key: string;
  uid: string;
  namespace: string;
  labels: Record<string, string>;
  priority: number;
  requests: Resources;
  /** With defaults where nothing is requested, so that scores see such Pods too. */
  scoredCpu: number;
  scoredMemory: number;
  nodeName: string | undefined;
  nodeSelector: LabelSelector;
  /** Required node affinity; undefined: none. An empty list matches nothing. */
  nodeAffinity: readonly NodeSelectorTerm[] | undefined;
  /** The only nodes that required affinity allows by name (Pods of a DaemonSet); undefined: any. */
  pinned: readonly string[] | undefined;
  preferredNodes: readonly { weight: number; term: NodeSelectorTerm }[];
  tolerations: readonly Toleration[];
  ports: readonly HostPort[];
  affinity: readonly AffinityTerm[];
  antiAffinity: readonly AffinityTerm[];
  preferredAffinity: readonly AffinityTerm[];
  preferredAntiAffinity: readonly AffinityTerm[];
  spread: readonly SpreadConstraint[];
  claims: readonly string[];
  images: readonly string[];
  /** UID of the controlling owner: Pods of one owner are spread by default. */
  owner: string | undefined;
}

const noResources: Resources = Object.freeze({ cpu: 0, memory: 0, ephemeral: 0, scalars: undefined });
const scoredCpuDefault = 100;
const scoredMemoryDefault = 200 * 1024 * 1024;

export function parseResources(list: Record<string, string> | undefined): Resources {
  if (list === undefined) return noResources;
  const out: { cpu: number; memory: number; ephemeral: number; scalars: Map<string, number> | undefined } = {
    cpu: 0,
    memory: 0,
    ephemeral: 0,
    scalars: undefined,
  };
  for (const name in list) {
    if (name === 'cpu') out.cpu = milliOf(list[name]);
    else if (name === 'memory') out.memory = wholeOf(list[name]);
    else if (name === 'ephemeral-storage') out.ephemeral = wholeOf(list[name]);
    else if (name !== 'pods') (out.scalars ??= new Map()).set(name, wholeOf(list[name]));
  }
  return out;
}

function combine(a: Resources, b: Resources, of: (x: number, y: number) => number): Resources {
  let scalars = a.scalars as Map<string, number> | undefined;
  if (b.scalars !== undefined) {
    scalars = new Map(a.scalars);
    for (const [name, amount] of b.scalars) scalars.set(name, of(scalars.get(name) ?? 0, amount));
  }
  return { cpu: of(a.cpu, b.cpu), memory: of(a.memory, b.memory), ephemeral: of(a.ephemeral, b.ephemeral), scalars };
}

function addResources(a: Resources, b: Resources): Resources {
  return combine(a, b, (x, y) => x + y);
}

/**
 * The most that a Pod needs at any one time: containers and sidecars together, or an init container beside the sidecars
 * before it.
 */
export function podRequests(spec: PodSpec): Resources {
  const { containers } = spec;
  const [only] = containers;
  let running = noResources;
  if (only !== undefined && containers.length === 1 && spec.initContainers === undefined)
    running = parseResources(only.resources?.requests);
  else
    for (const container of containers) running = addResources(running, parseResources(container.resources?.requests));
  let sidecars = noResources;
  let starting = noResources;
  for (const container of spec.initContainers ?? []) {
    const requests = parseResources(container.resources?.requests);
    if (container.restartPolicy === 'Always') {
      running = addResources(running, requests);
      sidecars = addResources(sidecars, requests);
      starting = combine(starting, sidecars, Math.max);
    } else {
      starting = combine(starting, addResources(sidecars, requests), Math.max);
    }
  }
  let total = starting === noResources ? running : combine(running, starting, Math.max);
  const whole = spec.resources?.requests;
  if (whole !== undefined) {
    const stated = parseResources(whole);
    total = {
      ...total,
      ...(whole['cpu'] === undefined ? {} : { cpu: stated.cpu }),
      ...(whole['memory'] === undefined ? {} : { memory: stated.memory }),
    };
  }
  return spec.overhead === undefined ? total : addResources(total, parseResources(spec.overhead));
}

function affinityTerm(
  term: PodAffinityTerm,
  namespace: string,
  weight: number,
  labels: Record<string, string>,
): AffinityTerm {
  const namespaces: string[] = term.namespaces ?? [];
  const namespaceSelector = selectorOf(term.namespaceSelector);
  let selector = selectorOf(term.labelSelector);
  if (selector !== undefined) {
    for (const key of term.matchLabelKeys ?? [])
      if (labels[key] !== undefined) selector = [...selector, { key, operator: 'In', values: [labels[key]] }];
    for (const key of term.mismatchLabelKeys ?? [])
      if (labels[key] !== undefined) selector = [...selector, { key, operator: 'NotIn', values: [labels[key]] }];
  }
  return {
    topologyKey: term.topologyKey,
    selector,
    namespaces: new Set(namespaces.length === 0 && namespaceSelector === undefined ? [namespace] : namespaces),
    namespaceSelector,
    weight,
  };
}

export function nodeSelectorTerm(term: api.NodeSelectorTerm): NodeSelectorTerm {
  return { labels: requirementsOf(term.matchExpressions), fields: requirementsOf(term.matchFields) };
}

function spreadConstraint(constraint: TopologySpreadConstraint, labels: Record<string, string>): SpreadConstraint {
  let selector = selectorOf(constraint.labelSelector);
  for (const key of constraint.matchLabelKeys ?? [])
    if (selector !== undefined && labels[key] !== undefined)
      selector = [...selector, { key, operator: 'In', values: [labels[key]] }];
  return {
    topologyKey: constraint.topologyKey,
    maxSkew: constraint.maxSkew,
    hard: constraint.whenUnsatisfiable !== 'ScheduleAnyway',
    selector,
    minDomains: constraint.minDomains ?? 1,
    honorAffinity: constraint.nodeAffinityPolicy !== 'Ignore',
    honorTaints: constraint.nodeTaintsPolicy === 'Honor',
  };
}

const none: readonly never[] = Object.freeze([]);

function hostPorts(spec: PodSpec): readonly HostPort[] {
  let ports: HostPort[] | undefined;
  for (const container of spec.containers) {
    if (container.ports === undefined) continue;
    for (const { hostPort, protocol, hostIP } of container.ports) {
      if (hostPort !== undefined && hostPort > 0)
        (ports ??= []).push({
          protocol: protocol ?? 'TCP',
          ip: hostIP === undefined || hostIP === '' ? '0.0.0.0' : hostIP,
          port: hostPort,
        });
    }
  }
  return ports ?? none;
}

function claimNames(pod: Pod): readonly string[] {
  let names: string[] | undefined;
  for (const volume of pod.spec.volumes ?? none) {
    if (volume.persistentVolumeClaim !== undefined) (names ??= []).push(volume.persistentVolumeClaim.claimName);
    else if (volume.ephemeral !== undefined) (names ??= []).push(`${pod.metadata.name}-${volume.name}`);
  }
  return names ?? none;
}

function pinnedNodes(terms: readonly NodeSelectorTerm[] | undefined): readonly string[] | undefined {
  if (terms === undefined) return undefined;
  const names: string[] = [];
  for (const { fields } of terms) {
    const byName = fields.find(({ key, operator }) => key === 'metadata.name' && operator === 'In');
    if (byName === undefined) return undefined;
    names.push(...byName.values);
  }
  return names;
}

export function podInfoOf(pod: Pod): PodInfo {
  const { spec, metadata } = pod;
  const labels = metadata.labels ?? {};
  const namespace = metadata.namespace;
  const requests = podRequests(spec);
  const { nodeAffinity, podAffinity, podAntiAffinity } = spec.affinity ?? {};
  const terms = (list: PodAffinityTerm[] | undefined): readonly AffinityTerm[] =>
    list?.map((term) => affinityTerm(term, namespace, 0, labels)) ?? none;
  const weighted = (list: WeightedPodAffinityTerm[] | undefined): readonly AffinityTerm[] =>
    list?.map(({ weight, podAffinityTerm }) => affinityTerm(podAffinityTerm, namespace, weight, labels)) ?? none;
  const required: readonly NodeSelectorTerm[] | undefined =
    nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms.map(nodeSelectorTerm);
  return {
    pod,
    key: `${namespace}/${metadata.name}`,
    uid: metadata.uid ?? '',
    namespace,
    labels,
    priority: spec.priority ?? 0,
    requests,
    scoredCpu: requests.cpu === 0 ? scoredCpuDefault : requests.cpu,
    scoredMemory: requests.memory === 0 ? scoredMemoryDefault : requests.memory,
    nodeName: spec.nodeName,
    nodeSelector:
      spec.nodeSelector === undefined
        ? none
        : Object.entries(spec.nodeSelector).map(([key, value]) => ({
            key,
            operator: 'In',
            values: [value],
          })),
    nodeAffinity: required,
    pinned: pinnedNodes(required),
    preferredNodes:
      nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution?.map(({ weight, preference }) => ({
        weight,
        term: nodeSelectorTerm(preference),
      })) ?? none,
    tolerations: spec.tolerations ?? none,
    ports: hostPorts(spec),
    affinity: terms(podAffinity?.requiredDuringSchedulingIgnoredDuringExecution),
    antiAffinity: terms(podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution),
    preferredAffinity: weighted(podAffinity?.preferredDuringSchedulingIgnoredDuringExecution),
    preferredAntiAffinity: weighted(podAntiAffinity?.preferredDuringSchedulingIgnoredDuringExecution),
    spread: spec.topologySpreadConstraints?.map((constraint) => spreadConstraint(constraint, labels)) ?? none,
    claims: claimNames(pod),
    images: spec.containers.map(({ image }) => image ?? ''),
    owner: metadata.ownerReferences?.find(({ controller }) => controller === true)?.uid,
  };
}
