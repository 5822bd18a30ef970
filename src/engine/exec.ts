/**
 * Commands in a running container. The runtime joins the container and runs them as our child; a terminal is handed
 * over on a socket, so that its size can be set directly and no process copies bytes between. An exec does not outlive
 * the engine.
 */
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { onceEnded } from '#base/streams.ts';
import { awaitedLater } from '#base/promises.ts';
import { readIfExists, removeTree, resizeTerminal, writeFileAtomic } from '#os/files.ts';
import { openTerminalStream } from '#os/terminal.linux.ts';
import type { Container } from './container.ts';
import { eventAttributes } from './container.ts';
import { bundleDirectory } from './container-paths.ts';
import type { ExecSpec, Streams } from './engine.ts';
import { ExecOutput } from './exec-output.ts';
import { execErrorBytesMax, execPidWaitMsMax, execsPerContainerMax } from './limits.ts';
import type { ContainerTable } from './container-table.ts';
import { planEnvironment } from './runtime/bundle.ts';
import { explainRuntimeError } from './runtime/runtime-errors.ts';
import { resolveUser } from './runtime/user.ts';
import { checkNul } from './spec-checks.ts';

export interface RunningExec {
  pid: Promise<number>;
  exit: Promise<number>;
  resize(size: { width: number; height: number }): void;
  kill(): void;
}

export interface ExecStart {
  execId: string;
  spec: ExecSpec;
  streams: Streams;
}

export async function startExec(
  table: ContainerTable,
  container: Container,
  { execId, spec, streams }: ExecStart,
): Promise<RunningExec> {
  const { context } = table;
  const { record } = container;
  if (record.state === 'paused')
    throw new ApiError('Conflict', `Container ${record.id} is paused, unpause the container before exec`);
  if (!container.isRunning) throw new ApiError('Conflict', `container ${record.id} is not running`);
  if (spec.command.length === 0) throw new ApiError('BadRequest', 'No exec command specified');
  checkNul('argument', spec.command);
  checkNul('environment variable', spec.env ?? []);
  checkNul('user or path', [spec.user, spec.workingDir]);
  if (container.execIds.size >= execsPerContainerMax)
    throw new ApiError('TooManyRequests', `container ${record.id} runs ${execsPerContainerMax} commands already`);
  const directory = `${bundleDirectory(context.directories.run, record.id)}/x${execId.slice(0, 12)}`;
  mkdirSync(directory, { mode: 0o700 });
  container.execIds.add(execId);
  const finish = (): void => {
    container.execIds.delete(execId);
    removeTree(directory);
  };
  try {
    writeFileAtomic(`${directory}/process.json`, JSON.stringify(planProcess(table, container, spec)));
    const run: ExecRun = { table, container, directory, spec, streams, finish };
    return spec.tty ? await startOnTerminal(run) : startOnPipes(run);
  } catch (error) {
    finish();
    throw error;
  }
}

function planProcess(table: ContainerTable, container: Container, spec: ExecSpec): Record<string, unknown> {
  const { context } = table;
  const bundle = bundleDirectory(context.directories.run, container.id);
  const config = JSON.parse(readIfExists(`${bundle}/config.json`)!) as {
    process: Record<string, unknown> & {
      env: string[];
      user: { uid: number };
      cwd: string;
      capabilities: { bounding: string[] };
    };
    hostname?: string;
  };
  const root = `/proc/${container.record.run!.pid}/root`;
  const user = spec.user === undefined || spec.user === '' ? undefined : resolveUser(container.root ?? root, spec.user);
  const env = planEnvironment(
    {
      env: [
        ...(spec.tty ? ['TERM=xterm'] : []),
        ...(user === undefined ? [] : [`HOME=${user.home}`]),
        ...(spec.env ?? []),
      ],
      tty: spec.tty,
    },
    config.process.env,
    '',
    '/',
  ).filter((entry) => entry !== 'HOSTNAME=');
  const allCapabilities = [...context.hostLimits.capabilities].map((name) => `CAP_${name}`);
  const bounding = spec.privileged === true ? allCapabilities : config.process.capabilities.bounding;
  const uid = user?.uid ?? config.process.user.uid;
  const held = uid === 0 || spec.privileged === true ? bounding : [];
  return {
    ...config.process,
    terminal: spec.tty,
    args: spec.command,
    env,
    cwd: spec.workingDir === undefined || spec.workingDir === '' ? config.process.cwd : spec.workingDir,
    user:
      user === undefined
        ? config.process.user
        : { ...config.process.user, uid: user.uid, gid: user.gid, additionalGids: [user.gid, ...user.additionalGids] },
    capabilities: { bounding, effective: held, permitted: held },
  };
}

function scoreOf(container: Container): { oomScoreAdj: number } {
  return { oomScoreAdj: container.record.spec.resources.oomScoreAdj ?? 0 };
}

/** A command that is about to run in a container. */
interface ExecRun {
  table: ContainerTable;
  container: Container;
  /** Its own, with `process.json`. */
  directory: string;
  spec: ExecSpec;
  streams: Streams;
  /** Takes the directory away, and the note that it runs. */
  finish: () => void;
}

