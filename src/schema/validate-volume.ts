/** Validation of PersistentVolumes, and of volume specifications that stand within another object. */
import type { PersistentVolume, PersistentVolumeSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { posix } from 'node:path';
import { isQuantity, parseQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { subdomainProblem } from './name-forms.ts';
import { validateNodeSelector } from './validate-selector.ts';
import { sameJson, unchanged, validateNoBacksteps } from './validate-values.ts';
import { validateCsiSource, validateDriverSource } from './volume-source-rules.ts';

const volumeModes = ['Block', 'Filesystem'];
const accessModes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
const reclaimPolicies = ['Delete', 'Recycle', 'Retain'];

/** In the order in which they are looked at: the first is the volume's. */
const volumeSources = [
  'hostPath',
  'gcePersistentDisk',
  'awsElasticBlockStore',
  'glusterfs',
  'flocker',
  'nfs',
  'rbd',
  'quobyte',
  'cephfs',
  'iscsi',
  'cinder',
  'fc',
  'flexVolume',
  'azureFile',
  'vsphereVolume',
  'photonPersistentDisk',
  'portworxVolume',
  'azureDisk',
  'scaleIO',
  'local',
  'storageos',
  'csi',
] as const;
/** Fields that messages name otherwise. */
const shownAs: Readonly<Record<string, string>> = { gcePersistentDisk: 'persistentDisk' };

interface Where {
  at: string;
  /** Within a VolumeAttachment: a CSI source and little else. */
  isInline?: boolean;
}

export function validateAccessModes(modes: readonly string[] | undefined, at: string, errors: FieldErrors): void {
  for (const mode of modes ?? []) if (!accessModes.includes(mode)) errors.unsupported(at, mode, accessModes);
  const others = (modes ?? []).filter((mode) => mode !== 'ReadWriteOncePod' && accessModes.includes(mode));
  if (modes?.includes('ReadWriteOncePod') === true && others.length > 0)
    errors.forbidden(at, 'may not use ReadWriteOncePod with other access modes');
}

export function validateVolumeSpec(spec: Draft<PersistentVolumeSpec>, where: Where, errors: FieldErrors): void {
  const { at, isInline = false } = where;
  if (isInline) validateInline(spec, at, errors);
  if ((spec.accessModes ?? []).length === 0) errors.required(`${at}.accessModes`);
  validateAccessModes(spec.accessModes, `${at}.accessModes`, errors);
  if (!isInline) validateFree(spec, at, errors);
  validateSource(spec, at, errors);
  // It would empty the machine.
  if (
    spec.persistentVolumeReclaimPolicy === 'Recycle' &&
    spec.hostPath?.path &&
    posix.resolve('/', spec.hostPath.path) === '/' &&
    spec.hostPath.path.startsWith('/')
  )
    errors.forbidden(`${at}.persistentVolumeReclaimPolicy`, "may not be 'recycle' for a hostPath mount of '/'");
  if (spec.volumeAttributesClassName !== undefined) validateAttributesName(spec, at, errors);
}

function validateInline(spec: Draft<PersistentVolumeSpec>, at: string, errors: FieldErrors): void {
  const text = 'may not be specified in the context of inline volumes';
  for (const field of ['claimRef', 'capacity', 'nodeAffinity', 'storageClassName'] as const)
    if (spec[field] !== undefined && Object.keys(spec[field]).length > 0) errors.forbidden(`${at}.${field}`, text);
  if (spec.csi === undefined) errors.required(`${at}.csi`, 'has to be specified in the context of inline volumes');
  if (spec.persistentVolumeReclaimPolicy && spec.persistentVolumeReclaimPolicy !== 'Retain')
    errors.forbidden(`${at}.persistentVolumeReclaimPolicy`, 'may only be Retain in the context of inline volumes');
  if (spec.volumeMode !== undefined && spec.volumeMode !== 'Filesystem')
    errors.forbidden(
      `${at}.volumeMode`,
      'may not specify volumeMode other than Filesystem in the context of inline volumes',
    );
}

/** What a volume that stands for itself says, and one within another object may not. */
function validateFree(spec: Draft<PersistentVolumeSpec>, at: string, errors: FieldErrors): void {
  const capacity = spec.capacity ?? {};
  if (Object.keys(capacity).length === 0) errors.required(`${at}.capacity`);
  if (capacity.storage === undefined || Object.keys(capacity).length > 1)
    errors.unsupported(`${at}.capacity`, spec.capacity, ['storage']);
  for (const [name, value] of Object.entries(capacity))
    if (isQuantity(value)) {
      if (parseQuantity(value).nano < 0n)
        errors.invalid(`${at}.capacity[${name}]`, value, 'must be a valid resource quantity');
      if (parseQuantity(value).nano <= 0n)
        errors.invalid(`${at}.capacity[${name}]`, value, 'must be greater than zero');
    }
  const { persistentVolumeReclaimPolicy: policy, storageClassName, volumeMode, nodeAffinity } = spec;
  if (policy && !reclaimPolicies.includes(policy))
    errors.unsupported(`${at}.persistentVolumeReclaimPolicy`, policy, reclaimPolicies);
  if (nodeAffinity?.required) validateNodeSelector(nodeAffinity.required, `${at}.nodeAffinity.required`, errors);
  else if (nodeAffinity) errors.required(`${at}.nodeAffinity.required`, 'must specify required node constraints');
  if (storageClassName && subdomainProblem(storageClassName) !== '')
    errors.invalid(`${at}.storageClassName`, storageClassName, subdomainProblem(storageClassName));
  if (volumeMode !== undefined && !volumeModes.includes(volumeMode))
    errors.unsupported(`${at}.volumeMode`, volumeMode, volumeModes);
}

function validateSource(spec: Draft<PersistentVolumeSpec>, at: string, errors: FieldErrors): void {
  const set = volumeSources.filter((name) => spec[name] !== undefined && spec[name] !== null);
  if (set.length === 0) errors.required(at, 'must specify a volume type');
  set.forEach((name, i) => {
    if (i > 0 && name !== 'flexVolume') {
      errors.forbidden(`${at}.${name === 'cephfs' ? 'cephFS' : name}`, 'may not specify more than 1 volume type');
      return;
    }
    const path = `${at}.${shownAs[name] ?? name}`;
    if (spec.csi && name === 'csi') validateCsiSource(spec.csi, path, errors);
    else if (name === 'local') validateLocal(spec, at, errors);
    else validateDriverSource(name, spec[name] ?? {}, path, errors);
  });
}

function validateLocal(spec: Draft<PersistentVolumeSpec>, at: string, errors: FieldErrors): void {
  const path = spec.local?.path;
  if (!path) errors.required(`${at}.local.path`);
  else validateNoBacksteps(path, `${at}.local.path`, errors);
  if (!spec.nodeAffinity) errors.required(`${at}.nodeAffinity`, 'Local volume requires node affinity');
}

function validateAttributesName(spec: Draft<PersistentVolumeSpec>, at: string, errors: FieldErrors): void {
  const name = spec.volumeAttributesClassName ?? '';
  const field = `${at}.volumeAttributesClassName`;
  if (name === '') errors.required(field, 'an empty string is disallowed');
  else if (subdomainProblem(name) !== '') errors.invalid(field, name, subdomainProblem(name));
  if (spec.csi === undefined) errors.required(`${at}.csi`, 'has to be specified when using volumeAttributesClassName');
}

export function validateVolume(o: Draft<PersistentVolume>, errors: FieldErrors, old?: PersistentVolume): void {
  const spec = o.spec ?? {};
  validateVolumeSpec(spec, { at: 'spec' }, errors);
  if (old === undefined) return;
  const sources = (of: Draft<PersistentVolumeSpec>): unknown[] => volumeSources.map((name) => of[name]);
  const expand = old.spec.csi?.controllerExpandSecretRef === undefined && old.spec.csi !== undefined;
  const { controllerExpandSecretRef: _e, ...csi } = spec.csi ?? {};
  const now = expand && spec.csi !== undefined ? { ...spec, csi } : spec;
  if (!sameJson(sources(now), sources(old.spec)))
    errors.forbidden('spec.persistentvolumesource', 'spec.persistentvolumesource is immutable after creation');
  unchanged(spec.volumeMode, old.spec.volumeMode, 'volumeMode', errors);
  if (!sameJson(spec.nodeAffinity, old.spec.nodeAffinity) && old.spec.nodeAffinity)
    errors.invalid('nodeAffinity', spec.nodeAffinity, 'field is immutable');
  if (old.spec.volumeAttributesClassName !== undefined && spec.volumeAttributesClassName === undefined)
    errors.forbidden('spec.volumeAttributesClassName', 'update from non-nil value to nil is forbidden');
}

const goneSources: Readonly<Record<string, string>> = {
  cephfs: 'deprecated in v1.28, non-functional in v1.31+',
  photonPersistentDisk: 'deprecated in v1.11, non-functional in v1.16+',
  scaleIO: 'deprecated in v1.16, non-functional in v1.22+',
  storageos: 'deprecated in v1.22, non-functional in v1.25+',
  glusterfs: 'deprecated in v1.25, non-functional in v1.26+',
  rbd: 'deprecated in v1.28, non-functional in v1.31+',
};
const shownAsGone: Readonly<Record<string, string>> = { storageos: 'storageOS' };

export function warnOfVolume(
  o: Draft<PersistentVolume>,
  _old: PersistentVolume | undefined,
  warn: (text: string) => void,
): void {
  const spec: Draft<PersistentVolumeSpec> = o.spec ?? {};
  if (spec.persistentVolumeReclaimPolicy === 'Recycle')
    warn(
      'spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.',
    );
  for (const name of volumeSources)
    if (spec[name] !== undefined && goneSources[name] !== undefined)
      warn(`spec.${shownAsGone[name] ?? name}: ${goneSources[name]}`);
}
