/**
 * Files and directories that the runtime made in a container's writable layer only to mount over them. They are not the
 * container's work and do not belong into an image.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';
import type { Content } from './content.ts';
import type { ImageLayer } from './image-records.ts';
import { pathParts } from './safe-path.ts';

const files = ['etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'dev/console', '.dockerenv'];
const directories = ['dev/pts', 'dev/shm', 'dev/mqueue', 'dev', 'proc', 'sys/fs/cgroup', 'sys/fs', 'sys', 'etc'];

/** A target, and the directories above it, deepest first. */
function withParents(target: string): string[] {
  const parts = pathParts(posix.normalize(target));
  return parts.map((_, index) => parts.slice(0, parts.length - index).join('/'));
}

/** Paths in `upper`, deepest first. `targets`: where else something was mounted, absolute. */
export function findMountPoints(
  content: Content,
  upper: string,
  layers: readonly ImageLayer[],
  targets: readonly string[] = [],
): string[] {
  const mounted = targets.flatMap(withParents).sort((a, b) => b.split('/').length - a.split('/').length);
  const lowers = [...layers]
    .reverse()
    .filter((layer) => content.layers.has(layer.diffId))
    .map((layer) => join(content.root, content.layers.directory(layer.diffId)));
  const below = (path: string): string | undefined =>
    lowers.map((lower) => join(lower, path)).find((each) => lstatSync(each, { throwIfNoEntry: false }) !== undefined);
  const found = new Set<string>();
  for (const path of [...files, ...mounted]) {
    const info = lstatSync(join(upper, path), { throwIfNoEntry: false });
    if (info?.isFile() === true && info.size === 0 && below(path) === undefined) found.add(path);
  }
  for (const path of [...mounted, ...directories]) {
    const own = lstatSync(join(upper, path), { throwIfNoEntry: false });
    if (own?.isDirectory() !== true || readdirSync(join(upper, path)).some((name) => !found.has(`${path}/${name}`)))
      continue;
    const lower = below(path);
    const info = lower === undefined ? undefined : lstatSync(lower);
    const isUntouched =
      info === undefined
        ? path !== 'etc'
        : info.isDirectory() && info.mode === own.mode && info.uid === own.uid && info.gid === own.gid;
    if (isUntouched) found.add(path);
  }
  return [...found];
}
