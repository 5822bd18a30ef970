/**
 * Makes P-256 keys and X.509 v3 certificates (RFC 5280; EC keys as RFC 5480 and RFC 5915), which Node can read but not
 * issue. Key material comes from the `Random` passed in and times from the `Clock`, so that a simulated cluster has the
 * same keys for the same seed (its ECDSA signatures still differ: nothing may depend on their bytes). Does not do
 * revocation or RSA.
 */
import { createECDH, createHash, createPrivateKey, createPublicKey, sign, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  objectId,
  octetString,
  sequence,
  setOf,
  time,
  tlv,
  toPem,
  utf8String,
} from './der.ts';
import { ipBytes } from './ip.ts';
import type { CertificationRequest } from './certificate-request.ts';
import type { Der } from './der.ts';

/** The parts of `os`' Random and Clock that are needed; `base` imports nothing above it. */
interface Random {
  bytes(count: number): Uint8Array;
}
interface Clock {
  now(): number;
}

export interface KeyPair {
  certificatePem: string;
  keyPem: string;
  /**
   * Of an authority that took another one's place: its certificate as the former one has signed it. It is shown after
   * each certificate that it issues, so that who knows the former one alone believes them.
   */
  crossPem?: string;
}
export interface SigningKey {
  privateKeyPem: string;
  publicKeyPem: string;
}

export interface CertificateRequest {
  commonName: string;
  organizations?: string[];
  dnsNames?: string[];
  ipAddresses?: string[];
  /** Extended key usages; a CA has neither. */
  server?: boolean;
  client?: boolean;
  /** Validity; one year when absent. */
  days?: number;
}

const oid = {
  ecPublicKey: '1.2.840.10045.2.1',
  p256: '1.2.840.10045.3.1.7',
  ecdsaSha256: '1.2.840.10045.4.3.2',
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  altName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  extensionRequest: '1.2.840.113549.1.9.14',
};

const curveAlgorithm = sequence(objectId(oid.ecPublicKey), objectId(oid.p256));
const signatureAlgorithm = sequence(objectId(oid.ecdsaSha256));
const dayMs = 86_400_000;
/** Certificates hold from so long before they are issued on: clocks differ a little between machines. */
export const certificateBackdateMs = 5 * 60_000;

interface RawKey {
  privateKeyPem: string;
  point: Uint8Array;
  publicKeyInfo: Der;
}

function makeKey(random: Random): RawKey {
  for (;;) {
    const scalar = Buffer.from(random.bytes(32));
    const ecdh = createECDH('prime256v1');
    try {
      ecdh.setPrivateKey(scalar);
    } catch {
      continue;
    } // outside [1, n): draw again, about once in 2^32
    const point = ecdh.getPublicKey();
    const body = sequence(
      integer(1),
      octetString(scalar),
      explicit(0, objectId(oid.p256)),
      explicit(1, bitString(point)),
    );
    return {
      privateKeyPem: toPem('EC PRIVATE KEY', body),
      point,
      publicKeyInfo: sequence(curveAlgorithm, bitString(point)),
    };
  }
}

/** A P-256 key for signing tokens. */
export function createSigningKey(random: Random): SigningKey {
  const key = makeKey(random);
  return { privateKeyPem: key.privateKeyPem, publicKeyPem: toPem('PUBLIC KEY', key.publicKeyInfo) };
}

function nameOf(request: { commonName: string; organizations?: string[] }): Der {
  const part = (id: string, text: string): Der => setOf(sequence(objectId(id), utf8String(text)));
  return sequence(
    ...(request.organizations ?? []).map((o) => part(oid.organization, o)),
    part(oid.commonName, request.commonName),
  );
}

const keyIdOf = (point: Uint8Array): Uint8Array => createHash('sha1').update(point).digest();

function extension(id: string, value: Der, critical = false): Der {
  return critical
    ? sequence(objectId(id), boolean(true), octetString(value))
    : sequence(objectId(id), octetString(value));
}

interface Issuer {
  name: Der;
  keyId: Uint8Array;
  keyPem: string;
}

