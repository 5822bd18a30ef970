/**
 * Role-based access control (Kubernetes, "Using RBAC Authorization"): the rules that reach a user are those of the
 * roles that bindings give to the name or a group. Roles and bindings are read from the store and kept parsed until
 * they change.
 */
import type { UserInfo } from '#base/api-request.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import type { Server } from '../context.ts';

export interface Rule {
  verbs: string[];
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  nonResourceURLs?: string[];
}

export interface Attributes {
  user: UserInfo;
  verb: string;
  isResource: boolean;
  group: string;
  version: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  path: string;
}

const prefix = '/registry/rbac.authorization.k8s.io/';

interface Snapshot {
  clusterRoles: Map<string, Rule[]>;
  roles: Map<string, Rule[]>;
  clusterBindings: KubeObject[];
  bindings: Map<string, KubeObject[]>;
}

/** The RBAC objects, rebuilt after any of them has changed. */
class RbacCache {
  #server: Server;
  #snapshot: Snapshot | undefined;
  #watching = false;

  constructor(server: Server) {
    this.#server = server;
  }

  async #load(): Promise<Snapshot> {
    const { store, objects } = this.#server;
    const list = await store.list(prefix);
    const snapshot: Snapshot = { clusterRoles: new Map(), roles: new Map(), clusterBindings: [], bindings: new Map() };
    for (const stored of list.values) {
      const object = objects.view(stored);
      const { name = '', namespace = '' } = object.metadata;
      if (object.kind === 'ClusterRole') snapshot.clusterRoles.set(name, object.rules ?? []);
      else if (object.kind === 'Role') snapshot.roles.set(`${namespace}/${name}`, object.rules ?? []);
      else if (object.kind === 'ClusterRoleBinding') snapshot.clusterBindings.push(object);
      else {
        const all = snapshot.bindings.get(namespace) ?? [];
        all.push(object);
        snapshot.bindings.set(namespace, all);
      }
    }
    if (!this.#watching) {
      this.#watching = true;
      void this.#invalidate(list.revision);
    }
    return (this.#snapshot = snapshot);
  }

  async #invalidate(revision: number): Promise<void> {
    try {
      for await (const _events of this.#server.store.watch(prefix, revision)) this.#snapshot = undefined;
    } catch {
      /* the history it read from was compacted: start over */
    }
    this.#watching = false;
    this.#snapshot = undefined;
  }

  async snapshot(): Promise<Snapshot> {
    return this.#snapshot ?? this.#load();
  }
}

function rbacOf(server: Server): RbacCache {
  let cache = server.caches.get('rbac') as RbacCache | undefined;
  if (cache === undefined) server.caches.set('rbac', (cache = new RbacCache(server)));
  return cache;
}

function appliesTo(binding: KubeObject, user: UserInfo, namespace: string): boolean {
  return (binding.subjects ?? []).some((subject: Json) => {
    if (subject.kind === 'User') return subject.name === user.name;
    if (subject.kind === 'Group') return user.groups.includes(subject.name);
    return (
      subject.kind === 'ServiceAccount' &&
      user.name === `system:serviceaccount:${subject.namespace || namespace}:${subject.name}`
    );
  });
}

/** Calls `visit` with each rule that reaches the user, cluster-wide or in the namespace, until it answers true. */
export async function visitRules(
  server: Server,
  user: UserInfo,
  namespace: string,
  visit: (rule: Rule, binding: KubeObject) => boolean,
): Promise<boolean> {
  const snapshot = await rbacOf(server).snapshot();
  for (const binding of snapshot.clusterBindings) {
    if (!appliesTo(binding, user, '')) continue;
    for (const rule of snapshot.clusterRoles.get(binding.roleRef.name) ?? []) if (visit(rule, binding)) return true;
  }
  if (namespace === '') return false;
  for (const binding of snapshot.bindings.get(namespace) ?? []) {
    if (!appliesTo(binding, user, namespace)) continue;
    const rules =
      binding.roleRef.kind === 'ClusterRole'
        ? snapshot.clusterRoles.get(binding.roleRef.name)
        : snapshot.roles.get(`${namespace}/${binding.roleRef.name}`);
    for (const rule of rules ?? []) if (visit(rule, binding)) return true;
  }
  return false;
}

const has = (list: readonly string[] | undefined, value: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(value));

function ruleAllows(rule: Rule, a: Attributes): boolean {
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
  return (rule.resourceNames ?? []).length === 0 || rule.resourceNames!.includes(a.name);
}

export async function allowedByRbac(server: Server, attributes: Attributes): Promise<boolean> {
  return visitRules(server, attributes.user, attributes.namespace, (rule) => ruleAllows(rule, attributes));
}

/** Rules of a role by reference, as stored now. */
export async function rulesOf(
  server: Server,
  roleRef: { kind: string; name: string },
  namespace: string,
): Promise<Rule[] | undefined> {
  const snapshot = await rbacOf(server).snapshot();
  return roleRef.kind === 'ClusterRole'
    ? snapshot.clusterRoles.get(roleRef.name)
    : snapshot.roles.get(`${namespace}/${roleRef.name}`);
}
