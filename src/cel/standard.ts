/** The functions of the language itself (CEL, "List of Standard Definitions"). */
import { compilePattern, PatternError } from '#base/pattern.ts';
import {
  declare,
  indexOf,
  intOf,
  listIn,
  mapIn,
  matchCost,
  textOf,
  traversal,
  traversalOf,
  type Library,
} from './declare.ts';
import { Duration, Timestamp } from './time.ts';
import { zoned, type Moment } from './zones.ts';
import {
  CelError,
  isEqual,
  itemsOf,
  keyText,
  MapOfValues,
  noOverload,
  numeric,
  OptionalValue,
  showKey,
  sizeOf,
  typeNameOf,
  typeValue,
  Uint,
  isKind,
  type ListValue,
  type Value,
} from './values.ts';

const int64Min = -(2n ** 63n);
const int64Max = 2n ** 63n - 1n;
const uint64Max = 2n ** 64n - 1n;

function checkedInt(value: bigint): bigint {
  if (value < int64Min || value > int64Max) throw new CelError('integer overflow');
  return value;
}
function checkedUint(value: bigint): Uint {
  if (value < 0n || value > uint64Max) throw new CelError('unsigned integer overflow');
  return new Uint(value);
}
function checkedDuration(nanos: bigint): Duration {
  if (!Duration.isWithin(nanos)) throw new CelError('integer overflow');
  return new Duration(nanos);
}
function checkedTimestamp(nanos: bigint): Timestamp {
  if (!Timestamp.isWithin(nanos)) throw new CelError('timestamp overflow');
  return new Timestamp(nanos);
}

/** Below, equal, above; undefined for what does not compare. */
export function compare(a: Value, b: Value): number | undefined {
  const [x, y] = [numeric(a), numeric(b)];
  if (x !== undefined && y !== undefined)
    return x < y ? -1 : x > y ? 1 : Number.isNaN(Number(x)) || Number.isNaN(Number(y)) ? undefined : 0;
  if (typeof a === 'string' && typeof b === 'string') return Buffer.compare(Buffer.from(a), Buffer.from(b));
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b);
  if (a instanceof Uint8Array && b instanceof Uint8Array) return Buffer.compare(a, b);
  if (a instanceof Timestamp && b instanceof Timestamp) return a.nanos < b.nanos ? -1 : a.nanos > b.nanos ? 1 : 0;
  if (a instanceof Duration && b instanceof Duration) return a.nanos < b.nanos ? -1 : a.nanos > b.nanos ? 1 : 0;
  return undefined;
}

const minCost = ([a, b]: readonly Value[]): number => traversal(Math.min(sizeOf(a!), sizeOf(b!)));
const orders: readonly [string, (order: number | undefined) => boolean][] = [
  ['_<_', (order) => order !== undefined && order < 0],
  ['_<=_', (order) => order !== undefined && order <= 0],
  ['_>_', (order) => order !== undefined && order > 0],
  ['_>=_', (order) => order !== undefined && order >= 0],
];
const comparable = ['bool', 'string', 'bytes', 'timestamp', 'duration'];
const numbers = ['int', 'uint', 'double'];

const comparisons: Library = orders.flatMap(([name, holds]) => {
  const run = ([a, b]: readonly Value[]): Value => holds(compare(a!, b!));
  const pairs = [...comparable.map((type) => [type, type]), ...numbers.flatMap((a) => numbers.map((b) => [a, b]))];
  return pairs.map(([a, b]) =>
    declare(name, `(${a}, ${b}) bool`, run, a === 'string' || a === 'bytes' ? minCost : undefined),
  );
});

/** Of two ints, two uints, two doubles. */
function arithmetic(
  name: string,
  onInts: (a: bigint, b: bigint) => bigint,
  onDoubles?: (a: number, b: number) => number,
): Library {
  const ints = declare(name, '(int, int) int', ([a, b]) => checkedInt(onInts(intOf(a), intOf(b))));
  const uints = declare(name, '(uint, uint) uint', ([a, b]) => checkedUint(onInts(uintOf(a), uintOf(b))));
  if (onDoubles === undefined) return [ints, uints];
  return [ints, uints, declare(name, '(double, double) double', ([a, b]) => onDoubles(Number(a), Number(b)))];
}