function extensionsFor(request: CertificateRequest, point: Uint8Array, issuerKeyId: Uint8Array, ca: boolean): Der {
  const list: Der[] = [
    // digitalSignature + keyEncipherment; a CA also signs certificates and lists
    extension(oid.keyUsage, ca ? bitString(Uint8Array.of(0xa6), 1) : bitString(Uint8Array.of(0xa0), 5), true),
    extension(oid.basicConstraints, ca ? sequence(boolean(true)) : sequence(), true),
    extension(oid.authorityKeyId, sequence(implicit(0, issuerKeyId))),
  ];
  const usages = [
    ...(request.server ? [objectId(oid.serverAuth)] : []),
    ...(request.client ? [objectId(oid.clientAuth)] : []),
  ];
  if (usages.length > 0) list.push(extension(oid.extendedKeyUsage, sequence(...usages)));
  if (ca) list.push(extension(oid.subjectKeyId, octetString(keyIdOf(point))));
  const names = altNamesOf(request);
  if (names !== undefined) list.push(names);
  return explicit(3, sequence(...list));
}

function altNamesOf({
  dnsNames = [],
  ipAddresses = [],
}: {
  dnsNames?: string[];
  ipAddresses?: string[];
}): Der | undefined {
  if (dnsNames.length + ipAddresses.length === 0) return undefined;
  return extension(
    oid.altName,
    sequence(
      ...dnsNames.map((name) => implicit(2, Buffer.from(name))),
      ...ipAddresses.map((address) => implicit(7, ipBytes(address))),
    ),
  );
}

/** A certificate that is to be made. */
interface Issuance {
  request: CertificateRequest;
  publicKey: { point: Uint8Array; info: Der };
  issuer: Issuer;
  isAuthority: boolean;
}

/** Positive, and of full length. */
function makeSerial(random: Random): Buffer {
  const serial = Buffer.from(random.bytes(16));
  serial.writeUInt8((serial.readUInt8(0) & 0x7f) | 0x40);
  return serial;
}

function makeCertificate({ request, publicKey, issuer, isAuthority }: Issuance, random: Random, clock: Clock): string {
  const serial = makeSerial(random);
  const start = clock.now() - certificateBackdateMs;
  const body = sequence(
    explicit(0, integer(2)),
    integer(serial),
    signatureAlgorithm,
    issuer.name,
    sequence(time(start), time(start + (request.days ?? 365) * dayMs)),
    nameOf(request),
    publicKey.info,
    extensionsFor(request, publicKey.point, issuer.keyId, isAuthority),
  );
  const signature = sign('sha256', body, { key: issuer.keyPem, dsaEncoding: 'der' });
  return toPem('CERTIFICATE', sequence(body, signatureAlgorithm, bitString(signature)));
}

/** A self-signed certificate authority. */
export function createCertificateAuthority(commonName: string, random: Random, clock: Clock, days = 3650): KeyPair {
  const key = makeKey(random);
  const keyPem = key.privateKeyPem;
  return { certificatePem: signItself({ commonName, days }, keyPem, random, clock), keyPem };
}

/** The same authority for another time: what the old certificate vouches for, the new one does, and the other way. */
export function renewCertificateAuthority(ca: KeyPair, random: Random, clock: Clock, days = 3650): KeyPair {
  const commonName = /^CN=(.*)$/m.exec(new X509Certificate(ca.certificatePem).subject)?.[1] ?? '';
  return { ...ca, certificatePem: signItself({ commonName, days }, ca.keyPem, random, clock) };
}

/** An authority that takes the place of `former`, which vouches for it, both ways while either is known. */
export function succeedCertificateAuthority(former: KeyPair, random: Random, clock: Clock, days = 3650): KeyPair {
  const [, name = '', number = '1'] =
    /^CN=(.*?)(?:-(\d+))?$/m.exec(new X509Certificate(former.certificatePem).subject) ?? [];
  // Of another name: who looks for an issuer by its name must not find the other one.
  const commonName = `${name}-${Number(number) + 1}`;
  const { certificatePem, keyPem } = createCertificateAuthority(commonName, random, clock, days);
  const point = createPublicPoint(keyPem);
  const publicKey = { point, info: sequence(curveAlgorithm, bitString(point)) };
  const issuance = { request: { commonName, days }, publicKey, issuer: issuerOf(former), isAuthority: true };
  return { certificatePem, keyPem, crossPem: makeCertificate(issuance, random, clock) };
}

