/**
 * Who may do what.
 *
 * Users have passwords hashed with scrypt. A user writes and deletes in repositories below his own name (`bob`,
 * `bob/…`); an administrator writes
 * everywhere; everybody who signed in reads everything. The first user is an administrator, because whoever is alone on
 * a machine should not have to ask himself; later ones are when they are made so. The platform's own engines are
 * known by their nodes' certificates (`connection.ts`) and write everywhere: behind them stands the docker socket,
 * whose users are root.
 *
 * Nobody writes anonymously, ever. Anonymous pulls are allowed from loopback alone by default: whoever may open a
 * socket on this machine can pull what `docker run` on it could, and a kubelet or a person elsewhere signs in.
 *
 * A client shows its password with each request (`Basic`) or once for a token (`Bearer`, the distribution project's
 * token protocol). A token names its user and dies with the user's password; it carries no rights, those are looked up
 * at each request.
 *
 * Does not: rights per repository beyond the user's name.
 */
import { createHmac, scrypt, timingSafeEqual } from 'node:crypto';
import { isLoopback } from '#base/ip.ts';
import { ApiError } from '#base/errors.ts';
import { isRepositoryPath } from '#base/reference.ts';
import { SingleFlight } from '#base/single-flight.ts';
import type { Content } from '#content/content.ts';
import type { Clock, Random } from '#os/clock.ts';
import { credentialCacheMax, credentialCacheMs, passwordBytesMax, tokenMs } from './limits.ts';
import { PasswordChecks } from './password-checks.ts';

export type AnonymousPull = 'none' | 'loopback' | 'all';
export interface Identity {
  name: string;
  canWrite: boolean;
  /** May write where others' names are. */
  isAdministrator: boolean;
  /** An engine of this platform: it may read any name and blob. */
  isInternal: boolean;
}

export interface Access {
  /**
   * undefined: wrong or no credential. `anonymous`: the client says that it has none. `source`: the client's address,
   * by which guessing is bounded. Throws ApiError TooManyRequests when too many from there wait.
   */
  identify(authorization: string | undefined, source?: string): Promise<Identity | 'anonymous' | undefined>;
  /** A `Bearer` token of this identity. */
  issueToken(identity: Identity | 'anonymous'): { token: string; validMs: number };
  mayPullAnonymously(remoteAddress: string | undefined): boolean;
  /** `isAdministrator` undefined: as the user was; a new one is not, but for the very first. */
  setUser(
    name: string,
    password: string,
    canWrite: boolean,
    isAdministrator?: boolean,
  ): Promise<{ isAdministrator: boolean }>;
  removeUser(name: string): Promise<void>;
  users(): string[];
}

interface UserRecord {
  salt: string;
  hash: string;
  cost: number;
  canWrite: boolean;
  /** Records of before there were administrators lack it. */ isAdministrator?: boolean;
}
const scryptCost = 1 << 15;
export const internalUser = 'tiphys-engine';
/** First part of repositories that belong to nobody. */
const reservedNames = ['library', internalUser];

/** Whether this identity may change the repository. */
export function mayWrite(identity: Identity, path: string): boolean {
  if (!identity.canWrite) return false;
  return (
    identity.isInternal || identity.isAdministrator || path === identity.name || path.startsWith(`${identity.name}/`)
  );
}

function derive(password: string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, 32, { N: cost, r: 8, p: 1, maxmem: 128 * cost * 8 * 2 }, (error, key) =>
      error === null ? resolve(key) : reject(error),
    );
  });
}

/** Results of checks by the keyed hash of the header, so that no password stays in memory. The oldest go first. */
class ResultCache<T> {
  readonly #clock: Clock;
  readonly #results = new Map<string, { result: T; untilMs: number }>();
  constructor(clock: Clock) {
    this.#clock = clock;
  }
  get(key: string): T | undefined {
    const known = this.#results.get(key);
    return known !== undefined && known.untilMs > this.#clock.monotonic() ? known.result : undefined;
  }
  set(key: string, result: T): void {
    this.#results.delete(key);
    if (this.#results.size >= credentialCacheMax) this.#results.delete(this.#results.keys().next().value!);
    this.#results.set(key, { result, untilMs: this.#clock.monotonic() + credentialCacheMs });
  }
  clear(): void {
    this.#results.clear();
  }
}

class StoredAccess implements Access {
  readonly #content: Content;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #anonymousPull: AnonymousPull;
  readonly #right: ResultCache<string>;
  /** Apart from the right ones: who guesses cannot drive them out. */
  readonly #wrong: ResultCache<true>;
  readonly #key: Buffer;
  readonly #checks: PasswordChecks;
  /** Checks under way by the same key: a client that opens many connections is checked once. */
  readonly #running = new SingleFlight<Identity | undefined>();
  /** Counts changes of users: a check that began before one says nothing about what is true after it. */
  #changes = 0;

  constructor(options: AccessOptions) {
    this.#content = options.content;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#anonymousPull = options.anonymousPull ?? 'loopback';
    this.#key = Buffer.from(options.random.bytes(32));
    this.#right = new ResultCache(options.clock);
    this.#wrong = new ResultCache(options.clock);
    this.#checks = new PasswordChecks(options.clock);
  }

