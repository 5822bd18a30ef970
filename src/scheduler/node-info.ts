/**
 * What the scheduler knows of a node: what it has, what its Pods (placed or assumed) take, and counts by owner for spreading.
 * Mutable and owned by the cache; `cloneNode` gives preemption a copy to try things on.
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { wholeOf } from '#base/quantity.ts';
import { parseResources, type PodInfo, type Resources, type Taint } from './pod-info.ts';

export interface NodeInfo {
  name: string;
  node: KubeObject;
  labels: Record<string, string>;
  zone: string | undefined;
  unschedulable: boolean;
  taints: readonly Taint[];
  allocatable: Resources;
  podsMax: number;
  cpu: number;
  memory: number;
  ephemeral: number;
  scalars: Map<string, number>;
  scoredCpu: number;
  scoredMemory: number;
  pods: Map<string, PodInfo>;
  /** Pods with terms of their own that others must respect. */
  withAffinity: Set<PodInfo>;
  withRequiredAntiAffinity: Set<PodInfo>;
  ports: Map<string, number>;
  byOwner: Map<string, number>;
  /** Sizes of images on the node, by name. */
  images: ReadonlyMap<string, number>;
}

const noTaints: readonly Taint[] = Object.freeze([]);

function imagesOf(node: KubeObject): ReadonlyMap<string, number> {
  const images = new Map<string, number>();
  for (const { names, sizeBytes } of (node['status']?.images ?? []) as Json[]) for (const name of names ?? []) images.set(name, sizeBytes ?? 0);
  return images;
}

function described(node: KubeObject): Pick<NodeInfo, 'node' | 'labels' | 'zone' | 'unschedulable' | 'taints' | 'allocatable' | 'podsMax' | 'images'> {
  const labels = node.metadata.labels ?? {};
  const allocatable = node['status']?.allocatable ?? {};
  return {
    node, labels, zone: labels['topology.kubernetes.io/zone'], unschedulable: node['spec']?.unschedulable === true,
    taints: node['spec']?.taints ?? noTaints, allocatable: parseResources(allocatable), podsMax: wholeOf(allocatable.pods ?? '0'), images: imagesOf(node),
  };
}

export function nodeInfoOf(node: KubeObject): NodeInfo {
  return {
    name: node.metadata.name!, ...described(node), cpu: 0, memory: 0, ephemeral: 0, scalars: new Map(), scoredCpu: 0, scoredMemory: 0,
    pods: new Map(), withAffinity: new Set(), withRequiredAntiAffinity: new Set(), ports: new Map(), byOwner: new Map(),
  };
}

/** Takes over a new version of the node; its Pods stay. */
export function describeNode(info: NodeInfo, node: KubeObject): void {
  Object.assign(info, described(node));
}

export function portKey(protocol: string, ip: string, port: number): string {
  return `${protocol}/${ip}/${port}`;
}

function count(info: NodeInfo, pod: PodInfo, sign: 1 | -1): void {
  info.cpu += sign * pod.requests.cpu;
  info.memory += sign * pod.requests.memory;
  info.ephemeral += sign * pod.requests.ephemeral;
  info.scoredCpu += sign * pod.scoredCpu;
  info.scoredMemory += sign * pod.scoredMemory;
  if (pod.requests.scalars !== undefined) for (const [name, amount] of pod.requests.scalars) info.scalars.set(name, (info.scalars.get(name) ?? 0) + sign * amount);
  for (const { protocol, ip, port } of pod.ports) bump(info.ports, portKey(protocol, ip, port), sign);
  if (pod.owner !== undefined) bump(info.byOwner, pod.owner, sign);
}

function bump(map: Map<string, number>, key: string, by: number): void {
  const next = (map.get(key) ?? 0) + by;
  if (next === 0) map.delete(key);
  else map.set(key, next);
}

export function addPod(info: NodeInfo, pod: PodInfo): void {
  if (info.pods.has(pod.key)) removePod(info, pod.key);
  info.pods.set(pod.key, pod);
  count(info, pod, 1);
  if (pod.affinity.length + pod.antiAffinity.length + pod.preferredAffinity.length + pod.preferredAntiAffinity.length > 0) info.withAffinity.add(pod);
  if (pod.antiAffinity.length > 0) info.withRequiredAntiAffinity.add(pod);
}

export function removePod(info: NodeInfo, key: string): PodInfo | undefined {
  const pod = info.pods.get(key);
  if (pod === undefined) return undefined;
  info.pods.delete(key);
  count(info, pod, -1);
  info.withAffinity.delete(pod);
  info.withRequiredAntiAffinity.delete(pod);
  return pod;
}

export function cloneNode(info: NodeInfo): NodeInfo {
  return {
    ...info, scalars: new Map(info.scalars), pods: new Map(info.pods), withAffinity: new Set(info.withAffinity),
    withRequiredAntiAffinity: new Set(info.withRequiredAntiAffinity), ports: new Map(info.ports), byOwner: new Map(info.byOwner),
  };
}
