/**
 * Custom resource definitions as kinds (Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions"): the
 * structural schema becomes the same type nodes that built-in kinds have; defaults, validation and columns are read
 * from the published schema. Expression rules (CEL) are not here.
 */
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionSpec,
  CustomResourceDefinitionVersion,
  JSONSchemaProps,
} from '#api/apiextensions.v1.ts';
import { copyJson, equalJson } from '#base/json.ts';
import { PatternError, compilePattern } from '#base/pattern.ts';
import { patternStepsMax } from '#base/limits.ts';
import type { KubeObject, OpenObject } from '#base/objects.ts';
import { fieldOf, isObject, type JsonObject } from '#base/unknown.ts';
import { checkObject } from './check.ts';
import type { FieldErrors } from './field-errors.ts';
import { schemaStepsMax } from './limits.ts';
import { columnsOf } from './crd-columns.ts';
import { allVerbs, scaleSubresource, statusSubresource } from './kind.ts';
import type { KindRecord, SubresourceRecord } from './kind.ts';
import { compileJsonPath } from './json-path.ts';
import { familyOf, parseCidr } from '#base/ip.ts';
import { label1035Problem } from './name-forms.ts';
import { scalarNode, typeOf } from './types.ts';
import type { Field, ListNode, MapNode, ObjectNode, TypeNode } from './types.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';

/** The schema of a list's items; a structural schema has one for all of them. */
export function itemsOf({ items }: JSONSchemaProps): JSONSchemaProps | undefined {
  return Array.isArray(items) ? undefined : items;
}

/** The type node of a structural schema. */
function nodeOfSchema(schema: JSONSchemaProps | undefined): TypeNode {
  if (schema === undefined || schema === null || typeof schema !== 'object') return scalarNode('any');
  if (schema['x-kubernetes-int-or-string'] === true) return scalarNode('intstr');
  switch (schema.type) {
    case 'object':
      return objectNode(schema);
    case 'array': {
      const node: ListNode = { kind: 'list', item: nodeOfSchema(itemsOf(schema)) };
      const { 'x-kubernetes-list-type': listType, 'x-kubernetes-list-map-keys': keys } = schema;
      if (listType === 'atomic' || listType === 'set' || listType === 'map') node.listType = listType;
      if (keys !== undefined) node.keys = keys;
      return node;
    }
    default:
      return scalarNode('any'); // scalars are checked by the validator, with its own messages
  }
}

function objectNode(schema: JSONSchemaProps): ObjectNode | MapNode {
  const atomic = schema['x-kubernetes-map-type'] === 'atomic';
  if (schema.properties === undefined && typeof schema.additionalProperties === 'object')
    return { kind: 'map', item: nodeOfSchema(schema.additionalProperties), ...(atomic ? { atomic } : {}) };
  if (schema.properties === undefined && schema.additionalProperties === true)
    return { kind: 'map', item: scalarNode('any'), ...(atomic ? { atomic } : {}) };
  return fieldsNode(schema);
}

function fieldsNode(schema: JSONSchemaProps): ObjectNode {
  let fields: Map<string, Field> | undefined;
  const node: ObjectNode = {
    kind: 'object',
    get fields() {
      if (fields === undefined) {
        fields = new Map();
        for (const [name, property] of Object.entries(schema.properties ?? {})) {
          const field: Field = {
            name,
            type: nodeOfSchema(property),
            required: (schema.required ?? []).includes(name),
            pointer: true,
          };
          if (property.default !== undefined) field.default = property.default;
          fields.set(name, field);
        }
      }
      return fields;
    },
  };
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) node.preserveUnknown = true;
  if (schema['x-kubernetes-embedded-resource'] === true) node.embedded = true;
  if (schema['x-kubernetes-map-type'] === 'atomic') node.atomic = true;
  return node;
}

