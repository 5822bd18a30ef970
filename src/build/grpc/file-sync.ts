/**
 * Files of the client's directories, by the protocol of `FileSync/DiffCopy`: the client sends what there is (`STAT`,
 * in order of path, the n-th is file n), we ask for contents (`REQ n`), it sends them (`DATA n`, an empty one ends a
 * file), and both say `FIN`. What comes is handed on as a tar stream, so that every context takes the same way on.
 */
import { ApiError } from '#base/errors.ts';
import { encodeTarHeader, encodeTarPadding, tarEnd } from '#base/tar-write.ts';
import type { TarType } from '#base/tar.ts';
import { contextEntriesMax } from '../limits.ts';
import { goMode } from './go-mode.ts';
import type { ClientStream } from './grpc.ts';
import { filesAheadBytesMax, filesAheadMax } from './limits.ts';
import { bytesIn, messageIn, numberIn, textIn } from './messages.ts';
import type { Message } from './messages.ts';
import type { Session } from './session.ts';

const method = '/moby.filesync.v1.FileSync/DiffCopy';
const packet = { stat: 0, request: 1, data: 2, finish: 3, error: 4 } as const;
export interface SyncOptions {
  /** The client's name of the directory: `context`, `dockerfile`. */
  name: string;
  include?: readonly string[];
  exclude?: readonly string[];
  /** Paths whose symlinks are followed: what they lead to is included. */
  follow?: readonly string[];
  signal: AbortSignal;
  /** Told of bytes as they come. */
  onBytes?: (count: number) => void;
}

interface Stat {
  path: string;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  modTime: number;
  linkname: string;
  devmajor: number;
  devminor: number;
}

/** Values that are no plain ASCII are escaped as in a URL, and a key beside them says so. */
function metadataOf({ name, include, exclude, follow }: SyncOptions): Record<string, string[]> {
  const out: Record<string, string[]> = {};
  const add = (key: string, values: readonly string[] | undefined): void => {
    if (values === undefined || values.length === 0) return;
    const isPlain = values.every((value) => /^[ -~]*$/.test(value));
    out[key] = isPlain ? [...values] : values.map((value) => encodeURIComponent(value));
    if (!isPlain) out[`${key}-encoded`] = ['1'];
  };
  add('dir-name', [name]);
  add('include-patterns', include);
  add('exclude-patterns', exclude);
  add('followpaths', follow);
  return out;
}

function typeOf(stat: Stat): TarType | undefined {
  const has = (bit: number): boolean => Math.floor(stat.mode / bit) % 2 === 1;
  if (has(goMode.directory)) return 'directory';
  if (has(goMode.symlink)) return 'symlink';
  if (has(goMode.fifo)) return 'fifo';
  if (has(goMode.socket)) return undefined;
  if (has(goMode.device)) return has(goMode.character) ? 'character' : 'block';
  return stat.linkname === '' ? 'file' : 'link';
}

function permissions({ mode }: Stat): number {
  const special = (bit: number, value: number): number => (Math.floor(mode / bit) % 2 === 1 ? value : 0);
  return (
    (mode & 0o777) | special(goMode.setuid, 0o4000) | special(goMode.setgid, 0o2000) | special(goMode.sticky, 0o1000)
  );
}

/** Contents that were asked for, in the order of asking. */
class Contents {
  readonly #stream: ClientStream;
  readonly #packets: AsyncGenerator<Message>;
  readonly #pending = new Map<number, { chunks: Buffer[]; isWhole: boolean }>();
  #ahead = 0;

  constructor(stream: ClientStream) {
    this.#stream = stream;
    this.#packets = stream.messages;
  }

  async next(): Promise<Message> {
    const { value, done } = await this.#packets.next();
    if (done === true) throw new ApiError('BadRequest', 'the client ended the transfer of files too early');
    if (value['type'] === packet.error)
      throw new ApiError('BadRequest', `error from sender: ${bytesIn(value, 'data').toString('utf8')}`);
    return value;
  }

  get isFull(): boolean {
    return this.#pending.size >= filesAheadMax || this.#ahead > filesAheadBytesMax;
  }

  async request(id: number, sizeBytes: number): Promise<void> {
    this.#pending.set(id, { chunks: [], isWhole: false });
    this.#ahead += sizeBytes;
    await this.#stream.send({ type: packet.request, ID: id });
  }

