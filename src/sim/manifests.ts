/**
 * Manifests for a simulated cluster: YAML as kubectl reads it, or values; applied server-side, each under the kind that
 * discovery names.
 */
import type { ObjectMeta } from '#api/meta.v1.ts';
import { groupVersionOf, type KubeObject, type OpenObject } from '#base/objects.ts';
import { fieldOf, isObject, itemsOf, textOf } from '#base/unknown.ts';
import { parseYaml, parseYamlDocuments } from '#base/yaml.ts';
import type { Client } from '#client/client.ts';
import { kindOf } from '#base/kinds.ts';
import { discoverResources } from '#controllers/discovery.ts';

export interface NamedObject extends KubeObject {
  metadata: ObjectMeta & { name: string };
}

/** What may be applied: YAML text of any number of documents, an object, or several. Lists are taken apart. */
export type Manifests = string | Applicable | readonly Applicable[];

/** An object of any kind, said in full or typed. */
type Applicable = KubeObject | OpenObject;

/** Whether a value is an object of some kind that has a name. */
export function isNamed(value: unknown): value is NamedObject {
  return isOfSomeKind(value) && Boolean(value.metadata.name);
}

function isOfSomeKind(value: unknown): value is KubeObject {
  return Boolean(textOf(value, 'apiVersion')) && Boolean(textOf(value, 'kind')) && isObject(fieldOf(value, 'metadata'));
}

/** One object from YAML text. Throws what is wrong with the text, and where it is no object of some kind. */
export function parseManifest(text: string): KubeObject {
  const value = parseYaml(text);
  if (!isOfSomeKind(value)) throw new Error(`apiVersion, kind or metadata is missing: ${shown(value)}`);
  return value;
}

const shown = (value: unknown): string => String(JSON.stringify(value)).slice(0, 200);

function objectsIn(manifests: Manifests): NamedObject[] {
  const values = typeof manifests === 'string' ? parseYamlDocuments(manifests) : [manifests].flat();
  return values
    .flatMap((value): readonly unknown[] =>
      textOf(value, 'kind') === 'List' ? itemsOf(fieldOf(value, 'items')) : [value],
    )
    .map((value) => {
      if (!isNamed(value)) throw new Error(`apiVersion, kind or metadata.name is missing: ${shown(value)}`);
      return value;
    });
}

/** Creates or replaces; a Namespace is filled in where a namespaced object names none. Answers what is there then. */
export async function applyManifests(client: Client, manifests: Manifests, namespace: string): Promise<KubeObject[]> {
  const applied: KubeObject[] = [];
  for (const object of objectsIn(manifests)) {
    const { resources } = await discoverResources(client);
    const { group } = groupVersionOf(object.apiVersion);
    const found = resources.find(({ kind }) => kind.group === group && kind.kind === object.kind)?.kind;
    if (found === undefined) throw new Error(`no matches for kind "${object.kind}" in version "${object.apiVersion}"`);
    const kind = kindOf(object.apiVersion, found.resource, found.kind, found.namespaced);
    const scope = kind.namespaced ? (object.metadata.namespace ?? namespace) : undefined;
    const options = { fieldManager: 'sim', force: true };
    applied.push(
      await client.patch(kind, { name: object.metadata.name, namespace: scope }, { apply: object }, options),
    );
  }
  return applied;
}
