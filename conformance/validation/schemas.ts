/** What the judge serves: kinds from its discovery, their structure from its OpenAPI documents. */
import { fieldOf, isObject } from '#base/unknown.ts';
import type { Side } from './side.ts';

export interface Schema {
  type?: string;
  format?: string;
  items?: Schema;
  properties?: Record<string, Schema>;
  additionalProperties?: Schema;
  required?: string[];
  enum?: unknown[];
  oneOf?: Schema[];
  $ref?: string;
  allOf?: Schema[];
  /** Of a named type: its last words, `v1.Container`. */
  name?: string;
}

export interface ServedKind {
  apiVersion: string;
  kind: string;
  resource: string;
  namespaced: boolean;
  hasStatus: boolean;
  schema: Schema;
}

async function read(side: Side, path: string): Promise<unknown> {
  const { status, body } = await side.ask({ method: 'GET', path, headers: { accept: 'application/json' } });
  if (status !== 200) throw new Error(`${side.name}: ${path}: ${status}`);
  return body;
}

/** `io.k8s.api.core.v1.Container` → `v1.Container`, with the group before it. */
const shortName = (name: string): string => name.split('.').slice(-3).join('.');

export class Schemas {
  readonly #all = new Map<string, Schema>();

  add(document: unknown): void {
    const schemas = fieldOf(document, 'components', 'schemas');
    if (!isObject(schemas)) return;
    for (const [name, schema] of Object.entries(schemas))
      this.#all.set(name, { ...(schema as Schema), name: shortName(name) });
  }

  /** A schema without its references. */
  resolve(schema: Schema): Schema {
    const reference = schema.$ref ?? schema.allOf?.[0]?.$ref;
    if (reference === undefined) return schema;
    return this.#all.get(reference.slice(reference.lastIndexOf('/') + 1)) ?? {};
  }

  ofKind(group: string, version: string, kind: string): Schema | undefined {
    for (const schema of this.#all.values()) {
      const names = (schema as Record<string, unknown>)['x-kubernetes-group-version-kind'];
      if (!Array.isArray(names) || names.length !== 1) continue;
      const [one] = names as { group: string; version: string; kind: string }[];
      if (one!.group === group && one!.version === version && one!.kind === kind) return schema;
    }
    return undefined;
  }
}

/** Every kind that can be created, of every version that the judge serves. */
export async function loadKinds(judge: Side): Promise<{ kinds: ServedKind[]; schemas: Schemas }> {
  const schemas = new Schemas();
  const kinds: ServedKind[] = [];
  const index = fieldOf(await read(judge, '/openapi/v3'), 'paths');
  const paths = Object.entries(isObject(index) ? index : {}).filter(([path]) => /^api\/|^apis\/.*\//.test(path));
  for (const [, entry] of paths) schemas.add(await read(judge, String(fieldOf(entry, 'serverRelativeURL'))));
  for (const [path] of paths) {
    const apiVersion = path.replace(/^apis?\//, '');
    const [version = '', group = ''] = apiVersion.split('/').reverse();
    const resources = fieldOf(await read(judge, `/${path}`), 'resources');
    const list = Array.isArray(resources) ? (resources as Record<string, unknown>[]) : [];
    for (const { name, kind, namespaced, verbs } of list) {
      const schema = schemas.ofKind(group, version, String(kind));
      if (String(name).includes('/') || !(verbs as string[]).includes('create') || schema === undefined) continue;
      kinds.push({
        apiVersion,
        kind: String(kind),
        resource: String(name),
        namespaced: namespaced === true,
        hasStatus: list.some((other) => other.name === `${String(name)}/status`),
        schema,
      });
    }
  }
  return { kinds, schemas };
}

/** Where objects of the kind are. */
export function pathOf({ apiVersion, resource, namespaced }: ServedKind, namespace: string): string {
  const root = apiVersion.includes('/') ? '/apis' : '/api';
  return `${root}/${apiVersion}/${namespaced ? `namespaces/${namespace}/` : ''}${resource}`;
}
