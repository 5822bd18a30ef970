/**
 * The request chain, top to bottom:
 *
 *   parse request info → sync → authenticate → audit → impersonate → flow control → authorise → read the body → handler
 *
 * The store is synced where several servers share one. Flow control (`flow-control/flow-control.ts`) comes before
 * anything that takes time or memory. Each step sees what the earlier ones found. An error thrown anywhere becomes a
 * `Status` here and nowhere else.
 */
import { ApiError, toApiError } from '#base/errors.ts';
import type { ApiRequest, ApiResponse, UserInfo } from '#base/api-request.ts';
import type { Audited, AuditRecord, Outcome } from './audit/auditor.ts';
import { authenticate } from './authn/authenticate.ts';
import { impersonate, isImpersonating } from './authn/impersonate.ts';
import { authorize } from './authz/authorizer-chain.ts';
import type { RequestContext, Server } from './context.ts';
import { dispatch } from './dispatch.ts';
import { TooManyRequests, type Admission, type AdmittedBy } from './flow-control/flow-control.ts';
import { auditIdCharsMax, requestsInFlightMax, unconfirmedMsMax } from './limits.ts';
import { beginRequest, endRequest } from './metrics.ts';
import { serveNonResource } from './non-resource.ts';
import { servePlatformPath } from './platform-paths.ts';
import { findRemote, serveRemote } from './remote-requests.ts';
import { parseRequestInfo, type RequestInfo } from './request-info.ts';
import { answerStatus, answerText } from './respond.ts';

/** What is known of a request; grows on its way. */
interface Progress extends Audited {
  /** Where it is audited. */
  record: AuditRecord | undefined;
  /** What lets it be carried out, once something does. */
  admission: Admission | undefined;
  /** Once it is dispatched: what clients are warned of goes with a refusal, too. */
  context: RequestContext | undefined;
}

// walk kubectl-apply 2/8: the request chain, top to bottom: authenticate, impersonate, authorise, dispatch.
export async function runChain(server: Server, request: ApiRequest): Promise<ApiResponse> {
  const { clock, requests, kinds } = server;
  const info = parseRequestInfo(request);
  const begunMs = clock.monotonic();
  const progress: Progress = {
    request,
    info,
    receivedAtMs: clock.now(),
    user: undefined,
    record: undefined,
    admission: undefined,
    context: undefined,
  };
  beginRequest(requests, info);
  let code = 0;
  try {
    const answer = await answerRequest(server, request, progress);
    code = answer.status;
    holdSeat(progress, answer);
    finishAudit(server, progress, { answer });
    return withAuditId(progress, answer);
  } catch (error) {
    progress.admission?.release();
    const known = toApiError(error);
    code = known.code;
    finishAudit(server, progress, { error: known });
    return withAuditId(progress, answerError(server, request, known, progress));
  } finally {
    const goesOn = code < 300 && lasts(info) && request.wantsObject !== true;
    const lasting = goesOn ? request.signal : undefined;
    endRequest(requests, info, kinds, { code, seconds: (clock.monotonic() - begunMs) / 1000, lasting });
  }
}

async function answerRequest(server: Server, request: ApiRequest, progress: Progress): Promise<ApiResponse> {
  const { info } = progress;
  if (server.requests.inFlight > requestsInFlightMax)
    throw new ApiError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds: 1 });
  if (server.store.isShared && mustKnowAll(server, request, info)) await server.store.sync();
  const authenticated = (progress.user = await authenticate(server, request));
  const record = (progress.record = server.audit?.begin(progress));
  const user = isImpersonating(request) ? await impersonate(server, request, authenticated) : authenticated;
  if (record !== undefined && user !== authenticated) record.impersonated = user;
  checkConfirmed(server, user);
  if (!isLongRunning(info)) {
    const admitted = server.flowControl.admit(request, user, info);
    progress.admission = admitted instanceof Promise ? await admitted : admitted;
  }
  const own = info.isResource ? undefined : server.options.platformPaths?.get(info.path);
  if (own !== undefined) return servePlatformPath(own, request, authenticated);
  if (info.isResource || !isOpen(info.path)) await authorize(server, user, info, record);
  const remote = request.path.includes('/apis/') ? await findRemote(server, request.path) : undefined;
  if (remote !== undefined) return serveRemote(server, request, user, remote);
  if (!info.isResource) return serveNonResource(server, request);
  const kind = server.kinds.find(info.group, info.version, info.resource);
  if (kind === undefined) throw new ApiError('NotFound', 'the server could not find the requested resource', {});
  // Only who is known and allowed is listened to any longer; what is proxied passes through unread.
  if (request.readBody !== undefined && info.subresource !== 'proxy') request.body = await request.readBody(user);
  const context: RequestContext = (progress.context = {
    server,
    request,
    info,
    user,
    kind,
    warnings: [],
    ...(record === undefined ? {} : { audit: record }),
  });
  const { admission } = progress;
  if (admission !== undefined) context.pause = () => admission.pause();
  if (info.verb === 'watch') context.onBegun = () => progress.admission?.release();
  return dispatch(context);
}

