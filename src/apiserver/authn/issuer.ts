/**
 * The keys of an issuer (OpenID Connect Discovery 1.0): found by its discovery document, fetched when they are first
 * needed, and again when a token names a key that is not among them. What an issuer can make slow, large or many has a
 * bound: one fetch is under way at a time, failures and unknown keys are looked into after a pause, and redirections
 * are not followed.
 */
import { Agent, get } from 'node:https';
import { messageOf } from '#base/thrown.ts';
import { textOf } from '#base/unknown.ts';
import type { Logger } from '#observe/log.ts';
import type { Clock } from '#os/clock.ts';
import { issuerAnswerBytesMax, issuerMs, issuerPauseMs } from '../limits.ts';
import { isSignedBy, readKeySet, type IssuerKey, type Jwt } from './jwt.ts';

export interface IssuerOptions {
  url: string;
  /** Of the discovery document, where it is elsewhere. */
  discoveryUrl: string | undefined;
  /** PEM; the system's authorities where there is none. */
  ca: string | undefined;
  algorithms: readonly string[];
  clock: Clock;
  log: Logger;
}

export class Issuer {
  readonly #options: IssuerOptions;
  readonly #agent: Agent;
  #keys: IssuerKey[] | undefined;
  #fetching: Promise<void> | undefined;
  #notBeforeMs = 0;

  constructor(options: IssuerOptions) {
    this.#options = options;
    this.#agent = new Agent({
      keepAlive: true,
      maxSockets: 2,
      ...(options.ca === undefined ? {} : { ca: options.ca }),
    });
  }

  /** Whether the issuer has signed it. Rejects where its keys cannot be had. */
  async hasSigned(jwt: Jwt): Promise<boolean> {
    const { algorithms } = this.#options;
    // What nobody may sign with is not worth a question to the issuer.
    if (!algorithms.includes(jwt.algorithm)) return false;
    if (this.#keys === undefined) await this.#fetch();
    if (this.#keys === undefined) throw new Error('the issuer is not initialized');
    if (isSignedBy(jwt, this.#keys, algorithms)) return true;
    const isKnown = this.#keys.some(({ id }) => id === jwt.keyId);
    if (isKnown || !(await this.#fetch())) return false;
    return isSignedBy(jwt, this.#keys, algorithms);
  }

  /** Fetches ahead of the first token. */
  prepare(): void {
    void this.#fetch();
  }

  close(): void {
    this.#agent.destroy();
  }

  /** Whether there was something new to look at. */
  async #fetch(): Promise<boolean> {
    const { clock, log, url } = this.#options;
    if (this.#fetching === undefined) {
      if (clock.monotonic() < this.#notBeforeMs) return false;
      this.#notBeforeMs = clock.monotonic() + issuerPauseMs;
      this.#fetching = this.#fetchOnce()
        .catch((error: unknown) => log.warn('keys of an issuer cannot be had', { issuer: url, why: messageOf(error) }))
        .finally(() => {
          this.#fetching = undefined;
        });
    }
    await this.#fetching;
    return true;
  }

  async #fetchOnce(): Promise<void> {
    const { url, discoveryUrl } = this.#options;
    const document = await this.#get(discoveryUrl ?? `${url.replace(/\/$/, '')}/.well-known/openid-configuration`);
    const named = textOf(document, 'issuer') ?? '';
    if (named !== url)
      throw new Error(
        `oidc: issuer did not match the issuer returned by provider, expected ${JSON.stringify(url)} got ${JSON.stringify(named)}`,
      );
    this.#keys = readKeySet(await this.#get(textOf(document, 'jwks_uri') ?? ''));
  }

  #get(url: string): Promise<unknown> {
    if (!URL.canParse(url) || new URL(url).protocol !== 'https:')
      return Promise.reject(new Error(`not an https URL: ${JSON.stringify(url)}`));
    return new Promise((resolve, reject) => {
      const out = get(url, { agent: this.#agent, signal: AbortSignal.timeout(issuerMs) }, (answer) => {
        if (answer.statusCode !== 200) {
          answer.destroy();
          reject(new Error(`${url}: status ${answer.statusCode}`));
          return;
        }
        const parts: Buffer[] = [];
        let size = 0;
        answer.on('data', (part: Buffer) => {
          size += part.length;
          if (size > issuerAnswerBytesMax) out.destroy(new Error(`${url}: the answer is too large`));
          else parts.push(part);
        });
        answer.on('error', reject);
        answer.on('end', () => {
          try {
            resolve(JSON.parse(Buffer.concat(parts).toString()));
          } catch (error) {
            reject(error);
          }
        });
      });
      out.on('error', reject);
    });
  }
}
