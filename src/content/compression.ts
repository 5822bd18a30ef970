/**
 * Finding out how a stream is compressed, by its first bytes, and undoing it, with a bound on what comes out. Names
 * follow the OCI media type suffixes.
 *
 * gzip and zstd are undone by Node's zlib. bzip2 and xz are undone by the host's programs of these names, fed and read
 * as streams: they are everywhere, kept by others, fast, take many members in one file, and what goes wrong in them is
 * a process of their own; `xz` is told how much memory a stream may ask for.
 */
import { constants, createGunzip, createZstdCompress, createZstdDecompress } from 'node:zlib';
import { Readable, pipeline } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import type { Processes } from '#os/processes.ts';
import { gzipParallel } from './gzip.ts';
import { programErrorBytesMax, xzMemoryMibMax } from './limits.ts';

export type Compression = 'none' | 'gzip' | 'zstd' | 'bzip2' | 'xz';

/** How a stream is written. `level`: as the format counts them; undefined: fast. */
interface StreamCompression {
  kind: 'none' | 'gzip' | 'zstd';
  level?: number;
}

/** How a layer is written: as a stream, or as one of which files can be read alone, which is another layer then. */
export type LayerCompression = StreamCompression | { kind: 'estargz'; level?: number };

export function detectCompression(head: Uint8Array): Compression {
  const starts = (...bytes: number[]): boolean => bytes.every((byte, index) => head[index] === byte);
  if (starts(0x1f, 0x8b, 0x08)) return 'gzip';
  // A frame, or one that is to be skipped (RFC 8878, 3.1.2).
  if (
    starts(0x28, 0xb5, 0x2f, 0xfd) ||
    (((head[0] ?? 0) & 0xf0) === 0x50 && head[1] === 0x2a && head[2] === 0x4d && head[3] === 0x18)
  )
    return 'zstd';
  if (starts(0x42, 0x5a, 0x68)) return 'bzip2';
  if (starts(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00)) return 'xz';
  return 'none';
}

/** The stream's first bytes, and the whole stream again. */
export async function peek(
  source: AsyncIterable<Uint8Array>,
  count = 6,
): Promise<{ head: Buffer; whole: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  const held: Uint8Array[] = [];
  let length = 0;
  while (length < count) {
    const next = await iterator.next();
    if (next.done === true) break;
    held.push(next.value);
    length += next.value.length;
  }
  async function* whole(): AsyncGenerator<Uint8Array> {
    try {
      yield* held;
      for (;;) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  return { head: Buffer.concat(held).subarray(0, count), whole: whole() };
}

export interface DecompressOptions {
  /** Bytes that may come out; more is an ApiError RequestEntityTooLarge. */
  bytesMax: number;
  /** Starts the programs for bzip2 and xz. */
  processes: Processes;
}

async function* expandByProgram(
  kind: 'bzip2' | 'xz',
  source: AsyncIterable<Uint8Array>,
  processes: Processes,
): AsyncGenerator<Uint8Array> {
  const program = processes.find(kind);
  if (program === undefined)
    throw new ApiError(
      'BadRequest',
      `this is compressed with ${kind}, and the program ${kind} is not installed on this host`,
    );
  const child = processes.spawn(
    program,
    kind === 'xz' ? ['-dc', '-T1', `--memlimit-decompress=${xzMemoryMibMax}MiB`] : ['-dc'],
    { stdin: 'pipe', stdout: 'pipe', stderr: 'pipe' },
  );
  let sourceError: unknown;
  const fed = new Promise<void>((done) => {
    pipeline(Readable.from(source, { objectMode: false }), child.stdin!, (error) => {
      if (error !== undefined && error !== null && error.code !== 'EPIPE') sourceError = error;
      done();
    });
  });
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    if (said.length < programErrorBytesMax) said += text;
  });
  let isDone = false;
  try {
    yield* child.stdout as AsyncIterable<Uint8Array>;
    const { code } = await child.exit;
    isDone = true;
    await fed;
    if (sourceError !== undefined && code !== 0) throw sourceError;
    if (code !== 0)
      throw new ApiError(
        'BadRequest',
        `failed to decompress: ${said.trim().slice(0, programErrorBytesMax) || `${kind} exited with ${code}`}`,
      );
  } finally {
    // Who reads no further needs no program any more.
    if (!isDone) {
      processes.kill(child.pid, 'SIGKILL');
      child.stdout!.destroy();
    }
  }
}

async function* bounded(source: AsyncIterable<Uint8Array>, bytesMax: number): AsyncGenerator<Uint8Array> {
  let length = 0;
  for await (const chunk of source) {
    length += chunk.length;
    if (length > bytesMax)
      throw new ApiError('RequestEntityTooLarge', `the archive expands to more than ${bytesMax} bytes`);
    yield chunk;
  }
}

/** Expanded bytes, whatever the compression. */
export async function decompress(
  source: AsyncIterable<Uint8Array>,
  options: DecompressOptions,
): Promise<AsyncIterable<Uint8Array>> {
  const { head, whole } = await peek(source);
  const kind = detectCompression(head);
  if (kind === 'none') return bounded(whole, options.bytesMax);
  if (kind === 'bzip2' || kind === 'xz')
    return bounded(expandByProgram(kind, whole, options.processes), options.bytesMax);
  const stream =
    kind === 'gzip' ? createGunzip({ chunkSize: 256 << 10 }) : createZstdDecompress({ chunkSize: 256 << 10 });
  // Errors of the source reach the reader through the destroyed stream.
  pipeline(Readable.from(whole, { objectMode: false }), stream, () => {});
  return bounded(stream as AsyncIterable<Uint8Array>, options.bytesMax);
}

/** The stream in a compression. The result depends on the bytes alone. `onPlain` hears what goes in. */
export async function* compress(
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  { kind, level }: StreamCompression,
  onPlain: (piece: Uint8Array) => void,
): AsyncGenerator<Uint8Array> {
  if (kind === 'gzip') {
    yield* gzipParallel(source, onPlain, level);
    return;
  }
  async function* heard(): AsyncGenerator<Uint8Array> {
    for await (const piece of source) {
      onPlain(piece);
      yield piece;
    }
  }
  if (kind === 'none') {
    yield* heard();
    return;
  }
  const stream = createZstdCompress({
    chunkSize: 256 << 10,
    params: { [constants.ZSTD_c_compressionLevel]: level ?? 1 },
  });
  pipeline(Readable.from(heard(), { objectMode: false }), stream, () => {});
  yield* stream.iterator();
}