/** What lasts is recorded when it begins and when it ends; who could not be known is recorded once. */
function finishAudit({ audit }: Server, progress: Progress, outcome: Outcome): void {
  if (audit === undefined) return;
  const { record, user, info, request } = progress;
  if (record === undefined) {
    if (user !== undefined || !('error' in outcome) || outcome.error.code !== 401) return;
    const attempted = request.headers.authorization === undefined ? 'x509' : 'bearer';
    const unknown = audit.begin(progress);
    const message = `Authentication failed, attempted: ${attempted}`;
    if (unknown !== undefined) audit.end(unknown, progress, 'ResponseStarted', { message, code: 401 });
    return;
  }
  const goesOn = lasts(info);
  if (goesOn) audit.end(record, progress, 'ResponseStarted', outcome);
  if (!goesOn || 'error' in outcome || request.signal.aborted) audit.end(record, progress, 'ResponseComplete', outcome);
  else
    request.signal.addEventListener('abort', () => audit.end(record, progress, 'ResponseComplete', outcome), {
      once: true,
    });
}

/** By which a client and an auditor speak of the same request, where one of them does. */
function withAuditId({ request, record }: Progress, answer: ApiResponse): ApiResponse {
  const id = record?.id ?? request.headers['audit-id'];
  if (id !== undefined && id !== '' && request.wantsObject !== true)
    answer.headers['audit-id'] = id.slice(0, auditIdCharsMax);
  return answer;
}

/** What lasts and is no watch is not counted (Kubernetes, "API Priority and Fairness", "Exempt requests"). */
const lastingSubresources = new Set(['attach', 'exec', 'proxy', 'log', 'portforward']);
const isLongRunning = ({ isResource, subresource }: RequestInfo): boolean =>
  isResource && subresource !== '' && lastingSubresources.has(subresource);

const lasts = (info: RequestInfo): boolean => info.verb === 'watch' || isLongRunning(info);

/** A seat is taken until the answer is there, has been sent where it goes out in pieces, or has begun to wait. */
function holdSeat({ admission, request, info }: Progress, answer: ApiResponse): void {
  if (admission === undefined) return;
  if (request.wantsObject !== true) setAdmittedHeaders(answer, admission);
  const { body } = answer;
  const pieces = body === undefined || body instanceof Uint8Array ? undefined : body;
  if (info.verb !== 'watch' && pieces === undefined) return admission.release();
  if (request.signal.aborted) return admission.release();
  request.signal.addEventListener('abort', () => admission.release(), { once: true });
  if (info.verb !== 'watch' && pieces !== undefined) answer.body = releasing(pieces, admission);
}

function setAdmittedHeaders({ headers }: ApiResponse, { schemaUid, levelUid }: AdmittedBy): void {
  headers['x-kubernetes-pf-flowschema-uid'] = schemaUid;
  headers['x-kubernetes-pf-prioritylevel-uid'] = levelUid;
}

async function* releasing(body: AsyncIterable<Uint8Array>, admission: Admission): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } finally {
    admission.release();
  }
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

function answerError(
  server: Server,
  request: ApiRequest,
  known: ApiError,
  { context, admission }: Progress,
): ApiResponse {
  if (known.cause !== undefined)
    server.log.error('request failed', { method: request.method, path: request.path, error: known.cause });
  if (request.wantsObject === true) throw known;
  const answer =
    known instanceof TooManyRequests
      ? answerText(`${known.message}\n`, known.code)
      : answerStatus(context, known.toStatus(), known.code);
  const by = known instanceof TooManyRequests ? known.by : admission;
  if (by !== undefined) setAdmittedHeaders(answer, by);
  if (known.details?.retryAfterSeconds !== undefined)
    answer.headers['retry-after'] = String(known.details.retryAfterSeconds);
  return answer;
}

/** Health and version answer everybody, as `system:public-info-viewer` grants. */
const openPaths = new Set(['/healthz', '/livez', '/readyz', '/version', '/version/']);
function isOpen(path: string): boolean {
  return openPaths.has(path);
}
