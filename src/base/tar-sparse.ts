/** Where the bytes of a sparse file lie: the maps of GNU tar, old and new, each with bounds. */
import type { ByteReader } from './byte-reader.ts';
import { tarSparseExtentsMax } from './limits.ts';
import { extentsOf, numberOf, paxNumber } from './tar-fields.ts';
import type { Layout } from './tar-fields.ts';
import { TarError, blockBytes } from './tar.ts';
import type { TarExtent } from './tar.ts';

export function checkExtents(extents: TarExtent[], sizeBytes: number, storedBytes: number): TarExtent[] {
  let end = 0;
  let total = 0;
  for (const extent of extents) {
    if (
      !Number.isSafeInteger(extent.offset) ||
      !Number.isSafeInteger(extent.length) ||
      extent.offset < end ||
      extent.length < 0 ||
      extent.offset + extent.length > sizeBytes
    ) {
      throw new TarError('archive/tar: invalid sparse map');
    }
    end = extent.offset + extent.length;
    total += extent.length;
  }
  if (total !== storedBytes) throw new TarError('archive/tar: invalid sparse map');
  return extents.filter((extent) => extent.length > 0);
}

/** Old GNU: four extents in the header, 21 in each extension block. */
export async function readOldSparse(block: Buffer, reader: ByteReader, layout: Layout): Promise<void> {
  layout.header.sizeBytes = numberOf(block.subarray(483, 495));
  const extents: TarExtent[] = [];
  const take = (from: Buffer, at: number, count: number): void => {
    for (let i = 0; i < count; i++) {
      const slot = from.subarray(at + i * 24, at + i * 24 + 24);
      if (slot[0] === 0) return;
      extents.push({ offset: numberOf(slot.subarray(0, 12)), length: numberOf(slot.subarray(12, 24)) });
    }
  };
  take(block, 386, 4);
  for (let more = block[482] !== 0; more;) {
    const extension = await reader.readExact(blockBytes);
    if (extension === undefined) throw new TarError('unexpected EOF');
    take(extension, 0, 21);
    more = extension[504] !== 0;
    if (extents.length > tarSparseExtentsMax) throw new TarError('archive/tar: invalid sparse map');
  }
  layout.extents = checkExtents(extents, layout.header.sizeBytes, layout.storedBytes);
}

/** PAX 1.0: the map opens the data: a count, then offset and length, each a line, padded to a block. */
export async function readSparseMapInData(reader: ByteReader, layout: Layout): Promise<void> {
  let text = '';
  let used = 0;
  const numbers: number[] = [];
  let wanted = 1;
  while (numbers.length < wanted) {
    const block = used + blockBytes > layout.storedBytes + blockBytes ? undefined : await reader.readExact(blockBytes);
    if (block === undefined) throw new TarError('archive/tar: invalid sparse map');
    used += blockBytes;
    text += block.toString('latin1');
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    if (text.length > blockBytes) throw new TarError('archive/tar: invalid sparse map');
    for (const line of lines) {
      if (numbers.length >= wanted) break;
      const number = paxNumber(Buffer.from(line));
      numbers.push(number);
      if (numbers.length === 1) wanted = 1 + 2 * number;
      if (wanted > 2 * tarSparseExtentsMax) throw new TarError('archive/tar: invalid sparse map');
    }
  }
  if (used > layout.storedBytes) throw new TarError('archive/tar: invalid sparse map');
  layout.storedBytes -= used;
  layout.extents = checkExtents(extentsOf(numbers.slice(1)), layout.header.sizeBytes, layout.storedBytes);
}