const uintOf = (value: Value | undefined): bigint => {
  if (!(value instanceof Uint)) throw noOverload();
  return value.value;
};
const nanosOf = (value: Value | undefined): bigint => {
  if (!(value instanceof Timestamp) && !(value instanceof Duration)) throw noOverload();
  return value.nanos;
};
const divided =
  (name: string, divide: (a: bigint, b: bigint) => bigint) =>
  (a: bigint, b: bigint): bigint => {
    if (b === 0n) throw new CelError(name);
    return divide(a, b);
  };

const operators: Library = [
  declare('_==_', '(A, A) bool', ([a, b]) => isEqual(a!, b!), equalityCost),
  declare('_!=_', '(A, A) bool', ([a, b]) => !isEqual(a!, b!), equalityCost),
  declare('!_', '(bool) bool', ([a]) => a !== true),
  declare('_&&_', '(bool, bool) bool', unreachable),
  declare('_||_', '(bool, bool) bool', unreachable),
  declare('_?:_', '(bool, A, A) A', unreachable),
  declare('_?_:_', '(bool, A, A) A', unreachable),
  declare('@not_strictly_false', '(bool) bool', unreachable),
  declare('-_', '(int) int', ([a]) => checkedInt(-intOf(a))),
  declare('-_', '(double) double', ([a]) => -Number(a)),
  ...arithmetic(
    '_+_',
    (a, b) => a + b,
    (a, b) => a + b,
  ),
  ...arithmetic(
    '_-_',
    (a, b) => a - b,
    (a, b) => a - b,
  ),
  ...arithmetic(
    '_*_',
    (a, b) => a * b,
    (a, b) => a * b,
  ),
  ...arithmetic(
    '_/_',
    divided('division by zero', (a, b) => a / b),
    (a, b) => a / b,
  ),
  ...arithmetic(
    '_%_',
    divided('modulus by zero', (a, b) => a % b),
  ),
  declare('_+_', '(string, string) string', ([a, b]) => textOf(a) + textOf(b), sumCost),
  declare('_+_', '(bytes, bytes) bytes', ([a, b]) => Buffer.concat([bytesOf(a), bytesOf(b)]), sumCost),
  declare('_+_', '(list(A), list(A)) list(A)', ([a, b]) => concat(listIn(a), listIn(b))),
  declare('_+_', '(timestamp, duration) timestamp', ([a, b]) => checkedTimestamp(nanosOf(a) + nanosOf(b))),
  declare('_+_', '(duration, timestamp) timestamp', ([a, b]) => checkedTimestamp(nanosOf(a) + nanosOf(b))),
  declare('_+_', '(duration, duration) duration', ([a, b]) => checkedDuration(nanosOf(a) + nanosOf(b))),
  declare('_-_', '(timestamp, timestamp) duration', ([a, b]) => checkedDuration(nanosOf(a) - nanosOf(b))),
  declare('_-_', '(timestamp, duration) timestamp', ([a, b]) => checkedTimestamp(nanosOf(a) - nanosOf(b))),
  declare('_-_', '(duration, duration) duration', ([a, b]) => checkedDuration(nanosOf(a) - nanosOf(b))),
  declare(
    '@in',
    '(A, list(A)) bool',
    ([a, b]) => includes(listIn(b), a!),
    ([, list]) => sizeOf(list!),
  ),
  declare('@in', '(A, map(A, B)) bool', ([a, b]) => mapIn(b).get(a!) !== undefined),
  declare('_[_]', '(list(A), int) A', ([list, index]) => elementAt(listIn(list), index!)),
  declare('_[_]', '(map(A, B), A) B', ([map, key]) => entryAt(map!, key!)),
  declare('_[_]', '(optional(list(A)), int) optional(A)', ([of, index]) =>
    optionally(of!, (list) => elementOrNone(list, index!)),
  ),
  declare('_[_]', '(optional(map(A, B)), A) optional(B)', ([of, key]) =>
    optionally(of!, (map) => entryOrNone(map, key!)),
  ),
  declare('_[?_]', '(list(A), int) optional(A)', ([list, index]) => elementOrNone(list!, index!)),
  declare('_[?_]', '(map(A, B), A) optional(B)', ([map, key]) => entryOrNone(map!, key!)),
  declare('_[?_]', '(optional(list(A)), int) optional(A)', ([of, index]) =>
    optionally(of!, (list) => elementOrNone(list, index!)),
  ),
  declare('_[?_]', '(optional(map(A, B)), A) optional(B)', ([of, key]) =>
    optionally(of!, (map) => entryOrNone(map, key!)),
  ),
  declare('cel.@mapInsert', '(map(A, B), A, B) map(A, B)', ([map, key, value]) => insert(map!, key!, value!)),
  declare('cel.@mapInsert', '(map(A, B), map(A, B)) map(A, B)', ([map, entries]) => {
    const added = mapIn(entries);
    for (const key of added.keys()) insert(map!, key, added.get(key)!);
    return map!;
  }),
];

