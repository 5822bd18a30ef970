/**
 * Cases of the docker client: what a person types, and what it must show. They lie in `*.cases` beside this file:
 *
 *     == container {run,create} --memory        the commands and the flags that the case is about
 *     box -m 64m busybox cat $(cg …)            a shell script, with the functions of prelude.sh
 *     > 67108864                                what it prints, a line each; `>~` is a regular expression
 *
 * A case whose heading names two commands is carried out once for each. `alone` after the command: nothing else runs
 * at the same time. `with=buildx`, `with=registry`: the case needs that.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandFlags } from './commands.ts';

export interface ClientCase {
  title: string;
  command: string;
  flags: string[];
  alone: boolean;
  /** What the engine's side must have: `registry`. */
  needs: string[];
  script: string;
  expected: ExpectedLine[];
}

interface ExpectedLine {
  text: string;
  /** Whether `text` is a regular expression for the whole line. */
  pattern: boolean;
}

/** Flags that are not tried, each with its reason: `COMMAND --FLAG…: reason`; without a flag, the whole command. */
export interface Exception {
  command: string;
  flags: string[];
  reason: string;
}

export function readCases(directory: string = import.meta.dirname): ClientCase[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith('.cases'))
    .sort()
    .flatMap((name) => parseCases(readFileSync(join(directory, name), 'utf8')));
}

export function parseCases(text: string): ClientCase[] {
  return text
    .split(/^== /m)
    .slice(1)
    .flatMap((part) => {
      const [heading, ...lines] = part.trimEnd().split('\n');
      const expected = lines.filter((line) => line.startsWith('>')).map(readExpected);
      const script = lines.filter((line) => !line.startsWith('>')).join('\n');
      return headingsOf(heading!).map((title) => ({ ...readHeading(title), script, expected }));
    });
}

function readExpected(line: string): ExpectedLine {
  const pattern = line.startsWith('>~');
  return { text: line.slice(pattern ? 3 : 2), pattern };
}

/** `container {run,create} --x` → `container run --x`, `container create --x`. */
function headingsOf(heading: string): string[] {
  const braces = /\{([^}]*)\}/.exec(heading);
  if (braces === null) return [heading];
  return braces[1]!.split(',').map((word) => heading.replace(braces[0], word));
}

function readHeading(title: string): Pick<ClientCase, 'title' | 'command' | 'flags' | 'alone' | 'needs'> {
  const words = title.split(' ');
  const needs = words.filter((word) => word.startsWith('with=')).map((word) => word.slice('with='.length));
  const plain = words.filter((word) => !word.startsWith('--') && !word.startsWith('with=') && word !== 'alone');
  return {
    title,
    command: plain.join(' '),
    flags: words.filter((word) => word.startsWith('--')),
    alone: words.includes('alone'),
    needs,
  };
}

export function readExceptions(directory: string = import.meta.dirname): Exception[] {
  const text = readFileSync(join(directory, 'exceptions'), 'utf8');
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [left, reason] = splitOnce(line, ': ');
      const words = left.split(' ');
      return {
        command: words.filter((word) => !word.startsWith('--')).join(' '),
        flags: words.filter((word) => word.startsWith('--')),
        reason,
      };
    });
}

function splitOnce(line: string, mark: string): [string, string] {
  const at = line.indexOf(mark);
  if (at === -1) throw new Error(`no reason is given: ${line}`);
  return [line.slice(0, at), line.slice(at + mark.length)];
}

/** What of the client is neither tried nor excepted, as `COMMAND --FLAG`, or `COMMAND` where no case is about it. */
export function listUntried(commands: CommandFlags, cases: ClientCase[], exceptions: Exception[]): string[] {
  const untried: string[] = [];
  for (const [command, flags] of commands) {
    const whole = exceptions.some((one) => one.flags.length === 0 && isUnder(command, one.command));
    if (whole) continue;
    const about = cases.filter((one) => one.command === command);
    if (about.length === 0 && command !== '') untried.push(command);
    const known = new Set([
      ...about.flatMap((one) => one.flags),
      ...exceptions.filter((one) => isUnder(command, one.command)).flatMap((one) => one.flags),
    ]);
    for (const flag of flags) if (!known.has(flag)) untried.push(`${command} ${flag}`.trim());
  }
  return untried.sort();
}

