/**
 * Copies a directory's content with owners, modes, times, links and special files; other work has its turn. Both sides
 * are trusted directories of the engine.
 */
import { constants } from 'node:fs';
import {
  chmodSync,
  chownSync,
  copyFile,
  lchownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  setTimes,
  symlinkSync,
} from '#os/named-files.ts';
import { treeEntriesPerTurn } from './limits.ts';
import { Turns } from '#os/turn.ts';
import { deviceParts, getXattr, listXattrs, makeSpecialFile, setXattr } from '#os/special-files.ts';

interface Copying {
  /** By device and inode: where the first of several names went. */ seen: Map<string, string>;
  turns: Turns;
  options: CopyTreeOptions;
}

interface CopyTreeOptions {
  /** It is an overlayfs directory, and so is the copy: what its marks say stays true of it. */
  overlay?: boolean;
}

/** `target` exists; it takes over owner and mode of `source`. */
export async function copyTree(source: string, target: string, options: CopyTreeOptions = {}): Promise<void> {
  await copyInto(source, target, { seen: new Map(), turns: new Turns(treeEntriesPerTurn), options });
}

async function copyInto(source: string, target: string, copying: Copying): Promise<void> {
  const stat = lstatSync(source);
  for (const entry of readdirSync(source)) await copyEntry(`${source}/${entry}`, `${target}/${entry}`, copying);
  copyXattrs(source, target, copying.options);
  chownSync(target, stat.uid, stat.gid);
  chmodSync(target, stat.mode & 0o7777);
  setTimes(target, stat.atimeMs, stat.mtimeMs);
}

async function copyEntry(source: string, target: string, copying: Copying): Promise<void> {
  await copying.turns.next();
  const stat = lstatSync(source);
  const key = `${stat.dev}:${stat.ino}`;
  const first = copying.seen.get(key);
  if (!stat.isDirectory() && stat.nlink > 1) {
    if (first !== undefined) {
      linkSync(first, target);
      return;
    }
    copying.seen.set(key, target);
  }
  if (stat.isDirectory()) {
    mkdirSync(target);
    await copyInto(source, target, copying);
    return;
  }
  if (stat.isSymbolicLink()) symlinkSync(readlinkSync(source), target);
  else if (stat.isFile()) await copyFile(source, target, constants.COPYFILE_FICLONE);
  else if (stat.isFIFO()) makeSpecialFile(target, 'fifo', stat.mode & 0o7777);
  else if (stat.isCharacterDevice() || stat.isBlockDevice()) {
    const { major, minor } = deviceParts(stat.rdev);
    makeSpecialFile(target, stat.isBlockDevice() ? 'block' : 'character', stat.mode & 0o7777, { major, minor });
  } else return;
  lchownSync(target, stat.uid, stat.gid);
  if (!stat.isSymbolicLink()) {
    chmodSync(target, stat.mode & 0o7777);
    copyXattrs(source, target, copying.options);
  }
  setTimes(target, stat.atimeMs, stat.mtimeMs);
}

/** What overlayfs notes of a file's origin is of that file alone; an empty note says that there was one. */
const originMark = 'trusted.overlay.origin';
const movableMarks = new Set(['opaque', 'redirect', 'metacopy'].map((mark) => `trusted.overlay.${mark}`));

function copyXattrs(source: string, target: string, { overlay = false }: CopyTreeOptions): void {
  for (const name of listXattrs(source)) {
    if (overlay && name === originMark) setXattr(target, name, Buffer.alloc(0));
    if (name.startsWith('trusted.overlay.') && !(overlay && movableMarks.has(name))) continue;
    const value = getXattr(source, name);
    if (value !== undefined) setXattr(target, name, value);
  }
}
