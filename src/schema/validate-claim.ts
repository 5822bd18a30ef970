/** PersistentVolumeClaims: what they are filled from, and validation (Kubernetes, "Persistent Volumes"). */
import type {
  PersistentVolumeClaim,
  PersistentVolumeClaimSpec,
  TypedLocalObjectReference,
  TypedObjectReference,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { compareQuantities, isQuantity, parseQuantity } from '#base/quantity.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { isWholeNumber, sameJson, unchanged, validateBasicQuantity } from './validate-values.ts';
import { validateAccessModes } from './validate-volume.ts';

const volumeModes = ['Block', 'Filesystem'];
const resizeStates = [
  'ControllerResizeInProgress',
  'ControllerResizeInfeasible',
  'NodeResizeInProgress',
  'NodeResizeInfeasible',
  'NodeResizePending',
];

/** A claim is filled from a claim or a snapshot (`dataSource`), or anything (`dataSourceRef`). Each says the other. */
export function alignDataSources(spec: Draft<PersistentVolumeClaimSpec>, old?: PersistentVolumeClaimSpec): void {
  if (spec.dataSourceRef?.namespace && !old?.dataSourceRef?.namespace) delete spec.dataSourceRef;
  const isUsed = old?.dataSource !== undefined || old?.dataSourceRef !== undefined;
  if (!isUsed && spec.dataSourceRef === undefined && spec.dataSource && !isClaimOrSnapshot(spec.dataSource))
    delete spec.dataSource;
  if (spec.dataSource && !spec.dataSourceRef) spec.dataSourceRef = { ...spec.dataSource };
  else if (spec.dataSourceRef && !spec.dataSource && !spec.dataSourceRef.namespace) {
    const { namespace: _n, ...source } = spec.dataSourceRef;
    spec.dataSource = source;
  }
}

function isClaimOrSnapshot({ apiGroup = '', kind }: Draft<TypedLocalObjectReference>): boolean {
  return apiGroup === ''
    ? kind === 'PersistentVolumeClaim'
    : apiGroup === 'snapshot.storage.k8s.io' && kind === 'VolumeSnapshot';
}

function validateSource(source: Draft<TypedObjectReference>, at: string, errors: FieldErrors, isOld: boolean): void {
  const { name = '', kind = '', apiGroup = '', namespace = '' } = source;
  if (name === '') errors.required(`${at}.name`);
  if (kind === '') errors.required(`${at}.kind`);
  if (apiGroup === '' && kind !== 'PersistentVolumeClaim')
    errors.invalid(at, kind, "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
  if (apiGroup !== '' && !isOld && subdomainProblem(apiGroup) !== '')
    errors.invalid(`${at}.apiGroup`, apiGroup, subdomainProblem(apiGroup));
  if (namespace !== '' && labelProblem(namespace) !== '')
    errors.invalid(`${at}.namespace`, namespace, labelProblem(namespace));
}

export function validateClaimSpec(
  spec: Draft<PersistentVolumeClaimSpec>,
  at: string,
  errors: FieldErrors,
  old?: PersistentVolumeClaimSpec,
): void {
  if ((spec.accessModes ?? []).length === 0) errors.required(`${at}.accessModes`, 'at least 1 access mode is required');
  if (spec.selector) validateLabelSelector(spec.selector, `${at}.selector`, errors);
  validateAccessModes(spec.accessModes, `${at}.accessModes`, errors);
  validateRequest(spec, `${at}.resources[storage]`, errors);
  for (const field of ['storageClassName', 'volumeAttributesClassName'] as const)
    if (spec[field] && subdomainProblem(spec[field]) !== '')
      errors.invalid(`${at}.${field}`, spec[field], subdomainProblem(spec[field]));
  if (spec.volumeMode !== undefined && !volumeModes.includes(spec.volumeMode))
    errors.unsupported(`${at}.volumeMode`, spec.volumeMode, volumeModes);
  const { dataSource, dataSourceRef } = spec;
  const isOld = old?.dataSource?.apiGroup !== undefined || old?.dataSourceRef?.apiGroup !== undefined;
  if (dataSource) validateSource(dataSource, `${at}.dataSource`, errors, isOld);
  if (dataSourceRef) validateSource(dataSourceRef, `${at}.dataSourceRef`, errors, isOld);
  if (dataSource && dataSourceRef?.namespace)
    errors.invalid(at, 'dataSource', 'may not be specified when dataSourceRef.namespace is specified');
  else if (dataSource && dataSourceRef && !sameJson(dataSource, { ...dataSourceRef, namespace: undefined }))
    errors.invalid(at, 'dataSource', 'must match dataSourceRef');
}

function validateRequest({ resources }: Draft<PersistentVolumeClaimSpec>, at: string, errors: FieldErrors): void {
  const storage = resources?.requests?.storage;
  if (storage === undefined) errors.required(at);
  else if (isQuantity(storage) && parseQuantity(storage).nano <= 0n)
    errors.invalid(at, storage, 'must be greater than zero');
}

export function validateClaim(o: Draft<PersistentVolumeClaim>, errors: FieldErrors, old?: PersistentVolumeClaim): void {
  validateClaimSpec(o.spec ?? {}, 'spec', errors, old?.spec);
}

export function validateClaimUpdate(
  o: Draft<PersistentVolumeClaim>,
  old: PersistentVolumeClaim,
  errors: FieldErrors,
): void {
  const spec = o.spec ?? {};
  const isBound = old.status?.phase === 'Bound';
  const fixed = (of: Draft<PersistentVolumeClaimSpec>): unknown => {
    const { volumeName, volumeAttributesClassName, resources, storageClassName, ...rest } = of;
    const { storage, ...requests } = resources?.requests ?? {};
    return {
      ...rest,
      storageClassName: storageClassName ?? old.spec.storageClassName,
      ...(old.spec.volumeName ? { volumeName } : {}),
      ...(isBound ? {} : { volumeAttributesClassName }),
      resources: { ...resources, requests: isBound && resources?.requests ? requests : { ...requests, storage } },
    };
  };
  if (!sameJson(fixed(spec), fixed(old.spec)))
    errors.forbidden(
      'spec',
      'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
    );
  const size = (of: string | undefined): string => (isQuantity(of) ? of : '0');
  const [now, before] = [size(spec.resources?.requests?.storage), size(old.spec.resources?.requests?.storage)];
  if (compareQuantities(now, before) < 0 && compareQuantities(now, size(old.status?.capacity?.storage)) <= 0)
    errors.forbidden('spec.resources.requests.storage', 'field can not be less than status.capacity');
  unchanged(spec.volumeMode, old.spec.volumeMode, 'volumeMode', errors);
  if (old.status?.currentVolumeAttributesClassName === undefined || spec.volumeAttributesClassName) return;
  const what = spec.volumeAttributesClassName === undefined ? 'nil' : 'empty string';
  errors.forbidden(
    'spec.volumeAttributesClassName',
    `update to ${what} is forbidden when status.currentVolumeAttributesClassName is not nil`,
  );
}

function validateResourceKey(name: string, at: string, errors: FieldErrors): boolean {
  if (name === 'storage' || (name.includes('/') && !name.startsWith('kubernetes.io/'))) return true;
  errors.invalid(at, name, name.includes('/') ? 'must not use the reserved namespace' : 'not a standard resource name');
  return false;
}

export function validateClaimStatus(
  o: Draft<PersistentVolumeClaim>,
  _old: PersistentVolumeClaim,
  errors: FieldErrors,
): void {
  const { capacity = {}, allocatedResourceStatuses = {}, allocatedResources = {} } = o.status ?? {};
  for (const [name, value] of Object.entries(capacity))
    validateBasicQuantity(value, `status.capacity[${name}]`, errors);
  for (const [name, state] of Object.entries(allocatedResourceStatuses)) {
    validateResourceKey(name, 'status.allocatedResourceStatuses', errors);
    if (!resizeStates.includes(state)) errors.unsupported('status.allocatedResourceStatuses', name, resizeStates);
  }
  for (const [name, value] of Object.entries(allocatedResources))
    if (validateResourceKey(name, 'status.allocatedResources', errors))
      validateBasicQuantity(value, `status.allocatedResources[${name}]`, errors);
}

export function warnOfClaim(
  { spec = {} }: { spec?: Draft<PersistentVolumeClaimSpec> },
  at: string,
  warn: (text: string) => void,
): void {
  for (const part of ['requests', 'limits'] as const) {
    const value = spec.resources?.[part]?.storage;
    if (value !== undefined && isQuantity(value) && !isWholeNumber(value))
      warn(
        `${at}.resources.${part}[storage]: fractional byte value ${JSON.stringify(value)} is invalid, must be an integer`,
      );
  }
}
