/**
 * The build context: a tar stream, kept as it came and indexed on the way (type, mode, size and SHA-256 of each file),
 * so that a build whose steps are all cached never unpacks it. `.dockerignore` is applied here too: API clients send
 * everything.
 */
import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { ApiError } from '#base/errors.ts';
import { decodeFileName, encodeFileName } from '#base/file-names.ts';
import { readTar } from '#base/tar-read.ts';
import { whenSettled } from '#base/promises.ts';
import type { Content } from '#content/content.ts';
import { layerPathDepthMax } from '#content/limits.ts';
import { contextBytesMax, contextEntriesMax, dockerfileBytesMax } from './limits.ts';
import { compilePattern, parseIgnoreFile } from './patterns.ts';
import type { IgnoreRules } from './patterns.ts';

export interface ContextEntry {
  type: string;
  mode: number;
  sizeBytes: number;
  digest: string;
  linkTarget: string;
}

export interface BuildContext extends AsyncDisposable {
  entry(path: string): ContextEntry | undefined;
  /** Text of a file of the context; undefined when it is not there. Small files only. */
  text(path: string): string | undefined;
  /** Paths that a source names: itself, or what its wildcards match. Empty: nothing does. */
  expand(source: string, isPattern: boolean): string[];
  /** Content address of paths and all below them; times do not count. */
  digest(paths: string[], exclude?: IgnoreRules): string;
  /** Paths below, for `--exclude`. */
  below(path: string): string[];
  /** Unpacked, owned by root. The same directory each time. */
  directory(): Promise<string>;
  /** What `.dockerignore` leaves out. */
  readonly ignored: string[];
}

export function cleanContextPath(path: string): string {
  const out: string[] = [];
  for (const part of path.split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') out.pop();
    else out.push(part);
  }
  return out.join('/');
}

export interface ContextOptions {
  /** Its path in the context; its text is kept. */
  dockerfile: string;
  /** In place of the ignore file that the context holds. */
  ignore?: string;
  signal?: AbortSignal;
}

/** Where a context's files are, and what becomes of them. */
export interface ContextFiles {
  entries: Map<string, ContextEntry>;
  /** Of files that a front end reads. */
  texts: Map<string, string>;
  rules: IgnoreRules;
  /** Called once at most. */
  directory: () => Promise<string>;
  /** Nobody needs the files any more. */
  close: () => Promise<void>;
}

export class IndexedContext implements BuildContext {
  readonly #files: ContextFiles;
  readonly #entries: Map<string, ContextEntry>;
  readonly #texts: Map<string, string>;
  readonly #sorted: string[];
  readonly ignored: string[];
  #directory: Promise<string> | undefined;

  constructor(files: ContextFiles) {
    const { entries, texts, rules } = files;
    this.#files = files;
    this.#entries = entries;
    this.#texts = texts;
    const isIgnored = (path: string): boolean => rules.ignores(path);
    const ignored = rules.isEmpty ? [] : [...entries.keys()].filter(isIgnored);
    // A directory out of which something is kept (`d`, `!d/keep`) is there for it.
    const needed = new Set<string>();
    if (rules.hasExclusions && ignored.length > 0) {
      for (const path of entries.keys()) {
        if (isIgnored(path)) continue;
        for (
          let at = path.lastIndexOf('/');
          at > 0 && !needed.has(path.slice(0, at));
          at = path.lastIndexOf('/', at - 1)
        )
          needed.add(path.slice(0, at));
      }
    }
    this.ignored = ignored.filter((path) => !needed.has(path));
    for (const path of this.ignored) entries.delete(path);
    this.#sorted = [...entries.keys()].sort();
  }

  entry(path: string): ContextEntry | undefined {
    return path === ''
      ? { type: 'directory', mode: 0o755, sizeBytes: 0, digest: '', linkTarget: '' }
      : this.#entries.get(path);
  }
  text(path: string): string | undefined {
    return this.#texts.get(cleanContextPath(path));
  }

  expand(source: string, isPattern: boolean): string[] {
    const path = cleanContextPath(source);
    if (!isPattern) return this.entry(path) === undefined && this.#throughLink(path) === undefined ? [] : [path];
    const pattern = compilePattern(path, { doubleStar: true });
    return this.#sorted.filter((each) => pattern.test(each));
  }

