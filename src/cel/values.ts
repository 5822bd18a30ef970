/**
 * Values at run time. `null`, booleans, strings and bytes are JavaScript's; an int is a `bigint`, a double a `number`,
 * a uint a `Uint`. Lists and maps are looked through: JSON below them is read by its type when it is asked for.
 */
import { Duration, Timestamp } from './time.ts';
import type { Type } from './types.ts';

export class Uint {
  readonly value: bigint;
  constructor(value: bigint) {
    this.value = value;
  }
}

export interface ListValue {
  readonly kind: 'list';
  readonly size: number;
  at(index: number): Value;
  /** How elements are told apart, where order does not count: a set, or a map by these keys. */
  readonly merge?: readonly string[] | undefined;
}

export interface MapValue {
  readonly kind: 'map';
  readonly size: number;
  get(key: Value): Value | undefined;
  keys(): Iterable<Value>;
}

/** An object of a named type: `Object.spec{…}`, or what has fields and nothing else. */
export interface StructValue {
  readonly kind: 'struct';
  readonly type: Type;
  get(field: string): Value | undefined;
  fields(): Iterable<string>;
}

export class OptionalValue {
  readonly kind = 'optional';
  readonly value: Value | undefined;
  constructor(value: Value | undefined) {
    this.value = value;
  }
}

/** A value of a library's own type. */
export interface OpaqueValue {
  readonly kind: 'opaque';
  readonly type: Type;
  equals(other: OpaqueValue): boolean;
  /** What costs are counted by; 1 where it is absent. */
  readonly size?: number;
}

export interface TypeValue {
  readonly kind: 'type';
  readonly name: string;
}

export type Value =
  | null
  | boolean
  | bigint
  | Uint
  | number
  | string
  | Uint8Array
  | Timestamp
  | Duration
  | ListValue
  | MapValue
  | StructValue
  | OptionalValue
  | OpaqueValue
  | TypeValue;

/** What evaluation ends with where it has no value. */
export class CelError extends Error {}

export const noOverload = (): CelError => new CelError('no such overload');

export function listOf(items: readonly Value[]): ListValue {
  return { kind: 'list', size: items.length, at: (index) => items[index]! };
}

export function* itemsOf(list: ListValue): Generator<Value> {
  for (let i = 0; i < list.size; i++) yield list.at(i);
}

/** A key that compares as CEL compares: `1`, `1u` and `1.0` are one key. */
export function keyText(key: Value): string | undefined {
  if (typeof key === 'string') return `s${key}`;
  if (typeof key === 'bigint') return `i${key}`;
  if (key instanceof Uint) return `i${key.value}`;
  if (typeof key === 'boolean') return `b${key}`;
  return typeof key === 'number' && Number.isInteger(key) ? `i${BigInt(key)}` : undefined;
}

export class MapOfValues implements MapValue {
  readonly kind = 'map';
  readonly #entries = new Map<string, [Value, Value]>();