function signItself(request: CertificateRequest, keyPem: string, random: Random, clock: Clock): string {
  const point = createPublicPoint(keyPem);
  const issuer: Issuer = { name: nameOf(request), keyId: keyIdOf(point), keyPem };
  const publicKey = { point, info: sequence(curveAlgorithm, bitString(point)) };
  return makeCertificate({ request, publicKey, issuer, isAuthority: true }, random, clock);
}

function issuerOf(ca: KeyPair): Issuer {
  const certificate = new X509Certificate(ca.certificatePem);
  const point = createPublicPoint(ca.keyPem);
  return { name: subjectDer(certificate.raw), keyId: keyIdOf(point), keyPem: ca.keyPem };
}

function createPublicPoint(keyPem: string): Uint8Array {
  const { x, y } = createPrivateKey(keyPem).export({ format: 'jwk' });
  if (x === undefined || y === undefined) throw new Error('the key of a certificate authority is no key of a curve');
  return Buffer.concat([Uint8Array.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}

/** Reads one TLV at `at`: where its content starts and where it ends. */
function readTlv(bytes: Buffer, at: number): { content: number; end: number; tag: number } {
  let length = bytes.readUInt8(at + 1);
  let content = at + 2;
  if (length & 0x80) {
    const count = length & 0x7f;
    length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + bytes.readUInt8(content + i);
    content += count;
  }
  return { content, end: content + length, tag: bytes.readUInt8(at) };
}

/** The subject of a certificate exactly as encoded, so that issuer and subject compare equal byte by byte. */
function subjectDer(certificate: Buffer): Uint8Array {
  let at = readTlv(certificate, readTlv(certificate, 0).content).content;
  // version, serial, algorithm, issuer, validity
  for (let skip = 0; skip < 5; skip++) at = readTlv(certificate, at).end;
  return certificate.subarray(at, readTlv(certificate, at).end);
}

/** A new key and its certificate signed by `ca`, in PEM with what vouches for `ca`. */
export function issueCertificate(request: CertificateRequest, ca: KeyPair, random: Random, clock: Clock): KeyPair {
  const key = makeKey(random);
  return {
    certificatePem:
      makeCertificate(
        {
          request,
          publicKey: { point: key.point, info: key.publicKeyInfo },
          issuer: issuerOf(ca),
          isAuthority: false,
        },
        random,
        clock,
      ) + (ca.crossPem ?? ''),
    keyPem: key.privateKeyPem,
  };
}

/** A new key and a request (PKCS#10, RFC 2986) for a certificate of it, signed by it. */
export function createCertificationRequest(
  names: Pick<CertificateRequest, 'commonName' | 'organizations' | 'dnsNames' | 'ipAddresses'>,
  random: Random,
): { requestPem: string; keyPem: string } {
  const key = makeKey(random);
  const alternatives = altNamesOf(names);
  const extensions =
    alternatives === undefined ? [] : [sequence(objectId(oid.extensionRequest), setOf(sequence(alternatives)))];
  const attributes = tlv(0xa0, Buffer.concat(extensions));
  const info = sequence(integer(0), nameOf(names), key.publicKeyInfo, attributes);
  const signature = sign('sha256', info, { key: key.privateKeyPem, dsaEncoding: 'der' });
  return {
    requestPem: toPem('CERTIFICATE REQUEST', sequence(info, signatureAlgorithm, bitString(signature))),
    keyPem: key.privateKeyPem,
  };
}

/** Of a key that signs: how its signature is named, and the hash it takes; Ed25519 takes none. */
const signatures: Record<string, { id: string; hash: string | null; hasNull?: boolean }> = {
  rsa: { id: '1.2.840.113549.1.1.11', hash: 'sha256', hasNull: true },
  prime256v1: { id: oid.ecdsaSha256, hash: 'sha256' },
  secp384r1: { id: '1.2.840.10045.4.3.3', hash: 'sha384' },
  secp521r1: { id: '1.2.840.10045.4.3.4', hash: 'sha512' },
  ed25519: { id: '1.3.101.112', hash: null },
};

/** A request (PKCS#10) that says nothing but which key it is for, in DER, signed by the key. */
export function createStubRequest(key: KeyObject): Uint8Array {
  const signature = signatures[key.asymmetricKeyDetails?.namedCurve ?? key.asymmetricKeyType ?? ''];
  if (signature === undefined) throw new Error(`no requests are made for keys of type ${key.asymmetricKeyType}`);
  const publicKeyInfo: Der = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const info = sequence(integer(0), sequence(), publicKeyInfo, tlv(0xa0, new Uint8Array()));
  const signed = sign(signature.hash, info, { key, dsaEncoding: 'der' });
  const algorithm =
    signature.hasNull === true ? [objectId(signature.id), tlv(0x05, new Uint8Array())] : [objectId(signature.id)];
  return sequence(info, sequence(...algorithm), bitString(signed));
}

export interface SigningOptions {
  /**
   * As the API names them: `digital signature`, `client auth`, …. Throws for one that a certificate of the cluster does
   * not have.
   */
  usages: readonly string[];
  seconds: number;
  ca: KeyPair;
}

const keyUsageBits: Record<string, number> = {
  'digital signature': 0x80,
  signing: 0x80,
  'content commitment': 0x40,
  'key encipherment': 0x20,
  'data encipherment': 0x10,
  'key agreement': 0x08,
};
const extendedUsages: Record<string, string> = {
  'server auth': oid.serverAuth,
  'client auth': oid.clientAuth,
  'code signing': '1.3.6.1.5.5.7.3.3',
  'email protection': '1.3.6.1.5.5.7.3.4',
  timestamping: '1.3.6.1.5.5.7.3.8',
  'ocsp signing': '1.3.6.1.5.5.7.3.9',
};

/**
 * Signs what a request asks for: its subject, key and alternative names, as they were sent. It lasts no longer than the
 * authority. What vouches for the authority follows in the PEM.
 */
export function signCertificationRequest(
  request: CertificationRequest,
  options: SigningOptions,
  random: Random,
  clock: Clock,
): string {
  const { ca } = options;
  const issuer = issuerOf(ca);
  const serial = makeSerial(random);
  const unknown = options.usages.filter(
    (usage) => keyUsageBits[usage] === undefined && extendedUsages[usage] === undefined,
  );
  if (unknown.length > 0) throw new Error(`unrecognized usage values: ${JSON.stringify(unknown)}`);
  const bits = options.usages.reduce((sum, usage) => sum | (keyUsageBits[usage] ?? 0), 0);
  const extended = options.usages.flatMap((usage) => extendedUsages[usage] ?? []);
  const unusedBits = bits === 0 ? 0 : 31 - Math.clz32(bits & -bits);
  const extensions: Der[] = [
    ...(bits === 0 ? [] : [extension(oid.keyUsage, bitString(Uint8Array.of(bits), unusedBits), true)]),
    ...(extended.length === 0 ? [] : [extension(oid.extendedKeyUsage, sequence(...extended.map(objectId)))]),
    extension(oid.basicConstraints, sequence(), true),
    extension(oid.authorityKeyId, sequence(implicit(0, issuer.keyId))),
    ...(request.altNames === undefined ? [] : [extension(oid.altName, request.altNames)]),
  ];
  const start = clock.now() - certificateBackdateMs;
  const end = Math.min(
    clock.now() + options.seconds * 1000,
    Date.parse(new X509Certificate(ca.certificatePem).validTo),
  );
  const body = sequence(
    explicit(0, integer(2)),
    integer(serial),
    signatureAlgorithm,
    issuer.name,
    sequence(time(start), time(end)),
    request.subject,
    request.publicKeyInfo,
    explicit(3, sequence(...extensions)),
  );
  const signature = sign('sha256', body, { key: issuer.keyPem, dsaEncoding: 'der' });
  return toPem('CERTIFICATE', sequence(body, signatureAlgorithm, bitString(signature))) + (ca.crossPem ?? '');
}
