/**
 * Objects of the API as values, and back. Numbers, times and bytes are read by the type that a schema gives; where
 * there is none, a whole number is an int.
 */
import { isObject } from '#base/unknown.ts';
import { Duration, Timestamp } from './time.ts';
import { types, type Type } from './types.ts';
import {
  CelError,
  isKind,
  itemsOf,
  Uint,
  type ListValue,
  type MapValue,
  type StructValue,
  type Value,
} from './values.ts';

export function fromJson(json: unknown, type: Type = types.dyn): Value {
  switch (typeof json) {
    case 'string':
      return fromText(json, type);
    case 'number':
      return numberOf(json, type);
    case 'boolean':
    case 'bigint':
      return json;
    default:
      if (Array.isArray(json)) return new JsonList(json, type);
      return isObject(json) ? new JsonMap(json, type) : null;
  }
}

function numberOf(json: number, { kind }: Type): Value {
  if (kind === 'double') return json;
  if (!Number.isInteger(json)) return json;
  return kind === 'uint' ? new Uint(BigInt(json)) : BigInt(json);
}

/** A text that is not what its type promises stays a text. */
function fromText(text: string, { kind }: Type): Value {
  switch (kind) {
    case 'timestamp':
      return Timestamp.parse(text) ?? text;
    case 'duration':
      return Duration.parse(text) ?? text;
    case 'bytes':
      return Buffer.from(text, 'base64');
    default:
      return text;
  }
}

class JsonList implements ListValue {
  readonly kind = 'list';
  readonly merge: readonly string[] | undefined;
  readonly #items: readonly unknown[];
  readonly #type: Type;

  constructor(items: readonly unknown[], type: Type) {
    this.#items = items;
    this.#type = type.kind === 'list' ? type.item : types.dyn;
    this.merge = type.kind === 'list' ? type.merge : undefined;
  }
  get size(): number {
    return this.#items.length;
  }
  at(index: number): Value {
    return fromJson(this.#items[index], this.#type);
  }
}

/** An object of the API: a map of any type, or what has the fields that a schema names. */
class JsonMap implements MapValue {
  readonly kind = 'map';
  readonly #object: Readonly<Record<string, unknown>>;
  readonly #type: Type;

  constructor(object: Readonly<Record<string, unknown>>, type: Type) {
    this.#object = object;
    this.#type = type;
  }
  get size(): number {
    return Object.keys(this.#object).length;
  }
  get(key: Value): Value | undefined {
    if (typeof key !== 'string') return undefined;
    const type = this.#type;
    const field = type.kind === 'object' ? fieldName(key) : key;
    if (!Object.hasOwn(this.#object, field)) return undefined;
    const json = this.#object[field];
    if (json === undefined) return undefined;
    return fromJson(
      json,
      (type.kind === 'map' ? type.value : type.kind === 'object' ? type.field(key) : undefined) ?? types.dyn,
    );
  }
  *keys(): Generator<string> {
    for (const [key, value] of Object.entries(this.#object))
      if (value !== undefined) yield this.#type.kind === 'object' ? escapedName(key) : key;
  }
}

/** Words that are no names of fields without underscores around them. */
const words = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(
    ' ',
  ),
);
const unescapes: Readonly<Record<string, string>> = {
  __underscores__: '__',
  __dot__: '.',
  __dash__: '-',
  __slash__: '/',
};
const escapes: Readonly<Record<string, string>> = {
  __: '__underscores__',
  '.': '__dot__',
  '-': '__dash__',
  '/': '__slash__',
};

/** The name of a field in an expression: `my-field` is `my__dash__field`. */
export function escapedName(name: string): string {
  if (words.has(name)) return `__${name}__`;
  return name.replace(/__|[.\-/]/g, (part) => escapes[part] ?? part);
}

/** The field that a name in an expression stands for. */
export function fieldName(escaped: string): string {
  if (!escaped.includes('__')) return escaped;
  const word = /^__(\w+)__$/.exec(escaped)?.[1];
  if (word !== undefined && words.has(word)) return word;
  return escaped.replace(/__(?:underscores|dot|dash|slash)__/g, (part) => unescapes[part] ?? part);
}

/** A value as JSON; an optional that is empty is undefined. Throws for what has no JSON. */
export function toJson(value: Value): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string')
    return value;
  if (typeof value === 'bigint') return Number(value);
  if (value instanceof Uint) return Number(value.value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Timestamp || value instanceof Duration) return value.toString();
  if (isKind(value, 'list')) return [...itemsOf(value)].map(toJson);
  if (isKind(value, 'map')) return mapToJson(value);
  if (isKind(value, 'struct')) return structToJson(value);
  if (isKind(value, 'optional')) return value.value === undefined ? undefined : toJson(value.value);
  throw new CelError('the value has no JSON');
}

function mapToJson(map: MapValue): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const key of map.keys()) {
    if (typeof key !== 'string') throw new CelError('keys of JSON objects are texts');
    out[key] = toJson(map.get(key)!);
  }
  return out;
}

function structToJson(struct: StructValue): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const name of struct.fields()) out[fieldName(name)] = toJson(struct.get(name)!);
  return out;
}
