/**
 * Reads bbolt files, in which dockerd and containerd keep what they know of volumes, networks and images. A file is
 * pages of one size; page 0 and 1 are the two newest roots (*meta*), of which the valid one with the higher transaction
 * counts. A bucket is a tree of branch and leaf pages, a small one lies within its leaf. Nothing is written or locked.
 *
 * Source: go.etcd.io/bbolt, `internal/common` (page.go, meta.go, bucket.go), format version 2.
 */
import { ApiError } from '#base/errors.ts';
import { boltDepthMax, boltFileBytesMax } from '../limits.ts';
import { readBounded } from './read-bounded.ts';

const headerBytes = 16;
const elementBytes = 16;
const metaBytes = 56;
const magic = 0xed0cdaed;
const flags = { branch: 1, leaf: 2, meta: 4 } as const;
const bucketFlag = 1;

export interface BoltBucket {
  value(key: string): Buffer | undefined;
  bucket(key: string): BoltBucket | undefined;
  /** In order. A key of a bucket has no value. */
  entries(): Generator<{ key: string; value?: Buffer }>;
}

/** The root bucket; undefined where there is no file. An ApiError BadRequest where it is none of bbolt's. */
export function readBolt(path: string): BoltBucket | undefined {
  const bytes = readBounded(path, boltFileBytesMax);
  return bytes === undefined ? undefined : new Reader(bytes, path).root();
}

interface Element {
  key: string;
  value: Buffer;
  isBucket: boolean;
}

/** A page, or what lies in place of one in a leaf. */
interface Page {
  bytes: Buffer;
  depth: number;
}

class Reader {
  readonly #bytes: Buffer;
  readonly #path: string;
  #pageBytes = 0;

  constructor(bytes: Buffer, path: string) {
    this.#bytes = bytes;
    this.#path = path;
  }

  #broken(why: string): never {
    throw new ApiError('BadRequest', `${this.#path} cannot be read as a database of bbolt: ${why}`);
  }

  root(): BoltBucket {
    const first = this.#metaAt(0);
    // Where the first is torn, the second tells the size of pages by where it is found.
    const sizes = first === undefined ? [4096, 8192, 16_384, 65_536] : [first.pageBytes];
    const metas = [first, ...sizes.map((size) => this.#metaAt(size))].filter((meta) => meta !== undefined);
    const [newest] = metas.sort((a, b) => (a.transaction < b.transaction ? 1 : -1));
    if (newest === undefined) this.#broken('it has no valid root');
    this.#pageBytes = newest.pageBytes;
    return this.#bucket(this.#page(newest.root, 0));
  }

  #metaAt(at: number): { pageBytes: number; root: bigint; transaction: bigint } | undefined {
    const page = this.#bytes.subarray(at, at + headerBytes + metaBytes + 8);
    if (page.length < headerBytes + metaBytes + 8 || (page.readUInt16LE(8) & flags.meta) === 0) return undefined;
    const meta = page.subarray(headerBytes);
    if (meta.readUInt32LE(0) !== magic || meta.readUInt32LE(4) !== 2) return undefined;
    if (meta.readBigUInt64LE(metaBytes) !== fnv64(meta.subarray(0, metaBytes))) return undefined;
    const pageBytes = meta.readUInt32LE(8);
    return pageBytes < 512
      ? undefined
      : { pageBytes, root: meta.readBigUInt64LE(16), transaction: meta.readBigUInt64LE(48) };
  }

  #page(id: bigint, depth: number): Page {
    const at = Number(id) * this.#pageBytes;
    if (depth > boltDepthMax || at + headerBytes > this.#bytes.length) this.#broken(`page ${id} is not there`);
    const overflow = this.#bytes.readUInt32LE(at + 12);
    return { bytes: this.#bytes.subarray(at, at + (overflow + 1) * this.#pageBytes), depth };
  }

  *#elements({ bytes, depth }: Page): Generator<Element> {
    if (bytes.length < headerBytes) this.#broken('a page is cut off');
    const [kind, count] = [bytes.readUInt16LE(8), bytes.readUInt16LE(10)];
    if (headerBytes + count * elementBytes > bytes.length) this.#broken('a page is cut off');
    const piece = (at: number, size: number): Buffer =>
      at + size > bytes.length ? this.#broken('an entry is cut off') : bytes.subarray(at, at + size);
    for (let n = 0; n < count; n++) {
      const at = headerBytes + n * elementBytes;
      if ((kind & flags.branch) !== 0) yield* this.#elements(this.#page(bytes.readBigUInt64LE(at + 8), depth + 1));
      else if ((kind & flags.leaf) !== 0) {
        const [position, keyBytes] = [at + bytes.readUInt32LE(at + 4), bytes.readUInt32LE(at + 8)];
        yield {
          key: piece(position, keyBytes).toString(),
          value: piece(position + keyBytes, bytes.readUInt32LE(at + 12)),
          isBucket: (bytes.readUInt32LE(at) & bucketFlag) !== 0,
        };
      } else this.#broken(`a page of kind ${kind} is in a tree`);
    }
  }

  #bucket(page: Page): BoltBucket {
    const find = (key: string, isBucket: boolean): Buffer | undefined => {
      for (const element of this.#elements(page))
        if (element.key === key) return element.isBucket === isBucket ? element.value : undefined;
      return undefined;
    };
    return {
      value: (key) => find(key, false),
      bucket: (key) => {
        const value = find(key, true);
        if (value === undefined) return undefined;
        if (value.length < headerBytes) this.#broken('a bucket is cut off');
        const root = value.readBigUInt64LE(0);
        const depth = page.depth + 1;
        return this.#bucket(root === 0n ? { bytes: value.subarray(headerBytes), depth } : this.#page(root, depth));
      },
      entries: function* (this: Reader): Generator<{ key: string; value?: Buffer }> {
        for (const { key, value, isBucket } of this.#elements(page)) yield isBucket ? { key } : { key, value };
      }.bind(this),
    };
  }
}

/** FNV-1a of 64 bits. */
function fnv64(bytes: Uint8Array): bigint {
  let hash = 0xcbf29ce484222325n;
  for (const byte of bytes) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash;
}
