/**
 * A streaming tar codec for image layers, build contexts, `docker cp` and `docker save`.
 *
 * Reads ustar, PAX (POSIX.1-2001, local headers), GNU long names, GNU sparse files (old 'S' entries and PAX 0.0, 0.1,
 * 1.0), base-256 numbers
 * and extended attributes (`SCHILY.xattr.*`). Writes ustar, with a PAX header where a value does not fit.
 *
 * Invariants: the input is hostile. Every size that is read is bounded before memory is reserved; a sparse file is
 * never expanded here (its extents are handed out, because a kilobyte may claim an exabyte of zeros); a checksum that
 * is wrong ends the archive with an error; a stream that ends inside an entry's bytes is an error; one that ends after
 * them is an archive without its end mark, as real writers leave it (docker's client, `tar` cut by a pipe), and is
 * taken. Names are bytes (`file-names.ts`). Paths are handed out as written: whoever touches a disk must resolve them
 * safely.
 *
 * Does not: write sparse files, compress, touch the disk.
 */
import { decodeFileName, encodeFileName } from './file-names.ts';
import { tarMetadataBytesMax, tarPathBytesMax, tarSparseExtentsMax } from './limits.ts';

export type TarType = 'file' | 'directory' | 'symlink' | 'link' | 'character' | 'block' | 'fifo';

export interface TarHeader {
  path: string;
  type: TarType;
  mode: number;
  uid: number;
  gid: number;
  userName: string;
  groupName: string;
  /** Milliseconds since 1970, may be fractional and negative. */
  mtimeMs: number;
  /** Size of the file as a reader sees it; for a sparse file the expanded size. */
  sizeBytes: number;
  /** Target of a symlink or hard link, as written. */
  linkTarget: string;
  deviceMajor: number;
  deviceMinor: number;
  xattrs: Record<string, Uint8Array>;
}

export interface TarExtent {
  offset: number;
  length: number;
}

export interface TarEntry {
  header: TarHeader;
  /**
   * Bytes as stored. For a sparse file they are those of `extents`, one after the other. Unread bytes are skipped by
   * the next step.
   */
  content: AsyncIterable<Uint8Array>;
  /** Present for sparse files: where the stored bytes go; all else is zeros. */
  extents?: TarExtent[];
}

export class TarError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TarError';
  }
}

const blockBytes = 512;
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
const letterOf: Record<TarType, string> = {
  file: '0',
  link: '1',
  symlink: '2',
  character: '3',
  block: '4',
  directory: '5',
  fifo: '6',
};

/** Takes exact counts of bytes out of a stream of chunks. */
class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #ended = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Makes the current chunk non-empty; false at the end. */
  async #fill(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      if (this.#ended) return false;
      const next = await this.#source.next();
      if (next.done === true) {
        this.#ended = true;
        return false;
      }
      this.#chunk = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.byteLength);
    }
    return true;
  }

  /** Up to `countMax` bytes of what is there; undefined at the end. */
  async readSome(countMax: number): Promise<Buffer | undefined> {
    if (this.#chunk.length === 0 && !(await this.#fill())) return undefined;
    const out = this.#chunk.length <= countMax ? this.#chunk : this.#chunk.subarray(0, countMax);
    this.#chunk = this.#chunk.subarray(out.length);
    return out;
  }

  /** Exactly `count` bytes; undefined at a clean end, an error where it ends in between. */
  async readExact(count: number): Promise<Buffer | undefined> {
    if (this.#chunk.length >= count) {
      const out = this.#chunk.subarray(0, count);
      this.#chunk = this.#chunk.subarray(count);
      return out;
    }
    const parts: Buffer[] = [];
    let have = 0;
    while (have < count) {
      const part = await this.readSome(count - have);
      if (part === undefined) {
        if (have === 0) return undefined;
        throw new TarError('unexpected EOF');
      }
      parts.push(part);
      have += part.length;
    }
    return Buffer.concat(parts, count);
  }

  async skip(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const part = await this.readSome(left);
      if (part === undefined) throw new TarError('unexpected EOF');
      left -= part.length;
    }
  }

  /** As `skip`, but what ends here ends well. */
  async skipPadding(count: number): Promise<void> {
    for (let left = count; left > 0;) {
      const part = await this.readSome(left);
      if (part === undefined) return;
      left -= part.length;
    }
  }

  async close(): Promise<void> {
    this.#ended = true;
    await this.#source.return?.();
  }
}

