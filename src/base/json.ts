/**
 * JSON as untrusted input. `scanJson` walks the text once and finds what `JSON.parse` hides or mangles: duplicate keys
 * (with their paths), nesting beyond a bound, numbers that would be changed. `JSON.parse` is then the fast path.
 * Copying and freezing of parsed values live here too.
 */
import { ApiError } from './errors.ts';
import { messageOf } from './thrown.ts';
import { isObject, type JsonObject } from './unknown.ts';
import {
  integerDigitsMax,
  jsonDepthMax,
  jsonDuplicatesMax,
  jsonObjectKeysMax,
  jsonPathCharsMax,
  jsonValuesMax,
} from './limits.ts';

/** Paths of keys given twice: the first `jsonDuplicatesMax`. */
export interface JsonFindings {
  duplicates: string[];
}

const quote = 34,
  backslash = 92,
  openBrace = 123,
  closeBrace = 125,
  openBracket = 91,
  closeBracket = 93,
  comma = 44;

interface Frame {
  array: boolean;
  keys: Set<string> | undefined;
  /** Of the object or list itself; known once it was asked for. */
  path: string | undefined;
  index: number;
  last: string | undefined;
}

/**
 * Throws BadRequest beyond the bound of depth, RequestEntityTooLarge beyond those of values and keys, and BadRequest
 * for a number that a double cannot hold, unless `keepsLarge` says that integers of 64 bits are read by `parseJson`.
 * Assumes nothing of the text: what is not JSON is found by the parser afterwards. `visitKey` is called with each key's
 * path, in the order of the text.
 */
export function scanJson(text: string, visitKey?: (path: string) => void, keepsLarge = false): JsonFindings {
  const duplicates: string[] = [];
  const stack: Frame[] = [];
  let values = 0;
  let expectKey = false;
  let i = 0;
  const end = text.length;
  while (i < end) {
    const c = text.charCodeAt(i);
    if (c === quote) {
      const start = i + 1;
      i = closingQuote(text, start);
      const frame = stack[stack.length - 1];
      if (expectKey && frame !== undefined && !frame.array) {
        const key = text.slice(start, i);
        if (frame.last === undefined) frame.last = key;
        else {
          frame.keys ??= new Set([frame.last]);
          if (frame.keys.has(key) && duplicates.length < jsonDuplicatesMax) duplicates.push(pathOf(stack, key));
          frame.keys.add(key);
          if (frame.keys.size > jsonObjectKeysMax)
            throw new ApiError(
              'RequestEntityTooLarge',
              `error decoding: more than ${jsonObjectKeysMax} keys in one object`,
            );
          frame.last = key;
        }
        visitKey?.(pathOf(stack, key));
        expectKey = false;
      }
    } else if (c === openBrace || c === openBracket) {
      if (stack.length >= jsonDepthMax) throw new ApiError('BadRequest', 'error decoding: exceeded max depth');
      if (++values > jsonValuesMax) throw tooMany();
      stack.push({ array: c === openBracket, keys: undefined, path: undefined, index: 0, last: undefined });
      expectKey = c === openBrace;
    } else if (c === closeBrace || c === closeBracket) {
      stack.pop();
      expectKey = false;
    } else if (c === comma) {
      if (++values > jsonValuesMax) throw tooMany();
      const frame = stack[stack.length - 1];
      if (frame !== undefined) {
        frame.index++;
        expectKey = !frame.array;
      }
    } else if (c >= digit0 && c <= digit9) {
      const start = i;
      i = numberEnd(text, i);
      if (i - start >= 16 || (i - start >= 4 && hasExponent(text, start, i)))
        checkNumber(text.slice(start, i), keepsLarge);
      continue;
    }
    i++;
  }
  return { duplicates };
}

function tooMany(): ApiError {
  return new ApiError('RequestEntityTooLarge', `error decoding: more than ${jsonValuesMax} values`);
}

const digit0 = 48,
  digit9 = 57;

function hasExponent(text: string, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if ((text.charCodeAt(at) | 32) === 101) return true;
  return false;
}

