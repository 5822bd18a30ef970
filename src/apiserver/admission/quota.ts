/**
 * ResourceQuota (Kubernetes, "Resource Quotas"): what a new or changed object adds to the usage of its namespace is
 * charged to each quota that it falls under, in the same transaction as the object, so that no two writers spend the
 * same allowance. Releases are the quota controller's.
 */
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import {
  addQuantities,
  compareQuantities,
  formatQuantity,
  parseQuantity,
  subtractQuantities,
  zeroQuantity,
} from '#base/quantity.ts';
import type { Quantity } from '#base/quantity.ts';
import type {
  PersistentVolumeClaim,
  Pod,
  ResourceQuota,
  ScopedResourceSelectorRequirement,
  Service,
} from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { copyJson } from '#base/json.ts';
import { resourceNameOf, isOf } from '#base/objects.ts';
import { qosClassOf } from '#schema/qos.ts';
import type { Compare, Operation } from '#store/store.ts';
import type { RequestContext } from '../context.ts';
import { forbiddenBy } from '../object-errors.ts';

export interface QuotaCharge {
  compares: Compare[];
  operations: Operation[];
}
type Usage = Map<string, Quantity>;

const one = parseQuantity('1');

function add(usage: Usage, name: string, quantity: Quantity): void {
  usage.set(name, addQuantities(usage.get(name) ?? zeroQuantity(), quantity));
}

function podUsage(pod: Pod): Usage {
  const usage: Usage = new Map();
  if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return usage;
  add(usage, 'pods', one);
  const spec = pod.spec;
  for (const field of ['requests', 'limits'] as const) {
    const total: Usage = new Map();
    for (const c of [...spec.containers, ...(spec.initContainers ?? []).filter((i) => i.restartPolicy === 'Always')])
      for (const [name, value] of Object.entries(c.resources?.[field] ?? {})) add(total, name, parseQuantity(value));
    for (const c of spec.initContainers ?? [])
      for (const [name, value] of Object.entries(c.resources?.[field] ?? {})) {
        const q = parseQuantity(value);
        if (compareQuantities(q, total.get(name) ?? zeroQuantity()) > 0) total.set(name, q);
      }
    for (const [name, quantity] of total) {
      add(usage, `${field}.${name}`, quantity);
      if (field === 'requests') add(usage, name, quantity);
    }
  }
  return usage;
}

function serviceUsage(service: Service): Usage {
  const usage: Usage = new Map([['services', one]]);
  const type = service.spec?.type;
  if (type === 'LoadBalancer') add(usage, 'services.loadbalancers', one);
  if (type === 'NodePort' || (type === 'LoadBalancer' && service.spec?.allocateLoadBalancerNodePorts !== false))
    for (const _port of service.spec?.ports ?? []) add(usage, 'services.nodeports', one);
  return usage;
}

function claimUsage(claim: PersistentVolumeClaim): Usage {
  const usage: Usage = new Map([['persistentvolumeclaims', one]]);
  const size = claim.spec?.resources?.requests?.storage;
  const className = claim.spec?.storageClassName;
  if (size !== undefined) add(usage, 'requests.storage', parseQuantity(size));
  if (className) {
    add(usage, `${className}.storageclass.storage.k8s.io/persistentvolumeclaims`, one);
    if (size !== undefined)
      add(usage, `${className}.storageclass.storage.k8s.io/requests.storage`, parseQuantity(size));
  }
  return usage;
}

const counted = new Set(['configmaps', 'secrets', 'replicationcontrollers', 'resourcequotas']);

function usageOf(context: RequestContext, object: KubeObject): Usage {
  const { group, resource } = context.kind.storage;
  let usage: Usage = new Map();
  if (isOf(kinds.Pod, object)) usage = podUsage(object);
  else if (isOf(kinds.Service, object)) usage = serviceUsage(object);
  else if (isOf(kinds.PersistentVolumeClaim, object)) usage = claimUsage(object);
  else if (group === '' && counted.has(resource)) add(usage, resource, one);
  add(usage, `count/${resourceNameOf({ group, resource })}`, one);
  return usage;
}

function inScope(quota: ResourceQuota, object: KubeObject): boolean {
  const wanted: ScopedResourceSelectorRequirement[] = [
    ...(quota.spec?.scopes ?? []).map((scopeName) => ({ scopeName, operator: 'Exists' })),
    ...(quota.spec?.scopeSelector?.matchExpressions ?? []),
  ];
  if (wanted.length === 0) return true;
  return isOf(kinds.Pod, object) && wanted.every((scope) => podInScope(scope, object));
}

