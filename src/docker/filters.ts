/** `filters=` of lists, events and prunes, and how a value matches. */
import { parseDuration } from '#base/duration.ts';
import { ApiError } from '#base/errors.ts';
import { compilePattern } from '#base/pattern.ts';
import { parseRfc3339 } from '#base/timestamp.ts';
import { messageOf } from '#base/thrown.ts';
import type { Filters } from './route.ts';
import { filtersBytesMax } from './server-limits.ts';

/** `{name: [values]}`, or from old clients `{name: {value: true}}`. Unknown names are refused as docker does. */
export function parseFilters(query: URLSearchParams, allowed: readonly string[]): Filters {
  const text = query.get('filters') ?? '';
  const out: Filters = new Map();
  if (text === '') return out;
  if (text.length > filtersBytesMax) throw new ApiError('BadRequest', 'invalid filter');
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new ApiError('BadRequest', `invalid character in filters: ${messageOf(error)}`);
  }
  if (parsed === null) return out;
  if (typeof parsed !== 'object' || Array.isArray(parsed)) throw new ApiError('BadRequest', 'invalid filter');
  for (const [name, values] of Object.entries(parsed)) {
    if (!allowed.includes(name)) throw new ApiError('BadRequest', `invalid filter '${name}'`);
    if (
      values === null ||
      typeof values !== 'object' ||
      (Array.isArray(values) && values.some((value) => typeof value !== 'string'))
    )
      throw new ApiError('BadRequest', `invalid filter '${name}': its values must be a list of strings`);
    out.set(
      name,
      Array.isArray(values)
        ? values.map(String)
        : Object.entries(values as Record<string, boolean>)
            .filter(([, on]) => on)
            .map(([value]) => value),
    );
  }
  return out;
}

/** A truth value as docker's filters take it. */
export function isFlagWord(value: string): boolean {
  return /^(?:[01tf]|true|false)$/i.test(value);
}

/** Refuses values that none could have, whether or not there is something to compare them with. */
export function checkFilterValues(filters: Filters, checks: Record<string, (value: string) => boolean>): void {
  for (const [name, isValid] of Object.entries(checks)) {
    const bad = filters.get(name)?.find((value) => !isValid(value));
    if (bad !== undefined) throw new ApiError('BadRequest', `invalid filter '${name}=${bad}'`);
  }
}

/** True when no value was asked for, or one of them passes. */
export function matchesAny(filters: Filters, name: string, test: (value: string) => boolean): boolean {
  const values = filters.get(name);
  return values === undefined || values.length === 0 || values.some(test);
}

/** A filter of names or ids is a regular expression (RE2) for any part of them; one that is none is a plain text. */
export function matchesPattern(text: string, pattern: string): boolean {
  try {
    return compilePattern(pattern).test(text);
  } catch {
    return text.includes(pattern);
  }
}

/** `key` or `key=value`; all of them must hold. */
export function matchesLabels(filters: Filters, labels: Record<string, string>, name = 'label'): boolean {
  return (filters.get(name) ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    return at < 0
      ? Object.hasOwn(labels, wanted)
      : Object.hasOwn(labels, wanted.slice(0, at)) && labels[wanted.slice(0, at)] === wanted.slice(at + 1);
  });
}

/** `label!=`: none of them may hold. */
export function lacksLabels(filters: Filters, labels: Record<string, string>): boolean {
  return (filters.get('label!') ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    return !(at < 0
      ? Object.hasOwn(labels, wanted)
      : Object.hasOwn(labels, wanted.slice(0, at)) && labels[wanted.slice(0, at)] === wanted.slice(at + 1));
  });
}

/**
 * Docker's times: seconds with a fraction, RFC 3339 and its shorter forms (a date, without seconds, without a zone: the
 * engine's own), or a duration before now (`10m`, `1h30m`). Nanoseconds since 1970, as exact as they were written.
 */
export function parseTimeNs(text: string, nowMs: number): bigint {
  const seconds = /^(-?)(\d{1,15})(?:\.(\d+))?$/.exec(text);
  if (seconds !== null) {
    const ns = BigInt(seconds[2]!) * 1_000_000_000n + BigInt((seconds[3] ?? '').padEnd(9, '0').slice(0, 9));
    return seconds[1] === '-' ? -ns : ns;
  }
  const ago = parseDuration(text);
  if (ago !== undefined) return BigInt(Math.floor(nowMs)) * 1_000_000n - ago;
  const short = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?)?(Z|[+-]\d\d:?\d\d)?$/.exec(text);
  const full =
    short === null
      ? text
      : `${short[1]}T${short[2] ?? '00'}:${short[3] ?? '00'}:${short[4] ?? '00'}${short[5] ?? localZone(`${short[1]}T${short[2] ?? '00'}:${short[3] ?? '00'}:00`)}`;
  const parsed = parseRfc3339(full);
  if (parsed === undefined)
    throw new ApiError(
      'BadRequest',
      `invalid value for a time: failed to parse value as time or duration: ${JSON.stringify(text)}`,
    );
  return parsed;
}

/** The same in whole milliseconds, for what is recorded in them. */
export function parseTime(text: string, nowMs: number): number {
  return Number(parseTimeNs(text, nowMs) / 1_000_000n);
}

function localZone(wallTime: string): string {
  const minutes = -new Date(wallTime).getTimezoneOffset();
  const pad = (value: number): string => String(Math.floor(Math.abs(value))).padStart(2, '0');
  return `${minutes < 0 ? '-' : '+'}${pad(Math.trunc(minutes / 60))}:${pad(minutes % 60)}`;
}

/** A filter that is true or false, in Go's spellings. */
export function flagFilter(filters: ReadonlyMap<string, string[]>, name: string): boolean | undefined {
  const values = filters.get(name);
  if (values === undefined || values.length === 0) return undefined;
  const read = values.map((value) =>
    /^(?:1|t|true)$/i.test(value) ? true : /^(?:0|f|false)$/i.test(value) ? false : undefined,
  );
  if (read.includes(undefined) || new Set(read).size > 1)
    throw new ApiError('BadRequest', `invalid filter '${name}=[${values.join(' ').slice(0, 200)}]'`);
  return read[0];
}
