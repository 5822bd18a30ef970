/** What Kubernetes has of cel-go's extensions: strings (2), sets, lists (3), optional values. */
import { compare } from './standard.ts';
import { declare, indexOf, intOf, listIn, textOf, traversal, traversalOf, type Library } from './declare.ts';
import { formatText } from './format-text.ts';
import { listMadeMax, madeCharactersMax } from './limits.ts';
import {
  CelError,
  isEqual,
  isKind,
  itemsOf,
  listOf,
  noOverload,
  OptionalValue,
  sizeOf,
  Uint,
  type ListValue,
  type Value,
} from './values.ts';

/** A text by its code points. */
const pointsOf = (value: Value | undefined): string[] => Array.from(textOf(value));

function bounded(text: string): string {
  if (text.length > madeCharactersMax) throw new CelError(`the text is longer than ${madeCharactersMax} characters`);
  return text;
}

function position(text: Value | undefined, part: Value | undefined, from: number, isLast: boolean): bigint {
  const [points, sought] = [pointsOf(text), pointsOf(part)];
  if (from < 0 || from > points.length) throw new CelError(`index out of range: ${from}`);
  const fitsAt = (at: number): boolean => sought.every((point, i) => points[at + i] === point);
  if (isLast) {
    for (let at = Math.min(from, points.length - sought.length); at >= 0; at--) if (fitsAt(at)) return BigInt(at);
  } else for (let at = from; at <= points.length - sought.length; at++) if (fitsAt(at)) return BigInt(at);
  return -1n;
}

function substring(text: Value | undefined, from: number, to: number | undefined): string {
  const points = pointsOf(text);
  const end = to ?? points.length;
  if (from < 0 || from > points.length) throw new CelError(`index out of range: ${from}`);
  if (end < 0 || end > points.length) throw new CelError(`index out of range: ${end}`);
  if (from > end) throw new CelError(`invalid substring range. start: ${from}, end: ${end}`);
  return points.slice(from, end).join('');
}

/** As often as `limit` says, or everywhere where it is negative. */
function replace(text: string, [old, made]: readonly [string, string], limit: number): string {
  if (limit < 0) return bounded(text.replaceAll(old, () => made));
  let out = '';
  let rest = text;
  for (let count = 0; count < limit; count++) {
    const at = old === '' && count > 0 ? (rest === '' ? -1 : 1) : rest.indexOf(old);
    if (at === -1) break;
    out += rest.slice(0, at) + made;
    rest = rest.slice(at + old.length);
  }
  return bounded(out + rest);
}

function split(text: string, separator: string, limit: number): string[] {
  if (limit === 0) return [];
  const parts = separator === '' ? Array.from(text) : text.split(separator);
  if (limit < 0 || parts.length <= limit) return parts;
  return [...parts.slice(0, limit - 1), parts.slice(limit - 1).join(separator)];
}

function join(list: Value | undefined, separator: string): string {
  return bounded([...itemsOf(listIn(list))].map((item) => textOf(item)).join(separator));
}
const joinCost = (_args: readonly Value[], result: Value): number => traversal(sizeOf(result) * 2);
const ascii = (text: string, isUpper: boolean): string =>
  text.replace(isUpper ? /[a-z]+/g : /[A-Z]+/g, (part) => (isUpper ? part.toUpperCase() : part.toLowerCase()));
/** What Unicode counts as white space. */
const outerBlanks = /^[\p{White_Space}]+|[\p{White_Space}]+$/gu;
const quoteEscapes: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\v': '\\v',
  '\\': '\\\\',
  '"': '\\"',
};

