/** Tar, the reading side: entries of a stream, one after the other, each body as a stream of its own. */
import { ByteReader } from './byte-reader.ts';
import { tarMetadataBytesMax } from './limits.ts';
import { parseHeader, verifyChecksum } from './tar-header.ts';
import { parsePaxRecords } from './tar-pax.ts';
import { numberOf, textOf } from './tar-fields.ts';
import type { Pending } from './tar-fields.ts';
import { readOldSparse, readSparseMapInData } from './tar-sparse.ts';
import { TarError, blockBytes, paddingOf } from './tar.ts';
import type { TarEntry } from './tar.ts';

async function readMetadata(reader: ByteReader, size: number): Promise<Buffer> {
  if (size > tarMetadataBytesMax) throw new TarError('archive/tar: header field too long');
  const data = size === 0 ? Buffer.alloc(0) : await reader.readExact(size);
  if (data === undefined) throw new TarError('unexpected EOF');
  const own = Buffer.from(data);
  await reader.skipPadding(paddingOf(size));
  return own;
}

/**
 * The entries of an archive, in order. Reads no further than needed; stops at the end mark or at the end of the stream.
 */
export async function* readTar(source: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry, void, void> {
  const reader = new ByteReader(source);
  let pending: Pending = { pax: [] };
  let finished = false;
  try {
    for (;;) {
      const block = await reader.readExact(blockBytes);
      if (block === undefined) break;
      if (block[0] === 0 && block.every((byte) => byte === 0)) {
        // What follows the end mark is padding; it is read so that a checksum over the stream sees all of it.
        while ((await reader.readSome(1 << 20)) !== undefined) {
          /* drained */
        }
        break;
      }
      verifyChecksum(block);
      const letter = String.fromCharCode(block.readUInt8(156));
      if (letter === 'x' || letter === 'g' || letter === 'L' || letter === 'K' || letter === 'V') {
        const data = await readMetadata(reader, numberOf(block.subarray(124, 136)));
        if (letter === 'x') pending.pax = parsePaxRecords(data);
        else if (letter === 'L') pending.longName = textOf(data);
        else if (letter === 'K') pending.longLink = textOf(data);
        continue;
      }
      const layout = parseHeader(block, pending);
      pending = { pax: [] };
      if (layout.sparseOld) await readOldSparse(Buffer.from(block), reader, layout);
      const padding = paddingOf(layout.storedBytes);
      if (layout.sparseMapInData) await readSparseMapInData(reader, layout);
      let left = layout.storedBytes;
      const content = {
        async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
          while (left > 0) {
            const part = await reader.readSome(left);
            if (part === undefined) throw new TarError('unexpected EOF');
            left -= part.length;
            yield part;
          }
        },
      };
      const { position } = reader;
      yield {
        header: layout.header,
        content,
        position,
        ...(layout.extents === undefined ? {} : { extents: layout.extents }),
      };
      await reader.skip(left);
      await reader.skipPadding(padding);
    }
    finished = true;
  } finally {
    if (!finished) await reader.close();
  }
}
