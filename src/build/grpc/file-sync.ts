/**
 * Files of the client's directories, by the protocol of `FileSync/DiffCopy`: the client sends what there is (`STAT`,
 * in order of path, the n-th is file n), we ask for contents (`REQ n`), it sends them (`DATA n`, an empty one ends a
 * file), and both say `FIN`. What was there before and is still the same is not asked for.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, fchmodSync, writeSync } from 'node:fs';
import { posix } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { layerPathDepthMax } from '#content/limits.ts';
import {
  chmodSync,
  linkSync,
  lstatOrUndefined,
  mkdirSync,
  openSync,
  rmSync,
  setOpenFileTimes,
  setTimes,
  symlinkSync,
} from '#os/named-files.ts';
import { makeSpecialFile } from '#os/special-files.ts';
import type { KeptFile, OpenDirectory } from '../kept-directories.ts';
import { contextEntriesMax } from '../limits.ts';
import { goMode } from '#os/go-mode.ts';
import type { ClientStream } from '#grpc/client.ts';
import { filesAheadBytesMax, filesAheadMax } from './limits.ts';
import { bytesIn, messageIn, numberIn, textIn } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
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

function typeOf(stat: Stat): KeptFile['type'] | undefined {
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
  /** `left`: how many more bytes count. */
  readonly #pending = new Map<number, { chunks: Buffer[]; left: number; isWhole: boolean }>();
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

  /** What comes for a file before its turn is kept in memory. */
  mayRequest(sizeBytes: number): boolean {
    return this.#pending.size < filesAheadMax && this.#ahead + sizeBytes <= filesAheadBytesMax;
  }

  async request(id: number, sizeBytes: number): Promise<void> {
    this.#pending.set(id, { chunks: [], left: sizeBytes, isWhole: false });
    this.#ahead += sizeBytes;
    await this.#stream.send({ type: packet.request, ID: id });
  }

  /** A file may grow while it is read: the list says how much of it counts. */
  async *read(id: number, sizeBytes: number): AsyncGenerator<Buffer> {
    const wanted = this.#pending.get(id) ?? { chunks: [], left: 0, isWhole: true };
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
      else if (file.left > 0) file.chunks.push(data.subarray(0, file.left));
      file.left -= Math.min(file.left, data.length);
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

/** A path that stays inside, or a refusal: a client may send anything. */
function checkPath(path: string): void {
  const parts = path.split('/');
  if (path.startsWith('/') || path.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..'))
    throw new ApiError('BadRequest', `invalid path in the client's list of files: ${path.slice(0, 200)}`);
  if (parts.length > layerPathDepthMax)
    throw new ApiError('BadRequest', `invalid path, it is too deep: ${path.slice(0, 100)}`);
}

/** The client's list by path, each checked to lie in a directory of the list. */
function readList(stats: readonly Stat[]): Map<string, { id: number; file: KeptFile }> {
  const list = new Map<string, { id: number; file: KeptFile }>();
  for (const [id, stat] of stats.entries()) {
    const type = typeOf(stat);
    if (type === undefined) continue;
    const path = stat.path.replace(/\/$/, '');
    checkPath(path);
    // A directory that becomes a symlink further on would lead what lies in it outside.
    if (list.has(path)) throw new ApiError('BadRequest', `the client's list of files has ${path.slice(0, 200)} twice`);
    if (type === 'file' && stat.size < 0)
      throw new ApiError('BadRequest', `the client's list of files has no size for ${path.slice(0, 200)}`);
    const parent = posix.dirname(path);
    if (parent !== '.' && list.get(parent)?.file.type !== 'directory')
      throw new ApiError('BadRequest', `the client's list of files has no directory for ${path.slice(0, 200)}`);
    if (type === 'link' && list.get(stat.linkname)?.file.type !== 'file')
      throw new ApiError('BadRequest', `the client's list of files has no file for the link ${path.slice(0, 200)}`);
    const sizeBytes = type === 'file' ? stat.size : 0;
    const device =
      type === 'character' || type === 'block' ? { device: { major: stat.devmajor, minor: stat.devminor } } : {};
    const file = {
      ...device,
      type,
      mode: permissions(stat),
      sizeBytes,
      mtimeNs: stat.modTime,
      linkTarget: stat.linkname,
      digest: '',
    };
    list.set(path, { id, file });
  }
  return list;
}

function isSame(a: KeptFile, b: KeptFile): boolean {
  return (
    a.type === b.type &&
    a.mode === b.mode &&
    a.sizeBytes === b.sizeBytes &&
    a.mtimeNs === b.mtimeNs &&
    a.linkTarget === b.linkTarget
  );
}

/** Brings a kept directory up to date. */
class DirectorySync {
  readonly #directory: OpenDirectory;
  readonly #contents: Contents;
  readonly #onBytes: (count: number) => void;
  readonly #files = new Map<string, KeptFile>();

  constructor(directory: OpenDirectory, contents: Contents, onBytes: (count: number) => void) {
    this.#directory = directory;
    this.#contents = contents;
    this.#onBytes = onBytes;
  }

  #path(path: string): string {
    return `${this.#directory.path}/${path}`;
  }

  /** What is gone, or is something else now. A changed file is written anew where it was. */
  #clear(list: ReadonlyMap<string, { file: KeptFile }>): void {
    for (const [path, before] of this.#directory.files) {
      const now = list.get(path)?.file;
      const stays = now !== undefined && now.type === before.type && (now.type === 'directory' || isSame(now, before));
      if (!stays || before.type === 'link') rmSync(this.#path(path), { recursive: true, force: true });
    }
  }

  async run(stats: readonly Stat[]): Promise<Map<string, KeptFile>> {
    const list = readList(stats);
    this.#clear(list);
    const wanted: { path: string; id: number; file: KeptFile }[] = [];
    for (const [path, { id, file }] of list) {
      const before = this.#directory.files.get(path);
      if (before !== undefined && before.type !== 'link' && isSame(before, file)) this.#files.set(path, before);
      else if (file.type === 'file') wanted.push({ path, id, file });
      else if (file.type !== 'link') this.#make(path, file);
    }
    await this.#fetch(wanted);
    for (const [path, { file }] of list) if (file.type === 'link') this.#link(path, file);
    // Writing into a directory has changed its time.
    for (const [path, { file }] of [...list].reverse())
      if (file.type === 'directory') setTimes(this.#path(path), file.mtimeNs / 1e6, file.mtimeNs / 1e6);
    return this.#files;
  }

  #make(path: string, file: KeptFile): void {
    const real = this.#path(path);
    if (file.type === 'symlink') symlinkSync(file.linkTarget, real);
    else if (file.type === 'directory') {
      if (lstatOrUndefined(real) === undefined) mkdirSync(real, { mode: 0o755 });
    } else if (file.type !== 'file' && file.type !== 'link') makeSpecialFile(real, file.type, file.mode, file.device);
    if (file.type !== 'symlink') chmodSync(real, file.mode);
    setTimes(real, file.mtimeNs / 1e6, file.mtimeNs / 1e6);
    this.#files.set(path, file);
  }

  #link(path: string, file: KeptFile): void {
    linkSync(this.#path(file.linkTarget), this.#path(path));
    this.#files.set(path, { ...file, digest: this.#files.get(file.linkTarget)?.digest ?? '' });
  }

  async #fetch(wanted: readonly { path: string; id: number; file: KeptFile }[]): Promise<void> {
    let asked = 0;
    for (const [index, { path, id, file }] of wanted.entries()) {
      for (
        let next = wanted[asked];
        next !== undefined && (asked <= index || this.#contents.mayRequest(next.file.sizeBytes));
        next = wanted[++asked]
      )
        if (next.file.sizeBytes > 0) await this.#contents.request(next.id, next.file.sizeBytes);
      this.#files.set(path, { ...file, digest: await this.#write(path, id, file) });
    }
  }

  async #write(path: string, id: number, { sizeBytes, mode, mtimeNs }: KeptFile): Promise<string> {
    const hash = createHash('sha256');
    const fd = openSync(this.#path(path), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600);
    try {
      const put = (bytes: Uint8Array): void => {
        hash.update(bytes);
        for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
      };
      let left = sizeBytes;
      if (sizeBytes > 0)
        for await (const chunk of this.#contents.read(id, sizeBytes)) {
          left -= chunk.length;
          this.#onBytes(chunk.length);
          put(chunk);
        }
      if (left > 0)
        throw new ApiError('BadRequest', `${path.slice(0, 200)} is ${left} bytes shorter than the client's list says`);
      fchmodSync(fd, mode);
      setOpenFileTimes(fd, mtimeNs / 1e6);
    } finally {
      closeSync(fd);
    }
    return hash.digest('hex');
  }
}

/** Brings the directory up to what the client has. Throws BadRequest where the client does not share it. */
export async function syncDirectory(
  session: Session,
  options: SyncOptions,
  directory: OpenDirectory,
): Promise<Map<string, KeptFile>> {
  if (!session.serves(method)) throw new ApiError('BadRequest', 'the client does not share its files');
  using stream = session.client.open(method, metadataOf(options), options.signal);
  const contents = new Contents(stream);
  const stats = await readStats(contents);
  const files = await new DirectorySync(directory, contents, (count) => options.onBytes?.(count)).run(stats);
  await contents.finish();
  return files;
}

/** A stream of bytes that the client serves under this path. */
export async function* readUpload(session: Session, path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  using stream = session.client.open('/moby.upload.v1.Upload/Pull', { urlpath: [`/${path}`] }, signal);
  stream.end();
  for await (const message of stream.messages) yield bytesIn(message, 'data');
}
