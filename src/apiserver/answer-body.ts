/** Bodies that other servers answer with: as large as a stranger makes them. */
import type { ClientRequest, IncomingMessage } from 'node:http';

/** Calls one of the two, once. An answer of more than `bytesMax` ends its request `out` with an error. */
export function readAnswer(
  answer: IncomingMessage,
  { out, bytesMax }: { out: ClientRequest; bytesMax: number },
  done: (body: Buffer) => void,
  failed: (error: unknown) => void,
): void {
  const parts: Buffer[] = [];
  let size = 0;
  answer.on('data', (part: Buffer) => {
    size += part.length;
    if (size > bytesMax) out.destroy(new Error('response is too large'));
    else parts.push(part);
  });
  answer.on('error', failed);
  answer.on('end', () => {
    try {
      done(Buffer.concat(parts));
    } catch (error) {
      failed(error);
    }
  });
}
