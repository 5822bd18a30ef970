/** A backup as a file: written beside, synced, and then renamed, so that the name never stands for half of one. */
import { createReadStream, existsSync, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { codeOf, messageOf } from '#base/thrown.ts';
import { syncDirectory } from '#os/files.ts';

const partialSuffix = '.partial';
/** What comes of the disk, and not of what is written. */
const diskFailures = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EIO']);

/** Throws NotFound or BadRequest where nothing can be written under this name. */
export function checkFileTarget(path: string): void {
  if (!existsSync(dirname(path))) throw new ApiError('NotFound', `there is no directory ${dirname(path)}`);
  if (existsSync(path) && !statSync(path).isFile()) throw new ApiError('BadRequest', `${path} is there, and no file`);
}

/** Answers its length. What an earlier attempt left beside is replaced; what had the name before is, at the end. */
export async function writeBackupFile(path: string, bytes: AsyncIterable<Uint8Array>): Promise<number> {
  const partial = `${path}${partialSuffix}`;
  await rm(partial, { force: true });
  const file = await open(partial, 'wx', 0o600);
  let written = 0;
  try {
    for await (const chunk of bytes) {
      for (let at = 0; at < chunk.length;) at += (await file.write(chunk, at)).bytesWritten;
      written += chunk.length;
    }
    await file.sync();
    await file.close();
    await rename(partial, path);
  } catch (error) {
    // Closed, or to be closed: what counts is why it failed.
    await file.close().catch(() => undefined);
    await rm(partial, { force: true });
    if (!diskFailures.has(codeOf(error) ?? '')) throw error;
    throw new Error(`cannot write ${path}: ${messageOf(error)}`, { cause: error });
  }
  syncDirectory(dirname(path));
  return written;
}

export async function* readBackupFile(path: string): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path, { highWaterMark: 1024 * 1024 }).iterator();
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw new ApiError('NotFound', `there is no ${path}`);
    if (codeOf(error) === 'EISDIR') throw new ApiError('BadRequest', `${path} is a directory, and no backup`);
    throw error;
  }
}
