/**
 * Aggregated ClusterRoles: their rules are the union of the rules of all ClusterRoles that their selectors match
 * (Kubernetes documentation, "Aggregated ClusterRoles").
 */
import type { ClusterRole, PolicyRule } from '#api/rbac.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { kinds } from '#base/kinds.ts';
import { canonicalJson, isEqual } from './equality.ts';
import { type Controller, type ControllerContext, createQueue } from './runtime.ts';

/** The rules that an aggregated role shall have; undefined for a role that is not aggregated. */
export function planAggregation(role: ClusterRole, all: Iterable<ClusterRole>): PolicyRule[] | undefined {
  const selectors = role.aggregationRule?.clusterRoleSelectors;
  if (selectors === undefined) return undefined;
  const rules = new Map<string, PolicyRule>();
  for (const other of [...all].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))) {
    if (
      other.metadata.name === role.metadata.name ||
      !selectors.some((selector) => matchesSelectorObject(selector, other.metadata.labels))
    )
      continue;
    for (const rule of other.rules ?? []) rules.set(canonicalJson(rule), rule);
  }
  return [...rules.values()];
}

export function startClusterRoleAggregation(context: ControllerContext): Controller {
  const roles = context.informers.informer(kinds.ClusterRole);
  const queue = createQueue(
    context,
    'clusterrole-aggregation',
    async (name) => {
      const role = roles.get(name);
      const rules = role === undefined ? undefined : planAggregation(role, roles.values());
      if (role !== undefined && rules !== undefined && !isEqual(role.rules, rules))
        await context.client.update(kinds.ClusterRole, { ...role, rules });
    },
    1,
  );
  const enqueueAggregated = (): void => {
    for (const role of roles.values()) if (role.aggregationRule !== undefined) queue.add(role.metadata.name);
  };
  roles.addHandler({ added: enqueueAggregated, updated: enqueueAggregated, deleted: enqueueAggregated });
  return { name: 'clusterrole-aggregation', queues: [queue] };
}
