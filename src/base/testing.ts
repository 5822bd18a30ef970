/** For tests: certification requests as clients make them, and objects of which little is said. */
import { generateKeyPairSync, sign } from 'node:crypto';
import { bitString, implicit, integer, objectId, octetString, sequence, setOf, tlv, toPem, utf8String } from './der.ts';
import type { Der } from './der.ts';
import { apiVersionOf, type KindRef, type KubeObject } from './objects.ts';
import { ipBytes } from './ip.ts';

/**
 * What a test sends that no type would let it send, and what it reads of an answer: a field that is not there fails the
 * test.
 */
// oxlint-disable-next-line typescript/no-explicit-any -- tests say what is wrong, and find out what came back
export type TestJson = any;

export interface RequestedNames {
  commonName: string;
  organizations?: string[];
  dnsNames?: string[];
  ipAddresses?: string[];
}

const algorithms = { ec: '1.2.840.10045.4.3.2', rsa: '1.2.840.113549.1.1.11', ed25519: '1.3.101.112' };

/** A request with a new key of the kind, signed by it. */
export function requestFor(
  { commonName, organizations = [], dnsNames = [], ipAddresses = [] }: RequestedNames,
  kind: 'ec' | 'rsa' | 'ed25519' = 'ec',
): { pem: string; privateKeyPem: string } {
  const pair =
    kind === 'ec'
      ? generateKeyPairSync('ec', { namedCurve: 'P-256' })
      : kind === 'rsa'
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ed25519');
  const part = (id: string, text: string): Der => setOf(sequence(objectId(id), utf8String(text)));
  const subject = sequence(...organizations.map((o) => part('2.5.4.10', o)), part('2.5.4.3', commonName));
  const names = [
    ...dnsNames.map((name) => implicit(2, Buffer.from(name))),
    ...ipAddresses.map((ip) => implicit(7, ipBytes(ip))),
  ];
  const extensions =
    names.length === 0
      ? []
      : [
          sequence(
            objectId('1.2.840.113549.1.9.14'),
            setOf(sequence(sequence(objectId('2.5.29.17'), octetString(sequence(...names))))),
          ),
        ];
  const info = sequence(
    integer(0),
    subject,
    pair.publicKey.export({ type: 'spki', format: 'der' }),
    tlv(0xa0, Buffer.concat(extensions)),
  );
  const signature = sign(kind === 'ed25519' ? undefined : 'sha256', info, pair.privateKey);
  return {
    pem: toPem('CERTIFICATE REQUEST', sequence(info, sequence(objectId(algorithms[kind])), bitString(signature))),
    privateKeyPem: String(pair.privateKey.export({ type: 'pkcs8', format: 'pem' })),
  };
}

type DeepPartial<T> = T extends readonly (infer I)[]
  ? readonly DeepPartial<I>[]
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T;

/** An object of which only that is said which matters to a test. */
export function sampleOf<T extends KubeObject>(kind: KindRef<T>, fields: DeepPartial<T>): T {
  const object: KubeObject = { apiVersion: apiVersionOf(kind), kind: kind.kind, metadata: {}, ...fields };
  return object as T;
}
