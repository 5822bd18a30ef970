/**
 * No quota is exceeded by what is made, whatever it counts; at rest its status says exactly what is used. Counted here
 * anew (Kubernetes documentation, "Resource Quotas").
 */
import type { Pod, ResourceQuota } from '#api/core.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { addQuantities, compareQuantities, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { kinds } from '#base/kinds.ts';
import { isPodTerminal } from '#controllers/pods.ts';
import { type Checker, isCommitOf, type World } from '../world.ts';

const short = new Set([
  'services',
  'configmaps',
  'secrets',
  'persistentvolumeclaims',
  'resourcequotas',
  'replicationcontrollers',
]);

const amountOf = (pod: Pod, side: 'requests' | 'limits', resource: string): Quantity =>
  pod.spec.containers.reduce(
    (sum, { resources }) => addQuantities(sum, parseQuantity(resources?.[side]?.[resource] ?? '0')),
    zeroQuantity(),
  );

/** The path in the store of what `count/deployments.apps` counts; undefined for what counts no objects. */
function countedPath(what: string): string | undefined {
  if (short.has(what)) return what;
  const [, resource, group] = /^count\/([^.]+)\.?(.*)$/.exec(what) ?? [];
  return resource === undefined || group === '' ? resource : `${group}/${resource}`;
}

/**
 * How much of what a quota names its Namespace uses; undefined for what is not counted here (scopes, init containers,
 * storage by class).
 */
function usedOf(world: World, { metadata: { namespace }, spec }: ResourceQuota, what: string): Quantity | undefined {
  const here = <T extends KubeObject>(objects: Iterable<T>): T[] =>
    [...objects].filter(({ metadata }) => metadata.namespace === namespace);
  if (spec.scopes !== undefined || spec.scopeSelector !== undefined) return undefined;
  const path = countedPath(what);
  if (path !== undefined) return parseQuantity(here(world.ofPath(path)).length);
  if (what === 'services.nodeports')
    return parseQuantity(
      here(world.of(kinds.Service))
        .filter((service) => service.spec.type !== 'ClusterIP')
        .flatMap((service) => service.spec.ports ?? []).length,
    );
  const pods = here(world.of(kinds.Pod)).filter((pod) => !isPodTerminal(pod));
  if (what === 'pods') return parseQuantity(pods.length);
  const [, side, resource] = /^(?:(requests|limits)\.)?(cpu|memory)$/.exec(what) ?? [];
  if (resource === undefined || pods.some((pod) => (pod.spec.initContainers ?? []).length > 0)) return undefined;
  return pods.reduce(
    (sum, pod) => addQuantities(sum, amountOf(pod, side === 'limits' ? side : 'requests', resource)),
    zeroQuantity(),
  );
}

/** What a quota says of one resource, beside what is used of it. */
interface Use {
  what: string;
  used: Quantity;
  said: string;
}

/** Of these amounts, those that are counted here, each with whether more (1), as much (0) or less is used. */
function usesOf(world: World, quota: ResourceQuota, amounts: Record<string, string>): (Use & { order: number })[] {
  return Object.entries(amounts).flatMap(([what, said]) => {
    const used = usedOf(world, quota, what);
    return used === undefined ? [] : [{ what, used, said, order: compareQuantities(used, parseQuantity(said)) }];
  });
}

const text = ({ nano }: Quantity): string => String(Number(nano) / 1e9);

export function quotasKept(): Checker {
  const name = 'quotas-kept';
  /** Names of quotas. */
  const byNamespace = new Map<string, Set<string>>();
  return {
    name,
    onCommit(commit, world) {
      const { object, previous, last, key } = commit;
      const namespace = last?.metadata.namespace;
      if (namespace === undefined) return;
      if (isCommitOf(kinds.ResourceQuota, commit)) {
        const names = byNamespace.get(namespace) ?? new Set();
        if (commit.object === undefined) names.delete(commit.last.metadata.name);
        else names.add(commit.last.metadata.name);
        byNamespace.set(namespace, names);
        return;
      }
      // Only what is made can exceed; what was there before a quota came may be more.
      if (object === undefined || previous !== undefined) return;
      for (const quotaName of byNamespace.get(namespace) ?? []) {
        const quota = world.get(kinds.ResourceQuota, quotaName, namespace);
        if (quota === undefined) continue;
        const hard = Object.entries(quota.spec.hard ?? {}).filter(
          ([what, limit]) => quota.status?.hard?.[what] === limit && isCounted(key, what),
        );
        for (const { what, used, said, order } of usesOf(world, quota, Object.fromEntries(hard)))
          if (order > 0) world.report(name, `${namespace} uses ${text(used)} ${what}, its quota is ${said}`);
      }
    },
    atRest(world) {
      for (const quota of world.of(kinds.ResourceQuota)) {
        const { hard = {} } = quota.spec;
        const { used: noted = {} } = quota.status ?? {};
        const { namespace } = quota.metadata;
        for (const { what, used, said, order } of usesOf(world, quota, noted))
          if (order !== 0)
            world.report(name, `the quota of ${namespace} says that ${said} ${what} are used, it is ${text(used)}`);
        if (Object.keys(hard).some((what) => noted[what] === undefined))
          world.report(name, `the quota of ${namespace} does not say what is used`);
      }
    },
  };
}

/** Whether making an object at this key uses some of what is limited. */
function isCounted(key: string, what: string): boolean {
  const path = countedPath(what) ?? (what.startsWith('services.') ? 'services' : 'pods');
  return key.startsWith(`/registry/${path}/`);
}
