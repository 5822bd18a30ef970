/**
 * The C library functions that the platform calls, and the error that they throw. Each wrapper names its system call
 * in the error, as `strace` would. Structures are laid out by hand for 64-bit Linux (x86-64 and arm64 agree on all used
 * here).
 */
import { closeSync, constants as flags, openSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname } from 'node:path';
import { ipBytes } from '#base/ip.ts';
import { bindLibrary, readInt32At } from './ffi.linux.ts';
import type { CArgument } from './ffi.linux.ts';

const libc = bindLibrary('libc.so.6', {
  __errno_location: { arguments: [], return: 'pointer' },
  mount: { arguments: ['string', 'string', 'string', 'u64', 'string'], return: 'i32' },
  umount2: { arguments: ['string', 'i32'], return: 'i32' },
  unshare: { arguments: ['i32'], return: 'i32' },
  setns: { arguments: ['i32', 'i32'], return: 'i32' },
  chdir: { arguments: ['string'], return: 'i32' },
  fchdir: { arguments: ['i32'], return: 'i32' },
  chroot: { arguments: ['string'], return: 'i32' },
  sethostname: { arguments: ['string', 'u64'], return: 'i32' },
  socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  bind: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  listen: { arguments: ['i32', 'i32'], return: 'i32' },
  connect: { arguments: ['i32', 'buffer', 'u32'], return: 'i32' },
  accept4: { arguments: ['i32', 'pointer', 'pointer', 'i32'], return: 'i32' },
  setsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'u32'], return: 'i32' },
  getsockopt: { arguments: ['i32', 'i32', 'i32', 'buffer', 'buffer'], return: 'i32' },
  send: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recv: { arguments: ['i32', 'buffer', 'u64', 'i32'], return: 'i64' },
  recvmsg: { arguments: ['i32', 'buffer', 'i32'], return: 'i64' },
  poll: { arguments: ['buffer', 'u64', 'i32'], return: 'i32' },
  shutdown: { arguments: ['i32', 'i32'], return: 'i32' },
  epoll_create1: { arguments: ['i32'], return: 'i32' },
  epoll_ctl: { arguments: ['i32', 'i32', 'i32', 'buffer'], return: 'i32' },
  epoll_wait: { arguments: ['i32', 'buffer', 'i32', 'i32'], return: 'i32' },
  eventfd: { arguments: ['u32', 'i32'], return: 'i32' },
  open: { arguments: ['string', 'i32', 'i32'], return: 'i32' },
  close: { arguments: ['i32'], return: 'i32' },
  write: { arguments: ['i32', 'buffer', 'u64'], return: 'i64' },
  read: { arguments: ['i32', 'buffer', 'u64'], return: 'i64' },
  ioctl: { arguments: ['i32', 'u64', 'buffer'], return: 'i32' },
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
  memfd_create: { arguments: ['string', 'u32'], return: 'i32' },
  fcntl: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
  flock: { arguments: ['i32', 'i32'], return: 'i32' },
  mknod: { arguments: ['buffer', 'u32', 'u64'], return: 'i32' },
  mkfifo: { arguments: ['string', 'u32'], return: 'i32' },
  syscall: { arguments: ['i64', 'i64', 'i64', 'i64', 'i64', 'i64'], return: 'i64' },
  setfsuid: { arguments: ['u32'], return: 'i32' },
  setfsgid: { arguments: ['u32'], return: 'i32' },
  capget: { arguments: ['buffer', 'buffer'], return: 'i32' },
  capset: { arguments: ['buffer', 'buffer'], return: 'i32' },
  if_nametoindex: { arguments: ['string'], return: 'i32' },
  lsetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'u64', 'i32'], return: 'i32' },
  lgetxattr: { arguments: ['buffer', 'buffer', 'buffer', 'u64'], return: 'i64' },
  llistxattr: { arguments: ['buffer', 'buffer', 'u64'], return: 'i64' },
  syncfs: { arguments: ['i32'], return: 'i32' },
});

/** A failed system call: `code` is the errno's name (`ENOENT`), as in Node's own errors. */
export class SystemError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  constructor(syscall: string, errno: number, detail: string) {
    const code = errnoNames.get(errno) ?? `E${errno}`;
    super(`${syscall}${detail === '' ? '' : ` ${detail}`}: ${code}`);
    this.name = 'SystemError';
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));
errnoNames.set(11, 'EAGAIN');
errnoNames.set(95, 'EOPNOTSUPP');

const errnoLocation = libc.__errno_location() as bigint;

type Name = Exclude<keyof typeof libc, '__errno_location'>;

/** Calls and throws a SystemError on -1. */
export function call(name: Name, detail: string, ...args: CArgument[]): number {
  const result = Number(libc[name](...args));
  if (result === -1) throw new SystemError(name, readInt32At(errnoLocation), detail);
  return result;
}

/** Calls and returns `-errno` on failure, for calls where failing is ordinary. */
export function tryCall(name: Name, ...args: CArgument[]): number {
  const result = Number(libc[name](...args));
  return result === -1 ? -readInt32At(errnoLocation) : result;
}

export function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

export const errno = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EAGAIN: 11,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  EINVAL: 22,
  EADDRINUSE: 98,
  ESRCH: 3,
} as const;

export const mountFlag = {
  readOnly: 1n,
  noSuid: 2n,
  noDev: 4n,
  noExec: 8n,
  remount: 32n,
  bind: 4096n,
  move: 8192n,
  recursive: 16384n,
  unbindable: 1n << 17n,
  private: 1n << 18n,
  slave: 1n << 19n,
  shared: 1n << 20n,
  relatime: 1n << 21n,
} as const;

export const cloneFlag = {
  fs: 0x200,
  newNs: 0x20000,
  newUts: 0x4000000,
  newIpc: 0x8000000,
  newPid: 0x20000000,
  newNet: 0x40000000,
} as const;

/** `struct sockaddr_un` holds 107 bytes of path. */
const unixPathBytesMax = 107;

/**
 * Runs with the `struct sockaddr_un` of a path; one that is too long is reached through its directory's descriptor
 * (unix(7), proc(5)).
 */
export function withUnixAddress<T>(path: string, run: (address: Buffer) => T): T {
  if (Buffer.byteLength(path) <= unixPathBytesMax) return run(unixAddress(path));
  const directory = openSync(dirname(path), flags.O_RDONLY | flags.O_DIRECTORY);
  try {
    return run(unixAddress(`/proc/self/fd/${directory}/${basename(path)}`));
  } finally {
    closeSync(directory);
  }
}

function unixAddress(path: string): Buffer {
  const name = Buffer.from(path);
  if (name.length > unixPathBytesMax) throw new SystemError('connect', 36, path);
  const out = Buffer.alloc(2 + name.length + 1);
  out.writeUInt16LE(1, 0);
  name.copy(out, 2);
  return out;
}

/** `struct sockaddr_in`, of an IPv4 address. */
export function inetAddress(address: string, port: number): Buffer {
  const bytes = ipBytes(address);
  const isV4 = bytes.length === 4;
  const out = Buffer.alloc(isV4 ? 16 : 28);
  out.writeUInt16LE(isV4 ? 2 : 10, 0);
  out.writeUInt16BE(port, 2);
  out.set(bytes, isV4 ? 4 : 8);
  return out;
}

/** A pidfd, or undefined when there is no such process. System call 434 on every architecture. */
export function openPidfd(pid: number): number | undefined {
  const result = tryCall('syscall', 434, pid, 0, 0, 0, 0);
  return result < 0 ? undefined : result;
}
