/**
 * The certificates that Ingresses name: one watch for each of their Secrets, by its name, since a node may read these
 * and no others (`src/apiserver/authz/node.ts`).
 *
 * As ingress-nginx has it: a Secret that changes is served anew; one that is made wrong leaves what was served before;
 * one that is not there, or not any more, leaves the default certificate.
 */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Secret } from '#api/core.v1.ts';
import { whenSettled } from '#base/promises.ts';
import { messageOf } from '#base/thrown.ts';
import type { Informer, InformerFactory } from '#client/informer.ts';
import { kinds } from '#base/kinds.ts';
import type { Clock } from '#os/clock.ts';
import { ingressSecretWaitMsMax } from './limits.ts';

/** PEM of a certificate, with those above it, and of its key. */
export interface IngressCertificate {
  certificate: string;
  key: string;
}

interface Followed {
  informer: Informer<Secret>;
  /** The last that could be served. */
  served: IngressCertificate | undefined;
  /** What is wrong with the Secret of now. */
  problem: string | undefined;
}

export class IngressCertificates implements AsyncDisposable {
  readonly #informers: InformerFactory;
  readonly #clock: Clock;
  readonly #changed: () => void;
  readonly #followed = new Map<string, Followed>();

  /** `changed` is called whenever another answer may be given. */
  constructor(informers: InformerFactory, clock: Clock, changed: () => void) {
    this.#informers = informers;
    this.#clock = clock;
    this.#changed = changed;
  }

  /**
   * Follows these Secrets (`namespace/name`) and no others from now on. Resolves when each of them was read (true), or
   * after a time in which that should have been possible (false): what is read later is told by `changed`.
   */
  async follow(keys: ReadonlySet<string>): Promise<boolean> {
    for (const [key, { informer }] of this.#followed)
      if (!keys.has(key)) {
        this.#followed.delete(key);
        void informer.stop();
      }
    for (const key of keys) if (!this.#followed.has(key)) this.#start(key);
    const unread = [...this.#followed.values()].filter(({ informer }) => !informer.hasSynced);
    if (unread.length === 0) return true;
    const wait = new AbortController();
    const late = whenSettled(this.#clock.sleep(ingressSecretWaitMsMax, wait.signal));
    await Promise.race([Promise.all(unread.map(({ informer }) => informer.synced)), late]);
    wait.abort();
    return unread.every(({ informer }) => informer.hasSynced);
  }

  /** What is to be served for a Secret; undefined: the default certificate. */
  get(key: string): IngressCertificate | undefined {
    return this.#followed.get(key)?.served;
  }

  /** Why that is not what the Secret says, in words for its owner. */
  problem(key: string): string | undefined {
    const followed = this.#followed.get(key);
    if (followed === undefined || !followed.informer.hasSynced) return undefined;
    const name = key.slice(key.indexOf('/') + 1);
    if (followed.informer.size === 0) return `Secret ${name} is not found; the default certificate is served`;
    if (followed.problem === undefined) return undefined;
    const instead = followed.served === undefined ? 'the default certificate' : 'the certificate before it';
    return `Secret ${name} holds no usable certificate (${followed.problem}); ${instead} is served`;
  }

  #start(key: string): void {
    const [namespace = '', name = ''] = key.split('/');
    const informer = this.#informers.follow(kinds.Secret, { namespace, fieldSelector: `metadata.name=${name}` });
    const followed: Followed = { informer, served: undefined, problem: undefined };
    this.#followed.set(key, followed);
    const take = (secret: Secret): void => {
      try {
        followed.served = readCertificate(secret);
        followed.problem = undefined;
      } catch (error) {
        followed.problem = messageOf(error);
      }
      this.#changed();
    };
    informer.addHandler({
      added: take,
      updated: take,
      deleted: () => {
        followed.served = undefined;
        followed.problem = undefined;
        this.#changed();
      },
    });
    void informer.synced.then(this.#changed);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#followed.values()].map(({ informer }) => informer.stop()));
  }
}

/**
 * The certificate of a Secret of type `kubernetes.io/tls`. Throws where a proxy could not serve it: one such file would
 * keep it from all others.
 */
function readCertificate(secret: Secret): IngressCertificate {
  const read = (name: string): string => {
    const text = Buffer.from(secret.data?.[name] ?? '', 'base64').toString('utf8');
    if (text.trim() === '') throw new Error(`it has no ${name}`);
    return text;
  };
  const [certificate, key] = [read('tls.crt'), read('tls.key')];
  if (!new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key)))
    throw new Error('tls.key is not the key of tls.crt');
  // The library's own rules: each certificate of the chain, and keys that are too weak.
  createSecureContext({ cert: certificate, key });
  return { certificate, key };
}
