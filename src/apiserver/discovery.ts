/** Discovery, aggregated (apidiscovery.k8s.io/v2) and classic: which groups, versions and resources are served. */
import type { ApiRequest, ApiResponse } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { apiVersionOf } from '#base/objects.ts';
import type { KindRecord } from '#schema/kind.ts';
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

function aggregated(server: Server, core: boolean, version: string): ApiResponse {
  const items = server.kinds
    .groups()
    .filter((g) => (g.group === '') === core)
    .map((g) => ({
      metadata: { ...(g.group === '' ? {} : { name: g.group }), creationTimestamp: null },
      versions: g.versions.map((v) => ({
        version: v.version,
        freshness: 'Current',
        resources: v.kinds.map(resourceDiscovery),
      })),
    }));
  return answerJson(
    { kind: 'APIGroupDiscoveryList', apiVersion: `apidiscovery.k8s.io/${version}`, metadata: {}, items },
    200,
    { 'content-type': `application/json;g=apidiscovery.k8s.io;v=${version};as=APIGroupDiscoveryList`, vary: 'Accept' },
  );
}

/** `/api`. */
export function serveApi(server: Server, request: ApiRequest): ApiResponse {
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
export function serveApis(server: Server, request: ApiRequest): ApiResponse {
  const version = aggregatedVersion(request);
  if (version !== undefined) return aggregated(server, false, version);
  return answerJson({
    kind: 'APIGroupList',
    apiVersion: 'v1',
    groups: server.kinds
      .groups()
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
export function serveGroup(server: Server, group: string): ApiResponse {
  const found = server.kinds.groups().find((g) => g.group === group && group !== '');
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
