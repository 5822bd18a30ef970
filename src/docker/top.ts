/**
 * `docker top`: what the host's ps(1) says of a container's processes; on a host without it, the usual columns read
 * from /proc.
 */
import { ApiError } from '#base/errors.ts';
import type { Container } from '#engine/container.ts';
import { eventAttributes } from '#engine/container.ts';
import { readIfExists } from '#os/files.ts';
import type { DockerParts } from './context.ts';

interface ProcessInfo {
  pid: number;
  ppid: number;
  uid: number;
  tty: string;
  cpuSeconds: number;
  startSeconds: number;
  rssKb: number;
  vszKb: number;
  state: string;
  command: string;
  name: string;
}

const ticksPerSecond = 100;

function readProcess(pid: number): ProcessInfo | undefined {
  const stat = readIfExists(`/proc/${pid}/stat`);
  const status = readIfExists(`/proc/${pid}/status`);
  if (stat === undefined || status === undefined) return undefined;
  const end = stat.lastIndexOf(')');
  const fields = stat.slice(end + 2).split(' ');
  const name = stat.slice(stat.indexOf('(') + 1, end);
  const line = (readIfExists(`/proc/${pid}/cmdline`) ?? '').replace(/\0+$/, '').replaceAll('\0', ' ');
  const terminal = Number(fields[4]);
  return {
    pid,
    ppid: Number(fields[1]),
    state: fields[0] ?? '?',
    uid: Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? 0),
    tty: terminal === 0 ? '?' : `pts/${terminal & 0xff}`,
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    startSeconds: Number(fields[19]) / ticksPerSecond,
    vszKb: Math.floor(Number(fields[20]) / 1024),
    rssKb: Number(fields[21]) * 4,
    command: line === '' ? `[${name}]` : line,
    name,
  };
}

function clockTime(seconds: number): string {
  const pad = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  return `${pad(seconds / 3600)}:${pad((seconds / 60) % 60)}:${pad(seconds % 60)}`;
}

type Column = [string, (info: ProcessInfo, host: Host) => string];
interface Host {
  bootMs: number;
  uptimeSeconds: number;
  users: Map<number, string>;
  memoryKb: number;
}

const user: Column = ['UID', (info, host) => host.users.get(info.uid) ?? String(info.uid)];
const start: Column = [
  'STIME',
  (info, host) => new Date(host.bootMs + info.startSeconds * 1000).toISOString().slice(11, 16),
];
const cpuShare = (info: ProcessInfo, host: Host): number =>
  (info.cpuSeconds / Math.max(1, host.uptimeSeconds - info.startSeconds)) * 100;

const full: Column[] = [
  user,
  ['PID', (info) => String(info.pid)],
  ['PPID', (info) => String(info.ppid)],
  ['C', (info, host) => String(Math.floor(cpuShare(info, host)))],
  start,
  ['TTY', (info) => info.tty],
  ['TIME', (info) => clockTime(info.cpuSeconds)],
  ['CMD', (info) => info.command],
];
const bsd: Column[] = [
  ['USER', user[1]],
  ['PID', (info) => String(info.pid)],
  ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)],
  ['%MEM', (info, host) => ((info.rssKb / host.memoryKb) * 100).toFixed(1)],
  ['VSZ', (info) => String(info.vszKb)],
  ['RSS', (info) => String(info.rssKb)],
  ['TTY', (info) => info.tty],
  ['STAT', (info) => info.state],
  ['START', start[1]],
  [
    'TIME',
    (info) => `${Math.floor(info.cpuSeconds / 60)}:${String(Math.floor(info.cpuSeconds % 60)).padStart(2, '0')}`,
  ],
  ['COMMAND', (info) => info.command],
];
const byKey: Record<string, Column> = {
  pid: ['PID', (info) => String(info.pid)],
  ppid: ['PPID', (info) => String(info.ppid)],
  user: ['USER', user[1]],
  uid: ['UID', (info) => String(info.uid)],
  comm: ['COMMAND', (info) => info.name],
  cmd: ['CMD', (info) => info.command],
  args: ['COMMAND', (info) => info.command],
  command: ['COMMAND', (info) => info.command],
  rss: ['RSS', (info) => String(info.rssKb)],
  vsz: ['VSZ', (info) => String(info.vszKb)],
  stat: ['STAT', (info) => info.state],
  s: ['S', (info) => info.state],
  tty: ['TT', (info) => info.tty],
  time: ['TIME', (info) => clockTime(info.cpuSeconds)],
  stime: start,
  '%cpu': ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)],
  pcpu: ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)],
  '%mem': ['%MEM', (info, host) => ((info.rssKb / host.memoryKb) * 100).toFixed(1)],
};

const short: Column[] = [
  byKey['pid']!,
  ['TTY', (info) => info.tty],
  ['TIME', (info) => clockTime(info.cpuSeconds)],
  ['CMD', (info) => info.name],
];

function columnOf(key: string): Column {
  const [name = '', title] = key.split(/=(.*)/s);
  const found = Object.hasOwn(byKey, name.toLowerCase()) ? byKey[name.toLowerCase()] : undefined;
  if (found === undefined) throw psError(`error: unknown user-defined format specifier "${name}"`);
  return title === undefined || title === '' ? found : [title, found[1]];
}

function psError(reason: string): ApiError {
  return new ApiError('InternalError', `ps: ${reason}`);
}

