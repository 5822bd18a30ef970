/**
 * Starts and stops the platform's processes. Each has a supervisor of its own (`supervise.sh`) in a session of its own:
 *
 * | process  | runs                                                            | listens on |
 * | etcd | where there are several servers: a member of the cluster's own etcd | 2379, 2380 of the machine's address |
 * | server | store, API server, controllers, scheduler | 127.0.0.1, the first node's address; all if others may join |
 * | node-1 | content, engine, Docker API, registry, kubelet, Services, DNS, Ingress | docker.sock; registry port;
 * kubelet 10250; DNS 53 |
 * | node-N   | the same without a docker.sock of the user's, in a network namespace    | the node's address |
 *
 * A machine that joined another one's cluster has a node, and a server and an etcd where it joined as one of several
 * servers.
 * Any of them may die alone and comes back; containers stay, because conmon and not these processes hold them.
 */
import { existsSync, openSync, closeSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Clock } from '#os/clock.ts';
import { linuxProcesses } from '#os/processes.linux.ts';
import type { Child, Processes } from '#os/processes.ts';
import { listDirectory, readIfExists } from '#os/files.ts';
import { hostName, nodeNamespace } from './host.ts';
import { mountNamespaceOf } from './chroot.ts';
import { loadInstance, nodePlan, runsServer, type Instance } from './instance.ts';
import { partStopTimeoutMs } from './limits.ts';
import { localNodes } from './local-nodes.ts';
import { files, makeDirectory, packageRoot, privateMode, type Paths } from './paths.ts';

export interface PartStatus {
  name: string;
  supervisor: number | undefined;
  pid: number | undefined;
  ready: boolean;
}

/** Names of the processes of an instance on this machine, in the order in which they start. */
export function partNames(paths: Paths): string[] {
  const instance = loadInstance(paths) ?? {};
  return [
    ...('member' in instance && instance.member !== undefined ? ['etcd'] : []),
    ...(runsServer(instance) ? ['server'] : []),
    ...localNodes(paths).map((number) => `node-${number}`),
  ];
}

function pidIn(path: string): number | undefined {
  const pid = Number(readIfExists(path)?.trim());
  return Number.isInteger(pid) && pid > 0 ? pid : undefined;
}

/** The command line of a process, to tell ours from one that has taken over its pid. */
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
  } catch {
    return '';
  }
}

export function isSupervisor(paths: Paths, pid: number): boolean {
  const command = commandOf(pid);
  return command.includes('supervise.sh') && command.includes(files.processes(paths));
}

export function partStatus(paths: Paths, name: string): PartStatus {
  const supervisor = pidIn(join(files.processes(paths), `${name}.supervisor`));
  const pid = pidIn(join(files.processes(paths), `${name}.pid`));
  const supervisorRuns = supervisor !== undefined && isSupervisor(paths, supervisor);
  const words = ` ${wordsOf(paths, name).join(' ')}`;
  const runs = pid !== undefined && commandOf(pid).includes(words);
  const readyPid = Number(readIfExists(files.ready(paths, name))?.trim());
  return {
    name,
    supervisor: supervisorRuns ? supervisor : undefined,
    pid: runs ? pid : undefined,
    // etcd says nothing; who needs it asks it.
    ready: runs && (name === 'etcd' || readyPid === pid),
  };
}

/** By which the process of a part is known among others. */
function wordsOf(paths: Paths, name: string): string[] {
  if (name === 'etcd') return ['--config-file', files.etcdConfig(paths)];
  return name === 'server' ? ['server'] : ['node', name.slice('node-'.length)];
}

/** All parts that have left a trace, also those of a larger number of nodes before. */
export function knownParts(paths: Paths): string[] {
  const traces = listDirectory(files.processes(paths)).flatMap(
    (file) => /^(.*)\.(?:supervisor|pid)$/.exec(file)?.[1] ?? [],
  );
  return [...new Set([...partNames(paths), ...traces])];
}

/** The command line's own file: source in a checkout, stripped of types in a package. */
function entry(): string {
  const source = join(packageRoot, 'src/cli/main.ts');
  return existsSync(source) ? source : join(packageRoot, 'dist/cli/main.js');
}

/** Heap limits keep an idle platform small: V8 collects young objects in a smaller space before it asks for more. */
const nodeOptions = ['--experimental-ffi', '--disable-warning=ExperimentalWarning', '--max-semi-space-size=8'];

/** Arguments of Node for a process of the platform's own. */
export function commandLine(words: readonly string[]): string[] {
  return [...nodeOptions, entry(), ...words];
}