/** Behind a number's last character, its exponent included. */
function numberEnd(text: string, from: number): number {
  let at = from;
  for (; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if ((c < digit0 || c > digit9) && c !== 46) break;
  }
  const mark = text.charCodeAt(at) | 32;
  if (mark !== 101) return at;
  const sign = text.charCodeAt(at + 1);
  at += sign === 43 || sign === 45 ? 2 : 1;
  while (at < text.length && text.charCodeAt(at) >= digit0 && text.charCodeAt(at) <= digit9) at++;
  return at;
}

/** Whether a number holds an integer's text exactly: beyond 2^53 not all are there. */
export function isExactInteger(text: string): boolean {
  const value = Number(text);
  return (
    Number.isSafeInteger(value) ||
    (text.length <= integerDigitsMax && Number.isFinite(value) && BigInt(value) === BigInt(text))
  );
}

/** An integer of more digits than a double surely holds, as a value. */
const largeInteger = /[:,[]\s*-?\d{16,}\s*[,}\]]/;
const int64Digits = 19;
const fitsInt64 = (text: string): boolean =>
  text.length <= int64Digits && BigInt.asIntN(64, BigInt(text)) === BigInt(text);

/** `JSON.parse`, but that integers which a double does not hold are bigints; for texts that `scanJson` let pass. */
export function parseJson(text: string): unknown {
  if (!largeInteger.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key: string, value: unknown, { source = '' }: { source?: string } = {}) =>
    typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? BigInt(source) : value,
  );
}

/** Bigints are written as the integers that they are. */
Object.defineProperty(BigInt.prototype, 'toJSON', {
  value(this: bigint): unknown {
    return rawJson(this.toString());
  },
  configurable: true,
});

/** `JSON.rawJSON` (ECMAScript, "JSON.parse source text access"), which TypeScript does not know yet. */
const rawJson: (text: string) => unknown = Reflect.get(JSON, 'rawJSON').bind(JSON);

/** `JSON.parse` rounds integers beyond 2^53 and makes infinities of what is larger than any double. */
function checkNumber(text: string, keepsLarge: boolean): void {
  if (keepsLarge && /^\d+$/.test(text) && fitsInt64(text)) return;
  const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
  if (/^\d+$/.test(text)) {
    if (!isExactInteger(text))
      throw new ApiError(
        'BadRequest',
        `error decoding: integer ${shown} is beyond ±(2^53-1) and cannot be kept exactly`,
      );
  } else if (Math.abs(Number(text)) === Infinity)
    // What is no number at all, the parser says.
    throw new ApiError('BadRequest', `error decoding: number ${shown} is beyond what a double holds`);
}

function closingQuote(text: string, from: number): number {
  let at = text.indexOf('"', from);
  while (at > 0) {
    let slashes = 0;
    for (let back = at - 1; back >= from && text.charCodeAt(back) === backslash; back--) slashes++;
    if (slashes % 2 === 0) return at;
    at = text.indexOf('"', at + 1);
  }
  return text.length;
}

function pathOf(stack: readonly Frame[], key: string): string {
  return joinPath(framePath(stack, stack.length - 1), key);
}

function framePath(stack: readonly Frame[], depth: number): string {
  const [frame, outer] = [stack[depth], stack[depth - 1]];
  if (frame === undefined || outer === undefined) return '';
  if (frame.path !== undefined) return frame.path;
  const before = framePath(stack, depth - 1);
  return (frame.path = outer.array ? cutPath(`${before}[${outer.index}]`) : joinPath(before, outer.last ?? ''));
}

const joinPath = (before: string, name: string): string => cutPath(before === '' ? name : `${before}.${name}`);
const cutPath = (path: string): string =>
  path.length > jsonPathCharsMax ? `${path.slice(0, jsonPathCharsMax)}…` : path;

