/** Volumes of the core group, v1, and claims on them. */
import type { PersistentVolume } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { kinds } from '#base/kinds.ts';
import { timestamp } from '#base/timestamp.ts';
import {
  defaultAzureDisk,
  defaultClaim,
  defaultQuantities,
  defaultRbd,
  defaultScaleIo,
  setDefault,
  setDefaultText,
} from '../defaults.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import {
  alignDataSources,
  validateClaim,
  validateClaimStatus,
  validateClaimUpdate,
  warnOfClaim,
} from '../validate-claim.ts';
import { validateVolume, warnOfVolume } from '../validate-volume.ts';

const status = { status: statusSubresource };

export const claims = defineKind(kinds.PersistentVolumeClaim, {
  shortNames: ['pvc'],
  subresources: status,
  columns: columns(
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Volume', (o) => o.spec?.volumeName ?? ''),
    column('Capacity', (o) => (o.spec?.volumeName ? (o.status?.capacity?.storage ?? '0') : '')),
    column('Access Modes', (o) => (o.spec?.volumeName ? accessModes(o.status?.accessModes) : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName ?? '<unset>'),
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ),
  defaults(o) {
    defaultClaim(o);
    setDefaultText((o.status ??= {}), 'phase', 'Pending');
  },
  defaultStatus(status) {
    setDefaultText(status, 'phase', 'Pending');
  },
  prepareCreate(o) {
    o.status = { phase: 'Pending' };
    if (o.spec !== undefined) alignDataSources(o.spec);
  },
  prepareUpdate(o, old) {
    resetStatus(o, old);
    if (o.spec !== undefined) alignDataSources(o.spec, old.spec);
  },
  validate: validateClaim,
  validateUpdate: validateClaimUpdate,
  validateStatus: validateClaimStatus,
  warn(o, _old, warn) {
    warnOfClaim(o, 'spec', warn);
  },
});

function accessModes(modes: string[] | undefined): string {
  const short: Record<string, string> = {
    ReadWriteOnce: 'RWO',
    ReadOnlyMany: 'ROX',
    ReadWriteMany: 'RWX',
    ReadWriteOncePod: 'RWOP',
  };
  return [...new Set(modes)].flatMap((m) => short[m] ?? []).join(',');
}

export const volumes = defineKind(kinds.PersistentVolume, {
  shortNames: ['pv'],
  subresources: status,
  columns: columns(
    column('Capacity', (o) => o.spec?.capacity?.storage ?? '0'),
    column('Access Modes', (o) => accessModes(o.spec?.accessModes)),
    column('Reclaim Policy', (o) => o.spec?.persistentVolumeReclaimPolicy),
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Claim', (o) =>
      o.spec?.claimRef ? `${o.spec.claimRef.namespace ?? ''}/${o.spec.claimRef.name ?? ''}` : '',
    ),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName ?? '<unset>'),
    column('Reason', (o) => o.status?.reason ?? ''),
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ),
  defaults(o) {
    o.spec ??= {};
    setDefaultText(o.spec, 'persistentVolumeReclaimPolicy', 'Retain');
    setDefaultText(o.spec, 'volumeMode', 'Filesystem');
    if (o.spec.hostPath) setDefault(o.spec.hostPath, 'type', '');
    if (o.spec.iscsi) setDefaultText(o.spec.iscsi, 'iscsiInterface', 'default');
    if (o.spec.rbd) defaultRbd(o.spec.rbd);
    if (o.spec.azureDisk) defaultAzureDisk(o.spec.azureDisk);
    if (o.spec.scaleIO) defaultScaleIo(o.spec.scaleIO);
    defaultQuantities(o.spec.capacity);
    setDefaultText((o.status ??= {}), 'phase', 'Pending');
  },
  defaultStatus(status) {
    setDefaultText(status, 'phase', 'Pending');
  },
  prepareCreate(o, now) {
    o.status = { phase: 'Pending', lastPhaseTransitionTime: timestamp(now) };
  },
  prepareUpdate: resetStatus,
  prepareStatus: noteTransition,
  validate: validateVolume,
  warn: warnOfVolume,
});

/** A new phase has its time, unless the client tells another. */
function noteTransition(o: Draft<PersistentVolume>, old: PersistentVolume, now: number): void {
  const status = (o.status ??= {});
  const before = old.status?.lastPhaseTransitionTime;
  const isSame = status.phase === old.status?.phase;
  const given = status.lastPhaseTransitionTime;
  if (isSame) {
    if (given === undefined && before !== undefined) status.lastPhaseTransitionTime = before;
  } else if (given === undefined || given === before) status.lastPhaseTransitionTime = timestamp(now);
}
