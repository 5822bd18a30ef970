/**
 * Decoding against a schema: types as strict as a typed decoder's, fields that nobody declared found and dropped. Works
 * in place on the parsed value. Null list items and null scalars follow Go's JSON: a null leaves the zero value, so the
 * field is dropped.
 */
import { canonicalQuantity, isQuantity } from '#base/quantity.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { shownValueCharsMax, unknownFieldsMax } from './limits.ts';
import type { Field, ObjectNode, TypeNode, UnionNode } from './types.ts';
import { memberOf } from './types.ts';

export interface CheckResult {
  unknown: string[];
  /** A value of another type. */
  error: string | undefined;
  /** A text or a number that its type does not take, like a time of another form. */
  formError: string | undefined;
}

export interface CheckOptions {
  /**
   * As an applied configuration is read: numbers are told from texts alone, and one that a field has no room for loses
   * its upper bits.
   */
  applied?: boolean;
  /** Lists that the client sent without items are noted: it sets them, though they say what absence says. */
  notesEmpty?: boolean;
}

/** Lists without items that a client sent. */
const sentEmpty = new WeakSet<readonly unknown[]>();

/** Whether a client sent this list, without items. */
export const isSentEmpty = (value: unknown): boolean => Array.isArray(value) && sentEmpty.has(value);

/** What has been found, and where the check is: put into words only where something is wrong. */
/** Notes each list without items within a value that a client sent and that is kept as it is. */
export function noteSentEmpty(value: unknown): void {
  if (Array.isArray(value)) {
    if (value.length === 0) sentEmpty.add(value);
    for (const item of value) noteSentEmpty(item);
  } else if (isObject(value)) for (const key in value) noteSentEmpty(value[key]);
}

interface Check extends CheckResult {
  path: (string | number)[];
  options: CheckOptions;
}

/**
 * Prunes the object to its schema; `unknown` lists the paths dropped (the first `unknownFieldsMax`), `error` and
 * `formError` are the first of their sort.
 */
export function checkObject(object: object, node: ObjectNode, options: CheckOptions = {}): CheckResult {
  const check: Check = { unknown: [], error: undefined, formError: undefined, path: [], options };
  if (isObject(object)) checkFields(object, node, check);
  const { unknown, error, formError } = check;
  return { unknown, error, formError };
}

/** `spec.containers[0].name` */
function pathOf({ path }: Check): string {
  let text = '';
  for (const part of path) {
    text += typeof part === 'number' ? `[${part}]` : text === '' ? part : `.${part}`;
    if (text.length > shownValueCharsMax) return `${text.slice(0, shownValueCharsMax)}…`;
  }
  return text;
}

function fail(check: Check, found: unknown, wanted: string, typeName: string | undefined): void {
  const type =
    typeof found === 'object'
      ? Array.isArray(found)
        ? 'array'
        : 'object'
      : typeof found === 'boolean'
        ? 'bool'
        : typeof found;
  check.error ??= `json: cannot unmarshal ${type} into Go struct field ${fieldName(check, typeName)} of type ${wanted}`;
}

/** `Container.spec.containers[0].name` */
function fieldName(check: Check, typeName: string | undefined): string {
  return `${typeName === undefined ? '' : `${typeName.slice(typeName.indexOf('/') + 1)}.`}${pathOf(check)}`;
}

const alwaysKnown = new Set(['apiVersion', 'kind', 'metadata']);

function checkFields(object: JsonObject, node: ObjectNode, check: Check): void {
  const { path } = check;
  for (const key in object) {
    const field = node.fields.get(key);
    if (field === undefined) {
      if (node.preserveUnknown === true || (node.embedded === true && alwaysKnown.has(key))) continue;
      if (check.unknown.length < unknownFieldsMax) {
        path.push(key);
        check.unknown.push(pathOf(check));
        path.pop();
      }
      delete object[key];
      continue;
    }
    const value = object[key];
    if (value === null) {
      if (!keepsNull(field)) delete object[key];
      continue;
    }
    path.push(key);
    const replaced = checkValue(value, field.type, check, node.name);
    path.pop();
    if (replaced === null || isOmitted(replaced, field)) delete object[key];
    else if (replaced !== value) object[key] = replaced;
  }
}

