/** `docker top`: the columns of ps(1) for the processes of a container, read from /proc. Of ps's options those that people use are understood. */
import { ApiError } from '#base/errors.ts';
import type { Container } from '#engine/container.ts';
import { readIfExists } from '#os/files.ts';
import type { DockerParts } from './context.ts';

interface ProcessInfo { pid: number; ppid: number; uid: number; tty: string; cpuSeconds: number; startSeconds: number; rssKb: number; vszKb: number; state: string; command: string; name: string }

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
    pid, ppid: Number(fields[1]), state: fields[0] ?? '?', uid: Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? 0), tty: terminal === 0 ? '?' : `pts/${terminal & 0xff}`, cpuSeconds: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond,
    startSeconds: Number(fields[19]) / ticksPerSecond, vszKb: Math.floor(Number(fields[20]) / 1024), rssKb: Number(fields[21]) * 4, command: line === '' ? `[${name}]` : line, name,
  };
}

function clockTime(seconds: number): string {
  const pad = (value: number): string => String(Math.floor(value)).padStart(2, '0');
  return `${pad(seconds / 3600)}:${pad((seconds / 60) % 60)}:${pad(seconds % 60)}`;
}

type Column = [string, (info: ProcessInfo, host: Host) => string];
interface Host { bootMs: number; uptimeSeconds: number; users: Map<number, string>; memoryKb: number }

const user: Column = ['UID', (info, host) => host.users.get(info.uid) ?? String(info.uid)];
const start: Column = ['STIME', (info, host) => new Date(host.bootMs + info.startSeconds * 1000).toISOString().slice(11, 16)];
const cpuShare = (info: ProcessInfo, host: Host): number => (info.cpuSeconds / Math.max(1, host.uptimeSeconds - info.startSeconds)) * 100;

const full: Column[] = [user, ['PID', (info) => String(info.pid)], ['PPID', (info) => String(info.ppid)], ['C', (info, host) => String(Math.floor(cpuShare(info, host)))], start, ['TTY', (info) => info.tty], ['TIME', (info) => clockTime(info.cpuSeconds)], ['CMD', (info) => info.command]];
const bsd: Column[] = [
  ['USER', user[1]], ['PID', (info) => String(info.pid)], ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)], ['%MEM', (info, host) => ((info.rssKb / host.memoryKb) * 100).toFixed(1)], ['VSZ', (info) => String(info.vszKb)], ['RSS', (info) => String(info.rssKb)],
  ['TTY', (info) => info.tty], ['STAT', (info) => info.state], ['START', start[1]], ['TIME', (info) => `${Math.floor(info.cpuSeconds / 60)}:${String(Math.floor(info.cpuSeconds % 60)).padStart(2, '0')}`], ['COMMAND', (info) => info.command],
];
const byKey: Record<string, Column> = {
  pid: ['PID', (info) => String(info.pid)], ppid: ['PPID', (info) => String(info.ppid)], user: ['USER', user[1]], uid: ['UID', (info) => String(info.uid)], comm: ['COMMAND', (info) => info.name], cmd: ['CMD', (info) => info.command], args: ['COMMAND', (info) => info.command], command: ['COMMAND', (info) => info.command],
  rss: ['RSS', (info) => String(info.rssKb)], vsz: ['VSZ', (info) => String(info.vszKb)], stat: ['STAT', (info) => info.state], s: ['S', (info) => info.state], tty: ['TT', (info) => info.tty], time: ['TIME', (info) => clockTime(info.cpuSeconds)], stime: start, '%cpu': ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)], pcpu: ['%CPU', (info, host) => cpuShare(info, host).toFixed(1)], '%mem': ['%MEM', (info, host) => ((info.rssKb / host.memoryKb) * 100).toFixed(1)],
};

function chooseColumns(options: string): Column[] {
  const own = /(?:^|\s)-?o\s*(\S+)/.exec(options);
  if (own !== null) return own[1]!.split(',').map((key) => { const column = byKey[key.toLowerCase()]; if (column === undefined) throw new ApiError('InternalError', `Error running ps: unknown user-defined format specifier "${key}"`); return column; });
  if (/^\s*[aux]+\s*$/.test(options) || /u/.test(options.replace(/^-/, ''))) return bsd;
  return full;
}

export function showTop(parts: DockerParts, container: Container, options: string): unknown {
  if (!container.isRunning) throw new ApiError('Conflict', `container ${container.id} is not running`);
  if (container.record.state === 'restarting') throw new ApiError('Conflict', `Container ${container.id} is restarting, wait until the container is running`);
  const columns = chooseColumns(options);
  const uptimeSeconds = Number((readIfExists('/proc/uptime') ?? '0').split(' ')[0]);
  const users = new Map((readIfExists('/etc/passwd') ?? '').split('\n').map((line) => line.split(':')).map((fields) => [Number(fields[2]), fields[0] ?? '']));
  const host: Host = { bootMs: parts.clock.now() - uptimeSeconds * 1000, uptimeSeconds, users, memoryKb: Number(/^MemTotal:\s+(\d+)/m.exec(readIfExists('/proc/meminfo') ?? '')?.[1] ?? 1) };
  const pids = parts.engine.context.os.cgroups.pids(container.record.run!.cgroup);
  const rows = pids.map(readProcess).filter((info) => info !== undefined).map((info) => columns.map(([, value]) => value(info, host)));
  return { Titles: columns.map(([title]) => title), Processes: rows };
}
