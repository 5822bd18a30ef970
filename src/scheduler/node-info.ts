/**
 * What the scheduler knows of a node: what it has and what its Pods (placed or assumed) take.
 * Mutable and owned by the cache; `cloneNode` gives preemption a copy to try things on.
 */
import type { Node, Taint } from '#api/core.v1.ts';
import { wholeOf } from '#base/quantity.ts';
import { parseResources, type PodInfo } from './pod-info.ts';

/** Amounts of a node, by their place in its row. */
const amount = {
  cpu: 0,
  memory: 1,
  ephemeral: 2,
  scoredCpu: 3,
  scoredMemory: 4,
  pods: 5,
  cpuMax: 6,
  memoryMax: 7,
  ephemeralMax: 8,
  podsMax: 9,
} as const;
const rowLength = 10;

/** A row of amounts for each node, side by side in memory: for each Pod the search reads those of hundreds of nodes. */
export class NodeTable {
  values = new Float64Array(rowLength);
  readonly #free: number[] = [];
  #rows = 0;

  /** The number of a row of zeros. */
  take(): number {
    const row = this.#free.pop() ?? this.#rows++;
    if (this.#rows * rowLength > this.values.length) {
      const grown = new Float64Array(2 * this.values.length);
      grown.set(this.values);
      this.values = grown;
    }
    return row;
  }

  release(row: number): void {
    this.values.fill(0, row * rowLength, (row + 1) * rowLength);
    this.#free.push(row);
  }
}

const noTaints: readonly Taint[] = Object.freeze([]);
const noImages: ReadonlyMap<string, number> = new Map();

function imagesOf(node: Node): ReadonlyMap<string, number> {
  const listed = node.status?.images ?? [];
  if (listed.length === 0) return noImages;
  const images = new Map<string, number>();
  for (const { names, sizeBytes } of listed) for (const name of names ?? []) images.set(name, sizeBytes ?? 0);
  return images;
}

export class NodeInfo {
  readonly #table: NodeTable;
  readonly #start: number;
  unschedulable = false;
  taints: readonly Taint[] = noTaints;
  zone: string | undefined;
  /** Sizes of images on the node, by name. */
  images: ReadonlyMap<string, number> = noImages;
  readonly name: string;
  /** Its place in the table: small, and no other node's at the same time. */
  readonly row: number;
  node!: Node;
  labels!: Record<string, string>;
  allocatableScalars: ReadonlyMap<string, number> | undefined;
  scalars = new Map<string, number>();
  pods = new Map<string, PodInfo>();
  /** Pods with terms of their own that others must respect. */
  withAffinity = new Set<PodInfo>();
  withRequiredAntiAffinity = new Set<PodInfo>();
  ports = new Map<string, number>();

  constructor(node: Node, table: NodeTable) {
    this.#table = table;
    this.row = table.take();
    this.#start = this.row * rowLength;
    this.name = node.metadata.name!;
    this.describe(node);
  }

  /** Takes over a version of the node; its Pods stay. */
  describe(node: Node): void {
    const allocatable = node.status?.allocatable ?? {};
    const has = parseResources(allocatable);
    this.node = node;
    this.labels = node.metadata.labels ?? {};
    this.zone = this.labels['topology.kubernetes.io/zone'];
    this.unschedulable = node.spec?.unschedulable === true;
    this.taints = node.spec?.taints ?? noTaints;
    this.images = imagesOf(node);
    this.allocatableScalars = has.scalars;
    const { values } = this.#table;
    values[this.#start + amount.cpuMax] = has.cpu;
    values[this.#start + amount.memoryMax] = has.memory;
    values[this.#start + amount.ephemeralMax] = has.ephemeral;
    values[this.#start + amount.podsMax] = wholeOf(allocatable.pods ?? '0');
  }

  // Requested by its Pods: CPU in thousandths, bytes, a count.
  get cpu(): number {
    return this.#table.values[this.#start + amount.cpu]!;
  }
  get memory(): number {
    return this.#table.values[this.#start + amount.memory]!;
  }
  get ephemeral(): number {
    return this.#table.values[this.#start + amount.ephemeral]!;
  }
  get podCount(): number {
    return this.#table.values[this.#start + amount.pods]!;
  }
  /** With defaults for Pods that request nothing. */
  get scoredCpu(): number {
    return this.#table.values[this.#start + amount.scoredCpu]!;
  }
  get scoredMemory(): number {
    return this.#table.values[this.#start + amount.scoredMemory]!;
  }
  // Allocatable.
  get cpuMax(): number {
    return this.#table.values[this.#start + amount.cpuMax]!;
  }
  get memoryMax(): number {
    return this.#table.values[this.#start + amount.memoryMax]!;
  }
  get ephemeralMax(): number {
    return this.#table.values[this.#start + amount.ephemeralMax]!;
  }
  get podsMax(): number {
    return this.#table.values[this.#start + amount.podsMax]!;
  }

  count(pod: PodInfo, sign: 1 | -1): void {
    const { values } = this.#table;
    values[this.#start + amount.cpu]! += sign * pod.requests.cpu;
    values[this.#start + amount.memory]! += sign * pod.requests.memory;
    values[this.#start + amount.ephemeral]! += sign * pod.requests.ephemeral;
    values[this.#start + amount.scoredCpu]! += sign * pod.scoredCpu;
    values[this.#start + amount.scoredMemory]! += sign * pod.scoredMemory;
    values[this.#start + amount.pods]! += sign;
    if (pod.requests.scalars !== undefined)
      for (const [name, wanted] of pod.requests.scalars)
        this.scalars.set(name, (this.scalars.get(name) ?? 0) + sign * wanted);
    for (const { protocol, ip, port } of pod.ports) bump(this.ports, portKey(protocol, ip, port), sign);
  }
}

export function portKey(protocol: string, ip: string, port: number): string {
  return `${protocol}/${ip}/${port}`;
}

/** Adds to a count; those that come to nothing are gone. */
export function bump<K>(map: Map<K, number>, key: K, by: number): void {
  const next = (map.get(key) ?? 0) + by;
  if (next === 0) map.delete(key);
  else map.set(key, next);
}

export function hasTerms(pod: PodInfo): boolean {
  return (
    pod.affinity.length + pod.antiAffinity.length + pod.preferredAffinity.length + pod.preferredAntiAffinity.length > 0
  );
}

export function addPod(info: NodeInfo, pod: PodInfo): void {
  if (info.pods.has(pod.key)) removePod(info, pod.key);
  info.pods.set(pod.key, pod);
  info.count(pod, 1);
  if (hasTerms(pod)) info.withAffinity.add(pod);
  if (pod.antiAffinity.length > 0) info.withRequiredAntiAffinity.add(pod);
}

export function removePod(info: NodeInfo, key: string): PodInfo | undefined {
  const pod = info.pods.get(key);
  if (pod === undefined) return undefined;
  info.pods.delete(key);
  info.count(pod, -1);
  info.withAffinity.delete(pod);
  info.withRequiredAntiAffinity.delete(pod);
  return pod;
}

export function cloneNode(info: NodeInfo): NodeInfo {
  const clone = new NodeInfo(info.node, new NodeTable());
  for (const pod of info.pods.values()) addPod(clone, pod);
  return clone;
}