function textOf(field: Buffer): string {
  const end = field.indexOf(0);
  return decodeFileName(end < 0 ? field : field.subarray(0, end));
}

/** Octal with padding, or GNU base-256. Values beyond 2^53 are refused. */
function numberOf(field: Buffer): number {
  const first = field[0]!;
  if ((first & 0x80) !== 0) {
    const negative = (first & 0x40) !== 0;
    let value = BigInt(negative ? first | ~0xff : first & 0x7f);
    for (const byte of field.subarray(1)) value = (value << 8n) | BigInt(byte);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER))
      throw new TarError('archive/tar: invalid tar header');
    return Number(value);
  }
  const text = textOf(field).trim();
  if (text === '') return 0;
  if (!/^[0-7]+$/.test(text)) throw new TarError('archive/tar: invalid tar header');
  return Number.parseInt(text, 8);
}

function verifyChecksum(block: Buffer): void {
  const stated = numberOf(block.subarray(148, 156));
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < blockBytes; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : block[i]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  if (stated !== unsigned && stated !== signed) throw new TarError('archive/tar: invalid tar header');
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

/** `LENGTH KEY=VALUE\n` records. GNU sparse 0.0 repeats keys, so a list and not a map. */
function parsePaxRecords(data: Buffer): [string, Buffer][] {
  const records: [string, Buffer][] = [];
  for (let at = 0; at < data.length;) {
    if (data[at] === 0) break;
    const space = data.indexOf(0x20, at);
    const lengthText = space < 0 ? '' : data.toString('latin1', at, space);
    const length = /^[0-9]{1,10}$/.test(lengthText) ? Number(lengthText) : 0;
    const end = at + length;
    if (length < 5 || end > data.length || data[end - 1] !== 0x0a)
      throw new TarError('archive/tar: invalid tar header');
    const equals = data.indexOf(0x3d, space + 1);
    if (equals < 0 || equals >= end) throw new TarError('archive/tar: invalid tar header');
    records.push([decodeFileName(data.subarray(space + 1, equals)), data.subarray(equals + 1, end - 1)]);
    at = end;
  }
  return records;
}

function paxNumber(value: Buffer): number {
  const number = Number(value.toString('latin1'));
  if (value.length === 0 || !Number.isFinite(number) || Math.abs(number) > Number.MAX_SAFE_INTEGER)
    throw new TarError('archive/tar: invalid tar header');
  return number;
}

function checkExtents(extents: TarExtent[], sizeBytes: number, storedBytes: number): TarExtent[] {
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

interface Pending {
  longName?: string;
  longLink?: string;
  pax: [string, Buffer][];
}

/** The parts of an entry that follow its header block. */
interface Layout {
  header: TarHeader;
  storedBytes: number;
  extents?: TarExtent[];
  sparseOld: boolean;
  sparseMapInData: boolean;
}

function parseHeader(block: Buffer, pending: Pending): Layout {
  const letter = String.fromCharCode(block[156]!);
  let path = textOf(block.subarray(0, 100));
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  if (isUstar) {
    const prefix = textOf(block.subarray(345, 500));
    if (prefix !== '') path = `${prefix}/${path}`;
  }
  const type = typeOf[letter];
  if (type === undefined) throw new TarError(`unhandled tar header type ${block[156]!}`);
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
    xattrs: Object.create(null) as Record<string, Uint8Array>,
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

function applyPax(layout: Layout, records: [string, Buffer][]): void {
  const header = layout.header;
  const extents: TarExtent[] = [];
  let sparse = false;
  let sparseName: string | undefined;
  let realSize: number | undefined;
  for (const [key, value] of records) {
    if (key.startsWith('SCHILY.xattr.')) {
      header.xattrs[key.slice('SCHILY.xattr.'.length)] = Uint8Array.from(value);
      continue;
    }
    switch (key) {
      case 'path':
        header.path = decodeFileName(value);
        break;
      case 'linkpath':
        header.linkTarget = decodeFileName(value);
        break;
      case 'size':
        header.sizeBytes = layout.storedBytes = paxNumber(value);
        break;
      case 'uid':
        header.uid = paxNumber(value);
        break;
      case 'gid':
        header.gid = paxNumber(value);
        break;
      case 'uname':
        header.userName = decodeFileName(value);
        break;
      case 'gname':
        header.groupName = decodeFileName(value);
        break;
      case 'mtime':
        header.mtimeMs = paxNumber(value) * 1000;
        break;
      case 'GNU.sparse.name':
        sparseName = decodeFileName(value);
        break;
      case 'GNU.sparse.size':
      case 'GNU.sparse.realsize':
        sparse = true;
        realSize = paxNumber(value);
        break;
      case 'GNU.sparse.major':
        sparse = true;
        layout.sparseMapInData = paxNumber(value) === 1;
        break;
      case 'GNU.sparse.offset':
        sparse = true;
        extents.push({ offset: paxNumber(value), length: 0 });
        break;
      case 'GNU.sparse.numbytes':
        if (extents.length > 0) extents[extents.length - 1]!.length = paxNumber(value);
        break;
      case 'GNU.sparse.map': {
        const numbers =
          value.length === 0
            ? []
            : value
                .toString('latin1')
                .split(',')
                .map((text) => paxNumber(Buffer.from(text)));
        for (let i = 0; i + 1 < numbers.length; i += 2) extents.push({ offset: numbers[i]!, length: numbers[i + 1]! });
        break;
      }
      default: // Unknown keys are to be ignored (POSIX pax, "Extended header keywords").
    }
    if (extents.length > tarSparseExtentsMax) throw new TarError('archive/tar: invalid sparse map');
  }
  if (!sparse) return;
  if (sparseName !== undefined) header.path = sparseName;
  if (realSize !== undefined) header.sizeBytes = realSize;
  if (!layout.sparseMapInData) layout.extents = checkExtents(extents, header.sizeBytes, layout.storedBytes);
}

/** Old GNU: four extents in the header, 21 in each extension block. */
async function readOldSparse(block: Buffer, reader: ByteReader, layout: Layout): Promise<void> {
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
async function readSparseMapInData(reader: ByteReader, layout: Layout): Promise<void> {
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
    text = lines.pop()!;
    if (text.length > blockBytes) throw new TarError('archive/tar: invalid sparse map');
    for (const line of lines) {
      if (numbers.length >= wanted) break;
      numbers.push(paxNumber(Buffer.from(line)));
      if (numbers.length === 1) wanted = 1 + 2 * numbers[0]!;
      if (wanted > 2 * tarSparseExtentsMax) throw new TarError('archive/tar: invalid sparse map');
    }
  }
  if (used > layout.storedBytes) throw new TarError('archive/tar: invalid sparse map');
  layout.storedBytes -= used;
  const extents: TarExtent[] = [];
  for (let i = 1; i + 1 < numbers.length; i += 2) extents.push({ offset: numbers[i]!, length: numbers[i + 1]! });
  layout.extents = checkExtents(extents, layout.header.sizeBytes, layout.storedBytes);
}

async function readMetadata(reader: ByteReader, size: number): Promise<Buffer> {
  if (size > tarMetadataBytesMax) throw new TarError('archive/tar: header field too long');
  const data = size === 0 ? Buffer.alloc(0) : await reader.readExact(size);
  if (data === undefined) throw new TarError('unexpected EOF');
  const own = Buffer.from(data);
  await reader.skipPadding(paddingOf(size));
  return own;
}

function paddingOf(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
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
      const letter = String.fromCharCode(block[156]!);
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
      yield { header: layout.header, content, ...(layout.extents === undefined ? {} : { extents: layout.extents }) };
      await reader.skip(left);
      await reader.skipPadding(padding);
    }
    finished = true;
  } finally {
    if (!finished) await reader.close();
  }
}

function putText(block: Buffer, text: string, offset: number, length: number): void {
  encodeFileName(text).copy(block, offset, 0, length);
}

/** Octal in `length - 1` digits; false where it does not fit. */
function putNumber(block: Buffer, value: number, offset: number, length: number): boolean {
  const text = value < 0 || !Number.isSafeInteger(value) ? '' : value.toString(8);
  const fits = text !== '' && text.length < length;
  block.write((fits ? text : '0').padStart(length - 1, '0'), offset, length - 1, 'latin1');
  return fits;
}

function paxRecord(key: string, value: Uint8Array | string): Buffer {
  const body = Buffer.concat([
    encodeFileName(` ${key}=`),
    typeof value === 'string' ? encodeFileName(value) : value,
    Buffer.from('\n'),
  ]);
  let length = body.length + String(body.length).length;
  if (String(length).length + body.length !== length) length = body.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function fitsField(text: string, bytesMax: number): boolean {
  // PAX is needed for anything that is not plain ASCII.
  return /^[\x00-\x7f]*$/.test(text) && text.length <= bytesMax;
}

function rawHeader(header: TarHeader, letter: string, sizeBytes: number): { block: Buffer; records: Buffer[] } {
  const block = Buffer.alloc(blockBytes);
  const records: Buffer[] = [];
  const pax = (key: string, value: Uint8Array | string): void => {
    records.push(paxRecord(key, value));
  };
  if (!fitsField(header.path, 100)) pax('path', header.path);
  putText(block, header.path, 0, 100);
  putNumber(block, header.mode & 0o7777, 100, 8);
  if (!putNumber(block, header.uid, 108, 8)) pax('uid', String(header.uid));
  if (!putNumber(block, header.gid, 116, 8)) pax('gid', String(header.gid));
  if (!putNumber(block, sizeBytes, 124, 12)) pax('size', String(sizeBytes));
  const seconds = Math.floor(header.mtimeMs / 1000);
  if (!putNumber(block, seconds, 136, 12)) pax('mtime', String(seconds));
  block[156] = letter.charCodeAt(0);
  if (!fitsField(header.linkTarget, 100)) pax('linkpath', header.linkTarget);
  putText(block, header.linkTarget, 157, 100);
  putText(block, 'ustar\x0000', 257, 8);
  if (!fitsField(header.userName, 31)) pax('uname', header.userName);
  if (!fitsField(header.groupName, 31)) pax('gname', header.groupName);
  putText(block, header.userName, 265, 31);
  putText(block, header.groupName, 297, 31);
  if (header.type === 'character' || header.type === 'block') {
    putNumber(block, header.deviceMajor, 329, 8);
    putNumber(block, header.deviceMinor, 337, 8);
  }
  for (const [name, value] of Object.entries(header.xattrs).sort(([a], [b]) => (a < b ? -1 : 1)))
    pax(`SCHILY.xattr.${name}`, value);
  return { block, records };
}

function sealBlock(block: Buffer): Buffer {
  block.fill(0x20, 148, 156);
  let sum = 0;
  for (const byte of block) sum += byte;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1');
  return block;
}

const headerDefaults: Omit<TarHeader, 'path'> = {
  type: 'file',
  mode: 0o644,
  uid: 0,
  gid: 0,
  userName: '',
  groupName: '',
  mtimeMs: 0,
  sizeBytes: 0,
  linkTarget: '',
  deviceMajor: 0,
  deviceMinor: 0,
  xattrs: {},
};

/** The blocks that open an entry. What follows is `sizeBytes` of content and `encodeTarPadding`. */
export function encodeTarHeader(partial: Partial<TarHeader> & { path: string }): Buffer {
  const header: TarHeader = { ...headerDefaults, ...partial };
  if (header.type === 'directory' && !header.path.endsWith('/')) header.path += '/';
  const { block, records } = rawHeader(header, letterOf[header.type], header.type === 'file' ? header.sizeBytes : 0);
  if (records.length === 0) return sealBlock(block);
  const data = Buffer.concat(records);
  const base = header.path.replace(/\/$/, '').split('/').pop() ?? '';
  const extended = rawHeader(
    {
      ...headerDefaults,
      path: `PaxHeaders.0/${encodeFileName(base)
        .toString('latin1')
        .replace(/[^ -~]/g, '_')
        .slice(0, 80)}`,
    },
    'x',
    data.length,
  ).block;
  return Buffer.concat([sealBlock(extended), data, Buffer.alloc(paddingOf(data.length)), sealBlock(block)]);
}

export function encodeTarPadding(sizeBytes: number): Buffer {
  return Buffer.alloc(paddingOf(sizeBytes));
}

/** Two blocks of zeros. */
export const tarEnd: Uint8Array = Buffer.alloc(2 * blockBytes);

/** A whole small file as one entry. */
export function encodeTarFile(header: Partial<TarHeader> & { path: string }, content: Uint8Array | string): Buffer {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  return Buffer.concat([
    encodeTarHeader({ ...header, type: 'file', sizeBytes: bytes.length }),
    bytes,
    encodeTarPadding(bytes.length),
  ]);
}
