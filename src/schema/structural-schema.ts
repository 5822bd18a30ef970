/**
 * What the schema of a custom resource definition must be (Kubernetes, "Specifying a structural schema"): a type for
 * every field and item, logic of alternatives that adds no fields of its own, patterns that compile, defaults that the
 * schema itself lets pass. Its rules are checked in `rule-checks.ts`.
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { PatternError, compilePattern } from '#base/pattern.ts';
import { validateSchema } from './validate-schema.ts';
import { FieldErrors } from './field-errors.ts';
import { itemsOf } from './schema-items.ts';

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const listTypes = ['atomic', 'map', 'set'];
const mapTypes = ['atomic', 'granular'];

/** Reports everything at a root schema that keeps it from being structural. */
export function checkStructuralSchema(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (schema.type === undefined || schema.type === '') errors.required(`${at}.type`, 'must not be empty at the root');
  else if (schema.type !== 'object') errors.invalid(`${at}.type`, schema.type, 'must be object at the root');
  checkNode(schema, at, errors);
  const metadata = schema.properties?.metadata;
  if (metadata === undefined) return;
  const restricted = Object.keys(metadata.properties ?? {}).filter(
    (name) => name !== 'name' && name !== 'generateName',
  );
  if (restricted.length > 0 || metadata.additionalProperties !== undefined)
    errors.forbidden(
      `${at}.properties[metadata]`,
      'must not specify anything other than name and generateName, but metadata is implicitly specified',
    );
}

