/**
 * Reads PEM text (RFC 7468) and certificates (RFC 5280) that others have made. What is no block is passed over, as Go's
 * `encoding/pem` does, so that comments between blocks are allowed.
 */
import { createHash, X509Certificate } from 'node:crypto';

export interface PemBlock {
  /** What stands after BEGIN: `CERTIFICATE`, …. */
  type: string;
  /** Whether there are lines `Name: value` before the content. */
  hasHeaders: boolean;
  bytes: Buffer;
}

const block = /-----BEGIN ([^\n-]+)-----[ \t\r]*\n([\s\S]*?)-----END \1-----/g;
const headers = /^(?:[^\n:]+:[^\n]*\n)+\s*/;

/** The blocks of a text, in order. */
export function* pemBlocks(text: string): Generator<PemBlock> {
  for (const [, type = '', body = ''] of text.matchAll(block)) {
    const content = body.replace(headers, '');
    if (!/^[A-Za-z0-9+/=\s]*$/.test(content)) continue;
    yield { type, hasHeaders: content !== body, bytes: Buffer.from(content, 'base64') };
  }
}

/** One block, its content in lines of 64 characters. */
export function pemText(type: string, bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${type}-----`, ...lines, `-----END ${type}-----`, ''].join('\n');
}

/** SHA-256 of a text, in hexadecimal. */
export const fingerprintOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export interface CertificateFacts {
  isAuthority: boolean;
  /** In milliseconds since 1970. */
  notBeforeMs: number;
  notAfterMs: number;
  /** The public key as encoded (SubjectPublicKeyInfo). */
  publicKeyInfo: Buffer;
  dnsNames: string[];
  emails: string[];
}

/** What a certificate says; undefined where the bytes are none. */
export function readCertificate(der: Uint8Array): CertificateFacts | undefined {
  try {
    const certificate = new X509Certificate(der);
    const names = (certificate.subjectAltName ?? '').split(', ');
    const valuesOf = (prefix: string): string[] =>
      names.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length));
    return {
      isAuthority: certificate.ca,
      notBeforeMs: certificate.validFromDate.getTime(),
      notAfterMs: certificate.validToDate.getTime(),
      publicKeyInfo: certificate.publicKey.export({ type: 'spki', format: 'der' }),
      dnsNames: valuesOf('DNS:'),
      emails: valuesOf('email:'),
    };
  } catch {
    return undefined;
  }
}
