/**
 * OpenAPI documents from kind records: version 3 per group and version, version 2 (Swagger) for all. Structure only;
 * descriptions are added by the API server from a package that ships them, where there is one.
 */
import type { JsonObject } from '#base/unknown.ts';
import { describedKind, describesNothing } from './descriptions.ts';
import type { Describe, TypeDescription } from './descriptions.ts';
import type { KindRecord } from './kind.ts';
import { customSchema } from './openapi-custom.ts';
import { typeOf } from './types.ts';
import type { Field, ObjectNode, TypeNode } from './types.ts';

const longPackage: Record<string, string> = {
  meta: 'io.k8s.apimachinery.pkg.apis.meta',
  apiextensions: 'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions',
  apiregistration: 'io.k8s.kube-aggregator.pkg.apis.apiregistration',
};

function descriptionOf(text: string | undefined): { description?: string } {
  return text === undefined || text === '' ? {} : { description: text };
}

/** `core.v1/Pod` → `io.k8s.api.core.v1.Pod`. */
function definitionName(typeName: string): string {
  const [pkg = '', type = ''] = typeName.split('/');
  const [group = '', version = ''] = pkg.split('.');
  return `${longPackage[group] ?? `io.k8s.api.${group}`}.${version}.${type}`;
}

const scalarDefinitions: Record<string, [string, JsonObject]> = {
  time: ['io.k8s.apimachinery.pkg.apis.meta.v1.Time', { type: 'string', format: 'date-time' }],
  microtime: ['io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime', { type: 'string', format: 'date-time' }],
  quantity: ['io.k8s.apimachinery.pkg.api.resource.Quantity', { type: 'string' }],
  duration: ['io.k8s.apimachinery.pkg.apis.meta.v1.Duration', { type: 'string' }],
};

interface GroupVersionKind {
  group: string;
  kind: string;
  version: string;
}

/** Collects the definitions that schemas refer to. */
class Definitions {
  readonly #refPrefix: string;
  readonly #describe: Describe;
  readonly version3: boolean;
  readonly schemas = new Map<string, JsonObject>();
  readonly gvks = new Map<string, GroupVersionKind[]>();

  constructor(version3: boolean, describe: Describe) {
    this.version3 = version3;
    this.#describe = describe;
    this.#refPrefix = version3 ? '#/components/schemas/' : '#/definitions/';
  }

  ref(name: string): { $ref: string } {
    return { $ref: this.#refPrefix + name };
  }

  addKind(kind: { group: string; version: string; kind: string; type: ObjectNode }): string {
    const name = nameOf(kind);
    const gvk = { group: kind.group, kind: kind.kind, version: kind.version };
    const known = this.gvks.get(name) ?? [];
    if (!known.some((g) => g.group === gvk.group && g.version === gvk.version && g.kind === gvk.kind)) known.push(gvk);
    this.gvks.set(name, known);
    if (kind.type.name !== undefined) this.object(kind.type);
    return name;
  }

  object(node: ObjectNode): JsonObject {
    if (node.name === undefined) return this.#inline(node);
    const name = definitionName(node.name);
    if (!this.schemas.has(name)) {
      const schema: JsonObject = {};
      this.schemas.set(name, schema);
      const described = this.#describe(node.name);
      Object.assign(schema, descriptionOf(described?.text), this.#inline(node, described));
    }
    return this.ref(name);
  }

  /** Fields of every object. */
  get objectFields(): ReadonlyMap<string, string> {
    return this.#describe(describedKind)?.fields ?? new Map();
  }

  #inline(node: ObjectNode, described?: TypeDescription): JsonObject {
    const properties: JsonObject = {};
    const required: string[] = [];
    for (const field of node.fields.values()) {
      properties[field.name] = this.#field(field, described?.fields.get(field.name));
      if (field.required) required.push(field.name);
    }
    return {
      type: 'object',
      ...(Object.keys(properties).length > 0 ? { properties } : {}),
      ...(required.length > 0 ? { required: required.sort() } : {}),
      ...(node.atomic === true ? { 'x-kubernetes-map-type': 'atomic' } : {}),
      ...(node.preserveUnknown === true ? { 'x-kubernetes-preserve-unknown-fields': true } : {}),
    };
  }

  #field(field: Field, text: string | undefined): JsonObject {
    const schema = this.#type(field.type);
    const hasMore = field.default !== undefined || field.strategies !== undefined || text !== undefined;
    const out: JsonObject = {
      ...descriptionOf(text),
      ...(this.version3 && schema.$ref !== undefined && hasMore ? { allOf: [schema] } : schema),
    };
    if (field.default !== undefined) out.default = field.default;
    const type = field.type;
    if (type.kind === 'list') {
      if (type.listType !== undefined) out['x-kubernetes-list-type'] = type.listType;
      if (type.keys !== undefined) out['x-kubernetes-list-map-keys'] = type.keys;
      if (type.mergeKey !== undefined) out['x-kubernetes-patch-merge-key'] = type.mergeKey;
      if (type.strategies !== undefined) out['x-kubernetes-patch-strategy'] = type.strategies.join(',');
    } else if (field.strategies !== undefined) out['x-kubernetes-patch-strategy'] = field.strategies.join(',');
    return out;
  }

