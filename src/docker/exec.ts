/**
 * `/containers/ID/exec` and `/exec/ID/…`. An exec is a note until it is started; ended ones are kept a while for
 * `inspect`.
 */
import { ApiError } from '#base/errors.ts';
import { onceAborted, whenFinished } from '#base/streams.ts';
import { messageOf } from '#base/thrown.ts';
import type { ExecSpec } from '#engine/engine.ts';
import { emitExec } from '#engine/exec.ts';
import type { RunningExec } from '#engine/exec.ts';
import type { DockerParts } from './context.ts';
import { ownContainer } from './context.ts';
import { parseDetachKeys, watchDetachKeys } from './detach.ts';
import type { ExecBody } from './create-body.ts';
import { framedWriter, plainWriter } from './multiplex.ts';
import { reply, terminalSize } from './route.ts';
import type { Route, RouteContext } from './route.ts';
import { checkShape, execShape } from './shapes.ts';
import { execKeepMs, execRecordsMax } from './server-limits.ts';

interface ExecNote {
  id: string;
  containerId: string;
  spec: ExecSpec;
  attach: { stdin: boolean; stdout: boolean; stderr: boolean };
  detachKeys: string;
  running: boolean;
  exitCode: number | null;
  pid: number;
  live: RunningExec | undefined;
  size: { width: number; height: number } | undefined;
}

export function execRoutes(parts: DockerParts): Route[] {
  const notes = new Map<string, ExecNote>();
  const get = (id: string): ExecNote => {
    const note = notes.get(id) ?? [...notes.values()].find((other) => id.length >= 12 && other.id.startsWith(id));
    if (note === undefined) throw new ApiError('NotFound', `No such exec instance: ${id}`);
    return note;
  };
  return [
    {
      method: 'POST',
      path: '/containers/{id}/exec',
      handle: async (context) =>
        reply(201, { Id: createExec(parts, notes, context.params['id']!, await context.json()).id }),
    },
    {
      method: 'POST',
      path: '/exec/{id}/start',
      handle: async (context) => {
        // A body that is none is told before an exec that is not there.
        await context.json();
        return startExec(parts, notes, get(context.params['id'] ?? ''), context);
      },
    },
    {
      method: 'POST',
      path: '/exec/{id}/resize',
      handle: async (context) => {
        const note = get(context.params['id']!);
        const container = parts.engine.table.get(note.containerId);
        if (!container.isRunning) throw new ApiError('Conflict', `container ${container.id} is not running`);
        note.size = terminalSize(context.query);
        note.live?.resize(note.size);
        return reply(200);
      },
    },
    { method: 'GET', path: '/exec/{id}/json', handle: async (context) => showExec(get(context.params['id']!)) },
  ];
}

function createExec(parts: DockerParts, notes: Map<string, ExecNote>, reference: string, body: unknown): ExecNote {
  checkShape(body, execShape, 'ExecOptions');
  const container = parts.engine.table.get(reference);
  if (container.record.spec.owner !== 'docker') ownContainer(parts, reference, 'exec in');
  const command = typeof body.Cmd === 'string' ? [body.Cmd] : (body.Cmd ?? []);
  if (command.length === 0) throw new ApiError('BadRequest', 'No exec command specified');
  if (container.record.state === 'paused')
    throw new ApiError('Conflict', `Container ${container.id} is paused, unpause the container before exec`);
  if (container.record.state === 'restarting')
    throw new ApiError('Conflict', `Container ${container.id} is restarting, wait until the container is running`);
  if (!container.isRunning) throw new ApiError('Conflict', `container ${container.id} is not running`);
  if (notes.size >= execRecordsMax) throw new ApiError('TooManyRequests', 'too many exec instances');
  const note: ExecNote = {
    ...execFromRequest(body),
    id: Buffer.from(parts.random.bytes(32)).toString('hex'),
    containerId: container.id,
    running: false,
    exitCode: null,
    pid: 0,
    live: undefined,
  };
  notes.set(note.id, note);
  emitExec(parts.engine.table, { container, execId: note.id }, `exec_create: ${command.join(' ')}`);
  return note;
}

/** What a request for a command says. */
export function execFromRequest(body: ExecBody): Pick<ExecNote, 'spec' | 'attach' | 'detachKeys' | 'size'> {
  const command = typeof body.Cmd === 'string' ? [body.Cmd] : (body.Cmd ?? []);
  return {
    attach: {
      stdin: body.AttachStdin === true,
      stdout: body.AttachStdout === true,
      stderr: body.AttachStderr === true,
    },
    detachKeys: checkKeys(body.DetachKeys ?? ''),
    size: sizeOf(body.ConsoleSize),
    spec: {
      command,
      env: body.Env ?? [],
      user: body.User ?? '',
      workingDir: body.WorkingDir ?? '',
      tty: body.Tty === true,
      privileged: body.Privileged === true,
      stdin: body.AttachStdin === true,
    },
  };
}

