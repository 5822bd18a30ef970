/**
 * What the schema of a custom resource definition may not hold, wherever it stands in it: parts of OpenAPI that are not
 * supported, lists and maps whose kind does not fit their type (apiextensions validation of the reference
 * implementation).
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { itemsOf } from './schema-items.ts';

const types = ['array', 'boolean', 'integer', 'number', 'object', 'string'];
const listTypes = ['atomic', 'set', 'map'];
const mapTypes = ['atomic', 'granular'];
const ofObjects = new Set(['metadata', 'kind', 'apiVersion']);

/** What is not allowed at a place because of where it is. */
interface Context {
  isRoot: boolean;
  /** Within the metadata of an object, or what says which kind it is. */
  isMeta: boolean;
  /** Why there may be no default; '' where there may. */
  noDefault: string;
}

export function checkSchemaDocument(
  schema: JSONSchemaProps,
  at: string,
  errors: FieldErrors,
  context: Context = { isRoot: true, isMeta: false, noDefault: '' },
): void {
  if (errors.full) return;
  checkUnsupported(schema, at, context, errors);
  const inner = { ...context, isRoot: false };
  const { properties = {}, additionalProperties: others } = schema;
  if (others !== undefined) {
    if (Object.keys(properties).length > 0 && others !== true)
      errors.forbidden(`${at}.additionalProperties`, 'additionalProperties and properties are mutual exclusive');
    const noDefault = context.isMeta ? 'inside additionalProperties applying to object metadata' : context.noDefault;
    if (typeof others === 'object')
      checkSchemaDocument(others, `${at}.additionalProperties`, errors, { ...inner, noDefault });
  }
  for (const [name, property] of Object.entries(properties)) {
    const isOfObject = (context.isRoot || schema['x-kubernetes-embedded-resource'] === true) && ofObjects.has(name);
    const noDefault = isOfObject && context.isRoot ? `in top-level ${name}` : context.noDefault;
    const own = { isRoot: false, isMeta: context.isMeta || isOfObject, noDefault };
    checkSchemaDocument(property, `${at}.properties[${name}]`, errors, own);
  }
  for (const [path, one] of innerSchemas(schema, at)) checkSchemaDocument(one, path, errors, inner);
  if (schema['x-kubernetes-preserve-unknown-fields'] === false)
    errors.invalid(`${at}.x-kubernetes-preserve-unknown-fields`, false, 'must be true or undefined');
  checkMapType(schema, at, errors);
  checkListType(schema, at, errors);
  checkKeys(schema, at, errors);
}

/** Of alternatives, definitions, items and dependencies, with their paths. */
function innerSchemas(schema: JSONSchemaProps, at: string): [string, JSONSchemaProps][] {
  const found: [string, JSONSchemaProps][] = [];
  if (schema.not !== undefined) found.push([`${at}.not`, schema.not]);
  for (const name of ['allOf', 'oneOf', 'anyOf'] as const)
    (schema[name] ?? []).forEach((one, i) => found.push([`${at}.${name}[${i}]`, one]));
  for (const [name, one] of Object.entries(schema.definitions ?? {})) found.push([`${at}.definitions[${name}]`, one]);
  const { items } = schema;
  if (Array.isArray(items)) items.forEach((one, i) => found.push([`${at}.items[${i}]`, one]));
  else if (items !== undefined && items !== null) found.push([`${at}.items`, items]);
  for (const [name, one] of Object.entries(schema.dependencies ?? {}))
    if (isObject(one)) found.push([`${at}.dependencies[${name}]`, one]);
  return found;
}

function checkUnsupported(
  schema: JSONSchemaProps,
  at: string,
  { isMeta, noDefault }: Context,
  errors: FieldErrors,
): void {
  const { type = '' } = schema;
  if (type !== '' && !types.includes(type)) errors.unsupported(`${at}.type`, type, types);
  if (schema.default !== undefined && noDefault !== '')
    errors.forbidden(`${at}.default`, `must not be set ${noDefault}`);
  for (const field of ['id', 'additionalItems', 'patternProperties', 'definitions', 'dependencies', '$ref'] as const) {
    const value: unknown = schema[field];
    const isSet = typeof value === 'object' && value !== null ? Object.keys(value).length > 0 : Boolean(value);
    if (isSet || (field === 'additionalItems' && value !== undefined) || (field === '$ref' && value === ''))
      errors.forbidden(`${at}.${field}`, `${field} is not supported`);
  }
  if (type === 'null') errors.forbidden(`${at}.type`, 'type cannot be set to null, use nullable as an alternative');
  if (Array.isArray(schema.items) && schema.items.length > 0)
    errors.forbidden(`${at}.items`, 'items must be a schema object and not an array');
  if (isMeta && schema['x-kubernetes-embedded-resource'] === true)
    errors.forbidden(`${at}.x-kubernetes-embedded-resource`, 'must not be used inside of resource meta');
  if (schema.uniqueItems === true)
    errors.forbidden(
      `${at}.uniqueItems`,
      'uniqueItems cannot be set to true since the runtime complexity becomes quadratic',
    );
}

