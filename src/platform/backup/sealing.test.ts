/** What is sealed here the library opens, and the other way; what is cut off or altered is refused. */
import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { Decrypter, Encrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { sealedPieceBytes } from '../limits.ts';
import { seal, unseal, type Key, type Lock } from './sealing.ts';

async function* inChunks(bytes: Uint8Array, length: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function all(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

const plain = (length: number): Buffer => Buffer.from(Array.from({ length }, (_, index) => (index * 31) % 251));
const lengths = [0, 1, sealedPieceBytes - 1, sealedPieceBytes, sealedPieceBytes + 1, 3 * sealedPieceBytes];

async function pair(): Promise<{ lock: Lock; key: Key; identity: string; recipient: string }> {
  const identity = await generateX25519Identity();
  const recipient = await identityToRecipient(identity);
  return { identity, recipient, lock: { recipients: [recipient] }, key: { identities: [identity] } };
}

describe('a sealed backup', () => {
  it('is read as it was, whatever its length', async () => {
    const { lock, key } = await pair();
    for (const length of lengths) {
      const sealed = await all(seal(inChunks(plain(length), 10_007), lock));
      assert.deepEqual(await all(unseal(inChunks(sealed, 999), key)), plain(length), String(length));
    }
  });

  it('is what the library reads and writes', async () => {
    const { lock, key, identity, recipient } = await pair();
    const decrypter = new Decrypter();
    decrypter.addIdentity(identity);
    const encrypter = new Encrypter();
    encrypter.addRecipient(recipient);
    for (const length of lengths) {
      const sealed = await all(seal(inChunks(plain(length), 70_000), lock));
      assert.deepEqual(Buffer.from(await decrypter.decrypt(sealed)), plain(length));
      const theirs = await encrypter.encrypt(plain(length));
      assert.deepEqual(await all(unseal(inChunks(theirs, 4096), key)), plain(length));
    }
  });

  it('opens by its passphrase, and by no other', async () => {
    const sealed = await all(seal(inChunks(plain(1000), 100), { passphrase: 'correct horse' }));
    assert.deepEqual(await all(unseal(inChunks(sealed, 100), { passphrase: 'correct horse' })), plain(1000));
    await assert.rejects(all(unseal(inChunks(sealed, 100), { passphrase: 'battery staple' })), /not the passphrase/);
    const { key } = await pair();
    await assert.rejects(all(unseal(inChunks(sealed, 100), key)), /sealed by a passphrase/);
  });

  it('opens for its recipients alone', async () => {
    const [one, other] = [await pair(), await pair()];
    const sealed = await all(seal(inChunks(plain(1000), 100), one.lock));
    await assert.rejects(all(unseal(inChunks(sealed, 100), other.key)), /none of these identities/);
    await assert.rejects(all(unseal(inChunks(sealed, 100), { passphrase: 'correct horse' })), /--identity/);
  });

  it('is refused where it was cut off anywhere', async () => {
    const { lock, key } = await pair();
    const sealed = await all(seal(inChunks(plain(2 * sealedPieceBytes + 5), 5000), lock));
    const ends = [0, 1, 20, 100, 200, sealed.length - 1, sealed.length - 21, sealed.length - sealedPieceBytes - 37];
    for (const end of ends)
      await assert.rejects(all(unseal(inChunks(sealed.subarray(0, end), 3000), key)), /cut off|no backup|identities/);
  });

  it('is refused where a byte of it was altered, or one follows', async () => {
    const { lock, key } = await pair();
    const sealed = await all(seal(inChunks(plain(sealedPieceBytes + 100), 5000), lock));
    for (const at of [3, 60, 170, 230, 5000, sealed.length - 1]) {
      const altered = Buffer.from(sealed);
      altered[at] = (altered[at] ?? 0) ^ 1;
      await assert.rejects(all(unseal(inChunks(altered, 3000), key)), /cut off|no backup|identities/, String(at));
    }
    await assert.rejects(
      all(unseal(inChunks(Buffer.concat([sealed, Buffer.of(0)]), 3000), key)),
      /cut off, or altered/,
    );
  });

  it('is not looked for in what is none, however long', async () => {
    const { key } = await pair();
    await assert.rejects(all(unseal(inChunks(Buffer.alloc(200_000, 'x'), 3000), key)), /this is no backup/);
  });
});
