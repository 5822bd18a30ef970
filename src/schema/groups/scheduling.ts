/** scheduling.k8s.io/v1 and node.k8s.io/v1. */
import type { PriorityClass } from '#api/scheduling.v1.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { ageColumn, column, columns, defineKind } from '../kind.ts';
import { validateRuntimeClass } from '../validate-classes.ts';
import { validatePriorityClass } from '../validate-policy.ts';

export const schedulingKinds: readonly KindRecord[] = [
  defineKind(kinds.PriorityClass, {
    shortNames: ['pc'],
    columns: columns<PriorityClass>(
      column('Value', (o) => o.value ?? 0, { type: 'integer' }),
      column('Global-Default', (o) => o.globalDefault === true, { type: 'boolean' }),
      ageColumn,
      column('PreemptionPolicy', (o) => o.preemptionPolicy),
    ),
    // It stays the first: what a class means never changes.
    prepareCreate(o) {
      (o.metadata ??= {}).generation = 1;
    },
    defaults(o) {
      setDefaultText(o, 'preemptionPolicy', 'PreemptLowerPriority');
      setDefault(o, 'value', 0);
    },
    validate: validatePriorityClass,
    validateUpdate(o, old, errors) {
      if (o.value !== old.value) errors.forbidden('value', 'may not be changed in an update.');
      if (o.preemptionPolicy !== old.preemptionPolicy)
        errors.invalid('preemptionPolicy', o.preemptionPolicy, 'field is immutable');
    },
  }),
];
export const nodeKinds: readonly KindRecord[] = [
  defineKind(kinds.RuntimeClass, {
    needsVersion: true,
    createsOnUpdate: true,
    columns: columns(column('Handler', (o) => o.handler)),
    validate: validateRuntimeClass,
  }),
];
