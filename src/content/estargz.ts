/**
 * eStargz: a layer as gzip whose members can be read alone, so that a reader may fetch single files of it. Each chunk
 * of a file begins a member; what lies between chunks belongs to the member before. The last but one member is an
 * archive with a table of all entries and of where their chunks are, the last one an empty footer that says where the
 * table is. To whoever knows nothing of it, it is gzip of the archive, with something behind the archive's end.
 *
 * The archive is kept byte for byte; the result depends on its bytes alone. A chunk and what is packed around it is in
 * memory, the table on disk.
 *
 * Specification: stargz-snapshotter, "eStargz: Standard-Compatible Extension to Tar.gz"; RFC 1952, "Extra field".
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { constants, crc32, deflateRawSync } from 'node:zlib';
import { ApiError } from '#base/errors.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { TarEntry, TarHeader } from '#base/tar.ts';
import { estargzChunkBytes, estargzHeldBytesMax } from './limits.ts';

const tableName = 'stargz.index.json';
/** Annotations of a layer in a manifest: digest of the table, and bytes of the archive with the table. */
const tableDigestAnnotation = 'containerd.io/snapshot/stargz/toc.digest';
const expandedBytesAnnotation = 'io.containers.estargz.uncompressed-size';

/** What a manifest says of such a layer. */
export function estargzAnnotations({ tableDigest, expandedBytes }: EstargzTotals): Record<string, string> {
  return { [tableDigestAnnotation]: tableDigest, [expandedBytesAnnotation]: String(expandedBytes) };
}

export interface EstargzTotals {
  tableDigest: string;
  /** Of the archive and the table. */
  expandedBytes: number;
}

/** Entries as the table has them; empty fields are left out. */
interface TableEntry {
  name: string;
  type: string;
  size?: number;
  modtime?: string;
  linkName?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  userName?: string;
  groupName?: string;
  offset?: number;
  devMajor?: number;
  devMinor?: number;
  xattrs?: Record<string, string>;
  digest?: string;
  chunkOffset?: number;
  chunkSize?: number;
  chunkDigest?: string;
}

const types: Readonly<Record<TarHeader['type'], string>> = {
  file: 'reg',
  directory: 'dir',
  symlink: 'symlink',
  link: 'hardlink',
  character: 'char',
  block: 'block',
  fifo: 'fifo',
};

/** Seconds, as RFC 3339 writes them; undefined: none. */
function timeOf(mtimeMs: number): string | undefined {
  const date = new Date(Math.round(mtimeMs / 1000) * 1000);
  const isShown = mtimeMs !== 0 && Number.isFinite(date.getTime()) && date.getUTCFullYear() <= 9999;
  return isShown ? date.toISOString().replace('.000Z', 'Z') : undefined;
}

function describe(header: TarHeader): TableEntry {
  const { type, linkTarget, mtimeMs, xattrs } = header;
  const given: Record<string, string | number | undefined> = {
    size: type === 'file' ? header.sizeBytes : 0,
    modtime: timeOf(mtimeMs),
    linkName: type === 'symlink' || type === 'link' ? linkTarget : '',
    mode: header.mode,
    uid: header.uid,
    gid: header.gid,
    userName: header.userName,
    groupName: header.groupName,
    devMajor: type === 'character' || type === 'block' ? header.deviceMajor : 0,
    devMinor: type === 'character' || type === 'block' ? header.deviceMinor : 0,
  };
  const shown = Object.entries(given).filter(([, value]) => value !== undefined && value !== '' && value !== 0);
  const attributes = Object.entries(xattrs).map(([name, value]) => [name, Buffer.from(value).toString('base64')]);
  return {
    name: header.path,
    type: types[type],
    ...Object.fromEntries(shown),
    ...(attributes.length === 0 ? {} : { xattrs: Object.fromEntries(attributes) }),
  };
}

/** A member of gzip: a piece is deflated when it is large enough, so that a member may be of any length. */
class Member {
  readonly #level: number;
  #parts: Uint8Array[] = [];
  #held = 0;
  #checksum = 0;
  #length = 0;
  #isBegun = false;

  constructor(level: number) {
    this.#level = level;
  }

