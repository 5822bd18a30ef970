/** What a custom resource definition must be, beyond its own schema (Kubernetes, "CustomResourceDefinition v1"). */
import type {
  CustomResourceConversion,
  CustomResourceDefinition,
  CustomResourceDefinitionNames,
  CustomResourceDefinitionSpec,
  CustomResourceDefinitionVersion,
  CustomResourceSubresourceScale,
  JSONSchemaProps,
  SelectableField,
  WebhookConversion,
} from '#api/apiextensions.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject } from '#base/objects.ts';
import { equalJson } from '#base/json.ts';
import { fieldOf } from '#base/unknown.ts';
import { FieldErrors } from '#schema/field-errors.ts';
import { label1035Problem, subdomainProblem } from '#schema/name-forms.ts';
import { selectableFieldsMax } from '#schema/limits.ts';
import { checkSchemaRules } from '#schema/rule-checks.ts';
import { fieldPathOf } from '#schema/rule-paths.ts';
import { validateClientConfig } from '#schema/validate-admission.ts';
import { checkStructuralSchema } from '#schema/structural-schema.ts';
import type { RequestContext } from './context.ts';

const columnTypes = ['boolean', 'date', 'integer', 'number', 'string'];

function checkDefinition(
  definition: CustomResourceDefinition,
  old: CustomResourceDefinition | undefined,
  errors: FieldErrors,
): void {
  // Whatever is required may lack: it is looked for here.
  const spec: Partial<CustomResourceDefinitionSpec> = definition.spec;
  checkNames(definition, errors, old === undefined);
  if (!spec.scope) errors.required('spec.scope');
  else if (!['Cluster', 'Namespaced'].includes(spec.scope))
    errors.unsupported('spec.scope', spec.scope, ['Cluster', 'Namespaced']);
  const versions: Partial<CustomResourceDefinitionVersion>[] = spec.versions ?? [];
  checkStored(definition, versions, errors);
  const names = versions.map((v) => v.name);
  if (new Set(names).size !== names.length) errors.invalid('spec.versions', names, 'must contain unique version names');
  if (versions.filter((v) => v.storage === true).length !== 1)
    errors.invalid('spec.versions', names, 'must have exactly one version marked as storage version');
  // One schema for all versions is named once, as upstream does.
  const [first] = versions;
  const isShared = versions.every((v) => equalJson(v.schema, first?.schema));
  versions.forEach((version, i) => {
    const at = `spec.versions[${i}]`;
    const problem = label1035Problem(version.name ?? '');
    if (problem !== '') {
      errors.invalid(`${at}.name`, version.name ?? '', problem);
      // Upstream looks at the first one's under its old place, too.
      if (i === 0 && version.name) errors.invalid('spec.version', version.name, problem);
    }
    const schema = version.schema?.openAPIV3Schema;
    if (schema === undefined) errors.required(`${at}.schema.openAPIV3Schema`, 'schemas are required');
    else if (!isShared || i === 0) {
      const path = isShared ? 'spec.validation.openAPIV3Schema' : `${at}.schema.openAPIV3Schema`;
      const before = old?.spec.versions.find(({ name }) => name === version.name);
      checkSchema(schema, path, errors, before !== undefined && equalJson(before.schema, version.schema));
    }
    const fields = version.selectableFields;
    const sharesFields = versions.every((v) => equalJson(v.selectableFields, fields));
    if (schema !== undefined && fields !== undefined && (!sharesFields || i === 0))
      checkSelectableFields(fields, schema, `${sharesFields ? 'spec' : at}.selectableFields`, errors);
    const [columnsAt, scaleAt] = (['additionalPrinterColumns', 'subresources'] as const).map((field) =>
      placeOf(versions, field, i),
    );
    if (columnsAt !== undefined) checkColumns(version, columnsAt, errors);
    if (scaleAt !== undefined) checkScale(version.subresources?.scale, `${scaleAt}.subresources.scale`, errors);
  });
  checkConversion(spec.conversion, errors);
  if (spec.preserveUnknownFields === true)
    errors.invalid(
      'spec.preserveUnknownFields',
      true,
      'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead',
    );
}

/** Where a part of a version is named: what all versions have alike, once and as the definition's. */
function placeOf(
  versions: readonly Partial<CustomResourceDefinitionVersion>[],
  field: 'additionalPrinterColumns' | 'subresources',
  i: number,
): string | undefined {
  const isShared = versions.every((version) => equalJson(version[field], versions[0]?.[field]));
  return isShared ? (i === 0 ? 'spec' : undefined) : `spec.versions[${i}]`;
}

