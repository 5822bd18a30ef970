/** resource.k8s.io/v1. */
import type { Draft } from '#api/manifest.ts';
import type { DeviceClaim, ResourceClaim } from '#api/resource.v1.ts';
import { kinds } from '#base/kinds.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind, pathText, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { sameJson } from '../validate-values.ts';

const status = { status: statusSubresource };

export const resourceKinds: readonly KindRecord[] = [
  defineKind(kinds.DeviceClass, {
    hasGeneration: true,
    columns: columns(),
  }),
  defineKind(kinds.ResourceClaim, {
    statusKeeps: metadataFields,
    subresources: status,
    columns: columns(column('State', (o) => claimState(o))),
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate: resetStatus,
    defaults(o) {
      defaultRequests(o.spec?.devices);
    },
    validateUpdate(o, old, errors) {
      if (!sameJson(o.spec, old.spec)) errors.invalid('spec', o.spec, 'field is immutable');
    },
  }),
  defineKind(kinds.ResourceClaimTemplate, {
    columns: columns(),
    defaults(o) {
      defaultRequests(o.spec?.spec?.devices);
    },
  }),
  defineKind(kinds.ResourceSlice, {
    hasGeneration: true,
    columns: columns(
      column('Node', (o) => o.spec?.nodeName ?? ''),
      column('Driver', (o) => o.spec?.driver),
      column('Pool', (o) => o.spec?.pool?.name),
    ),
    selectableFields: { 'spec.nodeName': pathText('spec.nodeName'), 'spec.driver': pathText('spec.driver') },
  }),
];

function claimState(o: ResourceClaim): string {
  const states = [
    ...(o.metadata.deletionTimestamp ? ['deleted'] : []),
    ...(o.status?.allocation === undefined ? [] : ['allocated']),
    ...((o.status?.reservedFor ?? []).length > 0 ? ['reserved'] : []),
  ];
  return states.length === 0 ? 'pending' : states.join(',');
}

function defaultRequests(devices: Draft<DeviceClaim> | undefined): void {
  for (const { exactly, firstAvailable = [] } of devices?.requests ?? [])
    for (const asked of exactly ? [exactly, ...firstAvailable] : firstAvailable) {
      setDefaultText(asked, 'allocationMode', 'ExactCount');
      if (asked.allocationMode === 'ExactCount') setDefault(asked, 'count', 1);
    }
}
