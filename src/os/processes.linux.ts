/** `Processes` by child_process and /proc. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { accessSync, closeSync, constants, readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { constants as osConstants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import { awaitedLater } from '#base/promises.ts';
import type { Child, Exit, Output, Processes, SpawnOptions } from './processes.ts';
import { call } from './libc.linux.ts';
import { spawnProgram, spawnSession } from './spawn.linux.ts';

const outputBytesMax = 1024 * 1024;
const searchPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export const linuxProcesses: Processes = {
  spawn(file, args, options = {}): Child {
    if (isSession(options)) {
      const child = spawnSession(file, args, options);
      if (child !== undefined) return child;
    }
    const fifos = [options.stdin, options.stdout, options.stderr].map((wanted, index) =>
      wanted === 'fifo' ? makeFifo(index === 0) : undefined,
    );
    const [stdin, stdout, stderr] = [options.stdin, options.stdout, options.stderr].map(
      (wanted, index) => fifos[index]?.theirs ?? (wanted === 'fifo' ? 'ignore' : wanted) ?? 'ignore',
    );
    const ends = fifos.map((fifo, index) =>
      fifo === undefined ? undefined : new Socket({ fd: fifo.ours, readable: index !== 0, writable: index === 0 }),
    );
    for (const stream of ends) stream?.on('error', () => stream.destroy());
    let child: ChildProcess;
    try {
      if (isPlain(options)) {
        const { env, directory } = options;
        const descriptors = fifos.map((fifo) => fifo?.theirs);
        const where = directory === undefined ? {} : { directory };
        const spawned = startProgram(file, args, { env, ...where, session: false, descriptors });
        const [stdin, stdout, stderr] = ends;
        if (spawned !== undefined) return { ...spawned, stdin, stdout, stderr, extra: [] };
      }
      child = spawn(file, args, {
        env: options.env ?? { PATH: searchPath.join(':') },
        detached: options.detached === true,
        ...(options.directory === undefined ? {} : { cwd: options.directory }),
        stdio: [stdin!, stdout!, stderr!, ...(options.extra ?? [])],
      });
    } finally {
      for (const fifo of fifos) if (fifo !== undefined) closeSync(fifo.theirs);
    }
    const exit = new Promise<Exit>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        resolve({
          code: code ?? 128 + (signal === null ? 0 : osConstants.signals[signal]),
          signal: signal ?? undefined,
        }),
      );
    });
    void awaitedLater(exit);
    return {
      pid: child.pid ?? -1,
      exit,
      stdin: ends[0] ?? child.stdin ?? undefined,
      stdout: ends[1] ?? child.stdout ?? undefined,
      stderr: ends[2] ?? child.stderr ?? undefined,
      extra: child.stdio.slice(3) as (Readable & Writable)[],
    };
  },
  async run(file, args, options = {}): Promise<Output> {
    const child = linuxProcesses.spawn(file, args, {
      stdin: options.input === undefined ? 'ignore' : 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
      ...(options.env === undefined ? {} : { env: options.env }),
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
    const [stdout, stderr, exit] = await Promise.all([collect(child.stdout!), collect(child.stderr!), child.exit]);
    return { code: exit.code, stdout, stderr };
  },
  kill(pid, signal) {
    if (pid <= 0) return false;
    try {
      process.kill(pid, signal);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === 'ESRCH') return false;
      throw error;
    }
  },
  startTime(pid) {
    if (pid <= 0) return undefined;
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
    } catch {
      return undefined;
    }
  },
  find(program) {
    if (program.includes('/')) return executable(program) ? program : undefined;
    return [...searchPath, ...(process.env['PATH'] ?? '').split(':')]
      .map((directory) => `${directory}/${program}`)
      .find(executable);
  },
};

const closeOnExec = 0x80000;

/** `written`: we write it, the child reads. Both ends are closed in programs that do not ask for them. */
function makeFifo(written: boolean): { ours: number; theirs: number } {
  const pair = Buffer.alloc(8);
  call('pipe2', 'pipe', pair, closeOnExec);
  const [read, write] = [pair.readInt32LE(0), pair.readInt32LE(4)];
  return written ? { ours: write, theirs: read } : { ours: read, theirs: write };
}

/** What posix_spawn does here: a session with its errors and one more pipe to read. */
function isSession(
  options: SpawnOptions,
): options is SpawnOptions & { env: Record<string, string>; directory: string } {
  return (
    options.detached === true &&
    options.env !== undefined &&
    options.directory !== undefined &&
    options.stdin === undefined &&
    options.stdout === undefined &&
    options.stderr === 'pipe' &&
    options.extra?.length === 1 &&
    options.extra[0] === 'pipe'
  );
}

/** As child_process has it, a program that cannot be started is told by its end. */
function startProgram(...words: Parameters<typeof spawnProgram>): ReturnType<typeof spawnProgram> {
  try {
    return spawnProgram(...words);
  } catch (error) {
    return { pid: -1, exit: awaitedLater(Promise.reject<Exit>(error)) };
  }
}

/** A child that has nothing but pipes of the kernel, or nothing. */
function isPlain(options: SpawnOptions): options is SpawnOptions & { env: Record<string, string> } {
  return (
    options.detached !== true &&
    options.env !== undefined &&
    options.extra === undefined &&
    [options.stdin, options.stdout, options.stderr].every(
      (each) => each === 'fifo' || each === undefined || each === 'ignore',
    )
  );
}

function executable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

async function collect(stream: Readable): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of stream as AsyncIterable<Buffer>) {
    if (size < outputBytesMax) parts.push(part);
    size += part.length;
  }
  return Buffer.concat(parts).toString();
}
