/**
 * Whether the schema of a custom resource definition is structural (Kubernetes, "Specifying a structural schema"): a
 * type for every field and item, and logic of alternatives that adds no fields of its own. What else a schema may not
 * hold is in `schema-document.ts`, its defaults are in `schema-defaults.ts`, its rules in `rule-checks.ts`.
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { equalJson } from '#base/json.ts';
import { PatternError, compilePattern } from '#base/pattern.ts';
import type { FieldErrors } from './field-errors.ts';
import { itemsOf } from './schema-items.ts';

/** Where a schema stands: at the root, for a list's items, for a field. */
type Level = 'root' | 'item' | 'field';

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === '' ||
  value === false ||
  (Array.isArray(value) && value.length === 0);

const notSupported = [
  ['id', 'id'],
  ['$schema', 'schema'],
  ['$ref', '$ref'],
  ['patternProperties', 'patternProperties'],
  ['dependencies', 'dependencies'],
  ['additionalItems', 'additionalItems'],
  ['definitions', 'definitions'],
] as const;

/** What keeps a schema from being read as a structural one at all, or ''. */
export function unstructuredPart(schema: JSONSchemaProps): string {
  const found = notSupported.find(([field]) => {
    if (field === 'definitions' || field === 'patternProperties') return Object.keys(schema[field] ?? {}).length > 0;
    const value: unknown = schema[field];
    return value !== undefined && value !== null && value !== '';
  });
  if (found !== undefined) return `OpenAPIV3Schema '${found[1]}' is not supported`;
  if (Array.isArray(schema.items) && schema.items.length > 0)
    return "OpenAPIV3Schema 'items' must be a schema, but is an array";
  if (schema['x-kubernetes-preserve-unknown-fields'] === false)
    return "internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined";
  for (const inner of [...childrenOf(schema), ...alternativesOf(schema, '').map(([, one]) => one)]) {
    const problem = unstructuredPart(inner);
    if (problem !== '') return problem;
  }
  return '';
}

function childrenOf(schema: JSONSchemaProps): JSONSchemaProps[] {
  const items = itemsOf(schema);
  const { additionalProperties: others } = schema;
  return [
    ...(items === undefined ? [] : [items]),
    ...Object.values(schema.properties ?? {}),
    ...(typeof others === 'object' ? [others] : []),
  ];
}

/** Reports everything that keeps a schema from being structural, in the order of its text. */
export function checkStructuralSchema(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const found = errors.fork();
  checkNode(schema, 'root', at, found);
  checkCompleteness(schema, schema, { at, from: at }, found);
  found.causes.sort((a, b) => (`${a.field}: ${a.message}` < `${b.field}: ${b.message}` ? -1 : 1));
  errors.take(found);
}

const missingType: Record<Level, string> = {
  root: 'must not be empty at the root',
  item: 'must not be empty for specified array items',
  field: 'must not be empty for specified object fields',
};

function checkNode(schema: JSONSchemaProps, level: Level, at: string, errors: FieldErrors): void {
  if (errors.full) return;
  const { type, properties = {}, additionalProperties: others } = schema;
  const items = itemsOf(schema);
  if (type === 'array' && items === undefined) errors.required(`${at}.items`, 'must be specified');
  if (items !== undefined) checkNode(items, 'item', `${at}.items`, errors);
  for (const [name, property] of Object.entries(properties))
    checkNode(property, 'field', `${at}.properties[${name}]`, errors);
  if (others !== undefined && level === 'root')
    errors.forbidden(`${at}.additionalProperties`, 'must not be used at the root');
  if (typeof others === 'object') checkNode(others, 'field', `${at}.additionalProperties`, errors);
  checkExtensions(schema, at, errors);
  checkLogicOf(schema, at, errors);
  checkType(schema, level, at, errors);
  if (level === 'root' || schema['x-kubernetes-embedded-resource'] === true)
    for (const name of ['kind', 'apiVersion']) {
      const own = properties[name];
      if (own !== undefined && own.type !== 'string')
        errors.invalid(`${at}.properties[${name}].type`, own.type ?? '', 'must be string');
    }
  checkMetadata(schema, level, at, errors);
}

function checkExtensions(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (schema['x-kubernetes-int-or-string'] !== true) return;
  for (const name of ['x-kubernetes-preserve-unknown-fields', 'x-kubernetes-embedded-resource'] as const)
    if (schema[name] === true)
      errors.invalid(`${at}.${name}`, true, 'must be false if x-kubernetes-int-or-string is true');
}

function checkType(schema: JSONSchemaProps, level: Level, at: string, errors: FieldErrors): void {
  const type = schema.type ?? '';
  const preserves = schema['x-kubernetes-preserve-unknown-fields'] === true;
  const isEmbedded = schema['x-kubernetes-embedded-resource'] === true;
  const embedded = 'must be object if x-kubernetes-embedded-resource is true';
  if (isEmbedded && type !== 'object') {
    if (type === '') errors.required(`${at}.type`, embedded);
    else errors.invalid(`${at}.type`, type, embedded);
  } else if (type === '' && schema['x-kubernetes-int-or-string'] !== true && !preserves)
    errors.required(`${at}.type`, missingType[level]);
  if (isEmbedded && schema.additionalProperties !== undefined)
    errors.forbidden(`${at}.additionalProperties`, 'must not be used if x-kubernetes-embedded-resource is set');
  if (level === 'root' && type !== '' && type !== 'object')
    errors.invalid(`${at}.type`, type, 'must be object at the root');
  if (isEmbedded && !preserves && Object.keys(schema.properties ?? {}).length === 0)
    errors.required(
      `${at}.properties`,
      'must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields',
    );
}

