/**
 * Makes `data/*.json`, the structure of the built-in kinds, from the published OpenAPI v3 documents and protobuf
 * definitions:
 * names, types, numbers, merge keys, list types, required fields and the few defaults that the documents carry. Facts
 * only, no descriptions.
 *
 * Run: node src/schema/generate.ts KUBERNETES_MODULE API_MODULE APIMACHINERY_MODULE [METRICS_MODULE] (directories of
 * the Go modules). The interfaces in `src/api` follow from it (`generate-api.ts`).
 *
 * One file per API package, one line per type. A field is a word list: its type, `!` when required, `#n` its protobuf
 * number, then (`#2.1`: field 1 of an embedded message that is field 2), `&` where the Go field is a pointer, so that a
 * zero value is said and not left out, then
 * `merge=key`, `keys=a,b`, `list=map|set|atomic`, `map=atomic`, `strategy=…`, `default=json` where they apply. Types:
 * `string`,
 * `boolean`, `int32`, `int64`, `double`, `bytes`, `time`, `microtime`, `duration`, `quantity`, `intstr`, `any`,
 * `@package/Type`,
 * `[]T` lists, `{}T` maps, and `T|U` what may be either, in the order of their protobuf numbers. `types.ts` reads this.
 */
import { mkdirSync, readdirSync, readFileSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeApi } from './generate-api.ts';

type Schema = {
  $ref?: string;
  allOf?: Schema[];
  oneOf?: Schema[];
  type?: string;
  format?: string;
  items?: Schema;
  additionalProperties?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
  default?: unknown;
  [x: string]: unknown;
};

const scalars: Record<string, string> = {
  'io.k8s.apimachinery.pkg.api.resource.Quantity': 'quantity',
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': 'intstr',
  'io.k8s.apimachinery.pkg.apis.meta.v1.Time': 'time',
  'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime': 'microtime',
  'io.k8s.apimachinery.pkg.apis.meta.v1.Duration': 'duration',
  'io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1': 'any',
  'io.k8s.apimachinery.pkg.runtime.RawExtension': 'any',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON': 'any',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool':
    'boolean|@apiextensions.v1/JSONSchemaProps',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray':
    '@apiextensions.v1/JSONSchemaProps|[]@apiextensions.v1/JSONSchemaProps',
  'io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray':
    '@apiextensions.v1/JSONSchemaProps|[]string',
};

/** `io.k8s.api.apps.v1.Deployment` → `apps.v1`, `Deployment`. */
function split(name: string): [string, string] {
  const parts = name.split('.');
  return [parts.slice(-3, -1).join('.'), parts.at(-1) ?? name];
}

function typeOf(schema: Schema): string {
  const ref = schema.$ref ?? schema.allOf?.[0]?.$ref;
  if (ref !== undefined) {
    const name = ref.slice(ref.lastIndexOf('/') + 1);
    const [pkg, type] = split(name);
    return scalars[name] ?? `@${pkg}/${type}`;
  }
  switch (schema.type) {
    case 'array':
      return `[]${schema.items === undefined ? 'any' : typeOf(schema.items)}`;
    case 'object':
      return schema.additionalProperties === undefined ? 'any' : `{}${typeOf(schema.additionalProperties)}`;
    case 'string':
      return schema.format === 'byte' ? 'bytes' : schema.format === 'date-time' ? 'time' : 'string';
    case 'integer':
      return schema.format === 'int32' ? 'int32' : 'int64';
    case 'number':
      return 'double';
    case 'boolean':
      return 'boolean';
    default:
      return 'any';
  }
}

const isTrivial = (value: unknown): boolean =>
  value === undefined ||
  value === '' ||
  value === 0 ||
  value === false ||
  (typeof value === 'object' && JSON.stringify(value) === '{}');

function fieldText(schema: Schema, required: boolean, number: string | undefined, pointer: boolean): string {
  const words = [typeOf(schema) + (required ? '!' : '')];
  if (number !== undefined) words.push(`#${number}`);
  if (pointer) words.push('&');
  const add = (word: string, value: unknown): void => {
    if (value !== undefined) words.push(`${word}=${Array.isArray(value) ? value.join(',') : String(value)}`);
  };
  add('merge', schema['x-kubernetes-patch-merge-key']);
  add('strategy', schema['x-kubernetes-patch-strategy']);
  add('list', schema['x-kubernetes-list-type']);
  add('keys', schema['x-kubernetes-list-map-keys']);
  add('map', schema['x-kubernetes-map-type']);
  if (!isTrivial(schema.default) && JSON.stringify(schema.default) !== '{}')
    add('default', JSON.stringify(schema.default));
  return words.join(' ');
}

interface ProtoField {
  number: number;
  type: string;
}
type Protos = Map<string, Map<string, ProtoField>>;

/** Fields of every message in a generated.proto by `package/Type`; types are named as the data files name them. */
function readProto(file: string, into: Protos, pkg: string): void {
  let fields: Map<string, ProtoField> | undefined;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, message] = /^message (\w+) \{/.exec(line) ?? [];
    if (message !== undefined) {
      fields = new Map();
      into.set(`${pkg}/${message}`, fields);
    }
    const [, type, name, number] =
      /^ {2}(?:optional |repeated |required )?\s*(map<[^>]+>|[\w.]+) (\w+) = (\d+);/.exec(line) ?? [];
    if (type === undefined || name === undefined) continue;
    fields?.set(name.toLowerCase(), {
      number: Number(number),
      type: type.startsWith('.') ? split(type).join('/') : `${pkg}/${type}`,
    });
  }
}

