/** Finding out how a stream is compressed, by its first bytes, and undoing it. Names follow the OCI media type suffixes. */
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { Readable, pipeline } from 'node:stream';
import { ApiError } from '#base/errors.ts';

export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz';

export function detectCompression(head: Uint8Array): Compression {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, index) => head[index] === byte);
  if (starts(0x1f, 0x8b, 0x08)) return 'gzip';
  if (starts(0x28, 0xb5, 0x2f, 0xfd)) return 'zstd';
  if (starts(0x42, 0x5a, 0x68)) return 'bzip2';
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz';
  return 'none';
}

/** The stream's first bytes, and the whole stream again. */
export async function peek(source: AsyncIterable<Uint8Array>, count = 6): Promise<{ head: Buffer; whole: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let length = 0;
  while (length < count) {
    const next = await iterator.next();
    if (next.done === true) break;
    held.push(next.value);
    length += next.value.length;
  }
  async function* whole(): AsyncGenerator<Uint8Array> {
    try {
      yield* held;
      for (;;) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally { await iterator.return?.(); }
  }
  return { head: Buffer.concat(held).subarray(0, count), whole: whole() };
}

/** Expanded bytes, whatever the compression. bzip2 and xz need a program: `expandOther` is given by those who may start one. */
export async function decompress(source: AsyncIterable<Uint8Array>, expandOther?: (kind: 'bzip2' | 'xz', source: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>): Promise<AsyncIterable<Uint8Array>> {
  const { head, whole } = await peek(source);
  const kind = detectCompression(head);
  if (kind === 'none') return whole;
  if (kind === 'bzip2' || kind === 'xz') {
    if (expandOther === undefined) throw new ApiError('BadRequest', `${kind} compression is not supported here`);
    return expandOther(kind, whole);
  }
  const stream = kind === 'gzip' ? createGunzip({ chunkSize: 256 << 10 }) : createZstdDecompress({ chunkSize: 256 << 10 });
  // Errors of the source reach the reader through the destroyed stream.
  pipeline(Readable.from(whole, { objectMode: false }), stream, () => {});
  return stream as AsyncIterable<Uint8Array>;
}
