/**
 * Files and directories that the runtime made in a container's writable layer only to mount over them. They are not the
 * container's work and do not belong into an image.
 */
import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Content } from './content.ts';
import type { ImageLayer } from './image-records.ts';

const files = ['etc/hosts', 'etc/hostname', 'etc/resolv.conf', 'dev/console', '.dockerenv'];
const directories = ['dev/pts', 'dev/shm', 'dev/mqueue', 'dev', 'proc', 'sys/fs/cgroup', 'sys/fs', 'sys', 'etc'];

/** Paths in `upper`, deepest first. */
export function findMountPoints(content: Content, upper: string, layers: ImageLayer[]): string[] {
  const lowers = [...layers]
    .reverse()
    .filter((layer) => content.layers.has(layer.diffId))
    .map((layer) => join(content.root, content.layers.directory(layer.diffId)));
  const below = (path: string): string | undefined =>
    lowers.map((lower) => join(lower, path)).find((each) => lstatSync(each, { throwIfNoEntry: false }) !== undefined);
  const found = new Set<string>();
  for (const path of files) {
    const own = lstatSync(join(upper, path), { throwIfNoEntry: false });
    if (own?.isFile() === true && own.size === 0 && below(path) === undefined) found.add(path);
  }
  for (const path of directories) {
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
