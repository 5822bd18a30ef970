/** Semantic equality, canonical JSON and the short hash that names revisions. Pure. */

/**
 * Deep equality of JSON values; a field that is undefined equals one that is absent, an empty list or map one that is
 * absent.
 */
export function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (isEmpty(a) && isEmpty(b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) {
    if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!isEqual(a[i], b[i])) return false;
    return true;
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key in left) if (!isEqual(left[key], right[key])) return false;
  for (const key in right) if (!(key in left) && !isEmpty(right[key])) return false;
  return true;
}

/**
 * As `isEqual`, for statuses: a server keeps no zero of an optional field, so `0`, `''` and `false` in an object equal
 * what is absent.
 */
export function isEqualStatus(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (
    typeof a !== 'object' ||
    typeof b !== 'object' ||
    a === null ||
    b === null ||
    Array.isArray(a) ||
    Array.isArray(b)
  ) {
    if (!Array.isArray(a) || !Array.isArray(b)) return isZero(a) && isZero(b);
    return a.length === b.length && a.every((item, i) => isEqualStatus(item, b[i]));
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key in left) if (!isEqualStatus(left[key], right[key])) return false;
  for (const key in right) if (!(key in left) && !isZero(right[key])) return false;
  return true;
}

function isZero(value: unknown): boolean {
  return value === 0 || value === '' || value === false || isEmpty(value);
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null) return true;
  if (Array.isArray(value)) return value.length === 0;
  if (typeof value === 'object') {
    for (const _key in value) return false;
    return true;
  }
  return false;
}

/** The same value; the keys of each object are in the order of their bytes, as far as a JavaScript object keeps it. */
export function withSortedKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withSortedKeys);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, field]) => [key, withSortedKeys(field)]));
}

/** JSON with sorted keys and without empty values: equal values give equal texts. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const fields = Object.entries(value)
    .filter(([, field]) => !isEmpty(field))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`).join(',')}}`;
}

const safeLetters = 'bcdfghjklmnpqrstvwxz2456789';

/** 32-bit FNV-1a of a text, written in letters that form no words: suffixes of ReplicaSets and ControllerRevisions. */
export function safeHash(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash ^= text.charCodeAt(i);
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  return [...String(hash)].map((digit) => safeLetters[digit.charCodeAt(0) % safeLetters.length]).join('');
}
