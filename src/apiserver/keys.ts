/**
 * The key-ring of a cluster: everything secret that several API servers must share. It is plain data, so that
 * `platform` can keep
 * it in one file (mode 0600) and a simulation can make it from a seed. The first key of a list signs or encrypts; all
 * of them verify or decrypt, which is how keys are rotated.
 */
import { createCertificateAuthority, createSigningKey } from '#base/x509.ts';
import type { KeyPair, SigningKey } from '#base/x509.ts';
import type { Clock, Random } from '#os/clock.ts';

export interface EncryptionKey {
  id: string;
  /** 32 bytes, base64. */ key: string;
  /** Becomes the first one when all servers know it. */
  isNext?: true;
}

export interface KeyRing {
  format: 1;
  /** Signs the API server's, the kubelets' and the clients' certificates. */
  ca: KeyPair;
  /** Signs what aggregated API servers know the front proxy by, and nothing else. */
  frontProxy: KeyPair;
  serviceAccount: SigningKey[];
  encryption: EncryptionKey[];
  /** Signs what members of the cluster's own etcd know each other by. Absent until there is one. */
  etcd?: KeyPair;
  /** How often the ring was changed: of two servers' rings the higher one counts. Absent: never. */
  generation?: number;
  /** Certificates of the authorities that signed before: while they are here, what they have signed holds. */
  former?: Partial<Record<AuthorityName, string>>;
  /** By what an etcd knows the cluster (SHA-256 of the first authority's public key), once that is another one. */
  origin?: string;
}

export type AuthorityName = 'ca' | 'frontProxy' | 'etcd';

/** Authorities whose certificates hold, in PEM, that which signs now before others; '' where there is none. */
export function trustedAuthorities(ring: KeyRing, name: AuthorityName): string {
  return `${ring[name]?.certificatePem ?? ''}${ring.former?.[name] ?? ''}`;
}

export const frontProxyAuthority = 'tiphys-front-proxy-ca';

export function createKeyRing(random: Random, clock: Clock): KeyRing {
  return {
    format: 1,
    ca: createCertificateAuthority('tiphys-ca', random, clock),
    frontProxy: createCertificateAuthority(frontProxyAuthority, random, clock),
    serviceAccount: [createSigningKey(random)],
    encryption: [{ id: 'key1', key: Buffer.from(random.bytes(32)).toString('base64') }],
  };
}
