/**
 * Results that go to the client: a stream of bytes (an archive), or a directory by the protocol of `FileSend/DiffCopy`:
 * we say what there is (`STAT`, in order of path, the n-th is file n), the client asks for contents (`REQ n`), we send
 * them (`DATA n`, an empty one ends a file), and both say `FIN`.
 */
import { lstatSync, readdirSync, readlinkSync } from '#os/named-files.ts';
import { readFileRange } from './look.ts';
import { ApiError } from '#base/errors.ts';
import type { ClientStream } from './grpc.ts';
import { goModeOf } from '#os/go-mode.ts';
import { sentChunkBytes } from './limits.ts';
import { bytesIn, numberIn } from './messages.ts';
import type { Message } from './messages.ts';
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
}

/** Roots that are sent. */
class Sender {
  readonly #roots: readonly SentRoot[];
  readonly #stream: ClientStream;
  /** Paths of files, by their number. */
  readonly #paths: string[] = [];
  readonly #inodes = new Map<string, string>();

  constructor(roots: readonly SentRoot[], stream: ClientStream) {
    this.#roots = roots;
    this.#stream = stream;
  }

  /** Where a path that is sent lies. */
  #locate(path: string): SentRoot {
    const slash = path.indexOf('/');
    const first = slash === -1 ? path : path.slice(0, slash);
    const [only] = this.#roots;
    if (only?.name === '') return { name: path, directory: only.directory };
    const root = this.#roots.find(({ name }) => name === first);
    if (root === undefined) throw new ApiError('BadRequest', 'the client asked for a file that is not there');
    return { name: slash === -1 ? '' : path.slice(slash + 1), directory: root.directory };
  }

  #realPath(path: string): string {
    const { name, directory } = this.#locate(path);
    return name === '' ? directory : `${directory}/${name}`;
  }

  #stat(path: string): Message {
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
      modTime: Math.round(info.mtimeMs * 1e6),
      linkname: info.isSymbolicLink() ? readlinkSync(real) : (first ?? ''),
    };
  }

  /** In the order that the client checks: names by their bytes, a directory before what is in it. */
  async #list(directory: string): Promise<void> {
    const isTop = directory === '' && this.#roots[0]?.name !== '';
    const names = isTop ? this.#roots.map(({ name }) => name) : readdirSync(this.#realPath(directory));
    for (const name of names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
      const path = directory === '' ? name : `${directory}/${name}`;
      this.#paths.push(path);
      await this.#stream.send({ type: packet.stat, stat: this.#stat(path) });
      if (lstatSync(this.#realPath(path)).isDirectory()) await this.#list(path);
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
      const { name, directory } = this.#locate(path);
      const data = readFileRange(directory, name, at, sentChunkBytes);
      await this.#stream.send({ type: packet.data, ID: id, data });
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

/** The whole of the roots, for the exporter with this place in the request. */
export async function sendDirectory(
  session: Session,
  exporter: number,
  roots: readonly SentRoot[],
  signal: AbortSignal,
): Promise<void> {
  checkServed(session);
  using stream = session.client.open(method, metadataOf(exporter), signal, packets);
  const sender = new Sender(roots, stream);
  await Promise.all([sender.list(), sender.answer()]);
}