/** Letters that want a word: what follows them in theirs, or the next one. */
const withArgument = { unix: 'oOpqtuUgGCsnk', bsd: 'oOkptUNq' };

/**
 * The columns that ps(1) shows for these options, in its own grammar: `-eo pid,comm`, `-e -opid`, `aux`, `o pid`,
 * `--format=pid`. For hosts without ps: it knows the
 * columns above and no selection, as all processes of the container are shown. What it does not know is refused.
 * Exported for tests.
 */
export function chooseColumns(options: string): Column[] {
  const words = options.split(/\s+/).filter(Boolean);
  const own: string[] = [];
  const letters = new Set<string>();
  const take = (rest: string): string => {
    const value = rest !== '' ? rest : words.shift();
    if (value === undefined) throw psError('error: list of formats or processes must follow the option');
    return value;
  };
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const long = /^--(\w[\w-]*)(?:=(.*))?$/s.exec(word);
    if (long !== null) {
      if (long[1] !== 'format') throw psError(`error: unknown gnu long option "${word}"`);
      own.push(...take(long[2] ?? '').split(','));
      continue;
    }
    const kind = word.startsWith('-') ? 'unix' : 'bsd';
    const group = kind === 'unix' ? word.slice(1) : word;
    for (let at = 0; at < group.length; at++) {
      const letter = group[at]!;
      if (
        withArgument[kind].includes(letter) &&
        !(kind === 'unix' && letter === 'u' && /^u?x?$/.test(group.slice(at)))
      ) {
        const value = take(group.slice(at + 1));
        if (letter === 'o') own.push(...value.split(','));
        else
          throw psError(
            `error: option ${kind === 'unix' ? '-' : ''}${letter} is not known to this host, which has no ps`,
          );
        break;
      }
      if (!/[eAadfluxwHr]/.test(letter))
        throw psError(`error: unsupported ${kind === 'unix' ? 'SysV' : 'BSD'} option "${letter}"`);
      letters.add(letter);
    }
  }
  if (own.length > 0) return own.filter((key) => key !== '').map(columnOf);
  if (letters.has('u')) return bsd;
  return letters.has('f') ? full : short;
}

export async function showTop(parts: DockerParts, container: Container, options: string): Promise<unknown> {
  if (!container.isRunning || container.record.run === undefined)
    throw new ApiError('Conflict', `container ${container.id} is not running`);
  const renamed = /\s([^\s]*)=\s*(PID[^\s]*)/i.exec(` ${options}`);
  if (renamed !== null) throw new ApiError('BadRequest', `specifying "${renamed[1]}=${renamed[2]}" is not allowed`);
  const { os } = parts.engine.context;
  const pids = os.cgroups.pids(container.record.run.cgroup);
  const ps = os.processes.find('ps');
  const shown =
    ps === undefined ? ownTable(parts, pids, options) : parsePs(await runPs(parts, ps, options), new Set(pids));
  parts.engine.events.emit({
    type: 'container',
    action: 'top',
    id: container.id,
    attributes: eventAttributes(container),
    owner: container.record.spec.owner,
  });
  return shown;
}

async function runPs(parts: DockerParts, ps: string, options: string): Promise<string> {
  const result = await parts.engine.context.os.processes.run(ps, options.split(/\s+/).filter(Boolean));
  if (result.code !== 0)
    throw psError(result.stderr.trim() === '' ? `exit status ${result.code}` : result.stderr.trim());
  return result.stdout;
}

/** The rows of these processes; the last column holds the rest of its line. Exported for tests. */
export function parsePs(text: string, pids: ReadonlySet<number>): { Titles: string[]; Processes: string[][] } {
  const [head = '', ...lines] = text.split('\n');
  const titles = head.trim().split(/\s+/);
  const at = titles.indexOf('PID');
  if (at < 0) throw new ApiError('InternalError', "Couldn't find PID field in ps output");
  const rows: string[][] = [];
  let isOurs = false;
  for (const line of lines) {
    const fields = line.trim().split(/\s+/);
    if (fields.length < 2 && fields[0] === '') continue;
    // Threads of the process above have no number of their own.
    if (fields[at] !== '-') isOurs = pids.has(Number(fields[at]));
    if (isOurs) rows.push([...fields.slice(0, titles.length - 1), fields.slice(titles.length - 1).join(' ')]);
  }
  return { Titles: titles, Processes: rows };
}

function ownTable(parts: DockerParts, pids: number[], options: string): unknown {
  const columns = chooseColumns(options);
  if (!columns.some(([title]) => title === 'PID'))
    throw new ApiError('InternalError', "Couldn't find PID field in ps output");
  const uptimeSeconds = Number((readIfExists('/proc/uptime') ?? '0').split(' ')[0]);
  const users = new Map(
    (readIfExists('/etc/passwd') ?? '')
      .split('\n')
      .map((line) => line.split(':'))
      .map((fields) => [Number(fields[2]), fields[0] ?? '']),
  );
  const host: Host = {
    bootMs: parts.clock.now() - uptimeSeconds * 1000,
    uptimeSeconds,
    users,
    memoryKb: Number(/^MemTotal:\s+(\d+)/m.exec(readIfExists('/proc/meminfo') ?? '')?.[1] ?? 1),
  };
  const rows = pids
    .map(readProcess)
    .filter((info) => info !== undefined)
    .map((info) => columns.map(([, value]) => value(info, host)));
  return { Titles: columns.map(([title]) => title), Processes: rows };
}
