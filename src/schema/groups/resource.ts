/** resource.k8s.io/v1. */
import type { Draft } from '#api/manifest.ts';
import type { DeviceClaim, DeviceTaint, DeviceTaintRule, ResourceClaim } from '#api/resource.v1.ts';
import { kinds } from '#base/kinds.ts';
import { timestamp } from '#base/timestamp.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { ageOf, column, columns, defineKind, pathText, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  validateClaim,
  validateClaimStatus,
  validateClaimTemplate,
  validateDeviceClass,
} from '../validate-device-claim.ts';
import { validateSlice, warnOfSlice } from '../validate-device-slice.ts';
import { validateTaintRule, validateTaintRuleStatus } from '../validate-devices.ts';

const status = { status: statusSubresource };

export const resourceKinds: readonly KindRecord[] = [
  defineKind(kinds.DeviceClass, {
    hasGeneration: true,
    columns: columns(),
    validate: validateDeviceClass,
  }),
  defineKind(kinds.DeviceTaintRule, {
    hasGeneration: true,
    subresources: status,
    statusKeeps: metadataFields,
    // What is tainted could be long, and is not shown.
    columns: columns(
      column('Key', (o) => o.spec?.taint?.key),
      column('Value', (o) => o.spec?.taint?.value ?? ''),
      column('Effect', (o) => o.spec?.taint?.effect),
      { name: 'TimeAdded', type: 'string', value: (o, now) => addedAgo(o.spec?.taint, now) },
    ),
    prepareCreate(o, now) {
      o.status = {};
      setAdded(o, now);
    },
    prepareUpdate(o, old, now) {
      resetStatus(o, old);
      setAdded(o, now);
      const { taint } = o.spec ?? {};
      const before = old.spec.taint;
      // Tolerations are counted from when this effect was added.
      if (taint !== undefined && taint.effect !== before.effect && taint.timeAdded === before.timeAdded)
        taint.timeAdded = timestamp(now);
    },
    validate: validateTaintRule,
    validateStatus: validateTaintRuleStatus,
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
    validate: validateClaim,
    validateStatus: validateClaimStatus,
    statusIsPlain: true,
  }),
  defineKind(kinds.ResourceClaimTemplate, {
    columns: columns(),
    defaults(o) {
      defaultRequests(o.spec?.spec?.devices);
    },
    validate: validateClaimTemplate,
  }),
  defineKind(kinds.ResourceSlice, {
    hasGeneration: true,
    columns: columns(
      column('Node', (o) => o.spec?.nodeName ?? ''),
      column('Driver', (o) => o.spec?.driver),
      column('Pool', (o) => o.spec?.pool?.name),
    ),
    validate: validateSlice,
    warn: warnOfSlice,
    selectableFields: { 'spec.nodeName': pathText('spec.nodeName'), 'spec.driver': pathText('spec.driver') },
  }),
];

function setAdded({ spec }: Draft<DeviceTaintRule>, now: number): void {
  if (spec?.taint) setDefault(spec.taint, 'timeAdded', timestamp(now));
}

function addedAgo(taint: DeviceTaint | undefined, now: number): string {
  return taint?.timeAdded === undefined ? '' : ageOf(taint.timeAdded, now);
}

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
      for (const toleration of asked.tolerations ?? []) setDefaultText(toleration, 'operator', 'Equal');
    }
}
