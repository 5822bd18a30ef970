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
import type { Draft } from '#api/manifest.ts';
import { equalJson } from '#base/json.ts';
import { fieldOf } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { selectableFieldsMax } from './limits.ts';
import { label1035Problem, subdomainProblem } from './name-forms.ts';
import { checkSchemaRules } from './rule-checks.ts';
import { fieldPathOf } from './rule-paths.ts';
import { checkDefaults } from './schema-defaults.ts';
import { checkSchemaDocument } from './schema-document.ts';
import { checkStructuralSchema, unstructuredPart } from './structural-schema.ts';
import { validateClientConfig } from './validate-admission.ts';

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
  versions.forEach((version, i) => {
    checkVersion({ versions, i, version, old }, errors);
  });
  checkConversion(spec.conversion, errors);
  if (spec.preserveUnknownFields === true)
    errors.invalid(
      'spec.preserveUnknownFields',
      true,
      'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead',
    );
}

/** A version among the others. */
interface VersionPlace {
  versions: readonly Partial<CustomResourceDefinitionVersion>[];
  i: number;
  version: Partial<CustomResourceDefinitionVersion>;
  old: CustomResourceDefinition | undefined;
}

/** One schema for all versions is named once, as upstream does; so are other parts. */
function checkVersion({ versions, i, version, old }: VersionPlace, errors: FieldErrors): void {
  const at = `spec.versions[${i}]`;
  const { name = '', deprecationWarning: warning } = version;
  const problem = label1035Problem(name);
  if (problem !== '') {
    errors.invalid(`${at}.name`, name, problem);
    // Upstream looks at the first one's under its old place, too.
    if (i === 0 && name !== '') errors.invalid('spec.version', name, problem);
  }
  if (warning !== undefined && warning !== null)
    for (const text of warningProblems(warning, version.deprecated === true))
      errors.invalid(`${at}.deprecationWarning`, warning, text);
  const schema = version.schema?.openAPIV3Schema;
  const isShared = versions.every((v) => equalJson(v.schema, versions[0]?.schema));
  if (schema === undefined) errors.required(`${at}.schema.openAPIV3Schema`, 'schemas are required');
  else if (!isShared || i === 0) {
    const path = isShared ? 'spec.validation.openAPIV3Schema' : `${at}.schema.openAPIV3Schema`;
    const before = old?.spec.versions.find((one) => one.name === name);
    const isKept = before !== undefined && equalJson(before.schema, version.schema);
    const having = isShared ? versions : [version];
    checkSchema(schema, path, errors, { isKept, hasStatus: having.some((v) => v.subresources?.status !== undefined) });
  }
  const fields = version.selectableFields ?? [];
  const sharesFields = versions.every((v) => equalJson(v.selectableFields, version.selectableFields));
  if (fields.length > 0 && (!sharesFields || i === 0)) {
    const path = `${sharesFields ? 'spec' : at}.selectableFields`;
    if (schema === undefined)
      errors.invalid(
        path,
        '',
        sharesFields
          ? 'may only be set when validations.schema is included'
          : 'may only be set when `version.schema.openAPIV3Schema` is not included',
      );
    else checkSelectableFields(fields, schema, path, errors);
  }
  const [columnsAt, scaleAt] = (['additionalPrinterColumns', 'subresources'] as const).map((field) =>
    placeOf(versions, field, i),
  );
  if (columnsAt !== undefined) checkColumns(version, columnsAt, errors);
  if (scaleAt !== undefined) checkScale(version.subresources?.scale, `${scaleAt}.subresources.scale`, errors);
}

const warningCharsMax = 256;

