/** What lists hold by their schema. */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';

/** The schema of a list's items; a structural schema has one for all of them. */
export function itemsOf({ items }: JSONSchemaProps): JSONSchemaProps | undefined {
  return Array.isArray(items) ? undefined : items;
}
