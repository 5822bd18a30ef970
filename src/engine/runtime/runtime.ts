/**
 * The OCI runtime (crun, or runc) and the monitor (conmon) that holds each container's terminal, log and exit status.
 *
 *   create conmon daemonises, calls `crun create` and tells the pid over a pipe; the container's first process waits at
 *   a fifo
 *   start writing to that fifo is all that `crun start` would do, so no process is needed for it (runc: `runc start`)
 *   exit     conmon writes the exit code to BUNDLE/ID and ends; its end is what the engine waits for
 *
 * On hybrid hosts whose version 2 hierarchy holds a controller crun refuses to create: there it runs in a mount
 * namespace of its own in which that mount is taken away, made here and entered by nsenter, or by a small script where
 * that cannot be. conmon and the engine stay outside.
 */
import { closeSync, openSync, readFileSync, unlinkSync, writeSync, constants } from 'node:fs';
import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { ApiError } from '#base/errors.ts';
import { readIfExists, removeTree, writeFileAtomic, writeFifo } from '#os/files.ts';
import type { Cgroups } from '#os/cgroups.ts';
import type { Mounts } from '#os/mount.ts';
import type { Child, Processes } from '#os/processes.ts';
import { SealedProgram } from '#os/sealed-program.linux.ts';
import { mountOf, parseMountInfo } from '../propagation.ts';
import { SeccompCache } from './seccomp-cache.ts';
import { explainRuntimeError } from './runtime-errors.ts';

export interface MonitorOptions {
  id: string;
  name: string;
  bundle: string;
  terminal: boolean;
  stdin: boolean;
  leaveStdinOpen: boolean;
  logPath: string | undefined;
  /** The monitor begins the log anew when it wrote so much. */ logBytesMax: number;
}
export interface CreatedProcess {
  pid: number;
  monitorPid: number;
}

export interface Runtime {
  readonly name: string;
  /** Whether `exec` can give a terminal to who waits for the command's end; runc cannot. */
  readonly hasExecTerminals: boolean;
  /** Writes the configuration into the bundle and lets the monitor create the process. */
  create(options: MonitorOptions, configuration: Record<string, unknown>): Promise<CreatedProcess>;
  start(id: string): Promise<void>;
  /** Forgets a container that has ended; what is running stays. */
  forget(id: string): void;
  /** Starts a command in a running container by a process specification on disk. */
  /** `oomScoreAdj`: of the container, which the command gets too; the runtime itself would hand on the engine's. */
  exec(
    id: string,
    processFile: string,
    options: { consoleSocket?: string; stdin: boolean; pidFile: string; detach?: boolean; oomScoreAdj?: number },
  ): Child;
  /** Creates and starts without a monitor. */
  runDetached(id: string, bundle: string, pidFile: string): Promise<void>;
  /** `undefined` while it runs. */
  exitCode(bundle: string, id: string): number | undefined;
  resize(bundle: string, size: { width: number; height: number }): void;
  reopenLog(bundle: string): void;
}

const runtimeEnvironment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

/** Where the host does not allow the score, the command runs all the same. */
const scoreScript = '{ echo "$0" > /proc/$$/oom_score_adj; } 2>/dev/null; exec "$@"';

/** What the runtime would hand on. */
function ownScore(): number {
  return Number(readIfExists('/proc/self/oom_score_adj') ?? Number.NaN);
}

/** A program that is called as the OCI runtime, with words before its own. */
export interface RuntimeProgram {
  path: string;
  args: string[];
}

export interface RuntimeOptions {
  processes: Processes;
  cgroups: Cgroups;
  mounts: Pick<Mounts, 'copyWithout'>;
  runDirectory: string;
}

