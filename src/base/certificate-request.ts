/**
 * Reads certification requests (PKCS#10, RFC 2986) as clients send them, which Node cannot: subject, public key,
 * requested alternative names. The request's own signature is checked, so that whoever sent it holds the key. Input is
 * bounded by the caller; what is no request throws `RequestError`.
 */
import { createPublicKey, verify } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { ipOfBytes } from './ip.ts';

export class RequestError extends Error {}
/** The request was not signed by its key. */
export class SignatureError extends RequestError {}

export interface KeyKind {
  /** As `node:crypto` names it: `ec`, `rsa`, `ed25519`, …. */
  type: string;
  /** Of an elliptic key, as OpenSSL names it. */
  curve?: string;
  /** Of an RSA key. */
  bits?: number;
}

export interface CertificationRequest {
  /** The subject as encoded, for the certificate to repeat. */
  subject: Uint8Array;
  commonName: string;
  organizations: string[];
  /** The public key as encoded (SubjectPublicKeyInfo), and what it is. */
  publicKeyInfo: Uint8Array;
  keyKind: KeyKind;
  /** The content of the subjectAltName extension; undefined when none is asked for. */
  altNames: Uint8Array | undefined;
  dnsNames: string[];
  ipAddresses: string[];
  /** Mail addresses and URIs, which no node has. */
  otherNames: number;
}

interface Tlv {
  tag: number;
  content: Uint8Array;
  whole: Uint8Array;
}

const tags = { sequence: 0x30, set: 0x31, oid: 0x06, bitString: 0x03, attributes: 0xa0 };
const oids = {
  commonName: '550403',
  organization: '55040a',
  extensionRequest: '2a864886f70d01090e',
  altName: '551d11',
};
const hashes: Record<string, string | undefined> = {
  '2a864886f70d01010b': 'sha256',
  '2a864886f70d01010c': 'sha384',
  '2a864886f70d01010d': 'sha512',
  '2a8648ce3d040302': 'sha256',
  '2a8648ce3d040303': 'sha384',
  '2a8648ce3d040304': 'sha512',
  '2b6570': undefined,
};

/** The values that follow each other in some bytes. */
function readAll(bytes: Uint8Array): Tlv[] {
  const out: Tlv[] = [];
  for (let at = 0; at < bytes.length;) {
    const tag = bytes[at] ?? NaN;
    let length = bytes[at + 1] ?? NaN;
    let start = at + 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) throw new RequestError('asn1: bad length');
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (bytes[start + i] ?? NaN);
      start += count;
    }
    if (!(start + length <= bytes.length)) throw new RequestError('asn1: data truncated');
    out.push({ tag, content: bytes.subarray(start, start + length), whole: bytes.subarray(at, start + length) });
    at = start + length;
  }
  return out;
}

function expect(value: Tlv | undefined, tag: number, what: string): Tlv {
  if (value?.tag !== tag) throw new RequestError(`asn1: ${what} is missing`);
  return value;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('utf8');

interface SubjectNames {
  commonName: string;
  organizations: string[];
}

function namesOf(subject: Uint8Array): SubjectNames {
  const out: SubjectNames = { commonName: '', organizations: [] };
  for (const set of readAll(subject)) {
    for (const pair of readAll(set.content)) {
      const [type, value] = readAll(pair.content);
      if (type === undefined || value === undefined) throw new RequestError('asn1: a part of the subject is malformed');
      if (hex(type.content) === oids.commonName) out.commonName = textOf(value.content);
      if (hex(type.content) === oids.organization) out.organizations.push(textOf(value.content));
    }
  }
  return out;
}

/** The extensions that are asked for, by their identifier. */
function extensionsOf(attributes: Tlv | undefined): Map<string, Uint8Array> {
  const out = new Map<string, Uint8Array>();
  for (const attribute of attributes === undefined ? [] : readAll(attributes.content)) {
    const [type, values] = readAll(attribute.content);
    if (type === undefined || values === undefined || hex(type.content) !== oids.extensionRequest) continue;
    for (const list of readAll(values.content)) {
      for (const extension of readAll(list.content)) {
        const parts = readAll(extension.content);
        const [id, value] = [parts[0], parts.at(-1)];
        if (id !== undefined && value !== undefined) out.set(hex(id.content), value.content);
      }
    }
  }
  return out;
}

function kindOfKey(key: KeyObject): KeyKind {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  return {
    type: key.asymmetricKeyType ?? '',
    ...(namedCurve === undefined ? {} : { curve: namedCurve }),
    ...(modulusLength === undefined ? {} : { bits: modulusLength }),
  };
}

function ipText(bytes: Uint8Array): string {
  if (bytes.length !== 4 && bytes.length !== 16) throw new RequestError('x509: cannot parse IP address');
  return ipOfBytes(bytes);
}

function checkSignature(whole: Tlv, algorithm: Tlv, signature: Tlv, key: KeyObject): void {
  const id = hex(expect(readAll(algorithm.content)[0], tags.oid, 'signature algorithm').content);
  if (!(id in hashes)) throw new RequestError('x509: cannot verify signature: algorithm unimplemented');
  if (!verify(hashes[id], whole.whole, key, signature.content.subarray(1)))
    throw new SignatureError('x509: the signature of the request does not match its key');
}

/** A request from its PEM. Throws `RequestError`. */
export function parseCertificationRequest(pem: string): CertificationRequest {
  const text =
    /-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----([A-Za-z0-9+/=\s]+)-----END (?:NEW )?CERTIFICATE REQUEST-----/.exec(
      pem,
    )?.[1];
  if (text === undefined) throw new RequestError('PEM block type must be CERTIFICATE REQUEST');
  return decodeCertificationRequest(Buffer.from(text, 'base64'));
}

/** A request from its DER. Throws `RequestError`, a `SignatureError` where only the signature is wrong. */
export function decodeCertificationRequest(bytes: Uint8Array): CertificationRequest {
  const [info, algorithm, signature] = readAll(expect(readAll(bytes)[0], tags.sequence, 'request').content);
  const [, subject, keyInfo, attributes] = readAll(expect(info, tags.sequence, 'request info').content);
  const publicKeyInfo = expect(keyInfo, tags.sequence, 'public key').whole;
  let key: KeyObject;
  try {
    key = createPublicKey({ key: Buffer.from(publicKeyInfo), format: 'der', type: 'spki' });
  } catch {
    throw new RequestError('x509: the public key is malformed or of an unknown kind');
  }
  checkSignature(
    expect(info, tags.sequence, 'request info'),
    expect(algorithm, tags.sequence, 'signature algorithm'),
    expect(signature, tags.bitString, 'signature'),
    key,
  );
  const altNames = extensionsOf(attributes).get(oids.altName);
  const names =
    altNames === undefined ? [] : readAll(expect(readAll(altNames)[0], tags.sequence, 'alternative names').content);
  const dnsNames = names.filter((name) => name.tag === 0x82).map((name) => textOf(name.content));
  const ipAddresses = names.filter((name) => name.tag === 0x87).map((name) => ipText(name.content));
  return {
    subject: expect(subject, tags.sequence, 'subject').whole,
    ...namesOf(expect(subject, tags.sequence, 'subject').content),
    publicKeyInfo,
    keyKind: kindOfKey(key),
    altNames,
    dnsNames,
    ipAddresses,
    otherNames: names.length - dnsNames.length - ipAddresses.length,
  };
}
