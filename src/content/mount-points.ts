/**
 * Files and directories that the runtime made in a container's writable layer only to mount over them. They are not the
 * container's work and do not belong into an image.
 */
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import type { Stats } from 'node:fs';
import { join, posix } from 'node:path';
import type { Content } from './content.ts';
import type { ImageLayer } from './image-records.ts';
import { symlinkHopsMax } from './limits.ts';
import { pathParts } from './safe-path.ts';

const files = ['etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'dev/console', '.dockerenv'];
const directories = ['dev/pts', 'dev/shm', 'dev/mqueue', 'dev', 'proc', 'sys/fs/cgroup', 'sys/fs', 'sys', 'etc'];

/** A target, and the directories above it, deepest first. */
function withParents(target: string): string[] {
  const parts = pathParts(posix.normalize(target));
  return parts.map((_, index) => parts.slice(0, parts.length - index).join('/'));
}

/**
 * What is at the path itself. undefined where nothing is, or where a symlink leads to it: programs put symlinks in
 * place of directories above a mount, and whatever those lead to was not made for it.
 */
function statInside(root: string, path: string): Stats | undefined {
  const parts = pathParts(path);
  let here = root;
  for (const part of parts.slice(0, -1)) {
    here = join(here, part);
    if (lstatSync(here, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined;
  }
  return lstatSync(join(root, path), { throwIfNoEntry: false });
}

/** Where a path leads through symlinks that were there before; what is not there is taken as it is written. */
function resolveTarget(target: string, find: (path: string) => Found | undefined): string {
  const queue = pathParts(posix.normalize(target));
  let here: string[] = [];
  let hops = 0;
  for (let part = queue.shift(); part !== undefined; part = queue.shift()) {
    if (part === '..') {
      here.pop();
      continue;
    }
    const next = [...here, part];
    const found = find(next.join('/'));
    if (found?.info.isSymbolicLink() !== true) {
      here = next;
      continue;
    }
    if (++hops > symlinkHopsMax) return target;
    const link = readlinkSync(found.path);
    if (link.startsWith('/')) here = [];
    queue.unshift(...pathParts(link));
  }
  return here.join('/');
}

interface Found {
  info: Stats;
  /** On the host. */
  path: string;
}

/** Paths in `upper`, deepest first. `targets`: where else something was mounted, absolute. */
export function findMountPoints(
  content: Content,
  upper: string,
  layers: readonly ImageLayer[],
  targets: readonly string[] = [],
): string[] {
  const lowers = [...layers]
    .reverse()
    .filter((layer) => content.layers.has(layer.diffId))
    .map((layer) => join(content.root, content.layers.directory(layer.diffId)));
  const find = (path: string): Found | undefined => {
    for (const lower of lowers) {
      const info = statInside(lower, path);
      if (info !== undefined) return { info, path: join(lower, path) };
    }
    return undefined;
  };
  const below = (path: string): Stats | undefined => find(path)?.info;
  const mounted = targets
    .flatMap((target) => withParents(resolveTarget(target, find)))
    .sort((a, b) => b.split('/').length - a.split('/').length);
  const found = new Set<string>();
  for (const path of [...files, ...mounted]) {
    const info = statInside(upper, path);
    if (info?.isFile() === true && info.size === 0 && below(path) === undefined) found.add(path);
  }
  for (const path of [...mounted, ...directories]) {
    const own = statInside(upper, path);
    if (own?.isDirectory() !== true || readdirSync(join(upper, path)).some((name) => !found.has(`${path}/${name}`)))
      continue;
    const info = below(path);
    const isUntouched =
      info === undefined
        ? path !== 'etc'
        : info.isDirectory() && info.mode === own.mode && info.uid === own.uid && info.gid === own.gid;
    if (isUntouched) found.add(path);
  }
  return [...found];
}
