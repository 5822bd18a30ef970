/**
 * Packs a directory as tar: an overlayfs upper directory as an image layer (its marks become whiteout files) or a plain
 * tree (`docker cp`,
 * `docker export`, a root made by debootstrap). Order is by name, so that equal trees give equal archives.
 */
import { closeSync, readSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { TarHeader } from '#base/tar.ts';
import { lstatSync, openSync, readdirSync, readlinkSync } from '#os/named-files.ts';
import { deviceParts, getXattr, listXattrs } from '#os/special-files.ts';

export interface Owner {
  uid: number;
  gid: number;
}

export interface PackOptions {
  /** The directory is an overlayfs upper directory: write whiteouts. */
  layer: boolean;
  /** Prefix of every name. */
  prefix?: string;
  /** False leaves the path (relative, no leading slash) and all below it out. */
  filter?: (path: string) => boolean;
  /** No entry for the directory itself. */
  skipRoot?: boolean;
  /** Hears of what has no place in an archive: sockets. */
  onSkipped?: (path: string) => void;
  /** Owners as the archive has them, by those that the files have. */
  ownerOf?: (owner: Owner) => Owner;
  /** Replaces every modification time (reproducible images). */
  mtimeMs?: number;
  /** Replaces modification times that are later. */
  mtimeMsMax?: number;
}

const chunkBytes = 256 << 10;

function xattrsOf(path: string, keepsAcls: boolean): Record<string, Uint8Array> {
  const out: Record<string, Uint8Array> = {};
  for (const name of listXattrs(path)) {
    // The overlay's own, and labels of this host's security modules, are not part of an image.
    if (name.startsWith('trusted.overlay.') || name === 'security.selinux') continue;
    if (name.startsWith('system.') && !(keepsAcls && name.startsWith('system.posix_acl_'))) continue;
    const value = getXattr(path, name);
    if (value !== undefined) out[name] = value;
  }
  return out;
}

/** `keepsAcls`: access control lists of POSIX, too, which have no place in an image. */
export function tarHeaderOf(path: string, name: string, info: Stats, keepsAcls = false): TarHeader | undefined {
  const base = {
    path: name,
    mode: info.mode & 0o7777,
    uid: info.uid,
    gid: info.gid,
    userName: '',
    groupName: '',
    mtimeMs: info.mtimeMs,
    sizeBytes: 0,
    linkTarget: '',
    deviceMajor: 0,
    deviceMinor: 0,
    xattrs: info.isSymbolicLink() ? {} : xattrsOf(path, keepsAcls),
  };
  if (info.isFile()) return { ...base, type: 'file', sizeBytes: info.size };
  if (info.isDirectory()) return { ...base, type: 'directory' };
  if (info.isSymbolicLink()) return { ...base, type: 'symlink', linkTarget: readlinkSync(path) };
  if (info.isCharacterDevice() || info.isBlockDevice()) {
    const { major, minor } = deviceParts(info.rdev);
    return { ...base, type: info.isBlockDevice() ? 'block' : 'character', deviceMajor: major, deviceMinor: minor };
  }
  if (info.isFIFO()) return { ...base, type: 'fifo' };
  // Sockets have no place in an archive.
  return undefined;
}

function* fileBytes(path: string, sizeBytes: number): Generator<Uint8Array> {
  const fd = openSync(path, 'r');
  try {
    let left = sizeBytes;
    let short = 0;
    while (left > 0) {
      const buffer = Buffer.allocUnsafe(Math.min(chunkBytes, left));
      const count = readSync(fd, buffer);
      if (count === 0) {
        short = left;
        break;
      }
      left -= count;
      yield buffer.subarray(0, count);
    }
    // The file shrank while it was read: the header's promise is kept with zeros.
    for (; short > 0; short -= chunkBytes) yield Buffer.alloc(Math.min(chunkBytes, short));
  } finally {
    closeSync(fd);
  }
}

class Packer {
  readonly #root: string;
  readonly #options: PackOptions;
  readonly #inodes = new Map<string, string>();

  constructor(root: string, options: PackOptions) {
    this.#root = root;
    this.#options = options;
  }

  *tree(relative: string): Generator<Uint8Array> {
    const path = relative === '' ? this.#root : `${this.#root}/${relative}`;
    const info = lstatSync(path);
    if (relative !== '' || this.#options.skipRoot !== true) yield* this.#one(path, relative, info);
    if (!info.isDirectory()) return;
    if (this.#options.layer && Buffer.from(getXattr(path, 'trusted.overlay.opaque') ?? []).toString() === 'y') {
      yield encodeTarHeader({
        path: this.#name(relative === '' ? '.wh..wh..opq' : `${relative}/.wh..wh..opq`),
        mode: 0o600,
      });
    }
    for (const name of readdirSync(path).sort()) {
      const child = relative === '' ? name : `${relative}/${name}`;
      if (this.#options.filter?.(child) === false) continue;
      yield* this.tree(child);
    }
  }

  #name(relative: string): string {
    return relative === '' ? (this.#options.prefix ?? './') : `${this.#options.prefix ?? ''}${relative}`;
  }

  *#one(path: string, relative: string, info: Stats): Generator<Uint8Array> {
    if (this.#options.layer && info.isCharacterDevice() && info.rdev === 0) {
      const slash = relative.lastIndexOf('/') + 1;
      yield encodeTarHeader({
        path: this.#name(`${relative.slice(0, slash)}.wh.${relative.slice(slash)}`),
        mode: 0o600,
      });
      return;
    }
    const header = tarHeaderOf(path, this.#name(relative), info);
    if (header === undefined) {
      this.#options.onSkipped?.(path);
      return;
    }
    const { mtimeMs, mtimeMsMax = Infinity, ownerOf } = this.#options;
    if (ownerOf !== undefined) Object.assign(header, ownerOf({ uid: info.uid, gid: info.gid }));
    header.mtimeMs = Math.min(mtimeMs ?? header.mtimeMs, mtimeMsMax);
    if (header.type === 'file' && info.nlink > 1) {
      const inode = `${info.dev}:${info.ino}`;
      const first = this.#inodes.get(inode);
      if (first !== undefined) {
        yield encodeTarHeader({ ...header, type: 'link', linkTarget: first, sizeBytes: 0 });
        return;
      }
      this.#inodes.set(inode, header.path);
    }
    yield encodeTarHeader(header);
    if (header.type !== 'file') return;
    yield* fileBytes(path, header.sizeBytes);
    yield encodeTarPadding(header.sizeBytes);
  }
}

/** A tree's part of an archive of several. */
export function packTree(directory: string, options: PackOptions): Generator<Uint8Array> {
  return new Packer(directory, options).tree('');
}

/** The archive as chunks, with its end mark. */
export function* packTar(directory: string, options: PackOptions): Generator<Uint8Array> {
  yield* packTree(directory, options);
  yield tarEnd;
}
