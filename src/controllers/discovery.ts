/**
 * Which resources the server has now, by discovery; used by those who must touch every kind (namespaces, garbage
 * collection, quotas).
 */
import type { APIGroupList, APIResourceList } from '#api/meta.v1.ts';
import type { KindRef } from '#base/objects.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { Client } from '#client/client.ts';
import { kindOf } from '#base/kinds.ts';

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