/** `program`: absent, crun or else runc, as it is installed. */
export function createRuntime(options: RuntimeOptions, program?: RuntimeProgram): Runtime {
  const { processes, cgroups, runDirectory } = options;
  const conmon = processes.find('conmon');
  const given = program === undefined ? undefined : givenProgram(runDirectory, program);
  const crun = program === undefined ? processes.find('crun') : isCrun(program) ? given : undefined;
  const binary = crun ?? given ?? processes.find('runc');
  if (conmon === undefined || binary === undefined)
    throw new ApiError(
      'ServiceUnavailable',
      `the engine needs conmon and crun (or runc): ${conmon === undefined ? 'conmon' : 'crun'} is not installed`,
    );
  const name = crun === undefined ? 'runc' : 'crun';
  const stateRoot = `${runDirectory}/runtime`;
  const globals = [`--root=${stateRoot}`, ...(cgroups.mode === 'none' ? ['--cgroup-manager=disabled'] : [])];
  const filters = name === 'crun' ? new SeccompCache(runDirectory, stateRoot) : undefined;
  const sealed = program === undefined && cgroups.mode !== 'none' ? new SealedProgram(binary) : undefined;
  const current = (): string => sealed?.path() ?? binary;
  const creator = planCreator(options, binary, name === 'crun' || program !== undefined, current);
  return {
    name,
    hasExecTerminals: name === 'crun',
    async create(monitor, configuration) {
      const learning = filters?.apply(configuration);
      writeFileAtomic(`${monitor.bundle}/config.json`, JSON.stringify(configuration));
      using through = await creator();
      const args = [
        '--api-version',
        '1',
        '-c',
        monitor.id,
        '-u',
        monitor.id,
        '-n',
        monitor.name,
        '-r',
        through.file,
        '-b',
        monitor.bundle,
        '-p',
        `${monitor.bundle}/pidfile`,
        '-P',
        `${monitor.bundle}/conmon.pid`,
        '--exit-dir',
        monitor.bundle,
        '--full-attach',
        '--no-sync-log',
        '--log-level',
        'error',
        '-l',
        monitor.logPath === undefined ? 'none' : `k8s-file:${monitor.logPath}`,
        '--log-size-max',
        String(monitor.logBytesMax),
        ...[...through.words, ...globals].map((word) => `--runtime-arg=${word}`),
        ...(monitor.terminal ? ['-t'] : []),
        ...(monitor.stdin ? ['-i'] : []),
        ...(monitor.stdin && monitor.leaveStdinOpen ? ['--leave-stdin-open'] : []),
      ];
      // Its own directory: it leaves a file `oom` where it stands.
      const child = processes.spawn(conmon, args, {
        detached: true,
        directory: monitor.bundle,
        env: { ...runtimeEnvironment, _OCI_SYNCPIPE: '3' },
        stderr: 'pipe',
        extra: ['pipe'],
      });
      const answer = await readAnswer(child);
      if (answer.pid <= 0) throw explainRuntimeError(name, answer.message, programOf(configuration));
      if (learning !== undefined) filters!.learn(learning, monitor.id);
      return { pid: answer.pid, monitorPid: Number(readFileSync(`${monitor.bundle}/conmon.pid`, 'utf8')) };
    },
    async start(id) {
      if (name === 'runc') {
        const result = await processes.run(binary, [...globals, 'start', id]);
        if (result.code !== 0) throw explainRuntimeError(name, result.stderr);
        return;
      }
      openGate(`${stateRoot}/${id}/exec.fifo`);
    },
    forget: (id) => removeTree(`${stateRoot}/${id}`),
    exec(id, processFile, exec) {
      const args = [
        ...globals,
        'exec',
        '--process',
        processFile,
        '--pid-file',
        exec.pidFile,
        ...(exec.consoleSocket === undefined ? [] : ['--console-socket', exec.consoleSocket]),
        ...(exec.detach === true ? ['-d'] : []),
        id,
      ];
      const [file, words] =
        exec.oomScoreAdj === undefined || exec.oomScoreAdj === ownScore()
          ? [current(), args]
          : ['/bin/sh', ['-c', scoreScript, String(exec.oomScoreAdj), current(), ...args]];
      return processes.spawn(file, words, {
        env: runtimeEnvironment,
        stdin: exec.stdin ? 'fifo' : 'ignore',
        stdout: 'fifo',
        stderr: 'fifo',
      });
    },
    async runDetached(id, bundle, pidFile) {
      using through = await creator();
      // No pipes: the process would inherit them, and their end would never come.
      const child = processes.spawn(through.file, [
        ...through.words,
        ...globals,
        '--log',
        `${bundle}/runtime.log`,
        'run',
        '-d',
        '--bundle',
        bundle,
        '--pid-file',
        pidFile,
        id,
      ]);
      if ((await child.exit).code !== 0) throw explainRuntimeError(name, readIfExists(`${bundle}/runtime.log`) ?? '');
    },
    exitCode(bundle, id) {
      const text = readIfExists(`${bundle}/${id}`);
      return text === undefined || text.trim() === '' ? undefined : Number(text);
    },
    resize: (bundle, size) => {
      writeFifo(`${bundle}/ctl`, `1 ${size.height} ${size.width}\n`);
    },
    reopenLog: (bundle) => {
      writeFifo(`${bundle}/ctl`, '2 0 0\n');
    },
  };
}

