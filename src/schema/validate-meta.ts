/** Validation of `metadata` that holds for every kind. */
import type { Draft } from '#api/manifest.ts';
import type { ObjectMeta, OwnerReference } from '#api/meta.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { labelValueProblems, qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import type { KindRecord } from './kind.ts';
import { annotationsBytesMax } from './limits.ts';
import { labelProblem, nameProblem } from './name-forms.ts';

export function validateLabels(labels: Record<string, unknown> | undefined, at: string, errors: FieldErrors): void {
  if (labels === undefined || labels === null) return;
  for (const [key, value] of Object.entries(labels)) {
    if (errors.full) return;
    for (const problem of qualifiedNameProblems(key)) errors.invalid(at, key, problem);
    for (const problem of labelValueProblems(String(value))) errors.invalid(at, value, problem);
  }
}

export function validateAnnotations(
  annotations: Record<string, unknown> | undefined,
  at: string,
  errors: FieldErrors,
): void {
  if (annotations === undefined || annotations === null) return;
  let bytes = 0;
  for (const [key, value] of Object.entries(annotations)) {
    if (errors.full) return;
    for (const problem of qualifiedNameProblems(key.toLowerCase())) errors.invalid(at, key, problem);
    bytes += key.length + String(value).length;
  }
  if (bytes > annotationsBytesMax) errors.tooLong(at, annotationsBytesMax);
}

/** `metadata` of an object of the kind. What it shares with `old`, which has passed, is not looked at again. */
export function validateMetadata(object: KubeObject, kind: KindRecord, errors: FieldErrors, old?: KubeObject): void {
  const meta = object.metadata ?? {};
  const before = old?.metadata ?? {};
  if (
    old === undefined ||
    meta.name !== before.name ||
    meta.namespace !== before.namespace ||
    meta.generateName !== before.generateName
  )
    validateNames(meta, kind, errors);
  if (meta.labels !== before.labels) validateLabels(meta.labels, 'metadata.labels', errors);
  if (meta.annotations !== before.annotations) validateAnnotations(meta.annotations, 'metadata.annotations', errors);
  if (meta.ownerReferences !== before.ownerReferences) validateOwners(meta.ownerReferences, errors);
  if (meta.finalizers !== before.finalizers) validateFinalizers(meta.finalizers, kind, errors);
}

function validateNames(meta: ObjectMeta, kind: KindRecord, errors: FieldErrors): void {
  if (meta.generateName) {
    const problem = nameProblem[kind.nameForm](meta.generateName.replace(/-+$/, ''));
    if (problem !== '') errors.invalid('metadata.generateName', meta.generateName, problem);
  }
  if (!meta.name) errors.required('metadata.name', 'name or generateName is required');
  else {
    const problem = nameProblem[kind.nameForm](meta.name);
    if (problem !== '') errors.invalid('metadata.name', meta.name, problem);
  }
  if (kind.namespaced) {
    if (!meta.namespace) errors.required('metadata.namespace');
    else {
      const problem = labelProblem(meta.namespace);
      if (problem !== '') errors.invalid('metadata.namespace', meta.namespace, problem);
    }
  } else if (meta.namespace) errors.forbidden('metadata.namespace', 'not allowed on this type');
}

function validateFinalizers(finalizers: string[] | undefined, kind: KindRecord, errors: FieldErrors): void {
  (finalizers ?? []).forEach((f, i) => {
    for (const problem of qualifiedNameProblems(f)) errors.invalid('metadata.finalizers', f, problem);
    if (!plainMetadataGroups.has(kind.group) && kind.custom !== true && !f.includes('/') && !standardFinalizers.has(f))
      errors.invalid(
        `metadata.finalizers[${i}]`,
        f,
        'name is neither a standard finalizer name nor is it fully qualified',
      );
  });
}

/** Groups whose kinds take any qualified name as a finalizer. */
const plainMetadataGroups = new Set([
  'admissionregistration.k8s.io',
  'apiextensions.k8s.io',
  'apiregistration.k8s.io',
  'coordination.k8s.io',
]);
const standardFinalizers = new Set(['kubernetes', 'orphan', 'foregroundDeletion']);

function validateOwners(owners: Draft<OwnerReference>[] | undefined, errors: FieldErrors): void {
  let controller: string | undefined;
  (owners ?? []).forEach((owner, i) => {
    const at = `metadata.ownerReferences[${i}]`;
    const { apiVersion = '' } = owner;
    if (apiVersion === '') errors.required(`${at}.apiVersion`, 'must not be empty');
    else if (!/^([^/]*\/)?[^/]+$/.test(apiVersion))
      errors.invalid(`${at}.apiVersion`, apiVersion, 'must be <group>/<version> or <version>');
    if (apiVersion === 'v1' && owner.kind === 'Event')
      errors.invalid(at, owner, '/v1, Kind=Event is disallowed from being an owner');
    if (!owner.kind) errors.required(`${at}.kind`, 'must not be empty');
    if (!owner.name) errors.required(`${at}.name`, 'must not be empty');
    if (!owner.uid) errors.required(`${at}.uid`, 'must not be empty');
    if (owner.controller !== true) return;
    if (controller !== undefined)
      errors.invalid(
        'metadata.ownerReferences',
        owners,
        `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${owner.kind}/${owner.name}`,
      );
    controller = `${owner.kind}/${owner.name}`;
  });
}

const immutableFields = [
  'name',
  'namespace',
  'uid',
  'creationTimestamp',
  'deletionTimestamp',
  'deletionGracePeriodSeconds',
] as const;

/** What an update may not change in metadata. */
export function validateMetadataUpdate(object: KubeObject, old: KubeObject, errors: FieldErrors): void {
  for (const field of immutableFields)
    if ((object.metadata[field] ?? '') !== (old.metadata[field] ?? ''))
      errors.invalid(`metadata.${field}`, object.metadata[field] ?? '', 'field is immutable');
  if (old.metadata.deletionTimestamp !== undefined) {
    const before = new Set(old.metadata.finalizers ?? []);
    const added = (object.metadata.finalizers ?? []).filter((f: string) => !before.has(f));
    if (added.length > 0)
      errors.forbidden(
        'metadata.finalizers',
        `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
      );
  }
}
