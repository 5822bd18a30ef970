/**
 * Commands in simulated containers, and terminals attached to them: a script answers, between the client's streams and
 * virtual time.
 */
import { PassThrough, type Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { StringDecoder } from 'node:string_decoder';
import { ApiError } from '#base/errors.ts';
import { awaitedLater } from '#base/promises.ts';
import type { ExecSpec, Streams } from '#engine/engine.ts';
import type { Clock } from '#os/clock.ts';
import { type ContainerLog, logStart, printedBytes } from './container-log.ts';
import { durationMs } from './duration.ts';
import type { ContainerContext, PodScript } from './pod-script.ts';
import { cooked, Terminal } from './terminal.ts';

/** A run of a container, as a client that speaks to it needs it. */
export interface Spoken {
  script: PodScript;
  context: ContainerContext;
  log: ContainerLog;
  /** Of its specification. */ tty: boolean;
  openStdin: boolean;
  stdinOnce: boolean;
}

/** A command, and the client whose streams it gets. */
export interface ExecRun {
  spoken: Spoken;
  spec: ExecSpec;
  streams: Streams;
  clock: Clock;
  /** Aborts when the client leaves. */
  signal?: AbortSignal | undefined;
}

const killedCode = 137;
const interruptedCode = 130;

/** As a container runtime says that there is no such program: kubectl shows it, and exits with 1. */
function notFound(program: string): ApiError {
  return new ApiError(
    'BadRequest',
    `OCI runtime exec failed: exec failed: unable to start container process: exec: ${JSON.stringify(program)}: executable file not found in $PATH: unknown`,
  );
}

/** Writes and waits until it is on its way; a client that has left hears nothing. */
function write(target: Writable | undefined, data: string | Uint8Array): Promise<void> {
  if (target === undefined || target.destroyed || target.writableEnded || data.length === 0) return Promise.resolve();
  return new Promise((resolve) => {
    target.once('close', resolve);
    target.write(data, () => {
      target.off('close', resolve);
      resolve();
    });
  });
}

/** As a terminal shows them: byte by byte, so that a character may come in two pieces. */
function cookedBytes(bytes: Buffer): Buffer {
  return Buffer.from(cooked(bytes.toString('latin1')), 'latin1');
}

/** What a program writes to. A terminal shows both of its streams as one. What comes after its end is for nobody. */
function output(target: Writable | undefined, tty: boolean): Writable {
  const program = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      void write(target, tty ? cookedBytes(chunk) : chunk).then(() => done(), done);
    },
  });
  program.on('error', () => undefined);
  return program;
}

/** What the program reads: the client's bytes, or with a terminal the lines typed there. */
function input(
  stdin: Readable | undefined,
  tty: boolean,
  show: (text: string) => void,
  interrupted: () => void,
): Readable {
  const program = new PassThrough();
  if (stdin === undefined) {
    program.end();
    return program;
  }
  stdin.on('error', () => {
    program.end();
  });
  if (!tty) {
    stdin.pipe(program);
    return program;
  }
  const decoder = new StringDecoder('utf8');
  const terminal = new Terminal({
    show,
    line: (text) => {
      program.write(text);
    },
    end: () => {
      program.end();
    },
    interrupt: interrupted,
  });
  stdin.on('data', (keys: Buffer) => {
    if (!program.writableEnded) terminal.type(decoder.write(keys));
  });
  stdin.on('end', () => {
    program.end();
  });
  return program;
}

/** What the client still sends is read by nobody, and must not hold it up. */
function drain(stdin: Readable | undefined): void {
  stdin?.unpipe().resume();
}

/**
 * Runs a command; answers its exit code. It dies with its container (137), by Ctrl-C (130), and when its client leaves.
 */
export async function runExec({ spoken, spec, streams, clock, signal }: ExecRun): Promise<number> {
  const { script, context, log } = spoken;
  const { command, tty } = spec;
  if (script.exec === undefined) throw notFound(command[0] ?? '');
  const stop = new AbortController();
  const stopped = Promise.withResolvers<number>();
  const end = (code: number, why: string): void => {
    stopped.resolve(code);
    stop.abort(new Error(why));
  };
  const forget = log.onEnd(() => {
    end(killedCode, 'the container has ended');
  });
  const [stdout, stderr] = [output(streams.stdout, tty), output(tty ? streams.stdout : streams.stderr, tty)];
  const leave = (): void => {
    end(killedCode, 'the client went away');
    for (const stream of [stdout, stderr]) stream.destroy();
  };
  signal?.addEventListener('abort', leave, { once: true });
  const stdin = input(
    streams.stdin,
    tty,
    (text) => {
      stdout.write(text.replaceAll('\r\n', '\n'));
    },
    () => {
      end(interruptedCode, 'interrupted');
    },
  );
  try {
    const sleep = (duration: number | string): Promise<void> => clock.sleep(durationMs(duration), stop.signal);
    const answered = Promise.resolve(
      script.exec(command, { ...context, tty, stdin, stdout, stderr, signal: stop.signal, sleep }),
    );
    void awaitedLater(answered);
    const result = await Promise.race([answered, stopped.promise]);
    if (result === undefined) throw notFound(command[0] ?? '');
    if (typeof result === 'number') return result;
    if (result.stdout !== undefined) stdout.write(result.stdout);
    if (result.stderr !== undefined) stderr.write(result.stderr);
    return result.exitCode ?? 0;
  } finally {
    forget();
    signal?.removeEventListener('abort', leave);
    stdout.end();
    stderr.end();
    await Promise.allSettled([finished(stdout), finished(stderr)]);
    stdin.destroy();
    drain(streams.stdin);
  }
}

/** Shows what the container writes from now on, and gives it what is typed, until it ends or the client leaves. */
export async function runAttach(
  { script, context, log, tty, openStdin, stdinOnce }: Spoken,
  streams: Streams,
  clock: Clock,
  signal?: AbortSignal,
): Promise<void> {
  const print = (text: string): void => {
    log.print(text, 'stdout', clock.now());
  };
  const hear = (text: string): void => {
    print(script.input?.(text, { ...context, nowMs: clock.now() }) ?? '');
  };
  let heard: Readable | undefined;
  // Who detaches leaves the input open for the next one, unless it is for one only.
  let isOpen = stdinOnce;
  const close = (): void => {
    if (isOpen && !log.hasEnded) hear('');
    isOpen = false;
  };
  if (streams.stdin !== undefined && openStdin) {
    heard = input(
      streams.stdin,
      tty,
      (text) => {
        print(text.replaceAll('\r\n', '\n'));
      },
      () => undefined,
    );
    heard.setEncoding('utf8').on('data', hear);
    heard.on('end', close);
  } else drain(streams.stdin);
  const left = new AbortController();
  const leave = (): void => {
    left.abort();
  };
  signal?.addEventListener('abort', leave, { once: true });
  try {
    const { position } = log.read(logStart, clock.now());
    for await (const line of log.follow(position, clock, left.signal)) {
      const target = line.stream === 'stdout' || tty ? streams.stdout : streams.stderr;
      await write(target, tty ? cooked(printedBytes(line)) : printedBytes(line));
    }
  } finally {
    signal?.removeEventListener('abort', leave);
    if (heard !== undefined) {
      close();
      heard.destroy();
    }
    drain(streams.stdin);
  }
}