/** The root: what the schema says, and the fields of every object. */
function rootNode(schema: JSONSchemaProps | undefined): ObjectNode {
  const inner = schema === undefined ? undefined : fieldsNode({ ...schema, properties: schema.properties ?? {} });
  const fields = new Map<string, Field>(inner?.fields ?? []);
  const common = (name: string, type: TypeNode): void => {
    fields.set(name, { name, type, required: false, pointer: false });
  };
  common('apiVersion', scalarNode('string'));
  common('kind', scalarNode('string'));
  common('metadata', typeOf('meta.v1/ObjectMeta'));
  return {
    kind: 'object',
    fields,
    ...(inner === undefined || inner.preserveUnknown === true ? { preserveUnknown: true } : {}),
  };
}

/** Sets defaults, innermost last, in place. */
function applySchemaDefaults(value: unknown, schema: JSONSchemaProps): void {
  if (Array.isArray(value)) {
    const items = itemsOf(schema);
    if (items) for (const item of value) applySchemaDefaults(item, items);
    return;
  }
  if (!isObject(value)) return;
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (
      (value[name] === undefined || (value[name] === null && property.nullable !== true)) &&
      property.default !== undefined
    )
      value[name] = copyJson(property.default);
    if (value[name] !== undefined) applySchemaDefaults(value[name], property);
  }
  if (typeof schema.additionalProperties === 'object')
    for (const [name, item] of Object.entries(value))
      if (schema.properties?.[name] === undefined) applySchemaDefaults(item, schema.additionalProperties);
}

function typeName(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'bigint') return 'integer';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value;
}

const formats: Record<string, (text: string) => boolean> = {
  'date-time': (t) => !Number.isNaN(Date.parse(t)) && /T/.test(t),
  date: (t) => /^\d{4}-\d{2}-\d{2}$/.test(t),
  uuid: (t) => /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(t),
  ipv4: (t) => familyOf(t) === 'IPv4',
  ipv6: (t) => familyOf(t) === 'IPv6' && !t.includes('%'),
  cidr: (t) => parseCidr(t) !== undefined,
  email: (t) => /^[^@\s]+@[^@\s]+$/.test(t),
  uri: (t) => URL.canParse(t),
  byte: (t) => /^[A-Za-z0-9+/]*={0,2}$/.test(t),
};

/** Validates a value against a schema as the reference implementation words it. */
export function validateSchema(value: unknown, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  if (value === null && (schema.nullable === true || schema.type === undefined)) return;
  if (errors.full || isSpent(schema, errors)) return;
  if (!checkType(value, schema, path, errors)) return;
  if (schema.enum !== undefined && !schema.enum.some((e) => equalJson(e, value)))
    errors.unsupported(
      path,
      value,
      schema.enum.map((e) => (typeof e === 'string' ? e : JSON.stringify(e))),
    );
  if (typeof value === 'string') checkText(value, schema, path, errors);
  else if (typeof value === 'number' || typeof value === 'bigint') checkNumber(value, schema, path, errors);
  else if (Array.isArray(value)) checkArray(value, schema, path, errors);
  else if (isObject(value)) checkProperties(value, schema, path, errors);
  checkCombinations(value, schema, path, errors);
}

/** Whether the object's validation has cost what it may; `validateBody` says so. */
function isSpent(schema: JSONSchemaProps, errors: FieldErrors): boolean {
  return (errors.work.stepsLeft -= 1 + (schema.enum?.length ?? 0) + (schema.required?.length ?? 0)) < 0;
}

function checkType(value: unknown, schema: JSONSchemaProps, path: string, errors: FieldErrors): boolean {
  if (schema['x-kubernetes-int-or-string'] === true) {
    if (typeof value === 'string' || typeName(value) === 'integer') return true;
    errors.invalid(
      path,
      typeName(value),
      `${path} in body must be of type integer,string: ${JSON.stringify(typeName(value))}`,
    );
    return false;
  }
  if (schema.type === undefined || schema.type === '') return true;
  const actual = typeName(value);
  if (actual === schema.type || (schema.type === 'number' && actual === 'integer')) return true;
  errors.typeInvalid(path, actual, `${path} in body must be of type ${schema.type}: ${JSON.stringify(actual)}`);
  return false;
}

