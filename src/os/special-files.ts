/**
 * What Node's `fs` cannot do to files: device nodes, extended attributes, owners of symlinks with nanoseconds left alone, and a sync of one
 * filesystem. Synchronous: callers that touch many files run in a worker.
 *
 * Does not follow symlinks anywhere. Specification: mknod(2), lsetxattr(2), llistxattr(2), syncfs(2).
 */
import { dlopen, getInt32 } from 'node:ffi';
import { closeSync, openSync } from 'node:fs';

const libc = dlopen('libc.so.6', {
  mknod: { arguments: ['string', 'uint32', 'uint64'], return: 'int32' },
  lsetxattr: { arguments: ['string', 'string', 'pointer', 'uint64', 'int32'], return: 'int32' },
  lgetxattr: { arguments: ['string', 'string', 'pointer', 'uint64'], return: 'int64' },
  llistxattr: { arguments: ['string', 'pointer', 'uint64'], return: 'int64' },
  syncfs: { arguments: ['int32'], return: 'int32' },
  __errno_location: { arguments: [], return: 'pointer' },
}).functions;

const errnoNames: Record<number, string> = { 1: 'EPERM', 2: 'ENOENT', 5: 'EIO', 13: 'EACCES', 17: 'EEXIST', 20: 'ENOTDIR', 22: 'EINVAL', 27: 'EFBIG', 28: 'ENOSPC', 30: 'EROFS', 34: 'ERANGE', 36: 'ENAMETOOLONG', 39: 'ENOTEMPTY', 61: 'ENODATA', 95: 'ENOTSUP' };

function fail(call: string, path: string): never {
  const errno = getInt32(libc.__errno_location() as bigint);
  const code = errnoNames[errno] ?? `E${errno}`;
  throw Object.assign(new Error(`${code}: ${call} '${path}'`), { code, errno, syscall: call, path });
}

export type SpecialKind = 'character' | 'block' | 'fifo';
const kindBits: Record<SpecialKind, number> = { character: 0o020000, block: 0o060000, fifo: 0o010000 };

/** The kernel's encoding of a device number (glibc `makedev`). */
export function deviceNumber(major: number, minor: number): bigint {
  const high = BigInt(major);
  const low = BigInt(minor);
  return (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | ((high & ~0xfffn) << 32n);
}

export function deviceParts(device: number): { major: number; minor: number } {
  const value = BigInt(device);
  return { major: Number(((value >> 8n) & 0xfffn) | ((value >> 32n) & ~0xfffn)), minor: Number((value & 0xffn) | ((value >> 12n) & ~0xffn)) };
}

export function makeSpecialFile(path: string, kind: SpecialKind, mode: number, major = 0, minor = 0): void {
  if (libc.mknod(path, kindBits[kind] | (mode & 0o7777), deviceNumber(major, minor)) !== 0) fail('mknod', path);
}

export function setXattr(path: string, name: string, value: Uint8Array): void {
  // A zero-length buffer has no address; any will do.
  const bytes = value.length === 0 ? Buffer.alloc(1) : value;
  if (libc.lsetxattr(path, name, bytes as never, BigInt(value.length), 0) !== 0) fail('lsetxattr', path);
}

const listBuffer = Buffer.alloc(65_536);
const valueBuffer = Buffer.alloc(65_536);

/** Names in the kernel's order; empty where the filesystem has none. */
export function listXattrs(path: string): string[] {
  const length = Number(libc.llistxattr(path, listBuffer as never, BigInt(listBuffer.length)));
  if (length < 0) {
    const errno = getInt32(libc.__errno_location() as bigint);
    if (errno === 95) return [];
    fail('llistxattr', path);
  }
  return length === 0 ? [] : listBuffer.toString('utf8', 0, length - 1).split('\0');
}

export function getXattr(path: string, name: string): Uint8Array | undefined {
  const length = Number(libc.lgetxattr(path, name, valueBuffer as never, BigInt(valueBuffer.length)));
  if (length < 0) {
    const errno = getInt32(libc.__errno_location() as bigint);
    if (errno === 61 || errno === 95) return undefined;
    fail('lgetxattr', path);
  }
  return Uint8Array.from(valueBuffer.subarray(0, length));
}

/** Everything written to the filesystem that holds `path` is on disk when this returns. */
export function syncFilesystem(path: string): void {
  const fd = openSync(path, 'r');
  try { if (libc.syncfs(fd) !== 0) fail('syncfs', path); } finally { closeSync(fd); }
}
