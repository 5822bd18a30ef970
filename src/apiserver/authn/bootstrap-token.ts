/**
 * Bootstrap tokens (Kubernetes, "Authenticating with Bootstrap Tokens"): `ID.SECRET`, held in the Secret
 * `kube-system/bootstrap-token-ID`, by which a machine that has no identity yet asks for one. Such a user is
 * `system:bootstrap:ID`.
 */
import { timingSafeEqual } from 'node:crypto';
import type { UserInfo } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import type { Server } from '../context.ts';
import { lookUp } from '../lookup.ts';

const tokenPattern = /^([a-z0-9]{6})\.([a-z0-9]{16})$/;
const groupPattern = /^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$/;

export function isBootstrapToken(token: string): boolean {
  return tokenPattern.test(token);
}

/** Who holds the token; undefined where it is not valid now. */
export async function identifyBootstrapToken(server: Server, token: string): Promise<UserInfo | undefined> {
  const [, id = '', secret = ''] = tokenPattern.exec(token) ?? [];
  const object = await lookUp(server, kinds.Secret, `bootstrap-token-${id}`, 'kube-system');
  if (object === undefined) return undefined;
  const held = (key: string): string => Buffer.from(object.data?.[key] ?? '', 'base64').toString('utf8');
  const known = Buffer.from(held('token-secret'));
  const isValid =
    object.type === 'bootstrap.kubernetes.io/token' &&
    object.metadata.deletionTimestamp === undefined &&
    held('token-id') === id &&
    held('usage-bootstrap-authentication') === 'true' &&
    known.length === secret.length &&
    timingSafeEqual(known, Buffer.from(secret));
  if (!isValid) return undefined;
  const expiration = held('expiration');
  // What is no time has passed.
  if (expiration !== '' && !(Date.parse(expiration) > server.clock.now())) return undefined;
  const extra = held('auth-extra-groups')
    .split(',')
    .map((group) => group.trim())
    .filter((group) => groupPattern.test(group));
  return {
    name: `system:bootstrap:${id}`,
    groups: ['system:bootstrappers', ...extra, 'system:authenticated'],
  };
}