/** The type that a list's or a map's kind asks for. */
function needType(schema: JSONSchemaProps, wanted: string, text: string, [at, errors]: [string, FieldErrors]): void {
  const { type = '' } = schema;
  if (type === '') errors.required(`${at}.type`, text);
  else if (type !== wanted) errors.invalid(`${at}.type`, type, text);
}

function checkMapType(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const kind = schema['x-kubernetes-map-type'];
  if (kind === undefined) return;
  needType(schema, 'object', 'must be object if x-kubernetes-map-type is specified', [at, errors]);
  if (!mapTypes.includes(kind)) errors.unsupported(`${at}.x-kubernetes-map-type`, kind, mapTypes);
}

function checkListType(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const kind = schema['x-kubernetes-list-type'];
  if (kind === undefined) return;
  needType(schema, 'array', 'must be array if x-kubernetes-list-type is specified', [at, errors]);
  const items = itemsOf(schema);
  if (schema.type === 'array' && kind === 'set' && items !== undefined) {
    const text = 'must be atomic as item of a list with x-kubernetes-list-type=set';
    const inner = items['x-kubernetes-list-type'];
    if (items.type === 'array' && inner !== undefined && inner !== 'atomic')
      errors.invalid(`${at}.items.x-kubernetes-list-type`, inner, text);
    if (items.type === 'object' && items['x-kubernetes-map-type'] !== 'atomic')
      errors.invalid(`${at}.items.x-kubernetes-map-type`, items['x-kubernetes-list-type'] ?? null, text);
  }
  if (!listTypes.includes(kind)) errors.unsupported(`${at}.x-kubernetes-list-type`, kind, listTypes);
}

/** Of a list whose items are told apart by fields. */
function checkKeys(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const kind = schema['x-kubernetes-list-type'];
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const items = itemsOf(schema);
  const needsMap = 'must be map if x-kubernetes-list-map-keys is non-empty';
  if (keys.length > 0 && kind === undefined) errors.required(`${at}.x-kubernetes-list-type`, needsMap);
  else if (keys.length > 0 && kind !== 'map') errors.invalid(`${at}.x-kubernetes-list-type`, kind, needsMap);
  if (kind === 'map') {
    if (keys.length === 0)
      errors.required(`${at}.x-kubernetes-list-map-keys`, 'must not be empty if x-kubernetes-list-type is map');
    if (schema.items === undefined)
      errors.required(`${at}.items`, 'must have a schema if x-kubernetes-list-type is map');
    else if (items === undefined)
      errors.invalid(`${at}.items`, schema.items, 'must only have a single schema if x-kubernetes-list-type is map');
    else if (items.type !== 'object')
      errors.invalid(
        `${at}.items.type`,
        items.type ?? '',
        "must be object if parent array's x-kubernetes-list-type is map",
      );
    else checkKeyNames(keys, items, at, errors);
  }
  if ((kind !== 'map' && kind !== 'set') || items === undefined) return;
  if (items.nullable === true)
    errors.forbidden(`${at}.items.nullable`, `cannot be nullable when x-kubernetes-list-type is ${kind}`);
  if (kind === 'map') checkKeyFields(keys, items, at, errors);
}

function checkKeyNames(keys: readonly string[], items: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const path = `${at}.x-kubernetes-list-map-keys`;
  keys.forEach((key, i) => {
    const property = items.properties?.[key];
    if (property === undefined) errors.invalid(path, keys, 'entries must all be names of item properties');
    else if (property.type === 'array' || property.type === 'object')
      errors.invalid(
        `${at}.items.properties[${key}].type`,
        items.type,
        "must be a scalar type if parent array's x-kubernetes-list-type is map",
      );
    if (keys.indexOf(key) < i) errors.invalid(path, keys, 'must not contain duplicate entries');
  });
}

function checkKeyFields(keys: readonly string[], items: JSONSchemaProps, at: string, errors: FieldErrors): void {
  for (const key of keys) {
    const property = items.properties?.[key];
    if (property === undefined) continue;
    const path = `${at}.items.properties[${key}]`;
    if (property.default === undefined && !(items.required ?? []).includes(key))
      errors.required(
        `${path}.default`,
        'this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property',
      );
    if (property.nullable === true)
      errors.forbidden(`${path}.nullable`, 'this property is in x-kubernetes-list-map-keys, so it cannot be nullable');
  }
}
