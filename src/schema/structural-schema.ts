/**
 * What the schema of a custom resource definition must be (Kubernetes, "Specifying a structural schema"): a type for
 * every field and item, logic of alternatives that adds no fields of its own, patterns that compile, defaults that the
 * schema itself lets pass. Expression rules (CEL) are not here.
 */
import { PatternError, compilePattern } from '#base/pattern.ts';
import type { Json } from '#base/objects.ts';
import { validateSchema } from './crd-schema.ts';
import { FieldErrors } from './field-errors.ts';

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const forbidden: Record<string, string> = {
  $ref: '$ref is not supported',
  definitions: 'definitions is not supported',
  dependencies: 'dependencies is not supported',
  id: 'id is not supported',
  patternProperties: 'patternProperties is not supported',
  additionalItems: 'additionalItems is not supported',
};
const listTypes = ['atomic', 'map', 'set'];
const mapTypes = ['atomic', 'granular'];

/** Reports everything at a root schema that keeps it from being structural. */
export function checkStructuralSchema(schema: Json, at: string, errors: FieldErrors): void {
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

function checkNode(schema: Json, at: string, errors: FieldErrors): void {
  if (errors.full) return;
  checkType(schema, at, errors);
  for (const [field, why] of Object.entries(forbidden))
    if (schema[field] !== undefined) errors.forbidden(`${at}.${field}`, why);
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

function checkType(schema: Json, at: string, errors: FieldErrors): void {
  const { type } = schema;
  if (type !== undefined && type !== '' && !types.includes(type)) errors.unsupported(`${at}.type`, type, types);
  if (schema['x-kubernetes-int-or-string'] === true && type)
    errors.invalid(`${at}.type`, type, 'must be empty if x-kubernetes-int-or-string is true');
}

/** Whether a place needs no type: what is there is said otherwise. */
const isUntyped = (schema: Json): boolean =>
  schema['x-kubernetes-int-or-string'] === true || schema['x-kubernetes-preserve-unknown-fields'] === true;

function checkChild(schema: Json, at: string, what: string, errors: FieldErrors): void {
  if (typeof schema !== 'object' || schema === null) return;
  if (!schema.type && !isUntyped(schema)) errors.required(`${at}.type`, `must not be empty for specified ${what}`);
  checkNode(schema, at, errors);
}

function checkPattern(schema: Json, at: string, errors: FieldErrors): void {
  if (schema.pattern === undefined || schema.pattern === '') return;
  try {
    compilePattern(schema.pattern);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    errors.invalid(`${at}.pattern`, schema.pattern, `must be a valid regular expression, but isn't: ${error.message}`);
  }
}

function checkObject(schema: Json, at: string, errors: FieldErrors): void {
  for (const [name, property] of Object.entries((schema.properties ?? {}) as Record<string, Json>))
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

function checkArray(schema: Json, at: string, errors: FieldErrors): void {
  if (Array.isArray(schema.items)) errors.forbidden(`${at}.items`, 'items must be a schema object and not an array');
  else if (schema.items !== undefined) checkChild(schema.items, `${at}.items`, 'array items', errors);
  else if (schema.type === 'array') errors.required(`${at}.items`, 'must be specified');
  const listType = schema['x-kubernetes-list-type'];
  const keys: Json = schema['x-kubernetes-list-map-keys'];
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
  if (schema.items?.type !== 'object')
    errors.invalid(
      `${at}.items.type`,
      schema.items?.type ?? '',
      "must be object if parent array's x-kubernetes-list-type is map",
    );
  keys.forEach((key: string, i: number) => {
    const property = schema.items?.properties?.[key];
    if (property === undefined)
      errors.invalid(`${at}.x-kubernetes-list-map-keys[${i}]`, key, 'entries must all be names of item properties');
    else if (property.type === 'array' || property.type === 'object')
      errors.invalid(
        `${at}.items.properties[${key}].type`,
        property.type,
        "must be a scalar type if parent array's x-kubernetes-list-type is map",
      );
    else if (property.default === undefined && !(schema.items.required ?? []).includes(key))
      errors.required(
        `${at}.items.properties[${key}].default`,
        'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
      );
  });
}

/** Schemas that are joined by logic, with their paths. */
function alternativesOf(schema: Json, at: string): [string, Json][] {
  const lists = (['allOf', 'anyOf', 'oneOf'] as const).flatMap((name) =>
    Array.isArray(schema[name])
      ? schema[name].map((inner: Json, i: number): [string, Json] => [`${at}.${name}[${i}]`, inner])
      : [],
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
];

/** Logic says more about fields that the schema outside of it has, and brings in none. */
function checkLogic(schema: Json, outside: Json, at: string, errors: FieldErrors): void {
  if (errors.full || typeof schema !== 'object' || schema === null) return;
  checkPattern(schema, at, errors);
  const isIntOrString = outside['x-kubernetes-int-or-string'] === true;
  for (const field of onlyOutside) {
    if (
      schema[field] === undefined ||
      (field === 'type' && isIntOrString && ['integer', 'string'].includes(schema.type))
    )
      continue;
    errors.forbidden(
      `${at}.${field}`,
      field === 'default' ? 'must be undefined to be structural' : 'must be empty to be structural',
    );
  }
  for (const [name, property] of Object.entries((schema.properties ?? {}) as Record<string, Json>)) {
    const known =
      outside.properties?.[name] ??
      (typeof outside.additionalProperties === 'object' ? outside.additionalProperties : undefined);
    if (known === undefined)
      errors.required(`${outsidePath(at)}.properties[${name}]`, `because it is defined in ${at}.properties[${name}]`);
    else checkLogic(property, known, `${at}.properties[${name}]`, errors);
  }
  if (schema.items !== undefined && outside.items !== undefined)
    checkLogic(schema.items, outside.items, `${at}.items`, errors);
  for (const [path, inner] of alternativesOf(schema, at)) checkLogic(inner, outside, path, errors);
}

const outsidePath = (at: string): string => at.replace(/\.(?:allOf|anyOf|oneOf|not)\b.*$/, '');

function checkDefault(schema: Json, at: string, errors: FieldErrors): void {
  if (schema.default === null && schema.nullable !== true) {
    errors.invalid(`${at}.default`, null, 'must not be null');
    return;
  }
  const found = new FieldErrors(errors.work);
  validateSchema(schema.default, schema, 'default', found);
  for (const cause of found.causes)
    errors.invalid(`${at}.${cause.field}`, schema.default, (cause.message ?? '').replace(/^Invalid value: /, ''));
}
