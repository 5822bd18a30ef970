/** For tests: nodes, Pods and a picture of them, of which only that is said which matters. */
import type {
  Affinity,
  ContainerPort,
  Namespace,
  Node,
  NodeStatus,
  PersistentVolume,
  PersistentVolumeClaim,
  Pod,
  PodAffinityTerm,
  PodSpec,
  Taint,
} from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { sampleOf } from '#base/testing.ts';
import type { KubeObject } from '#base/objects.ts';
import { IndexedObjects } from '#client/indexed-objects.ts';
import { keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { SimRandom } from '#os/clock.sim.ts';
import { SchedulerCache } from './cache.ts';
import { chooseNode } from './choose-node.ts';
import { podInfoOf } from './pod-info.ts';

interface NodeParts {
  labels?: Record<string, string>;
  taints?: Taint[];
  unschedulable?: boolean;
  allocatable?: Record<string, string>;
  images?: NodeStatus['images'];
}

export function makeNode(name: string, parts: NodeParts = {}): Node {
  const { labels, taints, unschedulable, allocatable, images = [] } = parts;
  return sampleOf(kinds.Node, {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
    spec: {
      ...(taints === undefined ? {} : { taints }),
      ...(unschedulable === true ? { unschedulable } : {}),
    },
    status: { allocatable: { cpu: '4', memory: '8Gi', pods: '10', ...allocatable }, images },
  });
}

export interface PodParts extends Partial<Omit<PodSpec, 'nodeName'>> {
  labels?: Record<string, string>;
  namespace?: string;
  /** Where it runs. */
  node?: string;
  /** Of its one container. */
  requests?: Record<string, string>;
  ports?: Partial<ContainerPort>[];
}

let uid = 0;

export function makePod(name: string, parts: PodParts = {}): Pod {
  const { labels = {}, requests = {}, node, ports, namespace = 'default', ...spec } = parts;
  return sampleOf(kinds.Pod, {
    metadata: { name, namespace, uid: `u${uid++}`, labels },
    spec: {
      containers: [{ name: 'c', image: 'i', resources: { requests }, ...(ports === undefined ? {} : { ports }) }],
      ...(node === undefined ? {} : { nodeName: node }),
      ...spec,
    },
    status: {},
  });
}

export interface Beside {
  claims?: PersistentVolumeClaim[];
  volumes?: PersistentVolume[];
  classes?: StorageClass[];
  namespaces?: Namespace[];
}

function held<T extends KubeObject>(objects: readonly T[] = []): IndexedObjects<T> {
  const copy = new IndexedObjects<T>();
  for (const object of objects) copy.set(keyOf(object), object);
  return copy;
}

export function cacheOf(nodes: Node[], pods: Pod[] = [], beside: Beside = {}): SchedulerCache {
  const cache = new SchedulerCache({
    claims: held(beside.claims),
    volumes: held(beside.volumes),
    classes: held(beside.classes),
    namespaces: held(beside.namespaces),
  });
  for (const node of nodes) cache.putNode(node);
  for (const pod of pods) cache.putPod(pod);
  return cache;
}

/** The node that is chosen, or why none is. */
export function outcome(cache: SchedulerCache, pod: Pod): string {
  const decision = chooseNode(podInfoOf(pod), cache, 0, new SimRandom(7));
  return decision.type === 'placed' ? decision.node.name : decision.message;
}

const toAppA = (topologyKey: string): PodAffinityTerm => ({
  topologyKey,
  labelSelector: { matchLabels: { app: 'a' } },
});

/** Not where Pods of the app `a` are. */
export const antiAffinity = (topologyKey: string): Affinity => ({
  podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [toAppA(topologyKey)] },
});

/** Only where Pods of the app `a` are. */
export const podAffinity = (topologyKey: string): Affinity => ({
  podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [toAppA(topologyKey)] },
});
