/**
 * Role-based access control (Kubernetes, "Using RBAC Authorization"): the rules that reach a user are those of the
 * roles that bindings give to the name or a group. Roles and bindings are read from the store and kept parsed until
 * they change.
 */
import type { ClusterRole, PolicyRule, Role } from '#api/rbac.v1.ts';
import type { UserInfo } from '#base/api-request.ts';
import type { Attributes } from './attributes.ts';
import type { Server } from '../context.ts';
import { type Binding, bindingsOf } from './subjects.ts';

const rulesIn = (role: ClusterRole | Role | undefined): PolicyRule[] | undefined =>
  role === undefined ? undefined : (role.rules ?? []);

/** Calls `visit` with each rule that reaches the user, cluster-wide or in the namespace, until it answers true. */
export async function visitRules(
  server: Server,
  user: UserInfo,
  namespace: string,
  visit: (rule: PolicyRule, binding: Binding) => boolean,
): Promise<boolean> {
  const { live } = server;
  const bindings = await live.clusterRoleBindings.current();
  const clusterRoles = await live.clusterRoles.current();
  for (const binding of bindingsOf(bindings.in(), user))
    for (const rule of rulesIn(clusterRoles.get('', binding.roleRef.name)) ?? []) if (visit(rule, binding)) return true;
  if (namespace === '') return false;
  const inNamespace = await live.roleBindings.current();
  for (const binding of bindingsOf(inNamespace.in(namespace), user))
    for (const rule of (await rulesOf(server, binding.roleRef, namespace)) ?? []) if (visit(rule, binding)) return true;
  return false;
}

const has = (list: readonly string[] | undefined, value: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(value));

function ruleAllows(rule: PolicyRule, a: Attributes): boolean {
  if (!has(rule.verbs, a.verb)) return false;
  if (!a.isResource)
    return (rule.nonResourceURLs ?? []).some(
      (url) => url === '*' || url === a.path || (url.endsWith('*') && a.path.startsWith(url.slice(0, -1))),
    );
  if (!has(rule.apiGroups, a.group)) return false;
  const full = a.subresource === '' ? a.resource : `${a.resource}/${a.subresource}`;
  const covers = (rule.resources ?? []).some(
    (r) => r === '*' || r === full || (a.subresource !== '' && r === `*/${a.subresource}`),
  );
  if (!covers) return false;
  const { resourceNames = [] } = rule;
  return resourceNames.length === 0 || resourceNames.includes(a.name);
}

/** The binding that allows it; undefined where none does. */
export async function allowedByRbac(server: Server, attributes: Attributes): Promise<Binding | undefined> {
  let found: Binding | undefined;
  await visitRules(server, attributes.user, attributes.namespace, (rule, binding) => {
    if (!ruleAllows(rule, attributes)) return false;
    found = binding;
    return true;
  });
  return found;
}

/** Why a user is allowed what a binding grants, in upstream's words. */
export function describeGrant({ kind, metadata, roleRef, subjects = [] }: Binding, user: UserInfo): string {
  const { name, namespace } = metadata;
  const subject = subjects.find((each) =>
    each.kind === 'Group'
      ? user.groups.includes(each.name)
      : each.kind === 'User'
        ? each.name === user.name
        : user.name === `system:serviceaccount:${each.namespace ?? namespace ?? ''}:${each.name}`,
  );
  const subjectNamespace = subject?.kind === 'ServiceAccount' ? `/${subject.namespace ?? namespace ?? ''}` : '';
  const to = subject === undefined ? '' : ` to ${subject.kind} ${JSON.stringify(subject.name + subjectNamespace)}`;
  const bound = JSON.stringify(namespace === undefined ? name : `${name}/${namespace}`);
  return `RBAC: allowed by ${kind} ${bound} of ${roleRef.kind} ${JSON.stringify(roleRef.name)}${to}`;
}

/** Rules of a role by reference, as stored now. */
export async function rulesOf(
  server: Server,
  roleRef: { kind: string; name: string },
  namespace: string,
): Promise<PolicyRule[] | undefined> {
  const { live } = server;
  return roleRef.kind === 'ClusterRole'
    ? rulesIn((await live.clusterRoles.current()).get('', roleRef.name))
    : rulesIn((await live.roles.current()).get(namespace, roleRef.name));
}
