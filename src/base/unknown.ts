/** JSON values of which nothing is known: how they are looked into. */

export interface JsonObject {
  [field: string]: unknown;
}

/** Whether a value is an object, and neither null nor a list. */
export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What lies at a path of field names; undefined where something on the way is no object. */
export function fieldOf(value: unknown, ...path: string[]): unknown {
  let at = value;
  for (const field of path) {
    if (!isObject(at)) return undefined;
    at = at[field];
  }
  return at;
}

/** The items of a list; none where it is not one. */
export function itemsOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

/** The text that lies at a path; undefined where there is none. */
export function textOf(value: unknown, ...path: string[]): string | undefined {
  const text = fieldOf(value, ...path);
  return typeof text === 'string' ? text : undefined;
}

/** The texts of a list; what is none is left out. */
export function textsOf(value: unknown): string[] {
  return itemsOf(value).filter((item) => typeof item === 'string');
}

/** The texts of an object, by name; what is none is left out. */
export function namedTextsOf(value: unknown): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, text] of entriesOf(value)) if (typeof text === 'string') out[name] = text;
  return out;
}

/** The fields of an object; none where it is not one. */
export function entriesOf(value: unknown): [string, unknown][] {
  return isObject(value) ? Object.entries(value) : [];
}
