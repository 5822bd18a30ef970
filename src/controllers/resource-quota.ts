/**
 * The ResourceQuota controller: recounts what a Namespace uses, so that the status is right again after deletions and
 * after writes that failed half way. Admission (the API server) adds at creation; only this controller takes away.
 * Spec: Kubernetes documentation, "Resource Quotas" (compute, storage, object counts, scopes).
 */
import type {
  Container,
  PersistentVolumeClaim,
  Pod,
  ResourceQuota,
  ScopedResourceSelectorRequirement,
  Service,
} from '#api/core.v1.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { addQuantities, formatQuantity, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { indexes, type Informer, keyOf } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
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
function podAmount(pod: Pod, resource: string, side: 'requests' | 'limits'): Quantity {
  const of = (container: Container): Quantity => {
    const text = container.resources?.[side]?.[resource];
    return text === undefined ? zeroQuantity() : parseQuantity(text);
  };
  let sum = zeroQuantity();
  for (const container of pod.spec.containers) sum = addQuantities(sum, of(container));
  let sidecars = zeroQuantity();
  let starting = zeroQuantity();
  for (const container of pod.spec.initContainers ?? []) {
    if (container.restartPolicy === 'Always') sidecars = addQuantities(sidecars, of(container));
    const peak = container.restartPolicy === 'Always' ? sidecars : addQuantities(sidecars, of(container));
    if (peak.nano > starting.nano) starting = peak;
  }
  sum = addQuantities(sum, sidecars);
  if (starting.nano > sum.nano) sum = starting;
  const overhead = pod.spec.overhead?.[resource];
  return overhead === undefined ? sum : addQuantities(sum, parseQuantity(overhead));
}

function isBestEffort(pod: Pod): boolean {
  return [...(pod.spec.containers ?? []), ...(pod.spec.initContainers ?? [])].every(
    ({ resources }) =>
      Object.keys(resources?.requests ?? {}).length + Object.keys(resources?.limits ?? {}).length === 0,
  );
}

function inScope(
  pod: Pod,
  scope: Pick<ScopedResourceSelectorRequirement, 'scopeName' | 'values'> & { operator?: string },
): boolean {
  const terminating = (pod.spec.activeDeadlineSeconds ?? -1) >= 0;
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
      const name: string = pod.spec.priorityClassName ?? '';
      if (scope.operator === 'Exists' || scope.operator === undefined) return name !== '';
      if (scope.operator === 'DoesNotExist') return name === '';
      return (scope.values ?? []).includes(name) === (scope.operator === 'In');
    }
    case 'CrossNamespacePodAffinity': {
      const { podAffinity, podAntiAffinity } = pod.spec.affinity ?? {};
      const terms = [podAffinity, podAntiAffinity].flatMap((side) => [
        ...(side?.requiredDuringSchedulingIgnoredDuringExecution ?? []),
        ...(side?.preferredDuringSchedulingIgnoredDuringExecution ?? []).map(({ podAffinityTerm }) => podAffinityTerm),
      ]);
      return terms.some((term) => (term.namespaces ?? []).length > 0 || term.namespaceSelector !== undefined);
    }
    default:
      return false;
  }
}

const standardPodResources = new Set(['cpu', 'memory', 'ephemeral-storage']);

/** A namespace's objects, as far as a quota asks for them. */
export interface QuotaObserved {
  pods(): Iterable<Pod>;
  services(): Iterable<Service>;
  claims(): Iterable<PersistentVolumeClaim>;
  /** How many there are of a counted kind; undefined where the resource is none. */
  count(resource: string): number | undefined;
}

/** What is used of each resource that the quota names. */
export function planQuotaUsage(quota: ResourceQuota, observed: QuotaObserved): Record<string, string> {
  const scopes = [
    ...(quota.spec.scopes ?? []).map((scopeName) => ({ scopeName })),
    ...(quota.spec.scopeSelector?.matchExpressions ?? []),
  ];
  const pods = [...observed.pods()].filter(
    (pod) => !isPodTerminal(pod) && scopes.every((scope) => inScope(pod, scope)),
  );
  const sum = <T>(list: Iterable<T>, of: (object: T) => Quantity): string => {
    let total = zeroQuantity();
    for (const object of list) total = addQuantities(total, of(object));
    return formatQuantity(total);
  };
  const used: Record<string, string> = {};
  for (const name of Object.keys(quota.spec.hard ?? {})) {
    const claims = /^(?:(.+)\.storageclass\.storage\.k8s\.io\/)?(requests\.storage|persistentvolumeclaims)$/.exec(name);
    if (name === 'pods') used[name] = String(pods.length);
    else if (claims !== null) {
      const list = [...observed.claims()].filter(
        (claim) => claims[1] === undefined || claim.spec.storageClassName === claims[1],
      );
      used[name] =
        claims[2] === 'requests.storage'
          ? sum(list, (claim) => parseQuantity(claim.spec.resources?.requests?.storage ?? '0'))
          : String(list.length);
    } else if (name === 'services.loadbalancers')
      used[name] = String([...observed.services()].filter(({ spec }) => spec.type === 'LoadBalancer').length);
    else if (name === 'services.nodeports')
      used[name] = String(
        [...observed.services()]
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
      used[name] = observed.count(resource)?.toString() ?? quota.status?.used?.[name] ?? '0';
    }
  }
  return used;
}

