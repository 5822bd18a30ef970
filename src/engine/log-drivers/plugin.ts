/**
 * The sink of a plugin's log driver: a fifo that the driver reads. One that has gone is told of the log again when it
 * is back, as any receiver is; one that does not read holds up this log alone, and not for ever.
 */
import { closeSync, mkdirSync, openSync, rmSync, write, constants } from 'node:fs';
import { ApiError } from '#base/errors.ts';
import { formatNanoseconds, parseRfc3339 } from '#base/timestamp.ts';
import { codeOf } from '#base/thrown.ts';
import type { JsonObject } from '#base/unknown.ts';
import type { Clock, Random } from '#os/clock.ts';
import { makeFifo } from '#os/files.ts';
import { pluginLogPath } from '#plugins/discovery.ts';
import { canReadLogs, encodeLogEntry, readLogEntries, type LogEntry } from '#plugins/log-driver.ts';
import type { Plugin, Plugins } from '#plugins/plugins.ts';
import type { LogLine, LogOptions } from '../engine.ts';
import { logPluginMsMax, logReaderMsMax, logRetryMs } from '../limits.ts';
import type { LogInfo, LogRecord, LogSink } from './sink.ts';

function writeTo(fd: number, data: Buffer): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  write(fd, data, (error, written) => (error === null ? resolve(written) : reject(error)));
  return promise;
}

/** As the protocol tells a driver of a container. */
function showLogInfo(info: LogInfo): JsonObject {
  const [path = '', ...args] = info.command;
  return {
    Config: info.options,
    ContainerID: info.id,
    ContainerName: `/${info.name}`,
    ContainerEntrypoint: path,
    ContainerArgs: args,
    ContainerImageID: info.imageId,
    ContainerImageName: info.imageName,
    ContainerCreated: new Date(info.createdAtMs).toISOString(),
    ContainerEnv: info.env,
    ContainerLabels: info.labels,
    LogPath: '',
    DaemonName: 'docker',
  };
}

/** Throws ApiError as for a driver that nobody registered. */
export async function findLogPlugin(plugins: Plugins, name: string): Promise<Plugin> {
  return plugins.get(name, 'LogDriver').catch((error: unknown) => {
    if (error instanceof ApiError && error.code === 404)
      throw new ApiError('BadRequest', `logger: no log driver named '${name}' is registered`);
    throw error;
  });
}

/** The log as its driver gives it back; undefined where it does not. */
export async function readPluginLog(
  info: LogInfo,
  plugins: Plugins,
  options: LogOptions,
): Promise<AsyncGenerator<LogLine> | undefined> {
  const plugin = await findLogPlugin(plugins, info.driver);
  if (!(await canReadLogs(plugin))) return undefined;
  // Go's time that is none.
  const show = (value: bigint | undefined): string =>
    value === undefined ? '0001-01-01T00:00:00Z' : formatNanoseconds(value);
  const config = {
    Since: show(options.sinceNs),
    Until: show(options.untilNs),
    Tail: options.tailLines ?? -1,
    Follow: options.follow,
  };
  const stream = plugin.stream('LogDriver.ReadLogs', { Info: showLogInfo(info), Config: config }, options.signal);
  return linesOf(readLogEntries(info.driver, stream), options);
}

async function* linesOf(entries: AsyncGenerator<LogEntry>, options: LogOptions): AsyncGenerator<LogLine> {
  for await (const { source, timeNs, line, isPartial } of entries) {
    const stream = source === 'stderr' ? 'stderr' : 'stdout';
    if (!options[stream]) continue;
    if (options.untilNs !== undefined && timeNs > options.untilNs) return;
    const data = isPartial ? line : Buffer.concat([line, Buffer.from('\n')]);
    yield { stream, timestamp: formatNanoseconds(timeNs), data, partial: isPartial };
  }
}

export async function openPlugin(
  info: LogInfo,
  { plugins, clock, random, run }: { plugins: Plugins; clock: Clock; random: Random; run: string },
): Promise<LogSink> {
  const plugin = await findLogPlugin(plugins, info.driver);
  const id = Buffer.from(random.bytes(16)).toString('hex');
  // A plugin in a container sees its own root alone.
  const seen = plugin.hostPath === undefined ? `${run}/logging/${id}` : `${pluginLogPath}/${id}`;
  const path = plugin.hostPath?.(seen) ?? seen;
  mkdirSync(path.slice(0, path.lastIndexOf('/')), { recursive: true, mode: 0o700 });
  makeFifo(path, 0o600);
  try {
    const fd = await startLogging(plugin, info, { path, seen, clock });
    return new PluginSink({ plugin, fd, path, seen, clock });
  } catch (error) {
    rmSync(path, { force: true });
    throw error;
  }
}

interface LogPlace {
  /** The fifo on the host, and as the driver sees it. */
  path: string;
  seen: string;
  clock: Clock;
}

/**
 * Resolves with what is written to when the driver reads. It may open the fifo before it answers, and would then wait
 * for a writer, or after; and who reads must not be without a writer for a moment, which would be the end.
 */
async function startLogging(plugin: Plugin, info: LogInfo, { path, seen, clock }: LogPlace): Promise<number> {
  const both = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  let fd: number;
  try {
    const request = { File: seen, Info: showLogInfo(info) };
    await plugin.call('LogDriver.StartLogging', request, { timeoutMs: logPluginMsMax });
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } finally {
    closeSync(both);
  }
  await awaitReader(path, clock);
  return fd;
}

/** Returns also where nobody reads after a while: the first write will tell, and the driver is asked again then. */
async function awaitReader(path: string, clock: Clock): Promise<void> {
  for (const begunMs = clock.monotonic(); clock.monotonic() - begunMs < logReaderMsMax; await clock.sleep(logRetryMs))
    try {
      closeSync(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK));
      return;
    } catch (error) {
      if (codeOf(error) !== 'ENXIO') throw error;
    }
}

interface PluginSinkOptions {
  plugin: Plugin;
  fd: number;
  path: string;
  seen: string;
  clock: Clock;
}

class PluginSink implements LogSink {
  readonly #options: PluginSinkOptions;

  constructor(options: PluginSinkOptions) {
    this.#options = options;
  }

  async write({ stream, timestamp, data, partial }: LogRecord): Promise<void> {
    const { fd, clock, plugin } = this.#options;
    let left = encodeLogEntry({
      source: stream,
      timeNs: parseRfc3339(timestamp) ?? 0n,
      line: data,
      isPartial: partial !== undefined && !partial.isLast,
      ...(partial === undefined ? {} : { partial }),
    });
    let movedMs = clock.monotonic();
    while (left.length > 0)
      try {
        left = left.subarray(await writeTo(fd, left));
        movedMs = clock.monotonic();
      } catch (error) {
        if (codeOf(error) !== 'EAGAIN') throw error;
        if (clock.monotonic() - movedMs > logPluginMsMax)
          throw new Error(`log plugin ${JSON.stringify(plugin.name)} does not read the log it was given`, {
            cause: error,
          });
        await clock.sleep(logRetryMs);
      }
  }

  async close(): Promise<void> {
    const { plugin, fd, path, seen } = this.#options;
    closeSync(fd);
    rmSync(path, { force: true });
    await plugin.call('LogDriver.StopLogging', { File: seen }, { timeoutMs: logPluginMsMax, isOnce: true });
  }
}