function startOnPipes({ table, container, directory, spec, streams, finish }: ExecRun): RunningExec {
  const { context } = table;
  const runtime = context.runtimes.get(container.record.spec.runtime);
  const child = runtime.exec(container.id, `${directory}/process.json`, {
    stdin: spec.stdin === true && streams.stdin !== undefined,
    pidFile: `${directory}/pid`,
    ...scoreOf(container),
  });
  const isStarted = (): boolean => readIfExists(`${directory}/pid`) !== undefined;
  const output = new ExecOutput(child.stdout!, streams.stdout);
  const errors = new ExecOutput(child.stderr!, streams.stderr, isStarted);
  if (child.stdin !== undefined) {
    const input = child.stdin;
    input.on('error', () => undefined);
    streams.stdin?.pipe(input);
    // Also of a client that went away without an end: the command would wait for ever.
    if (streams.stdin !== undefined) onceEnded(streams.stdin, () => input.end());
  }
  const exit = child.exit.then(async (end) => {
    const [, failure] = await Promise.all([
      output.settle(context.clock, isStarted),
      errors.settle(context.clock, isStarted),
    ]);
    const started = isStarted();
    finish();
    streams.stdin?.unpipe();
    child.stdin?.destroy();
    if (!started && end.code !== 0) throw explainRuntimeError(runtime.name, failure, spec.command[0]);
    return end.code;
  });
  void awaitedLater(exit);
  return {
    pid: pidOf(table, `${directory}/pid`, child.exit),
    exit,
    resize: () => undefined,
    kill: () => killExec(table, `${directory}/pid`, child.pid),
  };
}

async function startOnTerminal({ table, container, directory, spec, streams, finish }: ExecRun): Promise<RunningExec> {
  const { context } = table;
  const runtime = context.runtimes.get(container.record.spec.runtime);
  if (!runtime.hasExecTerminals)
    throw new ApiError('InternalError', 'a terminal for exec needs crun as the runtime of the container');
  const socket = `${directory}/tty`;
  const directoryFd = openSync(directory, 'r');
  const short = socket.length > 100 ? `/proc/self/fd/${directoryFd}/tty` : socket;
  const terminal = await context.os.poll.receiveTerminal(short).finally(() => closeSync(directoryFd));
  const child = runtime.exec(container.id, `${directory}/process.json`, {
    stdin: false,
    pidFile: `${directory}/pid`,
    ...scoreOf(container),
    consoleSocket: socket,
  });
  let errors = '';
  child.stderr!.on('data', (part: Buffer) => {
    if (errors.length < execErrorBytesMax) errors += part.toString();
  });
  child.stdout!.resume();
  // A short command may have ended before its terminal is seen here.
  void child.exit.then(() => terminal.finish());
  let descriptor: number;
  try {
    descriptor = await terminal.descriptor;
  } catch {
    // Without a terminal there is no command: the runtime says why.
    const { code } = await child.exit;
    throw explainRuntimeError(runtime.name, errors === '' ? `exit ${code}` : errors, spec.command[0]);
  }
  const stream = openTerminalStream(descriptor);
  streams.stdin?.pipe(stream.input, { end: false });
  const output = new ExecOutput(stream.output, streams.stdout);
  const resize = (size: { width: number; height: number }): void => {
    if (!stream.closed()) resizeTerminal(descriptor, size);
  };
  if (streams.resizes !== undefined)
    void (async () => {
      for await (const size of streams.resizes!) resize(size);
      // The client has gone with its terminal.
    })().catch(() => {});
  const exit = child.exit.then(async (end) => {
    await output.settle(context.clock, () => true);
    streams.stdin?.unpipe(stream.input);
    stream.close();
    finish();
    return end.code;
  });
  return {
    pid: pidOf(table, `${directory}/pid`, child.exit),
    exit,
    resize,
    kill: () => killExec(table, `${directory}/pid`, child.pid),
  };
}

function killExec(table: ContainerTable, pidFile: string, runtimePid: number): void {
  const pid = Number(readIfExists(pidFile) ?? 0);
  table.context.os.processes.kill(pid > 0 ? pid : runtimePid, 'SIGKILL');
}

async function pidOf(table: ContainerTable, file: string, exit: Promise<unknown>): Promise<number> {
  let ended = false;
  exit.then(
    () => {
      ended = true;
    },
    () => {
      ended = true;
    },
  );
  for (let waitMs = 5; waitMs < execPidWaitMsMax && !ended; waitMs *= 2) {
    const text = readIfExists(file);
    if (text !== undefined && text !== '') return Number(text);
    await table.context.clock.sleep(waitMs);
  }
  return Number(readIfExists(file) ?? 0);
}

export function emitExec(
  table: ContainerTable,
  { container, execId }: { container: Container; execId: string },
  action: string,
  extra: Record<string, string> = {},
): void {
  table.context.events.emit({
    type: 'container',
    action,
    id: container.id,
    attributes: { ...eventAttributes(container), execID: execId, ...extra },
    owner: container.record.spec.owner,
  });
}
