/**
 * The types that expressions see of a structural schema, with how large values of them can be (reference
 * implementation, declared types of schemas). What a schema says nothing of, expressions do not see.
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { escapedName } from '#cel/json-values.ts';
import { listType, mapType, types, type Type } from '#cel/types.ts';
import { ruleRequestBytesMax } from './limits.ts';
import { itemsOf } from './schema-items.ts';

export interface DeclaredType {
  type: Type;
  /** The most elements, entries, characters; 0 of what has none. */
  elementsMax: number;
  /** The least bytes of a value as JSON. */
  bytesMin: number;
  item?: DeclaredType;
  /** By the name that expressions use. */
  fields?: ReadonlyMap<string, DeclaredType>;
}

const textBytesMin = 2;
const nameCharactersMax = 253;
/** Texts with a form: their type, and the least and most bytes of one as JSON. */
const formats: Readonly<Record<string, [type: Type, bytesMin: number, charactersMax: number]>> = {
  duration: [types.duration, 3, 32],
  date: [types.timestamp, 12, 12],
  'date-time': [types.timestamp, 21, 32],
};

/** Undefined where expressions do not see the schema's values. `name` names the type in messages. */
export function declareType(given: JSONSchemaProps, isResource: boolean, name: string): DeclaredType | undefined {
  if (given['x-kubernetes-int-or-string'] === true)
    return { type: types.dyn, elementsMax: textMax(given), bytesMin: 1 };
  const schema = isResource ? withObjectMeta(given) : given;
  switch (schema.type) {
    case 'array':
      return declareList(schema, name);
    case 'object':
      return typeof schema.additionalProperties === 'object' ? declareMap(schema, name) : declareObject(schema, name);
    case 'string':
      return declareText(schema);
    case 'boolean':
      return { type: types.bool, elementsMax: 0, bytesMin: 4 };
    case 'number':
      return { type: types.double, elementsMax: 0, bytesMin: 1 };
    case 'integer':
      return { type: types.int, elementsMax: 0, bytesMin: 1 };
    default:
      return undefined;
  }
}

const isEmbedded = (schema: JSONSchemaProps): boolean => schema['x-kubernetes-embedded-resource'] === true;
const positive = (count: number): number => Math.max(0, count);

function declareList(schema: JSONSchemaProps, name: string): DeclaredType | undefined {
  const items = itemsOf(schema);
  const item = items === undefined ? undefined : declareType(items, isEmbedded(items), `${name}.@idx`);
  if (item === undefined) return undefined;
  const { 'x-kubernetes-list-type': kind, 'x-kubernetes-list-map-keys': keys = [], maxItems } = schema;
  const merge = kind === 'set' ? { merge: [] } : kind === 'map' ? { merge: keys } : {};
  return {
    type: { ...listType(item.type), ...merge },
    elementsMax:
      maxItems === undefined ? Math.floor((ruleRequestBytesMax - 2) / (item.bytesMin + 1)) : positive(maxItems),
    bytesMin: 2,
    item,
  };
}

function declareMap(schema: JSONSchemaProps, name: string): DeclaredType | undefined {
  const { additionalProperties: values, maxProperties } = schema;
  if (typeof values !== 'object') return undefined;
  const item = declareType(values, isEmbedded(values), `${name}.@elem`);
  if (item === undefined) return undefined;
  return {
    type: mapType(types.string, item.type),
    elementsMax:
      maxProperties === undefined
        ? Math.floor((ruleRequestBytesMax - 2) / (item.bytesMin + 6))
        : positive(maxProperties),
    bytesMin: 2,
    item,
  };
}

function declareObject(schema: JSONSchemaProps, name: string): DeclaredType {
  const fields = new Map<string, DeclaredType>();
  let bytesMin = 2;
  for (const [property, of] of Object.entries(schema.properties ?? {})) {
    const field = declareType(of, isEmbedded(of), `${name}.${property}`);
    if (field === undefined) continue;
    const escaped = escapedName(property);
    if (isFieldName(escaped)) fields.set(escaped, field);
    if ((schema.required ?? []).includes(property) && of.default === undefined)
      bytesMin += Buffer.byteLength(property) + field.bytesMin + 4;
  }
  return {
    type: { kind: 'object', name, field: (field) => fields.get(field)?.type },
    elementsMax: 0,
    bytesMin,
    fields,
  };
}

/** Whether expressions can name it. */
export const isFieldName = (escaped: string): boolean => /^[A-Za-z_]\w*$/.test(escaped);

function declareText(schema: JSONSchemaProps): DeclaredType {
  const { format = '', maxLength } = schema;
  if (format === 'byte')
    return {
      type: types.bytes,
      elementsMax: maxLength === undefined ? ruleRequestBytesMax - 2 : positive(maxLength),
      bytesMin: textBytesMin,
    };
  const form = Object.hasOwn(formats, format) ? formats[format] : undefined;
  if (form !== undefined) return { type: form[0], elementsMax: form[2], bytesMin: form[1] };
  return { type: types.string, elementsMax: textMax(schema), bytesMin: textBytesMin };
}

/** The most bytes of a text: a character has up to four. */
function textMax({ maxLength, enum: values, ...schema }: JSONSchemaProps): number {
  if (maxLength !== undefined) return positive(maxLength) * 4;
  if (schema['x-kubernetes-int-or-string'] === true || values === undefined || values.length === 0)
    return ruleRequestBytesMax - 2;
  return Math.max(...values.map((value) => (typeof value === 'string' ? Buffer.byteLength(value) : 0)));
}

/** Every resource says what it is and how it is called; of its metadata expressions see no more. */
function withObjectMeta(schema: JSONSchemaProps): JSONSchemaProps {
  const named = schema.properties?.metadata?.properties ?? {};
  const text = (field: string, lengthMax: number): JSONSchemaProps => ({
    type: 'string',
    maxLength: Math.min(named[field]?.maxLength ?? lengthMax, lengthMax),
  });
  return {
    ...schema,
    properties: {
      ...schema.properties,
      kind: { type: 'string' },
      apiVersion: { type: 'string' },
      metadata: {
        type: 'object',
        properties: {
          name: text('name', nameCharactersMax),
          generateName: text('generateName', nameCharactersMax - 1),
        },
      },
    },
  };
}

/** The most elements of what lies at a path below a type; undefined where nothing does. */
export function elementsMaxAt(root: DeclaredType, path: readonly string[]): number | undefined {
  let at: DeclaredType | undefined = root;
  for (const name of path.slice(1)) {
    if (name === '@keys') at = at?.type.kind === 'map' ? mapKey : undefined;
    else at = name === '@items' || name === '@values' ? at?.item : at?.fields?.get(name);
    if (at === undefined) return undefined;
  }
  return at.elementsMax;
}

const mapKey: DeclaredType = { type: types.string, elementsMax: 0, bytesMin: textBytesMin };
