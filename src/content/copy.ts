/**
 * Copies files between rooted trees as `COPY` and `ADD` do: symlinks of the given paths are followed inside their
 * roots, those found below are copied as they are; directories merge; owners, modes, times, extended attributes,
 * devices and hard links are kept unless told otherwise. Synchronous: runs in a worker (`layer-worker.ts`).
 *
 * Files cannot be linked into an overlay. What may be linked is built beside it, on the same file system; an empty file
 * or directory stands for it in the overlay. Once that is unmounted, what was built takes its place in the upper
 * directory (`placeStaged`): no byte is copied.
 *
 * Invariant: neither root is left, whatever symlinks either tree holds. Specification: the Dockerfile reference,
 * "COPY".
 */
import { constants } from 'node:fs';
import type { Stats } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { changeMode } from '#base/file-mode.ts';
import {
  chmodSync,
  chownSync,
  copyFileSync,
  lchownSync,
  linkSync,
  lstatOrUndefined,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  setTimes,
  symlinkSync,
  writeFileSync,
} from '#os/named-files.ts';
import { deviceParts, getXattr, listXattrs, makeSpecialFile, setXattr } from '#os/special-files.ts';
import { RootedDirectory, pathParts } from './safe-path.ts';

export type CopyAction =
  | {
      kind: 'copy';
      /** `sources` are relative to it. */
      sourceRoot: string;
      sources: string[];
      target: string;
      /** The target was written with a trailing slash, or there are several sources. */
      isDirectory: boolean;
      owner?: Owner;
      mode?: number;
      /** Changes to the mode of each file, `u+x`. */
      modeText?: string;
      mtimeMs?: number;
      exclude?: string[];
      keepsParents?: boolean;
      /** Nobody changes the source's files in place, and they lie on the target's file system: they may be linked. */
      canLink?: boolean;
      /** A directory is copied as itself, not its contents. */
      makesDirectory?: boolean;
    }
  | {
      kind: 'file';
      target: string;
      content: Uint8Array;
      mode: number;
      owner?: Owner;
      isDirectory: boolean;
      name: string;
      mtimeMs: number;
    }
  | { kind: 'makeDirectory'; target: string; mode?: number; makesParents?: boolean; owner?: Owner; mtimeMs?: number }
  | { kind: 'remove'; target: string; allowsNone: boolean }
  | { kind: 'symlink'; target: string; linkTarget: string; owner?: Owner; mtimeMs?: number };
export interface Owner {
  uid: number;
  gid: number;
}

/** From where to where one thing is copied. */
interface Way {
  from: string;
  to: string;
  /** Of `from`, within the source: what exclusions name. */
  relative: string;
}

/** What was built beside the target. */
export interface StagedCopy {
  /** Where its place is, relative to the target's root: a real path, no symlink leads there. */
  path: string;
  from: string;
}

interface MadeAs {
  owner?: Owner;
  mode?: number;
  modeText?: string;
}

class Copier {
  readonly #target: RootedDirectory;
  readonly #inodes = new Map<string, string>();
  readonly #linked = new Set<string>();
  /** undefined: everything goes into the target at once. */
  #stage: string | undefined;
  /** By the real path in the target. */
  readonly #staged = new Map<string, string>();

  constructor(root: string, stage?: string) {
    this.#target = new RootedDirectory(root);
    this.#stage = stage;
  }

  get staged(): StagedCopy[] {
    return [...this.#staged].map(([path, from]) => ({ path: path.slice(this.#target.root.length + 1), from }));
  }

  /** True where a path of the target may be built beside it: there may be nothing yet. */
  #isStageable(path: string): boolean {
    return this.#stage !== undefined && !path.startsWith(this.#stage);
  }

