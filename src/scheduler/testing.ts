/** For tests: nodes, Pods and a picture of them, of which only that is said which matters. */
import type { Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod } from '#api/core.v1.ts';
import type { StorageClass } from '#api/storage.v1.ts';
import { sampleOf } from '#base/testing.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import type { TestJson } from '#base/testing.ts';
import { textOf } from '#base/unknown.ts';
import { Informer } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import { silentLogger } from '#observe/log.ts';
import { SimClock, SimRandom } from '#os/clock.sim.ts';
import { SchedulerCache } from './cache.ts';
import { chooseNode } from './choose-node.ts';
import { podInfoOf } from './pod-info.ts';

let uid = 0;
export function makeNode(name: string, extra: TestJson = {}): Node {
  return sampleOf(kinds.Node, {
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...extra.labels } },
    spec: {
      ...(extra.taints === undefined ? {} : { taints: extra.taints }),
      ...(extra.unschedulable === true ? { unschedulable: true } : {}),
    },
    status: { allocatable: { cpu: '4', memory: '8Gi', pods: '10', ...extra.allocatable }, images: extra.images ?? [] },
  });
}
export function makePod(name: string, extra: TestJson = {}): Pod {
  const { labels, requests, node, ports, namespace, ...spec } = extra;
  return sampleOf(kinds.Pod, {
    metadata: { name, namespace: namespace ?? 'default', uid: `u${uid++}`, labels: labels ?? {} },
    spec: {
      containers: [{ name: 'c', image: 'i', resources: { requests: requests ?? {} }, ports }],
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

export function cacheOf(nodes: Node[], pods: Pod[] = [], beside: Beside = {}): SchedulerCache {
  const deps = { client: undefined as never, clock: new SimClock(0), random: new SimRandom(1), log: silentLogger };
  const held = <T extends KubeObject>(kind: KindRef<T>, objects: T[] = []): Informer<T> => {
    const informer = new Informer(kind, {
      ...deps,
      client: {
        list: async () => ({ apiVersion: 'v1', kind: 'List', metadata: { resourceVersion: '1' }, items: objects }),
      } as never,
    });
    const access = new Map(
      objects.map((o) => [
        o.metadata.namespace === undefined ? o.metadata.name! : `${o.metadata.namespace}/${o.metadata.name}`,
        o,
      ]),
    );
    informer.get = (key) => access.get(key);
    informer.by = (_index, value) => objects.filter((o) => (textOf(o, 'spec', 'storageClassName') ?? '') === value);
    return informer;
  };
  const cache = new SchedulerCache({
    claims: held(kinds.PersistentVolumeClaim, beside.claims),
    volumes: held(kinds.PersistentVolume, beside.volumes),
    classes: held(kinds.StorageClass, beside.classes),
    namespaces: held(kinds.Namespace, beside.namespaces),
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

export const antiAffinity = (key: string): TestJson => ({
  podAntiAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey: key, labelSelector: { matchLabels: { app: 'a' } } },
    ],
  },
});
export const podAffinity = (key: string): TestJson => ({
  podAffinity: {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey: key, labelSelector: { matchLabels: { app: 'a' } } },
    ],
  },
});
