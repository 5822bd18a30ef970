/**
 * The master side of a terminal as a pair of streams. `close` gives the descriptor back; the container's side then sees
 * a hang-up.
 */
import { ReadStream } from 'node:tty';
import type { Readable, Writable } from 'node:stream';

export interface TerminalStream {
  input: Writable;
  output: Readable;
  close(): void;
  closed(): boolean;
}

export function openTerminalStream(descriptor: number): TerminalStream {
  let closed = false;
  const stream = new ReadStream(descriptor) as ReadStream & Writable;
  // A hang-up is how a terminal ends: EIO on read is not an error to anybody.
  stream.on('error', () => stream.destroy());
  stream.once('close', () => {
    closed = true;
  });
  return {
    input: stream,
    output: stream,
    closed: () => closed,
    close: () => {
      stream.destroy();
    },
  };
}