function unreachable(): never {
  throw noOverload();
}
function equalityCost([a, b]: readonly Value[]): number {
  return isKind(a!, 'opaque') ? 1 : traversal(Math.min(sizeOf(a!), sizeOf(b!)));
}
function sumCost([a, b]: readonly Value[]): number {
  return traversal(sizeOf(a!) + sizeOf(b!));
}
function bytesOf(value: Value | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw noOverload();
  return value;
}
function includes(list: ListValue, value: Value): boolean {
  for (const item of itemsOf(list)) if (isEqual(item, value)) return true;
  return false;
}

/** Lists that grow at their end share one buffer: what a loop collects costs a step an element. */
class GrowingList implements ListValue {
  readonly kind = 'list';
  readonly size: number;
  readonly buffer: Value[];
  constructor(buffer: Value[]) {
    this.buffer = buffer;
    this.size = buffer.length;
  }
  at(index: number): Value {
    return this.buffer[index]!;
  }
}

function concat(a: ListValue, b: ListValue): ListValue {
  if (a.merge !== undefined) return merged(a, b);
  const isFree = a instanceof GrowingList && a.buffer.length === a.size;
  const buffer = isFree ? a.buffer : [...itemsOf(a)];
  for (const item of itemsOf(b)) buffer.push(item);
  return new GrowingList(buffer);
}

/** A set takes what it has not; a list of maps replaces what has the same keys. */
function merged(a: ListValue, b: ListValue): ListValue {
  const keys = a.merge ?? [];
  const same = (x: Value, y: Value): boolean =>
    keys.length === 0
      ? isEqual(x, y)
      : keys.every((key) => {
          const [left, right] = [mapIn(x).get(key), mapIn(y).get(key)];
          return left === undefined || right === undefined ? left === right : isEqual(left, right);
        });
  const items = [...itemsOf(a)];
  for (const item of itemsOf(b)) {
    const at = items.findIndex((other) => same(other, item));
    if (at === -1) items.push(item);
    else items[at] = item;
  }
  return { kind: 'list', size: items.length, at: (index) => items[index]!, merge: keys };
}

