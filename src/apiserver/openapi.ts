/**
 * `/openapi/v3`, `/openapi/v3/…` and `/openapi/v2`; documents are made when first asked for and kept until the served
 * kinds change.
 */
import { createHash } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse } from '#base/api-request.ts';
import { openDescriptions } from './descriptions.ts';
import { openApiV2, openApiV3 } from '#schema/openapi.ts';
import { encodeOpenApiV2 } from '#schema/openapi-protobuf.ts';
import type { OpenApiDocuments, Server } from './context.ts';
import { answerJson } from './respond.ts';
import { defaultGitVersion } from './version.ts';

function documentsOf(server: Server): OpenApiDocuments {
  const { generation } = server.kinds;
  if (server.openApi?.generation !== generation) server.openApi = { generation, v3: new Map() };
  return server.openApi;
}

const hashOf = (body: Uint8Array): string => createHash('sha512').update(body).digest('hex').slice(0, 64).toUpperCase();

function pathOf(group: string, version: string): string {
  return group === '' ? `api/${version}` : `apis/${group}/${version}`;
}

/** Grows when this program tells otherwise of the same kinds. */
const documentForm = 2;

/**
 * A tag that is known without making the document: the kinds' generation and the program's version decide its content.
 */
function tagOf(server: Server, path: string): string {
  return hashOf(
    Buffer.from(`${documentForm} ${path} ${server.kinds.generation} ${server.options.gitVersion ?? defaultGitVersion}`),
  );
}

async function serveIndex(server: Server): Promise<ApiResponse> {
  const paths: Record<string, { serverRelativeURL: string }> = {};
  for (const { group, versions } of server.kinds.groups()) {
    for (const { version } of versions) {
      const path = pathOf(group, version);
      paths[path] = { serverRelativeURL: `/openapi/v3/${path}?hash=${tagOf(server, path)}` };
    }
  }
  // Those of aggregated servers are their own to tell.
  for (const groupVersion of (await server.live.apiServices.current()).in().keys())
    paths[`apis/${groupVersion}`] = { serverRelativeURL: `/openapi/v3/apis/${groupVersion}` };
  return answerJson({ paths });
}

function serveV3(server: Server, request: ApiRequest, group: string, version: string): ApiResponse {
  const path = pathOf(group, version);
  const documents = documentsOf(server);
  let document = documents.v3.get(path);
  if (document === undefined) {
    const kinds = server.kinds
      .groups()
      .find((g) => g.group === group)
      ?.versions.find((v) => v.version === version)?.kinds;
    if (kinds === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
    document = {
      body: Buffer.from(
        JSON.stringify(openApiV3(kinds, server.options.gitVersion ?? defaultGitVersion, openDescriptions())),
      ),
      hash: tagOf(server, path),
    };
    documents.v3.set(path, document);
  }
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    etag: `"${document.hash}"`,
    vary: 'Accept',
  };
  if (request.query.get('hash') === document.hash) headers['cache-control'] = 'public, immutable';
  if (request.headers['if-none-match'] === headers.etag) return { status: 304, headers };
  return { status: 200, headers, body: document.body };
}

function serveV2(server: Server, request: ApiRequest): ApiResponse {
  const documents = documentsOf(server);
  if (documents.v2 === undefined) {
    const version = server.options.gitVersion ?? defaultGitVersion;
    const document = openApiV2([...server.kinds.all()], version, openDescriptions());
    const json = Buffer.from(JSON.stringify(document));
    documents.v2 = { json, protobuf: encodeOpenApiV2(document), hash: hashOf(json) };
  }
  const protobuf = (request.headers.accept ?? '').includes('proto-openapi.spec.v2');
  const headers: Record<string, string> = {
    'content-type': protobuf ? 'application/com.github.proto-openapi.spec.v2.v1.0+protobuf' : 'application/json',
    etag: `"${documents.v2.hash}${protobuf ? 'P' : ''}"`,
    vary: 'Accept',
  };
  if (request.headers['if-none-match'] === headers.etag) return { status: 304, headers };
  return { status: 200, headers, body: protobuf ? documents.v2.protobuf : documents.v2.json };
}

export async function serveOpenApi(
  server: Server,
  request: ApiRequest,
  parts: readonly string[],
): Promise<ApiResponse> {
  const [, form, root, third = '', fourth = ''] = parts;
  if (form === 'v2' && parts.length === 2) return serveV2(server, request);
  if (form === 'v3' && parts.length === 2) return serveIndex(server);
  if (form === 'v3' && root === 'api' && parts.length === 4) return serveV3(server, request, '', third);
  if (form === 'v3' && root === 'apis' && parts.length === 5) return serveV3(server, request, third, fourth);
  throw new ApiError('NotFound', 'the server could not find the requested resource', {});
}