/** The schema of an object's own metadata may restrict its names, and nothing else. */
function checkMetadata(schema: JSONSchemaProps, level: Level, at: string, errors: FieldErrors): void {
  const metadata = schema.properties?.metadata;
  if (metadata === undefined) return;
  const path = `${at}.properties[metadata]`;
  const isOfObject = level === 'root' || schema['x-kubernetes-embedded-resource'] === true;
  if (isOfObject && metadata.type !== 'object') errors.invalid(`${path}.type`, metadata.type ?? '', 'must be object');
  if (level !== 'root') return;
  const { type: _t, default: _d, properties = {}, ...rest } = metadata;
  const others = Object.keys(properties).some((name) => name !== 'name' && name !== 'generateName');
  if (others || Object.values(rest).some((value) => !isEmpty(value)))
    errors.forbidden(
      path,
      'must not specify anything other than name and generateName, but metadata is implicitly specified',
    );
}

const intOrString = [{ type: 'integer' }, { type: 'string' }];
const isIntOrString = (list: readonly JSONSchemaProps[] | undefined): boolean => equalJson(list, intOrString);

/** Schemas that are joined by logic, with their paths. */
function alternativesOf(schema: JSONSchemaProps, at: string): [string, JSONSchemaProps][] {
  const lists = (['allOf', 'anyOf', 'oneOf'] as const).flatMap((name) =>
    (schema[name] ?? []).map((inner, i): [string, JSONSchemaProps] => [`${at}.${name}[${i}]`, inner]),
  );
  return schema.not === undefined ? lists : [...lists, [`${at}.not`, schema.not]];
}

/** What says more of a value. An integer or a text may be told by its types. */
function checkLogicOf(schema: JSONSchemaProps, at: string, errors: FieldErrors, skipsTypes = false): void {
  if (errors.full) return;
  const skipsAnyOf = skipsTypes || isIntOrString(schema.anyOf);
  const [first] = schema.allOf ?? [];
  for (const [path, inner] of alternativesOf(schema, at)) {
    if (skipsAnyOf && path.startsWith(`${at}.anyOf[`)) continue;
    checkLogic(inner, path, errors, inner === first && isIntOrString(inner.anyOf));
  }
  if (schema.pattern === undefined || schema.pattern === '') return;
  try {
    compilePattern(schema.pattern);
  } catch (error) {
    if (!(error instanceof PatternError)) throw error;
    errors.invalid(`${at}.pattern`, schema.pattern, `must be a valid regular expression, but isn't: ${error.message}`);
  }
}

const onlyOutside = [
  ['type', 'empty'],
  ['additionalProperties', 'undefined'],
  ['default', 'undefined'],
  ['title', 'empty'],
  ['description', 'empty'],
  ['nullable', 'false'],
  ['x-kubernetes-preserve-unknown-fields', 'false'],
  ['x-kubernetes-embedded-resource', 'false'],
  ['x-kubernetes-int-or-string', 'false'],
  ['x-kubernetes-list-map-keys', 'empty'],
  ['x-kubernetes-list-type', 'undefined'],
  ['x-kubernetes-map-type', 'undefined'],
  ['x-kubernetes-validations', 'empty'],
] as const;

/** Logic says more about fields that the schema outside of it has, and brings in none. */
function checkLogic(schema: JSONSchemaProps, at: string, errors: FieldErrors, skipsTypes = false): void {
  checkLogicOf(schema, at, errors, skipsTypes);
  const items = itemsOf(schema);
  if (items !== undefined) checkLogic(items, `${at}.items`, errors);
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    checkLogic(property, `${at}.properties[${name}]`, errors);
  for (const [field, wanted] of onlyOutside) {
    const value: unknown = schema[field];
    const isGiven = wanted === 'undefined' ? value !== undefined && value !== null : !isEmpty(value);
    if (isGiven) errors.forbidden(`${at}.${field}`, `must be ${wanted} to be structural`);
  }
  if (schema.properties?.metadata !== undefined)
    errors.forbidden(`${at}.properties[metadata]`, 'must not be specified in a nested context');
}

/** `at`: of the schema outside; `from`: of what says more of it. */
interface Places {
  at: string;
  from: string;
}

/** What logic speaks of is there outside of it. */
function checkCompleteness(
  schema: JSONSchemaProps,
  outside: JSONSchemaProps,
  { at, from }: Places,
  errors: FieldErrors,
): void {
  if (errors.full) return;
  for (const [path, inner] of alternativesOf(schema, from)) {
    checkCompleteness(inner, outside, { at, from: path }, errors);
    checkParts(inner, outside, { at, from: path }, errors);
  }
}

function checkParts(
  schema: JSONSchemaProps,
  outside: JSONSchemaProps,
  { at, from }: Places,
  errors: FieldErrors,
): void {
  const parts: [string, JSONSchemaProps, JSONSchemaProps | undefined][] = Object.entries(schema.properties ?? {}).map(
    ([name, property]) => [`.properties[${name}]`, property, outside.properties?.[name]],
  );
  const items = itemsOf(schema);
  if (items !== undefined) parts.push(['.items', items, itemsOf(outside)]);
  for (const [step, inner, own] of parts) {
    const places = { at: `${at}${step}`, from: `${from}${step}` };
    if (own === undefined) errors.required(places.at, `because it is defined in ${places.from}`);
    else {
      checkCompleteness(inner, own, places, errors);
      checkParts(inner, own, places, errors);
    }
  }
}