function elementAt(list: ListValue, index: Value): Value {
  const at = indexOf(index);
  if (at < 0 || at >= list.size) throw new CelError(`index out of bounds: ${at}`);
  return list.at(at);
}
function entryAt(map: Value, key: Value): Value {
  const value = mapIn(map).get(key);
  if (value === undefined)
    throw new CelError(
      keyText(key) === undefined ? `unsupported key type: ${typeNameOf(key)}` : `no such key: ${showKey(key)}`,
    );
  return value;
}
function elementOrNone(list: Value, index: Value): OptionalValue {
  const at = indexOf(index);
  const of = listIn(list);
  return new OptionalValue(at < 0 || at >= of.size ? undefined : of.at(at));
}
const entryOrNone = (map: Value, key: Value): OptionalValue => new OptionalValue(mapIn(map).get(key));
function optionally(of: Value, select: (value: Value) => OptionalValue): OptionalValue {
  if (!isKind(of, 'optional')) throw noOverload();
  return of.value === undefined ? of : select(of.value);
}
/** The map is the loop's own: nobody else has seen it. */
function insert(map: Value, key: Value, value: Value): Value {
  if (!(map instanceof MapOfValues)) throw noOverload();
  return map.add(key, value);
}

function matches([text, pattern]: readonly Value[]): boolean {
  try {
    return compilePattern(textOf(pattern)).test(textOf(text));
  } catch (error) {
    if (error instanceof PatternError) throw new CelError(error.message);
    throw error;
  }
}
const containsCost = ([text, part]: readonly Value[]): number => traversal(sizeOf(text!)) * traversal(sizeOf(part!));

const texts: Library = [
  ...['string', 'bytes', 'list(A)', 'map(A, B)'].flatMap((type) => [
    declare('size', `(${type}) int`, ([value]) => BigInt(sizeOf(value!))),
    declare('size', `${type}.() int`, ([value]) => BigInt(sizeOf(value!))),
  ]),
  declare('contains', 'string.(string) bool', ([text, part]) => textOf(text).includes(textOf(part)), containsCost),
  declare(
    'startsWith',
    'string.(string) bool',
    ([text, part]) => textOf(text).startsWith(textOf(part)),
    traversalOf(1),
  ),
  declare('endsWith', 'string.(string) bool', ([text, part]) => textOf(text).endsWith(textOf(part)), traversalOf(1)),
  declare('matches', 'string.(string) bool', matches, matchCost),
  declare('matches', '(string, string) bool', matches, matchCost),
];

function toInt(value: Value): bigint {
  if (typeof value === 'bigint') return value;
  if (value instanceof Uint) return checkedInt(value.value);
  if (value instanceof Timestamp)
    return value.nanos / 1_000_000_000n - (value.nanos < 0n && value.nanos % 1_000_000_000n !== 0n ? 1n : 0n);
  if (typeof value === 'string') {
    if (!/^[-+]?\d+$/.test(value)) throw new CelError("type conversion error from 'string' to 'int'");
    return checkedInt(BigInt(value.replace(/^\+/, '')));
  }
  const double = Number(value);
  if (!Number.isFinite(double) || Math.abs(double) >= 2 ** 63) throw new CelError('integer overflow');
  return BigInt(Math.trunc(double));
}

function toDouble(value: Value): number {
  if (typeof value === 'string') {
    const made = value.trim() === '' || value !== value.trim() ? NaN : Number(value);
    if (Number.isNaN(made) && value !== 'NaN') throw new CelError("type conversion error from 'string' to 'double'");
    return made;
  }
  return Number(value instanceof Uint ? value.value : value);
}

/** A double as Go prints it. */
export function doubleText(value: number): string {
  if (Number.isNaN(value)) return 'NaN';
  if (!Number.isFinite(value)) return value > 0 ? '+Inf' : '-Inf';
  return String(value).replace(/e([+-])(\d)$/, 'e$10$2');
}

function toText(value: Value): string {
  if (typeof value === 'number') return doubleText(value);
  if (value instanceof Uint) return String(value.value);
  if (value instanceof Uint8Array) {
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(value);
    } catch {
      throw new CelError('invalid UTF-8 in bytes, cannot convert to string');
    }
  }
  return String(value);
}

function toMoment(value: Value): Timestamp {
  if (value instanceof Timestamp) return value;
  if (typeof value === 'bigint') return checkedTimestamp(value * 1_000_000_000n);
  const text = textOf(value);
  const found = Timestamp.parse(text);
  if (found === undefined)
    throw new CelError(`parsing time ${JSON.stringify(text)} as "2006-01-02T15:04:05Z07:00": cannot parse`);
  return found;
}

