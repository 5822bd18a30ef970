/**
 * Unpacks tar archives into a directory: an image layer (whiteouts become overlayfs's own marks) or a plain archive
 * (build contexts, `docker cp`). Synchronous file calls: run it in a worker (`layer-worker.ts`) when the archive is
 * large.
 *
 * Invariants: nothing outside the directory is touched, whatever names, links and devices the archive holds; owners,
 * modes, times, extended attributes, hard links and devices are kept; entry count, expanded bytes and depth are
 * bounded.
 *
 * Specification: OCI image layer, "Applying Changesets"; overlayfs.rst, "whiteouts and opaque directories".
 */
import { closeSync, constants, fchmodSync, fchownSync, ftruncateSync, writeSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { readTar } from '#base/tar-read.ts';
import type { TarEntry, TarHeader } from '#base/tar.ts';
import { codeOf } from '#base/thrown.ts';
import {
  chmodSync,
  chownSync,
  lchownSync,
  linkSync,
  lstatOrUndefined,
  openSync,
  rmSync,
  setOpenFileTimes,
  setTimes,
  symlinkSync,
} from '#os/named-files.ts';
import { makeSpecialFile, setXattr } from '#os/special-files.ts';
import { asFileOwner } from '#os/file-owner.linux.ts';
import type { Owner } from './pack.ts';
import { impliedDirectoriesMax, layerEntriesMax, layerExpandedBytesMax, layerPathDepthMax } from './limits.ts';
import { RootedDirectory, pathParts } from './safe-path.ts';

export interface UnpackOptions {
  /** Whiteout files become overlayfs marks; otherwise they are ordinary files. */
  layer: boolean;
  /** Owner of everything, in place of the archive's. */
  owner?: { uid: number; gid: number };
  /** Owners as the files get them, by those that the archive has. */
  ownerOf?: (owner: Owner) => Owner;
  /** Who works on the files, where that cannot be root (`asFileOwner`). */
  worker?: Owner;
  /** A directory is not replaced by something else, nor the other way round: an ApiError instead. */
  keepsKinds?: boolean;
  /** Called for each entry; false leaves it out. */
  filter?: (header: TarHeader) => boolean;
  signal?: AbortSignal;
  /** Blocks of zeros are left out of files: holes, which read the same. */
  isSparse?: boolean;
  /** In place of the bounds of an image's layer. */
  entriesMax?: number;
  bytesMax?: number;
}

const sparseBlockBytes = 4096;
const zeroBlock = Buffer.alloc(sparseBlockBytes);

const opaqueXattr = 'trusted.overlay.opaque';
const mark = Buffer.from('y');
const openFlags = constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW;

function refuse(kind: string, path: string, target = ''): never {
  throw new ApiError('BadRequest', `invalid ${kind} "${path}"${target === '' ? '' : ` -> "${target}"`}`);
}

/** Refuses names that would climb out; what stays inside is normalised. */
function safeParts(path: string): string[] {
  const out: string[] = [];
  for (const part of pathParts(path)) {
    if (part !== '..') {
      out.push(part);
      continue;
    }
    if (out.pop() === undefined) refuse('tar path, it escapes the root:', path);
  }
  if (out.length > layerPathDepthMax) refuse('tar path, it is too deep:', path.slice(0, 100));
  return out;
}

const isZero = (bytes: Buffer): boolean => bytes.equals(zeroBlock.subarray(0, bytes.length));

class Unpacker {
  readonly #root: RootedDirectory;
  readonly #options: UnpackOptions;
  readonly #directoryTimes = new Map<string, number>();
  /** Made only because something lies in them. */
  readonly #implied = new Set<string>();
  #written = 0;

  constructor(directory: string, options: UnpackOptions) {
    this.#root = new RootedDirectory(directory);
    this.#options = options;
  }

  #makeParent = (path: string): void => {
    this.#root.makeDirectory(path);
    this.#implied.add(path);
    if (this.#implied.size > impliedDirectoriesMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `the archive leaves out more than ${impliedDirectoriesMax} directories of its files`,
      );
    const { owner, ownerOf } = this.#options;
    const own = owner === undefined ? undefined : (ownerOf?.(owner) ?? owner);
    if (own !== undefined) chownSync(path, own.uid, own.gid);
  };

  /** Nothing in between may wait: other work on this thread is root's. */
  #work<T>(run: () => T): T {
    const { worker } = this.#options;
    return worker === undefined ? run() : asFileOwner(worker, run);
  }

  #ownerOf(header: TarHeader): Owner {
    const owner = this.#options.owner ?? header;
    return this.#options.ownerOf?.(owner) ?? owner;
  }

  async entry(entry: TarEntry): Promise<void> {
    const path = this.#work(() => this.#begin(entry));
    if (path !== undefined) await this.#file(path, entry);
  }

  /** The path of a file, whose bytes are still to come; all else is whole. */
  #begin(entry: TarEntry): string | undefined {
    const { header } = entry;
    const parts = safeParts(header.path);
    if (parts.length === 0) {
      if (header.type === 'directory') this.#finish(this.#root.root, header);
      return undefined;
    }
    const name = parts.at(-1)!;
    if (this.#options.layer && name.startsWith('.wh.')) {
      this.#whiteout(parts, name);
      return undefined;
    }
    const path = this.#root.locate(parts, this.#makeParent)!;
    const existing = lstatOrUndefined(path);
    if (
      this.#options.keepsKinds === true &&
      existing !== undefined &&
      existing.isDirectory() !== (header.type === 'directory')
    ) {
      const [there, comes] = existing.isDirectory() ? ['directory', 'non-directory'] : ['non-directory', 'directory'];
      throw new ApiError(
        'BadRequest',
        `cannot overwrite ${there} ${JSON.stringify(`/${parts.join('/')}`)} with ${comes} ${JSON.stringify(header.path)}`,
      );
    }
    if (existing !== undefined && !(header.type === 'directory' && existing.isDirectory())) {
      rmSync(path, { recursive: true, force: true });
      this.#root.forget(path);
      this.#directoryTimes.delete(path);
    }
    switch (header.type) {
      case 'directory':
        if (existing?.isDirectory() !== true) this.#root.makeDirectory(path, 0o700);
        break;
      case 'file':
        return path;
      case 'symlink':
        this.#symlink(path, header);
        break;
      case 'link':
        this.#link(path, header);
        return undefined;
      case 'character':
      case 'block':
      case 'fifo':
        makeSpecialFile(path, header.type, header.mode, { major: header.deviceMajor, minor: header.deviceMinor });
        break;
    }
    this.#finish(path, header);
    return undefined;
  }

  #whiteout(parts: string[], name: string): void {
    const parent = this.#root.directory(parts.slice(0, -1), this.#makeParent)!;
    if (name === '.wh..wh..opq') {
      setXattr(parent, opaqueXattr, mark);
      return;
    }
    // Other names with this prefix are left-overs of aufs.
    if (name.startsWith('.wh..wh.')) return;
    const hidden = name.slice('.wh.'.length);
    if (hidden === '' || hidden === '.' || hidden === '..') refuse('whiteout', parts.join('/'));
    const path = `${parent}/${hidden}`;
    if (lstatOrUndefined(path) === undefined) makeSpecialFile(path, 'character', 0);
  }

  /** Where it leads is no matter: whoever follows it in a container, or here, does not leave the root. */
  #symlink(path: string, header: TarHeader): void {
    symlinkSync(header.linkTarget, path);
  }

  #link(path: string, header: TarHeader): void {
    const target = this.#root.locate(safeParts(header.linkTarget));
    if (target === undefined) refuse('hardlink', header.path, header.linkTarget);
    if (lstatOrUndefined(target)?.isDirectory() === true) refuse('hardlink', header.path, header.linkTarget);
    try {
      linkSync(target, path);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') refuse('hardlink', header.path, header.linkTarget);
      throw error;
    }
  }

  async #file(path: string, entry: TarEntry): Promise<void> {
    const { header, extents } = entry;
    const fd = this.#work(() => openSync(path, openFlags, 0o600));
    try {
      if (extents === undefined && this.#options.isSparse === true) await this.#sparse(fd, entry);
      else if (extents === undefined) for await (const chunk of entry.content) this.#put(fd, chunk, null);
      else {
        ftruncateSync(fd, header.sizeBytes);
        let index = 0;
        let inExtent = 0;
        for await (let chunk of entry.content) {
          while (chunk.length > 0) {
            const extent = extents[index]!;
            const part = chunk.subarray(0, extent.length - inExtent);
            this.#put(fd, part, extent.offset + inExtent);
            inExtent += part.length;
            chunk = chunk.subarray(part.length);
            if (inExtent === extent.length) {
              index++;
              inExtent = 0;
            }
          }
        }
      }
      this.#work(() => {
        const owner = this.#ownerOf(header);
        fchownSync(fd, owner.uid, owner.gid);
        fchmodSync(fd, header.mode);
        this.#setXattrs(path, header);
        setOpenFileTimes(fd, header.mtimeMs);
      });
    } finally {
      closeSync(fd);
    }
  }

  /** Written block by block, but for those of zeros. */
  async #sparse(fd: number, { header, content }: TarEntry): Promise<void> {
    ftruncateSync(fd, header.sizeBytes);
    let at = 0;
    for await (const chunk of content) {
      const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length);
      let from = 0;
      for (let block = 0; block < bytes.length; block += sparseBlockBytes) {
        const end = Math.min(bytes.length, block + sparseBlockBytes);
        if (!isZero(bytes.subarray(block, end))) continue;
        if (from < block) this.#put(fd, bytes.subarray(from, block), at + from);
        from = end;
      }
      if (from < bytes.length) this.#put(fd, bytes.subarray(from), at + from);
      at += bytes.length;
    }
  }

  #put(fd: number, chunk: Uint8Array, position: number | null): void {
    this.#written += chunk.length;
    if (this.#written > (this.#options.bytesMax ?? layerExpandedBytesMax))
      throw new ApiError('RequestEntityTooLarge', 'the archive expands to more than the bound');
    for (let at = 0; at < chunk.length;)
      at += writeSync(fd, chunk, at, chunk.length - at, position === null ? null : position + at);
  }

  #setXattrs(path: string, header: TarHeader): void {
    for (const [name, value] of Object.entries(header.xattrs)) {
      // A layer must not forge the overlay's own marks.
      if (name === '' || name.includes('\0') || name.startsWith('trusted.overlay.') || name.startsWith('user.overlay.'))
        continue;
      try {
        setXattr(path, name, value);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EOPNOTSUPP' && code !== 'ENOTSUP' && code !== 'EPERM') throw error;
      }
    }
  }

  #finish(path: string, header: TarHeader): void {
    const owner = this.#ownerOf(header);
    lchownSync(path, owner.uid, owner.gid);
    if (header.type !== 'symlink') chmodSync(path, header.mode);
    this.#setXattrs(path, header);
    if (header.type === 'directory') {
      this.#directoryTimes.set(path, header.mtimeMs);
      this.#implied.delete(path);
    }
    if (header.type !== 'directory') setTimes(path, header.mtimeMs, header.mtimeMs);
  }

  /** Directory times last: filling a directory changes them. */
  close(): Unpacked {
    this.#work(() => {
      for (const [path, timeMs] of this.#directoryTimes) setTimes(path, timeMs, timeMs);
    });
    const implied = [...this.#implied]
      .filter((path) => lstatOrUndefined(path)?.isDirectory() === true)
      .map((path) => path.slice(this.#root.root.length + 1));
    return { expandedBytes: this.#written, implied };
  }
}

export interface Unpacked {
  expandedBytes: number;
  /** Directories that the archive does not name but has files in, relative (`implied-directories.ts`). */
  implied: string[];
}

/** Unpacks into an existing directory. */
export async function unpackTar(
  source: AsyncIterable<Uint8Array>,
  directory: string,
  options: UnpackOptions,
): Promise<Unpacked> {
  const unpacker = new Unpacker(directory, options);
  let entries = 0;
  for await (const entry of readTar(source)) {
    options.signal?.throwIfAborted();
    if (++entries > (options.entriesMax ?? layerEntriesMax))
      throw new ApiError('RequestEntityTooLarge', 'the archive has too many entries');
    if (options.filter?.(entry.header) === false) continue;
    await unpacker.entry(entry);
  }
  return unpacker.close();
}
