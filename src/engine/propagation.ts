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
