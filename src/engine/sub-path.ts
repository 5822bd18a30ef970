/** The part of a volume or an image that a mount shows (`volume-subpath`, `image-subpath`). */
import { realpathSync, statSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { Mount } from './engine.ts';
import { resolveInRoot } from './runtime/root-path.ts';

/** Where it is on the host; without a sub-path all of it. Throws an InternalError where it is not inside. */
export function subDirectory(volume: string, mount: Mount): string {
  if (mount.subPath === undefined) return volume;
  const path = resolveInRoot(volume, mount.subPath);
  if (statSync(path, { throwIfNoEntry: false }) === undefined)
    throw new ApiError('InternalError', `cannot access path ${path}: lstat ${path}: no such file or directory`);
  // Inside it the way would end elsewhere than outside: a link leads out.
  if (realpathOf(`${volume}/${mount.subPath}`) !== realpathOf(path))
    throw new ApiError(
      'InternalError',
      `path concatenation escapes the base directory, base: ${volume}, subpath: ${mount.subPath}`,
    );
  return path;
}

function realpathOf(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}
