/**
 * Which resources the server has now, by discovery; used by those who must touch every kind (namespaces, garbage
 * collection, quotas), or one that a user names (autoscalers).
 */
import type { APIGroupList, APIResourceList } from '#api/meta.v1.ts';
import type { KindRef } from '#base/objects.ts';
import { apiVersionOf, groupVersionOf } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kindOf, kinds } from '#base/kinds.ts';

export interface DiscoveredResource {
  kind: KindRef;
  verbs: readonly string[];
}
export interface Discovered {
  resources: DiscoveredResource[];
  /** Groups that did not answer. */ failed: string[];
}

/**
 * All resources in the preferred version of their group; subresources left out. Groups that fail are named, not thrown.
 */
export async function discoverResources(client: Client): Promise<Discovered> {
  const resources: DiscoveredResource[] = [];
  const failed: string[] = [];
  const read = async (path: string, group: string, version: string): Promise<void> => {
    try {
      const list = await client.raw<APIResourceList>('GET', path);
      for (const resource of list.resources) {
        if (resource.name.includes('/')) continue;
        resources.push({
          kind: kindOf(apiVersionOf({ group, version }), resource.name, resource.kind, resource.namespaced),
          verbs: resource.verbs,
        });
      }
    } catch {
      failed.push(apiVersionOf({ group, version }));
    }
  };
  await read('/api/v1', '', 'v1');
  const groups = await client.raw<APIGroupList>('GET', '/apis');
  for (const group of groups.groups) {
    const version = group.preferredVersion?.version ?? group.versions[0]?.version;
    if (version === undefined) continue;
    await read(`/apis/${group.name}/${version}`, group.name, version);
  }
  return { resources, failed };
}

/** The kind that a reference names: one of this platform's own, or what the server has now. */
export async function resolveKind(client: Client, reference: { apiVersion?: string; kind: string }): Promise<KindRef> {
  const { group, version } = groupVersionOf(reference.apiVersion ?? 'v1');
  const isNamed = (kind: KindRef): boolean => kind.group === group && kind.kind === reference.kind;
  const own = Object.values<KindRef>(kinds).find(isNamed);
  const found = own ?? (await discoverResources(client)).resources.find(({ kind }) => isNamed(kind))?.kind;
  return found === undefined
    ? kindOf(reference.apiVersion ?? 'v1', `${reference.kind.toLowerCase()}s`, reference.kind)
    : { ...found, version };
}
