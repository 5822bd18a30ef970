/**
 * Sections that hold many things: a frame is the length of its description (four bytes, big-endian), the description (a
 * JSON object whose `bytes` says how long its content is), and the content.
 */
import { ApiError } from '#base/errors.ts';
import { ByteReader } from '#base/byte-reader.ts';
import { isObject } from '#base/unknown.ts';
import { backupFrameBytesMax, backupFrameHeadBytesMax } from '../limits.ts';

export interface Frame {
  head: { [field: string]: unknown };
  /** Length of the content. */
  bytes: number;
  /** The content, at once. Throws BadRequest where it is larger than a frame that is held may be. */
  read(): Promise<Buffer>;
  /** The content as it comes; what is left of it is passed over by the next frame. */
  content: AsyncIterable<Uint8Array>;
}

export function frameHead(head: object, bytes: number): Buffer {
  const text = Buffer.from(JSON.stringify({ ...head, bytes }));
  const out = Buffer.alloc(4 + text.length);
  out.writeUInt32BE(text.length);
  text.copy(out, 4);
  return out;
}

const damaged = (): ApiError =>
  new ApiError('BadRequest', 'this backup is damaged: a section is not what its format says');

function parseFrame(bytes: Buffer): { [field: string]: unknown; bytes: number } {
  let found: unknown;
  try {
    found = JSON.parse(bytes.toString());
  } catch (cause) {
    const error = damaged();
    error.cause = cause;
    throw error;
  }
  if (!isObject(found)) throw damaged();
  const length = found['bytes'];
  if (typeof length !== 'number' || !Number.isSafeInteger(length) || length < 0) throw damaged();
  return { ...found, bytes: length };
}

/** Rejects with BadRequest where a frame is none, or the stream ends within one. */
export async function* readFrames(source: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  const reader = new ByteReader(source);
  for (;;) {
    const length = await reader.readUpTo(4);
    if (length.length === 0) return;
    if (length.length < 4 || length.readUInt32BE() > backupFrameHeadBytesMax) throw damaged();
    const text = await reader.readUpTo(length.readUInt32BE());
    if (text.length < length.readUInt32BE()) throw damaged();
    const { bytes, ...head } = parseFrame(text);
    let left = bytes;
    const content = async function* (): AsyncGenerator<Uint8Array> {
      while (left > 0) {
        const some = await reader.readSome(left);
        if (some === undefined) throw damaged();
        left -= some.length;
        yield some;
      }
    };
    yield {
      head,
      bytes,
      async read() {
        if (bytes > backupFrameBytesMax) throw damaged();
        const out = await reader.readUpTo(bytes);
        left = 0;
        if (out.length < bytes) throw damaged();
        return out;
      },
      content: content(),
    };
    if (left > 0) await reader.skip(left);
  }
}
