/**
 * Packs a tree as tar while others, who may be hostile, go on writing to it: a volume whose Pods run.
 *
 * A name may become another file, a link out of the tree or a pipe between two looks at it. So nothing is reached by a
 * path: each directory is opened without following a link, and what is in it is reached by its descriptor
 * (`/proc/self/fd/N/NAME`); of a file only what was opened is looked at and read. What changed or went while it was
 * read is told of, and what went is left out.
 */
import { closeSync, constants, fstatSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { TarHeader } from '#base/tar.ts';
import { codeOf } from '#base/thrown.ts';
import { lstatOrUndefined, openSync, readdirSync } from '#os/named-files.ts';
import { tarHeaderOf } from './pack.ts';

export interface LiveOptions {
  /** Each path, relative, that was seen to change or go while it was read. */
  onChanged(path: string): void;
}

const chunkBytes = 256 << 10;
const exact = { exactTimes: true };
const noFollow = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

const pathOf = (descriptor: number): string => `/proc/self/fd/${descriptor}`;

/** Undefined where it is not there any more, or is a link by now. */
function openUnlessGone(path: string, flags: number): number | undefined {
  try {
    return openSync(path, flags);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO'].includes(codeOf(error) ?? '')) return undefined;
    throw error;
  }
}

const hasChanged = (before: Stats, after: Stats): boolean =>
  before.size !== after.size || before.mtimeMs !== after.mtimeMs || before.ctimeMs !== after.ctimeMs;

class LivePacker {
  readonly #options: LiveOptions;
  /** First names of files with several. */
  readonly #inodes = new Map<string, string>();

  constructor(options: LiveOptions) {
    this.#options = options;
  }

  *directory(at: string, relative: string): Generator<Uint8Array> {
    const descriptor = openUnlessGone(at, noFollow | constants.O_DIRECTORY);
    if (descriptor === undefined) {
      this.#options.onChanged(relative);
      return;
    }
    try {
      const before = fstatSync(descriptor);
      const own = pathOf(descriptor);
      // Its attributes are read without following a link, which the descriptor's own name is.
      yield* this.#header(`${own}/.`, relative === '' ? './' : relative, before);
      for (const name of readdirSync(own).sort())
        yield* this.#one(`${own}/${name}`, relative === '' ? name : `${relative}/${name}`);
      if (hasChanged(before, fstatSync(descriptor))) this.#options.onChanged(relative);
    } finally {
      closeSync(descriptor);
    }
  }

  *#header(path: string, name: string, info: Stats): Generator<Uint8Array> {
    const header = tarHeaderOf(path, name, info, true);
    if (header !== undefined) yield encodeTarHeader(header, exact);
  }

  *#one(path: string, relative: string): Generator<Uint8Array> {
    const info = lstatOrUndefined(path);
    if (info === undefined) this.#options.onChanged(relative);
    else if (info.isDirectory()) yield* this.directory(path, relative);
    else if (info.isFile()) yield* this.#file(path, relative);
    else yield* this.#special(path, relative, info);
  }

  /** A link, device or pipe, which nobody opens. */
  *#special(path: string, relative: string, info: Stats): Generator<Uint8Array> {
    const header = this.#unlessGone(() => tarHeaderOf(path, relative, info, true));
    if (header !== undefined) yield encodeTarHeader(header, exact);
    // A socket has no place in an archive; it is nothing without who listens.
    else if (!info.isSocket()) this.#options.onChanged(relative);
  }

  #unlessGone<T>(look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      if (!['ENOENT', 'EINVAL', 'ENOTDIR'].includes(codeOf(error) ?? '')) throw error;
      return undefined;
    }
  }

  *#file(path: string, relative: string): Generator<Uint8Array> {
    const descriptor = openUnlessGone(path, noFollow);
    const before = descriptor === undefined ? undefined : fstatSync(descriptor);
    try {
      if (descriptor === undefined || before?.isFile() !== true) {
        this.#options.onChanged(relative);
        return;
      }
      const header = this.#unlessGone(() => tarHeaderOf(path, relative, before, true));
      if (header !== undefined) yield* this.#opened(descriptor, header, before);
      if (header === undefined || hasChanged(before, fstatSync(descriptor))) this.#options.onChanged(relative);
    } finally {
      if (descriptor !== undefined) closeSync(descriptor);
    }
  }

  *#opened(descriptor: number, header: TarHeader, info: Stats): Generator<Uint8Array> {
    if (info.nlink > 1) {
      const inode = `${info.dev}:${info.ino}`;
      const first = this.#inodes.get(inode);
      if (first !== undefined) {
        yield encodeTarHeader({ ...header, type: 'link', linkTarget: first, sizeBytes: 0 }, exact);
        return;
      }
      this.#inodes.set(inode, header.path);
    }
    yield encodeTarHeader(header, exact);
    for (let left = info.size; left > 0;) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, left));
      // Where the file has shrunk, the header's promise is kept with zeros; its change is told of.
      const count = readSync(descriptor, buffer) || buffer.fill(0).length;
      left -= count;
      yield buffer.subarray(0, count);
    }
    yield encodeTarPadding(info.size);
  }
}

/** The archive as chunks, with its end mark. */
export function* packLiveTree(directory: string, options: LiveOptions): Generator<Uint8Array> {
  yield* new LivePacker(options).directory(directory, '');
  yield tarEnd;
}