/** A time that is no pointer is written as null where it is not set. */
function keepsNull({ type, pointer }: Field): boolean {
  return type.kind === 'any' || ((type.kind === 'time' || type.kind === 'microtime') && !pointer);
}

/**
 * What a typed decoder does not keep apart from what is absent: empty lists, maps and scalars of optional fields that
 * are no pointers.
 */
function isOmitted(value: unknown, { type, pointer, writesZero }: Field): boolean {
  if (pointer || writesZero) return false;
  switch (type.kind) {
    case 'string':
    case 'bytes':
      return value === '';
    case 'boolean':
      return value === false;
    case 'int32':
    case 'int64':
    case 'double':
      return value === 0;
    case 'list':
      return Array.isArray(value) && value.length === 0;
    case 'map':
      return isObject(value) && Object.keys(value).length === 0;
    default:
      return false;
  }
}

function checkValue(value: unknown, type: TypeNode, check: Check, owner: string | undefined): unknown {
  switch (type.kind) {
    case 'any':
      return value;
    case 'object':
      if (isObject(value)) checkFields(value, type, check);
      else fail(check, value, type.name === undefined ? 'object' : type.name.replace('/', '.'), owner);
      return value;
    case 'list':
      return checkList(value, type.item, check, owner);
    case 'map':
      return checkMap(value, type.item, check, owner);
    case 'union':
      return checkUnion(value, type, check, owner);
    default:
      return checkScalar(value, type.kind, check, owner);
  }
}

/**
 * These types read themselves from JSON (apiextensions/v1 `JSONSchemaPropsOrBool` and its like): what nobody declared
 * is dropped without a word, and a form that none of them has is null, or an error where a boolean may stand.
 */
function checkUnion(value: unknown, type: UnionNode, check: Check, owner: string | undefined): unknown {
  const member = type.members[memberOf(type, value)];
  if (member !== undefined) {
    const inner: Check = { ...check, unknown: [], path: [...check.path] };
    const checked = checkValue(value, member, inner, owner);
    check.error = inner.error;
    check.formError = inner.formError;
    return checked;
  }
  if (type.members.some(({ kind }) => kind === 'boolean')) check.error ??= 'boolean or JSON schema expected';
  return null;
}

function checkList(value: unknown, item: TypeNode, check: Check, owner: string | undefined): unknown {
  if (!Array.isArray(value)) {
    fail(check, value, `[]${goName(item)}`, owner);
    return value;
  }
  if (value.length === 0 && check.options.notesEmpty === true) sentEmpty.add(value);
  for (let i = 0; i < value.length; i++) {
    if (value[i] === null) {
      value[i] = zeroOf(item);
      continue;
    }
    check.path.push(i);
    const replaced = checkValue(value[i], item, check, owner);
    check.path.pop();
    if (replaced !== value[i]) value[i] = replaced;
  }
  return value;
}

function checkMap(value: unknown, item: TypeNode, check: Check, owner: string | undefined): unknown {
  if (!isObject(value)) {
    fail(check, value, `map[string]${goName(item)}`, owner);
    return value;
  }
  for (const key in value) {
    if (value[key] === null) {
      value[key] = zeroOf(item);
      continue;
    }
    check.path.push(key);
    const replaced = checkValue(value[key], item, check, owner);
    check.path.pop();
    if (replaced !== value[key]) value[key] = replaced;
  }
  return value;
}

function goName(node: TypeNode): string {
  if (node.kind === 'object') return (node.name ?? 'object').replace('/', '.');
  return node.kind === 'boolean' ? 'bool' : node.kind;
}

function zeroOf(node: TypeNode): unknown {
  switch (node.kind) {
    case 'quantity':
      return '0';
    case 'object':
    case 'map':
      return {};
    case 'list':
      return [];
    case 'boolean':
      return false;
    case 'int32':
    case 'int64':
    case 'double':
    case 'intstr':
      return 0;
    case 'any':
    case 'union':
      return null;
    default:
      return '';
  }
}

