/**
 * The published schemas of custom resources (apiextensions-apiserver, `controller/openapi/builder` and
 * `controller/openapi/v2`). Version 3 has a schema as its definition gave it. Version 2 lacks words for some of it, and
 * clients take what it lists of an object for all that the object may have: so nothing is listed where more is let
 * through.
 */
import type { JSONSchemaProps } from '#api/apiextensions.v1.ts';
import type { JsonObject } from '#base/unknown.ts';
import type { KindRecord } from './kind.ts';

/** How a document refers to metadata, and whether it is of version 3. */
export interface CustomSchemaOptions {
  metadata: { $ref: string };
  version3: boolean;
  /** What is known to say of the fields that every object has. */
  described?: ReadonlyMap<string, string>;
}

/** The schema of a custom resource as its definition published it, with the fields that every object has. */
export function customSchema(
  kind: KindRecord,
  { metadata, version3, described = new Map() }: CustomSchemaOptions,
): JsonObject {
  const published = kind.publishedSchema;
  const ofMetadata = described.get('metadata');
  const plain = version3 && ofMetadata !== undefined ? { allOf: [metadata] } : metadata;
  const common = {
    apiVersion: {
      type: 'string',
      description:
        described.get('apiVersion') ?? 'APIVersion defines by which version of its schema the object is written.',
    },
    kind: { type: 'string', description: described.get('kind') ?? 'Kind names the type of the object, in CamelCase.' },
    metadata: ofMetadata === undefined ? plain : { description: ofMetadata, ...plain },
  };
  const fields = Object.keys(kind.selectableFields).map((fieldPath) => ({ fieldPath }));
  const selectable: JsonObject = fields.length === 0 ? {} : { 'x-kubernetes-selectable-fields': fields };
  if (published === undefined || (!version3 && published['x-kubernetes-preserve-unknown-fields'] === true))
    return { type: 'object', ...selectable };
  const schema = withEmbedded(version3 ? published : toVersion2(published), common, version3);
  return { ...schema, type: 'object', properties: { ...schema.properties, ...common }, ...selectable };
}

/** The schema with each schema in it changed, which is not part of a condition. */
function mapParts(schema: JSONSchemaProps, change: (part: JSONSchemaProps) => JSONSchemaProps): JSONSchemaProps {
  const out: JSONSchemaProps = { ...schema };
  if (schema.properties !== undefined)
    out.properties = Object.fromEntries(
      Object.entries(schema.properties).map(([name, property]) => [name, change(property)]),
    );
  if (schema.items !== undefined) out.items = Array.isArray(schema.items) ? schema.items : change(schema.items);
  if (typeof schema.additionalProperties === 'object') out.additionalProperties = change(schema.additionalProperties);
  return out;
}

/** Objects within the object say what they are, too. */
function withEmbedded(
  schema: JSONSchemaProps,
  common: Record<string, JSONSchemaProps>,
  version3: boolean,
): JSONSchemaProps {
  const out = mapParts(schema, (part) => withEmbedded(part, common, version3));
  const isOpen = schema['x-kubernetes-preserve-unknown-fields'] === true && !version3;
  if (schema['x-kubernetes-embedded-resource'] !== true || isOpen) return out;
  out.properties = { ...out.properties, ...common };
  out.required = [...new Set([...(schema.required ?? []), 'kind', 'apiVersion'])];
  return out;
}

function toVersion2(schema: JSONSchemaProps): JSONSchemaProps {
  const { allOf: _all, anyOf: _any, oneOf: _one, not: _not, nullable, ...out } = schema;
  const isOpen = schema['x-kubernetes-preserve-unknown-fields'] === true;
  if (nullable === true || isOpen) {
    delete out.items;
    delete out.properties;
  }
  if (nullable === true || (isOpen && out.type === 'object') || (out.type === 'array' && out.items === undefined))
    delete out.type;
  const required = requiredInVersion2(out);
  if (required === undefined) delete out.required;
  else out.required = required;
  return mapParts(out, toVersion2);
}

/** A field that may be null is not required where null cannot be said. */
function requiredInVersion2({ required, properties, additionalProperties }: JSONSchemaProps): string[] | undefined {
  if (typeof additionalProperties === 'object' && additionalProperties.nullable === true) return undefined;
  const left = required?.filter((name) => properties?.[name]?.nullable !== true);
  return left === undefined || left.length === 0 ? undefined : left;
}
