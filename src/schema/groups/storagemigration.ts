/** storagemigration.k8s.io/v1. */
import type { StorageVersionMigration } from '#api/storagemigration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { equalJson } from '#base/json.ts';
import { kinds } from '#base/kinds.ts';
import type { FieldErrors } from '../field-errors.ts';
import { column, defineKind, statusSubresource, type KindRecord, metadataFields } from '../kind.ts';
import { label1035Problem, subdomainProblem } from '../name-forms.ts';
import { validateConditions } from '../validate-devices.ts';

type Migration = Draft<StorageVersionMigration>;

function validate({ spec }: Migration, errors: FieldErrors): void {
  const { group = '', resource = '' } = spec?.resource ?? {};
  if (resource === '') errors.required('spec.resource.resource', 'resource is required to be set');
  else if (label1035Problem(resource) !== '')
    errors.invalid('spec.resource.resource', resource, label1035Problem(resource));
  if (group !== '' && subdomainProblem(group) !== '')
    errors.invalid('spec.resource.group', group, subdomainProblem(group));
}

const isTrue = ({ status }: Migration, type: string): boolean =>
  (status?.conditions ?? []).some((condition) => condition.type === type && condition.status === 'True');

/** What has ended stays so, and where it began is told once. */
function validateStatus(object: Migration, old: StorageVersionMigration, errors: FieldErrors): void {
  const { resourceVersion = '', conditions = [] } = object.status ?? {};
  const before = old.status?.resourceVersion ?? '';
  validateConditions(conditions, errors);
  if (resourceVersion !== '' && !/^[1-9]\d*$/.test(resourceVersion))
    errors.invalid(
      'status.resourceVersion',
      resourceVersion,
      `resource version is not well formed: ${resourceVersion}`,
    );
  if (before !== '' && before !== resourceVersion)
    errors.invalid('status.resourceVersion', resourceVersion, 'field is immutable');
  if (isTrue(object, 'Succeeded') && isTrue(object, 'Failed'))
    errors.invalid(
      'status.conditions',
      conditions,
      'Both success and failed conditions cannot be true at the same time',
    );
  if (isTrue(old, 'Succeeded') && !isTrue(object, 'Succeeded'))
    errors.invalid('status.conditions', conditions, 'Success condition cannot be set to false once it is true');
  if (isTrue(old, 'Failed') && !isTrue(object, 'Failed'))
    errors.invalid('status.conditions', conditions, 'Failed condition cannot be set to false once it is true');
}

const migrationStates = new Set(['Running', 'Failed', 'Succeeded']);

/** The condition that holds. */
function migrationStatus({ status }: StorageVersionMigration): string {
  const holding = (status?.conditions ?? []).filter((condition) => condition.status === 'True');
  return holding.findLast(({ type }) => migrationStates.has(type))?.type ?? 'Unknown';
}

export const storagemigrationKinds: readonly KindRecord[] = [
  defineKind(kinds.StorageVersionMigration, {
    statusKeeps: metadataFields,
    needsVersion: true,
    subresources: { status: statusSubresource },
    columns: [
      column('Name', (o) => o.metadata.name),
      column('Resource', (o) => [o.spec?.resource.resource, o.spec?.resource.group].filter(Boolean).join('.')),
      column('Status', migrationStatus),
    ],
    defaults(o) {
      // The core group has an empty name, which Go writes.
      if (o.spec?.resource !== undefined) o.spec.resource.group ??= '';
    },
    // Go writes a status always.
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate(o, old) {
      o.status = old.status ?? {};
    },
    validate,
    validateUpdate(o, old, errors) {
      if (!equalJson(o.spec, old.spec)) errors.invalid('spec', o.spec, 'field is immutable');
    },
    validateStatus,
  }),
];
