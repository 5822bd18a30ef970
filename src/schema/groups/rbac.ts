/** rbac.authorization.k8s.io/v1. */
import type { Draft } from '#api/manifest.ts';
import type { ClusterRoleBinding, PolicyRule, RoleBinding } from '#api/rbac.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { setDefaultText } from '../defaults.ts';
import type { FieldErrors } from '../field-errors.ts';
import type { Column, KindOptions, KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';

const define = <T extends KubeObject>(kind: KindRef<T>, options: KindOptions<NoInfer<T>> = {}): KindRecord =>
  defineKind(kind, { nameForm: 'path', createsOnUpdate: true, ...options });
const subjects =
  (kind: string) =>
  (o: RoleBinding | ClusterRoleBinding): string =>
    (o.subjects ?? [])
      .filter((s) => s.kind === kind)
      .map((s) => (kind === 'ServiceAccount' ? `${s.namespace}/${s.name}` : s.name))
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

function validateRules(o: { rules?: Draft<PolicyRule>[] }, errors: FieldErrors, namespaced: boolean): void {
  (o.rules ?? []).forEach((rule, i) => {
    const at = `rules[${i}]`;
    if ((rule.verbs ?? []).length === 0) errors.required(`${at}.verbs`, 'verbs must contain at least one value');
    if ((rule.nonResourceURLs ?? []).length > 0) {
      if (namespaced)
        errors.invalid(
          `${at}.nonResourceURLs`,
          rule.nonResourceURLs,
          'namespaced rules cannot apply to non-resource URLs',
        );
      if ((rule.apiGroups ?? []).length + (rule.resources ?? []).length + (rule.resourceNames ?? []).length > 0)
        errors.invalid(
          `${at}.nonResourceURLs`,
          rule.nonResourceURLs,
          'rules cannot apply to both regular resources and non-resource URLs',
        );
      return;
    }
    if ((rule.apiGroups ?? []).length === 0)
      errors.required(`${at}.apiGroups`, 'resource rules must supply at least one api group');
    if ((rule.resources ?? []).length === 0)
      errors.required(`${at}.resources`, 'resource rules must supply at least one resource');
  });
}

function validateBinding(namespaced: boolean) {
  return (o: Draft<Binding>, errors: FieldErrors): void => {
    const kinds = namespaced ? ['Role', 'ClusterRole'] : ['ClusterRole'];
    if (!kinds.includes(o.roleRef?.kind ?? '')) errors.unsupported('roleRef.kind', o.roleRef?.kind ?? '', kinds);
    if (!o.roleRef?.name) errors.required('roleRef.name');
    (o.subjects ?? []).forEach((s, i) => {
      if (!s.name) errors.required(`subjects[${i}].name`);
      if (!['ServiceAccount', 'User', 'Group'].includes(s.kind ?? ''))
        errors.unsupported(`subjects[${i}].kind`, s.kind ?? '', ['ServiceAccount', 'User', 'Group']);
      if (s.kind === 'ServiceAccount' && !namespaced && !s.namespace) errors.required(`subjects[${i}].namespace`);
    });
  };
}

function validateRoleRef(o: Draft<Binding>, old: Binding, errors: FieldErrors): void {
  if (
    JSON.stringify(o.roleRef) !== JSON.stringify(old.roleRef) &&
    (o.roleRef?.kind !== old.roleRef.kind ||
      o.roleRef.name !== old.roleRef.name ||
      o.roleRef.apiGroup !== old.roleRef.apiGroup)
  )
    errors.invalid('roleRef', o.roleRef, 'cannot change roleRef');
}

export const rbacKinds: readonly KindRecord[] = [
  define(kinds.ClusterRoleBinding, {
    columns: bindingColumns,
    defaults: defaultBinding,
    validate: validateBinding(false),
    validateUpdate: validateRoleRef,
  }),
  define(kinds.ClusterRole, {
    validate: (o, e) => validateRules(o, e, false),
  }),
  define(kinds.RoleBinding, {
    columns: bindingColumns,
    defaults: defaultBinding,
    validate: validateBinding(true),
    validateUpdate: validateRoleRef,
  }),
  define(kinds.Role, { validate: (o, e) => validateRules(o, e, true) }),
];
