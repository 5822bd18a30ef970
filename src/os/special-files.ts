/**
 * What Node's `fs` cannot do to files: device nodes, extended attributes and a sync of one filesystem.
 * Synchronous: callers that touch many files run in a worker.
 *
 * Names are any bytes (`base/file-names.ts`). Does not follow symlinks anywhere. Specification: mknod(2), lsetxattr(2),
 * llistxattr(2), syncfs(2).
 */
import { closeSync, openSync } from 'node:fs';
import { decodeFileName, encodeFileName } from '#base/file-names.ts';
import { call, isCode } from './libc.linux.ts';

export type SpecialKind = 'character' | 'block' | 'fifo';
const kindBits: Record<SpecialKind, number> = { character: 0o020000, block: 0o060000, fifo: 0o010000 };

/** The kernel's encoding of a device number (glibc `makedev`). */
function deviceNumber(major: number, minor: number): bigint {
  const high = BigInt(major);
  const low = BigInt(minor);
  return (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | ((high & ~0xfffn) << 32n);
}

export function deviceParts(device: number): { major: number; minor: number } {
  const value = BigInt(device);
  return {
    major: Number(((value >> 8n) & 0xfffn) | ((value >> 32n) & ~0xfffn)),
    minor: Number((value & 0xffn) | ((value >> 12n) & ~0xffn)),
  };
}

function cString(name: string): Buffer {
  const bytes = encodeFileName(name);
  if (bytes.includes(0))
    throw Object.assign(new Error(`a name holds a NUL byte: ${JSON.stringify(name)}`), { code: 'EINVAL' });
  return Buffer.concat([bytes, Buffer.of(0)]);
}

export function makeSpecialFile(path: string, kind: SpecialKind, mode: number, device = { major: 0, minor: 0 }): void {
  call('mknod', path, cString(path), kindBits[kind] | (mode & 0o7777), deviceNumber(device.major, device.minor));
}

export function setXattr(path: string, name: string, value: Uint8Array): void {
  // A zero-length buffer has no address; any will do.
  call('lsetxattr', path, cString(path), cString(name), value.length === 0 ? Buffer.alloc(1) : value, value.length, 0);
}

const listBuffer = Buffer.alloc(65_536);
const valueBuffer = Buffer.alloc(65_536);

/** Names in the kernel's order; empty where the filesystem has none. */
export function listXattrs(path: string): string[] {
  try {
    const length = call('llistxattr', path, cString(path), listBuffer, listBuffer.length);
    return length === 0 ? [] : decodeFileName(listBuffer.subarray(0, length - 1)).split('\0');
  } catch (error) {
    if (isCode(error, 'EOPNOTSUPP', 'ENOTSUP')) return [];
    throw error;
  }
}

export function getXattr(path: string, name: string): Uint8Array | undefined {
  try {
    return Uint8Array.from(
      valueBuffer.subarray(0, call('lgetxattr', path, cString(path), cString(name), valueBuffer, valueBuffer.length)),
    );
  } catch (error) {
    if (isCode(error, 'ENODATA', 'EOPNOTSUPP', 'ENOTSUP')) return undefined;
    throw error;
  }
}

/** Everything written to the filesystem that holds `path` is on disk when this returns. */
export function syncFilesystem(path: string): void {
  const fd = openSync(path, 'r');
  try {
    call('syncfs', path, fd);
  } finally {
    closeSync(fd);
  }
}
