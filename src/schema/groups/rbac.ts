/** rbac.authorization.k8s.io/v1. */
import type { Draft } from '#api/manifest.ts';
import type { ClusterRoleBinding, RoleBinding } from '#api/rbac.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { setDefaultText } from '../defaults.ts';
import type { Column, KindOptions, KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';
import { validateBinding, validateClusterRole, validateRoleRef, validateRules } from '../validate-rbac.ts';

const define = <T extends KubeObject>(kind: KindRef<T>, options: KindOptions<NoInfer<T>> = {}): KindRecord =>
  defineKind(kind, { nameForm: 'path', createsOnUpdate: true, ...options });
const subjects =
  (kind: string) =>
  (o: RoleBinding | ClusterRoleBinding): string =>
    (o.subjects ?? [])
      .filter((s) => s.kind === kind)
      .map((s) => (kind === 'ServiceAccount' ? `${s.namespace ?? ''}/${s.name}` : s.name))
      .join(', ');
const bindingColumns: readonly Column<RoleBinding | ClusterRoleBinding>[] = columns(
  column('Role', (o) => `${o.roleRef?.kind}/${o.roleRef?.name}`),
  column('Users', subjects('User'), { wide: true }),
  column('Groups', subjects('Group'), { wide: true }),
  column('ServiceAccounts', subjects('ServiceAccount'), { wide: true }),
);

/** A RoleBinding, or a ClusterRoleBinding. */
type Binding = Pick<RoleBinding, 'roleRef' | 'subjects'>;

function defaultBinding(o: Draft<Binding>): void {
  setDefaultText((o.roleRef ??= {}), 'apiGroup', 'rbac.authorization.k8s.io');
  for (const subject of o.subjects ?? [])
    if (subject.kind !== 'ServiceAccount') setDefaultText(subject, 'apiGroup', 'rbac.authorization.k8s.io');
}

export const rbacKinds: readonly KindRecord[] = [
  define(kinds.ClusterRoleBinding, {
    columns: bindingColumns,
    defaults: defaultBinding,
    validate: validateBinding(false),
    validateUpdate: validateRoleRef,
  }),
  define(kinds.ClusterRole, {
    validate: validateClusterRole,
  }),
  define(kinds.RoleBinding, {
    columns: bindingColumns,
    defaults: defaultBinding,
    validate: validateBinding(true),
    validateUpdate: validateRoleRef,
  }),
  define(kinds.Role, { validate: (o, e) => validateRules(o, e, true) }),
];
