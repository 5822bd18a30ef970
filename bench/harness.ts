/**
 * What all benchmarks share: commands with their time, processor seconds of a tree of processes, statistics, and the
 * form of a result.
 *
 * Rounds of the two sides are interleaved by the caller, so that what else the machine does falls on both. Nothing is
 * written into the tree; a scratch directory is made for a run and removed after it.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Sample {
  name: string;
  unit: string;
  values: number[];
  note?: string;
}
export interface Goal {
  text: string;
  ratio?: number;
  atMost?: number;
  atLeast?: number;
  value: number | undefined;
}
export interface Result {
  bench: string;
  about: string;
  samples: Sample[];
  goals: Goal[];
  versions: Record<string, string>;
  skipped: string[];
}

export interface Bench {
  name: string;
  about: string;
  run(run: Run): Promise<Result>;
}

/** One run of the program: its scratch directory, what to undo at its end, and the settings from the command line. */
export interface Run {
  scratch: string;
  defer(undo: () => unknown): void;
  say(text: string): void;
  rounds: number | undefined;
  /** What `name/part` asked for; undefined: everything. */
  parts: string[] | undefined;
  peersDirectory: string;
}

export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  ms: number;
}

export async function command(
  words: string[],
  options: { env?: Record<string, string>; input?: string; allowFailure?: boolean; timeoutMs?: number } = {},
): Promise<Outcome> {
  const begun = performance.now();
  const child = spawn(words[0]!, words.slice(1), {
    env: { ...process.env, ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 300_000,
  });
  if (options.input !== undefined) child.stdin!.end(options.input);
  let stdout = '';
  let stderr = '';
  child.stdout!.on('data', (part: Buffer) => {
    stdout += part;
  });
  child.stderr!.on('data', (part: Buffer) => {
    stderr += part;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (number) => resolve(number ?? -1));
  });
  const ms = performance.now() - begun;
  if (code !== 0 && options.allowFailure !== true)
    throw new Error(`${words.join(' ')} ended with ${code}: ${(stderr || stdout).trim().slice(-600)}`);
  return { code, stdout, stderr, ms };
}

/** The time until a command has ended, without reading what it says. */
export async function timed(words: string[], env: Record<string, string> = {}): Promise<number> {
  const begun = performance.now();
  const child = spawn(words[0]!, words.slice(1), { env: { ...process.env, ...env }, stdio: 'ignore' });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  if (code !== 0) throw new Error(`${words.join(' ')} ended with ${code}`);
  return performance.now() - begun;
}

/** A program that goes on until the end of the run; its output goes into a log in the scratch directory. */
export function daemon(run: Run, name: string, words: string[], env: Record<string, string> = {}): ChildProcess {
  const log = openSync(join(run.scratch, `${name}.log`), 'a');
  const child = spawn(words[0]!, words.slice(1), { env: { ...process.env, ...env }, stdio: ['ignore', log, log] });
  closeSync(log);
  child.on('error', () => undefined);
  run.defer(() => stop(child));
  return child;
}

export async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await ended;
  clearTimeout(timer);
}

export function logTail(run: Run, name: string, lines = 6): string {
  try {
    return readFileSync(join(run.scratch, `${name}.log`), 'utf8')
      .trimEnd()
      .split('\n')
      .slice(-lines)
      .join('\n');
  } catch {
    return '';
  }
}

export async function until(
  what: string,
  timeoutMs: number,
  ready: () => Promise<boolean> | boolean,
  everyMs = 50,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await ready()) return;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await sleep(everyMs);
  }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

export function find(name: string, ...directories: string[]): string | undefined {
  for (const directory of [...directories, ...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'])
    if (directory !== '' && existsSync(join(directory, name))) return join(directory, name);
  return undefined;
}

// ---- processor time and memory ---------------------------------------------------------------------------------

/** Processor seconds that these processes, with all their threads, have used so far. */
export function cpuSeconds(pids: number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      /* it has ended */
    }
  }
  return ticks / 100;
}

/** Proportional set size in MB: shared pages count by how many share them. */
export function proportionalMb(pids: number[]): number {
  let kib = 0;
  for (const pid of pids)
    try {
      kib += Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0);
    } catch {
      /* it has ended */
    }
  return kib / 1024;
}

/** A cgroup of its own counts also the processes that have come and gone. Works with both versions of cgroups. */
export class Meter {
  readonly #path: string;
  readonly #isV1: boolean;

  constructor(name: string) {
    this.#isV1 = existsSync('/sys/fs/cgroup/cpuacct/cpuacct.usage');
    this.#path = join(this.#isV1 ? '/sys/fs/cgroup/cpuacct' : '/sys/fs/cgroup', name);
    mkdirSync(this.#path, { recursive: true });
  }

  /** The words that run a command inside: a shell enters first. */
  wrap(words: string[]): string[] {
    return ['sh', '-c', `echo $$ > ${this.#path}/cgroup.procs && exec "$@"`, 'sh', ...words];
  }

  pids(): number[] {
    return readFileSync(join(this.#path, 'cgroup.procs'), 'utf8')
      .split('\n')
      .filter((line) => line !== '')
      .map(Number);
  }

  seconds(): number {
    if (this.#isV1) return Number(readFileSync(join(this.#path, 'cpuacct.usage'), 'utf8')) / 1e9;
    return Number(/^usage_usec (\d+)/m.exec(readFileSync(join(this.#path, 'cpu.stat'), 'utf8'))![1]) / 1e6;
  }

  close(): void {
    for (const pid of this.pids())
      try {
        writeFileSync(join(this.#path, '..', 'cgroup.procs'), String(pid));
      } catch {
        /* it has ended */
      }
    try {
      rmdirSync(this.#path);
    } catch {
      /* a process is just ending */
    }
  }
}

// ---- statistics ------------------------------------------------------------------------------------------------

export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const at = (sorted.length - 1) * part;
  const low = sorted[Math.floor(at)]!;
  return low + ((sorted[Math.ceil(at)] ?? low) - low) * (at - Math.floor(at));
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Ours over theirs; undefined where there is no peer. */
export function ratioOf(ours: readonly number[], theirs: readonly number[] | undefined): number | undefined {
  return theirs === undefined || theirs.length === 0 || ours.length === 0 ? undefined : median(ours) / median(theirs);
}

export function fileSizeMb(path: string | undefined): string {
  return path === undefined ? '-' : `${(statSync(path).size / 1e6).toFixed(1)} MB`;
}
