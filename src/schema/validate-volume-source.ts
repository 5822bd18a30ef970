/** Validation of the volumes of a Pod. */
import type {
  CSIVolumeSource,
  DownwardAPIVolumeFile,
  EphemeralVolumeSource,
  KeyToPath,
  ProjectedVolumeSource,
  Volume,
  VolumeProjection,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { certificatePaths, validateBundleProjection, validateCertificateProjection } from './validate-certificates.ts';
import { subdomainProblem } from './name-forms.ts';
import { validateClaimSpec } from './validate-claim.ts';
import { validateFieldPath, validateResourceField } from './validate-env.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';
import { validateLocalPath, validateMode } from './validate-values.ts';
import { validateCsiDriverName, validateDriverSource } from './volume-source-rules.ts';

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

/** Where upstream names a source that is one too many otherwise than its field. */
const shownAs: Readonly<Record<string, string>> = { cephfs: 'cephFS', downwardAPI: 'downwarAPI' };

function validateInlineCsi(source: Draft<CSIVolumeSource>, at: string, errors: FieldErrors): void {
  validateCsiDriverName(source.driver, `${at}.driver`, errors);
  const { nodePublishSecretRef: secret } = source;
  if (!secret) return;
  if (!secret.name) errors.required(`${at}.nodePublishSecretRef.name`);
  else if (subdomainProblem(secret.name) !== '')
    errors.invalid(`${at}.name`, secret.name, subdomainProblem(secret.name));
}

function validateEphemeral(
  { volumeClaimTemplate }: Draft<EphemeralVolumeSource>,
  at: string,
  errors: FieldErrors,
): void {
  const path = `${at}.volumeClaimTemplate`;
  if (!volumeClaimTemplate) {
    errors.required(path);
    return;
  }
  const { annotations, labels, ...others } = volumeClaimTemplate.metadata ?? {};
  validateAnnotations(annotations, `${path}.metadata.annotations`, errors);
  validateLabels(labels, `${path}.metadata.labels`, errors);
  for (const [field, value] of Object.entries(others))
    if (value !== undefined && value !== null && value !== '' && value !== 0)
      errors.forbidden(`${path}.metadata.${field}`, 'cannot be set');
  validateClaimSpec(volumeClaimTemplate.spec ?? {}, `${path}.spec`, errors);
}

function validateItems(items: Draft<KeyToPath>[] | undefined, at: string, errors: FieldErrors): void {
  (items ?? []).forEach((item, i) => {
    if (!item.key) errors.required(`${at}.items[${i}].key`);
    if (!item.path) errors.required(`${at}.items[${i}].path`);
    else validateLocalPath(item.path, `${at}.items[${i}].path`, errors);
  });
}

export function validateVolumeSource(volume: Draft<Volume>, at: string, errors: FieldErrors): void {
  const set = volumeSources.filter((s) => volume[s] !== undefined && volume[s] !== null);
  if (set.length === 0) errors.required(at, 'must specify a volume type');
  set.slice(1).forEach((s) => errors.forbidden(`${at}.${shownAs[s] ?? s}`, 'may not specify more than 1 volume type'));
  const [first] = set;
  if (first !== undefined) validateDriverSource(first, volume[first] ?? {}, `${at}.${first}`, errors);
  if (first === 'csi') validateInlineCsi(volume.csi ?? {}, `${at}.csi`, errors);
  if (first === 'ephemeral') validateEphemeral(volume.ephemeral ?? {}, `${at}.ephemeral`, errors);
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
  if (volume.persistentVolumeClaim && !volume.persistentVolumeClaim.claimName)
    errors.required(`${at}.persistentVolumeClaim.claimName`);
  const size: unknown = volume.emptyDir?.sizeLimit;
  if (isQuantity(size) && compareQuantities(String(size), '0') < 0)
    errors.forbidden(`${at}.emptyDir.sizeLimit`, 'SizeLimit field must be a valid resource quantity');
  validateMode(volume.downwardAPI?.defaultMode, `${at}.downwardAPI.defaultMode`, errors);
  for (const item of volume.downwardAPI?.items ?? []) validateDownward(item, `${at}.downwardAPI`, errors);
  if (volume.projected) validateProjected(volume.projected, `${at}.projected`, errors);
}

function validateProjected(projected: Draft<ProjectedVolumeSource>, at: string, errors: FieldErrors): void {
  validateMode(projected.defaultMode, `${at}.defaultMode`, errors);
  const paths = new Set<string>();
  for (const [i, source] of (projected.sources ?? []).entries()) {
    const path = `${at}.sources[${i}]`;
    validateProjection(source, path, errors);
    if (Object.values(source).filter((part) => part !== undefined && part !== null).length > 1)
      errors.forbidden(path, 'may not specify more than 1 volume type per source');
    for (const file of projectedPaths(source)) {
      if (paths.has(file)) errors.invalid(at, file, 'conflicting duplicate paths');
      paths.add(file);
    }
  }
}

/** The files that a source names itself. */
function projectedPaths(source: Draft<VolumeProjection>): string[] {
  const items = [source.secret, source.configMap, source.downwardAPI].flatMap((part) => part?.items ?? []);
  const certificate = source.podCertificate;
  return [
    ...items.map((item) => item.path),
    source.serviceAccountToken?.path,
    source.clusterTrustBundle?.path,
    ...certificatePaths.map((field) => certificate?.[field]),
  ].filter((path): path is string => path !== undefined && path !== '');
}

function validateProjection(source: Draft<VolumeProjection>, at: string, errors: FieldErrors): void {
  for (const part of ['configMap', 'secret'] as const) {
    const list = source[part];
    if (!list) continue;
    if (!list.name) errors.required(`${at}.${part}.name`);
    validateItems(list.items, `${at}.${part}`, errors);
  }
  if (source.serviceAccountToken) {
    const { path, expirationSeconds: seconds } = source.serviceAccountToken;
    if (!path) errors.required(`${at}.serviceAccountToken.path`);
    else validateLocalPath(path, `${at}.serviceAccountToken.path`, errors);
    const field = `${at}.serviceAccountToken.expirationSeconds`;
    if (seconds !== undefined && seconds < 600)
      errors.invalid(field, seconds, 'may not specify a duration less than 10 minutes');
    else if (seconds !== undefined && seconds > 2 ** 32)
      errors.invalid(field, seconds, 'may not specify a duration larger than 2^32 seconds');
  }
  for (const item of source.downwardAPI?.items ?? []) validateDownward(item, `${at}.downwardAPI`, errors);
  if (source.clusterTrustBundle)
    validateBundleProjection(source.clusterTrustBundle, `${at}.clusterTrustBundle`, errors);
  if (source.podCertificate) validateCertificateProjection(source.podCertificate, `${at}.podCertificate`, errors);
}

/** Upstream names the list for what is wrong with one of its items. */
function validateDownward(item: Draft<DownwardAPIVolumeFile>, at: string, errors: FieldErrors): void {
  if (!item.path) errors.required(`${at}.path`);
  else validateLocalPath(item.path, `${at}.path`, errors);
  if (item.fieldRef) {
    validateFieldPath(item.fieldRef, `${at}.fieldRef`, volumeFields, errors);
    if (item.resourceFieldRef)
      errors.invalid(at, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously');
  } else if (item.resourceFieldRef)
    validateResourceField(item.resourceFieldRef, `${at}.resourceFieldRef`, errors, true);
  else errors.required(at, 'one of fieldRef and resourceFieldRef is required');
  validateMode(item.mode, `${at}.mode`, errors);
}