interface GoStruct {
  pointers: Set<string>;
  embeds: string[];
}

/** Which fields of a struct are pointers, by their JSON names. */
function readGo(file: string, into: Map<string, GoStruct>, pkg: string): void {
  let current: GoStruct | undefined;
  for (const line of readFileSync(file, 'utf8').split('\n')) {
    const [, struct] = /^type (\w+) struct \{/.exec(line) ?? [];
    if (struct !== undefined) {
      current = { pointers: new Set(), embeds: [] };
      into.set(`${pkg}/${struct}`, current);
    }
    const [, embed] = /^\t([\w.]+)\s+`json:"(,inline)?"/.exec(line) ?? [];
    if (embed !== undefined) current?.embeds.push(embed);
    const [, pointer] = /^\t\w+\s+\*\S*\s+`.*json:"([^",]+)/.exec(line) ?? [];
    if (pointer !== undefined) current?.pointers.add(pointer);
  }
}

function isPointer(structs: ReadonlyMap<string, GoStruct>, name: string, field: string): boolean {
  const found = structs.get(name);
  if (found === undefined) return false;
  const pkg = name.slice(0, name.indexOf('/'));
  return found.pointers.has(field) || found.embeds.some((e) => isPointer(structs, `${pkg}/${e}`, field));
}

/** A field's number, through the embedded messages that JSON does not show: `2.1`. */
function numberOf(
  protos: Protos,
  name: string,
  wanted: { field: string; properties: ReadonlySet<string> },
  depth = 0,
): string | undefined {
  const { field, properties } = wanted;
  const fields = protos.get(name);
  const own = fields?.get(field.replace(/\W/g, '').toLowerCase());
  if (own !== undefined) return String(own.number);
  if (fields === undefined || depth > 3) return undefined;
  for (const [other, entry] of fields) {
    if (properties.has(other) || !protos.has(entry.type)) continue;
    const inner = numberOf(protos, entry.type, wanted, depth + 1);
    if (inner !== undefined) return `${entry.number}.${inner}`;
  }
  return undefined;
}

interface Sources {
  protos: Protos;
  structs: Map<string, GoStruct>;
}

function readSources(dirs: string[]): Sources {
  const sources: Sources = { protos: new Map(), structs: new Map() };
  const visit = (dir: string, depth: number): void => {
    const pkg = dir.split('/').slice(-2).join('.');
    for (const entry of readdirSync(dir, { withFileTypes: true })) {
      const path = join(dir, entry.name);
      if (entry.isDirectory() && depth < 6 && entry.name !== 'testdata') visit(path, depth + 1);
      else if (entry.name === 'generated.proto') readProto(path, sources.protos, pkg);
      else if (/types.*\.go$/.test(entry.name)) readGo(path, sources.structs, pkg);
    }
  };
  for (const dir of dirs) if (existsSync(dir)) visit(dir, 0);
  return sources;
}

function main(): void {
  const [kubernetes, ...protoDirs] = process.argv.slice(2);
  if (kubernetes === undefined) throw new Error('which directory holds k8s.io/kubernetes?');
  const sources = readSources(protoDirs);
  const packages = new Map<string, Map<string, Record<string, string>>>();
  const dir = join(kubernetes, 'api/openapi-spec/v3');
  for (const file of readdirSync(dir)) {
    const document = JSON.parse(readFileSync(join(dir, file), 'utf8')) as {
      components?: { schemas?: Record<string, Schema> };
    };
    for (const [name, schema] of Object.entries(document.components?.schemas ?? {}))
      addType(packages, sources, name, schema);
  }
  const out = join(import.meta.dirname, 'data');
  mkdirSync(out, { recursive: true });
  for (const [pkg, types] of packages) {
    const lines = [...types]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([type, fields]) => `${JSON.stringify(type)}:${JSON.stringify(fields)}`);
    writeFileSync(join(out, `${pkg}.json`), `{\n${lines.join(',\n')}\n}\n`);
  }
  writeApi();
}

function addType(
  packages: Map<string, Map<string, Record<string, string>>>,
  sources: Sources,
  name: string,
  schema: Schema,
): void {
  if (scalars[name] !== undefined || name.endsWith('pkg.version.Info')) return;
  const [pkg, type] = split(name);
  const types = packages.get(pkg) ?? new Map<string, Record<string, string>>();
  packages.set(pkg, types);
  const fields: Record<string, string> = {};
  if (schema['x-kubernetes-map-type'] !== undefined) fields.$ = `map=${String(schema['x-kubernetes-map-type'])}`;
  const full = `${pkg}/${type}`;
  const properties = new Set(Object.keys(schema.properties ?? {}).map((p) => p.toLowerCase()));
  for (const [field, property] of Object.entries(schema.properties ?? {})) {
    const number = numberOf(sources.protos, full, { field, properties });
    if (sources.protos.has(full) && number === undefined && field !== 'kind' && field !== 'apiVersion')
      process.stderr.write(`no number: ${full}.${field}\n`);
    fields[field] = fieldText(
      property,
      schema.required?.includes(field) ?? false,
      number,
      isPointer(sources.structs, full, field),
    );
  }
  types.set(type, fields);
}

main();
