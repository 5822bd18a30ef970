/**
 * Messages on a stream of HTTP/2. Source: gRPC's documentation, "gRPC over HTTP2": a message is a byte (compressed or
 * not), four bytes of length and the bytes. Compressed messages are refused: nobody sends them unasked.
 */
import type { Duplex } from 'node:stream';
import { whenDrained } from '#base/streams.ts';
import { GrpcError, code } from './errors.ts';

/** Messages of a stream of bytes. Throws ResourceExhausted for one beyond `messageBytesMax`. */
export async function* readFrames(source: AsyncIterable<Buffer>, messageBytesMax: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let have = 0;
  for await (const chunk of source) {
    parts.push(chunk);
    have += chunk.length;
    while (have >= 5) {
      const [first = chunk] = parts;
      const head = first.length < 5 ? Buffer.concat(parts) : first;
      if (head !== first) parts = [head];
      if (head[0] !== 0) throw new GrpcError(code.unimplemented, 'compressed messages are not read');
      const length = head.readUInt32BE(1);
      if (length > messageBytesMax)
        throw new GrpcError(
          code.resourceExhausted,
          `grpc: received message larger than max (${length} vs. ${messageBytesMax})`,
        );
      if (have < 5 + length) break;
      const all = parts.length === 1 ? head : Buffer.concat(parts);
      yield all.subarray(5, 5 + length);
      const rest = all.subarray(5 + length);
      parts = rest.length === 0 ? [] : [rest];
      have = rest.length;
    }
  }
  if (have > 0) throw new GrpcError(code.internal, 'the stream ended within a message');
}

function frameOf(bytes: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

export async function sendFrame(stream: Duplex, bytes: Uint8Array): Promise<void> {
  if (!stream.write(frameOf(bytes))) await whenDrained(stream);
}
