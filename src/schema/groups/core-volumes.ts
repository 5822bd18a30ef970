/** Volumes of the core group, v1, and claims on them. */
import { kinds } from '#base/kinds.ts';
import { defaultClaim, defaultQuantities, setDefault, setDefaultText } from '../defaults.ts';
import { column, columns, defineKind, statusSubresource } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateClaim, validateClaimUpdate, validateVolume } from '../validate-core.ts';

const status = { status: statusSubresource };

export const claims = defineKind(kinds.PersistentVolumeClaim, {
  shortNames: ['pvc'],
  subresources: status,
  columns: columns(
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Volume', (o) => o.spec?.volumeName ?? ''),
    column('Capacity', (o) => (o.spec?.volumeName ? (o.status?.capacity?.storage ?? '') : '')),
    column('Access Modes', (o) => (o.spec?.volumeName ? accessModes(o.status?.accessModes) : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName ?? '<unset>'),
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ),
  defaults(o) {
    defaultClaim(o);
  },
  prepareCreate(o) {
    o.status = { phase: 'Pending' };
  },
  prepareUpdate: resetStatus,
  validate: validateClaim,
  validateUpdate: validateClaimUpdate,
});

function accessModes(modes: string[] | undefined): string {
  const short: Record<string, string> = {
    ReadWriteOnce: 'RWO',
    ReadOnlyMany: 'ROX',
    ReadWriteMany: 'RWX',
    ReadWriteOncePod: 'RWOP',
  };
  return (modes ?? []).map((m) => short[m] ?? m).join(',');
}

export const volumes = defineKind(kinds.PersistentVolume, {
  shortNames: ['pv'],
  subresources: status,
  columns: columns(
    column('Capacity', (o) => o.spec?.capacity?.storage ?? ''),
    column('Access Modes', (o) => accessModes(o.spec?.accessModes)),
    column('Reclaim Policy', (o) => o.spec?.persistentVolumeReclaimPolicy),
    column('Status', (o) => (o.metadata.deletionTimestamp ? 'Terminating' : o.status?.phase)),
    column('Claim', (o) => (o.spec?.claimRef ? `${o.spec.claimRef.namespace}/${o.spec.claimRef.name}` : '')),
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
    defaultQuantities(o.spec.capacity);
  },
  prepareCreate(o) {
    o.status = { phase: 'Pending' };
  },
  prepareUpdate: resetStatus,
  validate: validateVolume,
});
