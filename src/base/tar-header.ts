/** The header block of a tar entry: its fields, its checksum, and what extended records (PAX, GNU) change of it. */
import { encodeFileName } from './file-names.ts';
import { tarPathBytesMax } from './limits.ts';
import { numberOf, textOf } from './tar-fields.ts';
import type { Layout, Pending } from './tar-fields.ts';
import { applyPax } from './tar-pax.ts';
import { TarError, blockBytes } from './tar.ts';
import type { TarHeader, TarType } from './tar.ts';

const typeOf: Record<string, TarType> = {
  '0': 'file',
  '\0': 'file',
  '7': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  S: 'file',
};

export function verifyChecksum(block: Buffer): void {
  const stated = numberOf(block.subarray(148, 156));
  // The field itself counts as eight spaces.
  let unsigned = 8 * 0x20;
  let negatives = 0;
  for (const part of [block.subarray(0, 148), block.subarray(156, blockBytes)])
    for (const byte of part) {
      unsigned += byte;
      if (byte > 127) negatives++;
    }
  if (stated !== unsigned && stated !== unsigned - 256 * negatives)
    throw new TarError('archive/tar: invalid tar header');
}

/** Whether these first bytes of a file are a header block. */
export function looksLikeTar(head: Uint8Array): boolean {
  if (head.length < blockBytes || head[0] === 0) return false;
  try {
    verifyChecksum(Buffer.from(head.subarray(0, blockBytes)));
    return true;
  } catch {
    return false;
  }
}

export function parseHeader(block: Buffer, pending: Pending): Layout {
  const typeFlag = block.readUInt8(156);
  const letter = String.fromCharCode(typeFlag);
  let path = textOf(block.subarray(0, 100));
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  if (isUstar) {
    const prefix = textOf(block.subarray(345, 500));
    if (prefix !== '') path = `${prefix}/${path}`;
  }
  const type = typeOf[letter];
  if (type === undefined) throw new TarError(`unhandled tar header type ${typeFlag}`);
  const header: TarHeader = {
    path: pending.longName ?? path,
    type,
    mode: numberOf(block.subarray(100, 108)) & 0o7777,
    uid: numberOf(block.subarray(108, 116)),
    gid: numberOf(block.subarray(116, 124)),
    userName: textOf(block.subarray(265, 297)),
    groupName: textOf(block.subarray(297, 329)),
    mtimeMs: numberOf(block.subarray(136, 148)) * 1000,
    sizeBytes: numberOf(block.subarray(124, 136)),
    linkTarget: pending.longLink ?? textOf(block.subarray(157, 257)),
    deviceMajor: numberOf(block.subarray(329, 337)),
    deviceMinor: numberOf(block.subarray(337, 345)),
    xattrs: Object.create(null),
  };
  const layout: Layout = { header, storedBytes: header.sizeBytes, sparseOld: letter === 'S', sparseMapInData: false };
  applyPax(layout, pending.pax);
  if ((letter === '0' || letter === '\0') && header.path.endsWith('/')) header.type = 'directory';
  if (header.type !== 'file') layout.storedBytes = letter === '0' || letter === '\0' ? layout.storedBytes : 0;
  if (layout.storedBytes < 0 || header.sizeBytes < 0) throw new TarError('archive/tar: invalid tar header');
  if (header.type !== 'file') header.sizeBytes = 0;
  if (header.path.includes('\0') || header.linkTarget.includes('\0'))
    throw new TarError('archive/tar: invalid tar header');
  if (
    encodeFileName(header.path).length > tarPathBytesMax ||
    encodeFileName(header.linkTarget).length > tarPathBytesMax
  )
    throw new TarError('archive/tar: path is too long');
  return layout;
}
