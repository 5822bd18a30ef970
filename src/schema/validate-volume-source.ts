/** Validation of the volumes of a Pod. */
import type { DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Volume } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { validateFieldPath } from './validate-container.ts';
import { oneOf, validateMode } from './validate-values.ts';

const volumeFields = ['metadata.annotations', 'metadata.labels', 'metadata.name', 'metadata.namespace', 'metadata.uid'];

const volumeSources = [
  'hostPath',
  'emptyDir',
  'gcePersistentDisk',
  'awsElasticBlockStore',
  'gitRepo',
  'secret',
  'nfs',
  'iscsi',
  'glusterfs',
  'persistentVolumeClaim',
  'rbd',
  'flexVolume',
  'cinder',
  'cephfs',
  'flocker',
  'downwardAPI',
  'fc',
  'azureFile',
  'configMap',
  'vsphereVolume',
  'quobyte',
  'azureDisk',
  'photonPersistentDisk',
  'projected',
  'portworxVolume',
  'scaleIO',
  'storageos',
  'csi',
  'ephemeral',
  'image',
] as const;

function validateItems(items: Draft<KeyToPath>[] | undefined, at: string, errors: FieldErrors): void {
  (items ?? []).forEach((item, i) => {
    if (!item.key) errors.required(`${at}.items[${i}].key`);
    if (!item.path) errors.required(`${at}.items[${i}].path`);
    else if (item.path.startsWith('/')) errors.invalid(`${at}.items[${i}].path`, item.path, 'must be a relative path');
    else if (item.path.split('/').includes('..'))
      errors.invalid(`${at}.items[${i}].path`, item.path, "must not contain '..'");
  });
}

export function validateVolumeSource(volume: Draft<Volume>, at: string, errors: FieldErrors): void {
  const set = volumeSources.filter((s) => volume[s] !== undefined && volume[s] !== null);
  if (set.length === 0) errors.required(at, 'must specify a volume type');
  set.slice(1).forEach((s) => errors.forbidden(`${at}.${s}`, 'may not specify more than 1 volume type'));
  if (volume.configMap) {
    if (!volume.configMap.name) errors.required(`${at}.configMap.name`);
    validateMode(volume.configMap.defaultMode, `${at}.configMap.defaultMode`, errors);
    validateItems(volume.configMap.items, `${at}.configMap`, errors);
  }
  if (volume.secret) {
    if (!volume.secret.secretName) errors.required(`${at}.secret.secretName`);
    validateMode(volume.secret.defaultMode, `${at}.secret.defaultMode`, errors);
    validateItems(volume.secret.items, `${at}.secret`, errors);
  }
  if (volume.hostPath) validateHostPath(volume.hostPath, `${at}.hostPath`, errors);
  if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName)
    errors.required(`${at}.persistentVolumeClaim.claimName`);
  if (volume.emptyDir?.sizeLimit !== undefined && !isQuantity(volume.emptyDir.sizeLimit))
    errors.invalid(`${at}.emptyDir.sizeLimit`, volume.emptyDir.sizeLimit, 'must be a quantity');
  for (const [i, item] of (volume.downwardAPI?.items ?? []).entries())
    validateDownward(item, `${at}.downwardAPI.items[${i}]`, errors);
  (volume.projected?.sources ?? []).forEach((source, i) => {
    const path = `${at}.projected.sources[${i}]`;
    if (source.configMap && !source.configMap.name) errors.required(`${path}.configMap.name`);
    if (source.secret && !source.secret.name) errors.required(`${path}.secret.name`);
    if (source.serviceAccountToken) {
      if (!source.serviceAccountToken.path) errors.required(`${path}.serviceAccountToken.path`);
      const { expirationSeconds: seconds } = source.serviceAccountToken;
      if (seconds !== undefined && seconds < 600)
        errors.invalid(
          `${path}.serviceAccountToken.expirationSeconds`,
          seconds,
          'may not specify a duration less than 10 minutes',
        );
      else if (seconds !== undefined && seconds > 2 ** 32)
        errors.invalid(
          `${path}.serviceAccountToken.expirationSeconds`,
          seconds,
          'may not specify a duration larger than 2^32 seconds',
        );
    }
    for (const [j, item] of (source.downwardAPI?.items ?? []).entries())
      validateDownward(item, `${path}.downwardAPI.items[${j}]`, errors);
  });
}

function validateDownward(item: Draft<DownwardAPIVolumeFile>, at: string, errors: FieldErrors): void {
  if (!item.path) errors.required(`${at}.path`);
  if (item.fieldRef) validateFieldPath(item.fieldRef, `${at}.fieldRef`, volumeFields, errors);
  else if (!item.resourceFieldRef) errors.required(at, 'one of fieldRef and resourceFieldRef is required');
}

export function validateHostPath(source: Draft<HostPathVolumeSource>, at: string, errors: FieldErrors): void {
  if (!source.path) errors.required(`${at}.path`);
  else if (source.path.split('/').includes('..')) errors.invalid(`${at}.path`, source.path, "must not contain '..'");
  oneOf(
    source.type,
    ['BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'],
    `${at}.type`,
    errors,
  );
}
