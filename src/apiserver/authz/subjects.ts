/** Bindings of one scope by the users and groups that they name. */
import type { ClusterRoleBinding, RoleBinding, Subject } from '#api/rbac.v1.ts';
import type { UserInfo } from '#base/api-request.ts';
import type { LiveEntry } from '../live-kind.ts';

export type Binding = ClusterRoleBinding | RoleBinding;

export interface SubjectIndex<B extends Binding> {
  users: ReadonlyMap<string, readonly B[]>;
  groups: ReadonlyMap<string, readonly B[]>;
}

export function bindingsBySubject<B extends Binding>(entries: readonly LiveEntry<B>[]): SubjectIndex<B> {
  const users = new Map<string, B[]>();
  const groups = new Map<string, B[]>();
  for (const { object } of entries) {
    for (const subject of object.subjects ?? []) {
      const [map, name] = subject.kind === 'Group' ? [groups, subject.name] : [users, userOf(subject, object)];
      if (name === undefined) continue;
      const list = map.get(name);
      if (list === undefined) map.set(name, [object]);
      else if (list.at(-1) !== object) list.push(object);
    }
  }
  return { users, groups };
}

/** A ServiceAccount without a namespace is one of the binding's. */
function userOf(subject: Subject, binding: Binding): string | undefined {
  if (subject.kind === 'User') return subject.name;
  if (subject.kind !== 'ServiceAccount') return undefined;
  return `system:serviceaccount:${subject.namespace || (binding.metadata.namespace ?? '')}:${subject.name}`;
}

/** Each binding that names the user or one of the groups, once. */
export function bindingsOf<B extends Binding>(index: SubjectIndex<B>, user: UserInfo): Iterable<B> {
  const found = new Set(index.users.get(user.name));
  for (const group of user.groups) for (const binding of index.groups.get(group) ?? []) found.add(binding);
  return found;
}
