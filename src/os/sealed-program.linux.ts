/**
 * A program in memory that nobody can change any more (memfd_create(2), sealed). crun and runc start from such a copy
 * of themselves, lest a container writes to what runs as root (CVE-2019-5736): where they are not one yet, each of
 * their calls makes one and executes once more. Here it is made once.
 */
import { readFileSync, statSync } from 'node:fs';
import { call, tryCall } from './libc.linux.ts';

const flag = { closeOnExec: 1, allowSealing: 2, executable: 0x10 };
const addSeals = 1033;
/** Of the seals themselves, shrinking, growing and writing: these, and no others, are what the runtimes look for. */
const seals = 0xf;

export class SealedProgram {
  readonly #path: string;
  #made: { descriptor: number; version: string } | undefined;
  #before: number | undefined;

  /** `path`: absolute. */
  constructor(path: string) {
    this.#path = path;
  }

  /** The copy, for other processes as long as this one lives; made anew when the program was replaced. */
  path(): string {
    const { ino, size, mtimeMs } = statSync(this.#path);
    const version = `${ino} ${size} ${mtimeMs}`;
    if (this.#made?.version !== version) {
      // Who is about to execute the last one still can.
      if (this.#before !== undefined) call('close', '', this.#before);
      this.#before = this.#made?.descriptor;
      this.#made = { descriptor: sealed(readFileSync(this.#path)), version };
    }
    return `/proc/${process.pid}/fd/${this.#made.descriptor}`;
  }
}

function sealed(program: Buffer): number {
  const flags = flag.closeOnExec | flag.allowSealing;
  // Kernels before 6.3 do not know the flag, later ones may be told to want it (vm.memfd_noexec).
  const found = tryCall('memfd_create', 'program', flags | flag.executable);
  const descriptor = found >= 0 ? found : call('memfd_create', '', 'program', flags);
  try {
    for (let at = 0; at < program.length;)
      at += call('write', 'program', descriptor, program.subarray(at), program.length - at);
    call('fcntl', 'seals', descriptor, addSeals, seals);
  } catch (error) {
    call('close', '', descriptor);
    throw error;
  }
  return descriptor;
}
