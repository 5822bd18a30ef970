/**
 * `local://NAME`: a directory of the client, by the patterns that the vertex's attributes give; or an archive that it
 * sends, where they name one.
 */
import { ApiError } from '#base/errors.ts';
import { itemsOf } from '#base/unknown.ts';
import { decodeFileName } from '#base/file-names.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { lstatSync, readBytes } from '#os/named-files.ts';
import type { Builder } from '../builder.ts';
import { IndexedContext, cleanContextPath } from '../context.ts';
import type { BuildContext, ContextEntry } from '../context.ts';
import type { KeptFile, OpenDirectory } from '../kept-directories.ts';
import { dockerfileBytesMax } from '../limits.ts';
import type { VertexOutput } from '../llb/output.ts';
import { parseIgnoreFile } from '../patterns.ts';
import { readUpload, syncDirectory } from './file-sync.ts';
import type { SyncOptions } from './file-sync.ts';
import type { Session } from './session.ts';

export interface LocalRequest {
  builder: Pick<Builder, 'receiveContext' | 'directories'>;
  session: Session;
  name: string;
  attributes: Readonly<Record<string, string>>;
  output: Pick<VertexOutput, 'count'>;
  signal: AbortSignal;
}

/** Attributes hold lists as JSON. */
function listIn(attributes: LocalRequest['attributes'], name: string): string[] {
  const text = attributes[name];
  if (text === undefined || text === '') return [];
  return itemsOf(JSON.parse(text)).filter((item) => typeof item === 'string');
}

/** Path under which the session serves an archive, and that of the Dockerfile in it. */
export const archiveAttribute = 'tiphys.archive';
export const dockerfileAttribute = 'tiphys.dockerfile';

function entryOf(files: ReadonlyMap<string, KeptFile>, path: string): ContextEntry {
  const file = files.get(path);
  if (file === undefined) return { type: 'directory', mode: 0o755, sizeBytes: 0, digest: '', linkTarget: '' };
  if (file.type === 'link') return entryOf(files, file.linkTarget);
  const { type, mode, sizeBytes, digest, linkTarget } = file;
  return { type, mode, sizeBytes, digest, linkTarget: type === 'symlink' ? linkTarget : '' };
}

/** Texts of small files, symlinks among them followed. */
export function readTexts(root: string, names: readonly string[]): Map<string, string> {
  const texts = new Map<string, string>();
  for (const name of names) {
    const path = cleanContextPath(name);
    const real = new RootedDirectory(root).resolve(pathParts(path));
    if (real === undefined) continue;
    const info = lstatSync(real);
    if (info.isFile() && info.size > dockerfileBytesMax)
      throw new ApiError('BadRequest', `${name} exceeds maximum allowed size of ${dockerfileBytesMax} bytes`);
    if (info.isFile()) texts.set(path, decodeFileName(readBytes(real, 0, info.size)));
  }
  return texts;
}

async function contextOf(
  directory: OpenDirectory,
  { session, sync, texts }: { session: Session; sync: SyncOptions; texts: readonly string[] },
): Promise<BuildContext> {
  try {
    const files = await syncDirectory(session, sync, directory);
    await directory.keep(files);
    return new IndexedContext({
      entries: new Map([...files.keys()].map((path) => [path, entryOf(files, path)])),
      texts: readTexts(directory.path, texts),
      // The client has left out what is to be ignored.
      rules: parseIgnoreFile(''),
      directory: async () => directory.path,
      close: () => directory.close(),
    });
  } catch (error) {
    await directory.close();
    throw error;
  }
}

/** A few small files of a directory, whose texts are wanted. */
export async function receiveTexts(request: LocalRequest, files: readonly string[]): Promise<BuildContext> {
  const { builder, session, name, output, signal } = request;
  let bytes = 0;
  const sync = { name, include: files, follow: files, signal, onBytes: (count: number) => (bytes += count) };
  const context = await contextOf(await builder.directories.open(undefined, name), { session, sync, texts: files });
  output.count(`transferring ${name}:`, bytes, true);
  return context;
}

/** What the client has of the directory. It applies the patterns itself. */
export async function receiveLocal(request: LocalRequest): Promise<BuildContext> {
  const { builder, session, name, attributes, output, signal } = request;
  const { [archiveAttribute]: archive, [dockerfileAttribute]: dockerfile = '' } = attributes;
  if (archive !== undefined)
    return builder.receiveContext(readUpload(session, archive, signal), { dockerfile, signal });
  const hint = attributes['local.sharedkeyhint'] ?? name;
  const include = listIn(attributes, 'local.includepattern');
  const follow = listIn(attributes, 'local.followpaths');
  const shown = `transferring ${hint}:`;
  let bytes = 0;
  const sync: SyncOptions = {
    name,
    include,
    exclude: listIn(attributes, 'local.excludepatterns'),
    follow,
    signal,
    onBytes: (count) => {
      bytes += count;
      output.count(shown, bytes);
    },
  };
  const place = [session.place, name, hint, ...include, '', ...follow];
  const directory = await builder.directories.open(
    session.place === '' ? undefined : place,
    `local source for ${name}`,
  );
  const context = await contextOf(directory, { session, sync, texts: [] });
  output.count(shown, bytes, true);
  return context;
}