  mayPullAnonymously(remoteAddress: string | undefined): boolean {
    if (this.#anonymousPull !== 'loopback') return this.#anonymousPull === 'all';
    return isLoopback(remoteAddress ?? '');
  }

  async identify(authorization: string | undefined, source = ''): Promise<Identity | 'anonymous' | undefined> {
    if (authorization === undefined || authorization.length > passwordBytesMax) return undefined;
    const [, scheme = '', given = ''] = /^(Basic|Bearer)\s+([A-Za-z0-9+/=._~-]+)$/i.exec(authorization) ?? [];
    if (scheme.toLowerCase() === 'bearer') return this.#byToken(given);
    if (scheme === '') return undefined;
    const text = Buffer.from(given, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon < 0) return undefined;
    const [name, password] = [text.slice(0, colon), text.slice(colon + 1)];
    if (name === '' && password === '') return 'anonymous';
    return this.#byPassword(name, password, source);
  }

  #userOf(name: string): UserRecord | undefined {
    return this.#content.records.get<UserRecord>('registry-users', name);
  }

  #identityOf(name: string, user: UserRecord): Identity {
    // The only user of an instance from before there were administrators.
    const isAdministrator = user.isAdministrator ?? this.#content.records.count('registry-users') === 1;
    return { name, canWrite: user.canWrite, isAdministrator, isInternal: false };
  }

  async #byPassword(name: string, password: string, source: string): Promise<Identity | undefined> {
    const key = createHmac('sha256', this.#key).update(`${name}:${password}`).digest('hex');
    const user = this.#userOf(name);
    if (user !== undefined && this.#right.get(key) === user.hash) return this.#identityOf(name, user);
    if (this.#wrong.get(key) === true) return undefined;
    return this.#running.run(key, () => this.#check(name, password, key, source));
  }

  async #check(name: string, password: string, key: string, source: string): Promise<Identity | undefined> {
    let user: UserRecord | undefined;
    const changes = this.#changes;
    const isRight = await this.#checks.run(source, async () => {
      user = this.#userOf(name);
      // An unknown name costs as much time as a known one.
      const salt = Buffer.from(user?.salt ?? '00'.repeat(16), 'hex');
      const hash = await derive(password, salt, user?.cost ?? scryptCost);
      return user !== undefined && timingSafeEqual(hash, Buffer.from(user.hash, 'hex'));
    });
    if (!isRight || user === undefined) {
      if (changes === this.#changes) this.#wrong.set(key, true);
      return undefined;
    }
    this.#right.set(key, user.hash);
    return this.#identityOf(name, user);
  }

  #sign(body: string): string {
    return createHmac('sha256', this.#key).update(`token ${body}`).digest('base64url');
  }

  issueToken(identity: Identity | 'anonymous'): { token: string; validMs: number } {
    const name = identity === 'anonymous' ? '' : identity.name;
    const body = Buffer.from(
      JSON.stringify({ name, hash: this.#userOf(name)?.hash.slice(0, 16) ?? '', untilMs: this.#clock.now() + tokenMs }),
    ).toString('base64url');
    return { token: `${body}.${this.#sign(body)}`, validMs: tokenMs };
  }

  #byToken(token: string): Identity | 'anonymous' | undefined {
    const [body = '', signature = '', ...more] = token.split('.');
    const [given, wanted] = [Buffer.from(signature), Buffer.from(this.#sign(body))];
    if (more.length > 0 || given.length !== wanted.length || !timingSafeEqual(given, wanted)) return undefined;
    // Signed here, so it has this form.
    const { name, hash, untilMs } = JSON.parse(Buffer.from(body, 'base64url').toString('utf8')) as {
      name: string;
      hash: string;
      untilMs: number;
    };
    if (untilMs < this.#clock.now()) return undefined;
    if (name === '') return 'anonymous';
    const user = this.#userOf(name);
    return user === undefined || !user.hash.startsWith(hash) || hash === '' ? undefined : this.#identityOf(name, user);
  }

  async setUser(
    name: string,
    password: string,
    canWrite: boolean,
    isAdministrator?: boolean,
  ): Promise<{ isAdministrator: boolean }> {
    const known = this.#userOf(name);
    const isFirst = known === undefined && this.#content.records.count('registry-users') === 0;
    const becomes = isAdministrator ?? (known === undefined ? isFirst : this.#identityOf(name, known).isAdministrator);
    // A user's name is the first part of his repositories' names.
    if (!isRepositoryPath(name) || name.includes('/') || name === internalUser)
      throw new ApiError('BadRequest', `invalid user name: ${name}`);
    if (!becomes && reservedNames.includes(name)) throw new ApiError('BadRequest', `the user name ${name} is reserved`);
    const salt = Buffer.from(this.#random.bytes(16));
    const hash = await derive(password, salt, scryptCost);
    const changes = [
      {
        table: 'registry-users',
        key: name,
        value: {
          salt: salt.toString('hex'),
          hash: hash.toString('hex'),
          cost: scryptCost,
          canWrite,
          isAdministrator: becomes,
        } satisfies UserRecord,
      },
    ];
    // Whoever was alone until now keeps what he had.
    for (const [other, user] of this.#content.records.entries<UserRecord>('registry-users')) {
      if (other !== name && user.isAdministrator === undefined)
        changes.push({
          table: 'registry-users',
          key: other,
          value: { ...user, isAdministrator: this.#identityOf(other, user).isAdministrator },
        });
    }
    await this.#content.records.commit(changes);
    this.#forget();
    return { isAdministrator: becomes };
  }

  async removeUser(name: string): Promise<void> {
    await this.#content.records.commit([{ table: 'registry-users', key: name, value: undefined }]);
    this.#forget();
  }

  #forget(): void {
    this.#changes++;
    this.#right.clear();
    this.#wrong.clear();
  }

  users(): string[] {
    return [...this.#content.records.entries('registry-users')].map(([name]) => name).sort();
  }
}

export interface AccessOptions {
  content: Content;
  clock: Clock;
  random: Random;
  anonymousPull?: AnonymousPull;
}
export function createAccess(options: AccessOptions): Access {
  return new StoredAccess(options);
}