function environment(): Record<string, string> {
  return Object.fromEntries(
    Object.entries(process.env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

/** Set for a process that is to take the place of one that still runs (`heir.ts`). */
export const heirVariable = 'TIPHYS_HEIR';

interface StartOptions {
  /** Beside the process that runs, whose place it takes by itself. */
  isHeir?: boolean;
}

/** Answers the pid of the supervisor. */
export function startPart(
  instance: Instance,
  paths: Paths,
  name: string,
  { isHeir = false }: StartOptions = {},
): number {
  makeDirectory(files.processes(paths), privateMode);
  if (!isHeir) rmSync(files.ready(paths, name), { force: true });
  const log = join(files.logs(paths), `${name}.log`);
  const number = name.startsWith('node-') ? Number(name.slice('node-'.length)) : 1;
  const namespace = nodeNamespace(paths, nodePlan(instance, number, hostName()));
  const mountNamespace = mountNamespaceOf(paths);
  const entered = [
    ...(mountNamespace === undefined ? [] : [`--mount=${mountNamespace}`]),
    ...(namespace === undefined ? [] : [`--net=${namespace}`]),
  ];
  const command = [
    ...(entered.length === 0 ? [] : ['nsenter', ...entered, '--']),
    ...(name === 'etcd' ? [instance.member?.binary ?? 'etcd'] : [process.execPath, ...commandLine([])]),
    ...wordsOf(paths, name),
  ];
  const supervisor = join(import.meta.dirname, 'supervise.sh');
  const output = openSync(log, 'a', 0o600);
  const { pid } = linuxProcesses.spawn('/bin/sh', [supervisor, name, files.processes(paths), log, ...command], {
    detached: true,
    directory: '/',
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    // With an arena for each thread the C library keeps several times the memory that is used: long-lived blocks of one
    // lie between freed ones of another.
    env: {
      MALLOC_ARENA_MAX: '2',
      ...environment(),
      TIPHYS_DATA: paths.data,
      TIPHYS_RUN: paths.run,
      ...(paths.home === undefined ? {} : { TIPHYS_HOME: paths.home }),
      ...(isHeir ? { [heirVariable]: '1' } : {}),
    },
  });
  // As it will itself: on a busy machine it comes to it late, and would be taken for one that has ended.
  if (!isHeir) writeFileSync(join(files.processes(paths), `${name}.supervisor`), `${pid}\n`);
  closeSync(output);
  return pid;
}

/** Starts a command that goes on when this process ends, with a log of its own. */
export function startCommand(paths: Paths, name: string, words: readonly string[] = []): Child {
  const output = openSync(join(files.logs(paths), `${name}.log`), 'a', 0o600);
  const child = linuxProcesses.spawn(process.execPath, [...nodeOptions, entry(), name, ...words], {
    detached: true,
    directory: '/',
    stdin: 'ignore',
    stdout: output,
    stderr: output,
    env: environment(),
  });
  closeSync(output);
  return child;
}

/** The paths that a process started by `startPart` works in. */
export function pathsOfPart(): Paths {
  const { TIPHYS_DATA, TIPHYS_RUN, TIPHYS_HOME } = process.env;
  if (TIPHYS_DATA === undefined || TIPHYS_RUN === undefined) throw new Error('this command is started by tiphys up');
  return { home: TIPHYS_HOME, data: TIPHYS_DATA, run: TIPHYS_RUN };
}

export async function waitUntil(clock: Clock, timeoutMs: number, look: () => boolean, stepMs = 10): Promise<boolean> {
  const deadline = clock.monotonic() + timeoutMs;
  while (!look()) {
    if (clock.monotonic() > deadline) return false;
    await clock.sleep(stepMs);
  }
  return true;
}

/** Ends a part: its supervisor passes SIGTERM on. What does not end in time is killed. */
export async function stopPart(paths: Paths, name: string, processes: Processes, clock: Clock): Promise<void> {
  const status = partStatus(paths, name);
  if (status.supervisor !== undefined) processes.kill(status.supervisor, 'SIGTERM');
  else if (status.pid !== undefined) processes.kill(status.pid, 'SIGTERM');
  const gone = (): boolean => {
    const now = partStatus(paths, name);
    return now.supervisor === undefined && now.pid === undefined;
  };
  if (!(await waitUntil(clock, partStopTimeoutMs, gone, 20))) {
    const left = partStatus(paths, name);
    for (const pid of [left.supervisor, left.pid]) if (pid !== undefined) processes.kill(pid, 'SIGKILL');
    await waitUntil(clock, 2_000, gone, 20);
  }
  for (const file of [`${name}.supervisor`, `${name}.pid`]) rmSync(join(files.processes(paths), file), { force: true });
  rmSync(files.ready(paths, name), { force: true });
}
