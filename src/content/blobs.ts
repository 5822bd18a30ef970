/**
 * Blobs by digest: files `blobs/ALGORITHM/HEX`, written under `uploads/` and published by rename after fsync, so that a blob that can be
 * seen is whole and was verified. Uploads survive the process: their offset is the file's size, their hash is recomputed when needed.
 *
 * Does not: decide what may be removed (`gc.ts`), know media types.
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { createReadStream, mkdirSync, readdirSync, statSync } from 'node:fs';
import { open, readFile, rename, rm, stat, truncate } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { isDigest } from '#base/reference.ts';
import type { Clock, Random } from '#os/clock.ts';
import { contentYouthMs, uploadIdleMs, uploadsMax } from './limits.ts';

export class DigestError extends Error {
  constructor(message: string) { super(message); this.name = 'DigestError'; }
}

export interface Expected { digest?: string; sizeBytes?: number }

/** One upload in progress. Calls do not overlap: a second `append` waits for the first. */
export interface Upload {
  readonly id: string;
  /** Bytes that are there. */
  readonly offset: number;
  append(source: AsyncIterable<Uint8Array>, bytesMax?: number): Promise<number>;
  /** Verifies and publishes; the upload is gone then, also where the digest does not match. */
  finish(expected: Expected & { algorithm?: string }): Promise<{ digest: string; sizeBytes: number }>;
  cancel(): Promise<void>;
}

export interface Blobs {
  has(digest: string): boolean;
  /** undefined when it is not here. */
  size(digest: string): number | undefined;
  path(digest: string): string;
  /** Bytes `start` to `end`, both inclusive. */
  read(digest: string, range?: { start?: number; end?: number }): Readable;
  readBytes(digest: string, bytesMax: number): Promise<Buffer>;
  write(source: AsyncIterable<Uint8Array>, expected?: Expected, bytesMax?: number): Promise<{ digest: string; sizeBytes: number }>;
  writeBytes(bytes: Uint8Array): Promise<string>;
  /** Takes over a finished file of the same filesystem whose digest the caller computed. */
  adopt(path: string, digest: string, sizeBytes: number): Promise<void>;
  /** A new upload, or a kept one by its id. */
  upload(id?: string): Promise<Upload | undefined>;
  /** An upload that nobody can continue after this process: it is removed at the next start. */
  transientUpload(): Promise<Upload>;
  list(): IterableIterator<[string, number]>;
  /** True when it was published so lately that its owner may not have named it yet. */
  isYoung(digest: string): boolean;
  remove(digest: string): Promise<void>;
  /** Half-made uploads that nobody continued. */
  removeStaleUploads(): Promise<void>;
  scratchPath(): string;
}

const algorithms = ['sha256', 'sha512'];

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
}

class DirectoryBlobs implements Blobs {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sizes = new Map<string, number>();
  readonly #young = new Map<string, number>();
  /** Scratch files of an earlier process. Those of this one belong to operations that remove them themselves. */
  readonly #leftScratch: Set<string>;
  readonly #uploads = new Map<string, FileUpload>();
  /** Files that are being removed; one of the same digest that arrives meanwhile waits. */
  readonly #removing = new Map<string, Promise<void>>();

