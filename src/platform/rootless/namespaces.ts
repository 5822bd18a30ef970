/**
 * The namespaces of an engine of an ordinary user, and what holds them: a process that sleeps, with the user and mount
 * namespaces and the network namespace; and slirp4netns, which carries packets between that and the host and ends with
 * it, by the end of a pipe. Killed at any line, nothing of it stays that the next start does not find.
 *
 * Source: user_namespaces(7), newuidmap(1), slirp4netns(1).
 */
import { once } from 'node:events';
import { existsSync, openSync, closeSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { createProcessGroups } from '#os/cgroups.none.ts';
import { listDirectory, readIfAllowed, readIfExists, writeFileAtomic } from '#os/files.ts';
import type { Child, Processes } from '#os/processes.ts';
import { askSlirp } from '#os/slirp.linux.ts';
import type { IdMaps, IdRange } from '#os/user-namespaces.linux.ts';
import { scopeWords, userEnvironment } from './scope.ts';
import { isAlive, readState, type RootlessState, slirpSocket, statePath } from './state.ts';

/** As docker's rootless mode has it: packets of up to this size pass in one piece. */
const mtuBytes = 65_520;

const held = ['sh', '-c', 'exec 9<>"$0" && echo && read _ && exec sleep infinity'];
const carried = ['sh', '-c', 'exec 9<"$0"; shift; exec slirp4netns --exit-fd=9 "$@"'] as const;

export interface NamespacePlan {
  /** Of the state. */
  directory: string;
  /** The engine's own, for what ends with it. */
  run: string;
  maps: IdMaps;
}

export async function ensureNamespaces(plan: NamespacePlan, processes: Processes): Promise<RootlessState> {
  const { directory, run, maps } = plan;
  let state = readState(directory);
  if (!isAlive(processes, state?.holder)) {
    endStrays(run, processes);
    state = await makeNamespaces(directory, maps, processes);
  }
  await ensureSlirp(directory, state, processes);
  return state;
}

/** The processes inside end by their own; the namespaces go with the last of them. */
export function endNamespaces(directory: string, processes: Processes): void {
  const state = readState(directory);
  rmSync(statePath(directory), { force: true });
  if (isAlive(processes, state?.holder)) processes.kill(state.holder.pid, 'SIGKILL');
}

/**
 * Containers whose namespaces nobody holds any more: they cannot be entered, and would be there twice. From outside the
 * user may end what runs as any of his numbers.
 */
function endStrays(run: string, processes: Processes): void {
  const groups = createProcessGroups();
  for (const name of listDirectory('/proc').filter((each) => /^\d+$/.test(each))) {
    const words = (readIfAllowed(`/proc/${name}/cmdline`) ?? '').split('\0');
    if (!words[0]?.endsWith('conmon') || !words.some((word) => word.startsWith(`${run}/engine/c/`))) continue;
    const monitorPid = Number(name);
    groups.adopt(name, { pid: 0, monitorPid });
    groups.killAll(name);
    processes.kill(monitorPid, 'SIGKILL');
  }
}

async function makeNamespaces(directory: string, maps: IdMaps, processes: Processes): Promise<RootlessState> {
  const pipe = join(directory, 'alive');
  rmSync(pipe, { force: true });
  await runOrFail(processes, 'mkfifo', ['-m', '600', pipe]);
  const child = await startHolder(pipe, processes);
  try {
    await runOrFail(processes, 'newuidmap', [String(child.pid), ...mapWords(maps.uids)]);
    await runOrFail(processes, 'newgidmap', [String(child.pid), ...mapWords(maps.gids)]);
    const state: RootlessState = {
      holder: { pid: child.pid, startTime: processes.startTime(child.pid) ?? '' },
      unprivilegedFrom: Number(readIfExists('/proc/sys/net/ipv4/ip_unprivileged_port_start') ?? 1024),
    };
    // Known before it stays: without the word it ends with this process.
    writeFileAtomic(statePath(directory), JSON.stringify(state));
    await new Promise<void>((resolve) => child.stdin?.end('go\n', resolve));
    return state;
  } catch (error) {
    processes.kill(child.pid, 'SIGKILL');
    throw error;
  }
}

/** In a unit of its own, where the user has a systemd that can delegate its control group. */
async function startHolder(pipe: string, processes: Processes): Promise<Child> {
  const words = ['unshare', '--user', '--mount', '--net', ...held, pipe];
  for (const [program = '', ...rest] of [[...scopeWords(processes, ['--property=Delegate=yes']), ...words], words]) {
    const child = processes.spawn(program, rest, {
      env: userEnvironment(process.env),
      detached: true,
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'pipe',
    });
    const said = firstWord(child.stdout).then(() => true);
    if (await Promise.race([said, child.exit.then(() => false)])) return child;
  }
  throw new ApiError(
    'Forbidden',
    'this machine lets no ordinary user make namespaces: look at the sysctls kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces',
  );
}

function mapWords(ranges: readonly IdRange[]): string[] {
  return ranges.flatMap(({ inside, outside, size }) => [inside, outside, size].map(String));
}

async function ensureSlirp(directory: string, { holder }: RootlessState, processes: Processes): Promise<void> {
  const socket = slirpSocket(directory);
  if (answers(socket)) return;
  rmSync(socket, { force: true });
  const logPath = join(directory, 'slirp4netns.log');
  const log = openSync(logPath, 'w', 0o600);
  const [program, ...words] = carried;
  const child = processes.spawn(
    program,
    [
      ...words,
      join(directory, 'alive'),
      '--',
      '--configure',
      `--mtu=${mtuBytes}`,
      '--disable-host-loopback',
      '--ready-fd=3',
      `--api-socket=${socket}`,
      String(holder.pid),
      'tap0',
    ],
    { detached: true, stdout: log, stderr: log, extra: ['pipe'] },
  );
  closeSync(log);
  const ready = firstWord(child.extra[0]).then(() => undefined);
  const ended = await Promise.race([ready, child.exit]).catch((error: unknown) => ({ code: messageOf(error) }));
  if (ended !== undefined || !existsSync(socket))
    throw new ApiError(
      'InternalError',
      `slirp4netns could not be started (${String(ended?.code)}): ${(readIfExists(logPath) ?? '').trim().slice(-500)}`,
    );
}

async function firstWord(from: Readable | undefined): Promise<void> {
  if (from !== undefined) await once(from, 'data');
}

function answers(socket: string): boolean {
  try {
    askSlirp(socket, 'list_hostfwd');
    return true;
  } catch {
    return false;
  }
}

export async function runOrFail(processes: Processes, program: string, words: string[]): Promise<void> {
  const done = await processes.run(program, words);
  if (done.code !== 0) throw new ApiError('InternalError', `${program}: ${done.stderr.trim()}`);
}
