/** Where backups go to and come from: a file, or an object of an S3 store. */
import { resolve } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { checkFileTarget, readBackupFile, writeBackupFile } from './file-target.ts';

export interface BackupPlace {
  /** As the user named it. */
  name: string;
  /** Resolves with the length once all of it is there; where it rejects, nothing of it is. */
  write(bytes: AsyncIterable<Uint8Array>): Promise<number>;
  read(): AsyncIterable<Uint8Array>;
}

/** Throws with words for the user where nothing can be written there. */
export function backupPlace(name: string): BackupPlace {
  if (/^[a-z0-9]+:\/\//.test(name))
    throw new ApiError('BadRequest', `${name} is not supported yet: name a file, and copy it there`);
  const path = resolve(name);
  return {
    name: path,
    write(bytes) {
      checkFileTarget(path);
      return writeBackupFile(path, bytes);
    },
    read: () => readBackupFile(path),
  };
}
