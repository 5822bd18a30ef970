/** Writing and reading the archive of a backup (`format.ts`): sections in parts, with their digests. */
import { createHash } from 'node:crypto';
import { pipeline, Readable } from 'node:stream';
import { createZstdCompress, createZstdDecompress, constants } from 'node:zlib';
import { ApiError } from '#base/errors.ts';
import { readTar } from '#base/tar-read.ts';
import { encodeTarFile, tarEnd } from '#base/tar-write.ts';
import type { TarEntry } from '#base/tar.ts';
import { TarError } from '#base/tar.ts';
import { backupEntryBytesMax, backupPartBytes } from '../limits.ts';
import { entryNames, parseEnd, parseHead, type BackupEnd, type BackupHead, type SectionNote } from './format.ts';
import { seal, unseal, type Key, type Lock } from './sealing.ts';

/** A section, and what follows of it. */
export interface SectionSource {
  name: string;
  content: AsyncIterable<Uint8Array>;
}

export interface ArchiveSource {
  head: BackupHead;
  keys: string;
  /** One after the other, each opened when the one before it has ended. */
  sections: AsyncIterable<SectionSource>;
  /** All but the digests, once the sections have ended. */
  end(): Omit<BackupEnd, 'sections'>;
}

/** Cut into parts of one length, but for the last one. */
async function* partsOf(source: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let held: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of source) {
    held.push(chunk);
    bytes += chunk.length;
    if (bytes < backupPartBytes) continue;
    const all = Buffer.concat(held, bytes);
    let at = 0;
    for (; bytes - at >= backupPartBytes; at += backupPartBytes) yield all.subarray(at, at + backupPartBytes);
    held = at === bytes ? [] : [all.subarray(at)];
    bytes -= at;
  }
  if (bytes > 0) yield Buffer.concat(held, bytes);
}

async function* tarOf(source: ArchiveSource, mtimeMs: number): AsyncGenerator<Uint8Array> {
  const file = (path: string, content: Uint8Array | string): Buffer =>
    encodeTarFile({ path, mode: 0o600, mtimeMs }, content);
  yield file(entryNames.head, JSON.stringify(source.head, null, 2));
  yield file(entryNames.keys, source.keys);
  const sections: Record<string, SectionNote> = {};
  for await (const { name, content } of source.sections) {
    const hash = createHash('sha256');
    let bytes = 0;
    let part = 0;
    for await (const piece of partsOf(content)) {
      hash.update(piece);
      bytes += piece.length;
      yield file(`${name}/${String(++part).padStart(6, '0')}`, piece);
    }
    sections[name] = { bytes, sha256: hash.digest('hex') };
  }
  yield file(entryNames.end, JSON.stringify({ ...source.end(), sections }, null, 2));
  yield tarEnd;
}

/** Errors of either side end the other. */
function through(
  source: AsyncIterable<Uint8Array>,
  transform: NodeJS.ReadWriteStream & Readable,
): AsyncIterable<Buffer> {
  // Whoever reads meets the error.
  pipeline(Readable.from(source, { objectMode: false }), transform, () => undefined);
  return transform;
}

/** The file's bytes. */
export function writeArchive(source: ArchiveSource, lock: Lock): AsyncIterable<Uint8Array> {
  const zstd = createZstdCompress({ params: { [constants.ZSTD_c_compressionLevel]: 3 } });
  return seal(through(tarOf(source, Date.parse(source.head.createdAt)), zstd), lock);
}

/** Who is given what an archive holds, in its order. Each resolves when it has taken it. */
export interface ArchiveSink {
  head(head: BackupHead): Promise<void>;
  keys(text: string): Promise<void>;
  /** Reads the content to its end. */
  section(name: string, content: AsyncIterable<Uint8Array>): Promise<void>;
}

const damaged = (what: string): ApiError => new ApiError('BadRequest', `this backup is damaged: ${what}`);
const cutOff = (): ApiError => new ApiError('BadRequest', 'this backup was cut off: it has no end');

