/** `filters=` of lists, events and prunes, and how a value matches. */
import { ApiError } from '#base/errors.ts';
import type { Filters } from './route.ts';
import { filtersBytesMax } from './server-limits.ts';

/** `{name: [values]}`, or from old clients `{name: {value: true}}`. Unknown names are refused as docker does. */
export function parseFilters(query: URLSearchParams, allowed: readonly string[]): Filters {
  const text = query.get('filters') ?? '';
  const out: Filters = new Map();
  if (text === '') return out;
  if (text.length > filtersBytesMax) throw new ApiError('BadRequest', 'invalid filter');
  let parsed: unknown;
  try { parsed = JSON.parse(text); } catch (error) { throw new ApiError('BadRequest', `invalid character in filters: ${(error as Error).message}`); }
  if (parsed === null || typeof parsed !== 'object' || Array.isArray(parsed)) throw new ApiError('BadRequest', 'invalid filter');
  for (const [name, values] of Object.entries(parsed)) {
    if (!allowed.includes(name)) throw new ApiError('BadRequest', `invalid filter '${name}'`);
    out.set(name, Array.isArray(values) ? values.map(String) : Object.entries(values as Record<string, boolean>).filter(([, on]) => on).map(([value]) => value));
  }
  return out;
}

/** True when no value was asked for, or one of them passes. */
export function matchesAny(filters: Filters, name: string, test: (value: string) => boolean): boolean {
  const values = filters.get(name);
  return values === undefined || values.length === 0 || values.some(test);
}

/** `key` or `key=value`; all of them must hold. */
export function matchesLabels(filters: Filters, labels: Record<string, string>, name = 'label'): boolean {
  return (filters.get(name) ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    return at < 0 ? wanted in labels : labels[wanted.slice(0, at)] === wanted.slice(at + 1);
  });
}

/** `label!=`: none of them may hold. */
export function lacksLabels(filters: Filters, labels: Record<string, string>): boolean {
  return (filters.get('label!') ?? []).every((wanted) => {
    const at = wanted.indexOf('=');
    return !(at < 0 ? wanted in labels : labels[wanted.slice(0, at)] === wanted.slice(at + 1));
  });
}

/** Docker's times: seconds with a fraction, RFC 3339, or a duration before now (`10m`). Milliseconds since 1970. */
export function parseTime(text: string, nowMs: number): number {
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const duration = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?$/.exec(text);
  if (duration !== null && text !== '') return nowMs - (Number(duration[1] ?? 0) * 3600 + Number(duration[2] ?? 0) * 60 + Number(duration[3] ?? 0)) * 1000;
  const parsed = Date.parse(text);
  if (Number.isNaN(parsed)) throw new ApiError('BadRequest', `invalid time: ${text}`);
  return parsed;
}
