/** Where backups go to and come from: files and their directory, or objects of an S3 store and their prefix. */
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { listDirectory } from '#os/files.ts';
import { checkFileTarget, readBackupFile, writeBackupFile } from './file-target.ts';
import { S3Bucket } from './s3.ts';
import type { S3Access } from './s3-access.ts';

export interface BackupPlace {
  /** As the user named it. */
  name: string;
  /** Throws with words for the user where nothing can be written there. */
  check(): void;
  /** Resolves with the length once all of it is there; where it rejects, nothing of it is. */
  write(bytes: AsyncIterable<Uint8Array>): Promise<number>;
  read(): AsyncIterable<Uint8Array>;
}

/** Where backups lie beside each other. */
export interface BackupFolder {
  name: string;
  place(name: string): BackupPlace;
  /** Names of what is there. */
  list(): Promise<string[]>;
  remove(name: string): Promise<void>;
}

interface S3Name {
  bucket: string;
  key: string;
}

/** Undefined for what is a path. Throws BadRequest for other URLs. */
function parseS3(name: string): S3Name | undefined {
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):\/\//.exec(name)?.[1];
  if (scheme === undefined) return undefined;
  if (scheme !== 's3')
    throw new ApiError('BadRequest', `${scheme}:// is not supported: name a file, or s3://BUCKET/KEY`);
  const [, bucket, key = ''] = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/(.*))?$/.exec(name) ?? [];
  if (bucket === undefined) throw new ApiError('BadRequest', `${JSON.stringify(name)} is not s3://BUCKET/KEY`);
  return { bucket, key };
}

export const isS3 = (name: string): boolean => parseS3(name) !== undefined;

/** Whether a name stands for a directory of backups, and not for one. */
export function isFolder(name: string): boolean {
  return name.endsWith('/') || (!isS3(name) && existsSync(name) && statSync(name).isDirectory());
}

/** `access` is asked for an S3 store alone. */
export function backupPlace(name: string, access: () => S3Access): BackupPlace {
  const s3 = parseS3(name);
  if (s3 !== undefined) {
    if (s3.key === '' || s3.key.endsWith('/'))
      throw new ApiError('BadRequest', `${name} names no object: s3://BUCKET/KEY`);
    const bucket = new S3Bucket(access(), s3.bucket);
    return {
      name,
      // Whether it takes anything, only writing shows.
      check() {},
      write: (bytes) => bucket.write(s3.key, bytes),
      read: () => bucket.read(s3.key),
    };
  }
  const path = resolve(name);
  return {
    name: path,
    check: () => checkFileTarget(path),
    write: (bytes) => writeBackupFile(path, bytes),
    read: () => readBackupFile(path),
  };
}

export function backupFolder(name: string, access: () => S3Access): BackupFolder {
  const s3 = parseS3(name);
  if (s3 !== undefined) {
    const found = access();
    const bucket = new S3Bucket(found, s3.bucket);
    const prefix = s3.key === '' || s3.key.endsWith('/') ? s3.key : `${s3.key}/`;
    return {
      name: `s3://${s3.bucket}/${prefix}`,
      place: (each) => backupPlace(`s3://${s3.bucket}/${prefix}${each}`, () => found),
      list: async () => (await bucket.list(prefix)).map((key) => key.slice(prefix.length)),
      remove: (each) => bucket.remove(`${prefix}${each}`),
    };
  }
  const path = resolve(name);
  return {
    name: path,
    place(each) {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      return backupPlace(join(path, each), access);
    },
    list: async () => listDirectory(path).sort(),
    remove: async (each) => rmSync(join(path, each), { force: true }),
  };
}