  /** Throws where the key is none, or is there already. */
  add(key: Value, value: Value): this {
    const text = keyText(key);
    if (text === undefined) throw new CelError(`unsupported key type: ${typeNameOf(key)}`);
    if (this.#entries.has(text)) throw new CelError(`insert failed: key ${showKey(key)} already exists`);
    this.#entries.set(text, [key, value]);
    return this;
  }
  get size(): number {
    return this.#entries.size;
  }
  get(key: Value): Value | undefined {
    const text = keyText(key);
    return text === undefined ? undefined : this.#entries.get(text)?.[1];
  }
  *keys(): Generator<Value> {
    for (const [key] of this.#entries.values()) yield key;
  }
}

export const showKey = (key: Value): string =>
  key instanceof Uint ? String(key.value) : typeof key === 'object' ? typeNameOf(key) : String(key);

/** The type of a value as `type(x)` names it. */
export function typeNameOf(value: Value): string {
  if (value === null) return 'null_type';
  if (typeof value === 'boolean') return 'bool';
  if (typeof value === 'bigint') return 'int';
  if (typeof value === 'number') return 'double';
  if (typeof value === 'string') return 'string';
  if (value instanceof Uint) return 'uint';
  if (value instanceof Uint8Array) return 'bytes';
  if (value instanceof Timestamp) return 'google.protobuf.Timestamp';
  if (value instanceof Duration) return 'google.protobuf.Duration';
  switch (value.kind) {
    case 'optional':
      return 'optional_type';
    case 'opaque':
    case 'struct':
      return value.type.kind === 'object' || value.type.kind === 'opaque' ? value.type.name : value.type.kind;
    default:
      return value.kind;
  }
}

export const isKind = <Kind extends 'list' | 'map' | 'struct' | 'optional' | 'opaque' | 'type'>(
  value: Value,
  kind: Kind,
): value is Extract<Value, { kind: Kind }> =>
  typeof value === 'object' && value !== null && 'kind' in value && value.kind === kind;

/** Numbers of any kind as something that compares; undefined for what is none. */
export function numeric(value: Value): bigint | number | undefined {
  if (value instanceof Uint) return value.value;
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

// eslint-disable-next-line eqeqeq -- a bigint and a number are the same number by `==` alone.
const sameNumber = (a: bigint | number, b: bigint | number): boolean => a == b;

/** Equality as CEL has it: across kinds of numbers, never an error; lists that are sets or maps without their order. */
export function isEqual(a: Value, b: Value): boolean {
  const [x, y] = [numeric(a), numeric(b)];
  if (x !== undefined) return y !== undefined && sameNumber(x, y);
  if (a === null || typeof a !== 'object') return a === b;
  if (b === null || typeof b !== 'object') return false;
  if (a instanceof Uint8Array) return b instanceof Uint8Array && Buffer.compare(a, b) === 0;
  if (a instanceof Timestamp) return b instanceof Timestamp && a.nanos === b.nanos;
  if (a instanceof Duration) return b instanceof Duration && a.nanos === b.nanos;
  if (isKind(a, 'list')) return isKind(b, 'list') && sameList(a, b);
  if (isKind(a, 'map')) return isKind(b, 'map') && sameMap(a, b);
  if (isKind(a, 'struct')) return isKind(b, 'struct') && sameStruct(a, b);
  if (isKind(a, 'optional'))
    return (
      isKind(b, 'optional') &&
      (a.value === undefined || b.value === undefined ? a.value === b.value : isEqual(a.value, b.value))
    );
  if (isKind(a, 'type')) return isKind(b, 'type') && a.name === b.name;
  return isKind(a, 'opaque') && isKind(b, 'opaque') && typeNameOf(a) === typeNameOf(b) && a.equals(b);
}

function sameList(a: ListValue, b: ListValue): boolean {
  if (a.size !== b.size) return false;
  if (a.merge === undefined) {
    for (let i = 0; i < a.size; i++) if (!isEqual(a.at(i), b.at(i))) return false;
    return true;
  }
  const left = [...itemsOf(a)];
  for (const item of itemsOf(b)) {
    const at = left.findIndex((other) => isEqual(other, item));
    if (at === -1) return false;
    left.splice(at, 1);
  }
  return true;
}

function sameMap(a: MapValue, b: MapValue): boolean {
  if (a.size !== b.size) return false;
  for (const key of a.keys()) {
    const other = b.get(key);
    if (other === undefined || !isEqual(a.get(key)!, other)) return false;
  }
  return true;
}

function sameStruct(a: StructValue, b: StructValue): boolean {
  const names = new Set([...a.fields(), ...b.fields()]);
  for (const name of names) {
    const [x, y] = [a.get(name), b.get(name)];
    if (x === undefined || y === undefined || !isEqual(x, y)) return false;
  }
  return true;
}

/** What costs are counted by: characters, bytes, elements; 1 of anything else. */
export function sizeOf(value: Value): number {
  if (typeof value === 'string') return characters(value);
  if (value instanceof Uint8Array) return value.length;
  if (value === null || typeof value !== 'object' || !('kind' in value)) return 1;
  if (value.kind === 'list' || value.kind === 'map') return value.size;
  if (value.kind === 'optional') return value.value === undefined ? 1 : sizeOf(value.value);
  return value.kind === 'opaque' ? (value.size ?? 1) : 1;
}

/** Code points of a text. */
function characters(text: string): number {
  let count = text.length;
  for (let i = 0; i < text.length - 1; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0xd800 && unit < 0xdc00) {
      count--;
      i++;
    }
  }
  return count;
}

export const typeValue = (name: string): TypeValue => ({ kind: 'type', name });