/** `[height, width]`; zeros say nothing. */
function sizeOf(size: number[] | null | undefined): { width: number; height: number } | undefined {
  const [height = 0, width = 0] = size ?? [];
  return height > 0 && width > 0 ? { width, height } : undefined;
}

function checkKeys(keys: string): string {
  parseDetachKeys(keys);
  return keys;
}

/** As in docker, who attaches has the connection first and reads the refusal from it: compose relies on it. */
async function refuseSecondStart(message: string, isDetached: boolean, context: RouteContext): Promise<undefined> {
  if (isDetached) throw new ApiError('Conflict', message);
  const socket = await context.hijack('application/vnd.docker.raw-stream');
  socket.end(`${message}\r\n`);
  return undefined;
}

async function startExec(
  parts: DockerParts,
  notes: Map<string, ExecNote>,
  note: ExecNote,
  context: RouteContext,
): Promise<unknown> {
  const body = await context.json();
  checkShape(body, execShape, 'ExecStartOptions');
  const container = parts.engine.table.get(note.containerId);
  if (!container.isRunning) throw new ApiError('Conflict', `container ${container.id} is not running`);
  const again = note.running ? 'is already running' : note.exitCode !== null ? 'has already run' : undefined;
  if (again !== undefined) return refuseSecondStart(`exec command ${note.id} ${again}`, body.Detach === true, context);
  note.size = sizeOf(body.ConsoleSize) ?? note.size;
  const track = (running: RunningExec): void => {
    note.live = running;
    if (note.size !== undefined) running.resize(note.size);
    void running.pid.then((pid) => {
      note.pid = pid;
    });
    const finish = (code: number): void => {
      note.running = false;
      note.exitCode = code;
      note.live = undefined;
      parts.clock.setTimer(execKeepMs, () => notes.delete(note.id), { background: true });
    };
    running.exit.then(finish, (error: unknown) => finish(/not found|no such file/i.test(messageOf(error)) ? 127 : 126));
  };
  const keys = parseDetachKeys(note.detachKeys);
  note.running = true;
  if (body.Detach === true) {
    try {
      track(await parts.engine.containers.startExec(note.containerId, note.id, { ...note.spec, stdin: false }, {}));
    } catch (error) {
      note.running = false;
      throw error;
    }
    return reply(200);
  }
  // Whoever starts it says whether the answer is a terminal's; it may differ from what the command has.
  const isRaw = body.Tty === true;
  const multiplexed = !isRaw && context.version[1] >= 42;
  const socket = await context.hijack(
    multiplexed ? 'application/vnd.docker.multiplexed-stream' : 'application/vnd.docker.raw-stream',
  );
  const stdout = isRaw ? plainWriter(socket) : framedWriter(socket, 1);
  const stderr = isRaw ? plainWriter(socket) : framedWriter(socket, 2);
  if (!note.attach.stdin) socket.resume();
  const detached = new AbortController();
  const stdin = note.spec.tty ? watchDetachKeys(socket, keys, () => detached.abort()) : socket;
  try {
    const running = await parts.engine.containers.startExec(note.containerId, note.id, note.spec, {
      ...(note.attach.stdin ? { stdin } : {}),
      ...(note.attach.stdout || note.spec.tty ? { stdout } : {}),
      ...(note.attach.stderr ? { stderr } : {}),
    });
    track(running);
    // A client that detaches leaves the command running.
    await Promise.race([
      running.exit,
      new Promise<void>((resolve) => {
        onceAborted(detached.signal, resolve);
      }),
    ]);
  } catch (error) {
    note.running = false;
    note.exitCode ??= /not found|no such file/i.test(messageOf(error)) ? 127 : 126;
    (note.attach.stderr && !note.spec.tty ? stderr : stdout).write(
      `${messageOf(error)
        .replace(/^.*?OCI runtime create failed/, 'OCI runtime exec failed')
        .replace('create failed', 'exec failed')}\r\n`,
    );
  }
  for (const output of [stdout, stderr]) output.end();
  await Promise.all([stdout, stderr].map(whenFinished));
  socket.end();
  return undefined;
}

function showExec(note: ExecNote): unknown {
  return {
    ID: note.id,
    Running: note.running,
    ExitCode: note.exitCode,
    ProcessConfig: {
      tty: note.spec.tty,
      entrypoint: note.spec.command[0],
      arguments: note.spec.command.slice(1),
      privileged: note.spec.privileged === true,
      ...(note.spec.user === '' ? {} : { user: note.spec.user }),
    },
    OpenStdin: note.attach.stdin,
    OpenStderr: note.attach.stderr,
    OpenStdout: note.attach.stdout,
    CanRemove: false,
    ContainerID: note.containerId,
    DetachKeys: note.detachKeys,
    Pid: note.pid,
  };
}