/** A deep copy of a JSON value. `__proto__` keys are left out. */
export function copyJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) {
    const out: unknown[] = new Array(value.length);
    for (let i = 0; i < value.length; i++) out[i] = copyJson(value[i]);
    return out as T;
  }
  const out: JsonObject = {};
  for (const key in value) {
    if (key !== '__proto__') {
      const v = value[key];
      if (v !== undefined) out[key] = copyJson(v);
    }
  }
  return out as T;
}

export function freezeJson<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  if (Array.isArray(value)) for (const item of value) freezeJson(item);
  else for (const key in value) freezeJson(value[key]);
  return Object.freeze(value);
}

/**
 * Freezes, and answers no fewer bytes than the JSON text has, but for what was frozen before, which is not counted: a
 * character is at most six (an escape).
 */
export function freezeFresh(value: unknown): number {
  if (typeof value === 'string') return 2 + 6 * value.length;
  if (typeof value !== 'object' || value === null) return 24;
  if (Object.isFrozen(value)) return 0;
  let sum = 2;
  if (Array.isArray(value)) for (const item of value) sum += 1 + freezeFresh(item);
  else if (isObject(value)) for (const key in value) sum += 4 + 6 * key.length + freezeFresh(value[key]);
  Object.freeze(value);
  return sum;
}

/** Bytes of the JSON text of a value, about: escapes count as one. */
export function jsonBytes(value: unknown): number {
  if (typeof value === 'string') return 2 + value.length;
  let sum = 2;
  if (Array.isArray(value)) for (const item of value) sum += 1 + jsonBytes(item);
  else if (isObject(value)) for (const key in value) sum += 4 + key.length + jsonBytes(value[key]);
  else return 4;
  return sum;
}

/** The beginning of a value's JSON text: no more is made than is shown. */
export function jsonBeginning(value: unknown, charsMax: number): string {
  if (typeof value === 'string')
    return value.length > charsMax
      ? `${JSON.stringify(value.slice(0, charsMax)).slice(0, charsMax)}…`
      : JSON.stringify(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const isList = Array.isArray(value);
  let out = isList ? '[' : '{';
  for (const [key, part] of partsOf(value)) {
    if (out.length > charsMax) return `${out.slice(0, charsMax)}…`;
    if (part === undefined) continue;
    out += `${out.length > 1 ? ',' : ''}${isList ? '' : `${jsonBeginning(key, charsMax - out.length)}:`}${jsonBeginning(part, Math.max(0, charsMax - out.length))}`;
  }
  return `${out}${isList ? ']' : '}'}`;
}

/** The fields or items of a value, one after the other: a large one is not listed as a whole. */
function* partsOf(value: object): Generator<[string, unknown]> {
  if (Array.isArray(value)) for (const item of value) yield ['', item];
  else if (isObject(value)) for (const key in value) yield [key, value[key]];
}

/** Deep equality of JSON values; key order does not matter, an undefined property is an absent one. */
export function equalJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a)) {
    if (!Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!equalJson(a[i], b[i])) return false;
    return true;
  }
  if (!isObject(a) || !isObject(b)) return false;
  for (const key in a) if (!equalJson(a[key], b[key])) return false;
  for (const key in b) if (b[key] !== undefined && a[key] === undefined) return false;
  return true;
}

/** Deep equality of two objects, but for these properties of theirs. */
export function equalButFor(a: object, b: object, except: readonly string[]): boolean {
  if (!isObject(a) || !isObject(b)) return equalJson(a, b);
  for (const key in a) if (!equalJson(a[key], b[key]) && !except.includes(key)) return false;
  for (const key in b) if (b[key] !== undefined && a[key] === undefined && !except.includes(key)) return false;
  return true;
}

/** What JSON.parse found wrong with a text, in the words of Go's decoder. */
export function describeSyntaxError(text: string, error: unknown): string {
  const message = messageOf(error);
  const at = Number(/position (\d+)/.exec(message)?.[1] ?? text.length);
  if (at >= text.length) return 'unexpected EOF';
  if (/after JSON/.test(message)) return 'unexpected content after JSON';
  const expected = /property name|double-quoted/.test(message) ? 'object key string' : 'value';
  return `invalid character '${text[at]}' looking for beginning of ${expected}`;
}
