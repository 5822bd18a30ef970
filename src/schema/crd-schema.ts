/**
 * Custom resource definitions as kinds (Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions"): the
 * structural schema becomes the same type nodes that built-in kinds have; defaults, validation and columns are read
 * from the published schema. Its rules are in `rules.ts`.
 */
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionSpec,
  CustomResourceDefinitionVersion,
  JSONSchemaProps,
} from '#api/apiextensions.v1.ts';
import { copyJson } from '#base/json.ts';
import { patternStepsMax } from '#base/limits.ts';
import type { KubeObject, OpenObject } from '#base/objects.ts';
import { isObject } from '#base/unknown.ts';
import { checkObject } from './check.ts';
import { FieldErrors } from './field-errors.ts';
import { schemaStepsMax } from './limits.ts';
import { columnsOf } from './crd-columns.ts';
import { allVerbs, metadataFields, scaleSubresource, statusSubresource } from './kind.ts';
import type { KindConversion, KindRecord, SubresourceRecord } from './kind.ts';
import { compileJsonPath } from './json-path.ts';
import { itemsOf } from './schema-items.ts';
import { ruleTree, type RuleNode } from './rules.ts';
import { runRules } from './run-rules.ts';
import { scalarNode, typeOf } from './types.ts';
import type { Field, ListNode, MapNode, ObjectNode, TypeNode } from './types.ts';
import { validateSchema } from './validate-schema.ts';

/** The type node of a structural schema. */
function nodeOfSchema(schema: JSONSchemaProps | undefined): TypeNode {
  if (schema === undefined || schema === null || typeof schema !== 'object') return scalarNode('any');
  if (schema['x-kubernetes-int-or-string'] === true) return scalarNode('intstr');
  switch (schema.type) {
    case 'object':
      return objectNode(schema);
    case 'array': {
      const node: ListNode = { kind: 'list', item: nodeOfSchema(itemsOf(schema)) };
      const { 'x-kubernetes-list-type': listType, 'x-kubernetes-list-map-keys': keys } = schema;
      if (listType === 'atomic' || listType === 'set' || listType === 'map') node.listType = listType;
      if (keys !== undefined) node.keys = keys;
      return node;
    }
    default:
      return scalarNode('any'); // scalars are checked by the validator, with its own messages
  }
}

function objectNode(schema: JSONSchemaProps): ObjectNode | MapNode {
  const atomic = schema['x-kubernetes-map-type'] === 'atomic';
  if (schema.properties === undefined && typeof schema.additionalProperties === 'object')
    return { kind: 'map', item: nodeOfSchema(schema.additionalProperties), ...(atomic ? { atomic } : {}) };
  if (schema.properties === undefined && schema.additionalProperties === true)
    return { kind: 'map', item: scalarNode('any'), ...(atomic ? { atomic } : {}) };
  return fieldsNode(schema);
}

function fieldsNode(schema: JSONSchemaProps): ObjectNode {
  let fields: Map<string, Field> | undefined;
  const node: ObjectNode = {
    kind: 'object',
    get fields() {
      if (fields === undefined) {
        fields = new Map();
        for (const [name, property] of Object.entries(schema.properties ?? {})) {
          const field: Field = {
            name,
            type: nodeOfSchema(property),
            required: (schema.required ?? []).includes(name),
            pointer: true,
            writesZero: false,
          };
          if (property.default !== undefined) field.default = property.default;
          fields.set(name, field);
        }
      }
      return fields;
    },
  };
  if (schema['x-kubernetes-preserve-unknown-fields'] === true) node.preserveUnknown = true;
  if (schema['x-kubernetes-embedded-resource'] === true) node.embedded = true;
  if (schema['x-kubernetes-map-type'] === 'atomic') node.atomic = true;
  return node;
}

/** The root: what the schema says, and the fields of every object. */
function rootNode(schema: JSONSchemaProps | undefined): ObjectNode {
  const inner = schema === undefined ? undefined : fieldsNode({ ...schema, properties: schema.properties ?? {} });
  const fields = new Map<string, Field>(inner?.fields ?? []);
  const common = (name: string, type: TypeNode): void => {
    fields.set(name, { name, type, required: false, pointer: false, writesZero: false });
  };
  common('apiVersion', scalarNode('string'));
  common('kind', scalarNode('string'));
  common('metadata', typeOf('meta.v1/ObjectMeta'));
  return {
    kind: 'object',
    fields,
    ...(inner === undefined || inner.preserveUnknown === true ? { preserveUnknown: true } : {}),
  };
}

