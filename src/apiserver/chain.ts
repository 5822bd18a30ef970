/**
 * The request chain, top to bottom:
 *
 *   parse request info → fairness → authenticate → impersonate → authorise → handler
 *
 * Fairness is one bound on what is under way; audit is not there yet. Each step sees what the earlier ones found. An error thrown anywhere becomes a `Status` here and nowhere else.
 */
import { ApiError, toApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import { authenticate } from './authn/authenticate.ts';
import { authorize, forbidden, isAllowed } from './authz/authorize.ts';
import type { RequestContext, Server } from './context.ts';
import { dispatch } from './dispatch.ts';
import { requestsInFlightMax } from './limits.ts';
import { countsOf } from './metrics.ts';
import { serveNonResource } from './non-resource.ts';
import { parseRequestInfo } from './request-info.ts';
import { answerStatus } from './respond.ts';

// walk kubectl-apply 2/8: the request chain, top to bottom: authenticate, impersonate, authorise, dispatch.
export async function runChain(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const info = parseRequestInfo(request);
  const counts = countsOf(server);
  counts.inFlight++;
  let code = 500;
  try {
    if (counts.inFlight > requestsInFlightMax) throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
    const authenticated = await authenticate(server, request);
    const user = isImpersonating(request) ? await impersonate(server, request, authenticated) : authenticated;
    if (info.isResource || !isOpen(info.path)) await authorize(server, user, info);
    if (!info.isResource) { const answer = await serveNonResource(server, request); code = answer.status; return answer; }
    const kind = server.kinds.find(info.group, info.version, info.resource);
    if (kind === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
    const context: RequestContext = { server, request, info, user, kind, warnings: [] };
    const answer = await dispatch(context);
    code = answer.status;
    return answer;
  } catch (error) {
    const known = toApiError(error);
    code = known.code;
    if (known.cause !== undefined) server.log.error('request failed', { method: request.method, path: request.path, error: known.cause });
    if (request.wantsObject === true) throw known;
    const answer = answerStatus(undefined, known.toStatus(), known.code);
    if (known.details?.retryAfterSeconds !== undefined) answer.headers['retry-after'] = String(known.details.retryAfterSeconds);
    return answer;
  } finally {
    counts.inFlight--;
    const key = `${info.verb} ${info.resource} ${code}`;
    counts.byVerbAndCode.set(key, (counts.byVerbAndCode.get(key) ?? 0) + 1);
  }
}

/** Health and version answer everybody, as `system:public-info-viewer` grants. */
const openPaths = new Set(['/healthz', '/livez', '/readyz', '/version', '/version/']);
function isOpen(path: string): boolean { return openPaths.has(path); }

function isImpersonating(request: ApiRequest): boolean {
  for (const header in request.headers) if (header.startsWith('impersonate-')) return true;
  return false;
}

/** `Impersonate-*` headers (Kubernetes, "User impersonation"). */
async function impersonate(server: Server, request: ApiRequest, user: UserInfo): Promise<UserInfo> {
  const name = request.headers['impersonate-user'];
  if (name === undefined) throw new ApiError('InternalError', 'Internal Server Error: requested impersonation without impersonating a user');
  const groups = (request.headers['impersonate-group'] ?? '').split(',').map((g) => g.trim()).filter((g) => g !== '');
  const check = async (group: string, resource: string, subject: string, namespace = ''): Promise<void> => {
    const attributes = { user, verb: 'impersonate', isResource: true, group, version: 'v1', resource, subresource: '', namespace, name: subject, path: request.path };
    if (!await isAllowed(server, attributes)) throw forbidden(attributes);
  };
  const account = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(name);
  if (account !== null) await check('', 'serviceaccounts', account[2]!, account[1]!); else await check('', 'users', name);
  for (const group of groups) await check('', 'groups', group);
  const implied = account === null ? [] : ['system:serviceaccounts', `system:serviceaccounts:${account[1]}`];
  const extra: Record<string, string[]> = {};
  for (const [header, value] of Object.entries(request.headers)) if (header.startsWith('impersonate-extra-') && value !== undefined) extra[decodeURIComponent(header.slice(18))] = [value];
  const all = new Set([...groups, ...(groups.length === 0 ? implied : []), name === 'system:anonymous' ? 'system:unauthenticated' : 'system:authenticated']);
  return { name, groups: [...all], extra };
}