function checkStored(
  { status }: CustomResourceDefinition,
  versions: readonly Partial<CustomResourceDefinitionVersion>[],
  errors: FieldErrors,
): void {
  const stored = status?.storedVersions ?? [];
  if (stored.length === 0) errors.invalid('status.storedVersions', stored, 'must have at least one stored version');
  else
    for (const { name = '', storage } of versions)
      if (storage === true && !stored.includes(name))
        errors.invalid('status.storedVersions', stored, `must have the storage version ${name}`);
  stored.forEach((version, i) => {
    if (!versions.some(({ name }) => name === version))
      errors.invalid(`status.storedVersions[${i}]`, version, 'missing from spec.versions');
  });
}

/** Paths are those of the definition's older form. */
function checkConversion(conversion: CustomResourceConversion | undefined, errors: FieldErrors): void {
  if (conversion === undefined) return;
  const at = 'spec.conversion';
  const { strategy, webhook }: Partial<CustomResourceConversion> = conversion;
  if (!strategy) errors.required(`${at}.strategy`);
  else if (!['None', 'Webhook'].includes(strategy)) errors.unsupported(`${at}.strategy`, strategy, ['None', 'Webhook']);
  const { clientConfig, conversionReviewVersions = [] }: Partial<WebhookConversion> = webhook ?? {};
  if (strategy !== 'Webhook') {
    const detail = 'should not be set when strategy is not set to Webhook';
    if (clientConfig !== undefined) errors.forbidden(`${at}.webhookClientConfig`, detail);
    if (conversionReviewVersions.length > 0) errors.forbidden(`${at}.conversionReviewVersions`, detail);
    return;
  }
  if (clientConfig === undefined)
    errors.required(`${at}.webhookClientConfig`, 'required when strategy is set to Webhook');
  else validateClientConfig(clientConfig, `${at}.webhookClientConfig`, errors);
  checkReviewVersions(conversionReviewVersions, `${at}.conversionReviewVersions`, errors);
}

function checkReviewVersions(versions: readonly string[], at: string, errors: FieldErrors): void {
  if (versions.length === 0) {
    errors.required(at);
    return;
  }
  versions.forEach((version, i) => {
    if (versions.indexOf(version) < i) errors.invalid(`${at}[${i}]`, version, 'duplicate version');
    else if (label1035Problem(version) !== '') errors.invalid(`${at}[${i}]`, version, label1035Problem(version));
  });
  if (!versions.includes('v1') && !versions.includes('v1beta1'))
    errors.invalid(at, versions, 'must include at least one of v1, v1beta1');
}

/** Rules are looked at where their types can be told. */
function checkSchema(schema: JSONSchemaProps, at: string, errors: FieldErrors, isKept: boolean): void {
  const found = errors.fork();
  checkStructuralSchema(schema, at, found);
  if (!found.any) checkSchemaRules(schema, at, found, isKept);
  errors.take(found);
}

function checkNames(definition: CustomResourceDefinition, errors: FieldErrors, isNew: boolean): void {
  const { group, names: given }: Partial<CustomResourceDefinitionSpec> = definition.spec;
  const names: Partial<CustomResourceDefinitionNames> = given ?? {};
  if (!group) errors.required('spec.group');
  else if (subdomainProblem(group) !== '') errors.invalid('spec.group', group, subdomainProblem(group));
  else if (!group.includes('.')) errors.invalid('spec.group', group, 'should be a domain with at least one dot');
  if (isNew && definition.metadata.name !== `${names.plural ?? ''}.${group ?? ''}`)
    errors.invalid('metadata.name', definition.metadata.name, 'must be spec.names.plural+"."+spec.group');
  for (const field of ['plural', 'singular', 'kind', 'listKind'] as const)
    if (!names[field]) errors.required(`spec.names.${field}`);
  const labels: ['plural' | 'singular' | 'kind' | 'listKind', string | undefined][] = [
    ['plural', names.plural],
    ['singular', names.singular],
    ['kind', names.kind?.toLowerCase()],
    ['listKind', names.listKind?.toLowerCase()],
  ];
  for (const [field, value] of labels)
    if (value && label1035Problem(value) !== '')
      errors.invalid(`spec.names.${field}`, names[field] ?? '', label1035Problem(value));
  if (names.kind && names.kind === names.listKind)
    errors.invalid('spec.names.listKind', names.listKind, 'kind and listKind may not be the same');
  for (const field of ['shortNames', 'categories'] as const)
    (names[field] ?? []).forEach((name, i) => {
      if (label1035Problem(name) !== '') errors.invalid(`spec.names.${field}[${i}]`, name, label1035Problem(name));
    });
}