function warningProblems(text: string, isDeprecated: boolean): string[] {
  if (!isDeprecated) return ['can only be set for deprecated versions'];
  const problems: string[] = [];
  if (text.length > warningCharsMax) problems.push(`must be <= ${warningCharsMax} characters long`);
  if (text === '') problems.push('must not be an empty string');
  const wrong = text.search(/[\p{C}\p{Zl}\p{Zp}]/u);
  if (wrong >= 0)
    problems.push(`must only contain printable UTF-8 characters; non-printable character found at index ${wrong}`);
  return problems;
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
  if (stored.length === 0) {
    errors.invalid('status.storedVersions', stored, 'must have at least one stored version');
    return;
  }
  const missing = new Set(stored);
  for (const { name = '', storage } of versions)
    if (!missing.delete(name) && storage === true)
      errors.invalid('status.storedVersions', stored, `must have the storage version ${name}`);
  for (const version of missing)
    errors.invalid(
      `status.storedVersions[${stored.lastIndexOf(version)}]`,
      version,
      `missing from spec.versions; ${version} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${version} and removes ${version} from status.storedVersions`,
    );
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
function checkSchema(
  schema: JSONSchemaProps,
  at: string,
  errors: FieldErrors,
  { isKept, hasStatus }: { isKept: boolean; hasStatus: boolean },
): void {
  const found = errors.fork();
  if (hasStatus) checkRoot(schema, at, found);
  if (schema.nullable === true) found.forbidden(`${at}.nullable`, 'nullable cannot be true at the root');
  const unstructured = unstructuredPart(schema);
  const structure = errors.fork();
  if (unstructured === '') checkStructuralSchema(schema, at, structure);
  if (unstructured === '' && !structure.any) checkDefaults(schema, at, structure);
  found.take(structure);
  checkSchemaDocument(schema, at, found);
  if (!found.any && unstructured !== '') found.invalid(at, '', unstructured);
  if (!found.any) checkSchemaRules(schema, at, found, isKept);
  errors.take(found);
}

const rootFields = [
  ...['Description', 'Type', 'Format', 'Title', 'Maximum', 'ExclusiveMaximum', 'Minimum', 'ExclusiveMinimum'],
  ...['MaxLength', 'MinLength', 'Pattern', 'MaxItems', 'MinItems', 'UniqueItems', 'MultipleOf', 'Required', 'Items'],
  ...['Properties', 'ExternalDocs', 'Example', 'XPreserveUnknownFields', 'XValidations'],
];
/** Those that may not be, in the order in which they are looked for: the type comes after the first three. */
const notAtRoot = [
  ...(['id', '$schema', '$ref', 'type', 'nullable', 'default', 'enum', 'allOf', 'oneOf', 'anyOf', 'not'] as const),
  ...(['additionalProperties', 'patternProperties', 'dependencies', 'additionalItems', 'definitions'] as const),
  ...(['x-kubernetes-embedded-resource', 'x-kubernetes-int-or-string', 'x-kubernetes-list-map-keys'] as const),
  ...(['x-kubernetes-list-type', 'x-kubernetes-map-type'] as const),
];

/** With a status that is written by itself, the root says nothing that looks across it. */
function checkRoot(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  for (const field of notAtRoot) {
    const value: unknown = schema[field];
    if (value === undefined || value === null || value === '' || value === false) continue;
    if (Array.isArray(value) && value.length === 0) continue;
    if (field === 'type' && value === 'object') continue;
    if (field === 'type')
      errors.invalid(
        `${at}.type`,
        value,
        'only "object" is allowed as the type at the root of the schema if the status subresource is enabled',
      );
    else
      errors.invalid(
        at,
        schema,
        `only [${rootFields.join(' ')}] fields are allowed at the root of the schema if the status subresource is enabled`,
      );
    return;
  }
}

function checkNames(definition: CustomResourceDefinition, errors: FieldErrors, isNew: boolean): void {
  const { group, names: given }: Partial<CustomResourceDefinitionSpec> = definition.spec;
  const names: Partial<CustomResourceDefinitionNames> = given ?? {};
  if (!group) errors.required('spec.group');
  else if (subdomainProblem(group) !== '') errors.invalid('spec.group', group, subdomainProblem(group));
  else if (!group.includes('.')) errors.invalid('spec.group', group, 'should be a domain with at least one dot');
  for (const field of ['generateName', 'name'] as const) {
    const name = definition.metadata[field];
    if (isNew && name && name !== `${names.plural ?? ''}.${group ?? ''}`)
      errors.invalid(`metadata.${field}`, name, 'must be spec.names.plural+"."+spec.group');
  }
  for (const field of ['plural', 'singular', 'kind', 'listKind'] as const)
    if (!names[field]) errors.required(`spec.names.${field}`);
  checkNameForms(names, 'spec.names', errors);
}

/** Of a specification, or of what was accepted of it. */
function checkNameForms(names: Partial<CustomResourceDefinitionNames>, at: string, errors: FieldErrors): void {
  for (const field of ['plural', 'singular', 'kind', 'listKind'] as const) {
    const value = names[field] ?? '';
    const isKind = field === 'kind' || field === 'listKind';
    const problem = label1035Problem(isKind ? value.toLowerCase() : value);
    if (value !== '' && problem !== '')
      errors.invalid(
        `${at}.${field}`,
        value,
        `${isKind ? 'may have mixed case, but should otherwise match: ' : ''}${problem}`,
      );
  }
  const checkAll = (field: 'shortNames' | 'categories'): void =>
    (names[field] ?? []).forEach((name, i) => {
      if (label1035Problem(name) !== '') errors.invalid(`${at}.${field}[${i}]`, name, label1035Problem(name));
    });
  checkAll('shortNames');
  if (names.kind && names.kind === names.listKind)
    errors.invalid(`${at}.listKind`, names.listKind, 'kind and listKind may not be the same');
  checkAll('categories');
}

const columnFormats = ['byte', 'date', 'date-time', 'double', 'float', 'int32', 'int64', 'password'];

function checkColumns(version: Partial<CustomResourceDefinitionVersion>, at: string, errors: FieldErrors): void {
  (version.additionalPrinterColumns ?? []).forEach((column, i) => {
    const path = `${at}.additionalPrinterColumns[${i}]`;
    if (!column.name) errors.required(`${path}.name`);
    if (!column.type) errors.required(`${path}.type`, `must be one of ${columnTypes.join(',')}`);
    else if (!columnTypes.includes(column.type))
      errors.invalid(`${path}.type`, column.type, `must be one of ${columnTypes.join(',')}`);
    if (column.format && !columnFormats.includes(column.format))
      errors.invalid(`${path}.format`, column.format, `must be one of ${columnFormats.join(',')}`);
    if (!column.jsonPath) errors.required(`${path}.JSONPath`);
    else if (!column.jsonPath.startsWith('.'))
      errors.invalid(`${path}.JSONPath`, column.jsonPath, 'must be a simple json path starting with .');
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
    if (!value.startsWith('.')) errors.invalid(`${at}.${field}`, value, 'must be a simple json path starting with .');
    else if (!fits || value.includes('['))
      errors.invalid(
        `${at}.${field}`,
        value,
        start === ''
          ? 'should be a json path under either .spec or .status'
          : `should be a json path under ${start.slice(0, -1)}`,
      );
  }
}

/** What other objects and clients rely on, some of it once the definition is served. */
function checkUpdate(definition: CustomResourceDefinition, old: CustomResourceDefinition, errors: FieldErrors): void {
  const isServed = (old.status?.conditions ?? []).some((c) => c.type === 'Established' && c.status === 'True');
  const fixed = isServed ? ['scope', 'names.kind', 'group', 'names.plural'] : ['group', 'names.plural'];
  for (const path of fixed) {
    const read = (o: CustomResourceDefinition): unknown => fieldOf(o.spec, ...path.split('.'));
    if (read(definition) !== read(old)) errors.invalid(`spec.${path}`, read(definition) ?? '', 'field is immutable');
  }
}

export function validateDefinition(
  object: Draft<CustomResourceDefinition>,
  errors: FieldErrors,
  old: CustomResourceDefinition | undefined,
): void {
  // What was let in once, by whatever rules, may be written again as it is: finalizers of a definition that goes must
  // not hang on them.
  if (old !== undefined && equalJson(object.spec, old.spec)) return;
  const definition: CustomResourceDefinition = isWhole(object)
    ? object
    : { ...noDefinition, metadata: { ...noDefinition.metadata, name: object.metadata?.name ?? '' } };
  checkDefinition(definition, old, errors);
  if (old !== undefined) checkUpdate(definition, old, errors);
}

function isWhole(object: Draft<CustomResourceDefinition>): object is CustomResourceDefinition {
  return object.spec !== undefined;
}

const noDefinition: CustomResourceDefinition = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: '', uid: '', resourceVersion: '', creationTimestamp: '' },
  spec: { group: '', names: { plural: '', kind: '' }, scope: '', versions: [] },
};

export function validateDefinitionStatus(
  { status }: Draft<CustomResourceDefinition>,
  _old: CustomResourceDefinition,
  errors: FieldErrors,
): void {
  checkNameForms(status?.acceptedNames ?? {}, 'status.acceptedNames', errors);
}
