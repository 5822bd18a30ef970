/** storage.k8s.io/v1. */
import type { StorageClass } from '#api/storage.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KubeObject } from '#base/objects.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { sameJson } from '../validate-values.ts';
import {
  validateAttachment,
  validateAttachmentStatus,
  validateAttributesClass,
  validateCsiDriver,
  validateCsiNode,
  validateStorageCapacity,
  validateStorageClass,
  warnOfCsiDriver,
} from '../validate-storage.ts';

const status = { status: statusSubresource };

export const storageKinds: readonly KindRecord[] = [
  defineKind(kinds.CSIDriver, {
    needsVersion: true,
    columns: columns(
      column('AttachRequired', (o) => o.spec?.attachRequired !== false, { type: 'boolean' }),
      column('PodInfoOnMount', (o) => o.spec?.podInfoOnMount === true, { type: 'boolean' }),
      column('StorageCapacity', (o) => o.spec?.storageCapacity === true, { type: 'boolean' }),
      column('TokenRequests', (o) =>
        o.spec?.tokenRequests ? o.spec.tokenRequests.map((r) => r.audience ?? '').join(',') : '<unset>',
      ),
      column('RequiresRepublish', (o) => o.spec?.requiresRepublish === true, { type: 'boolean' }),
      column('Modes', (o) => (o.spec?.volumeLifecycleModes ?? ['Persistent']).join(',')),
    ),
    defaults(o) {
      o.spec ??= {};
      setDefault(o.spec, 'attachRequired', true);
      setDefault(o.spec, 'podInfoOnMount', false);
      setDefault(o.spec, 'storageCapacity', false);
      setDefault(o.spec, 'fsGroupPolicy', 'ReadWriteOnceWithFSType');
      if ((o.spec.volumeLifecycleModes ?? []).length === 0) o.spec.volumeLifecycleModes = ['Persistent'];
      setDefault(o.spec, 'requiresRepublish', false);
      setDefault(o.spec, 'seLinuxMount', false);
      setDefault(o.spec, 'preventPodSchedulingIfMissing', false);
    },
    // There is none before the first change.
    prepareUpdate(o, old) {
      if (!sameJson(o.spec, old.spec)) (o.metadata ??= {}).generation = (old.metadata.generation ?? 0) + 1;
    },
    validate: validateCsiDriver,
    warn: warnOfCsiDriver,
  }),
  defineKind(kinds.CSINode, {
    statusKeeps: metadataFields,
    needsVersion: true,
    subresources: status,
    columns: columns(column('Drivers', (o) => (o.spec?.drivers ?? []).length, { type: 'integer' })),
    validate: validateCsiNode,
  }),
  defineKind(kinds.CSIStorageCapacity, {
    needsVersion: true,
    validate: validateStorageCapacity,
  }),
  defineKind(kinds.StorageClass, {
    shortNames: ['sc'],
    validate: validateStorageClass,
    columns: columns<StorageClass>(
      column('Provisioner', (o) => o.provisioner),
      column('ReclaimPolicy', (o) => o.reclaimPolicy),
      column('VolumeBindingMode', (o) => o.volumeBindingMode),
      column('AllowVolumeExpansion', (o) => o.allowVolumeExpansion === true),
    ).map((c) =>
      c.name === 'Name'
        ? {
            ...c,
            value: (o: KubeObject) =>
              `${o.metadata.name}${o.metadata.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true' ? ' (default)' : ''}`,
          }
        : c,
    ),
    defaults(o) {
      setDefaultText(o, 'reclaimPolicy', 'Delete');
      setDefaultText(o, 'volumeBindingMode', 'Immediate');
    },
  }),
  defineKind(kinds.VolumeAttachment, {
    statusKeeps: metadataFields,
    needsVersion: true,
    subresources: status,
    columns: columns(
      { ...column('Attacher', (o) => o.spec?.attacher), format: 'name' },
      column('PV', (o) => o.spec?.source?.persistentVolumeName ?? ''),
      column('Node', (o) => o.spec?.nodeName),
      column('Attached', (o) => o.status?.attached === true, { type: 'boolean' }),
    ),
    validate: validateAttachment,
    validateStatus: validateAttachmentStatus,
    prepareCreate(o) {
      o.status = { attached: false };
    },
    prepareUpdate: resetStatus,
  }),
  defineKind(kinds.VolumeAttributesClass, {
    shortNames: ['vac'],
    columns: columns(column('DriverName', (o) => o.driverName)),
    validate: validateAttributesClass,
  }),
];
