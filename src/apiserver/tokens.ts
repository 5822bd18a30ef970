/**
 * ServiceAccount tokens: JSON Web Tokens (RFC 7519) signed with ES256, bound to an account and maybe to a Pod, Secret
 * or Node (Kubernetes, "Managing Service Accounts", "Bound service account tokens"). Signing and verifying are
 * synchronous, so that a token costs no turn of the event loop.
 */
import { createHash, createPrivateKey, createPublicKey, sign, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { fieldOf, textOf } from '#base/unknown.ts';
import type { SigningKey } from '#base/x509.ts';

export interface TokenClaims {
  iss: string;
  aud: string[];
  sub: string;
  exp: number;
  iat: number;
  nbf: number;
  jti: string;
  'kubernetes.io': BoundClaims;
}

/** An object that a token is bound to. A node that a Pod names may not be there: it has no UID then. */
export interface BoundClaim {
  name: string;
  uid?: string;
}

/** What a token is bound to: the account, and the object that it was asked for. */
export interface BoundClaims {
  namespace: string;
  serviceaccount: BoundClaim;
  pod?: BoundClaim;
  secret?: BoundClaim;
  node?: BoundClaim;
}

interface LoadedKey {
  id: string;
  publicKey: KeyObject;
  privateKey: KeyObject;
}

const readPart = (text: string): unknown => JSON.parse(Buffer.from(text, 'base64url').toString());
const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

export class TokenSigner {
  readonly #ring: { readonly serviceAccount: readonly SigningKey[] };
  #loaded: LoadedKey[] | undefined;

  /** The ring's keys are read when the first token is signed or checked. */
  constructor(ring: { readonly serviceAccount: readonly SigningKey[] }) {
    this.#ring = ring;
  }

  get #keys(): LoadedKey[] {
    return (this.#loaded ??= this.#ring.serviceAccount.map((pem) => {
      const publicKey = createPublicKey(pem.publicKeyPem);
      const id = createHash('sha256')
        .update(publicKey.export({ type: 'spki', format: 'der' }))
        .digest('base64url');
      return { id, publicKey, privateKey: createPrivateKey(pem.privateKeyPem) };
    }));
  }

  sign(claims: TokenClaims): string {
    const [key] = this.#keys;
    if (key === undefined) throw new Error('there is no key to sign tokens with');
    const head = `${encode({ alg: 'ES256', kid: key.id, typ: 'JWT' })}.${encode(claims)}`;
    return `${head}.${sign('sha256', Buffer.from(head), { key: key.privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
  }

  /**
   * The claims of a token that one of the keys signed; undefined for any other text. Times and audience are the
   * caller's to check.
   */
  verify(token: string): TokenClaims | undefined {
    const parts = token.split('.');
    if (parts.length !== 3) return undefined;
    const [head = '', body = '', signed = ''] = parts;
    try {
      const header = readPart(head);
      if (textOf(header, 'alg') !== 'ES256') return undefined;
      const kid = fieldOf(header, 'kid');
      const signature = Buffer.from(signed, 'base64url');
      const message = Buffer.from(`${head}.${body}`);
      const key = this.#keys.find(
        (k) =>
          (kid === undefined || k.id === kid) &&
          verify('sha256', message, { key: k.publicKey, dsaEncoding: 'ieee-p1363' }, signature),
      );
      if (key === undefined) return undefined;
      // What one of the keys signed, this server made.
      return JSON.parse(Buffer.from(body, 'base64url').toString());
    } catch {
      return undefined;
    }
  }

  /** JSON Web Key Set of the public keys (RFC 7517). */
  jwks(): { keys: object[] } {
    return {
      keys: this.#keys.map((k) => ({ use: 'sig', kid: k.id, alg: 'ES256', ...k.publicKey.export({ format: 'jwk' }) })),
    };
  }
}
