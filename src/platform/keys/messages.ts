/**
 * What servers say to each other about the cluster's keys. It travels over TLS, and is sealed with a key besides that
 * only servers can make, from what all of their rings have in common: a certificate of the cluster's for an address is
 * no proof of a server, since nodes have such certificates too. AES-256-GCM; the key by HKDF (RFC 5869) from the key
 * that signs the tokens of ServiceAccounts, which no command changes.
 *
 * An answer repeats the number that its request drew, and a request that changes something says a generation that can
 * be taken up once: what is sent again later does nothing.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import type { KeyRing } from '#apiserver/keys.ts';
import { ApiError } from '#base/errors.ts';
import { fieldOf, isObject, textOf } from '#base/unknown.ts';
import type { Random } from '#os/clock.ts';

export interface KeysRequest {
  nonce: string;
  /** To be taken up. Absent: nothing is changed. */
  ring?: KeyRing;
}

export interface KeysAnswer {
  nonce: string;
  /** As the server's file has it. */
  ring: KeyRing;
  /** The generation that the server works with. */
  taken: number;
  /** The key that everything in the store is sealed with; '' while it is not known. */
  sealedWith: string;
  /** Whether the member of the cluster's own etcd there, if there is one, knows the authorities that hold. */
  hasEtcdBegun: boolean;
}

export type Direction = 'request' | 'answer';

const nonceBytes = 12;
const tagBytes = 16;

function keyOf({ serviceAccount: [first] }: KeyRing): Buffer {
  if (first === undefined) throw new Error('the ring has no key of ServiceAccounts');
  return Buffer.from(hkdfSync('sha256', first.privateKeyPem, '', 'tiphys: keys between servers', 32));
}

export function sealMessage(ring: KeyRing, direction: Direction, message: object, random: Random): { sealed: string } {
  const nonce = Buffer.from(random.bytes(nonceBytes));
  const cipher = createCipheriv('aes-256-gcm', keyOf(ring), nonce);
  cipher.setAAD(Buffer.from(direction));
  const body = Buffer.concat([cipher.update(JSON.stringify(message)), cipher.final()]);
  return { sealed: Buffer.concat([nonce, body, cipher.getAuthTag()]).toString('base64') };
}

/** Throws Forbidden for what no server of this cluster has sealed, or for the other direction. */
export function openMessage(ring: KeyRing, direction: Direction, message: unknown): unknown {
  const bytes = Buffer.from(textOf(message, 'sealed') ?? '', 'base64');
  try {
    const decipher = createDecipheriv('aes-256-gcm', keyOf(ring), bytes.subarray(0, nonceBytes));
    decipher.setAAD(Buffer.from(direction));
    decipher.setAuthTag(bytes.subarray(-tagBytes));
    const body = bytes.subarray(nonceBytes, -tagBytes);
    return JSON.parse(Buffer.concat([decipher.update(body), decipher.final()]).toString('utf8'));
  } catch (cause) {
    const error = new ApiError('Forbidden', "this was not sealed with the keys of the cluster's servers");
    error.cause = cause;
    throw error;
  }
}

/** What a server sealed is a ring, if it has the format of this version. */
function isRing(value: unknown): value is KeyRing {
  return isObject(value) && value['format'] === 1 && isObject(value['ca']);
}

export function readRequest(value: unknown): KeysRequest {
  const ring = fieldOf(value, 'ring');
  return { nonce: textOf(value, 'nonce') ?? '', ...(isRing(ring) ? { ring } : {}) };
}

/** Throws BadRequest for what is no answer to the request. */
export function readAnswer(value: unknown, nonce: string): KeysAnswer {
  const [ring, taken] = [fieldOf(value, 'ring'), fieldOf(value, 'taken')];
  if (textOf(value, 'nonce') !== nonce || !isRing(ring) || typeof taken !== 'number')
    throw new ApiError('BadRequest', 'this is no answer to what was asked');
  const hasEtcdBegun = fieldOf(value, 'hasEtcdBegun') === true;
  return { nonce, ring, taken, sealedWith: textOf(value, 'sealedWith') ?? '', hasEtcdBegun };
}