export const stringsLibrary: Library = [
  declare('charAt', 'string.(int) string', ([text, index]) => {
    const [points, at] = [pointsOf(text), indexOf(index)];
    if (at < 0 || at > points.length) throw new CelError(`index out of range: ${at}`);
    return points[at] ?? '';
  }),
  declare(
    'indexOf',
    'string.(string) int',
    ([text, part]) => position(text, part, 0, false),
    ([text]) => lookCost(text!),
  ),
  declare(
    'indexOf',
    'string.(string, int) int',
    ([text, part, from]) => position(text, part, indexOf(from), false),
    ([text]) => lookCost(text!),
  ),
  declare(
    'lastIndexOf',
    'string.(string) int',
    ([text, part]) => position(text, part, pointsOf(text).length, true),
    ([text]) => lookCost(text!),
  ),
  declare(
    'lastIndexOf',
    'string.(string, int) int',
    ([text, part, from]) => position(text, part, indexOf(from), true),
    ([text]) => lookCost(text!),
  ),
  declare('lowerAscii', 'string.() string', ([text]) => ascii(textOf(text), false), traversalOf(0)),
  declare('upperAscii', 'string.() string', ([text]) => ascii(textOf(text), true), traversalOf(0)),
  declare(
    'replace',
    'string.(string, string) string',
    ([text, old, made]) => replace(textOf(text), [textOf(old), textOf(made)], -1),
    traversalOf(0, 2),
  ),
  declare(
    'replace',
    'string.(string, string, int) string',
    ([text, old, made, limit]) => replace(textOf(text), [textOf(old), textOf(made)], indexOf(limit)),
    traversalOf(0, 2),
  ),
  declare(
    'split',
    'string.(string) list(string)',
    ([text, by]) => listOf(split(textOf(text), textOf(by), -1)),
    traversalOf(0, 2),
  ),
  declare(
    'split',
    'string.(string, int) list(string)',
    ([text, by, limit]) => listOf(split(textOf(text), textOf(by), indexOf(limit))),
    traversalOf(0, 2),
  ),
  declare(
    'substring',
    'string.(int) string',
    ([text, from]) => substring(text, indexOf(from), undefined),
    traversalOf(0),
  ),
  declare(
    'substring',
    'string.(int, int) string',
    ([text, from, to]) => substring(text, indexOf(from), indexOf(to)),
    traversalOf(0),
  ),
  declare('trim', 'string.() string', ([text]) => textOf(text).replace(outerBlanks, ''), traversalOf(0)),
  declare('join', 'list(string).() string', ([list]) => join(list, ''), joinCost),
  declare('join', 'list(string).(string) string', ([list, by]) => join(list, textOf(by)), joinCost),
  declare(
    'format',
    'string.(list(dyn)) string',
    ([text, args]) => bounded(formatText(textOf(text), listIn(args))),
    traversalOf(0),
  ),
  declare(
    'strings.quote',
    '(string) string',
    ([text]) => `"${[...textOf(text)].map((char) => quoteEscapes[char] ?? char).join('')}"`,
    traversalOf(0),
  ),
];

const containsAll = (list: ListValue, others: ListValue): boolean => {
  const items = [...itemsOf(list)];
  for (const other of itemsOf(others)) if (!items.some((item) => isEqual(item, other))) return false;
  return true;
};
const productCost = ([a, b]: readonly Value[]): number => sizeOf(a!) * sizeOf(b!) + 1;

export const setsLibrary: Library = [
  declare('sets.contains', '(list(A), list(A)) bool', ([a, b]) => containsAll(listIn(a), listIn(b)), productCost),
  declare(
    'sets.equivalent',
    '(list(A), list(A)) bool',
    ([a, b]) => containsAll(listIn(a), listIn(b)) && containsAll(listIn(b), listIn(a)),
    (args, result) => productCost(args) * 2 - Number(result === null),
  ),
  declare(
    'sets.intersects',
    '(list(A), list(A)) bool',
    ([a, b]) => {
      const items = [...itemsOf(listIn(a))];
      for (const other of itemsOf(listIn(b))) if (items.some((item) => isEqual(item, other))) return true;
      return false;
    },
    productCost,
  ),
];