  #type(type: TypeNode): JsonObject {
    const scalar = scalarDefinitions[type.kind];
    switch (type.kind) {
      case 'object':
        return this.object(type);
      case 'list':
        return { type: 'array', items: this.#type(type.item) };
      case 'map':
        return { type: 'object', additionalProperties: this.#type(type.item) };
      case 'union':
        return {};
      case 'boolean':
        return { type: 'boolean' };
      case 'int32':
      case 'int64':
        return { type: 'integer', format: type.kind };
      case 'double':
        return { type: 'number', format: 'double' };
      case 'bytes':
        return { type: 'string', format: 'byte' };
      case 'any':
        return { type: 'object' };
      case 'intstr':
        return this.#scalar(
          'io.k8s.apimachinery.pkg.util.intstr.IntOrString',
          this.version3
            ? { oneOf: [{ type: 'integer' }, { type: 'string' }], format: 'int-or-string' }
            : { type: 'string', format: 'int-or-string' },
        );
      case 'quantity':
        if (this.version3 && scalar !== undefined)
          return this.#scalar(scalar[0], { oneOf: [{ type: 'string' }, { type: 'number' }] });
        break;
      default:
        break;
    }
    return scalar === undefined ? { type: 'string' } : this.#scalar(scalar[0], scalar[1]);
  }

  #scalar(name: string, schema: JsonObject): JsonObject {
    this.schemas.set(name, schema);
    return this.ref(name);
  }

  /** All definitions, with the kinds that they are. */
  build(): JsonObject {
    const out: JsonObject = {};
    for (const name of [...this.schemas.keys()].sort()) {
      const gvks = this.gvks.get(name);
      out[name] =
        gvks === undefined
          ? this.schemas.get(name)
          : { ...this.schemas.get(name), 'x-kubernetes-group-version-kind': gvks };
    }
    return out;
  }
}

/** `stable.example.com` v1 CronTab → `com.example.stable.v1.CronTab`. */
function customName(kind: { group: string; version: string; kind: string }): string {
  return `${kind.group.split('.').reverse().join('.')}.${kind.version}.${kind.kind}`;
}

function nameOf(kind: { group: string; version: string; kind: string; type: ObjectNode }): string {
  return kind.type.name === undefined ? customName(kind) : definitionName(kind.type.name);
}

const writeParameters = ['dryRun', 'fieldManager', 'fieldValidation'];
const deleteParameters = ['dryRun', 'gracePeriodSeconds', 'orphanDependents', 'propagationPolicy'];
const parametersOf: Record<string, readonly string[]> = {
  post: writeParameters,
  put: writeParameters,
  patch: [...writeParameters, 'force'],
  delete: deleteParameters,
  get: [],
  list: [
    'allowWatchBookmarks',
    'continue',
    'fieldSelector',
    'labelSelector',
    'limit',
    'resourceVersion',
    'resourceVersionMatch',
    'sendInitialEvents',
    'timeoutSeconds',
    'watch',
  ],
};
const parameterTypes: Record<string, string> = {
  allowWatchBookmarks: 'boolean',
  limit: 'integer',
  sendInitialEvents: 'boolean',
  timeoutSeconds: 'integer',
  watch: 'boolean',
  force: 'boolean',
  gracePeriodSeconds: 'integer',
  orphanDependents: 'boolean',
};

/** A parameter of an operation, in the form of version 2 or of version 3. */
export interface OperationParameter {
  in: string;
  name: string;
  required?: boolean;
  type?: string;
  uniqueItems?: boolean;
  schema?: JsonObject;
}

