/**
 * Who may do what. Users have passwords hashed with scrypt; the platform's own engines hold a random secret, of which only the SHA-256 is known
 * here. Nobody writes anonymously, ever. Anonymous pulls are allowed from loopback alone by default: whoever may open a socket on
 * this machine can pull what `docker run` on it could, and a kubelet or a person elsewhere signs in.
 *
 * Does not: per-repository rights, tokens (`Basic` is enough for docker, skopeo, ORAS and crane).
 */
import { createHash, scrypt, timingSafeEqual } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import type { Content } from '#content/content.ts';
import type { Clock, Random } from '#os/clock.ts';
import { credentialCacheMax, credentialCacheMs, passwordBytesMax, passwordChecksMax } from './limits.ts';

export type AnonymousPull = 'none' | 'loopback' | 'all';
export interface Identity { name: string; canWrite: boolean; /** An engine of this platform: it may read any name and blob. */ isInternal: boolean }

export interface Access {
  /** undefined: wrong or no credential. */
  identify(authorization: string | undefined): Promise<Identity | undefined>;
  mayPullAnonymously(remoteAddress: string | undefined): boolean;
  setUser(name: string, password: string, canWrite: boolean): Promise<void>;
  removeUser(name: string): Promise<void>;
  users(): string[];
}

interface UserRecord { salt: string; hash: string; cost: number; canWrite: boolean }
const scryptCost = 1 << 15;
export const internalUser = 'tiphys-engine';

function derive(password: string, salt: Buffer, cost: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password, salt, 32, { N: cost, r: 8, p: 1, maxmem: 128 * cost * 8 * 2 }, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}

const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();

/** SHA-256 in hexadecimal, the form in which the registry is told the engines' secret. */
export function hashInternalSecret(secret: string): string { return sha256(secret).toString('hex'); }

class StoredAccess implements Access {
  readonly #content: Content;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #internalHash: Buffer | undefined;
  readonly #anonymousPull: AnonymousPull;
  /** Keyed hash of header → result, so that no password stays in memory either. */
  readonly #cache = new Map<string, { identity: Identity; untilMs: number }>();
  readonly #cacheKey: string;
  #checks = 0;

  constructor(options: AccessOptions) {
    this.#content = options.content; this.#clock = options.clock; this.#random = options.random; this.#anonymousPull = options.anonymousPull ?? 'loopback';
    this.#internalHash = options.internalSecretHash === undefined ? undefined : Buffer.from(options.internalSecretHash, 'hex');
    this.#cacheKey = Buffer.from(options.random.bytes(32)).toString('hex');
  }

  mayPullAnonymously(remoteAddress: string | undefined): boolean {
    if (this.#anonymousPull !== 'loopback') return this.#anonymousPull === 'all';
    return /^(?:::ffff:)?127\.|^::1$/.test(remoteAddress ?? '');
  }

  async identify(authorization: string | undefined): Promise<Identity | undefined> {
    const encoded = /^Basic\s+([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '')?.[1];
    if (encoded === undefined || encoded.length > passwordBytesMax) return undefined;
    const text = Buffer.from(encoded, 'base64').toString('utf8');
    const colon = text.indexOf(':');
    if (colon < 0) return undefined;
    const [name, password] = [text.slice(0, colon), text.slice(colon + 1)];
    if (name === internalUser) return this.#internalHash !== undefined && timingSafeEqual(sha256(password), this.#internalHash) ? { name, canWrite: true, isInternal: true } : undefined;
    const key = createHash('sha256').update(this.#cacheKey).update(encoded).digest('hex');
    const cached = this.#cache.get(key);
    if (cached !== undefined && cached.untilMs > this.#clock.monotonic()) return cached.identity;
    return this.#check(name, password, key);
  }

  async #check(name: string, password: string, key: string): Promise<Identity | undefined> {
    if (this.#checks >= passwordChecksMax) throw new ApiError('TooManyRequests', 'too many sign-ins at a time');
    this.#checks++;
    try {
      const user = this.#content.records.get<UserRecord>('registry-users', name);
      // An unknown name costs as much time as a known one.
      const salt = Buffer.from(user?.salt ?? '00'.repeat(16), 'hex');
      const hash = await derive(password, salt, user?.cost ?? scryptCost);
      if (user === undefined || !timingSafeEqual(hash, Buffer.from(user.hash, 'hex'))) return undefined;
      const identity: Identity = { name, canWrite: user.canWrite, isInternal: false };
      if (this.#cache.size >= credentialCacheMax) this.#cache.clear();
      this.#cache.set(key, { identity, untilMs: this.#clock.monotonic() + credentialCacheMs });
      return identity;
    } finally { this.#checks--; }
  }

  async setUser(name: string, password: string, canWrite: boolean): Promise<void> {
    if (name === '' || name.includes(':') || name === internalUser) throw new ApiError('BadRequest', `invalid user name: ${name}`);
    const salt = Buffer.from(this.#random.bytes(16));
    const hash = await derive(password, salt, scryptCost);
    this.#cache.clear();
    await this.#content.records.commit([{ table: 'registry-users', key: name, value: { salt: salt.toString('hex'), hash: hash.toString('hex'), cost: scryptCost, canWrite } satisfies UserRecord }]);
  }

  async removeUser(name: string): Promise<void> {
    this.#cache.clear();
    await this.#content.records.commit([{ table: 'registry-users', key: name, value: undefined }]);
  }

  users(): string[] { return [...this.#content.records.entries('registry-users')].map(([name]) => name).sort(); }
}

export interface AccessOptions { content: Content; clock: Clock; random: Random; anonymousPull?: AnonymousPull; internalSecretHash?: string }
export function createAccess(options: AccessOptions): Access { return new StoredAccess(options); }
