/** Validation of roles and their bindings (Kubernetes, "Using RBAC Authorization"). */
import type { Draft } from '#api/manifest.ts';
import type { ClusterRole, PolicyRule, RoleBinding, Subject } from '#api/rbac.v1.ts';
import type { FieldErrors } from './field-errors.ts';
import { nameProblem, subdomainProblem } from './name-forms.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { sameJson } from './validate-values.ts';

const group = 'rbac.authorization.k8s.io';
/** A RoleBinding, or a ClusterRoleBinding. */
type Binding = Pick<RoleBinding, 'roleRef' | 'subjects'>;

export function validateRules(o: { rules?: Draft<PolicyRule>[] }, errors: FieldErrors, namespaced: boolean): void {
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

export function validateClusterRole(o: Draft<ClusterRole>, errors: FieldErrors): void {
  validateRules(o, errors, false);
  if (o.aggregationRule === undefined) return;
  const at = 'aggregationRule.clusterRoleSelectors';
  const selectors = o.aggregationRule.clusterRoleSelectors ?? [];
  if (selectors.length === 0)
    errors.required(at, 'at least one clusterRoleSelector required if aggregationRule is non-nil');
  selectors.forEach((selector, i) => {
    const before = errors.causes.length;
    validateLabelSelector(selector, `${at}[${i}]`, errors);
    if (errors.causes.length > before) errors.invalid(`${at}[${i}]`, selector, 'invalid label selector.');
  });
}

function validateSubject(subject: Draft<Subject>, at: string, namespaced: boolean, errors: FieldErrors): void {
  const { name = '', kind = '', apiGroup = '', namespace = '' } = subject;
  const kinds = ['ServiceAccount', 'User', 'Group'];
  if (name === '') errors.required(`${at}.name`);
  if (!kinds.includes(kind)) errors.unsupported(`${at}.kind`, kind, kinds);
  else if (kind !== 'ServiceAccount') {
    if (apiGroup !== group) errors.unsupported(`${at}.apiGroup`, apiGroup, [group]);
  } else {
    if (name !== '' && subdomainProblem(name) !== '') errors.invalid(`${at}.name`, name, subdomainProblem(name));
    if (apiGroup !== '') errors.unsupported(`${at}.apiGroup`, apiGroup, ['']);
    if (!namespaced && namespace === '') errors.required(`${at}.namespace`);
  }
}

export function validateBinding(namespaced: boolean) {
  return (o: Draft<Binding>, errors: FieldErrors): void => {
    const { apiGroup = '', kind = '', name = '' } = o.roleRef ?? {};
    const kinds = namespaced ? ['Role', 'ClusterRole'] : ['ClusterRole'];
    if (apiGroup !== group) errors.unsupported('roleRef.apiGroup', apiGroup, [group]);
    if (!kinds.includes(kind)) errors.unsupported('roleRef.kind', kind, kinds);
    if (name === '') errors.required('roleRef.name');
    else if (nameProblem.path(name) !== '') errors.invalid('roleRef.name', name, nameProblem.path(name));
    (o.subjects ?? []).forEach((subject, i) => {
      validateSubject(subject, `subjects[${i}]`, namespaced, errors);
    });
  };
}

export function validateRoleRef(o: Draft<Binding>, old: Binding, errors: FieldErrors): void {
  if (!sameJson(o.roleRef, old.roleRef)) errors.invalid('roleRef', o.roleRef, 'cannot change roleRef');
}