/** Sets defaults, innermost last, in place. */
function applySchemaDefaults(value: unknown, schema: JSONSchemaProps): void {
  if (Array.isArray(value)) {
    const items = itemsOf(schema);
    if (items) for (const item of value) applySchemaDefaults(item, items);
    return;
  }
  if (!isObject(value)) return;
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    if (
      (value[name] === undefined || (value[name] === null && property.nullable !== true)) &&
      property.default !== undefined
    )
      value[name] = copyJson(property.default);
    if (value[name] !== undefined) applySchemaDefaults(value[name], property);
  }
  if (typeof schema.additionalProperties === 'object')
    for (const [name, item] of Object.entries(value))
      if (schema.properties?.[name] === undefined) applySchemaDefaults(item, schema.additionalProperties);
}

export interface CustomKind extends KindRecord {
  custom: true;
  publishedSchema: JSONSchemaProps | undefined;
}

/** By API version: prunes an object to that version's schema and sets its defaults, in place. */
export function fitsOf({ spec }: CustomResourceDefinition): Map<string, (object: KubeObject) => void> {
  return new Map(
    spec.versions.map(({ name, schema }) => {
      const root = schema?.openAPIV3Schema;
      const node = customNode(spec, root);
      const fit = (object: KubeObject): void => {
        checkObject(object, node);
        if (root !== undefined) applySchemaDefaults(object, root);
      };
      return [`${spec.group}/${name}`, fit];
    }),
  );
}

/** The kinds of a definition: one for each served version. `conversion` is what a webhook does, where one is asked. */
export function kindsOfDefinition(definition: CustomResourceDefinition, conversion?: KindConversion): CustomKind[] {
  const { spec } = definition;
  const stored = spec.versions.find((v) => v.storage) ?? spec.versions[0];
  const served = spec.versions.filter((v) => v.served);
  return served
    .map((version) => ({ stored: stored ?? version, version }))
    .map((versions) => customKind(definition, versions, conversion));
}

type Convert = (object: KubeObject) => KubeObject;

/**
 * An object as a version shows it. Where the definition was changed, objects were stored that do not know of it: what
 * their version no longer has is dropped, what it has a default for by now is there.
 */
function showAs(
  { spec, metadata }: CustomResourceDefinition,
  version: CustomResourceDefinitionVersion,
  stored: CustomResourceDefinitionVersion,
): Convert {
  const apiVersion = `${spec.group}/${version.name}`;
  const rename: Convert = (o) => (o.apiVersion === apiVersion ? o : { ...o, apiVersion });
  if ((metadata.generation ?? 1) === 1) return rename;
  const schemas = [...new Set([stored, version])].map((each) => each.schema?.openAPIV3Schema);
  const nodes = schemas.map((schema) => customNode(spec, schema));
  const shown = new WeakMap<KubeObject, KubeObject>();
  return (object) => {
    const known = shown.get(object);
    if (known !== undefined) return known;
    const fitted = { ...copyJson(object), apiVersion };
    schemas.forEach((schema, at) => {
      const node = nodes[at];
      if (node !== undefined) checkObject(fitted, node);
      if (schema !== undefined) applySchemaDefaults(fitted, schema);
    });
    // What is stored does not change any more; what is on its way there does.
    if (Object.isFrozen(object)) shown.set(object, fitted);
    return fitted;
  };
}

function customNode(spec: CustomResourceDefinitionSpec, schema: JSONSchemaProps | undefined): ObjectNode {
  return spec.preserveUnknownFields === true ? { ...rootNode(schema), preserveUnknown: true } : rootNode(schema);
}