function checkText(value: string, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  const length = [...value].length;
  if (schema.maxLength !== undefined && length > schema.maxLength)
    errors.invalid(path, value, `${path} in body should be at most ${schema.maxLength} chars long`);
  if (schema.minLength !== undefined && length < schema.minLength)
    errors.invalid(path, value, `${path} in body should be at least ${schema.minLength} chars long`);
  if (schema.pattern !== undefined) checkPattern(value, schema.pattern, path, errors);
  const format = schema.format === undefined ? undefined : formats[schema.format];
  if (format !== undefined && !format(value))
    errors.invalid(path, value, `${path} in body must be of type ${schema.format}: ${JSON.stringify(value)}`);
}

/**
 * Patterns are RE2's, and match anywhere in the text. One that does not compile lets nothing through: a definition with
 * such a pattern is refused when it is written.
 */
function checkPattern(value: string, pattern: string, path: string, errors: FieldErrors): void {
  try {
    if (!errors.work.patterns.test(compilePattern(pattern), value))
      errors.invalid(path, value, `${path} in body should match '${pattern}'`);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    errors.invalid(path, value, `${path} in body could not be matched against '${pattern}': ${error.message}`);
  }
}

function checkNumber(value: number | bigint, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  if (
    schema.maximum !== undefined &&
    (schema.exclusiveMaximum === true ? value >= schema.maximum : value > schema.maximum)
  )
    errors.invalid(
      path,
      value,
      `${path} in body should be less than ${schema.exclusiveMaximum === true ? '' : 'or equal to '}${schema.maximum}`,
    );
  if (
    schema.minimum !== undefined &&
    (schema.exclusiveMinimum === true ? value <= schema.minimum : value < schema.minimum)
  )
    errors.invalid(
      path,
      value,
      `${path} in body should be greater than ${schema.exclusiveMinimum === true ? '' : 'or equal to '}${schema.minimum}`,
    );
  if (schema.multipleOf !== undefined && !Number.isInteger(Number(value) / schema.multipleOf))
    errors.invalid(path, value, `${path} in body should be a multiple of ${schema.multipleOf}`);
}

function checkArray(value: unknown[], schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  if (schema.maxItems !== undefined && value.length > schema.maxItems)
    errors.tooMany(path, value.length, schema.maxItems);
  if (schema.minItems !== undefined && value.length < schema.minItems)
    errors.invalid(path, value.length, `${path} in body should have at least ${schema.minItems} items`);
  const items = itemsOf(schema);
  if (items !== undefined) value.forEach((item, i) => validateSchema(item, items, `${path}[${i}]`, errors));
  const type = schema['x-kubernetes-list-type'];
  if (type !== 'set' && type !== 'map') return;
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const seen = new Set<string>();
  value.forEach((item, i) => {
    const id = JSON.stringify(type === 'set' ? item : keys.map((k) => fieldOf(item, k) ?? null));
    if (seen.has(id))
      errors.duplicate(
        `${path}[${i}]`,
        type === 'set' ? item : Object.fromEntries(keys.map((k) => [k, fieldOf(item, k)])),
      );
    seen.add(id);
  });
}

const join = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

function checkProperties(value: JsonObject, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  for (const name of schema.required ?? []) if (value[name] === undefined) errors.required(join(path, name));
  if (schema['x-kubernetes-embedded-resource'] === true) checkEmbedded(value, path, errors);
  const names = Object.keys(value);
  if (schema.maxProperties !== undefined && names.length > schema.maxProperties)
    errors.tooMany(path, names.length, schema.maxProperties);
  if (schema.minProperties !== undefined && names.length < schema.minProperties)
    errors.invalid(path, names.length, `${path} in body should have at least ${schema.minProperties} properties`);
  for (const name of names) {
    const property =
      schema.properties?.[name] ??
      (typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined);
    if (property !== undefined) validateSchema(value[name], property, join(path, name), errors);
  }
}