/** An operation, in the form of version 2 or of version 3. */
export interface OperationObject {
  operationId: string;
  parameters: OperationParameter[];
  responses: Record<string, { description: string; schema?: JsonObject; content?: JsonObject }>;
  consumes?: string[];
  produces?: string[];
  schemes?: string[];
  requestBody?: JsonObject;
  [extension: `x-${string}`]: unknown;
}

type Method = 'get' | 'put' | 'post' | 'delete' | 'patch';

/** The operations at a path, and the parameters of all of them. */
export interface PathItem extends Partial<Record<Method, OperationObject>> {
  parameters: OperationParameter[];
}

/** The version 2 document. */
export interface SwaggerDocument {
  swagger: string;
  info: { title: string; version: string };
  paths: Record<string, PathItem>;
  definitions: JsonObject;
}

interface Operation {
  method: Method;
  action: string;
  body: boolean;
  id: string;
}

const capitalized = (word: string): string => word.charAt(0).toUpperCase() + word.slice(1);

/** `AppsV1`: how operations name a group and its version. */
function groupVersionId({ group, version }: KindRecord): string {
  return `${group === '' ? 'Core' : capitalized(group.replace(/\..*/, ''))}${capitalized(version)}`;
}

function operationsOf(kind: KindRecord, item: boolean): Operation[] {
  const has = (verb: string): boolean => kind.verbs.includes(verb);
  const scope = kind.namespaced ? 'Namespaced' : '';
  const id = (verb: string): string => `${verb}${groupVersionId(kind)}${scope}${kind.kind}`;
  const all: [boolean, Operation][] = item
    ? [
        [has('get'), { method: 'get', action: 'get', body: false, id: id('read') }],
        [has('update'), { method: 'put', action: 'put', body: true, id: id('replace') }],
        [has('patch'), { method: 'patch', action: 'patch', body: true, id: id('patch') }],
        [has('delete'), { method: 'delete', action: 'delete', body: true, id: id('delete') }],
      ]
    : [
        [has('list'), { method: 'get', action: 'list', body: false, id: id('list') }],
        [has('create'), { method: 'post', action: 'post', body: true, id: id('create') }],
        [
          has('deletecollection'),
          { method: 'delete', action: 'deletecollection', body: true, id: id('deleteCollection') },
        ],
      ];
  return all.filter(([yes]) => yes).map(([, o]) => o);
}

function parameter(name: string, where: string, version3: boolean): OperationParameter {
  const type = parameterTypes[name] ?? 'string';
  return version3
    ? { in: where, name, ...(where === 'path' ? { required: true } : {}), schema: { type, uniqueItems: true } }
    : { in: where, name, type, uniqueItems: true, ...(where === 'path' ? { required: true } : {}) };
}

/** The paths of a kind. */
function pathsOf(kind: KindRecord, definitions: Definitions, version3: boolean): Record<string, PathItem> {
  const root = kind.group === '' ? `/api/${kind.version}` : `/apis/${kind.group}/${kind.version}`;
  const collection = kind.namespaced ? `${root}/namespaces/{namespace}/${kind.resource}` : `${root}/${kind.resource}`;
  const name = definitions.addKind(kind);
  const gvk = { group: kind.group, kind: kind.kind, version: kind.version };
  const out: Record<string, PathItem> = {};
  const place = (path: string, operations: Operation[], item: boolean): void => {
    if (operations.length === 0) return;
    const entry: PathItem = {
      parameters: [
        ...(item ? [parameter('name', 'path', version3)] : []),
        ...(kind.namespaced ? [parameter('namespace', 'path', version3)] : []),
        parameter('pretty', 'query', version3),
      ],
    };
    for (const o of operations) entry[o.method] = operation(o, gvk, definitions.ref(name), version3);
    out[path] = entry;
  };
  place(collection, operationsOf(kind, false), false);
  place(`${collection}/{name}`, operationsOf(kind, true), true);
  if (kind.namespaced && kind.verbs.includes('list')) {
    const listing: Operation = {
      method: 'get',
      action: 'list',
      body: false,
      id: `list${groupVersionId(kind)}${kind.kind}ForAllNamespaces`,
    };
    out[`${root}/${kind.resource}`] = {
      get: operation(listing, gvk, definitions.ref(name), version3),
      parameters: [parameter('pretty', 'query', version3)],
    };
  }
  return out;
}

