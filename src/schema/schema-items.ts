/** What lists hold by their schema. */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { fieldOf } from '#base/unknown.ts';

/** The schema of a list's items; a structural schema has one for all of them. */
export function itemsOf({ items }: JSONSchemaProps): JSONSchemaProps | undefined {
  return Array.isArray(items) ? undefined : items;
}

/** What an item of a list by keys was before; of other lists nobody can tell. */
export function formerItems(schema: JSONSchemaProps, old: unknown): ((item: unknown) => unknown) | undefined {
  if (schema['x-kubernetes-list-type'] !== 'map' || !Array.isArray(old)) return undefined;
  const keys = schema['x-kubernetes-list-map-keys'] ?? [];
  const idOf = (item: unknown): string => JSON.stringify(keys.map((key) => fieldOf(item, key) ?? null));
  const known = new Map(old.map((item: unknown) => [idOf(item), item]));
  return (item) => known.get(idOf(item));
}
