/** The sink of a container's driver, and the forwarder that writes to it. */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import { logPathOf } from '../container-paths.ts';
import type { ContainerTable } from '../container-table.ts';
import type { Container } from '../container.ts';
import { isFluentdAsync, openFluentd } from './fluentd.ts';
import { LogForwarder } from './forwarder.ts';
import { openGelf } from './gelf.ts';
import { openJournald } from './journald.ts';
import { openPlugin } from './plugin.ts';
import type { LogInfo, LogSink } from './sink.ts';
import { openSyslog } from './syslog.ts';
import { logRefusedMsMax, logRetryMs } from '../limits.ts';

const journalSocket = '/run/systemd/journal/socket';

interface Driver {
  name: string;
  options: Record<string, string>;
}

/** What a driver knows of a container, whose name may have changed. */
export function infoOf({ context }: ContainerTable, container: Container, driver: Driver): LogInfo {
  const { id, spec, path, args, createdAtMs } = container.record;
  const image = context.images.find(spec.imageId)?.config.env ?? [];
  return {
    driver: driver.name,
    options: driver.options,
    id,
    name: container.name,
    imageId: spec.imageId,
    imageName: spec.image,
    command: [path, ...args],
    createdAtMs,
    env: [...image, ...spec.env],
    labels: spec.labels,
    hostname: context.nodeName,
  };
}

async function openSink(table: ContainerTable, container: Container, driver: Driver): Promise<LogSink> {
  const { clock, random, plugins, directories } = table.context;
  const info = infoOf(table, container, driver);
  switch (info.driver) {
    case 'syslog':
      return openSyslog(info, clock);
    case 'gelf':
      return openGelf(info, clock, random);
    case 'fluentd':
      return openFluentd(info, clock, random);
    case 'journald':
      return openJournald(info, clock, random, journalSocket);
    default:
      return openPlugin(info, { plugins, clock, random, run: directories.run });
  }
}

/**
 * Before a container's process is made: as in docker it does not start where its log has nowhere to go. Undefined where
 * the log stays here, or is still being sent by the forwarder of the last run.
 */
export async function openStartSink(table: ContainerTable, container: Container): Promise<LogSink | undefined> {
  const driver = container.record.spec.logDriver;
  if (driver === undefined || container.forwarder !== undefined) return undefined;
  if (driver.name === 'fluentd' && isFluentdAsync(driver.options)) return undefined;
  const { clock } = table.context;
  const begunMs = clock.monotonic();
  for (;;)
    try {
      return await openSink(table, container, driver);
    } catch (error) {
      const why = messageOf(error);
      // A receiver that compose started just before may not listen yet; docker's proxy would in its place.
      if (!why.endsWith('connection refused') || clock.monotonic() - begunMs > logRefusedMsMax)
        throw new ApiError('InternalError', `failed to initialize logging driver: ${why}`);
      await clock.sleep(logRetryMs);
    }
}

/** Of this run and of those after it. */
function onEachExit(container: Container, listener: () => void): () => void {
  let forget = container.onExit(heard);
  function heard(): void {
    forget = container.onExit(heard);
    listener();
  }
  return () => forget();
}

/** Sends the log of a container that runs, or has ended before all was sent. A no-op where its driver sends nothing. */
export function forwardLog(table: ContainerTable, container: Container, sink?: LogSink): void {
  const { context } = table;
  const path = logPathOf(table, container);
  const driver = container.record.spec.logDriver;
  if (driver === undefined || path === undefined || container.forwarder !== undefined) return;
  const forwarder = new LogForwarder(
    {
      source: {
        path,
        isRunning: () => !container.removed && (container.isRunning || container.record.state === 'restarting'),
        onExit: (listener) => onEachExit(container, listener),
      },
      clock: context.clock,
      log: context.log.child(`log/${container.name}`),
      open: () => openSink(table, container, driver),
      newId: () => Buffer.from(context.random.bytes(32)).toString('hex'),
      onEnd: () => {
        if (container.forwarder === forwarder) container.forwarder = undefined;
      },
    },
    sink,
  );
  container.forwarder = forwarder;
}
