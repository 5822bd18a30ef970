/**
 * Who is asking: a client certificate (the transport sets `request.user`), a ServiceAccount's or a bootstrap token, or
 * nobody. The order and the names are Kubernetes' ("Authenticating"). A bearer token that is wrong is refused; only a
 * request without credentials is anonymous.
 */
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import { isRevoked, nodeOfUser, removedNodes } from '#base/node-identity.ts';
import type { Server } from '../context.ts';
import { lookUp } from '../lookup.ts';
import type { TokenClaims } from '../tokens.ts';
import { identifyBootstrapToken, isBootstrapToken } from './bootstrap-token.ts';
import { identifyByHeaders } from './request-header.ts';

const anonymous: UserInfo = { name: 'system:anonymous', groups: ['system:unauthenticated'] };
const verifiedTokensMax = 4096;

export function issuerOf(server: Server): string {
  return `https://kubernetes.default.svc.${server.options.domain ?? 'cluster.local'}`;
}

/** Signatures are checked once; what a token is bound to is checked each time. */
function verified(server: Server, token: string): TokenClaims | undefined {
  const { tokens, verifiedTokens } = server;
  let claims = verifiedTokens.get(token);
  if (claims === undefined) {
    claims = tokens.verify(token);
    if (claims === undefined) return undefined;
    if (verifiedTokens.size >= verifiedTokensMax) verifiedTokens.clear();
    verifiedTokens.set(token, claims);
  }
  return claims;
}

export interface TokenIdentity {
  user: UserInfo;
  audiences: string[];
}

/** The identity that a token proves now; undefined when it proves none. */
async function identifyToken(
  server: Server,
  token: string,
  audiences: readonly string[],
): Promise<TokenIdentity | undefined> {
  const claims = verified(server, token);
  if (claims === undefined || claims.iss !== issuerOf(server)) return undefined;
  const seconds = server.clock.now() / 1000;
  if (seconds >= claims.exp || seconds < claims.nbf - 60) return undefined;
  const shared = claims.aud.filter((a) => audiences.includes(a));
  if (shared.length === 0) return undefined;
  const bound = claims['kubernetes.io'];
  const { namespace } = bound;
  const accounts = await server.live.serviceAccounts.current();
  if (accounts.get(namespace, bound.serviceaccount.name)?.metadata.uid !== bound.serviceaccount.uid) return undefined;
  const extra: Record<string, string[]> = { 'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`] };
  for (const [field, prefix] of [
    ['pod', `/registry/pods/${namespace}/`],
    ['secret', `/registry/secrets/${namespace}/`],
    ['node', '/registry/nodes/'],
  ] as const) {
    const reference = bound[field];
    if (reference === undefined) continue;
    const found = await server.store.get(prefix + reference.name);
    if (field !== 'node' && (found === undefined || server.objects.view(found).metadata.uid !== reference.uid))
      return undefined;
    if (field !== 'secret') {
      extra[`authentication.kubernetes.io/${field}-name`] = [reference.name];
      if (reference.uid !== undefined) extra[`authentication.kubernetes.io/${field}-uid`] = [reference.uid];
    }
  }
  const user: UserInfo = {
    name: claims.sub,
    ...(bound.serviceaccount.uid === undefined ? {} : { uid: bound.serviceaccount.uid }),
    groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
    extra,
  };
  return { user, audiences: shared };
}

/** Throws where a node comes with a certificate of before it was taken out of the cluster. */
async function refuseRemoved(server: Server, { user, certifiedAtMs }: ApiRequest): Promise<void> {
  if (user === undefined || certifiedAtMs === undefined || nodeOfUser(user.name) === undefined) return;
  const removed = await lookUp(server, kinds.ConfigMap, removedNodes.name, removedNodes.namespace);
  if (isRevoked({ name: user.name, issuedAtMs: certifiedAtMs }, removed?.data))
    throw new ApiError('Unauthorized', 'Unauthorized');
}

export async function authenticate(server: Server, request: ApiRequest): Promise<UserInfo> {
  await refuseRemoved(server, request);
  if (request.user !== undefined)
    return request.user.groups.includes('system:authenticated') || request.user.name === anonymous.name
      ? request.user
      : { ...request.user, groups: [...request.user.groups, 'system:authenticated'] };
  const proxy = server.authenticators?.proxy;
  if (request.isFromProxy === true && proxy !== undefined) {
    const named = identifyByHeaders(request, proxy);
    if (named !== undefined) return { ...named, groups: [...named.groups, 'system:authenticated'] };
  }
  const header = request.headers.authorization ?? '';
  const token = /^Bearer\s+(\S+)$/i.exec(header)?.[1] ?? websocketToken(request);
  if (token !== undefined) {
    const user = await identifyBearer(server, token, [issuerOf(server)]);
    if (user !== undefined) return user.user;
    throw new ApiError('Unauthorized', 'Unauthorized');
  }
  const isAllowed = server.authenticators?.allowsAnonymous(request.path) ?? server.options.anonymous !== false;
  if (header !== '' || !isAllowed) throw new ApiError('Unauthorized', 'Unauthorized');
  return anonymous;
}

/** Whose token it is, whoever says so; undefined where nobody does. */
export async function identifyBearer(
  server: Server,
  token: string,
  audiences: readonly string[],
): Promise<TokenIdentity | undefined> {
  const own = isBootstrapToken(token)
    ? await identifyBootstrapToken(server, token)
    : await identifyToken(server, token, audiences);
  if (own !== undefined) return 'user' in own ? own : { user: own, audiences: [...audiences] };
  const other = await server.authenticators?.identify(token, audiences);
  return other === undefined ? undefined : { user: other, audiences: [...audiences] };
}

/** Browsers cannot set headers on a WebSocket: the token comes as a subprotocol. */
function websocketToken(request: ApiRequest): string | undefined {
  const protocol = (request.headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((p) => p.trim())
    .find((p) => p.startsWith('base64url.bearer.authorization.k8s.io.'));
  return protocol === undefined
    ? undefined
    : Buffer.from(protocol.slice('base64url.bearer.authorization.k8s.io.'.length), 'base64url').toString();
}
