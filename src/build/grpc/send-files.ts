/**
 * Results that go to the client: a stream of bytes (an archive), or a directory by the protocol of `FileSend/DiffCopy`:
 * we say what there is (`STAT`, in order of path, the n-th is file n), the client asks for contents (`REQ n`), we send
 * them (`DATA n`, an empty one ends a file), and both say `FIN`.
 */
import { lstatSync, readdirSync, readlinkSync } from '#os/named-files.ts';
import { readFileRange } from './look.ts';
import { ApiError } from '#base/errors.ts';
import type { ClientStream } from '#grpc/client.ts';
import { goModeOf } from '#os/go-mode.ts';
import { sentChunkBytes } from './limits.ts';
import { bytesIn, numberIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import type { Session } from './session.ts';

const method = '/moby.filesync.v1.FileSend/DiffCopy';
const packet = { stat: 0, request: 1, data: 2, finish: 3, error: 4 } as const;
const packets = { request: 'fsutil.types.Packet', response: 'fsutil.types.Packet' };

function metadataOf(exporter: number): Record<string, string[]> {
  return { 'buildkit-attachable-exporter-id': [String(exporter)] };
}

function checkServed(session: Session): void {
  if (!session.serves(method)) throw new ApiError('BadRequest', 'the client takes no files');
}

/** Bytes for the exporter with this place in the request. */
export async function sendStream(
  session: Session,
  exporter: number,
  source: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  checkServed(session);
  using stream = session.client.open(method, metadataOf(exporter), signal);
  for await (const bytes of source)
    for (let at = 0; at < bytes.length; at += sentChunkBytes)
      await stream.send({ data: Buffer.from(bytes.subarray(at, at + sentChunkBytes)) });
  stream.end();
  for await (const _answer of stream.messages);
}

/** A directory that is sent, under a name of its own where there are several. */
export interface SentRoot {
  /** '' where it is all that is sent. */
  name: string;
  directory: string;
  /** Files that lie beside those of the directory, in place of what has their names; made at `filesAtMs`. */
  files: ReadonlyMap<string, Buffer>;
  filesAtMs: number;
  /** In place of every other time of modification. */
  mtimeMs: number | undefined;
}

/** Where a path that is sent lies. */
interface Place {
  root: SentRoot;
  /** Below the root. */
  path: string;
}

/** Roots that are sent. */
class Sender {
  readonly #roots: readonly SentRoot[];
  readonly #stream: ClientStream;
  /** Paths of files, by their number. */
  readonly #paths: string[] = [];
  readonly #inodes = new Map<string, string>();
  readonly #onSent: (bytes: number) => void;
  #sentBytes = 0;

  constructor(roots: readonly SentRoot[], stream: ClientStream, onSent: (bytes: number) => void) {
    this.#roots = roots;
    this.#stream = stream;
    this.#onSent = onSent;
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Where a path that is sent lies. */
  #locate(path: string): Place {
    const slash = path.indexOf('/');
    const first = slash === -1 ? path : path.slice(0, slash);
    const [only] = this.#roots;
    if (only?.name === '') return { root: only, path };
    const root = this.#roots.find(({ name }) => name === first);
    if (root === undefined) throw new ApiError('BadRequest', 'the client asked for a file that is not there');
    return { root, path: slash === -1 ? '' : path.slice(slash + 1) };
  }

  /** A file of ours, not of the directory. */
  #ownFile(path: string): { bytes: Buffer; atMs: number } | undefined {
    const { root, path: below } = this.#locate(path);
    const bytes = root.files.get(below);
    return bytes === undefined ? undefined : { bytes, atMs: root.mtimeMs ?? root.filesAtMs };
  }

  #realPath(path: string): string {
    const { root, path: below } = this.#locate(path);
    return below === '' ? root.directory : `${root.directory}/${below}`;
  }

  #names(directory: string): string[] {
    if (directory === '' && this.#roots[0]?.name !== '') return this.#roots.map(({ name }) => name);
    const { root, path } = this.#locate(directory);
    return [...new Set([...readdirSync(this.#realPath(directory)), ...(path === '' ? root.files.keys() : [])])];
  }

  #stat(path: string): Message {
    const own = this.#ownFile(path);
    if (own !== undefined) return { path, mode: 0o600, size: own.bytes.length, modTime: own.atMs * 1e6 };
    const real = this.#realPath(path);
    const info = lstatSync(real);
    const inode = `${info.dev}:${info.ino}`;
    const first = info.isFile() && info.nlink > 1 ? this.#inodes.get(inode) : undefined;
    if (info.isFile() && info.nlink > 1 && first === undefined) this.#inodes.set(inode, path);
    return {
      path,
      mode: goModeOf(info),
      uid: info.uid,
      gid: info.gid,
      size: first === undefined && info.isFile() ? info.size : 0,
      modTime: Math.round((this.#locate(path).root.mtimeMs ?? info.mtimeMs) * 1e6),
      linkname: info.isSymbolicLink() ? readlinkSync(real) : (first ?? ''),
    };
  }

  /** In the order that the client checks: names by their bytes, a directory before what is in it. */
  async #list(directory: string): Promise<void> {
    for (const name of this.#names(directory).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
      const path = directory === '' ? name : `${directory}/${name}`;
      this.#paths.push(path);
      await this.#stream.send({ type: packet.stat, stat: this.#stat(path) });
      if (this.#ownFile(path) === undefined && lstatSync(this.#realPath(path)).isDirectory()) await this.#list(path);
    }
  }

  async list(): Promise<void> {
    await this.#list('');
    await this.#stream.send({ type: packet.stat });
  }

  async #content(id: number): Promise<void> {
    const path = this.#paths[id];
    if (path === undefined) throw new ApiError('BadRequest', 'the client asked for a file that is not there');
    for (let at = 0; ; at += sentChunkBytes) {
      const { root, path: below } = this.#locate(path);
      const own = root.files.get(below)?.subarray(at, at + sentChunkBytes);
      const data = own ?? readFileRange(root.directory, below, at, sentChunkBytes);
      await this.#stream.send({ type: packet.data, ID: id, data });
      this.#onSent((this.#sentBytes += data.length));
      if (data.length === 0) return;
    }
  }

  async answer(): Promise<void> {
    for await (const message of this.#stream.messages) {
      if (message['type'] === packet.error)
        throw new ApiError('BadRequest', `error from receiver: ${bytesIn(message, 'data').toString('utf8')}`);
      if (message['type'] === packet.request) await this.#content(numberIn(message, 'ID'));
      if (message['type'] !== packet.finish) continue;
      await this.#stream.send({ type: packet.finish });
      this.#stream.end();
    }
  }
}

/**
 * The whole of the roots, for the exporter with this place in the request. `onSent` is told how many bytes of files
 * were sent so far. Resolves to that of all.
 */
export async function sendDirectory(
  session: Session,
  { exporter, roots, onSent }: { exporter: number; roots: readonly SentRoot[]; onSent: (bytes: number) => void },
  signal: AbortSignal,
): Promise<number> {
  checkServed(session);
  using stream = session.client.open(method, metadataOf(exporter), signal, packets);
  const sender = new Sender(roots, stream, onSent);
  await Promise.all([sender.list(), sender.answer()]);
  return sender.sentBytes;
}