  async *read(id: number, sizeBytes: number): AsyncGenerator<Buffer> {
    const wanted = this.#pending.get(id) ?? { chunks: [], isWhole: true };
    for (;;) {
      for (const chunk of wanted.chunks.splice(0)) yield chunk;
      if (wanted.isWhole) break;
      const message = await this.next();
      if (message['type'] !== packet.data) continue;
      const file = this.#pending.get(numberIn(message, 'ID'));
      if (file === undefined || file.isWhole)
        throw new ApiError('BadRequest', 'the client sent a file that was not asked for');
      const data = bytesIn(message, 'data');
      if (data.length === 0) file.isWhole = true;
      else file.chunks.push(data);
    }
    this.#pending.delete(id);
    this.#ahead -= sizeBytes;
  }

  async finish(): Promise<void> {
    await this.#stream.send({ type: packet.finish });
    for await (const message of this.#packets) if (message['type'] === packet.finish) break;
    this.#stream.end();
  }
}

function statOf(message: Message): Stat {
  return {
    path: textIn(message, 'path'),
    mode: numberIn(message, 'mode'),
    uid: numberIn(message, 'uid'),
    gid: numberIn(message, 'gid'),
    size: numberIn(message, 'size'),
    modTime: numberIn(message, 'modTime'),
    linkname: textIn(message, 'linkname'),
    devmajor: numberIn(message, 'devmajor'),
    devminor: numberIn(message, 'devminor'),
  };
}

async function readStats(contents: Contents): Promise<Stat[]> {
  const stats: Stat[] = [];
  for (;;) {
    const message = await contents.next();
    if (message['type'] !== packet.stat)
      throw new ApiError('BadRequest', 'the client sent contents before the list of files');
    const stat = statOf(messageIn(message, 'stat'));
    // The end is a list entry without a path.
    if (stat.path === '') return stats;
    if (stats.push(stat) > contextEntriesMax)
      throw new ApiError('RequestEntityTooLarge', `the build context has more than ${contextEntriesMax} entries`);
  }
}

/** The directory as a tar stream. Throws NotFound where the client does not share it. */
export async function* syncDirectory(session: Session, options: SyncOptions): AsyncGenerator<Uint8Array> {
  if (!session.serves(method)) throw new ApiError('BadRequest', 'the client does not share its files');
  using stream = session.client.open(method, metadataOf(options), options.signal);
  const contents = new Contents(stream);
  const stats = await readStats(contents);
  const hasContent = (stat: Stat): boolean => typeOf(stat) === 'file' && stat.size > 0;
  let asked = 0;
  for (const [id, stat] of stats.entries()) {
    const type = typeOf(stat);
    if (type === undefined) continue;
    for (let next = stats[asked]; next !== undefined && (asked <= id || !contents.isFull); next = stats[++asked])
      if (hasContent(next)) await contents.request(asked, next.size);
    yield encodeTarHeader({
      path: stat.path,
      type,
      mode: permissions(stat),
      uid: stat.uid,
      gid: stat.gid,
      mtimeMs: stat.modTime / 1e6,
      sizeBytes: type === 'file' ? stat.size : 0,
      linkTarget: stat.linkname,
      deviceMajor: stat.devmajor,
      deviceMinor: stat.devminor,
    });
    if (!hasContent(stat)) continue;
    let left = stat.size;
    for await (const chunk of contents.read(id, stat.size)) {
      // A file may grow or shrink while it is read: the list says how much of it counts.
      const part = chunk.subarray(0, left);
      left -= part.length;
      options.onBytes?.(part.length);
      if (part.length > 0) yield part;
    }
    for (; left > 0; left -= Math.min(left, zeros.length)) yield zeros.subarray(0, Math.min(left, zeros.length));
    yield encodeTarPadding(stat.size);
  }
  await contents.finish();
  yield tarEnd;
}

const zeros = Buffer.alloc(64 * 1024);

/** A stream of bytes that the client serves under this path. */
export async function* readUpload(session: Session, path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  using stream = session.client.open('/moby.upload.v1.Upload/Pull', { urlpath: [`/${path}`] }, signal);
  stream.end();
  for await (const message of stream.messages) yield bytesIn(message, 'data');
}
