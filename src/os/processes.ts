/**
 * Starting and signalling processes. Results are promises; a program that cannot be started rejects with the system's
 * code. A process started with `detached` is a session of its own and outlives the platform.
 */
import type { Readable, Writable } from 'node:stream';

/** `fifo`: a pipe of the kernel. `pipe` is a socket under Node, which a program cannot open anew by /dev/stdout. */
export type Stdio = 'ignore' | 'pipe' | 'fifo' | number;

export interface SpawnOptions {
  env?: Record<string, string>;
  directory?: string;
  detached?: boolean;
  stdin?: Stdio;
  stdout?: Stdio;
  stderr?: Stdio;
  /** Pipes at descriptors 3, 4, …: `in` is written by us. */
  extra?: ('pipe' | 'ignore' | number)[];
}
export interface Exit {
  /** 128 + signal when it was killed. */ code: number;
  signal: string | undefined;
}
export interface Child {
  pid: number;
  stdin: Writable | undefined;
  stdout: Readable | undefined;
  stderr: Readable | undefined;
  extra: ((Readable & Writable) | undefined)[];
  exit: Promise<Exit>;
}
export interface Output {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Processes {
  spawn(file: string, args: string[], options?: SpawnOptions): Child;
  /** Runs to the end with collected output, each stream bounded to 1 MiB. */
  run(file: string, args: string[], options?: { input?: string; env?: Record<string, string> }): Promise<Output>;
  /** False when there is no such process. */
  kill(pid: number, signal: number | string): boolean;
  /**
   * Start time in clock ticks since boot, which with the pid names a process for good; undefined when it is gone or a
   * zombie.
   */
  startTime(pid: number): string | undefined;
  /** The program's path, when it is installed. */
  find(program: string): string | undefined;
}
