/**
 * JSON Web Tokens of other issuers (RFC 7519, 7515, 7517, 7518): read with bounds, and checked against an issuer's
 * keys. The algorithm is chosen by what is allowed and by the key, never by the token alone; `none` and shared secrets
 * are not among them.
 */
import { constants, createPublicKey, verify, type KeyObject } from 'node:crypto';
import { isObject, namedTextsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { jwksKeysMax, tokenCharsMax } from '../limits.ts';

export interface Jwt {
  algorithm: string;
  keyId: string | undefined;
  claims: JsonObject;
  signed: Buffer;
  signature: Buffer;
}

/** Undefined for what is no token in the compact form. Nothing of it is checked. */
export function readJwt(token: string): Jwt | undefined {
  if (token.length > tokenCharsMax) return undefined;
  const parts = token.split('.');
  const [head = '', body = '', signature = ''] = parts;
  if (parts.length !== 3 || !/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return undefined;
  try {
    const header: unknown = JSON.parse(Buffer.from(head, 'base64url').toString());
    const claims: unknown = JSON.parse(Buffer.from(body, 'base64url').toString());
    // What says that it must be understood (`crit`) is not understood.
    if (!isObject(header) || !isObject(claims) || header['crit'] !== undefined) return undefined;
    return {
      algorithm: textOf(header, 'alg') ?? '',
      keyId: textOf(header, 'kid'),
      claims,
      signed: Buffer.from(`${head}.${body}`),
      signature: Buffer.from(signature, 'base64url'),
    };
  } catch {
    return undefined;
  }
}

interface Algorithm {
  hash: string;
  keyType: 'rsa' | 'ec';
  curve?: string;
  isPss?: boolean;
}

const algorithms: Readonly<Record<string, Algorithm>> = {
  RS256: { hash: 'sha256', keyType: 'rsa' },
  RS384: { hash: 'sha384', keyType: 'rsa' },
  RS512: { hash: 'sha512', keyType: 'rsa' },
  PS256: { hash: 'sha256', keyType: 'rsa', isPss: true },
  PS384: { hash: 'sha384', keyType: 'rsa', isPss: true },
  PS512: { hash: 'sha512', keyType: 'rsa', isPss: true },
  ES256: { hash: 'sha256', keyType: 'ec', curve: 'prime256v1' },
  ES384: { hash: 'sha384', keyType: 'ec', curve: 'secp384r1' },
  ES512: { hash: 'sha512', keyType: 'ec', curve: 'secp521r1' },
};
export const signingAlgorithms: readonly string[] = Object.keys(algorithms);

export interface IssuerKey {
  id: string | undefined;
  algorithm: string | undefined;
  key: KeyObject;
}

/** Keys of a set that sign; others are passed over. Throws where it is no set. */
export function readKeySet(value: unknown): IssuerKey[] {
  if (!isObject(value) || !Array.isArray(value['keys'])) throw new Error('the key set has no keys');
  const keys: readonly unknown[] = value['keys'];
  return keys.slice(0, jwksKeysMax).flatMap((jwk): IssuerKey[] => {
    if (!isObject(jwk) || (jwk['use'] !== undefined && jwk['use'] !== 'sig')) return [];
    const { kty = '', n = '', e = '', crv = '', x = '', y = '' } = namedTextsOf(jwk);
    try {
      const key = createPublicKey({ key: kty === 'RSA' ? { kty, n, e } : { kty, crv, x, y }, format: 'jwk' });
      return [{ id: textOf(jwk, 'kid'), algorithm: textOf(jwk, 'alg'), key }];
    } catch {
      return []; // of a type that is not known here
    }
  });
}

/** Whether one of the keys that the token may mean has signed it. */
export function isSignedBy(jwt: Jwt, keys: readonly IssuerKey[], allowed: readonly string[]): boolean {
  const algorithm = Object.hasOwn(algorithms, jwt.algorithm) ? algorithms[jwt.algorithm] : undefined;
  if (algorithm === undefined || !allowed.includes(jwt.algorithm)) return false;
  return keys.some(({ id, algorithm: only, key }) => {
    if (jwt.keyId !== undefined && id !== undefined && id !== jwt.keyId) return false;
    if (only !== undefined && only !== jwt.algorithm) return false;
    if (key.asymmetricKeyType !== algorithm.keyType) return false;
    if (algorithm.curve !== undefined && key.asymmetricKeyDetails?.namedCurve !== algorithm.curve) return false;
    try {
      return verify(algorithm.hash, jwt.signed, optionsOf(key, algorithm), jwt.signature);
    } catch {
      return false; // a signature of another length
    }
  });
}

function optionsOf(key: KeyObject, { keyType, isPss = false }: Algorithm): Parameters<typeof verify>[2] {
  if (keyType === 'ec') return { key, dsaEncoding: 'ieee-p1363' };
  return isPss
    ? { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO }
    : { key, padding: constants.RSA_PKCS1_PADDING };
}