  #nextStaged(): string {
    return `${this.#stage}/${this.#staged.size}`;
  }

  /** Copies what was built to where it belongs: another source has to do with it, or a symlink leads into it. */
  #unstage(): void {
    const staged = [...this.#staged];
    const names = [...this.#inodes];
    this.#stage = undefined;
    this.#staged.clear();
    this.#inodes.clear();
    const plain: CopyAction & { kind: 'copy' } = {
      kind: 'copy',
      sourceRoot: '',
      sources: [],
      target: '',
      isDirectory: false,
    };
    for (const [to, from] of staged) this.#one({ from, to, relative: '' }, lstatSync(from), plain, new Set());
    // What comes from the stage is no further name of what comes later; what had names keeps them where it is now.
    this.#inodes.clear();
    for (const [inode, path] of names) {
      const [to, from = ''] = staged.find(([, built]) => path === built || path.startsWith(`${built}/`)) ?? [path];
      this.#inodes.set(inode, `${to}${path.slice(from === '' ? path.length : from.length)}`);
    }
  }

  /** Directories above a copy are whose the copy is, and as it is asked to be. */
  #makeParents({ owner, mode, modeText }: MadeAs): (path: string) => void {
    return (path) => {
      mkdirSync(path, { mode: 0o755 });
      if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
      if (mode !== undefined) chmodSync(path, mode);
      else if (modeText !== undefined) chmodSync(path, changeMode(0o755, modeText, true));
    };
  }

  run(action: CopyAction): void {
    switch (action.kind) {
      case 'makeDirectory':
        this.#makeDirectory(action);
        return;
      case 'file':
        this.#makeFile(action);
        return;
      case 'remove':
        this.#remove(action);
        return;
      case 'symlink':
        this.#symlink(action);
        return;
      default: {
        const source = new RootedDirectory(action.sourceRoot);
        const excluded = new Set(action.exclude ?? []);
        // Names of one file are that within one copy; two copies of one file are two files.
        this.#inodes.clear();
        for (const relative of action.sources) this.#copySource(source, relative, action, excluded);
      }
    }
  }

  #makeDirectory(action: CopyAction & { kind: 'makeDirectory' }): void {
    const { target, mode = 0o755, makesParents = true, owner, mtimeMs } = action;
    const parts = pathParts(target);
    if (!makesParents) {
      if (this.#target.directory(parts.slice(0, -1)) === undefined)
        throw new ApiError('BadRequest', `mkdir ${target}: no such file or directory`);
      if (this.#target.resolve(parts) !== undefined) throw new ApiError('BadRequest', `mkdir ${target}: file exists`);
    }
    const made: string[] = [];
    this.#target.directory(parts, (path) => {
      mkdirSync(path, { mode });
      chmodSync(path, mode);
      if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
      made.push(path);
    });
    // What is made in a directory changes its time.
    if (mtimeMs !== undefined) for (const path of made) setTimes(path, mtimeMs, mtimeMs);
  }

  #makeFile(action: CopyAction & { kind: 'file' }): void {
    const path = this.#destination(action.target, action.isDirectory, action.name, {
      ...(action.owner === undefined ? {} : { owner: action.owner }),
    });
    this.#clear(path);
    writeFileSync(path, action.content, { mode: action.mode });
    chmodSync(path, action.mode);
    chownSync(path, action.owner?.uid ?? 0, action.owner?.gid ?? 0);
    setTimes(path, action.mtimeMs, action.mtimeMs);
  }

  #remove({ target, allowsNone }: CopyAction & { kind: 'remove' }): void {
    const parts = pathParts(target);
    const name = parts.pop();
    if (name === undefined) throw new ApiError('BadRequest', 'rm: the root cannot be removed');
    const directory = this.#target.directory(parts);
    const path = directory === undefined ? undefined : `${directory}/${name}`;
    if (path === undefined || lstatOrUndefined(path) === undefined) {
      if (allowsNone) return;
      throw new ApiError('BadRequest', `rm ${target}: no such file or directory`);
    }
    rmSync(path, { recursive: true, force: true });
    this.#target.forget(path);
  }

  #symlink({ target, linkTarget, owner, mtimeMs }: CopyAction & { kind: 'symlink' }): void {
    const parts = pathParts(target);
    const name = parts.pop();
    const directory = this.#target.directory(parts);
    if (name === undefined || directory === undefined)
      throw new ApiError('BadRequest', `symlink ${target}: no such file or directory`);
    const path = `${directory}/${name}`;
    if (lstatOrUndefined(path) !== undefined) throw new ApiError('BadRequest', `symlink ${target}: file exists`);
    symlinkSync(linkTarget, path);
    lchownSync(path, owner?.uid ?? 0, owner?.gid ?? 0);
    if (mtimeMs !== undefined) setTimes(path, mtimeMs, mtimeMs);
  }

  #copySource(
    source: RootedDirectory,
    relative: string,
    action: CopyAction & { kind: 'copy' },
    excluded: Set<string>,
  ): void {
    const from = source.resolve(pathParts(relative));
    if (from === undefined) throw new ApiError('NotFound', `lstat /${relative}: no such file or directory`);
    const info = lstatSync(from);
    const target =
      action.keepsParents === true
        ? `${action.target}/${pathParts(relative)
            .slice(0, info.isDirectory() ? undefined : -1)
            .join('/')}`
        : action.target;
    if (info.isDirectory() && action.makesDirectory !== true) {
      const into = this.#target.directory(pathParts(target), this.#makeParents(action))!;
      this.#children({ from, to: into, relative: pathParts(relative).join('/') }, action, excluded);
      return;
    }
    const path = this.#destination(
      target,
      action.isDirectory || action.keepsParents === true,
      pathParts(relative).at(-1) ?? '',
      action,
    );
    this.#one({ from, to: path, relative: pathParts(relative).join('/') }, info, action, excluded);
  }

  /**
   * Where a single file goes: into the target when that is a directory, else the target itself (a symlink there is
   * followed).
   */
  #destination(target: string, isDirectory: boolean, name: string, made: MadeAs): string {
    const parts = pathParts(target);
    if (isDirectory) return `${this.#target.directory(parts, this.#makeParents(made))!}/${name}`;
    const existing = parts.length === 0 ? this.#target.root : this.#target.resolve(parts);
    if (existing !== undefined) return lstatSync(existing).isDirectory() ? `${existing}/${name}` : existing;
    return this.#target.locate(parts, this.#makeParents(made))!;
  }

  #clear(path: string): void {
    const existing = lstatOrUndefined(path);
    if (existing === undefined) return;
    if (existing.isDirectory())
      throw new ApiError('BadRequest', `cannot copy to non-directory: ${path.slice(this.#target.root.length)}`);
    rmSync(path, { force: true });
  }

  #children({ from, to, relative }: Way, action: CopyAction & { kind: 'copy' }, excluded: Set<string>): void {
    for (const name of readdirSync(from).sort()) {
      const child = relative === '' ? name : `${relative}/${name}`;
      if (excluded.has(child)) continue;
      const way = { from: `${from}/${name}`, to: `${to}/${name}`, relative: child };
      this.#one(way, lstatSync(way.from), action, excluded);
    }
  }

  #one(way: Way, info: Stats, action: CopyAction & { kind: 'copy' }, excluded: Set<string>): void {
    const { from, to } = way;
    const existing = lstatOrUndefined(to);
    const leadsElsewhere = info.isDirectory() && existing?.isSymbolicLink() === true;
    if (this.#staged.has(to) || (leadsElsewhere && this.#staged.size > 0)) this.#unstage();
    if (info.isDirectory()) {
      if (existing === undefined && this.#isStageable(to)) {
        const built = this.#nextStaged();
        mkdirSync(to, { mode: 0o700 });
        this.#staged.set(to, built);
        mkdirSync(built, { mode: 0o700 });
        this.#children({ ...way, to: built }, action, excluded);
        this.#attributes(from, built, info, action);
        return;
      }
      // A symlink to a directory in the target is kept, as docker does.
      const real =
        existing?.isSymbolicLink() === true ? this.#target.resolve(pathParts(to.slice(this.#target.root.length))) : to;
      if (real === undefined || (existing !== undefined && !lstatSync(real).isDirectory())) {
        rmSync(to, { recursive: true, force: true });
        this.#target.forget(to);
      }
      const directory = real !== undefined && lstatOrUndefined(real)?.isDirectory() === true ? real : to;
      if (lstatOrUndefined(directory) === undefined) mkdirSync(directory, { mode: 0o700 });
      this.#children({ ...way, to: directory }, action, excluded);
      this.#attributes(from, directory, info, action);
      return;
    }
    if (existing !== undefined) {
      rmSync(to, { recursive: existing.isDirectory(), force: true });
      this.#target.forget(to);
    }
    if (info.isSymbolicLink()) symlinkSync(readlinkSync(from), to);
    else if (info.isFile()) {
      this.#file(from, to, info, action);
      return;
    } else if (info.isFIFO()) makeSpecialFile(to, 'fifo', info.mode);
    else if (info.isCharacterDevice() || info.isBlockDevice()) {
      const { major, minor } = deviceParts(info.rdev);
      makeSpecialFile(to, info.isBlockDevice() ? 'block' : 'character', info.mode, { major, minor });
    } else return;
    this.#attributes(from, to, info, action);
  }

  /** A file that may have further names: those of one copy are names of one file. */
  #file(from: string, to: string, info: Stats, action: CopyAction & { kind: 'copy' }): void {
    const inode = `${info.dev}:${info.ino}`;
    const hasNames = info.nlink > 1;
    const first = hasNames ? this.#inodes.get(inode) : undefined;
    const isLinked = first === undefined && this.#mayLink(inode, info, action);
    // No file has names here and in the stage.
    const built = (isLinked || hasNames) && this.#isStageable(to) ? this.#nextStaged() : to;
    if (first !== undefined) linkSync(first, built);
    else if (isLinked && linkIfPossible(from, built)) this.#linked.add(inode);
    else {
      copyFileSync(from, built, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      this.#attributes(from, built, info, action);
    }
    if (hasNames && first === undefined) this.#inodes.set(inode, built);
    if (built === to) return;
    writeFileSync(to, '', { mode: 0o600 });
    this.#staged.set(to, built);
  }

  /** Whether the file may be given a further name: it is to look as it does, and has none in what is made. */
  #mayLink(inode: string, info: Stats, action: CopyAction & { kind: 'copy' }): boolean {
    const { canLink, owner = info, mode, modeText, mtimeMs } = action;
    if (canLink !== true || mode !== undefined || modeText !== undefined || mtimeMs !== undefined) return false;
    return owner.uid === info.uid && owner.gid === info.gid && !this.#linked.has(inode);
  }

  #attributes(from: string, to: string, info: Stats, action: CopyAction & { kind: 'copy' }): void {
    const owner = action.owner ?? info;
    lchownSync(to, owner.uid, owner.gid);
    if (!info.isSymbolicLink()) {
      chmodSync(to, modeOf(info, action));
      for (const name of listXattrs(from)) {
        if (name.startsWith('trusted.overlay.') || name.startsWith('system.') || name === 'security.selinux') continue;
        const value = getXattr(from, name);
        if (value !== undefined) setXattr(to, name, value);
      }
    }
    const mtimeMs = action.mtimeMs ?? info.mtimeMs;
    setTimes(to, mtimeMs, mtimeMs);
  }
}

