/**
 * No quota is exceeded by what is made, whatever it counts; at rest its status says exactly what is used. Counted here
 * anew (Kubernetes documentation, "Resource Quotas").
 */
import type { Json, KubeObject } from '#base/objects.ts';
import { addQuantities, compareQuantities, parseQuantity, type Quantity, zeroQuantity } from '#base/quantity.ts';
import { isPodTerminal } from '#controllers/pods.ts';
import type { Checker, World } from '../world.ts';

const short = new Set([
  'services',
  'configmaps',
  'secrets',
  'persistentvolumeclaims',
  'resourcequotas',
  'replicationcontrollers',
]);

const amountOf = (pod: KubeObject, side: string, resource: string): Quantity =>
  (pod['spec'].containers as Json[]).reduce(
    (sum: Quantity, container) => addQuantities(sum, parseQuantity(container.resources?.[side]?.[resource] ?? '0')),
    zeroQuantity(),
  );

/**
 * How much of what a quota names its Namespace uses; undefined for what is not counted here (scopes, init containers,
 * storage by class).
 */
function usedOf(world: World, quota: KubeObject, what: string): Quantity | undefined {
  const { namespace } = quota.metadata;
  const inNamespace = (resource: string): KubeObject[] =>
    [...world.of(resource)].filter(({ metadata }) => metadata.namespace === namespace);
  const count = (list: readonly unknown[]): Quantity => parseQuantity(list.length);
  if (quota['spec'].scopes !== undefined || quota['spec'].scopeSelector !== undefined) return undefined;
  if (short.has(what)) return count(inNamespace(what));
  const object = /^count\/([^.]+)\.?(.*)$/.exec(what);
  if (object !== null) return count(inNamespace(object[2] === '' ? object[1]! : `${object[2]}/${object[1]}`));
  if (what === 'services.nodeports')
    return count(
      inNamespace('services')
        .filter(({ spec }) => spec.type !== 'ClusterIP')
        .flatMap(({ spec }) => spec.ports ?? []),
    );
  const pods = inNamespace('pods').filter((pod) => !isPodTerminal(pod));
  if (what === 'pods') return count(pods);
  const amount = /^(?:(requests|limits)\.)?(cpu|memory)$/.exec(what);
  if (amount === null || pods.some(({ spec }) => (spec.initContainers ?? []).length > 0)) return undefined;
  return pods.reduce(
    (sum, pod) => addQuantities(sum, amountOf(pod, amount[1] ?? 'requests', amount[2]!)),
    zeroQuantity(),
  );
}

/** What a quota says against what is used. */
function compare(
  world: World,
  quota: KubeObject,
  limits: Record<string, string>,
  report: (what: string, used: Quantity, limit: string) => void,
  isWrong: (order: number) => boolean,
): void {
  for (const [what, limit] of Object.entries(limits)) {
    const used = usedOf(world, quota, what);
    if (used !== undefined && isWrong(compareQuantities(used, parseQuantity(limit)))) report(what, used, limit);
  }
}

const text = ({ nano }: Quantity): string => String(Number(nano) / 1e9);

export function quotasKept(): Checker {
  const name = 'quotas-kept';
  const byNamespace = new Map<string, Set<string>>();
  return {
    name,
    onCommit({ object, previous, key }, world) {
      const { namespace } = (object ?? previous)?.metadata ?? {};
      if (namespace === undefined) return;
      if (key.startsWith('/registry/resourcequotas/')) {
        const keys = byNamespace.get(namespace) ?? new Set();
        if (object === undefined) keys.delete(key);
        else keys.add(key);
        byNamespace.set(namespace, keys);
        return;
      }
      // Only what is made can exceed; what was there before a quota came may be more.
      if (object === undefined || previous !== undefined) return;
      for (const quotaKey of byNamespace.get(namespace) ?? []) {
        const quota = world.objects.get(quotaKey)!;
        const hard = Object.fromEntries(
          Object.entries((quota['spec'].hard ?? {}) as Record<string, string>).filter(
            ([what, limit]) => quota['status']?.hard?.[what] === limit && isCounted(key, what),
          ),
        );
        compare(
          world,
          quota,
          hard,
          (what, used, limit) => world.report(name, `${namespace} uses ${text(used)} ${what}, its quota is ${limit}`),
          (order) => order > 0,
        );
      }
    },
    atRest(world) {
      for (const quota of world.of('resourcequotas')) {
        compare(
          world,
          quota,
          quota['status']?.used ?? {},
          (what, used, said) =>
            world.report(
              name,
              `the quota of ${quota.metadata.namespace} says that ${said} ${what} are used, it is ${text(used)}`,
            ),
          (order) => order !== 0,
        );
        if (Object.keys(quota['spec'].hard ?? {}).some((what) => quota['status']?.used?.[what] === undefined))
          world.report(name, `the quota of ${quota.metadata.namespace} does not say what is used`);
      }
    },
  };
}

/** Whether making an object at this key uses some of what is limited. */
function isCounted(key: string, what: string): boolean {
  const [, , first, second] = key.split('/');
  const object = /^count\/([^.]+)\.?(.*)$/.exec(what);
  if (object !== null) return object[2] === '' ? first === object[1] : first === object[2] && second === object[1];
  if (short.has(what)) return first === what;
  return what.startsWith('services.') ? first === 'services' : first === 'pods';
}