function toSpan(value: Value): Duration {
  if (value instanceof Duration) return value;
  const found = Duration.parse(textOf(value));
  if (found === undefined) throw new CelError(`time: invalid duration ${JSON.stringify(value)}`);
  return found;
}

function toBool(value: Value): boolean {
  if (typeof value === 'boolean') return value;
  const text = textOf(value);
  if (['true', 'True', 'TRUE', 't', '1'].includes(text)) return true;
  if (['false', 'False', 'FALSE', 'f', '0'].includes(text)) return false;
  throw new CelError("type conversion error from 'string' to 'bool'");
}

const conversion = (name: string, result: string, from: readonly string[], make: (value: Value) => Value): Library =>
  from.map((type) =>
    declare(
      name,
      `(${type}) ${result}`,
      ([value]) => make(value!),
      type === 'string' || type === 'bytes' ? traversalOf(0) : undefined,
    ),
  );

const conversions: Library = [
  ...conversion('int', 'int', ['int', 'uint', 'double', 'string', 'timestamp'], toInt),
  ...conversion('uint', 'uint', ['uint', 'int', 'double', 'string'], (value) =>
    value instanceof Uint ? value : checkedUint(toInt(value)),
  ),
  ...conversion('double', 'double', ['double', 'int', 'uint', 'string'], toDouble),
  ...conversion(
    'string',
    'string',
    ['string', 'bool', 'int', 'uint', 'double', 'bytes', 'timestamp', 'duration'],
    toText,
  ),
  ...conversion('bytes', 'bytes', ['bytes', 'string'], (value) =>
    typeof value === 'string' ? Buffer.from(value) : value,
  ),
  ...conversion('bool', 'bool', ['bool', 'string'], toBool),
  ...conversion('timestamp', 'timestamp', ['timestamp', 'string', 'int'], toMoment),
  ...conversion('duration', 'duration', ['duration', 'string'], toSpan),
  declare('dyn', '(A) dyn', ([value]) => value!),
  declare('type', '(A) type(A)', ([value]) =>
    isKind(value!, 'type') ? typeValue('type') : typeValue(typeNameOf(value!)),
  ),
];

const momentPart = (name: string, part: (moment: Moment) => number): Library => [
  declare(name, 'timestamp.() int', ([at]) => BigInt(part(zoned(nanosOf(at), 'UTC')))),
  declare(name, 'timestamp.(string) int', ([at, zone]) => BigInt(part(zoned(nanosOf(at), textOf(zone))))),
];
const spanPart = (name: string, nanos: bigint, modulus?: bigint): Library => [
  declare(name, 'duration.() int', ([span]) =>
    modulus === undefined ? nanosOf(span) / nanos : (nanosOf(span) / nanos) % modulus,
  ),
];

const moments: Library = [
  ...momentPart('getFullYear', ({ year }) => year),
  ...momentPart('getMonth', ({ month }) => month - 1),
  ...momentPart('getDayOfYear', ({ dayOfYear }) => dayOfYear - 1),
  ...momentPart('getDayOfMonth', ({ day }) => day - 1),
  ...momentPart('getDate', ({ day }) => day),
  ...momentPart('getDayOfWeek', ({ weekday }) => weekday),
  ...momentPart('getHours', ({ hour }) => hour),
  ...momentPart('getMinutes', ({ minute }) => minute),
  ...momentPart('getSeconds', ({ second }) => second),
  ...momentPart('getMilliseconds', ({ millisecond }) => millisecond),
  ...spanPart('getHours', 3_600_000_000_000n),
  ...spanPart('getMinutes', 60_000_000_000n),
  ...spanPart('getSeconds', 1_000_000_000n),
  ...spanPart('getMilliseconds', 1_000_000n, 1_000n),
];

export const standardLibrary: Library = [...comparisons, ...operators, ...texts, ...conversions, ...moments];
