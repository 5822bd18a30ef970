/**
 * The ResourceQuota controller: recounts what a Namespace uses, so that the status is right again after deletions and
 * after writes that failed half way. Admission (the API server) adds at creation; only this controller takes away.
 * Spec: Kubernetes documentation, "Resource Quotas" (compute, storage, object counts, scopes).
 */
import type { Json, KindRef, KubeObject } from '#base/objects.ts';
import { addQuantities, formatQuantity, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#client/kinds.ts';
import type { WorkQueue } from '#client/work-queue.ts';
import { isEqual } from './equality.ts';
import { isPodTerminal } from './pods.ts';
import { type Controller, type ControllerContext, createQueue, enqueueEach } from './runtime.ts';

/** Kinds that quotas count, with the name under which `count/` knows them. */
const counted: Record<string, KindRef> = {
  pods: kinds.Pod,
  services: kinds.Service,
  configmaps: kinds.ConfigMap,
  secrets: kinds.Secret,
  persistentvolumeclaims: kinds.PersistentVolumeClaim,
  replicationcontrollers: kinds.ReplicationController,
  resourcequotas: kinds.ResourceQuota,
  'deployments.apps': kinds.Deployment,
  'replicasets.apps': kinds.ReplicaSet,
  'statefulsets.apps': kinds.StatefulSet,
  'daemonsets.apps': kinds.DaemonSet,
  'jobs.batch': kinds.Job,
  'cronjobs.batch': kinds.CronJob,
  'ingresses.networking.k8s.io': kinds.Ingress,
};

/** A Pod's amount of a resource: containers together, or the largest init container where that is more. */
function podAmount(pod: KubeObject, resource: string, side: 'requests' | 'limits'): Quantity {
  const of = (container: Json): Quantity => {
    const text = container.resources?.[side]?.[resource];
    return text === undefined ? zeroQuantity() : parseQuantity(text);
  };
  let sum = zeroQuantity();
  for (const container of pod['spec'].containers as Json[]) sum = addQuantities(sum, of(container));
  let sidecars = zeroQuantity();
  let starting = zeroQuantity();
  for (const container of (pod['spec'].initContainers ?? []) as Json[]) {
    if (container.restartPolicy === 'Always') sidecars = addQuantities(sidecars, of(container));
    const peak = container.restartPolicy === 'Always' ? sidecars : addQuantities(sidecars, of(container));
    if (peak.nano > starting.nano) starting = peak;
  }
  sum = addQuantities(sum, sidecars);
  if (starting.nano > sum.nano) sum = starting;
  const overhead = pod['spec'].overhead?.[resource];
  return overhead === undefined ? sum : addQuantities(sum, parseQuantity(overhead));
}

function isBestEffort(pod: KubeObject): boolean {
  return [...(pod['spec'].containers ?? []), ...(pod['spec'].initContainers ?? [])].every(
    ({ resources }: Json) =>
      Object.keys(resources?.requests ?? {}).length + Object.keys(resources?.limits ?? {}).length === 0,
  );
}

function inScope(pod: KubeObject, scope: Json): boolean {
  const terminating = (pod['spec'].activeDeadlineSeconds ?? -1) >= 0;
  switch (scope.scopeName) {
    case 'Terminating':
      return terminating;
    case 'NotTerminating':
      return !terminating;
    case 'BestEffort':
      return isBestEffort(pod);
    case 'NotBestEffort':
      return !isBestEffort(pod);
    case 'PriorityClass': {
      const name: string = pod['spec'].priorityClassName ?? '';
      if (scope.operator === 'Exists' || scope.operator === undefined) return name !== '';
      if (scope.operator === 'DoesNotExist') return name === '';
      return ((scope.values ?? []) as string[]).includes(name) === (scope.operator === 'In');
    }
    case 'CrossNamespacePodAffinity': {
      const affinity = pod['spec'].affinity ?? {};
      const terms: Json[] = ['podAffinity', 'podAntiAffinity'].flatMap((side) => [
        ...(affinity[side]?.requiredDuringSchedulingIgnoredDuringExecution ?? []),
        ...((affinity[side]?.preferredDuringSchedulingIgnoredDuringExecution ?? []) as Json[]).map(
          ({ podAffinityTerm }) => podAffinityTerm,
        ),
      ]);
      return terms.some((term) => (term.namespaces ?? []).length > 0 || term.namespaceSelector !== undefined);
    }
    default:
      return false;
  }
}

const standardPodResources = new Set(['cpu', 'memory', 'ephemeral-storage']);

/**
 * What is used of each resource that the quota names. `objects(resource)` lists the namespace's objects of a counted
 * kind.
 */
export function planQuotaUsage(
  quota: KubeObject,
  objects: (resource: string) => Iterable<KubeObject>,
): Record<string, string> {
  const scopes: Json[] = [
    ...((quota['spec'].scopes ?? []) as string[]).map((scopeName) => ({ scopeName })),
    ...(quota['spec'].scopeSelector?.matchExpressions ?? []),
  ];
  const pods = [...objects('pods')].filter(
    (pod) => !isPodTerminal(pod) && scopes.every((scope) => inScope(pod, scope)),
  );
  const sum = (list: Iterable<KubeObject>, of: (object: KubeObject) => Quantity): string => {
    let total = zeroQuantity();
    for (const object of list) total = addQuantities(total, of(object));
    return formatQuantity(total);
  };
  const used: Record<string, string> = {};
  for (const name of Object.keys(quota['spec'].hard ?? {})) {
    const claims = /^(?:(.+)\.storageclass\.storage\.k8s\.io\/)?(requests\.storage|persistentvolumeclaims)$/.exec(name);
    if (name === 'pods') used[name] = String(pods.length);
    else if (name === 'count/pods') used[name] = String([...objects('pods')].length);
    else if (claims !== null) {
      const list = [...objects('persistentvolumeclaims')].filter(
        (claim) => claims[1] === undefined || claim['spec'].storageClassName === claims[1],
      );
      used[name] =
        claims[2] === 'requests.storage'
          ? sum(list, (claim) => parseQuantity(claim['spec'].resources?.requests?.storage ?? '0'))
          : String(list.length);
    } else if (name === 'services.loadbalancers')
      used[name] = String([...objects('services')].filter(({ spec }) => spec.type === 'LoadBalancer').length);
    else if (name === 'services.nodeports')
      used[name] = String(
        [...objects('services')]
          .filter(
            ({ spec }) =>
              spec.type === 'NodePort' ||
              (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false),
          )
          .reduce((total, { spec }) => total + (spec.ports ?? []).length, 0),
      );
    else if (name.startsWith('limits.')) used[name] = sum(pods, (pod) => podAmount(pod, name.slice(7), 'limits'));
    else if (name.startsWith('requests.')) used[name] = sum(pods, (pod) => podAmount(pod, name.slice(9), 'requests'));
    else if (standardPodResources.has(name) || name.startsWith('hugepages-'))
      used[name] = sum(pods, (pod) => podAmount(pod, name, 'requests'));
    else {
      const resource = name.startsWith('count/') ? name.slice(6) : name;
      if (counted[resource] !== undefined) used[name] = String([...objects(resource)].length);
      else if (quota['status']?.used?.[name] !== undefined) used[name] = quota['status'].used[name];
      else used[name] = '0';
    }
  }
  return used;
}

class ResourceQuotaController {
  readonly #context: ControllerContext;
  readonly #quotas: Informer;
  readonly #informers = new Map<string, Informer>();
  readonly queue: WorkQueue;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#quotas = context.informers.informer(kinds.ResourceQuota).addIndex('namespace', indexes.namespace);
    this.queue = createQueue(context, 'resource-quota', (key) => this.#reconcile(key));
    enqueueEach(this.#quotas, this.queue);
    const enqueue = (object: KubeObject): void => {
      for (const quota of this.#quotas.by('namespace', object.metadata.namespace!)) this.queue.add(keyOf(quota));
    };
    for (const [resource, kind] of Object.entries(counted)) {
      const informer = context.informers.informer(kind).addIndex('namespace', indexes.namespace);
      this.#informers.set(resource, informer);
      informer.addHandler({
        added: enqueue,
        deleted: enqueue,
        updated: (object, previous) => {
          if (
            kind === kinds.Pod
              ? isPodTerminal(object) !== isPodTerminal(previous)
              : (kind === kinds.Service || kind === kinds.PersistentVolumeClaim) &&
                !isEqual(object['spec'], previous['spec'])
          )
            enqueue(object);
        },
      });
    }
  }

  async #reconcile(key: string): Promise<void> {
    const quota = this.#quotas.get(key);
    if (quota === undefined || quota.metadata.deletionTimestamp !== undefined) return;
    const namespace = quota.metadata.namespace!;
    const asked = new Set<string>();
    const seen = planQuotaUsage(quota, (resource) => {
      asked.add(resource);
      return this.#informers.get(resource)!.by('namespace', namespace);
    });
    const hard = quota['spec'].hard ?? {};
    if (isEqual(quota['status'], { hard, used: seen })) return;
    // The copies come by watches of their own: this quota may already be charged for an object that its informer does
    // not show yet, and what is forgotten here could be spent twice. A list made after the quota was read has all that
    // it was charged for; a later charge makes the update a conflict.
    const lists = new Map<string, readonly KubeObject[]>();
    for (const resource of asked)
      lists.set(resource, (await this.#context.client.list(counted[resource]!, { namespace })).items);
    const status = { hard, used: planQuotaUsage(quota, (resource) => lists.get(resource)!) };
    if (!isEqual(quota['status'], status))
      await this.#context.client.update(kinds.ResourceQuota, { ...quota, status }, { subresource: 'status' });
  }
}

export function startResourceQuotaController(context: ControllerContext): Controller {
  const controller = new ResourceQuotaController(context);
  return { name: 'resource-quota', queues: [controller.queue] };
}
