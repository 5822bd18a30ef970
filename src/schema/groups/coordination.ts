/** coordination.k8s.io/v1. */
import type { Lease } from '#api/coordination.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind } from '../kind.ts';
import { validateLease } from '../validate-policy.ts';

/** Coordinated leader election is off by default: its fields are dropped, as upstream drops them. */
function dropCoordination({ spec }: Draft<Lease>): void {
  delete spec?.strategy;
  delete spec?.preferredHolder;
}

export const coordinationKinds: readonly KindRecord[] = [
  defineKind(kinds.Lease, {
    needsVersion: true,
    createsOnUpdate: true,
    columns: columns(column('Holder', (o) => o.spec?.holderIdentity ?? '')),
    validate: validateLease,
    prepareCreate: dropCoordination,
    prepareUpdate: dropCoordination,
  }),
];
