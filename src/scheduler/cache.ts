/**
 * The scheduler's picture of the cluster, kept by informer events: nodes, Pods placed on them, and Pods assumed there
 * whose binding has not been seen yet. It is the `Snapshot` that plans read; plans run without a pause, so it needs no
 * copies.
 */
import type { Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import type { Informer } from '#client/informer.ts';
import { addPod, bump, hasTerms, NodeInfo, NodeTable, removePod } from './node-info.ts';
import { type PodInfo, podInfoOf } from './pod-info.ts';
import type { Snapshot, VolumeView } from './snapshot.ts';

/** The copies of kinds that it reads. */
export interface VolumeSources {
  claims: Pick<Informer<PersistentVolumeClaim>, 'get'>;
  volumes: Pick<Informer<PersistentVolume>, 'get' | 'by'> & {
    addIndex(name: string, of: (volume: PersistentVolume) => string): unknown;
  };
  classes: Pick<Informer<StorageClass>, 'get'>;
  namespaces: Pick<Informer<Namespace>, 'get'>;
}

const noLabels: Record<string, string> = Object.freeze({});

export class SchedulerCache implements Snapshot {
  nodes: NodeInfo[] = [];
  readonly byName = new Map<string, NodeInfo>();
  readonly nominated = new Map<string, PodInfo[]>();
  readonly volumes: VolumeView;
  readonly assumedVolumes = new Set<string>();
  readonly #sources: VolumeSources;
  /** Where each known Pod is counted: its node's name. Nodes may come later than their Pods. */
  readonly #placed = new Map<string, { info: PodInfo; node: string; assumed: boolean }>();
  readonly #imageCounts = new Map<string, number>();
  readonly #table = new NodeTable();
  readonly #byOwner = new Map<string, Map<number, number>>();
  #withAffinity = 0;
  #withRequiredAntiAffinity = 0;

  constructor(sources: VolumeSources) {
    this.#sources = sources;
    sources.volumes.addIndex('class', (volume) => volume.spec?.storageClassName ?? '');
    this.volumes = {
      claim: (namespace, name) => sources.claims.get(`${namespace}/${name}`),
      volume: (name) => sources.volumes.get(name),
      storageClass: (name) => sources.classes.get(name),
      unboundVolumes: (name) => sources.volumes.by('class', name),
      isAssumed: (name) => this.assumedVolumes.has(name),
    };
  }

  get hasAffinity(): boolean {
    return this.#withAffinity > 0;
  }
  get hasRequiredAntiAffinity(): boolean {
    return this.#withRequiredAntiAffinity > 0;
  }
  namespaceLabels(namespace: string): Record<string, string> {
    return this.#sources.namespaces.get(namespace)?.metadata.labels ?? noLabels;
  }
  ownedPods(owner: string): ReadonlyMap<number, number> | undefined {
    return this.#byOwner.get(owner);
  }
  imageNodes(image: string): number {
    return this.#imageCounts.get(image) ?? 0;
  }
  isAssumed(key: string): boolean {
    return this.#placed.get(key)?.assumed === true;
  }
  placedOn(key: string): string | undefined {
    return this.#placed.get(key)?.node;
  }

  putNode(node: Node): void {
    const name = node.metadata.name;
    const held = this.byName.get(name);
    if (held !== undefined) {
      this.#countImages(held, -1);
      held.describe(node);
      this.#countImages(held, 1);
      return;
    }
    const info = new NodeInfo(node, this.#table);
    this.byName.set(name, info);
    this.nodes.push(info);
    this.#countImages(info, 1);
    for (const { info: pod, node: on } of this.#placed.values()) if (on === name) this.#count(info, pod);
  }

  removeNode(name: string): void {
    const held = this.byName.get(name);
    if (held === undefined) return;
    this.byName.delete(name);
    this.nodes = this.nodes.filter((node) => node !== held);
    this.#countImages(held, -1);
    for (const pod of held.pods.values()) this.#countBeside(held, pod, -1);
    this.#table.release(held.row);
  }

  #countImages(node: NodeInfo, by: 1 | -1): void {
    for (const image of node.images.keys()) bump(this.#imageCounts, image, by);
  }

  /** What is counted of a node's Pod for all nodes together. */
  #countBeside(node: NodeInfo, pod: PodInfo, by: 1 | -1): void {
    if (hasTerms(pod)) this.#withAffinity += by;
    if (pod.antiAffinity.length > 0) this.#withRequiredAntiAffinity += by;
    if (pod.owner === undefined) return;
    let owned = this.#byOwner.get(pod.owner);
    if (owned === undefined) this.#byOwner.set(pod.owner, (owned = new Map()));
    bump(owned, node.row, by);
    if (owned.size === 0) this.#byOwner.delete(pod.owner);
  }

  #count(node: NodeInfo, pod: PodInfo): void {
    addPod(node, pod);
    this.#countBeside(node, pod, 1);
  }

  /** A Pod that a node holds: its binding was seen. Finished Pods take nothing. */
  putPod(pod: Pod): void {
    this.#place(podInfoOf(pod), pod.spec.nodeName ?? '', false);
  }

  /** A Pod that a decision puts on a node, until its binding is seen or fails. */
  assume(pod: PodInfo, node: string): void {
    this.#place(pod, node, true);
  }

  #place(info: PodInfo, node: string, assumed: boolean): void {
    this.removePod(info.key);
    this.#placed.set(info.key, { info, node, assumed });
    const held = this.byName.get(node);
    if (held !== undefined) this.#count(held, info);
  }

  removePod(key: string): void {
    const placed = this.#placed.get(key);
    if (placed === undefined) return;
    this.#placed.delete(key);
    const node = this.byName.get(placed.node);
    const removed = node === undefined ? undefined : removePod(node, key);
    if (removed !== undefined) this.#countBeside(node!, removed, -1);
  }

  nominate(pod: PodInfo, node: string): void {
    this.dropNomination(pod.key);
    this.nominated.set(node, [...(this.nominated.get(node) ?? []), pod]);
  }

  dropNomination(key: string): void {
    for (const [node, pods] of this.nominated) {
      const left = pods.filter((pod) => pod.key !== key);
      if (left.length === pods.length) continue;
      if (left.length === 0) this.nominated.delete(node);
      else this.nominated.set(node, left);
    }
  }
}