async function textOf({ header, content }: TarEntry): Promise<Buffer> {
  if (header.sizeBytes > backupEntryBytesMax) throw damaged(`${header.path} is too large`);
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}

class ArchiveReader {
  readonly #entries: AsyncGenerator<TarEntry, void, void>;
  readonly #sink: ArchiveSink;
  readonly #found: Record<string, SectionNote> = {};

  constructor(bytes: AsyncIterable<Uint8Array>, sink: ArchiveSink) {
    this.#entries = readTar(bytes);
    this.#sink = sink;
  }

  async #next(): Promise<TarEntry> {
    const next = await this.#entries.next();
    if (next.done === true) throw cutOff();
    return next.value;
  }

  async #named(name: string): Promise<Buffer> {
    const entry = await this.#next();
    if (entry.header.path !== name) throw damaged(`${name} is missing`);
    return textOf(entry);
  }

  async read(): Promise<BackupEnd> {
    await this.#sink.head(parseHead(await this.#named(entryNames.head)));
    await this.#sink.keys((await this.#named(entryNames.keys)).toString());
    let entry: TarEntry | undefined = await this.#next();
    while (entry !== undefined && entry.header.path !== entryNames.end) entry = await this.#section(entry);
    if (entry === undefined) throw cutOff();
    const end = parseEnd(await textOf(entry));
    // What follows the end must be whole too: its digests are no proof of bytes that nobody read.
    for await (const more of { [Symbol.asyncIterator]: () => this.#entries }) await textOf(more);
    this.#compare(end);
    return end;
  }

  /** All parts of a section; resolves with the entry after them. */
  async #section(first: TarEntry): Promise<TarEntry | undefined> {
    const name = /^(.+)\/000001$/.exec(first.header.path)?.[1];
    if (name === undefined || this.#found[name] !== undefined)
      throw damaged(`${JSON.stringify(first.header.path)} is out of place`);
    const hash = createHash('sha256');
    let bytes = 0;
    let after: TarEntry | undefined;
    const next = this.#next.bind(this);
    const content = async function* (): AsyncGenerator<Uint8Array> {
      let entry = first;
      for (let part = 1; ;) {
        for await (const chunk of entry.content) {
          hash.update(chunk);
          bytes += chunk.length;
          yield chunk;
        }
        entry = await next();
        if (entry.header.path !== `${name}/${String(++part).padStart(6, '0')}`) break;
      }
      after = entry;
    };
    const all = content();
    // Who stops early, at an end mark of his own, does not end it.
    await this.#sink.section(name, { [Symbol.asyncIterator]: () => ({ next: () => all.next() }) });
    for (let left = await all.next(); left.done !== true;) left = await all.next();
    this.#found[name] = { bytes, sha256: hash.digest('hex') };
    return after;
  }

  #compare({ sections }: BackupEnd): void {
    for (const name of new Set([...Object.keys(sections), ...Object.keys(this.#found)])) {
      const [said, found] = [sections[name], this.#found[name]];
      // A section of nothing has no parts.
      if (found === undefined && said?.bytes === 0) continue;
      if (said === undefined || found === undefined || said.bytes !== found.bytes || said.sha256 !== found.sha256)
        throw damaged(`${name} is not what was written`);
    }
  }
}

/**
 * Hands the file's content to the sink, piece by piece. Resolves once all of it was found whole; until then nothing of
 * it may count. Rejects with BadRequest in words for the user where it is not.
 */
export async function readArchive(file: AsyncIterable<Uint8Array>, key: Key, sink: ArchiveSink): Promise<BackupEnd> {
  const opened = through(unseal(file, key), createZstdDecompress());
  try {
    return await new ArchiveReader(opened, sink).read();
  } catch (error) {
    if (error instanceof TarError) throw damaged(error.message);
    if (isOfZstd(error)) throw damaged('it does not hold what a backup holds');
    throw error;
  }
}

function isOfZstd(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ZSTD_');
}
