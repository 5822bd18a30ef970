/**
 * Blobs by digest: files `blobs/ALGORITHM/HEX`, written under `uploads/` and published by rename after fsync, so that a
 * blob that can be seen is whole and was verified. Uploads survive the process: their offset is the file's size, their
 * hash is recomputed when needed.
 *
 * Some blobs are made only when somebody reads them (`DerivedBlobs`); then they lie here like all others.
 *
 * Does not: decide what may be removed (`content.ts`), know media types.
 */
import { createHash } from 'node:crypto';
import type { Hash } from 'node:crypto';
import { createReadStream, mkdirSync, readdirSync, statSync } from 'node:fs';
import { open, readFile, rename, rm, truncate } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { isDigest } from '#base/reference.ts';
import { whenSettled } from '#base/promises.ts';
import type { Clock, Random, Timer } from '#os/clock.ts';
import { contentYouthMs, uploadEvictableIdleMs, uploadIdleMs, uploadsMax, uploadsPerUserMax } from './limits.ts';

export class DigestError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'DigestError';
  }
}

/** The upload was finished or given up, perhaps by another request at the same moment. */
export class UploadGoneError extends Error {
  constructor() {
    super('the upload is finished or was given up');
    this.name = 'UploadGoneError';
  }
}

/**
 * Who began an upload, and for what: nobody else continues it, and only the same user's uploads are given up for a new
 * one of his.
 */
export interface UploadOwner {
  user: string;
  repository: string;
}

export interface Expected {
  digest?: string;
  sizeBytes?: number;
}

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

/** Blobs that are not there, but can be made. */
export interface DerivedBlobs {
  /** Bytes; undefined: it cannot be made. */
  packableBytes(digest: string): number | undefined;
  makeBlob(digest: string): Promise<void>;
}

export interface Blobs {
  /** Also where it is made only when it is read. */
  has(digest: string): boolean;
  /** It lies at its path. */
  isStored(digest: string): boolean;
  deriveFrom(source: DerivedBlobs): void;
  /** undefined when it is not here. */
  size(digest: string): number | undefined;
  path(digest: string): string;
  /** Bytes `start` to `end`, both inclusive. */
  read(digest: string, range?: { start?: number; end?: number }): Readable;
  readBytes(digest: string, bytesMax: number): Promise<Buffer>;
  write(
    source: AsyncIterable<Uint8Array>,
    expected?: Expected,
    bytesMax?: number,
  ): Promise<{ digest: string; sizeBytes: number }>;
  writeBytes(bytes: Uint8Array): Promise<string>;
  /** Takes over a finished file of the same filesystem whose digest the caller computed. */
  adopt(path: string, digest: string, sizeBytes: number): Promise<void>;
  /**
   * A new upload, which also another process can continue. Where the user, or all together, have too many, the one that
   * is idle for longest is given up for it; an ApiError TooManyRequests when all of them are in use.
   */
  startUpload(owner: UploadOwner): Promise<Upload>;
  /** A kept one, when this is its owner. */
  upload(id: string, owner: UploadOwner): Upload | undefined;
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

/** What the ids of uploads end with: their owner, in a form that needs no record and that another process reads too. */
const markOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 12);
const userMark = (owner: UploadOwner): string => `-${markOf(`user ${owner.user}`)}`;
const uploadPattern = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-[0-9a-f]{12}-[0-9a-f]{12}$/;

async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
}

class DirectoryBlobs implements Blobs {
  readonly #root: string;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #sizes = new Map<string, number>();
  readonly #young = new Map<string, number>();
  #derived: DerivedBlobs | undefined;
  #expiry: Timer | undefined;
  /** Scratch files of an earlier process. Those of this one belong to operations that remove them themselves. */
  readonly #leftScratch: Set<string>;
  readonly #uploads = new Map<string, FileUpload>();
  /** The last publication or removal of each digest that is under way: those of one digest come one after the other. */
  readonly #changes = new Map<string, Promise<void>>();

  constructor(root: string, clock: Clock, random: Random) {
    this.#root = root;
    this.#clock = clock;
    this.#random = random;
    mkdirSync(join(root, 'uploads'), { recursive: true, mode: 0o700 });
    this.#leftScratch = new Set();
    for (const name of readdirSync(join(root, 'uploads'))) {
      if (!uploadPattern.test(name)) {
        this.#leftScratch.add(name);
        continue;
      }
      const { size, mtimeMs } = statSync(join(root, 'uploads', name));
      this.#uploads.set(
        name,
        new FileUpload(
          this,
          {
            id: name,
            path: join(root, 'uploads', name),
            offset: size,
            gone: () => this.#uploads.delete(name),
            idleMs: Math.max(0, clock.now() - mtimeMs),
          },
          clock,
        ),
      );
    }
    if (this.#uploads.size > 0) this.#arm();
    for (const algorithm of algorithms) {
      const directory = join(root, 'blobs', algorithm);
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      for (const hex of readdirSync(directory))
        this.#sizes.set(`${algorithm}:${hex}`, statSync(join(directory, hex)).size);
    }
  }