/** An exception for `swarm` is one for `swarm init`; one for `*` is for every command. */
function isUnder(command: string, of: string): boolean {
  return of === '*' || command === of || (of !== '' && command.startsWith(`${of} `));
}

export interface Setting {
  /** The docker client's path. */
  client: string;
  socket: string;
  /** host:port of a registry that the engine may push to without TLS. */
  registry?: string;
  /** For files of the cases. */
  directory: string;
  /** Distinguishes runs; part of every name that a case makes. */
  run: string;
  /** `1` or `2`. */
  cgroupVersion: string;
}

export interface CaseResult {
  case: ClientCase;
  passed: boolean;
  printed: string;
  durationMs: number;
}

const caseMsMax = 30_000;

/** Carries out one case. It cleans up after itself, also when it fails. */
async function runCase(one: ClientCase, index: number, setting: Setting): Promise<CaseResult> {
  const name = `${setting.run}-${index}`;
  const dir = join(setting.directory, name);
  mkdirSync(dir, { recursive: true });
  const prelude = readFileSync(join(import.meta.dirname, 'prelude.sh'), 'utf8');
  const started = performance.now();
  const printed = await printsOf(`${prelude}\n${one.script}\n`, {
    ...process.env,
    DOCKER_HOST: `unix://${setting.socket}`,
    DOCKER_CONFIG: join(dir, '.docker'),
    DOCKER_BUILDKIT: '0',
    CLIENT: setting.client,
    COMMAND: one.command.split(' ')[1] ?? one.command,
    CGROUP_VERSION: setting.cgroupVersion,
    registry: setting.registry ?? '',
    cases: import.meta.dirname,
    n: name,
    k: String(index % 250),
    dir,
    COLUMNS: '200',
  });
  return { case: one, passed: fits(printed, one.expected), printed, durationMs: performance.now() - started };
}

function printsOf(script: string, env: NodeJS.ProcessEnv): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('bash', ['-c', script], { env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const timer = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), caseMsMax);
    let text = '';
    child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
    child.on('error', reject);
    // Not `close`: a program that left the group keeps the pipe open.
    child.on('exit', () => {
      clearTimeout(timer);
      setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
        resolve(text.replace(/\n$/, ''));
      }, 20);
    });
  });
}

export function fits(printed: string, expected: ExpectedLine[]): boolean {
  const lines = printed === '' ? [] : printed.split('\n');
  const allPlain = expected.every((line) => !line.pattern);
  if (allPlain) return lines.join('\n') === expected.map((line) => line.text).join('\n');
  const pattern = expected.map((line) => (line.pattern ? `(?:${line.text})` : escapePattern(line.text))).join('\n');
  return new RegExp(`^${pattern}$`, 'i').test(lines.join('\n'));
}

function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** Carries out all of them, some at a time, those that want to be alone last. */
export async function runCases(
  cases: ClientCase[],
  setting: Setting,
  options: { atOnce: number; report: (result: CaseResult) => void },
): Promise<CaseResult[]> {
  const results: CaseResult[] = [];
  const take = async (queue: [ClientCase, number][]): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const result = await runCase(next[0], next[1], setting);
      options.report(result);
      results.push(result);
    }
  };
  const numbered = cases.map((one, index): [ClientCase, number] => [one, index]);
  const together = numbered.filter(([one]) => !one.alone);
  await Promise.all(Array.from({ length: options.atOnce }, () => take(together)));
  await take(numbered.filter(([one]) => one.alone));
  return results;
}

/** Asks the engine through its client. */
export function askDocker(setting: Pick<Setting, 'client' | 'socket'>, words: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(setting.client, ['-H', `unix://${setting.socket}`, ...words], (error, stdout) =>
      error === null ? resolve(stdout.trim()) : reject(error),
    );
  });
}