/** An object within an object is one by itself: it says what it is, and its metadata have metadata's form. */
function checkEmbedded(value: JsonObject, path: string, errors: FieldErrors): void {
  for (const name of ['apiVersion', 'kind']) {
    if (value[name] === undefined || value[name] === '') errors.required(join(path, name), 'must not be empty');
    else if (typeof value[name] !== 'string')
      errors.typeInvalid(
        join(path, name),
        typeName(value[name]),
        `must be of type string: ${JSON.stringify(typeName(value[name]))}`,
      );
  }
  if (typeof value.kind === 'string' && value.kind !== '' && label1035Problem(value.kind.toLowerCase()) !== '')
    errors.invalid(join(path, 'kind'), value.kind, label1035Problem(value.kind.toLowerCase()));
  const { metadata } = value;
  if (metadata === undefined || metadata === null) return;
  if (!isObject(metadata)) {
    errors.typeInvalid(join(path, 'metadata'), typeName(metadata), 'must be of type object');
    return;
  }
  const { labels, annotations } = metadata;
  if (isObject(labels)) validateLabels(labels, join(path, 'metadata.labels'), errors);
  if (isObject(annotations)) validateAnnotations(annotations, join(path, 'metadata.annotations'), errors);
}

function passes(value: unknown, schema: JSONSchemaProps, errors: FieldErrors): boolean {
  const inner = errors.fork();
  validateSchema(value, schema, '', inner);
  return !inner.any;
}

function checkCombinations(value: unknown, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  for (const part of schema.allOf ?? []) validateSchema(value, part, path, errors);
  if (schema.anyOf !== undefined && !schema.anyOf.some((s) => passes(value, s, errors)))
    errors.invalid(path, value, `${path === '' ? '""' : path} in body must validate at least one schema (anyOf)`);
  if (schema.oneOf !== undefined) {
    const count = schema.oneOf.filter((s) => passes(value, s, errors)).length;
    if (count !== 1)
      errors.invalid(
        path,
        value,
        `${path === '' ? '""' : path} in body must validate one and only one schema (oneOf). Found ${count === 0 ? 'none valid' : `${count} valid alternatives`}`,
      );
  }
  if (schema.not !== undefined && passes(value, schema.not, errors))
    errors.invalid(path, value, `${path === '' ? '""' : path} in body must not validate the schema (not)`);
}

export interface CustomKind extends KindRecord {
  custom: true;
  publishedSchema: JSONSchemaProps | undefined;
}

/** The kinds of a definition: one for each served version. */
export function kindsOfDefinition(definition: CustomResourceDefinition): CustomKind[] {
  const { spec } = definition;
  const stored = spec.versions.find((v) => v.storage) ?? spec.versions[0];
  const served = spec.versions.filter((v) => v.served);
  return served.map((version) => customKind(definition, version, stored ?? version));
}

type Convert = (object: KubeObject) => KubeObject;

/**
 * An object as a version shows it. Where the definition was changed, objects were stored that do not know of it: what
 * their version no longer has is dropped, what it has a default for by now is there.
 */
function showAs(
  { spec, metadata }: CustomResourceDefinition,
  version: CustomResourceDefinitionVersion,
  stored: CustomResourceDefinitionVersion,
): Convert {
  const apiVersion = `${spec.group}/${version.name}`;
  const rename: Convert = (o) => (o.apiVersion === apiVersion ? o : { ...o, apiVersion });
  if ((metadata.generation ?? 1) === 1) return rename;
  const schemas = [...new Set([stored, version])].map((each) => each.schema?.openAPIV3Schema);
  const nodes = schemas.map((schema) => customNode(spec, schema));
  const shown = new WeakMap<KubeObject, KubeObject>();
  return (object) => {
    const known = shown.get(object);
    if (known !== undefined) return known;
    const fitted = { ...copyJson(object), apiVersion };
    schemas.forEach((schema, at) => {
      const node = nodes[at];
      if (node !== undefined) checkObject(fitted, node);
      if (schema !== undefined) applySchemaDefaults(fitted, schema);
    });
    // What is stored does not change any more; what is on its way there does.
    if (Object.isFrozen(object)) shown.set(object, fitted);
    return fitted;
  };
}

