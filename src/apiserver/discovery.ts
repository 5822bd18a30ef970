/** Discovery, aggregated (apidiscovery.k8s.io/v2) and classic: which groups, versions and resources are served. */
import type { ApiRequest, ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { APIService } from '#api/apiregistration.v1.ts';
import type { APIResource } from '#api/meta.v1.ts';
import type { KindRecord } from '#schema/kind.ts';
import { groupVersionOf, isAvailable } from './remote-apis.ts';
import type { Server } from './context.ts';
import { answerJson } from './respond.ts';

function aggregatedVersion(request: ApiRequest): string | undefined {
  for (const part of (request.headers.accept ?? '').split(',')) {
    if (!part.includes('g=apidiscovery.k8s.io') || !part.includes('as=APIGroupDiscoveryList')) continue;
    const version = /v=(v2beta1|v2)/.exec(part)?.[1];
    if (version !== undefined && !part.includes('protobuf')) return version;
  }
  return undefined;
}

const responseKind = (group: string, version: string, kind: string): object => ({ group, version, kind });

function resourceDiscovery(kind: KindRecord): object {
  const subresources = Object.entries(kind.subresources)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, s]) => ({
      subresource: name,
      responseKind: responseKind(s.group ?? kind.group, s.version ?? kind.version, s.kind ?? kind.kind),
      verbs: s.verbs,
    }));
  return {
    resource: kind.resource,
    responseKind: responseKind(kind.group, kind.version, kind.kind),
    scope: kind.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: kind.singular,
    verbs: kind.verbs,
    ...(kind.shortNames.length > 0 ? { shortNames: kind.shortNames } : {}),
    ...(kind.categories.length > 0 ? { categories: kind.categories } : {}),
    ...(subresources.length > 0 ? { subresources } : {}),
  };
}

/** A version of a group: its kinds, or the APIService that leads to who has them. */
type ServedVersion = { version: string; kinds: readonly KindRecord[] } | { version: string; remote: APIService };
interface ServedGroup {
  group: string;
  versions: readonly ServedVersion[];
}

/** Groups of this server and of those that it aggregates; a version that is elsewhere is not here. */
async function groupsOf(server: Server): Promise<ServedGroup[]> {
  const remote = (await server.live.apiServices.current()).in();
  const own: ServedGroup[] = server.kinds.groups();
  if (remote.size === 0) return own;
  const groups = new Map(own.map(({ group, versions }) => [group, [...versions]]));
  for (const service of remote.values()) {
    const { group = '', version = '' } = service.spec ?? {};
    const others = (groups.get(group) ?? []).filter((each) => each.version !== version);
    groups.set(group, [...others, { version, remote: service }]);
  }
  return [...groups].map(([group, versions]) => ({ group, versions }));
}

function versionDiscovery(server: Server, served: ServedVersion): object {
  const { version } = served;
  if ('kinds' in served) return { version, freshness: 'Current', resources: served.kinds.map(resourceDiscovery) };
  const { remote } = served;
  const list = server.remoteApis.resourcesOf(groupVersionOf(remote));
  const resources = list === undefined ? [] : remoteDiscovery(list.resources, remote);
  return { version, freshness: isAvailable(remote) && list !== undefined ? 'Current' : 'Stale', resources };
}

/** What another server says of its resources, with what lies below each. */
function remoteDiscovery(resources: readonly APIResource[], { spec }: APIService): object[] {
  const { group = '', version = '' } = spec ?? {};
  return resources
    .filter(({ name }) => !name.includes('/'))
    .map(({ name, kind, namespaced, singularName, verbs, shortNames = [], categories = [] }) => {
      const below = resources.filter((each) => each.name.startsWith(`${name}/`));
      return {
        resource: name,
        responseKind: responseKind(group, version, kind),
        scope: namespaced ? 'Namespaced' : 'Cluster',
        singularResource: singularName,
        verbs,
        ...(shortNames.length > 0 ? { shortNames } : {}),
        ...(categories.length > 0 ? { categories } : {}),
        ...(below.length === 0
          ? {}
          : {
              subresources: below.map((each) => ({
                subresource: each.name.slice(name.length + 1),
                responseKind: responseKind(group, version, each.kind),
                verbs: each.verbs,
              })),
            }),
      };
    });
}

async function aggregated(server: Server, core: boolean, version: string): Promise<ApiResponse> {
  const items = (await groupsOf(server))
    .filter((g) => (g.group === '') === core)
    .map((g) => ({
      metadata: { ...(g.group === '' ? {} : { name: g.group }), creationTimestamp: null },
      versions: g.versions.map((v) => versionDiscovery(server, v)),
    }));
  return answerJson(
    { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items },
    200,
    { 'content-type': `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`, vary: 'Accept' },
  );
}

/** `/api`. */
export async function serveApi(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const version = aggregatedVersion(request);
  if (version !== undefined) return aggregated(server, true, version);
  const address = server.options.advertise;
  return answerJson({
    kind: 'APIVersions',
    versions: ['v1'],
    serverAddressByClientCIDRs: [
      { clientCIDR: '0.0.0.0/0', serverAddress: address === undefined ? '' : `${address.address}:${address.port}` },
    ],
  });
}

function groupObject(group: string, versions: readonly string[]): object {
  const list = versions.map((version) => ({ groupVersion: `${group}/${version}`, version }));
  return { name: group, versions: list, preferredVersion: list[0] };
}

/** `/apis`. */
export async function serveApis(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const version = aggregatedVersion(request);
  if (version !== undefined) return aggregated(server, false, version);
  return answerJson({
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: (await groupsOf(server))
      .filter((g) => g.group !== '')
      .map((g) =>
        groupObject(
          g.group,
          g.versions.map((v) => v.version),
        ),
      ),
  });
}

/** `/apis/GROUP`. */
export async function serveGroup(server: Server, group: string): Promise<ApiResponse> {
  const found = (await groupsOf(server)).find((g) => g.group === group && group !== '');
  if (found === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  return answerJson({
    kind: 'APIGroup',
    apiVersion: 'v1',
    ...groupObject(
      group,
      found.versions.map((v) => v.version),
    ),
  });
}

/** `/api/v1`, `/apis/GROUP/VERSION`. */
export function serveGroupVersion(server: Server, group: string, version: string): ApiResponse {
  const found = server.kinds
    .groups()
    .find((g) => g.group === group)
    ?.versions.find((v) => v.version === version);
  if (found === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  const resources = found.kinds.flatMap((kind) => [
    {
      name: kind.resource,
      singularName: kind.singular,
      namespaced: kind.namespaced,
      kind: kind.kind,
      verbs: kind.verbs,
      ...(kind.shortNames.length > 0 ? { shortNames: kind.shortNames } : {}),
      ...(kind.categories.length > 0 ? { categories: kind.categories } : {}),
    },
    ...Object.entries(kind.subresources).map(([name, s]) => ({
      name: `${kind.resource}/${name}`,
      singularName: '',
      namespaced: kind.namespaced,
      ...(s.group === undefined ? {} : { group: s.group, version: s.version }),
      kind: s.kind ?? kind.kind,
      verbs: s.verbs,
    })),
  ]);
  return answerJson({
    kind: 'APIResourceList',
    ...(group === '' ? {} : { apiVersion: 'v1' }),
    groupVersion: apiVersionOf({ group, version }),
    resources,
  });
}
