/**
 * From when a build's source is: when its commit was made, when its server says that it was changed, or how new the
 * newest file of its archive is. Directories of the client and images have no such time.
 *
 * Source: BuildKit, its page on reproducible builds.
 */
import { ApiError } from '#base/errors.ts';
import { readTar } from '#base/tar-read.ts';
import { commitTimeMs } from '../llb/git.ts';
import { listVertices } from '../llb/vertex.ts';
import type { Edge, SourceOp } from '../llb/vertex.ts';
import { contextBytesMax } from '../limits.ts';
import type { Job } from './job.ts';

const isGit = ({ identifier }: SourceOp): boolean => identifier.startsWith('git://');
const isWeb = ({ identifier }: SourceOp): boolean => /^https?:\/\//.test(identifier);

/** Milliseconds since 1970; undefined for what is no archive, or one without files. */
async function newestFileMs({ builder, signal }: Job, digest: string): Promise<number | undefined> {
  const { content } = builder.parts;
  let newest: number | undefined;
  try {
    const bytes = await content.decompress(content.blobs.read(digest), contextBytesMax);
    for await (const { header } of readTar(bytes)) {
      signal.throwIfAborted();
      if (header.type === 'file') newest = Math.max(newest ?? -Infinity, header.mtimeMs);
    }
  } catch {
    signal.throwIfAborted();
    return undefined;
  }
  return newest;
}

const wholeSeconds = (timeMs: number | undefined): number | undefined =>
  timeMs === undefined ? undefined : Math.floor(timeMs / 1000) * 1000;

/**
 * Milliseconds since 1970, of whole seconds; undefined where there is no one source, or it has no time. `isRemote`:
 * throws BadRequest unless it is a repository or of the web.
 */
export async function timeOfSource(job: Job, edge: Edge | undefined, isRemote: boolean): Promise<number | undefined> {
  const ops = edge === undefined ? [] : listVertices(edge.vertex).map(({ op }) => op);
  const [op, ...others] = ops.filter((each) => each.kind === 'source');
  const isOne = op !== undefined && others.length === 0;
  if (isRemote && !(isOne && (isGit(op) || isWeb(op))))
    throw new ApiError('BadRequest', 'SOURCE_DATE_EPOCH stage source must be a single HTTP(S) or Git ADD');
  if (!isOne) return undefined;
  if (isGit(op)) {
    const { commitObject } = await job.repository(op, true);
    return commitObject === undefined ? undefined : commitTimeMs(commitObject);
  }
  if (!isWeb(op)) return undefined;
  const { digest, modifiedAtMs } = await job.sources.download(op, true);
  return wholeSeconds(modifiedAtMs ?? (await newestFileMs(job, digest)));
}
