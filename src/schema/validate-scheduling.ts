/** Validation of where Pods may run beside the rules of affinity: tolerations, and how Pods spread. */
import type { Toleration, TopologySpreadConstraint } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateLabelKeys, validateLabelSelector } from './validate-selector.ts';
import { oneOf } from './validate-values.ts';

export function validateTolerations(list: Draft<Toleration>[] | undefined, at: string, errors: FieldErrors): void {
  (list ?? []).forEach((t, i) => {
    const path = `${at}[${i}]`;
    if (t.key) for (const problem of qualifiedNameProblems(t.key)) errors.invalid(`${path}.key`, t.key, problem);
    if (!t.key && t.operator !== 'Exists')
      errors.invalid(
        `${path}.operator`,
        t.operator ?? '',
        'operator must be Exists when `key` is empty, which means "match all values and all keys"',
      );
    if (t.tolerationSeconds !== undefined && t.effect !== 'NoExecute')
      errors.invalid(`${path}.effect`, t.effect ?? '', "effect must be 'NoExecute' when `tolerationSeconds` is set");
    if (t.operator === 'Exists' && t.value)
      errors.invalid(`${path}.operator`, t.value, "value must be empty when `operator` is 'Exists'");
    if (!t.operator || t.operator === 'Equal')
      for (const problem of labelValueProblems(t.value ?? '')) errors.invalid(`${path}.operator`, t.value, problem);
    // Comparing (Gt, Lt) is a feature that is off by default.
    oneOf(t.operator, ['Equal', 'Exists'], `${path}.operator`, errors);
    oneOf(t.effect, ['NoExecute', 'NoSchedule', 'PreferNoSchedule'], `${path}.effect`, errors);
  });
}

const actions = ['DoNotSchedule', 'ScheduleAnyway'];
const inclusions = ['Honor', 'Ignore'];

export function validateSpread(
  list: Draft<TopologySpreadConstraint>[] | undefined,
  at: string,
  errors: FieldErrors,
): void {
  (list ?? []).forEach((constraint, i, all) => {
    const path = `${at}[${i}]`;
    const { maxSkew = 0, topologyKey = '', whenUnsatisfiable: action = '', labelSelector } = constraint;
    if (maxSkew <= 0) errors.invalid(`${path}.maxSkew`, maxSkew, 'must be greater than 0');
    if (topologyKey === '') errors.required(`${path}.topologyKey`, 'can not be empty');
    if (!actions.includes(action)) errors.unsupported(`${path}.whenUnsatisfiable`, action, actions);
    const twin = all
      .slice(i + 1)
      .some((other) => other.topologyKey === constraint.topologyKey && other.whenUnsatisfiable === action);
    if (twin) errors.duplicate(`${path}.{topologyKey, whenUnsatisfiable}`, `{${topologyKey}, ${action}}`);
    validateMinDomains(constraint, `${path}.minDomains`, errors);
    for (const field of ['nodeAffinityPolicy', 'nodeTaintsPolicy'] as const) {
      const value: unknown = constraint[field];
      if (typeof value === 'string' && !inclusions.includes(value))
        errors.unsupported(`${path}.${field}`, value, inclusions);
    }
    validateLabelKeys({ labelSelector, matchLabelKeys: constraint.matchLabelKeys }, path, errors);
    if (labelSelector) validateLabelSelector(labelSelector, `${path}.labelSelector`, errors);
  });
}

function validateMinDomains(
  { minDomains, whenUnsatisfiable: action }: Draft<TopologySpreadConstraint>,
  at: string,
  errors: FieldErrors,
): void {
  if (typeof minDomains !== 'number') return;
  if (minDomains <= 0) errors.invalid(at, minDomains, 'must be greater than 0');
  if (action !== 'DoNotSchedule')
    errors.invalid(at, minDomains, `can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ${action}`);
}