  #begin(): Buffer[] {
    if (this.#isBegun) return [];
    this.#isBegun = true;
    // Method deflate, no name and no time, unknown system.
    return [Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff])];
  }

  #deflate(finishFlush: number): Buffer {
    const piece = Buffer.concat(this.#parts.splice(0));
    this.#held = 0;
    return deflateRawSync(piece, { level: this.#level, memLevel: 9, finishFlush });
  }

  /** What is to be written meanwhile. */
  add(bytes: Uint8Array): Buffer[] {
    this.#checksum = crc32(bytes, this.#checksum);
    this.#length += bytes.length;
    this.#parts.push(bytes);
    this.#held += bytes.length;
    return this.#held < estargzChunkBytes ? [] : [...this.#begin(), this.#deflate(constants.Z_SYNC_FLUSH)];
  }

  end(): Buffer[] {
    const trailer = Buffer.alloc(8);
    trailer.writeUInt32LE(this.#checksum);
    trailer.writeUInt32LE(this.#length % 2 ** 32, 4);
    return [...this.#begin(), this.#deflate(constants.Z_FINISH), trailer];
  }
}

/** An empty member with the place of the table, stored and not deflated: its length is known. */
function encodeFooter(tableOffset: number): Buffer {
  const text = `${tableOffset.toString(16).padStart(16, '0')}STARGZ`;
  const extra = Buffer.concat([Buffer.from('SG'), Buffer.from([text.length, 0]), Buffer.from(text)]);
  return Buffer.concat([
    Buffer.from([0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, extra.length, 0]),
    extra,
    Buffer.from([1, 0, 0, 0xff, 0xff]),
    Buffer.alloc(8),
  ]);
}

/** Where the table of an eStargz blob begins; undefined: it is another one. */
export async function findTable(path: string): Promise<number | undefined> {
  const length = encodeFooter(0).length;
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size < length) return undefined;
    const { buffer } = await file.read(Buffer.alloc(length), 0, length, size - length);
    const offset = Number.parseInt(buffer.toString('latin1', 16, 32), 16);
    const isFooter = offset > 0 && offset < size && encodeFooter(offset).subarray(10).equals(buffer.subarray(10));
    return isFooter ? offset : undefined;
  } finally {
    await file.close();
  }
}

/** Bytes that a reader of the archive has taken and that are not written yet. */
class Taken {
  readonly #chunks: Uint8Array[] = [];
  #held = 0;
  #position = 0;

  async *through(source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      this.#chunks.push(chunk);
      this.#held += chunk.length;
      // Behind the end of an archive there may be anything.
      if (this.#held > estargzHeldBytesMax)
        throw new ApiError(
          'RequestEntityTooLarge',
          `an archive has more than ${estargzHeldBytesMax} bytes of no entry`,
        );
      yield chunk;
    }
  }

  /** Up to a position in the archive, or to the end of what was taken. */
  *upTo(position = Infinity): Generator<Uint8Array> {
    for (let left = position - this.#position; left > 0;) {
      const [chunk] = this.#chunks;
      if (chunk === undefined) return;
      const part = chunk.subarray(0, left);
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
      this.#position += part.length;
      this.#held -= part.length;
      left -= part.length;
      yield part;
    }
  }
}

/** The table, in a file: its length stands before it. */
class Table {
  readonly #file: FileHandle;
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;
  #isEmpty = true;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  async #write(text: string): Promise<void> {
    const bytes = Buffer.from(text);
    this.#hash.update(bytes);
    for (let at = 0; at < bytes.length;) at += (await this.#file.write(bytes, at)).bytesWritten;
    this.#bytes += bytes.length;
  }

  async add(entries: readonly TableEntry[]): Promise<void> {
    for (const entry of entries) {
      await this.#write(`${this.#isEmpty ? '{"version":1,"entries":[\n' : ',\n'}${JSON.stringify(entry)}`);
      this.#isEmpty = false;
    }
  }

  async end(): Promise<{ bytes: number; digest: string }> {
    await this.#write(this.#isEmpty ? '{"version":1,"entries":[]}' : '\n]}');
    return { bytes: this.#bytes, digest: `sha256:${this.#hash.digest('hex')}` };
  }
}

export interface EstargzOptions {
  level: number | undefined;
  /** A path of its own; nothing is there afterwards. */
  tablePath: string;
  /** Hears what goes in, the table among it. */
  onPlain: (piece: Uint8Array) => void;
  onEnd: (totals: EstargzTotals) => void;
}

class Writer {
  readonly #options: EstargzOptions;
  readonly #taken = new Taken();
  readonly #level: number;
  #member: Member;
  /** Of the blob. */
  #offset = 0;
  #expandedBytes = 0;

  constructor(options: EstargzOptions) {
    this.#options = options;
    this.#level = options.level ?? 1;
    this.#member = new Member(this.#level);
  }

  *#out(parts: Iterable<Uint8Array>): Generator<Uint8Array> {
    for (const part of parts) {
      this.#offset += part.length;
      yield part;
    }
  }

  *#put(bytes: Uint8Array): Generator<Uint8Array> {
    this.#options.onPlain(bytes);
    this.#expandedBytes += bytes.length;
    yield* this.#out(this.#member.add(bytes));
  }

  *#next(): Generator<Uint8Array> {
    yield* this.#out(this.#member.end());
    this.#member = new Member(this.#level);
  }

  async *write(source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const { tablePath, onEnd } = this.#options;
    const file = await open(tablePath, 'wx+', 0o600);
    try {
      const table = new Table(file);
      for await (const entry of readTar(this.#taken.through(source))) yield* this.#entry(entry, table);
      for (const rest of this.#taken.upTo()) yield* this.#put(rest);
      yield* this.#next();
      const offset = this.#offset;
      const { bytes, digest } = await table.end();
      yield* this.#put(tableHeader(bytes));
      for await (const part of createReadStream(tablePath)) if (part instanceof Uint8Array) yield* this.#put(part);
      for (const part of [encodeTarPadding(bytes), tarEnd]) yield* this.#put(part);
      yield* this.#out(this.#member.end());
      yield encodeFooter(offset);
      onEnd({ tableDigest: digest, expandedBytes: this.#expandedBytes });
    } finally {
      await file.close();
      await rm(tablePath, { force: true });
    }
  }

  async *#entry({ header, content, extents, position }: TarEntry, table: Table): AsyncGenerator<Uint8Array> {
    if (extents !== undefined)
      throw new ApiError('BadRequest', `eStargz has no sparse files: ${header.path.slice(0, 500)}`);
    if (header.path.replace(/^(?:\.?\/)+/, '') === tableName)
      throw new ApiError('BadRequest', `an archive with ${tableName} cannot become an eStargz layer`);
    for (const part of this.#taken.upTo(position)) yield* this.#put(part);
    const first = describe(header);
    if (header.type !== 'file') {
      await table.add([first]);
      return;
    }
    const whole = createHash('sha256');
    const entries: TableEntry[] = [];
    let chunk = createHash('sha256');
    let entry = first;
    let inChunk = 0;
    let at = position;
    const endChunk = (): void => {
      // The last chunk of a file goes to its end, which its size says.
      const isLast = at === position + header.sizeBytes;
      if (!isLast || inChunk === estargzChunkBytes) entry.chunkSize = inChunk;
      entry.chunkDigest = `sha256:${chunk.digest('hex')}`;
      entries.push(entry);
      chunk = createHash('sha256');
      entry = { name: header.path, type: 'chunk', chunkOffset: at - position };
      inChunk = 0;
    };
    for await (const read of content)
      for (let from = 0; from < read.length;) {
        if (inChunk === 0) {
          yield* this.#next();
          entry.offset = this.#offset;
        }
        const part = read.subarray(from, from + estargzChunkBytes - inChunk);
        from += part.length;
        inChunk += part.length;
        at += part.length;
        chunk.update(part);
        whole.update(part);
        for (const taken of this.#taken.upTo(at)) yield* this.#put(taken);
        if (inChunk === estargzChunkBytes) endChunk();
      }
    if (inChunk > 0) endChunk();
    first.digest = `sha256:${whole.digest('hex')}`;
    await table.add(entries.length === 0 ? [first] : entries);
  }
}

function tableHeader(sizeBytes: number): Buffer {
  return encodeTarHeader({ path: tableName, type: 'file', mode: 0o444, mtimeMs: 0, sizeBytes });
}

/** The archive as eStargz. Throws BadRequest for what that cannot hold: sparse files, a file with the table's name. */
export function packEstargz(
  archive: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  options: EstargzOptions,
): AsyncGenerator<Uint8Array> {
  return new Writer(options).write(archive);
}