function ordered(a: Value, b: Value): number {
  const order = compare(a, b);
  if (order === undefined) throw noOverload();
  return order;
}
function isSorted(list: ListValue): boolean {
  for (let i = 1; i < list.size; i++) if (ordered(list.at(i - 1), list.at(i)) > 0) return false;
  return true;
}
function extreme(list: ListValue, sign: number, name: string): Value {
  if (list.size === 0) throw new CelError(`${name} called on empty list`);
  let best = list.at(0);
  for (const item of itemsOf(list)) if (ordered(item, best) * sign > 0) best = item;
  return best;
}
function place(list: ListValue, item: Value, isLast: boolean): bigint {
  let found = -1n;
  for (let i = 0; i < list.size; i++) {
    if (!isEqual(list.at(i), item)) continue;
    found = BigInt(i);
    if (!isLast) break;
  }
  return found;
}
function sum(list: ListValue, zero: Value, add: (a: Value, b: Value) => Value): Value {
  let total = zero;
  for (const item of itemsOf(list)) total = add(total, item);
  return total;
}
function flatten(list: ListValue, depth: number): Value[] {
  const out: Value[] = [];
  for (const item of itemsOf(list)) {
    if (isKind(item, 'list') && depth > 0) out.push(...flatten(item, depth - 1));
    else out.push(item);
    if (out.length > listMadeMax) throw new CelError(`the list is longer than ${listMadeMax} elements`);
  }
  return out;
}
function distinct(list: ListValue): Value[] {
  const out: Value[] = [];
  for (const item of itemsOf(list)) if (!out.some((other) => isEqual(other, item))) out.push(item);
  return out;
}
/** In the order of the keys, which go with the elements one by one. */
function sortBy(list: ListValue, keys: ListValue): Value {
  const pairs = [...itemsOf(list)].map((item, i): [Value, Value] => [item, keys.at(i)]);
  return listOf(pairs.sort(([, a], [, b]) => ordered(a, b)).map(([item]) => item));
}
/** A look at each element; characters are looked at ten at a time. */
function lookCost(value: Value): number {
  if (typeof value === 'string' || value instanceof Uint8Array) return Math.floor(sizeOf(value) / 10);
  if (!isKind(value, 'list')) return 1;
  return [...itemsOf(value)].reduce<number>((cost, item) => cost + lookCost(item), 0);
}
const listCost = ([list]: readonly Value[]): number => lookCost(list!);
/** A new list, and a step for each of its elements. */
const madeCost = (_args: readonly Value[], result: Value): number => 10 + sizeOf(result) + 1;
/** Each element is compared with each. */
const squareCost = ([list]: readonly Value[]): number => 10 + 2 * sizeOf(list!) ** 2 + 1;
const comparableTypes = ['int', 'uint', 'double', 'bool', 'duration', 'timestamp', 'string', 'bytes'];
const addInts = (a: Value, b: Value): Value => concatNumbers(a, b);

function concatNumbers(a: Value, b: Value): Value {
  if (typeof a === 'bigint') return a + intOf(b);
  if (typeof a === 'number') return a + Number(b);
  if (a instanceof Uint && b instanceof Uint) return new Uint(a.value + b.value);
  throw noOverload();
}

