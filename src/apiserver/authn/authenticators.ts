/**
 * Who else may say who somebody is, beside this server's own certificates and tokens: issuers of JSON Web Tokens, a
 * token webhook, an authenticating proxy; and whether nobody may ask (Kubernetes, "Authenticating"). What a
 * configuration file says is taken up while the server runs; one that is wrong leaves what was there.
 */
import { createHash } from 'node:crypto';
import type { UserInfo } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { textOf, textsOf } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { knownTokenMs, knownTokensMax, tokenQuestionsMax } from '../limits.ts';
import type { ServerFlags } from '../server-flags.ts';
import { serverOfKubeconfig } from '../webhook-kubeconfig.ts';
import { followConfig } from '../follow-config.ts';
import {
  jwtConfigOfFlags,
  parseAuthenticationConfig,
  type AuthenticationConfig,
  type JwtConfig,
} from './authentication-config.ts';
import { userOfClaims } from './claims.ts';
import { Issuer } from './issuer.ts';
import { readJwt, type Jwt } from './jwt.ts';
import { proxyConfigOf, type ProxyConfig } from './request-header.ts';
import { TokenWebhook } from './token-webhook.ts';

/** Clocks of issuers may be so far ahead. */
const leewaySeconds = 300;

export interface AuthenticatorsOptions {
  flags: ServerFlags;
  /** That signs ServiceAccount tokens. */
  ownIssuer: string;
  clock: Clock;
  log: Logger;
}

interface JwtIssuer {
  config: JwtConfig;
  issuer: Issuer;
}

export class Authenticators implements Disposable {
  readonly proxy: ProxyConfig | undefined;
  readonly #options: AuthenticatorsOptions;
  readonly #webhook: TokenWebhook | undefined;
  readonly #stopFollowing: () => void;
  /** By the issuer that a token names. */
  #issuers = new Map<string, JwtIssuer>();
  #anonymous: AuthenticationConfig['anonymous'];
  /** Whose tokens are, by their digests, and until when that holds. */
  #known = new Map<string, { user: UserInfo; untilMs: number }>();
  #waiting = 0;

