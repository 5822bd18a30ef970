/**
 * Docker's multiplexed stream (stdcopy): eight bytes of header (stream, three zeros, length big-endian) before each
 * piece.
 */
import { Writable } from 'node:stream';
import { onceClosed, whenDrained } from '#base/streams.ts';

export function frame(stream: 1 | 2, data: Uint8Array): Buffer {
  const head = Buffer.alloc(8);
  head.writeUInt8(stream, 0);
  head.writeUInt32BE(data.length, 4);
  return Buffer.concat([head, data]);
}

/** A stream whose writes come out framed on `target`, which it does not end. Waits when the target is full. */
export function framedWriter(target: Writable, stream: 1 | 2): Writable {
  return relay(target, (data) => frame(stream, data));
}

/** The same without frames, for terminals. */
export function plainWriter(target: Writable): Writable {
  return relay(target, (data) => data);
}

function relay(target: Writable, wrap: (data: Buffer) => Uint8Array): Writable {
  const out = new Writable({
    write(chunk: Buffer, _encoding, done) {
      if (target.destroyed || target.writableEnded) {
        done();
        return;
      }
      if (target.write(wrap(chunk))) done();
      else void whenDrained(target).then(() => done());
    },
  });
  onceClosed(target, () => out.destroy());
  return out;
}
