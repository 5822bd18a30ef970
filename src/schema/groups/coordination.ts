/** coordination.k8s.io/v1. */
import { kinds } from '#base/kinds.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';
import { validateLease } from '../validate-policy.ts';

export const coordinationKinds: readonly KindRecord[] = [
  defineKind(kinds.Lease, {
    needsVersion: true,
    createsOnUpdate: true,
    columns: columns(column('Holder', (o) => o.spec?.holderIdentity ?? '')),
    validate: validateLease,
  }),
];
