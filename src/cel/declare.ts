/** Functions as libraries write them down: a name, a signature as text, what it does and costs. */
import type { Overload } from './environment.ts';
import { listType, mapType, opaqueType, optionalType, param, types, typeType, type Type } from './types.ts';
import {
  CelError,
  isKind,
  noOverload,
  sizeOf,
  type ListValue,
  type MapValue,
  type OpaqueValue,
  type Value,
} from './values.ts';

export type Library = readonly (readonly [name: string, overload: Overload])[];
type Run = (args: readonly Value[], host: unknown) => Value;
type Cost = (args: readonly Value[], result: Value) => number;

/**
 * `string.(string, int) bool` is a member of strings, `(A, A) bool` a function; a capital letter is a parameter, a name
 * with a dot an opaque type.
 */
export function declare(name: string, signature: string, run: Run, cost?: Cost): Library[number] {
  const found = /^(?:(.*?)\.)?\((.*)\) (\S.*)$/.exec(signature);
  if (found === null) throw new Error(`no signature: ${signature}`);
  const [, target, args = '', result = ''] = found;
  const isMember = target !== undefined;
  const given = [...(isMember ? [target] : []), ...splitTypes(args)].map(parseType);
  return [name, { args: given, isMember, result: parseType(result), run, ...(cost === undefined ? {} : { cost }) }];
}

export function functionsOf(...libraries: Library[]): Map<string, Overload[]> {
  const functions = new Map<string, Overload[]>();
  for (const [name, overload] of libraries.flat()) functions.set(name, [...(functions.get(name) ?? []), overload]);
  return functions;
}

function splitTypes(text: string): string[] {
  const out: string[] = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= text.length; i++) {
    const char = text.charAt(i);
    if (char === '(') depth++;
    else if (char === ')') depth--;
    else if ((char === ',' && depth === 0) || char === '') {
      const part = text.slice(start, i).trim();
      if (part !== '') out.push(part);
      start = i + 1;
    }
  }
  return out;
}

function parseType(text: string): Type {
  const found = /^(list|map|optional|type)\((.*)\)$/.exec(text);
  if (found !== null) {
    const [first = types.dyn, second = types.dyn] = splitTypes(found[2] ?? '').map(parseType);
    switch (found[1]) {
      case 'list':
        return listType(first);
      case 'map':
        return mapType(first, second);
      case 'optional':
        return optionalType(first);
      default:
        return typeType(first);
    }
  }
  if (/^[A-Z]$/.test(text)) return param(text);
  if (text.includes('.')) return opaqueType(text);
  const simple = Object.entries(types).find(([name]) => name === text);
  if (simple === undefined) throw new Error(`no type: ${text}`);
  return simple[1];
}

/** Values as what their type says; a function is only called with what fits its signature. */
export function textOf(value: Value | undefined): string {
  if (typeof value !== 'string') throw noOverload();
  return value;
}
export function intOf(value: Value | undefined): bigint {
  if (typeof value !== 'bigint') throw noOverload();
  return value;
}
export function listIn(value: Value | undefined): ListValue {
  if (value === undefined || !isKind(value, 'list')) throw noOverload();
  return value;
}
export function mapIn(value: Value | undefined): MapValue {
  if (value === undefined || !isKind(value, 'map')) throw noOverload();
  return value;
}
/** The library's own value of a class. */
export function opaqueOf<Of extends OpaqueValue>(value: Value | undefined, of: new (...args: never[]) => Of): Of {
  if (value instanceof of) return value;
  throw noOverload();
}
/** An index that JavaScript can count with. */
export function indexOf(value: Value | undefined): number {
  const index = Number(intOf(value));
  if (!Number.isSafeInteger(index)) throw new CelError(`index out of bounds: ${index}`);
  return index;
}

/** Characters cost a tenth of a step each. */
export const traversal = (characters: number): number => Math.ceil(characters / 10);
export const traversalOf =
  (argument: number, times = 1): Cost =>
  (args) =>
    traversal(sizeOf(args[argument]!) * times);
/** A pattern costs a quarter of its length for each tenth of the text. */
export const matchCostOf = (characters: number, patternLength: number): number =>
  traversal(1 + characters) * Math.ceil(patternLength / 4);
export const matchCost: Cost = ([text, pattern]) => matchCostOf(sizeOf(text!), sizeOf(pattern!));
