/**
 * The token by which another machine joins: `ID.SECRET@sha256:HASH`. The first part is a bootstrap token of Kubernetes,
 * by which the cluster knows the machine; the second is the hash of the public key of the cluster's authority
 * (kubeadm's `--discovery-token-ca-cert-hash`; RFC 7469, section 2.4), by which the machine knows the cluster before it
 * says anything.
 */
import { createHash, X509Certificate } from 'node:crypto';
import { ApiError } from '#base/errors.ts';
import { certificatesIn } from './managed-certificate.ts';

export interface JoinToken {
  /** `ID.SECRET`. */
  token: string;
  /** `sha256:` and 64 hexadecimal digits. */
  authorityHash: string;
}

const tokenPattern = /^([a-z0-9]{6}\.[a-z0-9]{16})@(sha256:[0-9a-f]{64})$/;

export function formatJoinToken({ token, authorityHash }: JoinToken): string {
  return `${token}@${authorityHash}`;
}

/** Throws BadRequest for what is no such token. */
export function parseJoinToken(text: string): JoinToken {
  const [, token, authorityHash] = tokenPattern.exec(text.trim()) ?? [];
  if (token === undefined || authorityHash === undefined)
    throw new ApiError(
      'BadRequest',
      "this is no token to join by (ID.SECRET@sha256:HASH): copy the whole line that 'tiphys token create' prints on the server",
    );
  return { token, authorityHash };
}

/** Of each certificate in a PEM. */
export function authorityHashesOf(pem: string): string[] {
  return certificatesIn(pem).map(authorityHashOf);
}

/** Of the certificate's public key: it stays the same when the certificate is renewed. */
export function authorityHashOf(certificatePem: string): string {
  const key = new X509Certificate(certificatePem).publicKey.export({ type: 'spki', format: 'der' });
  return `sha256:${createHash('sha256').update(key).digest('hex')}`;
}