  constructor(root: string, clock: Clock, random: Random) {
    this.#root = root; this.#clock = clock; this.#random = random;
    mkdirSync(join(root, 'uploads'), { recursive: true, mode: 0o700 });
    this.#leftScratch = new Set(readdirSync(join(root, 'uploads')).filter((name) => name.startsWith('scratch-')));
    for (const algorithm of algorithms) {
      const directory = join(root, 'blobs', algorithm);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const hex of readdirSync(directory)) this.#sizes.set(`${algorithm}:${hex}`, statSync(join(directory, hex)).size);
    }
  }

  has(digest: string): boolean { return this.#sizes.has(digest); }
  size(digest: string): number | undefined { return this.#sizes.get(digest); }
  path(digest: string): string {
    if (!isDigest(digest)) throw new ApiError('BadRequest', `invalid digest: ${digest}`);
    const [algorithm, hex] = digest.split(':');
    return join(this.#root, 'blobs', algorithm!, hex!);
  }
  read(digest: string, range?: { start?: number; end?: number }): Readable { return createReadStream(this.path(digest), { ...range, highWaterMark: 256 << 10 }); }
  async readBytes(digest: string, bytesMax: number): Promise<Buffer> {
    const size = this.#sizes.get(digest);
    if (size === undefined) throw new ApiError('NotFound', `content ${digest}: not found`);
    if (size > bytesMax) throw new ApiError('RequestEntityTooLarge', `content ${digest} of ${size} bytes is over the bound of ${bytesMax}`);
    return readFile(this.path(digest));
  }

  async write(source: AsyncIterable<Uint8Array>, expected: Expected = {}, bytesMax = Number.MAX_SAFE_INTEGER): Promise<{ digest: string; sizeBytes: number }> {
    const upload = await this.transientUpload();
    try {
      await upload.append(source, Math.min(bytesMax, expected.sizeBytes ?? bytesMax));
      return await upload.finish(expected);
    } catch (error) {
      await upload.cancel();
      throw error;
    }
  }

  async writeBytes(bytes: Uint8Array): Promise<string> {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    if (this.has(digest)) { this.#young.set(digest, this.#clock.monotonic()); return digest; }
    const path = this.scratchPath();
    const file = await open(path, 'wx', 0o600);
    try {
      try { await writeAll(file, bytes); await file.datasync(); } finally { await file.close(); }
      await this.adopt(path, digest, bytes.length);
    } catch (error) { await rm(path, { force: true }); throw error; }
    return digest;
  }

  async adopt(path: string, digest: string, sizeBytes: number): Promise<void> {
    await this.#removing.get(digest);
    await rename(path, this.path(digest));
    await this.#syncDirectory(digest);
    this.#sizes.set(digest, sizeBytes);
    this.#young.set(digest, this.#clock.monotonic());
  }

  async #syncDirectory(digest: string): Promise<void> {
    const directory = await open(join(this.#root, 'blobs', digest.split(':')[0]!), 'r');
    try { await directory.sync(); } finally { await directory.close(); }
  }

  transientUpload(): Promise<FileUpload> { return this.#create(`scratch-${this.#random.uuid()}`); }

  async #create(id: string): Promise<FileUpload> {
    const path = join(this.#root, 'uploads', id);
    await (await open(path, 'wx', 0o600)).close();
    const upload = new FileUpload(this, id, path, 0, () => this.#uploads.delete(id), this.#clock);
    this.#uploads.set(id, upload);
    return upload;
  }

  async upload(id?: string): Promise<Upload | undefined> {
    if (id === undefined) {
      if (this.#uploads.size >= uploadsMax) throw new ApiError('TooManyRequests', 'too many uploads in progress');
      return this.#create(this.#random.uuid());
    }
    const known = this.#uploads.get(id);
    if (known !== undefined) return known;
    if (!/^[0-9a-zA-Z-]{8,64}$/.test(id)) return undefined;
    const path = join(this.#root, 'uploads', id);
    try {
      const { size } = await stat(path);
      const raced = this.#uploads.get(id);
      if (raced !== undefined) return raced;
      const upload = new FileUpload(this, id, path, size, () => this.#uploads.delete(id), this.#clock);
      this.#uploads.set(id, upload);
      return upload;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  list(): IterableIterator<[string, number]> { return this.#sizes.entries(); }
  isYoung(digest: string): boolean {
    const at = this.#young.get(digest);
    if (at === undefined) return false;
    if (this.#clock.monotonic() - at < contentYouthMs) return true;
    this.#young.delete(digest);
    return false;
  }
  async remove(digest: string): Promise<void> {
    this.#sizes.delete(digest);
    this.#young.delete(digest);
    const removal = rm(this.path(digest), { force: true }).finally(() => this.#removing.delete(digest));
    this.#removing.set(digest, removal);
    await removal;
  }

  async removeStaleUploads(): Promise<void> {
    const directory = join(this.#root, 'uploads');
    for (const id of readdirSync(directory)) {
      const path = join(directory, id);
      const session = this.#uploads.get(id);
      if (session !== undefined && !id.startsWith('scratch-')) { if (session.idleMs() > uploadIdleMs) await session.cancel(); continue; }
      if (id.startsWith('scratch-') && !this.#leftScratch.has(id)) continue;
      const info = await stat(path).catch(() => undefined);
      if (info !== undefined && (this.#leftScratch.has(id) || this.#clock.now() - info.mtimeMs > uploadIdleMs)) await rm(path, { force: true, recursive: true });
    }
  }

  scratchPath(): string { return join(this.#root, 'uploads', `scratch-${this.#random.uuid()}`); }
}

class FileUpload implements Upload {
  readonly id: string;
  readonly #blobs: DirectoryBlobs;
  readonly #path: string;
  readonly #gone: () => void;
  offset: number;
  readonly #clock: Clock;
  #usedAtMs: number;
  /** Undefined when bytes are there that this process did not hash. */
  #hash: Hash | undefined;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(blobs: DirectoryBlobs, id: string, path: string, offset: number, gone: () => void, clock: Clock) {
    this.#blobs = blobs; this.id = id; this.#path = path; this.offset = offset; this.#gone = gone; this.#clock = clock; this.#usedAtMs = clock.monotonic();
    if (offset === 0) this.#hash = createHash('sha256');
  }

  idleMs(): number { return this.#clock.monotonic() - this.#usedAtMs; }

  #exclusive<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(run);
    this.#busy = result.catch(() => {});
    return result;
  }

  append(source: AsyncIterable<Uint8Array>, bytesMax = Number.MAX_SAFE_INTEGER): Promise<number> {
    return this.#exclusive(async () => {
      // Open only while bytes come: sessions may wait for hours, descriptors should not.
      const file = await open(this.#path, 'a', 0o600);
      let written = 0;
      try {
        for await (const chunk of source) {
          written += chunk.length;
          if (written > bytesMax) throw new DigestError(`content is longer than the ${bytesMax} bytes announced`);
          await writeAll(file, chunk);
          this.#hash?.update(chunk);
          this.offset += chunk.length;
        }
      } catch (error) {
        // A short write may have left bytes that were not hashed (disk full): go back to what is known.
        await truncate(this.#path, this.offset).catch(() => {});
        throw error;
      } finally {
        this.#usedAtMs = this.#clock.monotonic();
        await file.close();
      }
      return this.offset;
    });
  }

  async #digest(algorithm: string): Promise<string> {
    if (this.#hash !== undefined && algorithm === 'sha256') return `sha256:${this.#hash.copy().digest('hex')}`;
    const hash = createHash(algorithm);
    for await (const chunk of createReadStream(this.#path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
    return `${algorithm}:${hash.digest('hex')}`;
  }

  finish(expected: Expected & { algorithm?: string }): Promise<{ digest: string; sizeBytes: number }> {
    return this.#exclusive(async () => {
      const algorithm = expected.digest?.split(':')[0] ?? expected.algorithm ?? 'sha256';
      if (expected.sizeBytes !== undefined && expected.sizeBytes !== this.offset) {
        throw new DigestError(`unexpected commit size ${this.offset}, expected ${expected.sizeBytes}`);
      }
      const digest = await this.#digest(algorithm);
      if (expected.digest !== undefined && digest !== expected.digest) {
        await this.#drop();
        throw new DigestError(`unexpected commit digest ${digest}, expected ${expected.digest}`);
      }
      const sizeBytes = this.offset;
      const file = await open(this.#path, 'r+');
      try { await file.datasync(); } finally { await file.close(); }
      this.#gone();
      await this.#blobs.adopt(this.#path, digest, sizeBytes);
      return { digest, sizeBytes };
    });
  }

  async #drop(): Promise<void> {
    this.#gone();
    await rm(this.#path, { force: true });
  }

  cancel(): Promise<void> { return this.#exclusive(() => this.#drop()); }
}

export function openBlobs(root: string, clock: Clock, random: Random): Blobs { return new DirectoryBlobs(root, clock, random); }
