/** Bindings of one scope by the users and groups that they name. */
import type { UserInfo } from '#base/api-request.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import type { LiveEntry } from '../live-kind.ts';

export interface SubjectIndex {
  users: ReadonlyMap<string, readonly KubeObject[]>;
  groups: ReadonlyMap<string, readonly KubeObject[]>;
}

export function bindingsBySubject(entries: readonly LiveEntry[]): SubjectIndex {
  const users = new Map<string, KubeObject[]>();
  const groups = new Map<string, KubeObject[]>();
  for (const { object } of entries) {
    for (const subject of (object.subjects ?? []) as Json[]) {
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
function userOf(subject: Json, binding: KubeObject): string | undefined {
  if (subject.kind === 'User') return subject.name;
  if (subject.kind !== 'ServiceAccount') return undefined;
  return `system:serviceaccount:${subject.namespace || (binding.metadata.namespace ?? '')}:${subject.name}`;
}

/** Each binding that names the user or one of the groups, once. */
export function bindingsOf(index: SubjectIndex, user: UserInfo): Iterable<KubeObject> {
  const found = new Set(index.users.get(user.name));
  for (const group of user.groups) for (const binding of index.groups.get(group) ?? []) found.add(binding);
  return found;
}
