/**
 * Resolving paths of strangers inside a directory as if it were the root: `..` never leaves it, a symlink's absolute
 * target starts at it. We are the only writer of the directory, so what was checked stays true; a cache of directories
 * known to be real saves the look-ups.
 */
import { ApiError } from '#base/errors.ts';
import { encodeFileName } from '#base/file-names.ts';
import { lstatOrUndefined, mkdirSync, readlinkSync } from '#os/named-files.ts';
import { fileNameBytesMax, layerPathDepthMax, symlinkHopsMax } from './limits.ts';

/** Components of a path without `.`, empty ones and a leading slash; `..` is kept. */
export function pathParts(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}

/** Before the kernel does, whose error would name the real directory. */
function refuseLongName(name: string, parts: string[]): void {
  if (name.length * 3 > fileNameBytesMax && encodeFileName(name).length > fileNameBytesMax)
    throw new ApiError('BadRequest', `lstat /${parts.join('/')}: file name too long`);
}

export class RootedDirectory {
  readonly root: string;
  /** Directories known to be real, each with those below it. */
  readonly #known = new Map<string, string[]>();

  constructor(root: string) {
    this.root = root;
    this.#known.set(root, []);
  }

  /** Forgets what it knows of a path that was replaced, and of all below: as much work as was put in. */
  forget(path: string): void {
    const todo = [path];
    for (let each = todo.pop(); each !== undefined; each = todo.pop()) {
      for (const below of this.#known.get(each) ?? []) todo.push(below);
      this.#known.delete(each);
    }
  }

  /**
   * The real path of a directory, symlinks followed inside the root. `make` makes what is missing. undefined when it is
   * missing. An ApiError where a file is in the way.
   */
  directory(parts: string[], make?: (path: string) => void): string | undefined {
    let here = this.root;
    const queue = [...parts];
    let hops = 0;
    for (let steps = 0; queue.length > 0; steps++) {
      if (steps > layerPathDepthMax * 4) throw new ApiError('BadRequest', 'path is too deep');
      const part = queue.shift()!;
      if (part === '..') {
        here = here === this.root ? here : here.slice(0, here.lastIndexOf('/'));
        continue;
      }
      refuseLongName(part, parts);
      const next = `${here}/${part}`;
      if (this.#known.has(next)) {
        here = next;
        continue;
      }
      const info = lstatOrUndefined(next);
      if (info === undefined) {
        if (make === undefined) return undefined;
        make(next);
      } else if (info.isSymbolicLink()) {
        if (++hops > symlinkHopsMax)
          throw new ApiError('BadRequest', `too many levels of symbolic links: ${parts.join('/')}`);
        const target = readlinkSync(next);
        queue.unshift(...pathParts(target));
        if (target.startsWith('/')) here = this.root;
        continue;
      } else if (!info.isDirectory()) {
        throw new ApiError('BadRequest', `lstat /${parts.join('/')}: not a directory`);
      }
      this.#known.set(next, []);
      this.#known.get(here)?.push(next);
      here = next;
    }
    return here;
  }

  /** Real path of the parent and the last name; the last component itself is not followed. undefined for the root. */
  locate(parts: string[], make?: (path: string) => void): string | undefined {
    const name = parts.at(-1);
    if (name === undefined || name === '..') return undefined;
    refuseLongName(name, parts);
    const parent = this.directory(parts.slice(0, -1), make);
    return parent === undefined ? undefined : `${parent}/${name}`;
  }

  /** Follows symlinks of the last component too. undefined when it does not exist. */
  resolve(parts: string[]): string | undefined {
    let queue = parts;
    for (let hops = 0; hops <= symlinkHopsMax; hops++) {
      const normal: string[] = [];
      for (const part of queue)
        if (part === '..') normal.pop();
        else normal.push(part);
      if (normal.length === 0) return this.root;
      const path = this.locate(normal);
      const info = path === undefined ? undefined : lstatOrUndefined(path);
      if (path === undefined || info === undefined) return undefined;
      if (!info.isSymbolicLink()) return path;
      const target = readlinkSync(path);
      const base = target.startsWith('/') ? [] : pathParts(path.slice(this.root.length)).slice(0, -1);
      queue = [...base, ...pathParts(target)];
    }
    throw new ApiError('BadRequest', `too many levels of symbolic links: ${parts.join('/')}`);
  }

  makeDirectory(path: string, mode = 0o755): void {
    mkdirSync(path, { mode });
  }
}