/** What is called to create a container, with words before the runtime's own; let go once that has happened. */
interface Creator extends Disposable {
  file: string;
  words: string[];
}

/** `avoids`: the runtime refuses hybrid hosts. `current`: the program itself. */
function planCreator(
  { processes, cgroups: { hybridMount: target }, mounts, runDirectory }: RuntimeOptions,
  binary: string,
  avoids: boolean,
  current: () => string,
): () => Promise<Creator> {
  const plain = (file: string): Creator => ({ file, words: [], [Symbol.dispose]() {} });
  if (!avoids || target === undefined) return async () => plain(current());
  const parent = mountOf(dirname(target), parseMountInfo(readIfExists('/proc/self/mountinfo') ?? ''))?.target ?? '/';
  const script = writeHybridScript(runDirectory, binary, { target, parent });
  const nsenter = processes.find('nsenter');
  if (nsenter === undefined) return async () => plain(script);
  return async () => {
    const copied = await mounts.copyWithout({ target, parent });
    if (copied === undefined) return plain(script);
    return { file: nsenter, words: [`--mount=${copied.path}`, current()], [Symbol.dispose]: copied.close };
  };
}

/** Only crun's own gate can be opened without it. */
function isCrun({ path, args }: RuntimeProgram): boolean {
  return args.length === 0 && basename(path) === 'crun';
}

/** The monitor knows one word for the runtime; further ones go into a script, named by what it says. */
function givenProgram(runDirectory: string, { path, args }: RuntimeProgram): string {
  if (args.length === 0) return path;
  const quoted = [path, ...args].map((word) => `'${word.replaceAll("'", "'\\''")}'`);
  const text = `#!/bin/sh\nexec ${quoted.join(' ')} "$@"\n`;
  const script = `${runDirectory}/runtime-${createHash('sha256').update(text).digest('hex').slice(0, 16)}`;
  writeFileAtomic(script, text, { mode: 0o700 });
  return script;
}

/** The monitor's `{"pid": N, "message": …}`; or what it said on stderr when it died first. */
async function readAnswer(child: Child): Promise<{ pid: number; message: string }> {
  let errors = '';
  let text = '';
  child.stderr!.on('data', (part: Buffer) => {
    if (errors.length < 64 * 1024) errors += part.toString();
  });
  const pipe = child.extra[0]!;
  return new Promise((resolve, reject) => {
    child.exit.catch(reject);
    pipe.on('data', (part: Buffer) => {
      text += part.toString();
      if (!text.includes('\n')) return;
      pipe.destroy();
      child.stderr!.destroy();
      try {
        const parsed = JSON.parse(text.slice(0, text.indexOf('\n'))) as {
          pid?: number;
          data?: number;
          message?: string;
        };
        resolve({ pid: parsed.data ?? parsed.pid ?? -1, message: parsed.message ?? errors });
      } catch {
        resolve({ pid: -1, message: `${text}${errors}` });
      }
    });
    pipe.on('end', () => {
      void child.exit.then(() =>
        resolve({ pid: -1, message: errors === '' ? 'the monitor ended without a word' : errors }),
      );
    });
    pipe.on('error', reject);
  });
}

function programOf(configuration: Record<string, unknown>): string {
  return (configuration['process'] as { args?: string[] } | undefined)?.args?.[0] ?? '';
}

/** The first process of a created container waits until somebody writes here. */
function openGate(path: string): void {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  try {
    writeSync(fd, '\0');
  } finally {
    closeSync(fd);
  }
  unlinkSync(path);
}

/**
 * The mount that holds the hierarchy is made private first, so that taking it away stays here; all others remain in the
 * host's peer groups: what is mounted on the host later reaches containers that bind it `rslave` or `rshared`, and the
 * other way round.
 */
function writeHybridScript(
  runDirectory: string,
  binary: string,
  { target, parent }: { target: string; parent: string },
): string {
  const path = `${runDirectory}/create-${basename(binary)}`;
  const inside = `mount --make-private ${parent} && mount --make-private ${target} && umount -l ${target}; exec ${binary} "$@"`;
  writeFileAtomic(path, `#!/bin/sh\nexec unshare -m --propagation unchanged sh -c '${inside}' ${binary} "$@"\n`, {
    mode: 0o700,
  });
  return path;
}
