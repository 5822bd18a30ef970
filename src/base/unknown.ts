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