  /** A path below a symlink of the context. */
  #throughLink(path: string): string | undefined {
    const parts = path.split('/');
    for (let count = 1; count <= parts.length; count++) {
      const entry = this.#entries.get(parts.slice(0, count).join('/'));
      if (entry?.type === 'symlink') return path;
    }
    return undefined;
  }

  below(path: string): string[] {
    return path === '' ? this.#sorted : this.#sorted.filter((each) => each.startsWith(`${path}/`));
  }

  digest(paths: string[], exclude?: IgnoreRules): string {
    const hash = createHash('sha256');
    const add = (path: string): void => {
      const entry = this.#entries.get(path);
      if (entry === undefined || exclude?.ignores(path) === true) return;
      hash.update(encodeFileName(`${path}\0${entry.type}\0${entry.mode}\0${entry.digest}\0${entry.linkTarget}\n`));
    };
    for (const path of paths) {
      hash.update(encodeFileName(`> ${path}\n`));
      const entry = this.entry(path);
      add(path);
      // What a symlink leads to is not followed here: to be safe the whole context counts.
      if (entry === undefined || entry.type === 'symlink') this.#sorted.forEach(add);
      else if (entry.type === 'directory') this.below(path).forEach(add);
    }
    return hash.digest('hex');
  }

  directory(): Promise<string> {
    return (this.#directory ??= this.#files.directory());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await whenSettled(this.#directory);
    await this.#files.close();
  }
}

// walk image-build 2/6: the context is unpacked path by path, `.dockerignore` applied, every file digested.
/** Reads the stream to its end. */
export async function receiveContext(
  content: Content,
  source: AsyncIterable<Uint8Array>,
  { dockerfile, ignore, signal }: ContextOptions,
): Promise<BuildContext> {
  const spool = content.blobs.scratchPath();
  const entries = new Map<string, ContextEntry>();
  const texts = new Map<string, string>();
  const wanted = new Set([
    cleanContextPath(dockerfile),
    '.dockerignore',
    `${cleanContextPath(dockerfile)}.dockerignore`,
  ]);
  const file = await open(spool, 'wx', 0o600);
  try {
    const expanded = await content.decompress(source, contextBytesMax);
    const spooled = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of expanded) {
        signal?.throwIfAborted();
        for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at, chunk.length - at)).bytesWritten;
        yield chunk;
      }
    };
    for await (const { header, content: bytes } of readTar(spooled())) {
      const path = cleanContextPath(header.path);
      if (path === '') continue;
      const parts = path.split('/');
      if (parts.length > layerPathDepthMax)
        throw new ApiError('BadRequest', `invalid tar path, it is too deep: ${path.slice(0, 100)}`);
      if (entries.size + parts.length > contextEntriesMax)
        throw new ApiError('RequestEntityTooLarge', `the build context has more than ${contextEntriesMax} entries`);
      let digest = '';
      if (header.type === 'file') {
        const hash = createHash('sha256');
        const kept: Uint8Array[] | undefined =
          wanted.has(path) && header.sizeBytes <= dockerfileBytesMax ? [] : undefined;
        for await (const chunk of bytes) {
          hash.update(chunk);
          kept?.push(Uint8Array.from(chunk));
        }
        digest = hash.digest('hex');
        if (kept !== undefined) texts.set(path, decodeFileName(Buffer.concat(kept)));
      }
      const linked = header.type === 'link' ? entries.get(cleanContextPath(header.linkTarget)) : undefined;
      entries.set(
        path,
        linked ?? {
          type: header.type,
          mode: header.mode,
          sizeBytes: header.sizeBytes,
          digest,
          linkTarget: header.type === 'symlink' ? header.linkTarget : '',
        },
      );
      for (let count = 1; count < parts.length; count++) {
        const parent = parts.slice(0, count).join('/');
        if (!entries.has(parent))
          entries.set(parent, { type: 'directory', mode: 0o755, sizeBytes: 0, digest: '', linkTarget: '' });
      }
    }
  } catch (error) {
    await file.close();
    await rm(spool, { force: true });
    throw error;
  }
  await file.close();
  const rules = ignore ?? texts.get(`${cleanContextPath(dockerfile)}.dockerignore`) ?? texts.get('.dockerignore') ?? '';
  return new IndexedContext({
    entries,
    texts,
    rules: parseIgnoreFile(rules),
    async directory() {
      const directory = `${spool}.d`;
      mkdirSync(directory, { recursive: true, mode: 0o755 });
      await content.layers.unpackFile(spool, directory, { uid: 0, gid: 0 });
      return directory;
    },
    async close() {
      await rm(spool, { force: true });
      await rm(`${spool}.d`, { recursive: true, force: true });
    },
  });
}