export const listsLibrary: Library = [
  ...comparableTypes.flatMap((type) => [
    declare('isSorted', `list(${type}).() bool`, ([list]) => isSorted(listIn(list)), listCost),
    declare('min', `list(${type}).() ${type}`, ([list]) => extreme(listIn(list), -1, 'min'), listCost),
    declare('max', `list(${type}).() ${type}`, ([list]) => extreme(listIn(list), 1, 'max'), listCost),
  ]),
  declare('sum', 'list(int).() int', ([list]) => sum(listIn(list), 0n, addInts), listCost),
  declare('sum', 'list(double).() double', ([list]) => sum(listIn(list), 0, addInts), listCost),
  declare('sum', 'list(uint).() uint', ([list]) => sum(listIn(list), new Uint(0n), addInts), listCost),
  declare('indexOf', 'list(A).(A) int', ([list, item]) => place(listIn(list), item!, false), listCost),
  declare('lastIndexOf', 'list(A).(A) int', ([list, item]) => place(listIn(list), item!, true), listCost),
  declare('includes', 'list(A).(A) bool', ([list, item]) => place(listIn(list), item!, false) >= 0n, listCost),
  declare(
    'slice',
    'list(A).(int, int) list(A)',
    ([list, from, to]) => {
      const [of, start, end] = [listIn(list), indexOf(from), indexOf(to)];
      if (start < 0 || end < 0) throw new CelError(`cannot slice(${start}, ${end}), negative indexes not supported`);
      if (start > end)
        throw new CelError(`cannot slice(${start}, ${end}), start index must be less than or equal to end index`);
      if (of.size < end) throw new CelError(`cannot slice(${start}, ${end}), list is length ${of.size}`);
      return listOf([...itemsOf(of)].slice(start, end));
    },
    madeCost,
  ),
  declare(
    'flatten',
    'list(list(A)).() list(A)',
    ([list]) => listOf(flatten(listIn(list), 1)),
    (args, result) => madeCost(args, result) - 1,
  ),
  declare(
    'flatten',
    'list(dyn).(int) list(dyn)',
    ([list, depth]) => {
      if (intOf(depth) < 0n) throw new CelError('level must be non-negative');
      return listOf(flatten(listIn(list), Math.min(indexOf(depth), 64)));
    },
    listCost,
  ),
  declare(
    'lists.range',
    '(int) list(int)',
    ([count]) => {
      const size = indexOf(count);
      if (size > listMadeMax) throw new CelError(`the list is longer than ${listMadeMax} elements`);
      return { kind: 'list', size: Math.max(0, size), at: (index) => BigInt(index) };
    },
    madeCost,
  ),
  declare('distinct', 'list(A).() list(A)', ([list]) => listOf(distinct(listIn(list))), squareCost),
  declare('reverse', 'list(A).() list(A)', ([list]) => listOf([...itemsOf(listIn(list))].reverse()), madeCost),
  ...comparableTypes.map((type) =>
    declare('sort', `list(${type}).() list(${type})`, ([list]) => sortBy(listIn(list), listIn(list)), squareCost),
  ),
  ...comparableTypes.map((type) =>
    declare(
      '@sortByAssociatedKeys',
      `list(A).(list(${type})) list(A)`,
      ([list, keys]) => sortBy(listIn(list), listIn(keys)),
      squareCost,
    ),
  ),
  declare(
    'first',
    'list(A).() optional(A)',
    ([list]) => new OptionalValue(listIn(list).size === 0 ? undefined : listIn(list).at(0)),
  ),
  declare(
    'last',
    'list(A).() optional(A)',
    ([list]) => new OptionalValue(listIn(list).size === 0 ? undefined : listIn(list).at(listIn(list).size - 1)),
  ),
];

function optionalIn(value: Value | undefined): OptionalValue {
  if (value === undefined || !isKind(value, 'optional')) throw noOverload();
  return value;
}

/** Whether a value is its type's own nothing. */
function isZero(value: Value): boolean {
  if (value === null || value === false || value === 0n || value === 0 || value === '') return true;
  if (value instanceof Uint) return value.value === 0n;
  if (value instanceof Uint8Array) return value.length === 0;
  if (isKind(value, 'list') || isKind(value, 'map')) return value.size === 0;
  return isKind(value, 'optional') && value.value === undefined;
}

export const optionalLibrary: Library = [
  declare('optional.of', '(A) optional(A)', ([value]) => new OptionalValue(value)),
  declare(
    'optional.ofNonZeroValue',
    '(A) optional(A)',
    ([value]) => new OptionalValue(isZero(value!) ? undefined : value),
  ),
  declare('optional.none', '() optional(A)', () => new OptionalValue(undefined)),
  declare('hasValue', 'optional(A).() bool', ([value]) => optionalIn(value).value !== undefined),
  declare('value', 'optional(A).() A', ([value]) => {
    const { value: found } = optionalIn(value);
    if (found === undefined) throw new CelError('optional.none() dereference');
    return found;
  }),
  declare(
    'or',
    'optional(A).(optional(A)) optional(A)',
    ([value, other]) => (optionalIn(value).value === undefined ? other! : value!),
    () => 0,
  ),
  declare(
    'orValue',
    'optional(A).(A) A',
    ([value, other]) => optionalIn(value).value ?? other!,
    () => 0,
  ),
];
