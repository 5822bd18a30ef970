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
  /** Where they begin in the archive. */
  position: number;
  /** Present for sparse files: where the stored bytes go; all else is zeros. */
  extents?: TarExtent[];
}

export class TarError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'TarError';
  }
}

export const blockBytes = 512;

export function paddingOf(size: number): number {
  return (blockBytes - (size % blockBytes)) % blockBytes;
}
