/**
 * Starting programs by posix_spawn(3). What is started so shares the address space until it executes (vfork), where
 * fork(2) copies the page tables of the whole platform while its event loop stands still: with fifty starts at once
 * that was most of the time.
 *
 * Descriptors are those that are given, and /dev/null for the first three otherwise. Signal dispositions and mask are
 * the defaults. `undefined` where the C library has not all of it (glibc before 2.29, musl): then the caller uses
 * child_process.
 */
import { constants } from 'node:os';
import { Socket } from 'node:net';
import { addressOf, bindLibrary } from './ffi.linux.ts';
import type { CFunction } from './ffi.linux.ts';
import { SystemError } from './libc.linux.ts';
import type { Child, Exit } from './processes.ts';

const signatures = {
  posix_spawn: { arguments: ['buffer', 'string', 'buffer', 'buffer', 'buffer', 'buffer'], return: 'i32' },
  posix_spawn_file_actions_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_destroy: { arguments: ['buffer'], return: 'i32' },
  posix_spawn_file_actions_addopen: { arguments: ['buffer', 'i32', 'string', 'i32', 'u32'], return: 'i32' },
  posix_spawn_file_actions_adddup2: { arguments: ['buffer', 'i32', 'i32'], return: 'i32' },
  posix_spawn_file_actions_addchdir_np: { arguments: ['buffer', 'string'], return: 'i32' },
  posix_spawnattr_init: { arguments: ['buffer'], return: 'i32' },
  posix_spawnattr_setflags: { arguments: ['buffer', 'i32'], return: 'i32' },
  posix_spawnattr_setsigdefault: { arguments: ['buffer', 'buffer'], return: 'i32' },
  posix_spawnattr_setsigmask: { arguments: ['buffer', 'buffer'], return: 'i32' },
  pipe2: { arguments: ['buffer', 'i32'], return: 'i32' },
  close: { arguments: ['i32'], return: 'i32' },
  waitpid: { arguments: ['i32', 'buffer', 'i32'], return: 'i32' },
} as const;

type Library = Record<keyof typeof signatures, CFunction>;
let library: Library | undefined;
let isMissing = false;

function libc(): Library | undefined {
  if (library === undefined && !isMissing) {
    try {
      library = bindLibrary('libc.so.6', signatures);
    } catch {
      isMissing = true;
    }
  }
  return library;
}

/** Room for glibc's `posix_spawn_file_actions_t` (80 bytes), `posix_spawnattr_t` (336) and `sigset_t` (128). */
const structBytes = 512;
const flag = { setSignalDefaults: 0x04, setSignalMask: 0x08, setSession: 0x80 };
const openMode = { readWrite: 2, closeOnExec: 0o2000000 };
const noHang = 1;
const reapFirstMs = 5;
const reapMostMs = 10_000;

/** A NULL-terminated array of C strings; `keep` holds what it points to. */
function stringArray(words: string[]): { array: Buffer; keep: Buffer[] } {
  const keep = words.map((word) => Buffer.from(`${word}\0`));
  const array = Buffer.alloc((words.length + 1) * 8);
  keep.forEach((bytes, index) => array.writeBigUInt64LE(addressOf(bytes), index * 8));
  return { array, keep };
}

function makePipe(c: Library): [number, number] {
  const pair = Buffer.alloc(8);
  if (Number(c.pipe2(pair, openMode.closeOnExec)) !== 0) throw new SystemError('pipe2', 24, '');
  return [pair.readInt32LE(0), pair.readInt32LE(4)];
}

interface ProgramOptions {
  env: Record<string, string>;
  directory?: string;
  /** It becomes a session of its own. */
  session: boolean;
  /** What it has at 0, 1, …; they stay open here. */
  descriptors: readonly (number | undefined)[];
}

