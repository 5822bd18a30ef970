/** Takes exact counts of bytes out of a stream of chunks. */
import { TarError } from './tar.ts';

/** Takes exact counts of bytes out of a stream of chunks. */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Buffer = Buffer.alloc(0);
  #ended = false;
  #position = 0;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Bytes that were taken. */
  get position(): number {
    return this.#position;
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
    this.#position += out.length;
    return out;
  }

  /** Exactly `count` bytes; undefined at a clean end, an error where it ends in between. */
  async readExact(count: number): Promise<Buffer | undefined> {
    if (this.#chunk.length >= count) {
      const out = this.#chunk.subarray(0, count);
      this.#chunk = this.#chunk.subarray(count);
      this.#position += count;
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

  /** `count` bytes, or as many as there are before the end. */
  async readUpTo(count: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let have = 0;
    while (have < count) {
      const part = await this.readSome(count - have);
      if (part === undefined) break;
      parts.push(part);
      have += part.length;
    }
    return parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts, have);
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
