/**
 * Sealing a backup: the age format (age-encryption.org/v1), for a passphrase or for recipients.
 *
 * Whose key it is, the library says (`age-encryption`): the header, scrypt, X25519. The payload it would encrypt in
 * JavaScript, at 30 MB/s where the cipher of Node does ten times as much; so the payload is made and read here: pieces
 * of 64 KiB, each ChaCha20-Poly1305 under a key made of the file's, with a counter and a mark on the last piece as
 * nonce (specification of age, "Payload"). The library reads what this writes, and the other way (`sealing.test.ts`).
 *
 * A piece is handed out only once it was found whole. What is cut off has no last piece, and is refused.
 */
import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { Decrypter, Encrypter } from 'age-encryption';
import { ApiError } from '#base/errors.ts';
import { ByteReader } from '#base/byte-reader.ts';
import { sealedHeaderBytesMax, sealedPieceBytes } from '../limits.ts';

/** By what a backup is sealed: one passphrase, or recipients (`age1…`). */
export type Lock = { passphrase: string } | { recipients: string[] };
/** By what it is opened: a passphrase, or identities (`AGE-SECRET-KEY-1…`). */
export type Key = { passphrase: string } | { identities: string[] };

const tagBytes = 16;
const nonceBytes = 16;
const cipher = 'chacha20-poly1305';

function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Buffer {
  return Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32));
}

/** Counts pieces: eleven bytes, and one that says whether it is the last. */
function pieceNonce(counter: number, isLast: boolean): Buffer {
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(counter, 5, 6);
  nonce[11] = isLast ? 1 : 0;
  return nonce;
}

/** A header and the file's key in it, as the library makes them; what it makes of the payload is left. */
async function makeHeader(lock: Lock): Promise<{ header: Uint8Array; nonce: Uint8Array; fileKey: Uint8Array }> {
  const encrypter = new Encrypter();
  let fileKey: Uint8Array | undefined;
  if ('passphrase' in lock) encrypter.setPassphrase(lock.passphrase);
  else {
    for (const recipient of lock.recipients) encrypter.addRecipient(recipient);
    // Has no place in the header; hears the key.
    encrypter.addRecipient({
      wrapFileKey(key) {
        fileKey = Uint8Array.from(key);
        return [];
      },
    });
  }
  const made = await encrypter.encrypt(new Uint8Array(0));
  const header = made.subarray(0, made.length - nonceBytes - tagBytes);
  const nonce = made.subarray(header.length, header.length + nonceBytes);
  if ('passphrase' in lock) {
    const decrypter = new Decrypter();
    decrypter.addPassphrase(lock.passphrase);
    fileKey = await decrypter.decryptHeader(header);
  }
  if (fileKey === undefined) throw new Error('the library named no key');
  return { header, nonce, fileKey };
}

/** Throws BadRequest where a recipient is none. */
export function checkRecipient(recipient: string): void {
  try {
    new Encrypter().addRecipient(recipient);
  } catch (cause) {
    const error = new ApiError(
      'BadRequest',
      `${JSON.stringify(recipient)} is no recipient of age (age1…; age-keygen makes one)`,
    );
    error.cause = cause;
    throw error;
  }
}

export async function* seal(source: AsyncIterable<Uint8Array>, lock: Lock): AsyncGenerator<Uint8Array> {
  const { header, nonce, fileKey } = await makeHeader(lock);
  yield header;
  yield nonce;
  const key = payloadKey(fileKey, nonce);
  const encrypt = (piece: Uint8Array, counter: number, isLast: boolean): Buffer => {
    const sealing = createCipheriv(cipher, key, pieceNonce(counter, isLast), { authTagLength: tagBytes });
    return Buffer.concat([sealing.update(piece), sealing.final(), sealing.getAuthTag()]);
  };
  const reader = new ByteReader(source);
  let piece = await reader.readUpTo(sealedPieceBytes);
  for (let counter = 0; ; counter++) {
    // A piece that is full may be the last one; an empty one comes only in a file of nothing.
    const next = piece.length < sealedPieceBytes ? Buffer.alloc(0) : await reader.readUpTo(sealedPieceBytes);
    yield encrypt(piece, counter, next.length === 0);
    if (next.length === 0) return;
    piece = next;
  }
}

const unreadable = (why: string): ApiError => new ApiError('BadRequest', why);

/** Header lines end with that of the authentication code. */
async function readHeader(reader: ByteReader): Promise<Buffer> {
  const lines: Buffer[] = [];
  let length = 0;
  for (;;) {
    const line: Buffer[] = [];
    for (;;) {
      const byte = await reader.readUpTo(1);
      if (byte.length === 0) throw unreadable('this is no backup: it ends within its first lines');
      line.push(byte);
      if (++length > sealedHeaderBytesMax) throw unreadable('this is no backup: it does not begin as age writes files');
      if (byte[0] === 10) break;
    }
    const text = Buffer.concat(line);
    lines.push(text);
    if (lines.length === 1 && text.toString('latin1') !== 'age-encryption.org/v1\n')
      throw unreadable('this is no backup: it does not begin as age writes files');
    if (text.subarray(0, 4).toString('latin1') === '--- ') return Buffer.concat(lines);
  }
}

async function openHeader(header: Uint8Array, key: Key): Promise<Uint8Array> {
  const decrypter = new Decrypter();
  if ('passphrase' in key) decrypter.addPassphrase(key.passphrase);
  else for (const identity of key.identities) decrypter.addIdentity(identity);
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    const isForPassphrase = /^-> scrypt /m.test(Buffer.from(header).toString('latin1'));
    const isRight = isForPassphrase === 'passphrase' in key;
    const error = unreadable(
      !isRight
        ? `this backup is sealed ${isForPassphrase ? 'by a passphrase: --passphrase-file' : 'for recipients of age: --identity'}`
        : isForPassphrase
          ? 'this is not the passphrase of this backup'
          : 'none of these identities opens this backup',
    );
    error.cause = cause;
    throw error;
  }
}

/** Rejects with BadRequest where the key does not fit, or a piece is not what was sealed. */
export async function* unseal(source: AsyncIterable<Uint8Array>, key: Key): AsyncGenerator<Uint8Array> {
  const reader = new ByteReader(source);
  const header = await readHeader(reader);
  const fileKey = await openHeader(header, key);
  const nonce = await reader.readUpTo(nonceBytes);
  const cutOff = 'this backup was cut off, or altered, after it was written';
  if (nonce.length < nonceBytes) throw unreadable(cutOff);
  const payload = payloadKey(fileKey, nonce);
  const decrypt = (piece: Buffer, counter: number, isLast: boolean): Buffer => {
    if (piece.length < tagBytes) throw unreadable(cutOff);
    const opening = createDecipheriv(cipher, payload, pieceNonce(counter, isLast), { authTagLength: tagBytes });
    opening.setAuthTag(piece.subarray(piece.length - tagBytes));
    try {
      return Buffer.concat([opening.update(piece.subarray(0, piece.length - tagBytes)), opening.final()]);
    } catch (cause) {
      const error = unreadable(cutOff);
      error.cause = cause;
      throw error;
    }
  };
  const whole = sealedPieceBytes + tagBytes;
  let piece = await reader.readUpTo(whole);
  for (let counter = 0; ; counter++) {
    const next = piece.length < whole ? Buffer.alloc(0) : await reader.readUpTo(whole);
    const opened = decrypt(piece, counter, next.length === 0);
    if (opened.length > 0) yield opened;
    if (next.length === 0) return;
    piece = next;
  }
}
