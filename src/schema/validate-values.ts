/** Values that many kinds have, validated with the messages of the reference implementation; equality as it sees it. */
import { isQuantity, parseQuantity } from '#base/quantity.ts';
import { isObject } from '#base/unknown.ts';
import type { FieldErrors } from './field-errors.ts';
import { portNameProblems, portProblem } from './name-forms.ts';

export function oneOf(value: unknown, allowed: readonly string[], at: string, errors: FieldErrors): void {
  if (value !== undefined && value !== null && value !== '' && !allowed.includes(value as string))
    errors.unsupported(at, value, allowed);
}

export function nonNegative(value: unknown, at: string, errors: FieldErrors): void {
  if (typeof value === 'number' && value < 0) errors.invalid(at, value, 'must be greater than or equal to 0');
}

const int32Max = 2_147_483_647;

/** Ids of users and groups, and other numbers with the bounds of a 32-bit one. */
export function validateInt32(value: unknown, at: string, errors: FieldErrors, least = 0): void {
  if (typeof value === 'number' && (value < least || value > int32Max))
    errors.invalid(at, value, `must be between ${least} and ${int32Max}, inclusive`);
}

const nanoPerUnit = 1_000_000_000n;

export function validateIntOrPort(port: unknown, at: string, errors: FieldErrors): void {
  if (typeof port === 'string') for (const problem of portNameProblems(port)) errors.invalid(at, port, problem);
  else {
    const problem = portProblem(port);
    if (problem !== '') errors.invalid(at, port ?? 0, problem);
  }
}

/** No part of the path leads upwards. */
export function validateNoBacksteps(path: string, at: string, errors: FieldErrors): void {
  if (path.split('/').includes('..')) errors.invalid(at, path, "must not contain '..'");
}

/** A path of a file within a volume, which `..` names are kept from. */
export function validateLocalPath(path: string, at: string, errors: FieldErrors): void {
  if (path.startsWith('/')) errors.invalid(at, path, 'must be a relative path');
  else if (path.split('/').includes('..')) errors.invalid(at, path, "must not contain '..'");
  else if (path.startsWith('..')) errors.invalid(at, path, "must not start with '..'");
}

export function validateMode(mode: unknown, at: string, errors: FieldErrors): void {
  if (typeof mode === 'number' && (mode < 0 || mode > 0o777))
    errors.invalid(at, mode, 'must be a number between 0 and 0777 (octal), both inclusive');
}

export const isWholeNumber = (quantity: string): boolean => parseQuantity(quantity).nano % nanoPerUnit === 0n;

/** A quantity of anything that can be counted or measured. */
export function validateBasicQuantity(value: unknown, at: string, errors: FieldErrors): void {
  if (isQuantity(value) && parseQuantity(value).nano <= -nanoPerUnit)
    errors.invalid(at, value, 'must be a valid resource quantity');
}

/** What may not change. */
export function unchanged(now: unknown, before: unknown, at: string, errors: FieldErrors): void {
  if (!sameJson(now, before)) errors.invalid(at, now ?? null, 'field is immutable');
}

/** Deep equality of JSON values where an absent field, null and an empty list or map are the same. */
export function sameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isEmpty(a) && isEmpty(b)) return true;
  if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((x, i) => sameJson(x, b[i]));
  if (!isObject(a) || !isObject(b)) return false;
  for (const key of Object.keys(a)) if (!sameJson(a[key], b[key])) return false;
  for (const key of Object.keys(b)) if (!(key in a) && !isEmpty(b[key])) return false;
  return true;
}

function isEmpty(value: unknown): boolean {
  return value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);
}
