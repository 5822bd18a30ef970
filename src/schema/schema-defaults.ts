/** Defaults that a custom resource's schema gives: the schema itself lets them pass, and keeps all of them. */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import { isObject } from '#base/unknown.ts';
import { FieldErrors } from './field-errors.ts';
import { itemsOf } from './schema-items.ts';
import { validateSchema } from './validate-schema.ts';

export function checkDefaults(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  if (errors.full) return;
  if (schema.default !== undefined) checkDefault(schema, at, errors);
  const items = itemsOf(schema);
  if (items !== undefined) checkDefaults(items, `${at}.items`, errors);
  for (const [name, property] of Object.entries(schema.properties ?? {}))
    checkDefaults(property, `${at}.properties[${name}]`, errors);
}

function checkDefault(schema: JSONSchemaProps, at: string, errors: FieldErrors): void {
  const value: unknown = schema.default;
  if (value === null && schema.nullable !== true) {
    errors.invalid(`${at}.default`, null, 'must not be null');
    return;
  }
  if (holdsUnknown(value, schema)) errors.invalid(`${at}.default`, value, 'must not have unknown fields');
  const found = new FieldErrors(errors.work);
  validateSchema(value, schema, 'default', found);
  for (const cause of found.causes) cause.field = `${at}.${cause.field}`;
  errors.take(found);
}

/** Whether pruning would take something away. */
function holdsUnknown(value: unknown, schema: JSONSchemaProps): boolean {
  const items = itemsOf(schema);
  if (Array.isArray(value)) return items !== undefined && value.some((item) => holdsUnknown(item, items));
  if (!isObject(value)) return false;
  const { properties = {}, additionalProperties: others } = schema;
  const keepsAll = schema['x-kubernetes-preserve-unknown-fields'] === true || others === true;
  return Object.entries(value).some(([name, inner]) => {
    const own = properties[name] ?? (typeof others === 'object' ? others : undefined);
    return own === undefined ? !keepsAll : holdsUnknown(inner, own);
  });
}
