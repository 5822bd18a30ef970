/** policy/v1. */
import { kinds } from '#base/kinds.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateConditions } from '../validate-devices.ts';
import { validateBudget } from '../validate-policy.ts';

export const policyKinds: readonly KindRecord[] = [
  defineKind(kinds.PodDisruptionBudget, {
    needsVersion: true,
    nameForm: 'path',
    metadataLast: true,
    shortNames: ['pdb'],
    subresources: { status: statusSubresource },
    hasGeneration: true,
    columns: columns(
      column('Min Available', (o) => String(o.spec?.minAvailable ?? 'N/A')),
      column('Max Unavailable', (o) => String(o.spec?.maxUnavailable ?? 'N/A')),
      column('Allowed Disruptions', (o) => o.status?.disruptionsAllowed ?? 0, { type: 'integer' }),
    ),
    prepareCreate(o) {
      o.status = { disruptionsAllowed: 0, currentHealthy: 0, desiredHealthy: 0, expectedPods: 0 };
    },
    prepareUpdate: resetStatus,
    validate: validateBudget,
    validateStatus: (o, _old, errors) => validateConditions(o.status?.conditions, errors),
  }),
];