function checkNode(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (errors.full) return;
  checkType(schema, at, errors);
  const { $ref, definitions, dependencies, id, patternProperties, additionalItems } = schema;
  const present = { $ref, definitions, dependencies, id, patternProperties, additionalItems };
  for (const [field, value] of Object.entries(present))
    if (value !== undefined) errors.forbidden(`${at}.${field}`, `${field} is not supported`);
  if (schema.uniqueItems === true)
    errors.forbidden(
      `${at}.uniqueItems`,
      'uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    );
  if (schema['x-kubernetes-preserve-unknown-fields'] === false)
    errors.invalid(`${at}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined');
  checkPattern(schema, at, errors);
  checkObject(schema, at, errors);
  checkArray(schema, at, errors);
  for (const [path, inner] of alternativesOf(schema, at)) checkLogic(inner, schema, path, errors);
  if (schema.default !== undefined) checkDefault(schema, at, errors);
}

function checkType(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const { type } = schema;
  if (type !== undefined && type !== '' && !types.includes(type)) errors.unsupported(`${at}.type`, type, types);
  if (schema['x-kubernetes-int-or-string'] === true && type)
    errors.invalid(`${at}.type`, type, 'must be empty if x-kubernetes-int-or-string is true');
}

/** Whether a place needs no type: what is there is said otherwise. */
const isUntyped = (schema: JSONSchemaProps): boolean =>
  schema['x-kubernetes-int-or-string'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true;

function checkChild(schema: JSONSchemaProps, at: string, what: string, errors: FieldErrors): void {
  if (typeof schema !== 'object' || schema === null) return;
  if (!schema.type && !isUntyped(schema)) errors.required(`${at}.type`, `must not be empty for specified ${what}`);
  checkNode(schema, at, errors);
}

function checkPattern(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (schema.pattern === undefined || schema.pattern === '') return;
  try {
    compilePattern(schema.pattern);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    errors.invalid(`${at}.pattern`, schema.pattern, `must be a valid regular expression, but isn't: ${error.message}`);
  }
}

function checkObject(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    checkChild(property, `${at}.properties[${name}]`, 'object fields', errors);
  if (schema.properties !== undefined && schema.additionalProperties !== undefined)
    errors.forbidden(`${at}.additionalProperties`, 'additionalProperties and properties are mutual exclusive');
  if (schema.additionalProperties === false)
    errors.forbidden(`${at}.additionalProperties`, 'additionalProperties cannot be set to false');
  if (typeof schema.additionalProperties === 'object')
    checkChild(schema.additionalProperties, `${at}.additionalProperties`, 'object fields', errors);
  const mapType = schema['x-kubernetes-map-type'];
  if (mapType !== undefined && !mapTypes.includes(mapType))
    errors.unsupported(`${at}.x-kubernetes-map-type`, mapType, mapTypes);
  if (mapType !== undefined && schema.type !== 'object')
    errors.invalid(`${at}.type`, schema.type ?? '', 'must be object if x-kubernetes-map-type is specified');
  if (schema['x-kubernetes-embedded-resource'] !== true) return;
  if (schema.type !== 'object')
    errors.invalid(`${at}.type`, schema.type ?? '', 'must be object if x-kubernetes-embedded-resource is true');
  if (Object.keys(schema.properties ?? {}).length === 0 && schema['x-kubernetes-preserve-unknown-fields'] !== true)
    errors.required(
      `${at}.properties`,
      'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields',
    );
}

function checkArray(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (Array.isArray(schema.items)) errors.forbidden(`${at}.items`, 'items must be a schema object and not an array');
  else if (schema.items !== undefined) checkChild(schema.items, `${at}.items`, 'array items', errors);
  else if (schema.type === 'array') errors.required(`${at}.items`, 'must be specified');
  const listType = schema['x-kubernetes-list-type'];
  const items = itemsOf(schema);
  const keys = schema['x-kubernetes-list-map-keys'];
  if (listType === undefined) {
    if (keys !== undefined)
      errors.required(`${at}.x-kubernetes-list-type`, 'must be map if x-kubernetes-list-map-keys is non-empty');
    return;
  }
  if (!listTypes.includes(listType)) errors.unsupported(`${at}.x-kubernetes-list-type`, listType, listTypes);
  if (schema.type !== 'array')
    errors.invalid(`${at}.type`, schema.type ?? '', 'must be array if x-kubernetes-list-type is specified');
  if (listType !== 'map') {
    if (keys !== undefined)
      errors.invalid(
        `${at}.x-kubernetes-list-type`,
        listType,
        'must be map if x-kubernetes-list-map-keys is non-empty',
      );
    return;
  }
  if (!Array.isArray(keys) || keys.length === 0) {
    errors.required(`${at}.x-kubernetes-list-map-keys`, 'must not be empty if x-kubernetes-list-type is map');
    return;
  }
  if (items?.type !== 'object')
    errors.invalid(
      `${at}.items.type`,
      items?.type ?? '',
      "must be object if parent array's x-kubernetes-list-type is map",
    );
  keys.forEach((key, i) => {
    const property = items?.properties?.[key];
    if (property === undefined)
      errors.invalid(`${at}.x-kubernetes-list-map-keys[${i}]`, key, 'entries must all be names of item properties');
    else if (property.type === 'array' || property.type === 'object')
      errors.invalid(
        `${at}.items.properties[${key}].type`,
        property.type,
        "must be a scalar type if parent array's x-kubernetes-list-type is map",
      );
    else if (property.default === undefined && !(items?.required ?? []).includes(key))
      errors.required(
        `${at}.items.properties[${key}].default`,
        'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
      );
  });
}

/** Schemas that are joined by logic, with their paths. */
function alternativesOf(schema: JSONSchemaProps, at: string): [string, JSONSchemaProps][] {
  const lists = (['allOf', 'anyOf', 'oneOf'] as const).flatMap((name) =>
    (schema[name] ?? []).map((inner, i): [string, JSONSchemaProps] => [`${at}.${name}[${i}]`, inner]),
  );
  return schema.not === undefined ? lists : [...lists, [`${at}.not`, schema.not]];
}

const onlyOutside = [
  'additionalProperties',
  'type',
  'nullable',
  'default',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-embedded-resource',
  'x-kubernetes-int-or-string',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-validations',
] as const;

/** Logic says more about fields that the schema outside of it has, and brings in none. */
function checkLogic(schema: JSONSchemaProps, outside: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (errors.full || typeof schema !== 'object' || schema === null) return;
  checkPattern(schema, at, errors);
  const isIntOrString = outside['x-kubernetes-int-or-string'] === true;
  for (const field of onlyOutside) {
    if (
      schema[field] === undefined ||
      (field === 'type' && isIntOrString && ['integer', 'string'].includes(schema.type ?? ''))
    )
      continue;
    errors.forbidden(
      `${at}.${field}`,
      field === 'default' ? 'must be undefined to be structural' : 'must be empty to be structural',
    );
  }
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    const known =
      outside.properties?.[name] ??
      (typeof outside.additionalProperties === 'object' ? outside.additionalProperties : undefined);
    if (known === undefined)
      errors.required(`${outsidePath(at)}.properties[${name}]`, `because it is defined in ${at}.properties[${name}]`);
    else checkLogic(property, known, `${at}.properties[${name}]`, errors);
  }
  const [items, outsideItems] = [itemsOf(schema), itemsOf(outside)];
  if (items !== undefined && outsideItems !== undefined) checkLogic(items, outsideItems, `${at}.items`, errors);
  for (const [path, inner] of alternativesOf(schema, at)) checkLogic(inner, outside, path, errors);
}

const outsidePath = (at: string): string => at.replace(/\.(?:allOf|anyOf|oneOf|not)\b.*$/, '');

function checkDefault(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (schema.default === null && schema.nullable !== true) {
    errors.invalid(`${at}.default`, null, 'must not be null');
    return;
  }
  const found = new FieldErrors(errors.work);
  validateSchema(schema.default, schema, 'default', found);
  for (const cause of found.causes)
    errors.invalid(`${at}.${cause.field}`, schema.default, (cause.message ?? '').replace(/^Invalid value: /, ''));
}