function podInScope(scope: ScopedResourceSelectorRequirement, pod: Pod): boolean {
  const bestEffort = (): boolean => qosClassOf(pod.spec) === 'BestEffort';
  switch (scope.scopeName) {
    case 'Terminating':
      return pod.spec.activeDeadlineSeconds !== undefined;
    case 'NotTerminating':
      return pod.spec.activeDeadlineSeconds === undefined;
    case 'BestEffort':
      return bestEffort();
    case 'NotBestEffort':
      return !bestEffort();
    case 'PriorityClass': {
      const name = pod.spec.priorityClassName;
      if (scope.operator === 'Exists') return name !== undefined && name !== '';
      if (scope.operator === 'DoesNotExist') return name === undefined || name === '';
      return (scope.values ?? []).includes(name ?? '') === (scope.operator === 'In');
    }
    default:
      return false;
  }
}

/** Container resources that a quota constrains must be stated by every container. */
function requireStated(context: RequestContext, quota: ResourceQuota, pod: Pod): void {
  const missing = new Map<string, string[]>();
  for (const key of Object.keys(quota.spec?.hard ?? {})) {
    const match = /^(?:(requests|limits)\.)?(cpu|memory)$/.exec(key);
    if (match === null) continue;
    const field = match[1] === 'limits' ? 'limits' : 'requests';
    const without = pod.spec.containers
      .filter((c) => c.resources?.[field]?.[match[2] ?? ''] === undefined)
      .map((c) => c.name);
    if (without.length > 0) missing.set(key, without);
  }
  if (missing.size === 0) return;
  const text = [...missing]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, names]) => `${key} for: ${names.join(',')}`)
    .join('; ');
  throw forbiddenBy(context, pod.metadata.name ?? '', `failed quota: ${quota.metadata.name}: must specify ${text}`);
}

export async function chargeQuotas(
  context: RequestContext,
  object: KubeObject,
  old: KubeObject | undefined,
): Promise<QuotaCharge> {
  const charge: QuotaCharge = { compares: [], operations: [] };
  const { server, kind, info } = context;
  if (!kind.namespaced || info.subresource !== '') return charge;
  const inNamespace = (await server.live.resourceQuotas.current()).in(object.metadata.namespace);
  if (inNamespace.length === 0) return charge;
  const quotas = server.kinds.builtIn(kinds.ResourceQuota);
  const now = usageOf(context, object);
  const before = old === undefined ? new Map<string, Quantity>() : usageOf(context, old);
  for (const { stored, object: quota } of inNamespace) {
    if (!inScope(quota, object)) continue;
    if (isOf(kinds.Pod, object) && old === undefined) requireStated(context, quota, object);
    const added = additions(quota, now, before);
    if (added.size === 0) continue;
    const used = checkQuota(context, quota, added, object.metadata.name ?? '');
    const changed = copyJson(quota);
    changed.status = {
      ...changed.status,
      hard: changed.status?.hard ?? changed.spec?.hard ?? {},
      used: { ...changed.status?.used, ...used },
    };
    charge.compares.push({ key: stored.key, modRevision: stored.modRevision });
    charge.operations.push({
      type: 'put',
      key: stored.key,
      value: server.objects.encodeLate(quotas, stored.key, changed, stored),
    });
  }
  return charge;
}

function additions(quota: ResourceQuota, now: Usage, before: Usage): Usage {
  const out: Usage = new Map();
  for (const [name, quantity] of now) {
    if (quota.spec?.hard?.[name] === undefined) continue;
    const delta = subtractQuantities(quantity, before.get(name) ?? zeroQuantity());
    if (delta.nano > 0n) out.set(name, delta);
  }
  return out;
}

function checkQuota(context: RequestContext, quota: ResourceQuota, added: Usage, name: string): Record<string, string> {
  const exceeded: { key: string; requested: string; used: string; limited: string }[] = [];
  const used: Record<string, string> = {};
  for (const [key, delta] of added) {
    const limited = quota.spec?.hard?.[key] ?? '0';
    const before = quota.status?.used?.[key] ?? '0';
    const total = addQuantities(parseQuantity(before), delta);
    if (total.nano > parseQuantity(limited).nano)
      exceeded.push({ key, requested: formatQuantity(delta), used: before, limited });
    used[key] = formatQuantity(total);
  }
  if (exceeded.length === 0) return used;
  exceeded.sort((a, b) => (a.key < b.key ? -1 : 1));
  const text = (field: 'requested' | 'used' | 'limited'): string =>
    exceeded.map((item) => `${item.key}=${item[field]}`).join(',');
  throw forbiddenBy(
    context,
    name,
    `exceeded quota: ${quota.metadata.name}, requested: ${text('requested')}, used: ${text('used')}, limited: ${text('limited')}`,
  );
}

export function quotaConflict(): ApiError {
  return new ApiError(
    'Conflict',
    'Operation cannot be fulfilled on resourcequotas: the object has been modified; please apply your changes to the latest version and try again',
  );
}
