/**
 * Mount propagation of binds. A mount below the source is seen on the other side only where the source's own mount
 * takes part (mount_namespaces(7)); where it does not, a bind that was asked to would silently be private. Both are
 * read from /proc/self/mountinfo (proc_pid_mountinfo(5)).
 */
import { realpathSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import type { Mount } from './engine.ts';

export interface MountPoint {
  target: string;
  isShared: boolean;
  isSlave: boolean;
}

/** In the order of the text: of two on one place the later one covers the other. */
export function parseMountInfo(text: string): MountPoint[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const fields = line.split(' ');
      const optional = fields.slice(6, fields.indexOf('-'));
      return {
        target: (fields[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal: string) =>
          String.fromCharCode(Number.parseInt(octal, 8)),
        ),
        isShared: optional.some((word) => word.startsWith('shared:')),
        isSlave: optional.some((word) => word.startsWith('master:')),
      };
    });
}

/** The mount that a path lies on. */
export function mountOf(path: string, mounts: readonly MountPoint[]): MountPoint | undefined {
  let found: MountPoint | undefined;
  for (const mount of mounts) {
    const isAbove = path === mount.target || mount.target === '/' || path.startsWith(`${mount.target}/`);
    if (isAbove && mount.target.length >= (found?.target.length ?? 0)) found = mount;
  }
  return found;
}

/** Refuses a bind whose propagation cannot be, in the runtime's words. */
export function checkPropagation(mount: Mount, mountInfo: () => string): void {
  const kind = mount.propagation ?? 'rprivate';
  if (mount.type !== 'bind' || kind.endsWith('private')) return;
  const place = mountOf(realpathSync(mount.source), parseMountInfo(mountInfo()));
  if (place === undefined || place.isShared || (kind.endsWith('slave') && place.isSlave)) return;
  throw new ApiError(
    'InternalError',
    `path ${mount.source} is mounted on ${place.target} but it is not a shared${kind.endsWith('slave') ? ' or slave' : ''} mount`,
  );
}

/**
 * Binds of the engine's own directory, or of what holds it: a private one would keep mounts of the engine alive that it
 * takes away, so they follow it, where the kernel lets them; who asks for a private one is refused.
 */
export function followOwnRoot(mounts: readonly Mount[], root: string, mountInfo: () => string): Mount[] {
  const holds = (outer: string, inner: string): boolean =>
    inner === outer || inner.startsWith(`${outer}/`.replace('//', '/'));
  return mounts.map((mount) => {
    if (mount.type !== 'bind' || !(holds(root, mount.source) || holds(mount.source, root))) return mount;
    if (mount.propagation === undefined) {
      const place = mountOf(mount.source, parseMountInfo(mountInfo()));
      return place?.isShared === true || place?.isSlave === true ? { ...mount, propagation: 'rslave' } : mount;
    }
    if (mount.propagation === 'rslave' || mount.propagation === 'rshared') return mount;
    throw new ApiError(
      'BadRequest',
      `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: ${JSON.stringify(root)}, bind mount source: ${JSON.stringify(mount.source)}, propagation: ${JSON.stringify(mount.propagation)}`,
    );
  });
}
