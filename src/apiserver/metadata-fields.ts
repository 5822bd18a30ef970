/** Metadata from one object to another, field by field. */
import type { ObjectMeta } from '#api/meta.v1.ts';

/** Takes a field over where it is given. */
export function takeField<K extends keyof ObjectMeta>(to: ObjectMeta, from: ObjectMeta, field: K): void {
  const value = from[field];
  if (value !== undefined) to[field] = value;
}

/** Makes a field what it is there, given or not. */
export function keepField<K extends keyof ObjectMeta>(to: ObjectMeta, from: ObjectMeta, field: K): void {
  const value = from[field];
  if (value !== undefined) to[field] = value;
  else if (to[field] !== undefined) delete to[field];
}
