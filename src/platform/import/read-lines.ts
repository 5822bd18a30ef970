/** Lines of a stream as bytes, without their ends. */
import { ApiError } from '#base/errors.ts';
import { importedLineBytesMax } from '../limits.ts';

export async function* readLines(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    let from = 0;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
      yield Buffer.concat([...pieces, chunk.subarray(from, end)]);
      pieces = [];
      bytes = 0;
      from = end + 1;
    }
    bytes += chunk.length - from;
    if (bytes > importedLineBytesMax)
      throw new ApiError('RequestEntityTooLarge', `a line is over ${importedLineBytesMax} bytes`);
    if (from < chunk.length) pieces.push(chunk.subarray(from));
  }
  if (bytes > 0) yield Buffer.concat(pieces);
}
