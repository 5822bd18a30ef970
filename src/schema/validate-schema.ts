/** Values against the structural schema of a custom resource, as the reference implementation words what is wrong. */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { equalJson } from '#base/json.ts';
import { PatternError, compilePattern } from '#base/pattern.ts';
import { fieldOf, isObject, type JsonObject } from '#base/unknown.ts';
import { familyOf, parseCidr } from '#base/ip.ts';
import type { FieldErrors } from './field-errors.ts';
import { label1035Problem } from './name-forms.ts';
import { formerItems, itemsOf } from './schema-items.ts';
import { validateAnnotations, validateLabels } from './validate-meta.ts';

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
  const formerItem = formerItems(schema, errors.former?.get(value));
  if (items !== undefined)
    value.forEach((item, i) => {
      if (!isKept(item, formerItem?.(item), errors)) validateSchema(item, items, `${path}[${i}]`, errors);
    });
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

/** Whether a value is what it was; what is not is told what it was, for its parts. */
function isKept(value: unknown, before: unknown, { former }: FieldErrors): boolean {
  if (former === undefined || before === undefined) return false;
  if (equalJson(value, before)) return true;
  if (isContainer(value) && isContainer(before)) former.set(value, before);
  return false;
}

const isContainer = (value: unknown): value is object => typeof value === 'object' && value !== null;

const join = (path: string, name: string): string => (path === '' ? name : `${path}.${name}`);

function checkProperties(value: JsonObject, schema: JSONSchemaProps, path: string, errors: FieldErrors): void {
  for (const name of schema.required ?? []) if (value[name] === undefined) errors.required(join(path, name));
  if (schema['x-kubernetes-embedded-resource'] === true) checkEmbedded(value, path, errors);
  const names = Object.keys(value);
  if (schema.maxProperties !== undefined && names.length > schema.maxProperties)
    errors.tooMany(path, names.length, schema.maxProperties);
  if (schema.minProperties !== undefined && names.length < schema.minProperties)
    errors.invalid(path, names.length, `${path} in body should have at least ${schema.minProperties} properties`);
  const before = errors.former?.get(value);
  for (const name of names) {
    if (before !== undefined && isKept(value[name], fieldOf(before, name), errors)) continue;
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
  for (const part of schema.allOf ?? []) {
    // All of what is changed is looked at.
    const inner = errors.fork();
    validateSchema(value, part, path, inner);
    errors.take(inner);
  }
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