function customNode(spec: CustomResourceDefinitionSpec, schema: JSONSchemaProps | undefined): ObjectNode {
  return spec.preserveUnknownFields === true ? { ...rootNode(schema), preserveUnknown: true } : rootNode(schema);
}

function customKind(
  definition: CustomResourceDefinition,
  version: CustomResourceDefinitionVersion,
  stored: CustomResourceDefinitionVersion,
): CustomKind {
  const { spec, metadata } = definition;
  const { names, group } = spec;
  const schema = version.schema?.openAPIV3Schema;
  const subresources: Record<string, SubresourceRecord> = {};
  if (version.subresources?.status !== undefined) subresources.status = statusSubresource;
  const scale = version.subresources?.scale;
  if (scale !== undefined) subresources.scale = scaleSubresource;
  let type: ObjectNode | undefined;
  const hasStatus = subresources.status !== undefined;
  const many = spec.versions.length > 1;
  const storedAs = `${group}/${stored.name}`;
  return {
    group,
    version: version.name,
    kind: names.kind,
    resource: names.plural,
    singular: names.singular ?? names.kind.toLowerCase(),
    namespaced: spec.scope === 'Namespaced',
    verbs: allVerbs,
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    subresources,
    columns: columnsOf(version),
    listKind: names.listKind ?? `${names.kind}List`,
    storage: { group, resource: names.plural, version: stored.name, kind: names.kind },
    get type() {
      return (type ??= customNode(spec, schema));
    },
    selectableFields: Object.fromEntries(
      (version.selectableFields ?? []).map((f) => {
        const read = compileJsonPath(f.jsonPath);
        return [
          f.jsonPath.replace(/^\./, ''),
          (o) => {
            const v = read(o)[0];
            return v === undefined || v === null ? '' : String(v);
          },
        ];
      }),
    ),
    hasGeneration: true,
    hasStatus,
    nameForm: 'subdomain',
    custom: true,
    publishedSchema: schema,
    ...(version.deprecated === true
      ? { deprecation: version.deprecationWarning ?? `${group}/${version.name} ${names.kind} is deprecated` }
      : {}),
    ...(many || (metadata.generation ?? 1) > 1 ? { fromStored: showAs(definition, version, stored) } : {}),
    ...(many ? { toStored: (o) => (o.apiVersion === storedAs ? o : { ...o, apiVersion: storedAs }) } : {}),
    ...(scale === undefined
      ? {}
      : {
          scale: {
            specPath: scale.specReplicasPath,
            statusPath: scale.statusReplicasPath,
            selectorPath: scale.labelSelectorPath ?? '.status.\u0000',
          },
        }),
    defaults(o) {
      if (schema !== undefined) applySchemaDefaults(o, schema);
    },
    prepareCreate(o: OpenObject) {
      if (hasStatus) delete o.status;
    },
    prepareUpdate(o: OpenObject, old: OpenObject) {
      if (hasStatus) {
        if (old.status === undefined) delete o.status;
        else o.status = copyJson(old.status);
      }
    },
    validate(o, errors) {
      if (schema !== undefined) validateBody(o, schema, errors);
    },
    validateStatus(o, _old, errors) {
      if (schema !== undefined) validateBody(o, schema, errors);
    },
  };
}

/** The object's own metadata is validated as every object's is. */
function validateBody(o: unknown, schema: JSONSchemaProps, errors: FieldErrors): void {
  const { metadata: _m, apiVersion: _a, kind: _k, ...properties } = schema.properties ?? {};
  const required = (schema.required ?? []).filter((n) => n !== 'metadata' && n !== 'apiVersion' && n !== 'kind');
  validateSchema(o, { ...schema, type: 'object', properties, required }, '', errors);
  // Within `not`, what could not be looked at any more would pass.
  if (errors.work.stepsLeft < 0)
    errors.invalid(
      '',
      null,
      `validation costs more than ${schemaStepsMax} steps: the object or its schema is too large`,
    );
  if (errors.work.patterns.left < 0)
    errors.invalid(
      '',
      null,
      `validation costs more than ${patternStepsMax} steps of patterns: texts and patterns are too long together`,
    );
}
