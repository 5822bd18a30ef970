/**
 * The request chain, top to bottom:
 *
 *   parse request info → fairness → sync → authenticate → impersonate → audit → authorise → read the body → handler
 *
 * Fairness is one bound on what is under way; the store is synced where several servers share one; audit is a slot
 * (`audit.ts`). Each step sees what the earlier ones found. An error thrown anywhere becomes a `Status` here and
 * nowhere else.
 */
import { ApiError, toApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import type { AuditEvent } from './audit.ts';
import { authenticate } from './authn/authenticate.ts';
import { impersonate, isImpersonating } from './authn/impersonate.ts';
import { authorize } from './authz/authorizer-chain.ts';
import type { RequestContext, Server } from './context.ts';
import { dispatch } from './dispatch.ts';
import { requestsInFlightMax, unconfirmedMsMax } from './limits.ts';
import { beginRequest, endRequest } from './metrics.ts';
import { serveNonResource } from './non-resource.ts';
import { findRemote, serveRemote } from './remote-requests.ts';
import { parseRequestInfo, type RequestInfo } from './request-info.ts';
import { answerStatus } from './respond.ts';

// walk kubectl-apply 2/8: the request chain, top to bottom: authenticate, impersonate, authorise, dispatch.
export async function runChain(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const { clock, requests, audit, kinds } = server;
  const info = parseRequestInfo(request);
  const begunMs = clock.monotonic();
  const event: AuditEvent = {
    request,
    info,
    receivedAtMs: clock.now(),
    user: undefined,
    impersonated: undefined,
    code: 0,
  };
  beginRequest(requests, info);
  try {
    const answer = await answerRequest(server, request, event);
    event.code = answer.status;
    return answer;
  } catch (error) {
    const known = toApiError(error);
    event.code = known.code;
    return answerError(server, request, known);
  } finally {
    endRequest(requests, info, kinds, { code: event.code, seconds: (clock.monotonic() - begunMs) / 1000 });
    audit.complete(event);
  }
}

async function answerRequest(server: Server, request: ApiRequest, event: AuditEvent): Promise<ApiResponse> {
  const { info } = event;
  if (server.requests.inFlight > requestsInFlightMax)
    throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
  if (server.store.isShared && mustKnowAll(server, request, info)) await server.store.sync();
  let user: UserInfo;
  try {
    const authenticated = (event.user = await authenticate(server, request));
    user = isImpersonating(request) ? await impersonate(server, request, authenticated) : authenticated;
    if (user !== authenticated) event.impersonated = user;
  } finally {
    server.audit.received(event);
  }
  checkConfirmed(server, user);
  if (info.isResource || !isOpen(info.path)) await authorize(server, user, info);
  const remote = request.path.includes('/apis/') ? await findRemote(server, request.path) : undefined;
  if (remote !== undefined) return serveRemote(server, request, user, remote);
  if (!info.isResource) return serveNonResource(server, request);
  const kind = server.kinds.find(info.group, info.version, info.resource);
  if (kind === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  // Only who is known and allowed is listened to any longer; what is proxied passes through unread.
  if (request.readBody !== undefined && info.subresource !== 'proxy') request.body = await request.readBody(user);
  const context: RequestContext = { server, request, info, user, kind, warnings: [] };
  return dispatch(context);
}

/**
 * Whether the request is to see every write that any server has acknowledged before. Not so where the client is content
 * with a revision that this server has seen: any (`0`), or that one (Kubernetes API concepts, "Resource versions").
 */
function mustKnowAll(server: Server, { query }: ApiRequest, { isResource, verb }: RequestInfo): boolean {
  if (!isResource) return false;
  if (verb !== 'get' && verb !== 'list' && verb !== 'watch') return true;
  const revision = query.get('resourceVersion') ?? '';
  return revision === '' || !(Number(revision) <= server.store.currentRevision());
}

/**
 * A server that has reached no majority of its store for a while does not know which permissions were taken away since:
 * then nobody is authorised but administrators and nodes.
 */
function checkConfirmed(server: Server, { groups }: UserInfo): void {
  if (server.store.unconfirmedMs() < unconfirmedMsMax) return;
  if (groups.includes('system:masters') || groups.includes('system:nodes')) return;
  throw new ApiError('ServiceUnavailable', 'the server has lost its store and cannot tell what is permitted', {
    retryAfterSeconds: 1,
  });
}

function answerError(server: Server, request: ApiRequest, known: ApiError): ApiResponse {
  if (known.cause !== undefined)
    server.log.error('request failed', { method: request.method, path: request.path, error: known.cause });
  if (request.wantsObject === true) throw known;
  const answer = answerStatus(undefined, known.toStatus(), known.code);
  if (known.details?.retryAfterSeconds !== undefined)
    answer.headers['retry-after'] = String(known.details.retryAfterSeconds);
  return answer;
}

/** Health and version answer everybody, as `system:public-info-viewer` grants. */
const openPaths = new Set(['/healthz', '/livez', '/readyz', '/version', '/version/']);
function isOpen(path: string): boolean {
  return openPaths.has(path);
}