function checkColumns(version: Partial<CustomResourceDefinitionVersion>, at: string, errors: FieldErrors): void {
  (version.additionalPrinterColumns ?? []).forEach((column, i) => {
    const path = `${at}.additionalPrinterColumns[${i}]`;
    if (!column.name) errors.required(`${path}.name`);
    if (!column.type) errors.required(`${path}.type`, `must be one of ${columnTypes.join(',')}`);
    else if (!columnTypes.includes(column.type))
      errors.invalid(`${path}.type`, column.type, `must be one of ${columnTypes.join(',')}`);
    if (!column.jsonPath) errors.required(`${path}.JSONPath`);
    else if (!/^[.{[]/.test(column.jsonPath))
      errors.invalid(`${path}.jsonPath`, column.jsonPath, 'must be a simple json path starting with .');
  });
}

function checkSelectableFields(
  fields: readonly SelectableField[],
  schema: JSONSchemaProps,
  at: string,
  errors: FieldErrors,
): void {
  const paths = new Set<string>();
  fields.forEach(({ jsonPath }, i) => {
    const path = `${at}[${i}].jsonPath`;
    if (!jsonPath) {
      errors.required(path);
      return;
    }
    const found = fieldPathOf(jsonPath, schema, false);
    if ('problem' in found) {
      errors.invalid(path, jsonPath, `is an invalid path: ${found.problem}`);
      return;
    }
    if (found.root === 'metadata') errors.invalid(path, jsonPath, 'must not point to fields in metadata');
    if (!['string', 'boolean', 'integer'].includes(found.schema.type ?? ''))
      errors.invalid(
        path,
        jsonPath,
        'must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.',
      );
    if (paths.has(found.path)) errors.duplicate(path, jsonPath);
    paths.add(found.path);
  });
  if (paths.size > selectableFieldsMax) errors.tooMany(at, paths.size, selectableFieldsMax);
}

function checkScale(scale: CustomResourceSubresourceScale | undefined, at: string, errors: FieldErrors): void {
  if (!scale) return;
  const paths: [keyof CustomResourceSubresourceScale, string, boolean][] = [
    ['specReplicasPath', '.spec.', true],
    ['statusReplicasPath', '.status.', true],
    ['labelSelectorPath', '', false],
  ];
  for (const [field, start, needed] of paths) {
    const value = scale[field] ?? '';
    if (value === '') {
      if (needed) errors.required(`${at}.${field}`);
      continue;
    }
    const fits = start === '' ? /^\.(spec|status)\./.test(value) : value.startsWith(start);
    if (!fits || value.includes('['))
      errors.invalid(
        `${at}.${field}`,
        value,
        start === ''
          ? 'should be a json path under either .spec or .status'
          : `should be a json path under ${start.slice(0, -1)}`,
      );
  }
}

/** What other objects and clients rely on once the definition is served. */
function checkUpdate(definition: CustomResourceDefinition, old: CustomResourceDefinition, errors: FieldErrors): void {
  if (!(old.status?.conditions ?? []).some((c) => c.type === 'Established' && c.status === 'True')) return;
  for (const path of ['group', 'scope', 'names.plural', 'names.kind']) {
    const read = (o: CustomResourceDefinition): unknown => fieldOf(o.spec, ...path.split('.'));
    if (read(definition) !== read(old)) errors.invalid(`spec.${path}`, read(definition) ?? '', 'field is immutable');
  }
}

export function admitDefinition(
  _context: RequestContext,
  attributes: { operation: string; object: KubeObject; old?: KubeObject | undefined; subresource: string },
): void {
  const { object, old } = attributes;
  if (
    !isOf(kinds.CustomResourceDefinition, object) ||
    (old !== undefined && !isOf(kinds.CustomResourceDefinition, old))
  )
    return;
  if (attributes.operation === 'DELETE' || attributes.subresource !== '') return;
  // What was let in once, by whatever rules, may be written again as it is: finalizers of a definition that goes must
  // not hang on them.
  if (old !== undefined && equalJson(object.spec, old.spec)) return;
  const errors = new FieldErrors();
  checkDefinition(object, old, errors);
  if (old !== undefined) checkUpdate(object, old, errors);
  errors.throwIfAny('apiextensions.k8s.io', 'CustomResourceDefinition', object.metadata.name ?? '');
}