function checkScalar(value: unknown, kind: string, check: Check, owner: string | undefined): unknown {
  switch (kind) {
    case 'boolean':
      if (typeof value !== 'boolean') fail(check, value, 'bool', owner);
      return value;
    case 'int32':
    case 'int64':
      return checkInteger(value, kind, check, owner);
    case 'double':
      if (typeof value !== 'number') fail(check, value, 'float64', owner);
      return value;
    case 'intstr':
      if (typeof value !== 'number' && typeof value !== 'string') fail(check, value, 'intstr.IntOrString', owner);
      return value;
    case 'quantity':
      if (typeof value === 'number') return canonicalQuantity(String(value));
      if (typeof value !== 'string') fail(check, value, 'resource.Quantity', owner);
      else if (!isQuantity(value))
        check.formError ??=
          "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
      else return canonicalQuantity(value);
      return value;
    case 'time':
    case 'microtime':
      return checkTime(value, kind, check, owner);
    case 'bytes':
      if (typeof value !== 'string') fail(check, value, '[]uint8', owner);
      else if (!/^[A-Za-z0-9+/\r\n]*={0,2}$/.test(value) || value.replace(/[\r\n]/g, '').length % 4 !== 0)
        check.formError ??= `illegal base64 data at input byte ${badBase64At(value)}`;
      return value;
    default:
      if (typeof value !== 'string') fail(check, value, kind === 'duration' ? 'v1.Duration' : 'string', owner);
      return value;
  }
}

function checkInteger(value: unknown, kind: 'int32' | 'int64', check: Check, owner: string | undefined): unknown {
  if (typeof value !== 'number') fail(check, value, kind, owner);
  else if (!Number.isInteger(value))
    check.formError ??= `json: cannot unmarshal number ${value} into Go struct field ${fieldName(check, owner)} of type ${kind}`;
  else if (kind === 'int32' && (value > 2_147_483_647 || value < -2_147_483_648)) {
    if (check.options.applied === true) return Number(BigInt.asIntN(32, BigInt(value)));
    check.formError ??= `json: cannot unmarshal number ${value} into Go struct field ${fieldName(check, owner)} of type ${kind}`;
  }
  return value;
}

function badBase64At(text: string): number {
  const at = text.search(/[^A-Za-z0-9+/\r\n]/);
  return at < 0 ? Math.max(0, text.length - (text.length % 4)) : at;
}

/** Of a micro time six digits are said, no more and no fewer. */
const microTime = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}(Z|[+-]\d{2}:\d{2})$/;
const rfc3339 = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(\.\d+)?(Z|[+-]\d{2}:\d{2})$/;

/** The last times that were good as they are: one object says the same time many times over. */
const goodTimes = new Set<string>();
const goodTimesMax = 256;

/** What Go says where a time stops being one: at its beginning, or where a fraction should be. */
function timeProblem(value: string, zone: string | undefined): string {
  const [text, wanted] = zone === undefined ? [value, '2006'] : [zone, '.000000'];
  return `cannot parse ${JSON.stringify(text)} as "${wanted}"`;
}

/** Times are stored in UTC, to the second; micro times with six digits. */
function checkTime(value: unknown, kind: string, check: Check, owner: string | undefined): unknown {
  if (typeof value !== 'string') {
    fail(check, value, kind === 'time' ? 'v1.Time' : 'v1.MicroTime', owner);
    return value;
  }
  if (kind === 'time' && goodTimes.has(value)) return value;
  const match = rfc3339.exec(value);
  const ms = match === null ? NaN : Date.parse(value);
  if (match === null || Number.isNaN(ms) || (kind === 'microtime' && !microTime.test(value))) {
    const form = kind === 'time' ? '2006-01-02T15:04:05Z07:00' : '2006-01-02T15:04:05.000000Z07:00';
    check.formError ??= `parsing time ${JSON.stringify(value)} as "${form}": ${timeProblem(value, match?.[3])}`;
    return value;
  }
  if (kind === 'time' && match[2] === undefined && match[3] === 'Z') {
    if (goodTimes.size >= goodTimesMax) goodTimes.clear();
    goodTimes.add(value);
    return value;
  }
  if (kind === 'time') return `${new Date(ms).toISOString().slice(0, 19)}Z`;
  const micros = (match[2] ?? '.').slice(1).padEnd(6, '0').slice(0, 6);
  return `${new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, 19)}.${micros}Z`;
}