  /** Throws BadRequest for what cannot be. */
  constructor(options: AuthenticatorsOptions) {
    this.#options = options;
    const { flags, clock, ownIssuer, log } = options;
    checkFlags(flags);
    this.proxy = proxyConfigOf(flags);
    this.#webhook = webhookOf(flags, clock);
    const file = flags.text('authentication-config');
    if (file === '') {
      const jwt = jwtConfigOfFlags(flags, ownIssuer);
      this.#take({
        jwt: jwt === undefined ? [] : [jwt],
        anonymous: flags.boolean('anonymous-auth', true) ? undefined : { enabled: false, paths: [] },
      });
      this.#stopFollowing = () => undefined;
    } else
      this.#stopFollowing = followConfig(file, 'authentication-config', { clock, log }, (text) =>
        this.#take(parseAuthenticationConfig(text, file, ownIssuer)),
      );
  }

  /** Whether somebody unknown may ask at this path; undefined where nothing says so. */
  allowsAnonymous(path: string): boolean | undefined {
    const anonymous = this.#anonymous;
    if (anonymous === undefined) return undefined;
    return anonymous.enabled && (anonymous.paths.length === 0 || anonymous.paths.includes(path));
  }

  /** Whose token it is; undefined where nobody knows. Never rejects: why is in the log. */
  async identify(token: string, audiences: readonly string[]): Promise<UserInfo | undefined> {
    try {
      return withGroup((await this.#ofIssuer(token)) ?? (await this.#webhook?.identify(token, audiences)));
    } catch (error) {
      this.#options.log.info('a token was not accepted', { why: messageOf(error) });
      return undefined;
    }
  }

  [Symbol.dispose](): void {
    this.#stopFollowing();
    this.#webhook?.close();
    for (const { issuer } of this.#issuers.values()) issuer.close();
  }

  /** Issuers that stay as they were keep their keys. */
  #take(config: AuthenticationConfig): void {
    const { clock, log } = this.#options;
    const before = this.#issuers;
    this.#issuers = new Map(
      config.jwt.map((each) => {
        const { url, discoveryUrl, ca, algorithms } = each;
        const kept = before.get(url);
        const isSame = kept?.config.discoveryUrl === discoveryUrl && kept?.config.ca === ca;
        if (kept !== undefined && isSame) return [url, { config: each, issuer: kept.issuer }];
        const issuer = new Issuer({ url, discoveryUrl, ca, algorithms, clock, log });
        issuer.prepare();
        return [url, { config: each, issuer }];
      }),
    );
    const used = new Set([...this.#issuers.values()].map(({ issuer }) => issuer));
    for (const { issuer } of before.values()) if (!used.has(issuer)) issuer.close();
    this.#anonymous = config.anonymous;
    this.#known = new Map();
  }

  async #ofIssuer(token: string): Promise<UserInfo | undefined> {
    if (this.#issuers.size === 0) return undefined;
    const nowMs = this.#options.clock.now();
    const digest = createHash('sha256').update(token).digest('base64');
    const known = this.#known.get(digest);
    if (known !== undefined && nowMs < known.untilMs) return known.user;
    const jwt = readJwt(token);
    const found = jwt === undefined ? undefined : this.#issuers.get(textOf(jwt.claims, 'iss') ?? '');
    if (jwt === undefined || found === undefined) return undefined;
    const expiresMs = checkTimes(jwt, nowMs);
    const { config, issuer } = found;
    const audiences = audiencesOf(jwt);
    if (!config.audiences.some((audience) => audiences.includes(audience)))
      throw new Error(
        `oidc: verify token: oidc: expected audience in ${JSON.stringify(config.audiences)} got ${JSON.stringify(audiences)}`,
      );
    if (!(await this.#isSigned(issuer, jwt))) throw new Error('oidc: verify token: failed to verify signature');
    const user = await userOfClaims(config.rules, jwt.claims);
    const remembered = this.#known;
    if (remembered.size >= knownTokensMax) remembered.clear();
    remembered.set(digest, { user, untilMs: Math.min(expiresMs, nowMs + knownTokenMs) });
    return user;
  }

  /** An issuer that is slow keeps a bounded number waiting. */
  async #isSigned(issuer: Issuer, jwt: Jwt): Promise<boolean> {
    if (this.#waiting >= tokenQuestionsMax) throw new Error('oidc: too many tokens wait for the keys of their issuers');
    this.#waiting++;
    try {
      return await issuer.hasSigned(jwt);
    } finally {
      this.#waiting--;
    }
  }
}

/** Milliseconds at which it ends. Throws where it has, or has not begun. */
function checkTimes({ claims }: Jwt, nowMs: number): number {
  const { exp, nbf } = claims;
  if (typeof exp !== 'number') throw new Error('oidc: the token has no expiry');
  if (exp * 1000 <= nowMs) throw new Error(`oidc: token is expired (Token Expiry: ${exp})`);
  if (nbf !== undefined && (typeof nbf !== 'number' || nbf * 1000 > nowMs + leewaySeconds * 1000))
    throw new Error('oidc: current time before the nbf (not before) time');
  return exp * 1000;
}

function audiencesOf({ claims }: Jwt): string[] {
  const { aud } = claims;
  return typeof aud === 'string' ? [aud] : textsOf(aud);
}

function withGroup(user: UserInfo | undefined): UserInfo | undefined {
  if (user === undefined || user.groups.includes('system:authenticated')) return user;
  return { ...user, groups: [...user.groups, 'system:authenticated'] };
}

function checkFlags(flags: ServerFlags): void {
  if (!flags.has('authentication-config')) return;
  const other = ['oidc-issuer-url', 'oidc-client-id', 'oidc-username-claim', 'oidc-groups-claim', 'oidc-ca-file'].find(
    (name) => flags.has(name),
  );
  if (other !== undefined)
    throw new ApiError('BadRequest', 'authentication-config file and oidc-* flags are mutually exclusive');
}

function webhookOf(flags: ServerFlags, clock: Clock): TokenWebhook | undefined {
  const file = flags.text('authentication-token-webhook-config-file');
  const version = flags.oneOf('authentication-token-webhook-version', ['v1beta1', 'v1']);
  const cacheMs = flags.duration('authentication-token-webhook-cache-ttl', 120_000);
  return file === '' ? undefined : new TokenWebhook({ server: serverOfKubeconfig(file), version, cacheMs, clock });
}
