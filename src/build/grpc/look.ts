/** Looks into a directory as the bridge's clients want to see it: files, and their attributes, modes as Go has them. */
import { ApiError } from '#base/errors.ts';
import { RootedDirectory, pathParts } from '#content/safe-path.ts';
import { lstatSync, readBytes, readdirSync, readlinkSync } from '#os/named-files.ts';
import { readFileBytesMax } from './limits.ts';
import { goModeOf } from '#os/go-mode.ts';
import type { Message } from '#grpc/fields.ts';

function find(root: string, path: string): string {
  const parts = pathParts(path);
  const found = parts.length === 0 ? root : new RootedDirectory(root).resolve(parts);
  if (found === undefined) throw new ApiError('NotFound', `open /${parts.join('/')}: no such file or directory`);
  return found;
}

/** `length` 0: to the end. */
export function readFileRange(root: string, path: string, offset: number, length: number): Buffer {
  const real = find(root, path);
  const { size } = lstatSync(real);
  const wanted = Math.max(0, Math.min(size - offset, length === 0 ? size : length));
  if (wanted > readFileBytesMax)
    throw new ApiError('RequestEntityTooLarge', `${path.slice(0, 200)} has more than ${readFileBytesMax} bytes`);
  return readBytes(real, offset, wanted);
}

function statMessage(real: string, path: string): Message {
  const info = lstatSync(real);
  return {
    path,
    mode: goModeOf(info),
    uid: info.uid,
    gid: info.gid,
    size: info.size,
    modTime: Math.round(info.mtimeMs * 1e6),
    linkname: info.isSymbolicLink() ? readlinkSync(real) : '',
  };
}

export function readStat(root: string, path: string): Message {
  return statMessage(find(root, path), pathParts(path).at(-1) ?? '/');
}

export function readStats(root: string, path: string): Message[] {
  const real = find(root, path);
  if (!lstatSync(real).isDirectory()) throw new ApiError('BadRequest', `readdir ${path}: not a directory`);
  return readdirSync(real)
    .sort()
    .map((name) => statMessage(`${real}/${name}`, name));
}