function customKind(
  definition: CustomResourceDefinition,
  { version, stored }: Record<'version' | 'stored', CustomResourceDefinitionVersion>,
  conversion: KindConversion | undefined,
): CustomKind {
  const { spec, metadata } = definition;
  const { names, group } = spec;
  const schema = version.schema?.openAPIV3Schema;
  const subresources: Record<string, SubresourceRecord> = {};
  if (version.subresources?.status !== undefined) subresources.status = statusSubresource;
  const scale = version.subresources?.scale;
  if (scale !== undefined) subresources.scale = scaleSubresource;
  let type: ObjectNode | undefined;
  let rules: { tree: RuleNode | undefined } | undefined;
  const hasStatus = subresources.status !== undefined;
  const many = spec.versions.length > 1 && conversion === undefined;
  const storedAs = `${group}/${stored.name}`;
  return {
    group,
    version: version.name,
    kind: names.kind,
    resource: names.plural,
    singular: names.singular ?? names.kind.toLowerCase(),
    namespaced: spec.scope === 'Namespaced',
    verbs: allVerbs,
    shortNames: names.shortNames ?? [],
    categories: names.categories ?? [],
    subresources,
    columns: columnsOf(version),
    listKind: names.listKind ?? `${names.kind}List`,
    storage: { group, resource: names.plural, version: stored.name, kind: names.kind },
    get type() {
      return (type ??= customNode(spec, schema));
    },
    selectableFields: Object.fromEntries(
      (version.selectableFields ?? []).map((f) => {
        const read = compileJsonPath(f.jsonPath);
        return [
          f.jsonPath.replace(/^\./, ''),
          (o) => {
            const v = read(o)[0];
            return v === undefined || v === null ? '' : String(v);
          },
        ];
      }),
    ),
    hasGeneration: true,
    hasStatus,
    statusKeeps: metadataFields,
    unmanaged: [],
    metadataLast: false,
    statusIsPlain: false,
    needsVersion: true,
    createsOnUpdate: false,
    nameForm: 'subdomain',
    custom: true,
    publishedSchema: schema,
    ...(version.deprecated === true
      ? { deprecation: version.deprecationWarning ?? `${group}/${version.name} ${names.kind} is deprecated` }
      : {}),
    ...(many || (conversion === undefined && (metadata.generation ?? 1) > 1)
      ? { fromStored: showAs(definition, version, stored) }
      : {}),
    ...(many ? { toStored: (o) => (o.apiVersion === storedAs ? o : { ...o, apiVersion: storedAs }) } : {}),
    ...(scale === undefined
      ? {}
      : {
          scale: {
            specPath: scale.specReplicasPath,
            statusPath: scale.statusReplicasPath,
            selectorPath: scale.labelSelectorPath ?? '.status.\u0000',
          },
        }),
    ...(conversion === undefined ? {} : { conversion }),
    defaults(o) {
      if (schema !== undefined) applySchemaDefaults(o, schema);
    },
    prepareCreate(o: OpenObject) {
      if (hasStatus) delete o.status;
    },
    prepareUpdate(o: OpenObject, old: OpenObject) {
      if (hasStatus) {
        if (old.status === undefined) delete o.status;
        else o.status = copyJson(old.status);
      }
    },
    validate(o, errors, old) {
      if (schema !== undefined) validateBody(o, old, schema, errors);
    },
    validateStatus(o, old, errors) {
      if (schema !== undefined) validateBody(o, old, schema, errors);
    },
    async validateRules(o, old, run) {
      rules ??= { tree: schema === undefined ? undefined : ruleTree(schema) };
      if (rules.tree !== undefined) await runRules(rules.tree, o, old, run);
    },
  };
}

/**
 * The object's own metadata is validated as every object's is. What breaks the schema and was not changed stays
 * (reference implementation, validation ratcheting).
 */
function validateBody(o: object, old: object | undefined, schema: JSONSchemaProps, errors: FieldErrors): void {
  const { metadata: _m, apiVersion: _a, kind: _k, ...properties } = schema.properties ?? {};
  const required = (schema.required ?? []).filter((n) => n !== 'metadata' && n !== 'apiVersion' && n !== 'kind');
  const root = { ...schema, type: 'object', properties, required };
  let found = errors.fork();
  validateSchema(o, root, '', found);
  if (found.any && old !== undefined) {
    found = new FieldErrors(errors.work, new WeakMap([[o, old]]));
    validateSchema(o, root, '', found);
  }
  errors.take(found);
  // Within `not`, what could not be looked at any more would pass.
  if (errors.work.stepsLeft < 0)
    errors.invalid(
      '',
      null,
      `validation costs more than ${schemaStepsMax} steps: the object or its schema is too large`,
    );
  if (errors.work.patterns.left < 0)
    errors.invalid(
      '',
      null,
      `validation costs more than ${patternStepsMax} steps of patterns: texts and patterns are too long together`,
    );
}
