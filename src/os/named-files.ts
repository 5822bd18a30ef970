/**
 * `node:fs` for files whose names are any bytes (`base/file-names.ts`): the functions have the names, arguments and
 * errors of their models, but take and give names in that form. Times before 1970, which Node's numbers do not reach,
 * are kept too.
 */
import * as fs from 'node:fs';
import type { Stats } from 'node:fs';
import { decodeFileName, encodeFileName } from '#base/file-names.ts';

/** A name as Node's own functions take it. */
export function fsPath(name: string): string | Buffer {
  return name.isWellFormed() ? name : encodeFileName(name);
}

/** Node takes a negative number for the present. A Date has whole milliseconds, which is enough before 1970. */
const timeOf = (timeMs: number): number | Date => (timeMs < 0 ? new Date(Math.floor(timeMs)) : timeMs / 1000);

export function lstatSync(path: string): Stats {
  return fs.lstatSync(fsPath(path));
}
export function lstatOrUndefined(path: string): Stats | undefined {
  return fs.lstatSync(fsPath(path), { throwIfNoEntry: false });
}
export function readdirSync(path: string): string[] {
  const names = fs.readdirSync(fsPath(path));
  // A replacement character is what was not UTF-8, or one that is really there.
  return names.some((name) => name.includes('\ufffd'))
    ? fs.readdirSync(fsPath(path), { encoding: 'buffer' }).map(decodeFileName)
    : names;
}
export function readlinkSync(path: string): string {
  const target = fs.readlinkSync(fsPath(path));
  return target.includes('\ufffd') ? decodeFileName(fs.readlinkSync(fsPath(path), { encoding: 'buffer' })) : target;
}
export function openSync(path: string, flags: number | 'r', mode?: number): number {
  return fs.openSync(fsPath(path), flags, mode);
}
export function mkdirSync(path: string, options: { mode?: number; recursive?: boolean } = {}): void {
  fs.mkdirSync(fsPath(path), options);
}
export function rmSync(path: string, options: { recursive?: boolean; force?: boolean } = {}): void {
  fs.rmSync(fsPath(path), options);
}
export function chmodSync(path: string, mode: number): void {
  fs.chmodSync(fsPath(path), mode);
}
export function chownSync(path: string, uid: number, gid: number): void {
  fs.chownSync(fsPath(path), uid, gid);
}
export function lchownSync(path: string, uid: number, gid: number): void {
  fs.lchownSync(fsPath(path), uid, gid);
}
export function renameSync(from: string, to: string): void {
  fs.renameSync(fsPath(from), fsPath(to));
}
export function linkSync(existing: string, path: string): void {
  fs.linkSync(fsPath(existing), fsPath(path));
}
export function symlinkSync(target: string, path: string): void {
  fs.symlinkSync(fsPath(target), fsPath(path));
}
export function copyFileSync(from: string, to: string, mode: number): void {
  fs.copyFileSync(fsPath(from), fsPath(to), mode);
}
/** Without holding up others. */
export function copyFile(from: string, to: string, mode = 0): Promise<void> {
  return fs.promises.copyFile(fsPath(from), fsPath(to), mode);
}
export function writeFileSync(path: string, content: string | Uint8Array, options: { mode?: number } = {}): void {
  fs.writeFileSync(fsPath(path), content, options);
}

/** Access and modification time, in milliseconds since 1970. A symlink's own. */
export function setTimes(path: string, atimeMs: number, mtimeMs: number): void {
  fs.lutimesSync(fsPath(path), timeOf(atimeMs), timeOf(mtimeMs));
}
export function setOpenFileTimes(fd: number, timeMs: number): void {
  fs.futimesSync(fd, timeOf(timeMs), timeOf(timeMs));
}
/** Bytes of a file from `offset` on, fewer where it ends before. */
export function readBytes(path: string, offset: number, length: number): Buffer {
  const fd = fs.openSync(fsPath(path), 'r');
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, fs.readSync(fd, bytes, 0, length, offset));
  } finally {
    fs.closeSync(fd);
  }
}
