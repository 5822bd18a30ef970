/**
 * gzip of large streams on several threads: one member, whose content is cut into pieces that are deflated side by
 * side, each with the end of the one before as its dictionary, so that little is lost by the cuts. What does not become
 * smaller (media, archives, keys) is stored as it is:
 * deflating it would take most of the time and give nothing. The result depends on the bytes alone, never on timing.
 *
 * Specification: RFC 1952 (gzip), RFC 1951 (a stream is a row of blocks; a sync flush ends one at a byte).
 */
import { constants, crc32, deflateRaw, deflateRawSync } from 'node:zlib';
import type { ZlibOptions } from 'node:zlib';
import { awaitedLater } from '#base/promises.ts';
import { gzipPieceBytes, gzipPiecesInParallelMax } from './limits.ts';

const windowBytes = 32 << 10;
const sampleBytes = 4 << 10;
/** Level 1: three times as fast as the default for a tenth more bytes, and the usual reader is on this machine. */
const deflateOptions: ZlibOptions = { level: 1, memLevel: 9, finishFlush: constants.Z_SYNC_FLUSH };
const lettersOnly: ZlibOptions = { level: 1, strategy: constants.Z_HUFFMAN_ONLY };

/**
 * How to deflate a piece, by samples of its beginning, middle and end: searching for repetitions takes most of the
 * time, and is done where it gives something.
 */
function chooseOptions(piece: Uint8Array, level: number | undefined): ZlibOptions {
  if (level !== undefined) return { ...deflateOptions, level };
  if (piece.length < 4 * sampleBytes) return deflateOptions;
  const samples = [0, (piece.length - sampleBytes) >> 1, piece.length - sampleBytes].map((at) =>
    piece.subarray(at, at + sampleBytes),
  );
  const sizeWith = (options: ZlibOptions): number =>
    samples.reduce((sum, sample) => sum + deflateRawSync(sample, options).length, 0);
  const searched = sizeWith({ level: 1 });
  if (searched > samples.length * sampleBytes * 0.97) return { ...deflateOptions, level: 0 };
  // Text of random bytes: fewer bits a letter, and no repetitions.
  return sizeWith(lettersOnly) <= searched * 1.02 ? { ...deflateOptions, ...lettersOnly } : deflateOptions;
}

function deflatePiece(piece: Uint8Array, dictionary: Uint8Array, level: number | undefined): Promise<Buffer> {
  const options = chooseOptions(piece, level);
  if (options.level === 0) return Promise.resolve(deflateRawSync(piece, options));
  return new Promise((resolve, reject) => {
    deflateRaw(piece, { ...options, ...(dictionary.length === 0 ? {} : { dictionary }) }, (error, out) => {
      if (error === null) resolve(out);
      else reject(error);
    });
  });
}

/** Cuts pieces of one size, so that what comes out does not depend on how it came in. */
class PieceCutter {
  #piece = Buffer.allocUnsafe(gzipPieceBytes);
  #length = 0;

  *add(part: Uint8Array): Generator<Buffer> {
    for (let at = 0; at < part.length;) {
      const count = Math.min(part.length - at, gzipPieceBytes - this.#length);
      this.#piece.set(part.subarray(at, at + count), this.#length);
      this.#length += count;
      at += count;
      if (this.#length < gzipPieceBytes) continue;
      yield this.#piece;
      this.#piece = Buffer.allocUnsafe(gzipPieceBytes);
      this.#length = 0;
    }
  }

  *end(): Generator<Buffer> {
    if (this.#length > 0) yield this.#piece.subarray(0, this.#length);
  }
}

async function* inPieces(source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  const cutter = new PieceCutter();
  // A turn of the event loop for each small part would cost more than the part.
  if (Symbol.iterator in source) for (const part of source) yield* cutter.add(part);
  else for await (const part of source) yield* cutter.add(part);
  yield* cutter.end();
}

/** `onPlain` hears the bytes that go in, in large pieces. `level`: zlib's, for every piece; undefined: what fits it. */
export async function* gzipParallel(
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  onPlain: (piece: Uint8Array) => void,
  level?: number,
): AsyncGenerator<Uint8Array> {
  // Method deflate, no name and no time, unknown system.
  yield Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
  let checksum = 0;
  let length = 0;
  let dictionary: Uint8Array = Buffer.alloc(0);
  const running: Promise<Buffer>[] = [];
  try {
    for await (const piece of inPieces(source)) {
      onPlain(piece);
      checksum = crc32(piece, checksum);
      length += piece.length;
      const deflated = deflatePiece(piece, dictionary, level);
      running.push(awaitedLater(deflated));
      dictionary = piece.subarray(Math.max(0, piece.length - windowBytes));
      if (running.length >= gzipPiecesInParallelMax) yield await running.shift()!;
    }
    for (const deflated of running.splice(0)) yield await deflated;
  } finally {
    await Promise.allSettled(running);
  }
  const end = Buffer.alloc(10);
  // An empty last block, and the trailer.
  end[0] = 3;
  end.writeUInt32LE(checksum, 2);
  end.writeUInt32LE(length % 2 ** 32, 6);
  yield end;
}