  deriveFrom(source: DerivedBlobs): void {
    this.#derived = source;
  }
  isStored(digest: string): boolean {
    return this.#sizes.has(digest);
  }
  has(digest: string): boolean {
    return this.size(digest) !== undefined;
  }
  size(digest: string): number | undefined {
    return this.#sizes.get(digest) ?? this.#derived?.packableBytes(digest);
  }
  path(digest: string): string {
    if (!isDigest(digest)) throw new ApiError('BadRequest', `invalid digest: ${digest}`);
    const [algorithm, hex] = digest.split(':');
    return join(this.#root, 'blobs', algorithm!, hex!);
  }
  read(digest: string, range?: { start?: number; end?: number }): Readable {
    if (!this.isStored(digest) && this.has(digest))
      return Readable.from(this.#readDerived(digest, range), { objectMode: false });
    return createReadStream(this.path(digest), { ...range, highWaterMark: 256 << 10 });
  }
  async *#readDerived(digest: string, range?: { start?: number; end?: number }): AsyncGenerator<Buffer> {
    await this.#derived?.makeBlob(digest);
    yield* createReadStream(this.path(digest), { ...range, highWaterMark: 256 << 10 }).iterator();
  }
  async readBytes(digest: string, bytesMax: number): Promise<Buffer> {
    const size = this.size(digest);
    if (size === undefined) throw new ApiError('NotFound', `content ${digest}: not found`);
    if (size > bytesMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `content ${digest} of ${size} bytes is over the bound of ${bytesMax}`,
      );
    if (!this.isStored(digest)) await this.#derived?.makeBlob(digest);
    return readFile(this.path(digest));
  }

  async write(
    source: AsyncIterable<Uint8Array>,
    expected: Expected = {},
    bytesMax = Number.MAX_SAFE_INTEGER,
  ): Promise<{ digest: string; sizeBytes: number }> {
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
    if (this.isStored(digest)) {
      this.#young.set(digest, this.#clock.monotonic());
      return digest;
    }
    const path = this.scratchPath();
    const file = await open(path, 'wx', 0o600);
    try {
      try {
        await writeAll(file, bytes);
        await file.datasync();
      } finally {
        await file.close();
      }
      await this.adopt(path, digest, bytes.length);
    } catch (error) {
      await rm(path, { force: true });
      throw error;
    }
    return digest;
  }

  async adopt(path: string, digest: string, sizeBytes: number): Promise<void> {
    const target = this.path(digest);
    // From here on: the collector must not take the blob that is there already while its new owner relies on it.
    this.#young.set(digest, this.#clock.monotonic());
    await this.#change(digest, async () => {
      await rename(path, target);
      await this.#syncDirectory(digest);
      this.#sizes.set(digest, sizeBytes);
      this.#young.set(digest, this.#clock.monotonic());
    });
  }

  /** A removal between a blob's renaming and its listing would leave one listed that is gone. */
  async #change(digest: string, run: () => Promise<void>): Promise<void> {
    const change = whenSettled(this.#changes.get(digest)).then(run);
    this.#changes.set(digest, change);
    try {
      await change;
    } finally {
      if (this.#changes.get(digest) === change) this.#changes.delete(digest);
    }
  }

  async #syncDirectory(digest: string): Promise<void> {
    const directory = await open(join(this.#root, 'blobs', digest.split(':')[0]!), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  }

  transientUpload(): Promise<FileUpload> {
    return this.#create(`scratch-${this.#random.uuid()}`);
  }

  async #create(id: string): Promise<FileUpload> {
    const path = join(this.#root, 'uploads', id);
    await (await open(path, 'wx', 0o600)).close();
    const upload = new FileUpload(this, { id, path, offset: 0, gone: () => this.#uploads.delete(id) }, this.#clock);
    this.#uploads.set(id, upload);
    return upload;
  }

  async startUpload(owner: UploadOwner): Promise<Upload> {
    await this.#expire();
    await this.#makeRoom(uploadsPerUserMax, userMark(owner));
    await this.#makeRoom(uploadsMax, '');
    this.#arm();
    return this.#create(`${this.#random.uuid()}${userMark(owner)}-${markOf(owner.repository)}`);
  }

  upload(id: string, owner: UploadOwner): Upload | undefined {
    return id.endsWith(`${userMark(owner)}-${markOf(owner.repository)}`) ? this.#uploads.get(id) : undefined;
  }

  #sessions(mark: string): FileUpload[] {
    return [...this.#uploads.values()].filter((upload) => uploadPattern.test(upload.id) && upload.id.includes(mark));
  }

  async #makeRoom(countMax: number, mark: string): Promise<void> {
    const sessions = this.#sessions(mark);
    if (sessions.length < countMax) return;
    const oldest = sessions.reduce((a, b) => (b.idleMs() > a.idleMs() ? b : a));
    if (oldest.idleMs() < uploadEvictableIdleMs) throw new ApiError('TooManyRequests', 'too many uploads in progress');
    await oldest.cancel();
  }

  async #expire(): Promise<void> {
    for (const upload of this.#sessions('')) if (upload.idleMs() > uploadIdleMs) await upload.cancel();
  }

  /** Abandoned uploads go also where nobody pushes any more. */
  #arm(): void {
    this.#expiry ??= this.#clock.setTimer(
      uploadIdleMs / 4,
      () => {
        this.#expiry = undefined;
        void whenSettled(this.#expire()).then(() => {
          if (this.#sessions('').length > 0) this.#arm();
        });
      },
      { background: true },
    );
  }

  list(): IterableIterator<[string, number]> {
    return this.#sizes.entries();
  }
  isYoung(digest: string): boolean {
    const at = this.#young.get(digest);
    if (at === undefined) return false;
    if (this.#clock.monotonic() - at < contentYouthMs) return true;
    this.#young.delete(digest);
    return false;
  }
  async remove(digest: string): Promise<void> {
    const path = this.path(digest);
    this.#sizes.delete(digest);
    this.#young.delete(digest);
    await this.#change(digest, () => {
      this.#sizes.delete(digest);
      return rm(path, { force: true });
    });
  }

  async removeStaleUploads(): Promise<void> {
    await this.#expire();
    for (const id of this.#leftScratch) await rm(join(this.#root, 'uploads', id), { force: true, recursive: true });
    this.#leftScratch.clear();
  }

  scratchPath(): string {
    return join(this.#root, 'uploads', `scratch-${this.#random.uuid()}`);
  }
}

/** Where an upload's bytes lie, and how many are there. */
interface UploadFile {
  id: string;
  path: string;
  offset: number;
  gone: () => void;
  /** How long nothing has come. */
  idleMs?: number;
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
  #users = 0;
  #isGone = false;

  constructor(blobs: DirectoryBlobs, { id, path, offset, gone, idleMs = 0 }: UploadFile, clock: Clock) {
    this.#blobs = blobs;
    this.id = id;
    this.#path = path;
    this.offset = offset;
    this.#gone = gone;
    this.#clock = clock;
    this.#usedAtMs = clock.monotonic() - idleMs;
    if (offset === 0) this.#hash = createHash('sha256');
  }

  /** 0 while bytes come. */
  idleMs(): number {
    return this.#users > 0 ? 0 : this.#clock.monotonic() - this.#usedAtMs;
  }

  /** One at a time. Whoever waited while another finished or gave up the upload is told so. */
  #exclusive<T>(run: () => Promise<T>): Promise<T> {
    this.#users++;
    const result = this.#busy
      .then(() => {
        if (this.#isGone) throw new UploadGoneError();
        return run();
      })
      .finally(() => {
        this.#users--;
        this.#usedAtMs = this.#clock.monotonic();
      });
    this.#busy = whenSettled(result);
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
      try {
        await file.datasync();
      } finally {
        await file.close();
      }
      await this.#blobs.adopt(this.#path, digest, sizeBytes);
      this.#leave();
      return { digest, sizeBytes };
    });
  }

  #leave(): void {
    this.#isGone = true;
    this.#gone();
  }

  async #drop(): Promise<void> {
    this.#leave();
    await rm(this.#path, { force: true });
  }

  async cancel(): Promise<void> {
    try {
      await this.#exclusive(() => this.#drop());
    } catch (error) {
      if (!(error instanceof UploadGoneError)) throw error;
    }
  }
}

export function openBlobs(root: string, clock: Clock, random: Random): Blobs {
  return new DirectoryBlobs(root, clock, random);
}
