/** `Processes` by child_process and /proc. */
import { spawn } from 'node:child_process';
import { accessSync, constants, readFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import type { Readable, Writable } from 'node:stream';
import type { Child, Exit, Output, Processes, SpawnOptions } from './processes.ts';
import { spawnSession } from './spawn.linux.ts';

const outputBytesMax = 1024 * 1024;
const searchPath = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export const linuxProcesses: Processes = {
  spawn(file, args, options = {}): Child {
    if (isSession(options)) {
      const child = spawnSession(file, args, options);
      if (child !== undefined) return child;
    }
    const child = spawn(file, args, {
      env: options.env ?? { PATH: searchPath.join(':') }, detached: options.detached === true, ...(options.directory === undefined ? {} : { cwd: options.directory }),
      stdio: [options.stdin ?? 'ignore', options.stdout ?? 'ignore', options.stderr ?? 'ignore', ...(options.extra ?? [])],
    });
    const exit = new Promise<Exit>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => resolve({ code: code ?? 128 + (signal === null ? 0 : osConstants.signals[signal]), signal: signal ?? undefined }));
    });
    exit.catch(() => undefined);
    return {
      pid: child.pid ?? -1, exit, stdin: child.stdin ?? undefined, stdout: child.stdout ?? undefined, stderr: child.stderr ?? undefined,
      extra: child.stdio.slice(3) as (Readable & Writable)[],
    };
  },
  async run(file, args, options = {}): Promise<Output> {
    const child = linuxProcesses.spawn(file, args, { stdin: options.input === undefined ? 'ignore' : 'pipe', stdout: 'pipe', stderr: 'pipe', ...(options.env === undefined ? {} : { env: options.env }) });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
    const [stdout, stderr, exit] = await Promise.all([collect(child.stdout!), collect(child.stderr!), child.exit]);
    return { code: exit.code, stdout, stderr };
  },
  kill(pid, signal) {
    if (pid <= 0) return false;
    try { process.kill(pid, signal as NodeJS.Signals); return true; } catch (error) {
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
    } catch { return undefined; }
  },
  find(program) {
    if (program.includes('/')) return executable(program) ? program : undefined;
    return [...searchPath, ...(process.env['PATH'] ?? '').split(':')].map((directory) => `${directory}/${program}`).find(executable);
  },
};

/** What posix_spawn does here: a session with its errors and one more pipe to read. */
function isSession(options: SpawnOptions): options is SpawnOptions & { env: Record<string, string>; directory: string } {
  return options.detached === true && options.env !== undefined && options.directory !== undefined && options.stdin === undefined && options.stdout === undefined && options.stderr === 'pipe' && options.extra?.length === 1 && options.extra[0] === 'pipe';
}

function executable(path: string): boolean {
  try { accessSync(path, constants.X_OK); return true; } catch { return false; }
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