class ResourceQuotaController {
  readonly #context: ControllerContext;
  readonly #quotas: Informer<ResourceQuota>;
  readonly #pods: Informer<Pod>;
  readonly #services: Informer<Service>;
  readonly #claims: Informer<PersistentVolumeClaim>;
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
      informer.addHandler({ added: enqueue, deleted: enqueue });
    }
    this.#pods = context.informers.informer(kinds.Pod);
    this.#services = context.informers.informer(kinds.Service);
    this.#claims = context.informers.informer(kinds.PersistentVolumeClaim);
    this.#pods.addHandler({
      updated: (pod, previous) => {
        if (isPodTerminal(pod) !== isPodTerminal(previous)) enqueue(pod);
      },
    });
    const onUpdate = (object: Service | PersistentVolumeClaim, previous: Service | PersistentVolumeClaim): void => {
      if (!isEqual(object.spec, previous.spec)) enqueue(object);
    };
    this.#services.addHandler({ updated: onUpdate });
    this.#claims.addHandler({ updated: onUpdate });
  }

  /** A namespace as the copies show it; `asked` is told what was looked at. */
  #observe(namespace: string, asked: Set<string>): QuotaObserved {
    const of = <T extends KubeObject>(resource: string, informer: Informer<T>): Iterable<T> => {
      asked.add(resource);
      return informer.by('namespace', namespace);
    };
    return {
      pods: () => of('pods', this.#pods),
      services: () => of('services', this.#services),
      claims: () => of('persistentvolumeclaims', this.#claims),
      count: (resource) => {
        const informer = this.#informers.get(resource);
        if (informer === undefined) return undefined;
        asked.add(resource);
        return informer.countBy('namespace', namespace);
      },
    };
  }

  /** A namespace as the server has it now, as far as was asked. */
  async #listAll(namespace: string, asked: ReadonlySet<string>): Promise<QuotaObserved> {
    const list = async <T extends KubeObject>(resource: string, kind: KindRef<T>): Promise<T[]> =>
      asked.has(resource) ? (await this.#context.client.list(kind, { namespace })).items : [];
    const pods = await list('pods', kinds.Pod);
    const services = await list('services', kinds.Service);
    const claims = await list('persistentvolumeclaims', kinds.PersistentVolumeClaim);
    const counts = new Map([
      ['pods', pods.length],
      ['services', services.length],
      ['persistentvolumeclaims', claims.length],
    ]);
    for (const [resource, kind] of Object.entries(counted))
      if (!counts.has(resource)) counts.set(resource, (await list(resource, kind)).length);
    return {
      pods: () => pods,
      services: () => services,
      claims: () => claims,
      count: (resource) => counts.get(resource),
    };
  }

  async #reconcile(key: string): Promise<void> {
    const quota = this.#quotas.get(key);
    if (quota === undefined || quota.metadata.deletionTimestamp !== undefined) return;
    const namespace = quota.metadata.namespace;
    const asked = new Set<string>();
    const seen = planQuotaUsage(quota, this.#observe(namespace, asked));
    const hard = quota.spec.hard ?? {};
    if (isEqual(quota.status, { hard, used: seen })) return;
    // The copies come by watches of their own: this quota may already be charged for an object that its informer does
    // not show yet, and what is forgotten here could be spent twice. A list made after the quota was read has all that
    // it was charged for; a later charge makes the update a conflict.
    const status = { hard, used: planQuotaUsage(quota, await this.#listAll(namespace, asked)) };
    if (!isEqual(quota.status, status))
      await this.#context.client.update(kinds.ResourceQuota, { ...quota, status }, { subresource: 'status' });
  }
}

export function startResourceQuotaController(context: ControllerContext): Controller {
  const controller = new ResourceQuotaController(context);
  return { name: 'resource-quota', queues: [controller.queue] };
}
