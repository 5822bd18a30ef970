/**
 * Who may ask the kubelet what (Kubernetes documentation, "Kubelet authentication/authorization"). The API server is
 * known by its certificate and may do everything. Whoever else comes with a certificate of the cluster's authority, or
 * with a bearer token that a TokenReview knows, may do what a SubjectAccessReview says, on `nodes` and the subresource
 * that the path stands for. What reviews said is remembered as long as the kubelet's own defaults are.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { UserInfo as ReviewedUser } from '#api/authentication.v1.ts';
import { fingerprintOf } from '#base/certificates.ts';
import { ApiError } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { SingleFlight } from '#base/single-flight.ts';
import type { Client } from '#client/client.ts';
import type { Clock } from '#os/clock.ts';
import {
  accessAllowedMs,
  accessKnownMax,
  accessRefusedMs,
  accessReviewsMax,
  bearerTokenBytesMax,
  tokenKnownMs,
} from './limits.ts';

export interface AccessOptions {
  clock: Clock;
  nodeName: string;
  /** Subjects that may do everything: common names or organisations of client certificates. */
  allowed: { commonNames: string[]; organizations: string[] };
  /** Asks as the node. */
  client: Pick<Client, 'create'>;
}

type User = Pick<ReviewedUser, 'username' | 'uid' | 'groups' | 'extra'>;

const verbs: Readonly<Record<string, string>> = {
  GET: 'get',
  HEAD: 'get',
  POST: 'create',
  PUT: 'update',
  PATCH: 'patch',
  DELETE: 'delete',
};

/** The subresources that a path stands for: one of them is enough. */
function subresourcesOf(path: string): string[] {
  const isBelow = (prefix: string): boolean => path === prefix || path.startsWith(`${prefix}/`);
  if (isBelow('/stats')) return ['stats'];
  if (isBelow('/metrics')) return ['metrics'];
  if (isBelow('/logs')) return ['log'];
  if (isBelow('/checkpoint')) return ['checkpoint'];
  if (isBelow('/healthz')) return ['healthz', 'proxy'];
  if (isBelow('/configz')) return ['configz', 'proxy'];
  if (isBelow('/pods') || isBelow('/runningpods')) return ['pods', 'proxy'];
  return ['proxy'];
}

export class KubeletAccess {
  readonly #options: AccessOptions;
  readonly #users: Reviews<User | undefined>;
  readonly #decisions: Reviews<boolean>;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.#users = new Reviews(options.clock, () => tokenKnownMs);
    this.#decisions = new Reviews(options.clock, (isAllowed) => (isAllowed ? accessAllowedMs : accessRefusedMs));
  }

  /** Rejects with Unauthorized or Forbidden. */
  async check(request: IncomingMessage, path: string): Promise<void> {
    const user = this.#certified(request) ?? (await this.#byToken(request));
    if (user === undefined) throw new ApiError('Unauthorized', 'Unauthorized');
    if (this.#isTrusted(user)) return;
    const verb = verbs[request.method ?? ''] ?? '';
    const subresources = subresourcesOf(path);
    for (const subresource of subresources) if (await this.#mayDo(user, verb, subresource)) return;
    throw new ApiError(
      'Forbidden',
      `Forbidden (user=${user.username}, verb=${verb}, resource=nodes, subresource(s)=[${subresources.join(' ')}])`,
    );
  }

  #certified({ socket }: IncomingMessage): User | undefined {
    const { authorized, getPeerCertificate } = socket as TLSSocket;
    if (!authorized) return undefined;
    const subject: { CN?: string | string[]; O?: string | string[] } | undefined =
      getPeerCertificate.call(socket).subject;
    const username = [subject?.CN ?? []].flat()[0];
    if (username === undefined) return undefined;
    return { username, groups: [...[subject?.O ?? []].flat(), 'system:authenticated'] };
  }

  #isTrusted({ username = '', groups = [] }: User): boolean {
    const { commonNames, organizations } = this.#options.allowed;
    return commonNames.includes(username) || groups.some((group) => organizations.includes(group));
  }

  async #byToken({ headers }: IncomingMessage): Promise<User | undefined> {
    const token = /^bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
    if (token === undefined || token.length > bearerTokenBytesMax) return undefined;
    // No token stays in memory.
    return this.#users.of(fingerprintOf(token), async () => {
      const { status } = await this.#options.client.create(kinds.TokenReview, {
        apiVersion: 'authentication.k8s.io/v1',
        kind: 'TokenReview',
        metadata: {},
        spec: { token },
      });
      return status?.authenticated === true ? status.user : undefined;
    });
  }

  #mayDo(user: User, verb: string, subresource: string): Promise<boolean> {
    const { nodeName: name, client } = this.#options;
    const { username = '', uid, groups, extra } = user;
    return this.#decisions.of(JSON.stringify([username, uid, groups, extra, verb, subresource]), async () => {
      const { status } = await client.create(kinds.SubjectAccessReview, {
        apiVersion: 'authorization.k8s.io/v1',
        kind: 'SubjectAccessReview',
        metadata: {},
        spec: {
          user: username,
          ...(uid === undefined ? {} : { uid }),
          ...(groups === undefined ? {} : { groups }),
          ...(extra === undefined ? {} : { extra }),
          resourceAttributes: { verb, group: '', version: 'v1', resource: 'nodes', subresource, name },
        },
      });
      return status?.allowed === true;
    });
  }
}

/** Answers by question, remembered for a while; a question that several wait for is asked once. */
class Reviews<T> {
  readonly #clock: Clock;
  readonly #keptMs: (answer: T) => number;
  readonly #known = new Map<string, { answer: T; untilMs: number }>();
  readonly #asking = new SingleFlight<T>();
  #waiting = 0;

  constructor(clock: Clock, keptMs: (answer: T) => number) {
    this.#clock = clock;
    this.#keptMs = keptMs;
  }

  async of(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#known.get(key);
    if (known !== undefined && this.#clock.monotonic() < known.untilMs) return known.answer;
    return this.#asking.run(key, async () => {
      if (this.#waiting >= accessReviewsMax) throw new ApiError('TooManyRequests', 'too many reviews are under way');
      this.#waiting++;
      try {
        const answer = await ask();
        this.#known.delete(key);
        // The oldest goes.
        for (const oldest of this.#known.size >= accessKnownMax ? this.#known.keys().take(1) : [])
          this.#known.delete(oldest);
        this.#known.set(key, { answer, untilMs: this.#clock.monotonic() + this.#keptMs(answer) });
        return answer;
      } finally {
        this.#waiting--;
      }
    });
  }
}