/** False: it has to be copied. */
function linkIfPossible(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch {
    // Another file system, or as many names as a file may have.
    return false;
  }
}

function modeOf(info: Stats, { mode, modeText }: CopyAction & { kind: 'copy' }): number {
  if (modeText !== undefined) return changeMode(info.mode & 0o7777, modeText, info.isDirectory());
  return mode ?? info.mode & 0o7777;
}

/**
 * `stage`: an empty directory of the file system that the target's upper directory lies on. What is staged has to be
 * placed before anything else looks at the target.
 */
export function copyFiles(targetRoot: string, actions: CopyAction[], stage?: string): StagedCopy[] {
  const [first] = actions;
  const isStaged =
    actions.length === 1 && first?.kind === 'copy' && first.canLink === true && first.keepsParents !== true;
  const copier = new Copier(targetRoot, isStaged ? stage : undefined);
  for (const action of actions) copier.run(action);
  return copier.staged;
}

/** In an upper directory that is mounted no more. The times of the directories around stay. */
export function placeStaged(upper: string, staged: readonly StagedCopy[]): void {
  const opaque = 'trusted.overlay.opaque';
  const parents = new Map<string, number>();
  for (const { path, from } of staged) {
    const target = `${upper}/${path}`;
    const parent = target.slice(0, target.lastIndexOf('/'));
    if (!parents.has(parent)) parents.set(parent, lstatSync(parent).mtimeMs);
    const info = lstatSync(target);
    const mark = info.isDirectory() ? getXattr(target, opaque) : undefined;
    if (mark !== undefined) setXattr(from, opaque, mark);
    renameSync(from, target);
  }
  for (const [parent, mtimeMs] of parents) setTimes(parent, mtimeMs, mtimeMs);
}
