/**
 * Paths inside a container's root, with every link followed as if that root were `/` (as chroot would). A check and a
 * later use are two steps: a running container could move a directory in between, so results are used at once and never
 * for what must not escape while the container runs with the same files in other hands than root's.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { pathLinksMax, rootTextBytesMax } from '../limits.ts';
import { fsPath, lstatOrUndefined, readlinkSync } from '#os/named-files.ts';

/**
 * The path on the host. Missing last parts are kept as they are; with `followLast` false a link at the end stays a
 * link.
 */
export function resolveInRoot(root: string, path: string, followLast = true): string {
  const todo = path.split('/').filter((part) => part !== '' && part !== '.');
  const done: string[] = [];
  let links = 0;
  while (todo.length > 0) {
    const part = todo.shift()!;
    if (part === '..') {
      done.pop();
      continue;
    }
    const here = `${root}/${[...done, part].join('/')}`;
    const stat = lstatOrUndefined(here);
    if (stat?.isSymbolicLink() === true && (followLast || todo.length > 0)) {
      if (++links > pathLinksMax) throw new ApiError('BadRequest', `too many links in ${path}`);
      const target = readlinkSync(here);
      if (target.startsWith('/')) done.length = 0;
      todo.unshift(...target.split('/').filter((piece) => piece !== '' && piece !== '.'));
    } else done.push(part);
  }
  return done.length === 0 ? root : `${root}/${done.join('/')}`;
}

/** A small file's text, or undefined when it is missing or not a regular file. */
export function readInRoot(root: string, path: string): string | undefined {
  try {
    const fd = openSync(
      fsPath(resolveInRoot(root, path)),
      constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW,
    );
    try {
      const stat = fstatSync(fd);
      if (!stat.isFile() || stat.size > rootTextBytesMax) return undefined;
      return readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
}
