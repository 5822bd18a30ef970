/**
 * Files the way state needs them: written whole or not at all. `sync` also waits for the disk, for what must outlive a
 * power loss; without it a write survives the death of every process but not of the machine.
 */
import {
  closeSync,
  constants,
  fsyncSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  watch,
  writeSync,
} from 'node:fs';
import type { Stats } from 'node:fs';
import { call, tryCall } from './libc.linux.ts';

export function writeFileAtomic(
  path: string,
  content: string | Uint8Array,
  options: { sync?: boolean; mode?: number } = {},
): void {
  const temporary = `${path}.tmp`;
  const fd = openSync(temporary, 'w', options.mode ?? 0o600);
  try {
    writeSync(fd, content as string);
    if (options.sync === true) fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  if (options.sync === true) syncDirectory(path.slice(0, path.lastIndexOf('/')) || '/');
}

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A file's text, or undefined when there is none. */
export function readIfExists(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ESRCH', 'ENODEV'].includes((error as { code?: string }).code ?? '')) return undefined;
    throw error;
  }
}

/** A file's text, or undefined where there is none or it may not be read. */
export function readIfAllowed(path: string): string | undefined {
  try {
    return readIfExists(path);
  } catch (error) {
    if (['EACCES', 'EPERM'].includes((error as { code?: string }).code ?? '')) return undefined;
    throw error;
  }
}

/** Names in a directory; none when it is not there. */
export function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as { code?: string }).code ?? '')) return [];
    throw error;
  }
}

/** What is at a path, symlinks followed; undefined where there is nothing. */
export function statIfExists(path: string): Stats | undefined {
  return statSync(path, { throwIfNoEntry: false });
}

/** The file system that holds a path: its magic number (statfs(2)), and the bytes that may still be written. */
export function fileSystemAt(path: string): { type: number; availableBytes: number } {
  const { type, bavail, bsize } = statfsSync(path);
  return { type, availableBytes: bavail * bsize };
}

export function removeTree(path: string): void {
  rmSync(path, { recursive: true, force: true });
}

/** Takes an exclusive lock that goes with the process; undefined when another holds it. */
export function tryLock(path: string): { release(): void } | undefined {
  return lockOpened(openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600));
}

/**
 * As `tryLock`, of the network namespace that this process is in: one chooses addresses and ports there at a time.
 * Leaves no file.
 */
export function tryLockNetwork(): { release(): void } | undefined {
  return lockOpened(openSync('/proc/self/ns/net', constants.O_RDONLY));
}

function lockOpened(fd: number): { release(): void } | undefined {
  const result = tryCall('flock', fd, 2 | 4);
  if (result < 0) {
    closeSync(fd);
    return undefined;
  }
  return { release: () => closeSync(fd) };
}

/** Calls back on every change of a file or directory, by inotify. */
export function watchPath(path: string, onChange: () => void): { close(): void } {
  const watcher = watch(path, { persistent: false }, onChange);
  watcher.on('error', onChange);
  return watcher;
}

export function makeFifo(path: string, mode: number): void {
  call('mkfifo', path, path, mode);
}

/** Writes to a fifo that somebody reads; false when nobody does. */
export function writeFifo(path: string, text: string): boolean {
  try {
    const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
    try {
      writeSync(fd, text);
    } finally {
      closeSync(fd);
    }
    return true;
  } catch (error) {
    if (['ENXIO', 'ENOENT', 'EAGAIN', 'EPIPE'].includes((error as { code?: string }).code ?? '')) return false;
    throw error;
  }
}

/** Sets a terminal's size (TIOCSWINSZ). */
export function resizeTerminal(descriptor: number, size: { width: number; height: number }): void {
  const window = Buffer.alloc(8);
  window.writeUInt16LE(size.height, 0);
  window.writeUInt16LE(size.width, 2);
  tryCall('ioctl', descriptor, 0x5414, window);
}
