/** Requests that an aggregated API server answers: found by their path, passed on with who asks. */
import type { APIService } from '#api/apiregistration.v1.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { isObject } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import { identityHeaders, remoteTarget } from './aggregation.ts';
import { isAvailable } from './remote-apis.ts';
import { answerConnect } from './connect.ts';
import type { Server } from './context.ts';
import { remoteCallMs } from './limits.ts';

/** What this server answers whatever APIServices say: who gave it away could never take it back. */
const keptGroup = 'apiregistration.k8s.io/';

/** The APIService that a path belongs to; undefined where this server answers it itself. */
export async function findRemote(server: Server, path: string): Promise<APIService | undefined> {
  const found = /^(?:\/openapi\/v3)?\/apis\/([^/]+\/[^/]+)(?:\/|$)/.exec(path)?.[1];
  return found === undefined || found.startsWith(keptGroup)
    ? undefined
    : (await server.live.apiServices.current()).in().get(found);
}

export async function serveRemote(
  server: Server,
  request: ApiRequest,
  user: UserInfo,
  service: APIService,
): Promise<ApiResponse> {
  if (!isAvailable(service)) throw new ApiError('ServiceUnavailable', 'service unavailable');
  let target;
  try {
    target = await remoteTarget(server, service);
  } catch (error) {
    throw new ApiError('ServiceUnavailable', `error trying to reach service: ${messageOf(error)}`);
  }
  const query = request.query.toString();
  const path = `${request.path}${query === '' ? '' : `?${query}`}`;
  const headers = identityHeaders(user);
  if (request.wantsObject === true) return askFor(server, target, { request, path, headers });
  return answerConnect({
    scheme: 'https',
    host: target.host,
    port: target.port,
    path,
    kubelet: false,
    remote: { target, headers },
  });
}

interface Asked {
  request: ApiRequest;
  path: string;
  headers: Record<string, string | string[]>;
}

/** For callers in this process, who read objects and not bytes; they do not watch what others serve. */
async function askFor(
  server: Server,
  target: Parameters<NonNullable<Server['callRemote']>>[0],
  { request, path, headers }: Asked,
): Promise<ApiResponse> {
  if (server.callRemote === undefined) throw new ApiError('ServiceUnavailable', 'service unavailable');
  const body = request.object === undefined ? request.body : Buffer.from(JSON.stringify(request.object));
  const { status, body: text } = await server
    .callRemote(target, {
      method: request.method,
      path,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': request.headers['content-type'] ?? 'application/json' }),
        ...headers,
      },
      ...(body === undefined ? {} : { body }),
      timeoutMs: remoteCallMs,
    })
    .catch((error: unknown) => {
      throw new ApiError('ServiceUnavailable', `error trying to reach service: ${messageOf(error)}`);
    });
  try {
    const object: unknown = JSON.parse(Buffer.from(text).toString());
    if (isObject(object)) return { status, headers: {}, object };
  } catch {
    // What is no JSON is no answer.
  }
  throw new ApiError('InternalError', `the server answered ${status} without an object`);
}