export function spawnProgram(
  file: string,
  args: string[],
  { env, directory, session, descriptors }: ProgramOptions,
): { pid: number; exit: Promise<Exit> } | undefined {
  const c = libc();
  if (c === undefined) return undefined;
  const actions = Buffer.alloc(structBytes);
  const attributes = Buffer.alloc(structBytes);
  const pid = Buffer.alloc(4);
  c.posix_spawn_file_actions_init(actions);
  let result: number;
  try {
    for (let at = 0; at < Math.max(3, descriptors.length); at++) {
      const given = descriptors[at];
      if (given !== undefined) c.posix_spawn_file_actions_adddup2(actions, given, at);
      else c.posix_spawn_file_actions_addopen(actions, at, '/dev/null', openMode.readWrite, 0);
    }
    if (directory !== undefined) c.posix_spawn_file_actions_addchdir_np(actions, directory);
    c.posix_spawnattr_init(attributes);
    c.posix_spawnattr_setflags(
      attributes,
      flag.setSignalDefaults | flag.setSignalMask | (session ? flag.setSession : 0),
    );
    c.posix_spawnattr_setsigdefault(attributes, Buffer.alloc(128, 0xff));
    c.posix_spawnattr_setsigmask(attributes, Buffer.alloc(128));
    const argv = stringArray([file, ...args]);
    const envp = stringArray(Object.entries(env).map(([name, value]) => `${name}=${value}`));
    result = Number(c.posix_spawn(pid, file, actions, attributes, argv.array, envp.array));
    argv.keep.length = envp.keep.length = 0;
  } finally {
    c.posix_spawn_file_actions_destroy(actions);
  }
  if (result !== 0) throw new SystemError('posix_spawn', result, file);
  return { pid: pid.readInt32LE(0), exit: reap(c, pid.readInt32LE(0)) };
}

/** A session of its own with descriptors 2 and 3 as pipes, for what it says. */
export function spawnSession(
  file: string,
  args: string[],
  options: { env: Record<string, string>; directory: string },
): Child | undefined {
  const c = libc();
  if (c === undefined) return undefined;
  const [errorsRead, errorsWrite] = makePipe(c);
  const [extraRead, extraWrite] = makePipe(c);
  try {
    const descriptors = [undefined, undefined, errorsWrite, extraWrite];
    const spawned = spawnProgram(file, args, { ...options, session: true, descriptors });
    if (spawned === undefined) return undefined;
    const read = (fd: number): Socket => new Socket({ fd, readable: true, writable: false });
    return { ...spawned, stdin: undefined, stdout: undefined, stderr: read(errorsRead), extra: [read(extraRead)] };
  } catch (error) {
    c.close(errorsRead);
    c.close(extraRead);
    throw error;
  } finally {
    c.close(errorsWrite);
    c.close(extraWrite);
  }
}

/** Of those that have not ended. */
const looks = new Set<() => void>();
let isListening = false;

const signalNames = new Map(Object.entries(constants.signals).map(([name, number]) => [number, name]));

/** Looks when the kernel says that a child has ended, and now and then, in case nobody hears it. */
function reap(c: Library, pid: number): Promise<Exit> {
  if (!isListening) {
    isListening = true;
    process.on('SIGCHLD', () => {
      for (const look of looks) look();
    });
  }
  return new Promise((resolve) => {
    const status = Buffer.alloc(4);
    let waitMs = reapFirstMs;
    let timer: NodeJS.Timeout;
    const look = (): void => {
      if (Number(c.waitpid(pid, status, noHang)) === 0) return;
      looks.delete(look);
      clearTimeout(timer);
      const code = status.readInt32LE(0);
      const signal = code & 0x7f;
      resolve({ code: signal === 0 ? (code >> 8) & 0xff : 128 + signal, signal: signalNames.get(signal) });
    };
    const again = (): void => {
      look();
      waitMs = Math.min(waitMs * 2, reapMostMs);
      if (looks.has(look)) timer = setTimeout(again, waitMs);
    };
    looks.add(look);
    timer = setTimeout(again, waitMs);
  });
}
