/** `docker logs`: lines of a container's log, as a stream of frames or, of a terminal, of bytes. */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { whenDrained } from '#base/streams.ts';
import { readableLogPath } from '#engine/container-paths.ts';
import { isPluginLog } from '#engine/log-drivers/options.ts';
import { findLogPlugin } from '#engine/log-drivers/plugin.ts';
import { canReadLogs } from '#plugins/log-driver.ts';
import type { DockerParts } from './context.ts';
import { parseTimeNs } from './filters.ts';
import { logAttributes } from './log-attributes.ts';
import { frame } from './multiplex.ts';
import { queryFlag } from './route.ts';
import type { RouteContext } from './route.ts';
import { apiVersion } from './server.ts';

function unreadable(): ApiError {
  return new ApiError('InternalError', 'configured logging driver does not support reading', undefined, 501);
}

export async function streamLogs(parts: DockerParts, context: RouteContext): Promise<unknown> {
  const { query, response } = context;
  const { engine } = parts;
  const container = engine.table.get(context.params['id']!);
  const wanted = { stdout: queryFlag(query, 'stdout'), stderr: queryFlag(query, 'stderr') };
  if (!wanted.stdout && !wanted.stderr)
    throw new ApiError('BadRequest', 'Bad parameters: you must choose at least one stream');
  // A plugin says itself whether it can be read.
  const driver = container.record.spec.logDriver?.name ?? 'none';
  const isPlugins = isPluginLog(driver);
  const hasFile = readableLogPath(engine.table, container) !== undefined;
  if (!isPlugins && !hasFile) throw unreadable();
  // Before anything is sent: what comes later can only break off.
  if (isPlugins) {
    const plugin = await findLogPlugin(engine.plugins, driver).catch((error: unknown) => {
      throw new ApiError('InternalError', `failed to get logging factory: ${messageOf(error)}`);
    });
    if (!hasFile && !(await canReadLogs(plugin))) throw unreadable();
  }
  const now = parts.clock.now();
  const time = (name: string): bigint | undefined => {
    const value = query.get(name);
    return value === null || value === '' || value === '0' ? undefined : parseTimeNs(value, now);
  };
  const tail = query.get('tail') ?? 'all';
  const since = time('since');
  const until = time('until');
  const timestamps = queryFlag(query, 'timestamps');
  const details = queryFlag(query, 'details') ? `${logAttributes(parts, container)} ` : '';
  const tty = container.record.spec.tty;
  response.writeHead(200, {
    'Content-Type': tty ? 'application/vnd.docker.raw-stream' : 'application/vnd.docker.multiplexed-stream',
    'Api-Version': apiVersion,
    Ostype: 'linux',
  });
  response.flushHeaders();
  const lines = engine.containers.logs(container.id, {
    ...wanted,
    follow: queryFlag(query, 'follow'),
    signal: context.signal,
    ...(since === undefined ? {} : { sinceNs: since }),
    ...(until === undefined ? {} : { untilNs: until }),
    ...(/^\d{1,15}$/.test(tail) ? { tailLines: Number(tail) } : {}),
  });
  /** A piece of a line was sent last. */
  const open = { stdout: false, stderr: false };
  for await (const line of lines) {
    const head = open[line.stream] ? '' : `${timestamps ? `${line.timestamp} ` : ''}${details}`;
    open[line.stream] = line.partial;
    const data = head === '' ? Buffer.from(line.data) : Buffer.concat([Buffer.from(head), line.data]);
    const full = !response.write(tty ? data : frame(line.stream === 'stderr' ? 2 : 1, data));
    if (context.signal.aborted) return undefined;
    if (full) await whenDrained(response);
  }
  response.end();
  return undefined;
}
