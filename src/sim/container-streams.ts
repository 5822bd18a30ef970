/** What a run of a simulated container says and hears: logs, exec and attach, its ports, and what it uses. */
import type { Duplex } from 'node:stream';
import type { ContainerStats, LogLine, LogOptions } from '#engine/engine.ts';
import { lastLines, type LogPosition, logStart, printedBytes, type PrintedLine } from './container-log.ts';
import type { Spoken } from './pod-exec.ts';
import { connectTo } from './pod-ports.ts';
import { cpuNanoCoresOf } from './pod-script.ts';
import type { SimContainer } from './sim-container.ts';

/** Processor time used so far, by run. */
const used = new WeakMap<SimContainer, { nanoseconds: number; atMs: number }>();

export function spokenTo(run: SimContainer): Spoken {
  const context = run.pod.context(run.name);
  const { tty = false, stdin = false, stdinOnce = false } = run.container;
  return { script: run.pod.machine.scripts.of(context), context, log: run.log, tty, openStdin: stdin, stdinOnce };
}

function toLogLine(line: PrintedLine, skewMs: number): LogLine {
  const timestamp = new Date(line.atMs + skewMs).toISOString().replace('Z', '000000Z');
  return { stream: line.stream, timestamp, partial: line.isPartial, data: Buffer.from(printedBytes(line)) };
}

/** What a run has logged by now, of `options`; and from where what follows is read. */
export function readLog(run: SimContainer, options: LogOptions): { lines: LogLine[]; position: LogPosition } {
  const { log } = run;
  const { lines, position } = log.read(logStart, run.pod.machine.clock.now());
  const wanted = lines.filter(
    ({ stream, atMs }) =>
      options[stream] && (options.sinceNs === undefined || BigInt(atMs + log.skewMs) * 1_000_000n >= options.sinceNs),
  );
  const chosen = options.tailLines === undefined ? wanted : lastLines(wanted, options.tailLines);
  return { lines: chosen.map((line) => toLogLine(line, log.skewMs)), position };
}

export async function* followLog(run: SimContainer, options: LogOptions): AsyncGenerator<LogLine> {
  const { lines, position } = readLog(run, options);
  yield* lines;
  if (!options.follow) return;
  for await (const line of run.log.follow(position, run.pod.machine.clock, options.signal))
    if (options[line.stream]) yield toLogLine(line, run.log.skewMs);
}

export function statsOf(run: SimContainer): ContainerStats {
  const { clock, scripts } = run.pod.machine;
  const context = run.pod.context(run.name);
  const readAtMs = clock.now();
  const before = used.get(run) ?? { nanoseconds: 0, atMs: run.beganMs };
  // A counter never goes back, whatever the script says of each moment.
  before.nanoseconds += Math.round(
    (cpuNanoCoresOf(scripts.of(context), context) * Math.max(0, readAtMs - before.atMs)) / 1000,
  );
  before.atMs = readAtMs;
  used.set(run, before);
  const memory = Math.round(run.memoryBytes);
  return {
    cpuNanoseconds: before.nanoseconds,
    cpuUserNanoseconds: before.nanoseconds,
    cpuSystemNanoseconds: 0,
    cpuPeriods: 0,
    cpuThrottledPeriods: 0,
    cpuThrottledNanoseconds: 0,
    memoryUsageBytes: memory,
    memoryWorkingSetBytes: memory,
    memoryMaxUsageBytes: memory,
    memoryLimitBytes: 0,
    memoryRssBytes: memory,
    memoryCacheBytes: 0,
    memorySwapBytes: 0,
    pids: 1,
    readAtMs,
    links: [],
    blockReadBytes: 0,
    blockWriteBytes: 0,
    blockReads: 0,
    blockWrites: 0,
  };
}

/** To whatever of a Pod's running containers listens there; they share one address. */
export function listeningOn(running: readonly SimContainer[], port: number): Duplex {
  for (const run of running) {
    const context = (): ReturnType<typeof run.pod.context> => run.pod.context(run.name);
    const listening = run.pod.machine.scripts.of(context()).ports?.[port];
    if (listening === undefined) continue;
    const connection = connectTo(listening, context);
    const forget = run.log.onEnd(() => {
      connection.destroy();
    });
    connection.once('close', forget);
    return connection;
  }
  throw new Error(`dial tcp4 127.0.0.1:${port}: connect: connection refused`);
}