const media = ['application/json', 'application/yaml', 'application/vnd.kubernetes.protobuf'];
const patchMedia = [
  'application/apply-patch+yaml',
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
];

function operation(o: Operation, gvk: JsonObject, ref: JsonObject, version3: boolean): OperationObject {
  const query = (parametersOf[o.action] ?? deleteParameters).map((p) => parameter(p, 'query', version3));
  const base = { operationId: o.id, 'x-kubernetes-action': o.action, 'x-kubernetes-group-version-kind': gvk };
  const consumes = o.method === 'patch' ? patchMedia : ['*/*'];
  if (!version3)
    return {
      ...base,
      consumes,
      produces: media,
      schemes: ['https'],
      parameters: [
        ...(o.body
          ? [
              {
                in: 'body',
                name: 'body',
                ...(o.method === 'delete' ? {} : { required: true }),
                schema: o.method === 'patch' || o.method === 'delete' ? { type: 'object' } : ref,
              },
            ]
          : []),
        ...query,
      ],
      responses: { 200: { description: 'OK', schema: ref }, 401: { description: 'Unauthorized' } },
    };
  const content = Object.fromEntries(media.map((m) => [m, { schema: ref }]));
  return {
    ...base,
    parameters: query,
    ...(o.body
      ? {
          requestBody: {
            content: Object.fromEntries(
              consumes.map((m) => [
                m,
                { schema: o.method === 'patch' || o.method === 'delete' ? { type: 'object' } : ref },
              ]),
            ),
          },
        }
      : {}),
    responses: { 200: { description: 'OK', content }, 401: { description: 'Unauthorized' } },
  };
}

const metaKinds = ['DeleteOptions', 'Status', 'WatchEvent', 'APIResourceList', 'APIGroup', 'APIGroupList'];

/** The version 3 document of a group and version. */
export function openApiV3(
  kinds: readonly KindRecord[],
  gitVersion: string,
  describe: Describe = describesNothing,
): JsonObject {
  const definitions = new Definitions(true, describe);
  const paths: JsonObject = {};
  for (const kind of kinds) {
    Object.assign(paths, pathsOf(kind, definitions, true));
    addLists(kind, definitions);
    if (kind.custom === true) addCustom(kind, definitions);
    for (const s of Object.values(kind.subresources)) if (s.type !== undefined) definitions.object(typeOf(s.type));
  }
  for (const name of metaKinds) definitions.object(typeOf(`meta.v1/${name}`));
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes', version: gitVersion },
    paths,
    components: {
      schemas: definitions.build(),
      securitySchemes: { BearerToken: { type: 'apiKey', name: 'authorization', in: 'header' } },
    },
  };
}

function addCustom(kind: KindRecord, definitions: Definitions): void {
  definitions.object(typeOf('meta.v1/ObjectMeta'));
  const metadata = definitions.ref(definitionName('meta.v1/ObjectMeta'));
  const { version3, objectFields: described } = definitions;
  definitions.schemas.set(customName(kind), customSchema(kind, { metadata, version3, described }));
}

function addLists(kind: KindRecord, definitions: Definitions): void {
  if (!kind.verbs.includes('list')) return;
  const item = nameOf(kind);
  const name = item.slice(0, item.length - kind.kind.length) + kind.listKind;
  const meta = definitions.object(typeOf('meta.v1/ListMeta'));
  definitions.schemas.set(name, {
    type: 'object',
    required: ['items'],
    properties: {
      apiVersion: { type: 'string' },
      kind: { type: 'string' },
      metadata: meta,
      items: { type: 'array', items: definitions.ref(item) },
    },
  });
  definitions.gvks.set(name, [{ group: kind.group, kind: kind.listKind, version: kind.version }]);
}

/** The version 2 document of everything. */
export function openApiV2(
  kinds: readonly KindRecord[],
  gitVersion: string,
  describe: Describe = describesNothing,
): SwaggerDocument {
  const definitions = new Definitions(false, describe);
  const paths: Record<string, PathItem> = {};
  for (const kind of kinds) {
    Object.assign(paths, pathsOf(kind, definitions, false));
    addLists(kind, definitions);
    if (kind.custom === true) addCustom(kind, definitions);
  }
  for (const name of metaKinds) definitions.object(typeOf(`meta.v1/${name}`));
  return {
    swagger: '2.0',
    info: { title: 'Kubernetes', version: gitVersion },
    paths,
    definitions: definitions.build(),
  };
}
